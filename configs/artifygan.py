"""ArtifyGAN: CartoonGAN with 10 residual blocks and a lean decoder, trained from scratch.

Reproduces the slide deck's system, corrected: InstanceNorm, tanh on [-1, 1], real edge smoothing, content
as a mean (weight 21 = the deck's 1e-5 x the 2.1 million summed elements of its VGG16 maps), and Adam at
2e-4 instead of the deck's 1e-3, which with beta1 0.5 is unstable (--config.optim.g.lr=1e-3 has it).

    python -m artifygan_jax.train --config=configs/artifygan.py --workdir=runs/artifygan

Variants (--config=configs/artifygan.py:NAME). All paths start at the environment variable
ARTIFYGAN_DATA (default: data).

* deck (default): 256 px, CelebA + COCO photos, Safebooru cartoons, batch 16, 240 epochs of 225 steps.
  Needs the three datasets (`prepare celeba|coco|safebooru --source=DOWNLOADS --output=$ARTIFYGAN_DATA`)
  and VGG19 as a bundle named vgg19 (`convert --arch=vgg19`). Expected: not yet measured.
* anime_faces: the same photos with the faces of anime_faces/faces.zip, 96 px crops, content by
  SqueezeNet, half the channels: for what can be had without Safebooru and a GPU. Expected: not yet measured.
* selfie2anime: 256 px, both sides of selfie2anime.zip, content by SqueezeNet 1.1 (`convert
  --arch=squeezenet --output` a folder `squeezenet` of the cache). Expected: not yet measured.
* half: the same at 96 px with half the channels (3.3 M parameters), for two CPU cores and the zoo.
  Expected: see the README.
"""

import os

from artifygan_jax.config import Experiment
from artifygan_jax.content import Content
from artifygan_jax.data.pictures import Mix, Pictures
from artifygan_jax.data.streams import Smoothed, Stream
from artifygan_jax.methods.artifygan import ArtifyGAN
from artifygan_jax.metrics.evals import Distance, Samples
from artifygan_jax.nets.cartoongan import DiscriminatorOptions, GeneratorOptions
from artifygan_jax.optim import Adam
from artifygan_jax.phases import Ema

DATA = os.environ.get("ARTIFYGAN_DATA", "data")


def photos(split):
    """CelebA's and COCO's photos, as many of the one as of the other."""
    return Mix((Pictures(f"{DATA}/celeba", split), Pictures(f"{DATA}/coco", split)), (1.0, 1.0))


def deck():
    """The deck: 240 epochs of 225 steps of 16, the first 10 epochs content only."""
    return Experiment(
        method=ArtifyGAN(content=Content("vgg19", ("conv4_4",)), content_steps=10 * 225),
        data=dict(
            photo=Stream(photos("train"), size=256),
            cartoon=Stream(Pictures(f"{DATA}/safebooru", "train"), size=256),
            smooth=Smoothed("cartoon"),
        ),
        optim=dict(g=Adam(2e-4), d=Adam(2e-4)),
        ema=dict(g=Ema(kimg=10.0)),
        steps=240 * 225,
        batch_size=16,
        evals=dict(samples=Samples(photos("held_out"), every=2250)),
        checkpoint_every=2250,
        log_every=45,
    )


def selfie2anime():
    """1,400 selfies and 1,400 anime faces at 256 px; every eighth of each is held out."""
    cfg = deck()
    side = {
        k: f"{DATA}/selfie2anime/selfie2anime.zip/{v}"
        for k, v in (("photo", "trainA"), ("cartoon", "trainB"))
    }
    cfg.data["photo"] = Stream(Pictures(side["photo"], "train"), size=286, crop=256)
    cfg.data["cartoon"] = Stream(Pictures(side["cartoon"], "train"), size=286, crop=256)
    held_out = {k: Pictures(path, "held_out") for k, path in side.items()}
    content = Content("squeezenet", ("fire3",))
    cfg.method.content = content
    cfg.evals = dict(
        samples=Samples(held_out["photo"], every=1000),
        held_out=Distance(
            held_out["photo"], held_out["cartoon"], Content("squeezenet", ("fire9",)), every=1000
        ),
    )
    cfg.best = "held_out/distance"
    # SqueezeNet's maps are about 25 where the torchvision VGG's are about 0.5.
    cfg.method.content_weight = 0.1
    cfg.method.content_steps = 1000
    cfg.checkpoint_every = 1000
    return cfg


def half():
    """Half the channels, 96 px crops: about 20 times cheaper than selfie2anime."""
    cfg = selfie2anime()
    cfg.method.generator = GeneratorOptions(channels=32, blocks=10, decoder="lean")
    cfg.method.discriminator = DiscriminatorOptions(channels=16)
    for name in ("photo", "cartoon"):
        cfg.data[name].size, cfg.data[name].crop, cfg.data[name].keep = 108, 96, True
    cfg.evals["samples"].size = cfg.evals["held_out"].size = 128
    cfg.evals["samples"].every = cfg.evals["held_out"].every = cfg.checkpoint_every = 500
    cfg.batch_size = 4
    cfg.steps = 6000
    cfg.method.content_steps = 500
    cfg.ema = dict(g=Ema(kimg=2.0))
    cfg.optim["content/g"] = Adam(1e-3)  # a short start is all there is time for on a CPU
    return cfg


def anime_faces():
    """`half` on the deck's photos and 96 px anime faces."""
    cfg = half()
    cartoons = {k: Pictures(f"{DATA}/anime_faces/faces.zip", k) for k in ("train", "held_out")}
    cfg.data["photo"].source = photos("train")
    cfg.data["cartoon"].source = cartoons["train"]
    cfg.evals["samples"].source = photos("held_out")
    cfg.evals["held_out"].photos = photos("held_out")
    cfg.evals["held_out"].cartoons = cartoons["held_out"]
    return cfg


def get_config(variant="deck"):
    """One of the variants above."""
    variants = dict(deck=deck, selfie2anime=selfie2anime, half=half, anime_faces=anime_faces)
    if variant not in variants:
        raise ValueError(f"variant {variant!r}; configs/artifygan.py has {', '.join(variants)}")
    return variants[variant]()
