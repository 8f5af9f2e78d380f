"""One large picture through a generator tile by tile, with the result of the whole picture.

Tiles alone would show: instance norm takes its statistics from all pixels. So each norm costs one
pass over the tiles, which gathers the sums over the tiles' cores, before the next layers can run.
Layers before a norm are computed again in each later pass rather than stored, since one full-size
layer of 64 channels is 256 bytes a pixel; that is about a third more work. The residual blocks hold
most of the work on a sixteenth of the pixels, and run whole.

A net can do this where it has `halo`, `multiple`, `encoder()`, `blocks`, `decoder()` and `image()`
as `nets.cartoongan.Generator` does.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from artifygan_jax.nets.ops import BatchNorm
from artifygan_jax.programs import Programs

TILE = 512  # a pass holds some 0.5 GB at 64 channels; halos cost 10 % of it

Moments = tuple[np.ndarray, np.ndarray]  # mean and variance, [1, C]


@dataclasses.dataclass(frozen=True)
class Span:
    """One axis of a tile: `start..stop` is read, and of that `low..high` is its own."""

    start: int
    stop: int
    low: int
    high: int

    @property
    def own(self) -> int:
        return self.high - self.low

    def scaled(self, to: int, of: int) -> "Span":
        """The same in an array of `to` rows for each `of` rows here."""
        return Span(*(x * to // of for x in dataclasses.astuple(self)))


def spans(size: int, tile: int, halo: int) -> list[Span]:
    """Spans of `tile` that own every row of `size` once, with `halo` around inside the picture.

    The last one is moved inwards, so that all are alike and every border of the picture is a border
    of a tile: the padding of the layers is then right there.
    """
    if size <= tile:
        return [Span(0, size, 0, size)]
    step = tile - 2 * halo
    starts = [*range(0, size - tile, step), size - tile]
    ends = [start + tile - halo for start in starts[:-1]] + [size]
    lows = [0, *ends[:-1]]
    return [Span(s, s + tile, low, high) for s, low, high in zip(starts, lows, ends, strict=True)]


def merged(counts: Sequence[int], parts: Sequence[Moments]) -> Moments:
    """Mean and biased variance of all pixels, from those of parts with `counts` pixels each.

    In float64, and never by E[x^2] - E[x]^2: no digits are lost where means are large.
    """
    weights = np.array(counts, np.float64)[:, None, None] / sum(counts)
    means, variances = (np.stack(x).astype(np.float64) for x in zip(*parts, strict=True))
    mean = (weights * means).sum(0)
    variance = (weights * (variances + np.square(means - mean))).sum(0)
    return mean.astype(np.float32), variance.astype(np.float32)


class Tiles:
    """`Tiles(...)(picture, room)` is the net on that picture, `[H, W, 3]` float32 both."""

    def __init__(
        self, net: Callable[[Any], Any], weights: Any, programs: Programs, tile: int = TILE
    ):
        """`net(weights)` builds the net; sides of pictures and `tile` are multiples of its own."""
        self._net, self._weights, self._programs = net, weights, programs
        built = net(weights)
        self._halo, self._multiple = built.halo, built.multiple
        self._local = {
            part: [isinstance(norm, BatchNorm) for _, norm in getattr(built, part)()]
            for part in ("encoder", "decoder")
        }
        self._measure = {part: functools.partial(self._moments, part) for part in self._local}
        if tile % self._multiple or tile <= 2 * self._halo:
            raise ValueError(f"tile {tile}: needs a multiple of {self._multiple} above 2 halos")
        self._tile = tile

    def __call__(self, picture: np.ndarray, room: tuple[int, int]) -> np.ndarray:
        """`room` is (height, width) of the array in which the residual blocks find their place."""
        grid = self._grid(*picture.shape[:2])
        height, width = (side // self._multiple for side in picture.shape[:2])
        encoded = self._encoded(picture, grid, room)
        extent = np.int32(height), np.int32(width)
        features = np.asarray(self._programs(self._trunk, self._weights, encoded, extent))
        del encoded
        features = features[0, :height, :width]
        small = [[span.scaled(1, self._multiple) for span in pair] for pair in grid]
        known = self._statistics("decoder", features, small, len(self._local["decoder"]))
        image = np.empty(picture.shape, np.float32)
        for core, y in self._pass(self._decode, features, small, known):
            image[core] = y
        return image

    def _encoded(self, picture: np.ndarray, grid, room: tuple[int, int]) -> jax.Array:
        """What the last norm of the encoder is given, in the corner of its room."""
        known = self._statistics("encoder", picture, grid, len(self._local["encoder"]) - 1)
        height, width = (side // self._multiple for side in room)
        encoded = np.empty(0)
        for core, y in self._pass(self._encode, picture, grid, known):
            if not encoded.size:
                encoded = np.zeros((1, height, width, y.shape[-1]), y.dtype)
            encoded[0][core] = y
        return jnp.asarray(encoded)  # the host's copy can go before the large program runs

    def _grid(self, height: int, width: int) -> list[tuple[Span, Span]]:
        rows = spans(height, self._tile, self._halo)
        columns = spans(width, self._tile, self._halo)
        return list(itertools.product(rows, columns))

    def _statistics(self, part: str, source: np.ndarray, grid, count: int) -> list[Moments | None]:
        """Mean and variance for the first `count` norms of a part; None where the norm has some."""
        known: list[Moments | None] = []
        for local in self._local[part][:count]:
            if local:
                known.append(None)
                continue
            parts = []
            for rows, columns in grid:
                core = np.array([rows.low, rows.high, columns.low, columns.high], np.int32)
                core -= np.array([rows.start, rows.start, columns.start, columns.start], np.int32)
                window = source[rows.start : rows.stop, columns.start : columns.stop][None]
                run = self._programs(self._measure[part], self._weights, window, known, core)
                parts.append(tuple(map(np.asarray, run)))
            known.append(merged([r.own * c.own for r, c in grid], parts))
        return known

    def _pass(self, function, source: np.ndarray, grid, known) -> Iterator[tuple[Any, np.ndarray]]:
        """(where, values) of each tile's core in what `function(weights, window, known)` gives."""
        for rows, columns in grid:
            window = source[rows.start : rows.stop, columns.start : columns.stop][None]
            y = np.asarray(self._programs(function, self._weights, window, known))[0]
            rows = rows.scaled(y.shape[0], window.shape[1])
            columns = columns.scaled(y.shape[1], window.shape[2])
            yield (
                (slice(rows.low, rows.high), slice(columns.low, columns.high)),
                y[
                    rows.low - rows.start : rows.high - rows.start,
                    columns.low - columns.start : columns.high - columns.start,
                ],
            )

    # The programs: `known` has the statistics of the norms that are passed through.

    def _moments(self, part: str, weights, window, known, core):
        stages = getattr(self._net(weights), part)()
        y = _through(stages, window, known)
        y = stages[len(known)][0](y, None)[0].astype(jnp.float32)
        core = core * y.shape[0] // window.shape[1]
        rows, columns = jnp.arange(y.shape[0]), jnp.arange(y.shape[1])
        own = ((core[0] <= rows) & (rows < core[1]))[:, None, None]
        own &= ((core[2] <= columns) & (columns < core[3]))[None, :, None]
        count = (core[1] - core[0]) * (core[3] - core[2])
        mean = jnp.where(own, y, 0).sum((0, 1)) / count
        squares = jnp.where(own, jnp.square(y - mean[None, None]), 0)
        return mean[None], squares.sum((0, 1))[None] / count

    def _encode(self, weights, window, known):
        """Up to the last norm, whose statistics the trunk takes itself."""
        stages = self._net(weights).encoder()
        return stages[-1][0](_through(stages, window, known), None)

    def _trunk(self, weights, x, extent):
        net = self._net(weights)
        _, norm = net.encoder()[-1]
        x = jax.nn.relu(norm(x, extent=extent))
        for block in net.blocks:
            x = block(x, train=False, extent=extent)
        return x

    def _decode(self, weights, window, known):
        net = self._net(weights)
        return net.image(_through(net.decoder(), window, known))


def _through(stages, x: jax.Array, known) -> jax.Array:
    """`x` through as many stages as have known statistics."""
    for (convolve, norm), moments in zip(stages, known):
        y = convolve(x, None)
        x = jax.nn.relu(norm(y) if moments is None else norm.apply(y, *moments))
    return x
