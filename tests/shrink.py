"""One function that makes any config small: it changes sizes, intervals and data, nothing else."""

import dataclasses

from artifygan_jax.data.faces import Faces
from artifygan_jax.data.pictures import Mix
from artifygan_jax.data.streams import Stream

PX = 32


def shrink(cfg, *, steps_per_phase: int = 2):
    """`cfg` at 32 px with narrow nets, drawn faces for pictures, and every phase due at least twice.

    A content net that is a bundle becomes the narrow random VGG: weights are data too.
    """
    method = cfg.method
    pool = getattr(method, "pool", 0)
    method.generator.channels = method.discriminator.channels = 4
    if hasattr(method.generator, "blocks"):
        method.generator.blocks = min(method.generator.blocks, 2)
    method.content_steps = min(steps_per_phase, method.content_steps)
    if pool:
        method.pool, method.pool_px = min(pool, 8), PX - 4
    narrow(method.content)
    for name, stream in cfg.data.items():
        if isinstance(stream, Stream):
            stream.source = faces(stream.source, "cartoon" if name == "cartoon" else "photo")
            stream.crop = PX - 4 if stream.crop or pool else 0
            stream.size = PX
        else:
            stream.source = None  # twins made as they are read
    for item in cfg.evals.values():
        item.every, item.count, item.size = 2, 4, PX
        for field in dataclasses.fields(item):
            if field.name in ("source", "photos", "cartoons"):
                domain = "cartoon" if field.name == "cartoons" else "photo"
                setattr(item, field.name, Faces(domain, 4, 5, PX))
            if field.name == "content":
                narrow(item.content)
    for adam in cfg.optim.values():
        adam.constant_steps = min(adam.constant_steps, 2)
        adam.decay_steps = min(adam.decay_steps, 8)
    cfg.batch_size, cfg.accumulate = 8, 1
    cfg.init_from = {}
    cfg.steps, cfg.checkpoint_every, cfg.log_every = 2 * steps_per_phase + 2, 2, 1
    return cfg


def narrow(content):
    """A content loss on the narrow VGG, with the layers that a 32 px picture has."""
    if content.net.startswith("random:pyramid"):
        return
    content.net, content.layers, content.resize = "random:vgg", ("conv2_2",), 0
    content.options = '{"channels": 4}'


def faces(source, domain: str):
    """Drawn faces in the place of `source`; a mix stays a mix."""
    if isinstance(source, Mix):
        parts = tuple(Faces(domain, 10 + i, 3 + i, PX) for i in range(len(source.sources)))
        return Mix(parts, source.weights)
    return Faces(domain, 12, 4 if domain == "cartoon" else 3, PX)
