"""The slide deck's JoJoGAN: one picture, 50 epochs, an adversary that learns, layers added to both nets.

The deck's table: G 2e-4, D 3e-4, 50 epochs, one image at a time, three added layers in G and in D,
channel size 512, discriminator channels decreased for time and memory. The authors' program trains no D
and adds no layer, so this is our reading of it:

- a second D learns beside the frozen, full one that gives the features; beyond 32 px it has half of
  the channels (512 up to there), and R1 with gamma 10 holds it;
- three residual layers of 512 channels in G at 32 px, and in D at 16, 8 and 4 px, each with a gain
  that starts at 0, so that the first step is the pretrained generator's;
- an epoch is 8 codes of the one reference: 400 steps;
- the loss is the features' plus 0.1 times the adversary's.

    python -m artifygan_jax.train --config=configs/jojogan_deck.py --workdir=runs/jojo_deck \\
        --config.method.reference=reference.png

Variants: deck, small64. Where bundles come from, and what `small64` is: see configs/jojogan.py.

Expected: not yet measured at 1024 px; `small64`: README.md, "One picture, one style".
"""

from artifygan_jax.config import Experiment
from artifygan_jax.methods.jojogan import JoJoGANDeck
from artifygan_jax.metrics.latents import Seeds
from artifygan_jax.optim import Adam

EPOCHS, CODES = 50, 8


def deck(source="ffhq1024", z_size=512):
    """The deck's table."""
    return Experiment(
        method=JoJoGANDeck(source=source, critic=f"{source}_d"),
        data={},
        optim=dict(
            g=Adam(2e-4, b1=0.0, b2=0.99, freeze=("mapping/.*",)),
            d=Adam(3e-4, b1=0.0, b2=0.99),
        ),
        steps=EPOCHS * CODES,
        batch_size=1,
        evals=dict(samples=Seeds(every=100, count=8, z_size=z_size)),
        dtype="float32",
        checkpoint_every=100,
        log_every=25,
    )


def small64():
    """The pair of 64 px in zoo/, with the codes of configs/jojogan.py:small64."""
    cfg = deck("stylegan2_celeba64", z_size=256)
    cfg.method.mixed = tuple(range(3, 10))
    return cfg


def get_config(variant="deck"):
    """One of the variants above."""
    variants = dict(deck=deck, small64=small64)
    if variant not in variants:
        raise ValueError(f"variant {variant!r}; configs/jojogan_deck.py has {', '.join(variants)}")
    return variants[variant]()
