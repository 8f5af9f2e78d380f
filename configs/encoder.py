"""An encoder of photos to codes for a StyleGAN2 generator (ReStyle, arXiv:2104.02699).

    python -m artifygan_jax.train --config=configs/encoder.py --workdir=runs/encoder
    python -m artifygan_jax.generate invert --model=ffhq256 --encoder=runs/encoder/model --input=photos ...

The pair `ffhq256`, `ffhq256_d` is what `convert --arch=stylegan2` makes of NVIDIA's or rosinality's FFHQ
files of 256 px; real pictures should be aligned as the generator's were. Paths start at
ARTIFYGAN_DATA (default: data).

Variants (--config=configs/encoder.py:NAME).

* faces256 (default): batch 8, 200,000 steps, five passes, Adam at 1e-4, as ReStyle; the net has the
  widths of the discriminator. Expected: not yet measured.
* small64: for the pair of 64 px in zoo/, two passes, batches of 8 and 8 samples, for two CPU cores.
  Expected: mean square 0.066 (0.42 at the start) of 200 held-out faces after 4,700 steps, whose rate fell
  from step 3,900 on; README, "A face, moved". The net is in zoo/.
"""

import os

from artifygan_jax.config import Experiment
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.data.streams import Stream
from artifygan_jax.methods.encoder import EncoderTraining
from artifygan_jax.metrics.evals import Samples
from artifygan_jax.metrics.latents import Reconstruction
from artifygan_jax.optim import Adam

DATA = os.environ.get("ARTIFYGAN_DATA", "data")


def faces256():
    """At the scale of the paper."""
    faces = Pictures(f"{DATA}/celeba", "train")
    held_out = Pictures(f"{DATA}/celeba", "held_out")
    return Experiment(
        method=EncoderTraining(source="ffhq256", critic="ffhq256_d", passes=5),
        data=dict(real=Stream(faces, size=256)),
        optim=dict(encoder=Adam(1e-4, b1=0.9, b2=0.99)),
        steps=200_000,
        batch_size=8,
        evals=dict(
            samples=Samples(held_out, every=2500),
            held_out=Reconstruction(held_out, every=2500),
        ),
        checkpoint_every=2500,
    )


def small64():
    """The pair in zoo/."""
    cfg = faces256()
    where = f"{DATA}/celeba64/celeba64.zip/img_align_celeba_64"
    held_out = Pictures(where, "held_out")
    pair = "stylegan2_celeba64"
    channels = (256, 192, 96, 48, 24)
    cfg.method = EncoderTraining(source=pair, critic=f"{pair}_d", channels=channels, passes=2)
    cfg.data["real"] = Stream(Pictures(where, "train"), size=64, keep=True)
    cfg.optim["encoder"] = Adam(1e-3, b1=0.9, b2=0.99, constant_steps=4000, decay_steps=2000)
    cfg.evals = dict(
        samples=Samples(held_out, every=500, count=24, size=64, pairs_per_row=4),
        held_out=Reconstruction(held_out, every=500, size=64),
    )
    cfg.steps, cfg.checkpoint_every, cfg.log_every = 6000, 500, 25
    cfg.dtype = "float32"
    return cfg


def get_config(variant="faces256"):
    """One of the variants above."""
    variants = dict(faces256=faces256, small64=small64)
    if variant not in variants:
        raise ValueError(f"variant {variant!r}; configs/encoder.py has {', '.join(variants)}")
    return variants[variant]()
