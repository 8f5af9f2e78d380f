"""The slide deck's AnimeGAN: fine-tuned from given weights, both nets frozen until layer 5.

The deck's table: G at 2e-5, D at 4e-5, 40 epochs, batch 26, Adam, generator and discriminator frozen until
layer 5, 6,000 photos : 2,000 style pictures (sizes of the sets; a step takes as many of each). The losses
are those of the PyTorch port that it forked (adversarial 10, content 1.5, style 3, colour 30, smooth 0.2).

    python -m artifygan_jax.train --config=configs/animegan_finetune.py --workdir=runs/finetune

"Layer n" counts the entries of the net's `layer_names`. Until 5: of the v1 port G the first six blocks of the
encoder (427,584 parameters), of AnimeGANv2's its encoder (282,016), of D three convolutions (93,024).
Differs: the deck's program counted the children of the generator, of which there are three, so
that 5 froze all of it: its G never changed. Where D's weights were missing, it froze nothing; here D then
starts fresh and unfrozen, G stays frozen as asked, and the log says so.

Variants (--config=configs/animegan_finetune.py:NAME). Paths start at ARTIFYGAN_DATA (default: data).

* v1 (default): the port's generator, bundles named animegan1 and (may be missing) animegan1_d; CelebA and
  Safebooru as `prepare` makes them, VGG19 as a bundle named vgg19. Expected: not yet measured.
* v2: the same from AnimeGANv2's generator, a bundle named animegan2. Expected: not yet measured.
* selfie2anime: v2 on both sides of selfie2anime.zip, content by SqueezeNet. Expected: not yet measured.
"""

import os

from artifygan_jax.config import Experiment
from artifygan_jax.content import Content
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.data.streams import Smoothed, Stream
from artifygan_jax.methods.animegan import AnimeGAN
from artifygan_jax.metrics.evals import Samples
from artifygan_jax.nets import animegan, animegan2
from artifygan_jax.optim import Adam

DATA = os.environ.get("ARTIFYGAN_DATA", "data")
EPOCH = 231  # 6,000 photos in batches of 26


def v1():
    """The deck's table on the port's networks."""
    photos = Pictures(f"{DATA}/celeba", "train", count=6000)
    return Experiment(
        method=AnimeGAN(
            generator=animegan.GeneratorOptions(variant="port", upsampling="half"),
            discriminator=animegan.DiscriminatorOptions(norm="plain"),
            content=Content("vgg19", ("conv4_4",), options='{"preprocess": "imagenet"}'),
            adversarial_weight=10.0,
            smooth_weight=0.2,
            content_weight=1.5,
            style_weight=3.0,
            colour_weight=30.0,
            content_steps=0,
        ),
        data=dict(
            photo=Stream(photos, size=256),
            cartoon=Stream(Pictures(f"{DATA}/safebooru", "train", count=2000), size=256),
            smooth=Smoothed("cartoon"),
        ),
        optim=dict(g=Adam(2e-5, freeze_until=5), d=Adam(4e-5, freeze_until=5)),
        init_from=dict(g="animegan1", d="?animegan1_d"),
        steps=40 * EPOCH,
        batch_size=26,
        evals=dict(samples=Samples(Pictures(f"{DATA}/celeba", "held_out"), every=EPOCH)),
        checkpoint_every=EPOCH,
        log_every=21,
    )


def v2():
    """From AnimeGANv2's PyTorch weights, with its discriminator."""
    cfg = v1()
    cfg.method.generator = animegan2.GeneratorOptions(upsampling="corners")
    cfg.method.discriminator = animegan.DiscriminatorOptions(norm="layer")
    cfg.init_from = dict(g="animegan2", d="?animegan2_d")
    return cfg


def selfie2anime():
    """Selfies and anime faces; weights as in configs/animegan2.py."""
    cfg = v2()
    side = {
        k: f"{DATA}/selfie2anime/selfie2anime.zip/{v}"
        for k, v in (("photo", "trainA"), ("cartoon", "trainB"))
    }
    for name, path in side.items():
        cfg.data[name].source = Pictures(path, "train")
    cfg.evals["samples"].source = Pictures(side["photo"], "held_out")
    cfg.method.content = Content("squeezenet", ("fire3",))
    cfg.method.adversarial_weight = 300.0
    cfg.method.content_weight, cfg.method.style_weight = 15.0, 10.0
    cfg.method.colour_weight = 3000.0
    return cfg


def get_config(variant="v1"):
    """One of the variants above."""
    variants = dict(v1=v1, v2=v2, selfie2anime=selfie2anime)
    if variant not in variants:
        raise ValueError(
            f"variant {variant!r}; configs/animegan_finetune.py has {', '.join(variants)}"
        )
    return variants[variant]()
