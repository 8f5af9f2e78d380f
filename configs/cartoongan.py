"""CartoonGAN (Chen, Lai, Liu, CVPR 2018), with the settings of the first author's released code.

8 residual blocks, InstanceNorm, reflect padding in 7x7 and residual layers, LSGAN with a pool of 50
pictures, VGG19 conv4_4 at 224 px (mean L1 x 10), batch 8 at 256 px. Content alone for 10 epochs at 2e-4
and 10 more falling to 0; then 100 epochs at 1e-5 and 100 falling to 0. An epoch is 675 steps (the paper's
5,402 photos).

    python -m artifygan_jax.train --config=configs/cartoongan.py --workdir=runs/cartoongan

Paths start at ARTIFYGAN_DATA (default: data); needs VGG19 as a bundle named vgg19.
Expected: not yet measured.
"""

import os

from artifygan_jax.config import Experiment
from artifygan_jax.content import Content
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.data.streams import Smoothed, Stream
from artifygan_jax.methods.artifygan import ArtifyGAN
from artifygan_jax.metrics.evals import Samples
from artifygan_jax.nets.cartoongan import GeneratorOptions
from artifygan_jax.optim import Adam

DATA = os.environ.get("ARTIFYGAN_DATA", "data")
EPOCH = 675


def get_config():
    """The one variant."""
    main = Adam(1e-5, constant_steps=100 * EPOCH, decay_steps=100 * EPOCH)
    photos = Pictures(f"{DATA}/photos")
    return Experiment(
        method=ArtifyGAN(
            generator=GeneratorOptions(blocks=8, decoder="full"),
            content=Content("vgg19", ("conv4_4",), resize=224),
            adversarial="lsgan",
            content_weight=10.0,
            content_steps=20 * EPOCH,
            pool=50,
            pool_px=256,
        ),
        data=dict(
            photo=Stream(photos, size=286, crop=256),
            cartoon=Stream(Pictures(f"{DATA}/cartoons"), size=286, crop=256),
            smooth=Smoothed("cartoon"),
        ),
        optim={
            "content/g": Adam(2e-4, constant_steps=10 * EPOCH, decay_steps=10 * EPOCH),
            "g": main,
            "d": main,
        },
        steps=220 * EPOCH,
        batch_size=8,
        evals=dict(samples=Samples(photos, every=EPOCH)),
        checkpoint_every=EPOCH,
    )
