"""A classifier of CelebA's 40 attributes, for `generate edit --attribute` and its measures.

    python -m artifygan_jax.train --config=configs/attributes.py --workdir=runs/attributes

Paths start at ARTIFYGAN_DATA (default: data). Published nets of CelebA's size tell 90 to 91 % of the
attributes of its test set rightly; naming the commoner always is right in 80 %.

Variants (--config=configs/attributes.py:NAME).

* celeba256 (default): CelebA as `prepare celeba` makes it, with its labels. Expected: not yet measured.
* small64: CelebA at 64 px (celeba64.zip) with CelebA's own table of labels, for two CPU cores. Expected:
  88.3 % right, balanced 0.686, on 1,000 held-out faces; 15 min. The net is in zoo/.
"""

import os

from artifygan_jax.config import Experiment
from artifygan_jax.data.celeba.contents import ATTRIBUTES
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.data.streams import Marks, Stream
from artifygan_jax.methods.attributes import AttributeTraining
from artifygan_jax.metrics.attributes import Accuracy
from artifygan_jax.nets.stylegan2 import widths
from artifygan_jax.optim import Adam

DATA = os.environ.get("ARTIFYGAN_DATA", "data")


def celeba256():
    """Five times all pictures."""
    faces, held_out = (Pictures(f"{DATA}/celeba", split) for split in ("train", "held_out"))
    return Experiment(
        method=AttributeTraining(),
        data=dict(real=Stream(faces, size=256), labels=Marks("real", ATTRIBUTES)),
        optim=dict(
            classifier=Adam(1e-3, b1=0.9, b2=0.999, constant_steps=9_000, decay_steps=5_000)
        ),
        steps=14_000,
        batch_size=64,
        evals=dict(held_out=Accuracy(held_out, ATTRIBUTES, every=1000)),
        checkpoint_every=1000,
    )


def small64():
    """Eight times 14,000 pictures. At a rate of 2e-3 2,000 steps were not enough (85.8 %, balanced 0.61)."""
    cfg = celeba256()
    where = f"{DATA}/celeba64/celeba64.zip/img_align_celeba_64"
    table = f"{DATA}/celeba/Anno.zip/Anno/list_attr_celeba.txt"
    faces, held_out = (Pictures(where, s, labels=table) for s in ("train", "held_out"))
    cfg.method.channels = widths(64, 1024, 128)
    cfg.data["real"] = Stream(faces, size=64, keep=True)
    cfg.optim["classifier"] = Adam(1e-2, b1=0.9, b2=0.99, constant_steps=900, decay_steps=900)
    cfg.evals = dict(held_out=Accuracy(held_out, ATTRIBUTES, every=150, size=64))
    cfg.steps, cfg.checkpoint_every, cfg.log_every = 1800, 150, 25
    cfg.dtype = "float32"
    return cfg


def get_config(variant="celeba256"):
    """One of the variants above."""
    variants = dict(celeba256=celeba256, small64=small64)
    if variant not in variants:
        raise ValueError(f"variant {variant!r}; configs/attributes.py has {', '.join(variants)}")
    return variants[variant]()
