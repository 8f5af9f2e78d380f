"""A content network without weights: blurred copies of the picture and the edges of its luma."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax.errors import UserError
from artifygan_jax.nets import _taps as taps

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@dataclasses.dataclass(unsafe_hash=True)
class Options:
    """There is nothing to choose."""


class Pyramid(nnx.Module):
    """Layers `blur1` ... `blur16`: the picture averaged over cells of that side `[B, H/k, W/k, 3]`.

    `edges1` ... `edges16`: the horizontal and vertical differences of the luma of those, times 4,
    signed `[B, H/k - 1, W/k - 1, 2]`. Nothing here was learnt from pictures.
    """

    layers = tuple(f"{kind}{k}" for k in (1, 2, 4, 8, 16) for kind in ("blur", "edges"))

    def __init__(self, options: Options, *, rngs: nnx.Rngs):
        del rngs  # no weights
        self.options = options

    def __call__(self, images: jax.Array, layers: tuple[str, ...]) -> dict[str, jax.Array]:
        """Images `[B, H, W, 3]` in [-1, 1] -> the layers asked; unknown ones are a `UserError`."""
        taps.upto(self.layers, layers)
        return {name: _layer(images, name) for name in layers}


def _layer(x: jax.Array, name: str) -> jax.Array:
    kind = "blur" if name.startswith("blur") else "edges"
    k = int(name.removeprefix(kind))
    b, h, w, c = x.shape
    least = k if kind == "blur" else 2 * k
    if min(h, w) < least:
        raise UserError(f"{name} needs pictures of at least {least} px a side, these are {h}x{w}")
    x = x[:, : h // k * k, : w // k * k].reshape(b, h // k, k, w // k, k, c).mean((2, 4))
    if kind == "blur":
        return x
    luma = (x * jnp.asarray(LUMA, x.dtype).reshape(1, 1, 1, 3)).sum(-1)
    down, across = luma[:, 1:] - luma[:, :-1], luma[:, :, 1:] - luma[:, :, :-1]
    return 4 * jnp.stack([down[:, :, :-1], across[:, :-1]], -1)


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> Pyramid:
    """The net called `net` (only "pyramid"); it has no options."""
    taps.check_choice("net", net, ("pyramid",))
    return Pyramid(taps.parse(Options, options), rngs=rngs)
