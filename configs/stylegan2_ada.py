"""StyleGAN2-ADA from scratch (arXiv:1912.04958, arXiv:2006.06676).

    python -m artifygan_jax.train --config=configs/stylegan2_ada.py --workdir=runs/stylegan2

Schedules are in thousands of images (kimg) in the papers; `steps` is that over the batch. R1's gamma goes
with resolution squared over batch: where you change one, try gamma times 2 and 4 and over 2 and 4, and keep
the best.

Variants (--config=configs/stylegan2_ada.py:NAME). Paths start at ARTIFYGAN_DATA (default: data).

* paper256 (default): the authors' preset of that name with ADA: batch 64, gamma 1, 8 mapping layers, 25,000
  kimg, on CelebA as `prepare celeba` makes it. Expected: not yet measured.
* paper512, paper1024, stylegan2: their presets; stylegan2 is config-F at 1024 px. Expected: not yet measured.
* auto: theirs for one GPU at 256 px: 2 mapping layers, batch 16, gamma 0.8192. Expected: not yet measured.
* small64: CelebA at 64 px (celeba64.zip), narrow nets for two CPU cores, no augmentation, since 14,000
  pictures are many for so short a run. Expected: held-out distance 2,123 (72,987 at the start) after 416
  kimg, 2 h 50 min on two cores; README, "Faces from nothing". The nets are in zoo/.
"""

import os

from artifygan_jax.ada import AdaptiveOptions, Pipe
from artifygan_jax.config import Experiment
from artifygan_jax.content import Content
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.data.streams import Stream
from artifygan_jax.methods.stylegan2_ada import StyleGAN2ADA
from artifygan_jax.metrics.latents import GeneratedDistance, GeneratedQuality, Snapshots
from artifygan_jax.nets.stylegan2 import DiscriminatorOptions, GeneratorOptions, widths
from artifygan_jax.optim import Adam
from artifygan_jax.phases import Ema

DATA = os.environ.get("ARTIFYGAN_DATA", "data")


def experiment(resolution, batch, group, base, rate, gamma, ema, rampup, mapping, kimg):
    """A row of the authors' table of presets, with ADA as they turn it on by default."""
    channels = widths(resolution, base)
    faces = Pictures(f"{DATA}/celeba", "train")
    every = 200_000 // batch  # 200 kimg
    return Experiment(
        method=StyleGAN2ADA(
            generator=GeneratorOptions(channels, mapping_layers=mapping),
            discriminator=DiscriminatorOptions(channels, group=group),
            r1_gamma=gamma,
            augment=AdaptiveOptions(Pipe.bgc()),
        ),
        data=dict(real=Stream(faces, size=resolution)),
        optim=dict(
            g=Adam(rate, b1=0.0, b2=0.99, lazy_every=4),
            d=Adam(rate, b1=0.0, b2=0.99, lazy_every=16),
        ),
        ema=dict(g=Ema(kimg=ema, rampup=rampup)),
        steps=kimg * 1000 // batch,
        batch_size=batch,
        evals=dict(
            samples=Snapshots(faces, size=resolution, every=every),
            quality=GeneratedQuality(faces, "?inception", size=resolution, every=every),
        ),
        checkpoint_every=every,
    )


def small64():
    """Narrow nets, two mapping layers, batches of 32, the rate of `auto`.

    Gamma by the authors' rule would be 0.026. With 0.05 D had won by step 50 (logits of 4 and -4) and G drew
    dots after 19 kimg.
    """
    cfg = experiment(64, 32, 4, 1024, 0.0025, 1.0, 5.0, 0.05, 2, 416)
    where = f"{DATA}/celeba64/celeba64.zip/img_align_celeba_64"
    held_out = Pictures(where, "held_out")
    channels = widths(64, 1024, 256)
    cfg.method.generator = GeneratorOptions(channels, z_size=256, w_size=256, mapping_layers=2)
    cfg.method.discriminator = DiscriminatorOptions(channels)
    cfg.method.augment = None
    cfg.data["real"].source = Pictures(where, "train")
    cfg.data["real"].keep = True
    cfg.evals = dict(
        samples=Snapshots(held_out, every=200, size=64, z_size=256),
        held_out=GeneratedDistance(
            held_out, Content("squeezenet", ("fire9",)), every=200, size=64, z_size=256
        ),
    )
    cfg.checkpoint_every = 200
    return cfg


PRESETS = dict(
    paper256=(256, 64, 8, 16384, 0.0025, 1.0, 20.0, 0.0, 8, 25000),
    paper512=(512, 64, 8, 32768, 0.0025, 0.5, 20.0, 0.0, 8, 25000),
    paper1024=(1024, 32, 4, 32768, 0.002, 2.0, 10.0, 0.0, 8, 25000),
    stylegan2=(1024, 32, 4, 32768, 0.002, 10.0, 10.0, 0.0, 8, 25000),
    auto=(256, 16, 4, 16384, 0.0025, 0.8192, 5.0, 0.05, 2, 25000),
)


def get_config(variant="paper256"):
    """One of the variants above."""
    if variant in PRESETS:
        return experiment(*PRESETS[variant])
    if variant != "small64":
        raise ValueError(
            f"variant {variant!r}; configs/stylegan2_ada.py has {', '.join((*PRESETS, 'small64'))}"
        )
    return small64()
