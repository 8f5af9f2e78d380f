"""The demo: a small ArtifyGAN on the faces that the package draws; no download, no GPU.

    make demo        (or: python -m artifygan_jax.demo --workdir=runs/demo)

Shrunk from configs/artifygan.py: 64 px, 16 channels, 4 residual blocks, a content loss without weights
(nets/pyramid.py), some hundred steps. It shows that everything works; it is not a model to keep.
Expected: about two minutes on two CPU cores (39 images/s); `random_vgg_frechet/distance` (Frechet
distance of pooled features of a VGG with random weights, to held-out drawn cartoons; no FID) falls by
72 to 83 % (seeds 0-2: to 10,379, 11,473, 11,571), below `/photos` (68,582),
the untouched photos' own distance.
"""

from artifygan_jax.config import Experiment
from artifygan_jax.content import Content
from artifygan_jax.data.faces import Faces
from artifygan_jax.data.streams import Smoothed, Stream
from artifygan_jax.methods.artifygan import ArtifyGAN
from artifygan_jax.metrics.evals import Distance, Samples
from artifygan_jax.nets.cartoongan import DiscriminatorOptions, GeneratorOptions
from artifygan_jax.optim import Adam
from artifygan_jax.phases import Ema

PX = 64


def get_config():
    """The one variant."""
    held_out = dict(
        photo=Faces("photo", 64, seed=101, size=PX), cartoon=Faces("cartoon", 64, seed=102, size=PX)
    )
    features = Content("random:vgg", ("relu1_2", "relu2_2"), options='{"channels": 16}')
    return Experiment(
        method=ArtifyGAN(
            generator=GeneratorOptions(channels=16, blocks=4, decoder="lean", upsampling="resize"),
            discriminator=DiscriminatorOptions(channels=8),
            content=Content("random:pyramid", ("blur2", "edges1")),
            content_weight=3.0,
            content_steps=150,
        ),
        data=dict(
            photo=Stream(Faces("photo", 400, seed=1, size=PX), size=PX, keep=True),
            cartoon=Stream(Faces("cartoon", 400, seed=2, size=PX), size=PX, keep=True),
            smooth=Smoothed("cartoon"),
        ),
        optim={"g": Adam(4e-4), "d": Adam(2e-4), "content/g": Adam(1e-3)},
        ema=dict(g=Ema(kimg=0.4)),
        steps=540,
        batch_size=8,
        evals=dict(
            samples=Samples(held_out["photo"], every=180, size=PX),
            random_vgg_frechet=Distance(
                held_out["photo"], held_out["cartoon"], features, every=180, count=64, size=PX
            ),
        ),
        checkpoint_every=180,
        log_every=20,
    )
