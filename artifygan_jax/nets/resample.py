"""StyleGAN2's resampling by the binomial filter [1, 3, 3, 1], alone and around 3x3 convolutions.

No formulation here has a grouped or a dilated convolution: their gradients are slow in XLA (jax issues
13800 and 23713, openxla/xla issue 34273). `bench/modconv.py` and `bench/upfirdn.py` hold what these
were chosen over. All pictures are `[N, H, W, C]`; zeros lie outside of them.
"""

import jax
import jax.numpy as jnp
from jax.custom_derivatives import linear_call

from artifygan_jax.nets.ops import convolve


def fir(x: jax.Array, margin: int, gain: float = 1.0) -> jax.Array:
    """`x`, with `margin` zeros (1 or 2) on each side, filtered: sides grow by 2 margin - 3.

    `gain` is per axis. The filter is its own mirror image, so that the transpose is another such call:
    said by hand, since XLA's own takes three times as long on CPU.
    """
    return linear_call(
        lambda _, x: _fir(x, margin, gain), lambda _, g: fir(g, 3 - margin, gain), (), x
    )


def _fir(x: jax.Array, margin: int, gain: float) -> jax.Array:
    for axis in (1, 2):
        room = [(0, 0)] * 4
        room[axis] = (margin, margin)
        # Two passes over memory, margins and all: XLA would compute what comes before anew for each tap.
        x = jax.lax.optimization_barrier(jnp.pad(x, room))
        n = x.shape[axis] - 3
        a, b, c, d = (jax.lax.slice_in_dim(x, i, i + n, axis=axis) for i in range(4))
        x = (a + d) * (gain / 8) + (b + c) * (3 * gain / 8)
    return x


def up(x: jax.Array) -> jax.Array:
    """Twice the size: even pixels are 1/4 of the one before and 3/4 of their own, odd ones mirrored."""
    return linear_call(lambda _, x: _up(x), lambda _, g: 4 * down(g), (), x)


def down(x: jax.Array) -> jax.Array:
    """Half the size, filtered; a quarter of the transpose of `up`."""
    return linear_call(lambda _, x: _down(x), lambda _, g: up(g) / 4, (), x)


def _up(x: jax.Array) -> jax.Array:
    for axis in (1, 2):
        room = [(0, 0)] * 4
        room[axis] = (1, 1)
        wide, n = jnp.pad(x, room), x.shape[axis]
        before, after = (jax.lax.slice_in_dim(wide, i, i + n, axis=axis) for i in (0, 2))
        pair = jnp.stack([before * 0.25 + x * 0.75, x * 0.75 + after * 0.25], axis + 1)
        x = pair.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
    return x


def _down(x: jax.Array) -> jax.Array:
    for axis in (1, 2):
        n = x.shape[axis] // 2
        pair = x.reshape(*x.shape[:axis], n, 2, *x.shape[axis + 1 :])
        even, odd = (jax.lax.index_in_dim(pair, i, axis + 1, keepdims=False) for i in (0, 1))
        room = [(0, 0)] * 4
        room[axis] = (1, 1)
        before = jax.lax.slice_in_dim(jnp.pad(odd, room), 0, n, axis=axis)
        after = jax.lax.slice_in_dim(jnp.pad(even, room), 2, n + 2, axis=axis)
        x = (before + after) * (1 / 8) + (even + odd) * (3 / 8)
    return x


def up_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Zeros between the pixels, a transposed 3x3 convolution, the filter: twice the size.

    The transposed convolution gives out[2m] = x[m] k[0] + x[m-1] k[2] and out[2m+1] = x[m] k[1] on each
    axis: one 2x2 convolution with four times the outputs, which are then interleaved. It is given its
    zeros: with padding of its own, its gradient by the kernel takes a hundred times as long on CPU.
    """
    y = convolve(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), _up_phases(kernel))
    n, h, w, c = y.shape
    y = y.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(n, 2 * h, 2 * w, c // 4)[:, :-1, :-1]
    return fir(y, 1, gain=2.0)


def _up_phases(kernel: jax.Array) -> jax.Array:
    """The 2x2 kernel of `up_conv`: outputs are (row phase, column phase, channel)."""
    for axis in (0, 1):
        first, middle, last = (jax.lax.slice_in_dim(kernel, i, i + 1, axis=axis) for i in range(3))
        even = jnp.concatenate([last, first], axis)
        odd = jnp.concatenate([jnp.zeros_like(middle), middle], axis)
        kernel = jnp.stack([even, odd], -2)
    return kernel.reshape(*kernel.shape[:3], -1)


def down_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The filter, then a 3x3 convolution of stride 2: half the size."""
    return convolve(fir(x, 2), kernel, stride=2)
