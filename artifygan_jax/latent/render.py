"""A generator ready to draw: in batches of one shape, with its weights as arguments of programs."""

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.latent.codes import Codes
from artifygan_jax.nets import ops
from artifygan_jax.nets.stylegan2 import Generator, Synthesis

NOISES = ("const", "random", "none")
BATCH, BATCH_PIXELS = 16, 2**22  # pictures drawn at once: so many, and no more pixels than that


@dataclasses.dataclass(frozen=True)
class Look:
    """How latents are drawn.

    `truncation` draws the first `cutoff` codes (None: all) towards the mean code: 1 leaves them, 0
    gives the mean. `noise` is "const" (the net's, or the latents' own maps), "random" (by the
    latent's key: a seed has one picture) or "none". The first `source_styles` codes come from the
    mapping of `source` (FreezeSG of Cartoon-StyleGAN, arXiv:2106.12445).
    """

    truncation: float = 1.0
    cutoff: int | None = None
    noise: str = "const"
    source: "Renderer | None" = None
    source_styles: int = 0


PLAIN = Look()


def load(where: str | os.PathLike) -> "Renderer":
    """The StyleGAN2 generator of a bundle; a `UserError` for any other net."""
    net, card = bundle.load(where)
    if not isinstance(net, Generator):
        kind = f"{card['architecture']} {card['net']}"
        raise UserError(f"{where} is a {kind}; latents are for a stylegan2 generator")
    return Renderer(net, card, str(where))


class Renderer:
    """Draws latents with one generator; its weights are arguments of every program."""

    def __init__(self, net: Generator, card: Mapping[str, Any], where: str = "the net"):
        self.net, self.card, self.where = net, card, where
        self.options, self.resolution, self.num_ws = net.options, net.resolution, net.num_ws
        self.w_avg = np.asarray(net.mapping.w_avg[...])
        self.noise_sides = {name: layer(net.synthesis, name).resolution for name in layers(net)}
        self.batch = max(1, min(BATCH, BATCH_PIXELS // self.resolution**2))
        graph, self._mapping = nnx.split(net.mapping)
        self._map = ops.jit(lambda weights, z, labels: nnx.merge(graph, weights).code(z, labels))
        self.graph, self.weights = nnx.split(net.synthesis)
        self._draw = ops.jit(self._drawn, static_argnames="noise")

    @property
    def name(self) -> str:
        """What pictures are marked with."""
        return f"{Path(self.where).resolve().name} {self.card.get('sha256', '')[:12]}".strip()

    def check(self, look: Look) -> None:
        """A `UserError` for a look that this net does not have."""
        if look.noise not in NOISES:
            raise UserError(f"noise {look.noise!r}; there is {', '.join(NOISES)}")
        if not math.isfinite(look.truncation):
            raise UserError(f"truncation {look.truncation}; give a number, such as 0.7")
        if look.cutoff is not None and not 1 <= look.cutoff <= self.num_ws:
            raise UserError(f"cutoff {look.cutoff}; this net has {self.num_ws} layers")
        if look.source is None:
            return
        mine, theirs = ((o.z_size, o.w_size, o.labels) for o in (self.options, look.source.options))
        if mine != theirs:
            raise UserError(
                f"{look.source.where} has z, w and classes of {theirs}, {self.where} of {mine}:"
                " it is no source of it"
            )
        most = min(self.num_ws, look.source.num_ws)
        if not 1 <= look.source_styles <= most:
            raise UserError(f"source_styles {look.source_styles}; give 1 to {most} layers")

    def ws(self, codes: Codes, look: Look = PLAIN) -> np.ndarray:
        """The codes `[N, num_ws, w_size]` that `look` makes of latents."""
        if codes.ws is not None:
            if look.source is not None:
                raise UserError("a source's styles need z or seeds; these latents are codes")
            return _truncated(codes.ws, self.w_avg, look)
        assert codes.z is not None
        w = self.code(codes.z, codes.labels)
        ws = _truncated(np.repeat(w[:, None], self.num_ws, axis=1), self.w_avg, look)
        if look.source is not None:
            same = dataclasses.replace(look, source=None)
            first = look.source.ws(codes, same)[:, : look.source_styles]
            ws = np.concatenate([first, ws[:, look.source_styles :]], axis=1)
        return ws

    def code(self, z: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """The code `[N, w_size]` of each latent `[N, z_size]`."""
        return np.asarray(self._map(self._mapping, z, labels))

    def images(self, codes: Codes, look: Look = PLAIN) -> Iterator[np.ndarray]:
        """float32 `[n, H, W, 3]`, about [-1, 1], in batches; the device is one batch ahead."""
        self.check(look)
        size, waiting = min(self.batch, len(codes)), None
        for at in range(0, len(codes), max(size, 1)):
            count = min(size, len(codes) - at)
            part = codes.take(np.minimum(np.arange(at, at + size), len(codes) - 1))
            drawn = self.draw(part.with_ws(self.ws(part, look)), look.noise)
            if waiting is not None:
                yield np.asarray(waiting[0])[: waiting[1]]
            waiting = drawn, count
        if waiting is not None:
            yield np.asarray(waiting[0])[: waiting[1]]

    def draw(self, codes: Codes, noise: str = "const") -> jax.Array:
        """The pictures of codes that are `ws`, on the device."""
        own = dict(codes.maps) if noise == "const" else {}
        return self._draw(self.weights, codes.ws, own, codes.keys, noise=noise)

    def _drawn(self, weights, ws, maps, keys, *, noise: str) -> jax.Array:
        if noise == "random":
            maps = {
                name: jax.vmap(lambda key, i=i, r=side: _noise(key, i, r))(keys)
                for i, (name, side) in enumerate(self.noise_sides.items())
            }
        if maps:
            return with_maps(self.graph, weights, ws, maps)
        return nnx.merge(self.graph, weights)(ws, noise=noise)


def _noise(key: jax.Array, index: int, side: int) -> jax.Array:
    """The noise of layer `index` for the picture of `key`, whatever else is in the batch."""
    return jax.random.normal(jax.random.fold_in(jax.random.key(key), index), (side, side))


def with_maps(graph: Any, weights: Any, ws: jax.Array, maps: Mapping[str, jax.Array]) -> jax.Array:
    """Pictures `[N, H, W, 3]` of codes with noise maps `{"b8/conv0": [N, 8, 8], ...}` of their own."""
    net = nnx.merge(graph, weights, copy=True)
    for name, x in maps.items():
        layer(net, name).noise.set_value(x)
    return net(ws, noise="const")


def layers(net: Generator) -> list[str]:
    """The layers with noise: b4/conv1, b8/conv0, b8/conv1, ..."""
    found = [f"b{r}/{name}" for r in net.synthesis.resolutions for name in ("conv0", "conv1")]
    return found[1:]


def layer(net: Synthesis, name: str) -> Any:
    """The layer called `b8/conv0`."""
    block, _, part = name.partition("/")
    return getattr(getattr(net, block), part)


def _truncated(ws: np.ndarray, w_avg: np.ndarray, look: Look) -> np.ndarray:
    """`ws` `[N, L, w]` with the first codes drawn towards the mean; also codes that came from a file."""
    if look.truncation == 1:
        return ws
    near = w_avg + np.float32(look.truncation) * (ws - w_avg)
    count = ws.shape[1] if look.cutoff is None else look.cutoff
    return np.concatenate([near[:, :count], ws[:, count:]], axis=1)


def to_uint8(images: np.ndarray | jax.Array) -> np.ndarray:
    """[-1, 1] to 0..255."""
    return (
        np.rint((np.asarray(jnp.asarray(images, jnp.float32)) + 1) * 127.5)
        .clip(0, 255)
        .astype(np.uint8)
    )
