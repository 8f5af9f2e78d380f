"""Forms of StyleGAN2's filter [1, 3, 3, 1] / 8 on both axes: `(x, before, after, gain) -> y`.

`x` is `[B, H, W, C]`; `before` and `after` are the zeros around it, negative ones cut; the result
has sides `H + before + after - 3`.
"""

import jax
import jax.numpy as jnp
import numpy as np

TAPS = (0.125, 0.375, 0.375, 0.125)


def padded(x: jax.Array, before: int, after: int, axes=(1, 2)) -> jax.Array:
    """`x` with zeros around it on `axes`."""
    room = [(before, after) if axis in axes else (0, 0) for axis in range(x.ndim)]
    return jnp.pad(x, room)


def shifts(x, before: int, after: int, gain: float = 1.0, *, barrier: bool = False):
    """Four shifted multiply-adds on each axis."""
    for axis in (1, 2):
        x = padded(x, before, after, (axis,))
        x = jax.lax.optimization_barrier(x) if barrier else x
        n = x.shape[axis] - 3
        parts = [jax.lax.slice_in_dim(x, i, i + n, axis=axis) for i in range(4)]
        x = gain**0.5 * TAPS[0] * (parts[0] + parts[3]) + gain**0.5 * TAPS[1] * (
            parts[1] + parts[2]
        )
        x = jax.lax.optimization_barrier(x) if barrier else x
    return x


def barriers(x, before: int, after: int, gain: float = 1.0):
    """`shifts` in two passes over the memory instead of one that computes everything four times."""
    return shifts(x, before, after, gain, barrier=True)


def pairs(x, before: int, after: int, gain: float = 1.0):
    """Sums of neighbours, three times on each axis."""
    for axis in (1, 2):
        x = padded(x, before, after, (axis,))
        for _ in range(3):
            n = x.shape[axis] - 1
            x = jax.lax.slice_in_dim(x, 0, n, axis=axis) + jax.lax.slice_in_dim(
                x, 1, n + 1, axis=axis
            )
        x = jax.lax.optimization_barrier(x * (gain**0.5 / 8))
    return x


def own_transpose(x, before: int, after: int, gain: float = 1.0):
    """`barriers` whose gradient is the same filter with the other zeros, not that of its slices."""
    return _own(before, after, gain)(x)


def _own(before: int, after: int, gain: float):
    @jax.custom_jvp
    def forward(x):
        return _linear(x)

    def _linear(x):
        back = lambda _, y: barriers(y, 3 - before, 3 - after, gain)  # noqa: E731
        return jax.custom_derivatives.linear_call(
            lambda _, x: barriers(x, before, after, gain), back, (), x
        )

    forward.defjvp(lambda primals, tangents: (forward(*primals), _linear(*tangents)))
    return forward


def depthwise(x, before: int, after: int, gain: float = 1.0):
    """A grouped convolution with a group for each channel."""
    c = x.shape[-1]
    kernel = np.broadcast_to(square(gain)[:, :, None, None], (4, 4, 1, c))
    return _convolve(x, kernel, before, after, c)


def one_channel(x, before: int, after: int, gain: float = 1.0):
    """A convolution of `B * C` pictures of one channel."""
    b, h, w, c = x.shape
    y = _convolve(
        x.transpose(0, 3, 1, 2).reshape(b * c, h, w, 1),
        square(gain)[:, :, None, None],
        before,
        after,
    )
    return y.reshape(b, c, *y.shape[1:3]).transpose(0, 2, 3, 1)


def matrices(x, before: int, after: int, gain: float = 1.0):
    """A product with a banded matrix on each axis."""
    for axis in (1, 2):
        n = x.shape[axis]
        band = np.zeros((n, n + before + after - 3), np.float32)
        for j in range(band.shape[1]):
            for i, tap in enumerate(TAPS):
                if 0 <= j + i - before < n:
                    band[j + i - before, j] = gain**0.5 * tap
        x = jnp.einsum("bhwc,hk->bkwc" if axis == 1 else "bhwc,wk->bhkc", x, band.astype(x.dtype))
    return x


def square(gain: float) -> np.ndarray:
    """The filter as `[4, 4]`."""
    return np.float32(gain) * np.outer(TAPS, TAPS).astype(np.float32)


def _convolve(x, kernel: np.ndarray, before: int, after: int, groups: int = 1):
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (1, 1),
        ((before, after), (before, after)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


FORMS = {
    "shifts": shifts,
    "shifts, two passes": barriers,
    "shifts, own transpose": own_transpose,
    "pairs": pairs,
    "banded matrices": matrices,
    "depthwise": depthwise,
    "one channel": one_channel,
}
