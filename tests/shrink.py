"""One function that makes any config small: it changes sizes, intervals and data, nothing else."""

import dataclasses
import pathlib
import tempfile

import numpy as np
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.data.faces import Faces
from artifygan_jax.data.pictures import Mix
from artifygan_jax.data.saving import save_picture
from artifygan_jax.data.streams import Marks, Stream
from artifygan_jax.methods.attributes import AttributeTraining
from artifygan_jax.methods.cartoon_stylegan import CartoonStyleGAN
from artifygan_jax.methods.encoder import EncoderTraining
from artifygan_jax.methods.jojogan import JoJoGAN
from artifygan_jax.methods.stylegan2_ada import StyleGAN2ADA
from artifygan_jax.nets import stylegan2

PX = 32
LATENT_PX = 16  # of generators from latents, whose sides are powers of 2


def shrink(cfg, *, steps_per_phase: int = 2):
    """`cfg` at 32 px with narrow nets, drawn faces for pictures, and every phase due at least twice.

    A content net that is a bundle becomes the narrow random VGG: weights are data too.
    """
    method = cfg.method
    pool = getattr(method, "pool", 0)
    latent = isinstance(method, StyleGAN2ADA | JoJoGAN | EncoderTraining)
    if isinstance(method, JoJoGAN):
        shrink_jojogan(method)
    elif isinstance(method, EncoderTraining):
        random_pair(method)
        method.channels, method.passes = (8, 8, 4), 2
    elif latent:
        shrink_stylegan2(cfg)
    elif isinstance(method, AttributeTraining):
        method.channels = (8, 8, 8, 4)
    else:
        method.generator.channels = method.discriminator.channels = 4
        if hasattr(method.generator, "blocks"):
            method.generator.blocks = min(method.generator.blocks, 2)
        method.content_steps = min(steps_per_phase, method.content_steps)
        narrow(method.content)
    if pool:
        method.pool, method.pool_px = min(pool, 8), PX - 4
    for name, stream in cfg.data.items():
        if isinstance(stream, Marks):
            continue
        if isinstance(stream, Stream):
            stream.source = faces(stream.source, "cartoon" if name == "cartoon" else "photo")
            stream.crop = PX - 4 if stream.crop or pool else 0
            stream.size = LATENT_PX if latent else PX
        else:
            stream.source = None  # twins made as they are read
    for item in cfg.evals.values():
        item.every, item.count, item.size = 2, 4, PX
        if latent:
            item.size, item.z_size = LATENT_PX, 8
        if hasattr(item, "inception"):
            item.inception = "?none here"  # whatever the cache has
        for field in dataclasses.fields(item):
            if field.name in ("source", "photos", "cartoons", "real"):
                domain = "cartoon" if field.name == "cartoons" else "photo"
                setattr(item, field.name, Marked(domain, 4, 5, PX))
            if field.name == "content":
                narrow(item.content)
    for adam in cfg.optim.values():
        adam.constant_steps = min(adam.constant_steps, 2)
        adam.decay_steps = min(adam.decay_steps, 8)
    cfg.batch_size, cfg.accumulate = 8, 1
    cfg.init_from = {}
    cfg.steps, cfg.checkpoint_every, cfg.log_every = 2 * steps_per_phase + 2, 2, 1
    return cfg


def shrink_stylegan2(cfg):
    """Nets of 16 px, lazy phases every other step, augmentation from a p of 0.5, a random source."""
    method = cfg.method
    method.generator.channels = method.discriminator.channels = (8, 8, 4)
    method.generator.z_size = method.generator.w_size = 8
    method.generator.mapping_layers = min(method.generator.mapping_layers, 2)
    method.r1_every = method.path_every = method.adapt_every = 2
    if method.augment is not None:
        method.augment.initial = 0.5
    for adam in cfg.optim.values():
        adam.freeze_until = min(adam.freeze_until, 2)
    if isinstance(method, CartoonStyleGAN):
        method.structure_layers = min(method.structure_layers, 2)
        net = stylegan2.Generator(method.generator, rngs=nnx.Rngs(1))
        method.source = tempfile.mkdtemp(prefix="source")
        bundle.save(method.source, net)


def random_pair(method) -> pathlib.Path:
    """A generator of 16 px and its discriminator as the method's source and critic; their folder."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pair"))
    channels = (8, 8, 4)
    options = stylegan2.GeneratorOptions(channels, z_size=8, w_size=8, mapping_layers=2)
    bundle.save(folder / "g", stylegan2.Generator(options, rngs=nnx.Rngs(1)))
    critic = stylegan2.DiscriminatorOptions(channels)
    bundle.save(folder / "d", stylegan2.Discriminator(critic, rngs=nnx.Rngs(2)))
    method.source, method.critic = str(folder / "g"), str(folder / "d")
    return folder


def shrink_jojogan(method):
    """A random pair, and a drawn face whose code is known."""
    folder = random_pair(method)
    save_picture(folder / "face.png", Faces("cartoon", 1, 4, PX)[0], model="test")
    method.reference, method.aligned = str(folder / "face.png"), True
    method.latents = str(folder / "face.npz")
    np.savez(method.latents, ws=np.random.RandomState(0).randn(1, 6, 8).astype(np.float32))


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
    return Marked(domain, 12, 4 if domain == "cartoon" else 3, PX)


class Marked(Faces):
    """Drawn faces with labels: whether the last bits of index and label differ."""

    def marked(self, names):
        """Bool `[pictures, names]`."""
        return (np.arange(len(self))[:, None] + np.arange(len(names))) % 2 == 1
