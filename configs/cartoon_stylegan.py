"""The slide deck's Cartoon StyleGAN2: StyleGAN2-ADA fine-tuned from a face generator on cartoon faces.

The deck's table: 4 layers frozen, Adam at 0.002, gamma 50, style mixing, 1,200 kimg, pictures aligned and
upsized, 32-bit ones made 24-bit. Gamma 50 is R1's at 1024 px and batches of 4 (the authors' rule, 2e-4 times
resolution^2 over batch, gives 52); the probability of style mixing stays 0.9. Augmentation moves faster than
from scratch (over 100 kimg), averages have no ramp: both as the authors resume.

    python -m artifygan_jax.train --config=configs/cartoon_stylegan.py --workdir=runs/cartoon

G and D start from bundles `ffhq1024` and `ffhq1024_d`, which `convert --arch=stylegan2` makes of NVIDIA's or
rosinality's files. The log says how many parameters are trained.

Layers of D to freeze (FreezeD, arXiv:2002.10964) are counted in two ways:
* NVIDIA (`freeze_until`, here): from RGB is the first, then conv0, conv1 and skip of each block. 4 is the
  whole block of full resolution, 10 three blocks, 13 four.
* FreezeD and Cartoon-StyleGAN count what still moves, from the output: n blocks and the end of D. Of D at
  256 px with its 6 blocks, their 3 is NVIDIA's 10: 1 + 3 (blocks - n).
FreezeG (`freezeG` n in Cartoon-StyleGAN) trains the last n blocks of G; mapping and the rest are frozen, and
path lengths are left out.

Variants (--config=configs/cartoon_stylegan.py:NAME). Paths start at ARTIFYGAN_DATA (default: data).

* deck (default): cartoon_faces/ as `prepare align` writes them. Expected: not yet measured.
* freezeg: at 256 px, G's last 4 blocks and D's last 3. Expected: not yet measured.
* freezesg: at 256 px, the first 4 styles from the source, G's and D's last 4 blocks. Expected: not yet
  measured.
* structure: at 256 px, structure loss at 8, 16 and 32 px. Expected: not yet measured.
  These three: batches of 8 as the paper's, gamma by resolution^2 over batch: 1.56; bundles ffhq256 and
  ffhq256_d.
* small64: from the faces of configs/stylegan2_ada.py:small64 to anime faces (anime_faces/faces.zip), with the
  deck's freezing, gamma 1 as in that run (0.0244 by the rule is too little for nets so narrow). Expected:
  held-out distance 6,711 (35,603 at the start) after 64 kimg, 31 minutes on two cores; README, "Faces from
  nothing".
"""

import os

from artifygan_jax.ada import AdaptiveOptions, Pipe
from artifygan_jax.config import Experiment
from artifygan_jax.content import Content
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.data.streams import Stream
from artifygan_jax.methods.cartoon_stylegan import CartoonStyleGAN
from artifygan_jax.metrics.latents import GeneratedDistance, GeneratedQuality, Snapshots
from artifygan_jax.nets.stylegan2 import DiscriminatorOptions, GeneratorOptions, widths
from artifygan_jax.optim import Adam
from artifygan_jax.phases import Ema

DATA = os.environ.get("ARTIFYGAN_DATA", "data")


def gamma(resolution, batch):
    """The deck's 50 of 1024 px and batches of 4, at another size."""
    return 50.0 * (resolution**2 / batch) / (1024**2 / 4)


def freeze_g(resolution, blocks):
    """`freeze_until` of G such that its last `blocks` are trained: mapping, b4, b8, ... come first."""
    return 1 + len(widths(resolution)) - blocks


def freeze_d(resolution, blocks):
    """`freeze_until` of D, NVIDIA's count, such that its last `blocks` and its end are trained."""
    return 1 + 3 * (len(widths(resolution)) - 1 - blocks)


def deck(resolution=1024, batch=4, kimg=1200, source="ffhq1024"):
    """The deck's table."""
    channels = widths(resolution, 32768)
    cartoons = Pictures(f"{DATA}/cartoon_faces", "train")
    every = 20_000 // batch
    return Experiment(
        method=CartoonStyleGAN(
            generator=GeneratorOptions(channels),
            discriminator=DiscriminatorOptions(channels),
            r1_gamma=gamma(resolution, batch),
            augment=AdaptiveOptions(Pipe.bgc(), kimg=100.0),
            source=source,
        ),
        data=dict(real=Stream(cartoons, size=resolution)),
        optim=dict(
            g=Adam(0.002, b1=0.0, b2=0.99, lazy_every=4),
            d=Adam(0.002, b1=0.0, b2=0.99, lazy_every=16, freeze_until=4),
        ),
        init_from=dict(g=source, d=f"{source}_d"),
        ema=dict(g=Ema(kimg=batch * 10 / 32, rampup=0.0)),
        steps=kimg * 1000 // batch,
        batch_size=batch,
        evals=dict(
            samples=Snapshots(cartoons, size=resolution, every=every),
            quality=GeneratedQuality(cartoons, "?inception", size=resolution, every=every),
        ),
        checkpoint_every=every,
    )


def freezeg():
    """The last 4 blocks of G, the last 3 of D: the readme of Cartoon-StyleGAN."""
    cfg = deck(256, 8, source="ffhq256")
    cfg.optim["g"].freeze_until, cfg.optim["g"].lazy_every = freeze_g(256, 4), 0
    cfg.optim["d"].freeze_until = freeze_d(256, 3)
    cfg.method.path_weight = 0.0
    return cfg


def freezesg():
    """What the author names for the paper's figures: freezeStyle, freezeG and freezeD of 4."""
    cfg = freezeg()
    cfg.optim["d"].freeze_until = freeze_d(256, 4)
    cfg.method.source_styles = 4
    return cfg


def structure():
    """Three layers, weight 1."""
    cfg = deck(256, 8, source="ffhq256")
    cfg.method.structure_weight = 1.0
    return cfg


def small64():
    """5,000 anime faces, every eighth of them held out; nets and latents of the faces' run."""
    cfg = deck(64, 32, 64, source="stylegan2_celeba64")
    channels = widths(64, 1024, 256)
    cfg.method.generator = GeneratorOptions(channels, z_size=256, w_size=256, mapping_layers=2)
    cfg.method.discriminator = DiscriminatorOptions(channels)
    cfg.method.r1_gamma = 1.0
    where = f"{DATA}/anime_faces/faces.zip/faces"
    held_out = Pictures(where, "held_out")
    cfg.data["real"] = Stream(Pictures(where, "train"), size=64, keep=True)
    cfg.ema = dict(g=Ema(kimg=2.0, rampup=0.0))
    cfg.evals = dict(
        samples=Snapshots(held_out, every=200, size=64, z_size=256),
        held_out=GeneratedDistance(
            held_out, Content("squeezenet", ("fire9",)), every=200, size=64, z_size=256
        ),
    )
    cfg.checkpoint_every = 200
    return cfg


def get_config(variant="deck"):
    """One of the variants above."""
    variants = dict(
        deck=deck, freezeg=freezeg, freezesg=freezesg, structure=structure, small64=small64
    )
    if variant not in variants:
        raise ValueError(
            f"variant {variant!r}; configs/cartoon_stylegan.py has {', '.join(variants)}"
        )
    return variants[variant]()
