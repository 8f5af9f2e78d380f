"""Pictures to codes by an encoder: ours, pSp's, e4e's or ReStyle's."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.latent.render import Renderer
from artifygan_jax.nets import encoder, ops, psp

PASSES = {3: 1, 6: 5}  # by channels seen: ReStyle's authors look five times
SUFFIX = "_encoder"


def find(text: str, model: str | os.PathLike, renderer: Renderer) -> "Encode | None":
    """The encoder of `--encoder`: a bundle, "none", or "auto": MODEL_encoder where that is there."""
    if text == "none":
        return None
    if text != "auto":
        return Encode(text, renderer)
    name = f"{os.fspath(model).rstrip('/')}{SUFFIX}"
    return Encode(name, renderer) if bundle.is_here(name) else None


class Encode:
    """Codes of batches of targets: one program for batches of one size.

    Each pass sees the targets, and beside them what the last codes draw where the net is of
    ReStyle's kind; the first sees the mean face.
    """

    def __init__(self, where: str, renderer: Renderer):
        net, card = bundle.load(where)
        if not isinstance(net, encoder.Encoder | psp.Encoder):
            raise UserError(
                f"{where} is a {card['architecture']} {card['net']}, wanted an encoder of faces to"
                " codes (configs/encoder.py; convert --arch=e4e or psp)"
            )
        theirs, mine = (
            (net.options.styles, net.options.w_size),
            (renderer.num_ws, renderer.options.w_size),
        )
        if theirs != mine:
            raise UserError(
                f"encoder {where} gives {theirs[0]} codes of {theirs[1]}, {renderer.where} takes"
                f" {mine[0]} of {mine[1]}: they do not belong together"
            )
        self.name, self.side, self.inputs = where, net.side, net.options.inputs
        method = bundle.trained(card).get("method", {})
        self.passes = method.get("passes", PASSES[self.inputs])
        self.renderer, self._mean = renderer, net.latent_avg[...]
        graph, self._weights = nnx.split(net)
        self._run = ops.jit(
            lambda weights, x: self._passed(nnx.merge(graph, weights[1]), weights[0], x)
        )

    def __call__(self, targets: np.ndarray) -> np.ndarray:
        """Codes float32 `[N, num_ws, w_size]` of uint8 `[N, S, S, 3]`."""
        x = jnp.asarray(targets, jnp.float32) / 127.5 - 1
        return np.asarray(self._run((self.renderer.weights, self._weights), x))

    def _passed(self, net: Any, weights: Any, x: jax.Array) -> jax.Array:
        synthesis = nnx.merge(self.renderer.graph, weights)
        wanted = resized(x, self.side)
        ws = self._mean[None]
        if self.inputs == 3:
            return net(wanted) + ws
        drawn = jnp.repeat(synthesis(ws, noise="const"), len(x), axis=0)
        ws = jnp.repeat(ws, len(x), axis=0)
        for i in range(self.passes):
            ws = ws + net(jnp.concatenate([wanted, resized(drawn, self.side)], axis=3))
            if i + 1 < self.passes:
                drawn = synthesis(ws, noise="const")
        return ws


def resized(x: jax.Array, side: int) -> jax.Array:
    """Pictures `[N, S, S, 3]` at `side` px: means over squares, or enlarged bilinearly."""
    if x.shape[1] == side:
        return x
    if x.shape[1] % side == 0:
        factor = x.shape[1] // side
        return x.reshape(len(x), side, factor, side, factor, 3).mean((2, 4))
    return jax.image.resize(x, (len(x), side, side, 3), "bilinear")
