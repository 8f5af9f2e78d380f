"""Affine warps and filters of pictures that differ per picture, as StyleGAN2-ADA augments with.

Arrays are `[N, H, W, C]` floats, H and W at least 2. Everything is linear in the picture, and each
step comes with its transpose in the formulation that was measured to be fast, so gradients of any
order and mode (jvp of grad, grad of jvp) run none of XLA's slow derivatives of slices. Nothing here
is a grouped convolution, and no picture of a batch reads another.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import linear_call

barrier = jax.lax.optimization_barrier

# The low-pass filter of the wavelet sym6 (Daubechies, "Ten Lectures on Wavelets", table 6.3), sum 1.
_SYM6 = np.array(
    [0.015404109327027373, 0.0034907120842174702, -0.11799011114819057, -0.048311742585633,
     0.4910559419267466, 0.787641141030194, 0.3379294217276218, -0.07263752278646252,
     -0.021060292512300564, 0.04472490177066578, 0.0017677118642428036, -0.007800708325034148]
)  # fmt: skip
LOW_PASS = _SYM6 / _SYM6.sum()

# Twice the low-pass filter turned round, as seven pairs (even, odd): the odd outputs start one later.
_UP = np.zeros((7, 2))
_UP[:6, 0], _UP[1:, 1] = 2 * LOW_PASS[::-2], 2 * LOW_PASS[-2::-2]
_DOWN = LOW_PASS.reshape(6, 2)


def times(a: jax.Array, b: jax.Array) -> jax.Array:
    """Products of small matrices `[N, i, j]` and `[N, j, k]`, in full float32 on every device."""
    return (a[:, :, :, None] * b[:, None]).sum(2)


def _matrix(*rows) -> jax.Array:
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


def stretch(x: jax.Array, y: jax.Array) -> jax.Array:
    """Matrices that multiply x and y by `[N]` each, `[N, 3, 3]`."""
    o, i = jnp.zeros_like(x), jnp.ones_like(x)
    return _matrix((x, o, o), (o, y, o), (o, o, i))


def turn(angle: jax.Array) -> jax.Array:
    """Matrices that turn by `angle` `[N]`, in radians from x to y."""
    c, s, o, i = jnp.cos(angle), jnp.sin(angle), jnp.zeros_like(angle), jnp.ones_like(angle)
    return _matrix((c, -s, o), (s, c, o), (o, o, i))


def shift(by: jax.Array) -> jax.Array:
    """Matrices that add `by` `[N, 2]` to x and y."""
    o, i = jnp.zeros_like(by[:, 0]), jnp.ones_like(by[:, 0])
    return _matrix((i, o, by[:, 0]), (o, i, by[:, 1]), (o, o, i))


def warp(x: jax.Array, inverse: jax.Array) -> jax.Array:
    """`x` resampled: each pixel is read at `inverse` `[N, 3, 3]` times its place.

    Places are (x, y, 1) in pixels from the middle of the picture. Beyond its edges the picture goes
    on mirrored (edge not repeated) without end. It is up-sampled twofold with the sym6 low-pass
    filter, read bilinearly at twice the resolution and down-sampled with the same filter turned
    round (arXiv:2006.06676, appendix B), so an `inverse` of identity changes 2e-6 of the range.
    No gradient goes to `inverse`.

    The table that is read holds one period of the mirrored picture, 4 (H - 1) x 4 (W - 1) values.
    """
    h, w = x.shape[1:3]
    reflected = jnp.pad(x, ((0, 0), (h + 2, 2), (w + 2, 2), (0, 0)), mode="reflect")
    table = _split(_split(barrier(reflected), _UP, 2), _UP, 1)
    inverse = barrier(jax.lax.stop_gradient(inverse.astype(x.dtype)))  # not anew for each pixel
    seen = _look_up(table, _places(inverse, h, w))
    return _merge(_merge(seen, _DOWN, 2), _DOWN, 1)


def _places(inverse: jax.Array, h: int, w: int) -> jax.Array:
    """Where the warped picture at twice its resolution reads the table: (row, column) `[N, ., ., 2]`.

    There are 2 h + 10 rows, which the down-sampling filter of 12 taps makes h. Row 2 i of the table
    lies on row i of the picture; rows may be any number here.
    """
    rows = (jnp.arange(2 * h + 10, dtype=inverse.dtype) - (h + 4)) / 2
    columns = (jnp.arange(2 * w + 10, dtype=inverse.dtype) - (w + 4)) / 2

    def along(axis: int, size: int) -> jax.Array:
        a, b, c = (inverse[:, axis, k, None, None] for k in range(3))
        return 2 * (a * columns[None, None] + b * rows[None, :, None] + c) + (size - 1)

    return jnp.stack([along(1, h), along(0, w)], -1)


def _look_up(table: jax.Array, places: jax.Array) -> jax.Array:
    """`table` `[N, P, Q, C]`, which repeats without end, read bilinearly at `places` `[N, R, S, 2]`.

    Forward are four gathers of single pixels. The way back adds at places that collide, a scatter,
    whose time goes by the number of places: two scatters of pairs of pixels.
    """
    start = (table.shape[1] // 2, table.shape[2] // 2)  # the picture's pixel (0, 0)
    return linear_call(
        lambda places, table: _four_pixels(table, places, start),
        lambda places, g: jax.linear_transpose(
            lambda table: _two_pairs(table, places, start),
            jax.ShapeDtypeStruct(table.shape, g.dtype),
        )(g)[0],
        places,
        table,
    )


def _four_pixels(table: jax.Array, places: jax.Array, start: tuple[int, int]) -> jax.Array:
    y, x, below, right, fy, fx = _corners(table, places, start)
    flat, q = _flat(barrier(table)), table.shape[2]
    upper = (1 - fx) * _take(flat, y * q + x) + fx * _take(flat, y * q + right)
    lower = (1 - fx) * _take(flat, below * q + x) + fx * _take(flat, below * q + right)
    return barrier((1 - fy) * upper + fy * lower)


def _two_pairs(table: jax.Array, places: jax.Array, start: tuple[int, int]) -> jax.Array:
    y, x, below, _, fy, fx = _corners(table, places, start)
    c, q = table.shape[3], table.shape[2]
    pairs = _flat(barrier(jnp.concatenate([table, jnp.roll(table, -1, 2)], 3)))
    upper, lower = barrier(_take(pairs, y * q + x)), barrier(_take(pairs, below * q + x))
    pair = (1 - fy) * upper + fy * lower
    return (1 - fx) * pair[..., :c] + fx * pair[..., c:]


def _corners(table: jax.Array, places: jax.Array, start: tuple[int, int]):
    """Row, column, the next row and column, and what share of each of the two belongs to the next."""
    whole = jnp.floor(places)
    share = places - whole
    found = []
    for k in range(2):
        at = jnp.mod(whole[..., k].astype(jnp.int32) + start[k], table.shape[1 + k])
        found.append((at, jnp.where(at + 1 == table.shape[1 + k], 0, at + 1)))
    (y, below), (x, right) = found
    return y, x, below, right, share[..., :1], share[..., 1:]


def _flat(table: jax.Array) -> jax.Array:
    return table.reshape(table.shape[0], -1, table.shape[3])


@jax.vmap
def _take(pixels: jax.Array, at: jax.Array) -> jax.Array:
    return pixels.at[at].get(mode="promise_in_bounds")


def _split(x: jax.Array, taps: np.ndarray, axis: int) -> jax.Array:
    """Twice the resolution: out[2 i + j] = sum over k of taps[k, j] x[i + k], `taps` `[K, 2]`.

    m pixels along `axis` become 2 (m - K + 1).
    """
    return _pair(_interleaved, _strided, taps, axis, x)


def _merge(x: jax.Array, taps: np.ndarray, axis: int) -> jax.Array:
    """Half the resolution: out[i] = sum over k and j of taps[k, j] x[2 (i + k) + j], `taps` `[K, 2]`.

    2 m pixels along `axis` become m - K + 1.
    """
    return _pair(_strided, _interleaved, taps, axis, x)


def _pair(forward, backward, taps: np.ndarray, axis: int, x: jax.Array) -> jax.Array:
    """`forward`, whose transpose is `backward` with the taps turned round and room at both ends."""
    room = (len(taps) - 1) * (2 if backward is _strided else 1)
    return linear_call(
        lambda _, x: barrier(forward(barrier(x), taps, axis)),
        lambda _, g: barrier(backward(barrier(_pad(g, room, axis)), taps[::-1], axis)),
        (),
        x,
    )


def _interleaved(x: jax.Array, taps: np.ndarray, axis: int) -> jax.Array:
    size = x.shape[axis] - len(taps) + 1
    parts = [jax.lax.slice_in_dim(x, k, k + size, axis=axis) for k in range(len(taps))]
    halves = [_weighted(parts, taps[:, j]) for j in range(2)]
    shape = (*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return jnp.stack(halves, axis + 1).reshape(shape)


def _strided(x: jax.Array, taps: np.ndarray, axis: int) -> jax.Array:
    size = x.shape[axis] // 2 - len(taps) + 1
    starts = range(2 * len(taps))
    parts = [jax.lax.slice_in_dim(x, k, k + 2 * size - 1, 2, axis) for k in starts]
    return _weighted(parts, taps.reshape(-1))


def _weighted(parts, weights: np.ndarray) -> jax.Array:
    terms = [float(weight) * part for part, weight in zip(parts, weights, strict=True) if weight]
    return functools.reduce(jnp.add, terms)


def _pad(x: jax.Array, amount: int, axis: int) -> jax.Array:
    return jnp.pad(x, [(amount, amount) if k == axis else (0, 0) for k in range(x.ndim)])


def blur(x: jax.Array, taps: jax.Array) -> jax.Array:
    """Each picture correlated with its own `taps` `[N, K]` (K odd) along both axes, edges mirrored.

    No gradient goes to `taps`.
    """
    room = taps.shape[1] // 2
    taps = barrier(jax.lax.stop_gradient(taps.astype(x.dtype)))
    x = jnp.pad(x, ((0, 0), (room, room), (room, room), (0, 0)), mode="reflect")
    return _correlate(_correlate(x, taps, 2), taps, 1)


def _correlate(x: jax.Array, taps: jax.Array, axis: int) -> jax.Array:
    def shifted(taps: jax.Array, x: jax.Array) -> jax.Array:
        count = taps.shape[1]
        size, x = x.shape[axis] - count + 1, barrier(x)
        parts = (jax.lax.slice_in_dim(x, k, k + size, axis=axis) for k in range(count))
        terms = (part * taps[:, k, None, None, None] for k, part in enumerate(parts))
        return barrier(functools.reduce(jnp.add, terms))

    def transposed(taps: jax.Array, g: jax.Array) -> jax.Array:
        return shifted(taps[:, ::-1], _pad(g, taps.shape[1] - 1, axis))

    return linear_call(shifted, transposed, taps, x)


def _octaves() -> np.ndarray:
    """Filters `[4, 43]` that sum to the unit impulse and pass one octave each, the lowest first.

    Undecimated wavelet packets of sym2: its half-band filter splits off the upper octave, and the
    same with holes in it the next lower ones.
    """
    low = np.array([-1, 0, 9, 16, 9, 0, -1]) / 32
    high = np.array([1, 0, -9, 16, -9, 0, 1]) / 32
    bands = np.eye(4, 1)
    for k in range(1, 4):
        holes = np.zeros((4, 2 * bands.shape[1] - 1))
        holes[:, ::2] = bands
        bands = np.stack([np.convolve(band, low) for band in holes])
        middle = bands.shape[1] // 2
        bands[k, middle - 3 : middle + 4] += high
    return bands


BANDS = _octaves()
