"""JoJoGAN, the paper's recipe: one face picture, one style (arXiv:2112.11641).

300 updates of the whole synthesis network with Adam at 2e-3 (beta 0, 0.99), one code for each reference and
step, no average, no regularisation; 200 to 500 updates are usual (`--config.steps`). Several
references are learnt at once: give a folder.

    python -m artifygan_jax.train --config=configs/jojogan.py --workdir=runs/jojo \\
        --config.method.reference=reference.png

The pair `ffhq1024`, `ffhq1024_d` is what `convert --arch=stylegan2` makes of NVIDIA's or rosinality's
config-F FFHQ files; put the folders into the cache under these names, or give paths with
`--config.method.source` and `--config.method.critic`. A reference needs one face that is found; an
aligned square of one, such as a cartoon's, goes with `--config.method.aligned=True`.

Variants: jojo, colour, small64. `colour` mixes fewer codes, so that faces keep colours of their own.
`small64` is for the pair of 64 px in `zoo/`: its 10 codes would leave 7 to 9 of the paper's, which
changes little but colours; codes 3 to 9, from 16 px on, are mixed instead. Three of the four features
exist at 64 px.

Expected (the authors): a stylised generator within a minute at 1024 px on a GPU, below 12 GB. Measured:
not yet measured at 1024 px; `small64`: README.md, "One picture, one style".
"""

from artifygan_jax.config import Experiment
from artifygan_jax.methods.jojogan import COLOUR, JoJoGAN
from artifygan_jax.metrics.latents import Seeds
from artifygan_jax.optim import Adam


def jojo(source="ffhq1024", z_size=512):
    """Codes 7 to 17."""
    return Experiment(
        method=JoJoGAN(source=source, critic=f"{source}_d"),
        data={},
        optim=dict(g=Adam(2e-3, b1=0.0, b2=0.99, freeze=("mapping/.*",))),
        steps=300,
        batch_size=1,
        evals=dict(samples=Seeds(every=100, count=8, z_size=z_size)),
        dtype="float32",
        checkpoint_every=100,
        log_every=25,
    )


def colour():
    """The colour-preserving codes."""
    cfg = jojo()
    cfg.method.mixed = COLOUR
    return cfg


def small64():
    """The pair in zoo/."""
    cfg = jojo("stylegan2_celeba64", z_size=256)
    cfg.method.mixed = tuple(range(3, 10))
    return cfg


def get_config(variant="jojo"):
    """One of the variants above."""
    variants = dict(jojo=jojo, colour=colour, small64=small64)
    if variant not in variants:
        raise ValueError(f"variant {variant!r}; configs/jojogan.py has {', '.join(variants)}")
    return variants[variant]()
