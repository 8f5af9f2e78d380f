"""AnimeGAN (Chen, Liu, Chen, ISICA 2019) from scratch, with the settings of its TensorFlow code.

LSGAN with a spectral-norm discriminator (instance norm), Adam at 8e-5 and 1.6e-4, batch 6, 101 epochs of
1,109 steps of which 5 are content only at 1e-4; VGG19 conv4_4 before its ReLU, at 256 px without
augmentation; grey anime and 0.1 x smoothed grey anime as fakes.

    python -m artifygan_jax.train --config=configs/animegan.py --workdir=runs/animegan

Variants (--config=configs/animegan.py:NAME): hayao (default, as the paper), shinkai (content 1.1).
Paths start at ARTIFYGAN_DATA (default: data): photos/ and cartoons/; needs VGG19 as a bundle named vgg19.
Expected: not yet measured.
"""

import os

from artifygan_jax.config import Experiment
from artifygan_jax.content import Content
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.data.streams import Smoothed, Stream
from artifygan_jax.methods.animegan import AnimeGAN
from artifygan_jax.metrics.evals import Samples
from artifygan_jax.nets.animegan import DiscriminatorOptions, GeneratorOptions
from artifygan_jax.optim import Adam

DATA = os.environ.get("ARTIFYGAN_DATA", "data")
EPOCH = 1109  # 6,656 photos in batches of 6
CONTENT = dict(hayao=1.5, shinkai=1.1)


def get_config(variant="hayao"):
    """One of the variants above."""
    if variant not in CONTENT:
        raise ValueError(f"variant {variant!r}; configs/animegan.py has {', '.join(CONTENT)}")
    photos = Pictures(f"{DATA}/photos")
    return Experiment(
        method=AnimeGAN(
            generator=GeneratorOptions(variant="original", upsampling="legacy"),
            discriminator=DiscriminatorOptions(norm="instance"),
            content=Content("vgg19", ("conv4_4",)),
            content_weight=CONTENT[variant],
            content_steps=5 * EPOCH,
        ),
        data=dict(
            photo=Stream(photos, size=256, flip=False),
            cartoon=Stream(Pictures(f"{DATA}/cartoons"), size=256, flip=False),
            smooth=Smoothed("cartoon"),
        ),
        optim={"content/g": Adam(1e-4), "g": Adam(8e-5), "d": Adam(1.6e-4)},
        steps=101 * EPOCH,
        batch_size=6,
        evals=dict(samples=Samples(photos, every=EPOCH)),
        checkpoint_every=EPOCH,
    )
