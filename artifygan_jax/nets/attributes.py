"""A classifier of CelebA's attributes (Liu et al., arXiv:1411.7766), shaped like a discriminator."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from artifygan_jax.nets.animegan import chosen
from artifygan_jax.nets.cartoongan import choose
from artifygan_jax.nets.encoder import Trunk
from artifygan_jax.nets.stylegan2 import Dense, widths


@dataclasses.dataclass(unsafe_hash=True)
class Options:
    """`channels[i]` belongs to the block of 4 * 2**i px; `names` of what is told, in order."""

    channels: tuple[int, ...] = widths(256, 8192, 256)
    names: tuple[str, ...] = ("Smiling",)


class Classifier(Trunk):
    """Pictures to a logit for each name; a new one has random weights."""

    def __init__(self, options: Options, *, rngs: nnx.Rngs):
        self.options = options
        super().__init__(options.channels, 3, rngs=rngs)
        self.out = Dense(options.channels[0], len(options.names), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits `[N, names]`, float32, of aligned faces `[N, S, S, 3]` in [-1, 1]."""
        return self.out(self.features(x))


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> Classifier:
    """The net called `net` (only "classifier") with `options` as in `Options`."""
    choose("net", net, ("classifier",))
    return Classifier(chosen("attributes classifier", Options, options), rngs=rngs)
