"""ArtifyGAN as its authors' notebook ran it, with the deck's numbers: for comparison, not for use.

BatchNorm, zero padding, sigmoid on [0, 1], full decoder, a leak of 0.01 where no norm precedes, D trained
from the first step; content is the sum of L1 over VGG16 pool4 of un-normalised pictures, x 1e-5; Adam at
1e-3 for both nets, batch 16, 240 epochs of 225 steps of which 10 are content only.

    python -m artifygan_jax.train --config=configs/artifygan_asrun.py --workdir=runs/asrun

Paths start at ARTIFYGAN_DATA (default: data); needs VGG16 as a bundle named vgg16
(`convert --arch=vgg16`), the three datasets (`prepare celeba|coco|safebooru --source=DOWNLOADS
--output=$ARTIFYGAN_DATA`), and the notebook's "smoothed" cartoons, which are blurred maps of edges:

    python -m artifygan_jax.prepare smooth --variant=deck --source=$ARTIFYGAN_DATA/safebooru \
        --output=$ARTIFYGAN_DATA/safebooru_edges

Differs: its inference fed 0..255 to a net in training mode, which with one picture is instance norm; here
BatchNorm uses its running statistics. Expected: not yet measured.
"""

import os

from artifygan_jax.config import Experiment
from artifygan_jax.content import Content
from artifygan_jax.data.pictures import Mix, Pictures
from artifygan_jax.data.streams import Smoothed, Stream
from artifygan_jax.methods.artifygan import ArtifyGAN
from artifygan_jax.metrics.evals import Samples
from artifygan_jax.nets.cartoongan import DiscriminatorOptions, GeneratorOptions
from artifygan_jax.optim import Adam

DATA = os.environ.get("ARTIFYGAN_DATA", "data")
EPOCH = 225


def get_config():
    """The one variant."""
    photos = Mix((Pictures(f"{DATA}/celeba"), Pictures(f"{DATA}/coco")), weights=(1.0, 1.0))
    return Experiment(
        method=ArtifyGAN(
            generator=GeneratorOptions(
                blocks=10, decoder="full", norm="batch", padding="zero", output="sigmoid"
            ),
            discriminator=DiscriminatorOptions(norm="batch", plain_slope=0.01),
            content=Content("vgg16", ("pool4",), options='{"preprocess": "none"}', reduction="sum"),
            content_weight=1e-5,
            content_steps=10 * EPOCH,
            d_from_start=True,
        ),
        data=dict(
            photo=Stream(photos, size=256, flip=False),
            cartoon=Stream(Pictures(f"{DATA}/safebooru"), size=256, flip=False),
            smooth=Smoothed("cartoon", Pictures(f"{DATA}/safebooru_edges")),
        ),
        optim=dict(g=Adam(1e-3), d=Adam(1e-3)),
        steps=240 * EPOCH,
        batch_size=16,
        evals=dict(samples=Samples(photos, every=10 * EPOCH)),
        checkpoint_every=10 * EPOCH,
        log_every=45,
    )
