"""Layers that the networks share, each in the formulation that was measured to be fast.

Arrays are `[B, H, W, C]`; kernels are HWIO float32 parameters, cast to the dtype of the activations
(float32 or bfloat16). Statistics of normalisations are float32 always.

`extent = (h, w)` on a layer means that only the upper left `h x w` of the array is picture and the
rest is room: the layer then gives on that part exactly what it would give on the cropped array, so
that pictures of many sizes share one compiled program.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.custom_derivatives import linear_call

Extent = tuple[Any, Any] | None


class Buffer(nnx.Variable):
    """What a net remembers and no optimiser moves."""


def pad(x: jax.Array, amount: int | tuple[int, int], mode: str, extent: Extent = None) -> jax.Array:
    """Pads height and width by `amount`: `mode` is "zero" or "reflect" (edge not repeated).

    `amount` is for both ends, or (top and left, bottom and right). With an `extent`, pads that part;
    `amount` must be smaller than its sides for "reflect".
    """
    before, after = (amount, amount) if isinstance(amount, int) else amount
    if extent is None:
        if mode == "zero":
            return jnp.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
        return _reflect(_reflect(x, before, after, 1), before, after, 2)
    if mode == "zero":
        return pad(inside(x, extent), amount, "zero")
    for axis, size in zip((1, 2), extent, strict=True):
        at = jnp.abs(jnp.arange(-before, x.shape[axis] + after))
        at = jnp.where(at < size, at, 2 * (size - 1) - at)  # below 0 only where nothing is read
        x = jnp.take(x, jnp.clip(at, 0, x.shape[axis] - 1), axis=axis)
    return x


def _reflect(x: jax.Array, before: int, after: int, axis: int) -> jax.Array:
    """One gather, which XLA makes part of what computes `x`; its gradient is that of slices.

    On CPU AnimeGANv2 takes 15 % less time so than with slices and a concatenation, and those less
    than with `jnp.pad(mode="reflect")`; but the gradient of a gather is a scatter, which is slow.
    The barriers keep XLA from computing the gradient's sums of edges anew for each of their uses.
    """
    size, barrier = x.shape[axis], jax.lax.optimization_barrier
    at = np.abs(np.arange(-before, size + after))
    at = np.where(at < size, at, 2 * (size - 1) - at)

    def slices(x):
        low = jnp.flip(jax.lax.slice_in_dim(x, 1, before + 1, axis=axis), axis)
        high = jnp.flip(jax.lax.slice_in_dim(x, size - 1 - after, size - 1, axis=axis), axis)
        return jnp.concatenate([low, x, high], axis)

    return linear_call(
        lambda _, x: jnp.take(x, at, axis=axis),
        lambda _, y: barrier(jax.linear_transpose(slices, x)(barrier(y))[0]),
        (),
        x,
    )


def inside(x: jax.Array, extent: Extent) -> jax.Array:
    """`x` with zeros outside of `extent`."""
    if extent is None:
        return x
    rows = (jnp.arange(x.shape[1]) < extent[0])[None, :, None, None]
    columns = (jnp.arange(x.shape[2]) < extent[1])[None, None, :, None]
    return jnp.where(rows & columns, x, jnp.zeros((), x.dtype))


def scaled(extent: Extent, factor: int) -> Extent:
    """The extent after up-sampling by `factor`, or down-sampling (negative), which rounds up."""
    if extent is None:
        return None
    if factor > 0:
        return extent[0] * factor, extent[1] * factor
    return -(-extent[0] // -factor), -(-extent[1] // -factor)


def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1, padding=((0, 0), (0, 0))):
    """Cross-correlation in the dtype of `x`; `padding` is zeros, ((top, bottom), (left, right))."""
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _row(bias: nnx.Param, dtype) -> jax.Array:
    """A vector over channels as `[1, 1, 1, C]`: the tests make implicit promotion of ranks an error."""
    return bias[...].astype(dtype)[None, None, None]


class Conv(nnx.Module):
    """`kernel x kernel` convolution that keeps the size (divided by `stride`, rounded up).

    `padding` is "zero", (kernel - 1) / 2 on each side as in torch, or "reflect", kernel - stride in
    all: that is the same for stride 1, and for stride 2 one row and column at the bottom and right
    as AnimeGAN has it (sides divided by 2 are then rounded down). The kernel starts as
    N(0, `deviation`), by default that of all CartoonGAN descendants, the bias as 0.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: str = "zero",
        bias: bool = True,
        deviation: float = 0.02,
        rngs: nnx.Rngs,
    ):
        shape = (kernel, kernel, inputs, outputs)
        self.kernel = nnx.Param(deviation * jax.random.normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.stride, self.padding = stride, padding

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        return self.convolve(x, self.kernel[...], extent)

    def convolve(self, x: jax.Array, kernel: jax.Array, extent: Extent = None) -> jax.Array:
        """The layer with another kernel than its own."""
        size = kernel.shape[0]
        if size == 1:
            x = convolve(x, kernel, self.stride)
        elif self.padding == "zero":
            x = convolve(inside(x, extent), kernel, self.stride, ((size // 2, size // 2),) * 2)
        else:
            x = convolve(
                pad(x, _margins(size, self.stride), "reflect", extent), kernel, self.stride
            )
        return x if self.bias is None else x + _row(self.bias, x.dtype)


def _margins(kernel: int, stride: int) -> tuple[int, int]:
    """Reflected pixels (before, after): as even as can be, the odd one after."""
    total = kernel - stride
    return total // 2, total - total // 2


class Depthwise(nnx.Module):
    """3x3 convolution of each channel with a kernel of its own; padding and stride as in `Conv`.

    Nine shifted multiply-adds: XLA's own depthwise convolution takes 20 times as long on CPU, and
    on GPU its gradient is slow (jax issue 13800).
    """

    def __init__(
        self,
        channels: int,
        *,
        stride: int = 1,
        padding: str = "zero",
        bias: bool = True,
        deviation: float = 0.02,
        rngs: nnx.Rngs,
    ):
        shape = (3, 3, 1, channels)
        self.kernel = nnx.Param(deviation * jax.random.normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(channels)) if bias else None
        self.stride, self.padding = stride, padding

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        kernel = self.kernel[...].astype(x.dtype)
        height, width = (-(-size // self.stride) for size in x.shape[1:3])
        amount: int | tuple[int, int] = 1
        if self.padding == "reflect":
            height, width = (size // self.stride for size in x.shape[1:3])
            amount = _margins(3, self.stride)
        # The barrier is for the way back, where it keeps apart what follows from the sums of the edges.
        x = pad(jax.lax.optimization_barrier(x), amount, self.padding, extent)
        y: jax.Array = depthwise(x, kernel, (height, width), self.stride)
        return y if self.bias is None else y + _row(self.bias, x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(x: jax.Array, kernel: jax.Array, size: tuple[int, int], stride: int) -> jax.Array:
    """Each channel of padded `x` with its part of `kernel` `[3, 3, 1, C]`, to height and width `size`.

    Its gradients are written out: of XLA's sums over pixels, which the kernel's are, each takes ten
    times as long on CPU as the same sum as a product with a vector of ones.
    """
    return _depthwise(x, kernel, size, stride)


def _depthwise(x: jax.Array, kernel: jax.Array, size: tuple[int, int], stride: int) -> jax.Array:
    y = jnp.zeros((), x.dtype)
    for n, tap in enumerate(_taps(x, size, stride)):
        y = y + tap * kernel[n // 3, n % 3][None, None]
    return jax.lax.optimization_barrier(y)


def _taps(x: jax.Array, size: tuple[int, int], stride: int) -> list[jax.Array]:
    """The nine shifted parts of `x` that the nine elements of a kernel see.

    This barrier keeps XLA from computing what `x` comes from nine times, once for each; that of
    `_depthwise` keeps it from computing the sum anew for every use.
    """
    (height, width), s = size, stride
    x = jax.lax.optimization_barrier(x)
    rows, columns = s * (height - 1) + 1, s * (width - 1) + 1
    return [x[:, i : i + rows : s, j : j + columns : s] for i in range(3) for j in range(3)]


def _depthwise_forward(x, kernel, size, stride):
    return depthwise(x, kernel, size, stride), (x, kernel)


def _depthwise_backward(size, stride, saved, g):
    x, kernel = saved
    if stride == 1:
        wide = jnp.pad(g, ((0, 0), (2, 2), (2, 2), (0, 0)))
        to_x = _depthwise(wide, kernel[::-1, ::-1], x.shape[1:3], 1)
    else:
        to_x = jax.vjp(lambda x: _depthwise(x, kernel, size, stride), x)[1](g)[0]
    flat = jax.lax.optimization_barrier(g.reshape(-1, g.shape[-1]).astype(jnp.float32))
    ones = jnp.ones(len(flat))
    sums = [
        jnp.einsum("n,nc->c", ones, tap.reshape(flat.shape) * flat, precision="highest")
        for tap in _taps(x, size, stride)
    ]
    return to_x, jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


class SpectralConv(Conv):
    """A `Conv` whose kernel is divided by its largest singular value (Miyato et al., arXiv:1802.05957).

    As torch's `spectral_norm`: the kernel is the matrix outputs x the rest, its singular vectors `u`
    and `v` are buffers, which each call at training moves by one power iteration and none at test;
    gradients see the kernel in the singular value, not the vectors. `v` is `[h, w, inputs]`.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, rngs: nnx.Rngs, **options: Any):
        super().__init__(inputs, outputs, kernel, rngs=rngs, **options)
        shape = (kernel, kernel, inputs)
        self.u = nnx.Variable(_unit(jax.random.normal(rngs.params(), (outputs,))))
        self.v = nnx.Variable(_unit(jax.random.normal(rngs.params(), shape)))

    def __call__(self, x: jax.Array, extent: Extent = None, *, train: bool = False) -> jax.Array:
        return self.convolve(x, self.normalised(train), extent)

    def normalised(self, train: bool) -> jax.Array:
        """The kernel over its largest singular value; moves `u` and `v` at training."""
        kernel, u, v = self.kernel[...], self.u[...], self.v[...]
        product = functools.partial(jnp.einsum, precision="highest")  # TF32 would move the scale
        if train:
            still = jax.lax.stop_gradient(kernel)
            v = _unit(product("hwio,o->hwi", still, u))
            u = _unit(product("hwio,hwi->o", still, v))
            self.u[...], self.v[...] = u, v
        return kernel / product("o,o->", product("hwio,hwi->o", kernel, v), u)


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.sqrt(jnp.square(x).sum()), 1e-12)


class ConvTranspose(nnx.Module):
    """Transposed 3x3 convolution, stride 2, doubling the size (torch: padding 1, output_padding 1).

    out[2m] = x[m] k[1] and out[2m+1] = x[m] k[2] + x[m+1] k[0] on each axis: four small convolutions,
    interleaved, instead of one over an array that is three quarters zeros.
    """

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(0.02 * jax.random.normal(rngs.params(), (3, 3, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        x = inside(x, extent)
        kernel = self.kernel[...]
        even, odd = slice(1, 2), slice(2, None, -2)
        rows = []
        for vertical in (even, odd):
            columns = []
            for horizontal in (even, odd):
                k = kernel[vertical, horizontal]
                room = ((0, k.shape[0] - 1), (0, k.shape[1] - 1))
                columns.append(convolve(x, k, padding=room))
            rows.append(jnp.stack(columns, axis=3))
        y = jnp.stack(rows, axis=2)  # [B, H, 2, W, 2, C]
        b, h, _, w, _, c = y.shape
        return y.reshape(b, 2 * h, 2 * w, c) + _row(self.bias, x.dtype)


class InstanceNorm(nnx.Module):
    """Normalises each channel of each picture over its pixels (arXiv:1607.08022), then scale and bias.

    Biased variance, as torch. Statistics are taken within `extent` where there is one. Without
    `affine` there are no scale and bias.
    """

    def __init__(self, channels: int, *, epsilon: float = 1e-5, affine: bool = True):
        self.scale = nnx.Param(jnp.ones(channels)) if affine else None
        self.bias = nnx.Param(jnp.zeros(channels)) if affine else None
        self.epsilon = epsilon

    def __call__(self, x: jax.Array, *, train: bool = False, extent: Extent = None) -> jax.Array:
        del train  # the same at training and at test
        mean, variance = moments(x, extent)
        return self.apply(x, mean, variance)

    def apply(self, x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Normalises by the given statistics `[B, C]`, as one multiply-add."""
        factor, shift = jax.lax.rsqrt(variance + self.epsilon), 0.0
        if self.scale is not None and self.bias is not None:
            factor, shift = self.scale[...][None] * factor, self.bias[...][None]
        shift = shift - mean * factor
        return affine(x, factor, shift)


@jax.custom_vjp
def affine(x: jax.Array, factor: jax.Array, shift: jax.Array) -> jax.Array:
    """`x` `[B, H, W, C]` times `factor` plus `shift`, both `[B, C]` float32, in the dtype of `x`.

    The sums over pixels of its gradients are products with ones: see `depthwise`.
    """
    y = x.astype(jnp.float32) * factor[:, None, None] + shift[:, None, None]
    return y.astype(x.dtype)


def _affine_forward(x, factor, shift):
    return affine(x, factor, shift), (x, factor)


def _affine_backward(saved, g):
    x, factor = saved
    wide = jax.lax.optimization_barrier(g.astype(jnp.float32))
    shape = (len(x), -1, x.shape[-1])
    to_shift = _pixel_sums(wide.reshape(shape))
    to_factor = _pixel_sums((wide * x.astype(jnp.float32)).reshape(shape))
    return (wide * factor[:, None, None]).astype(x.dtype), to_factor, to_shift


affine.defvjp(_affine_forward, _affine_backward)


def _pixel_sums(x: jax.Array) -> jax.Array:
    """`[B, N, C]` float32 summed over N, as a product with a row of ones."""
    ones = jnp.ones((len(x), 1, x.shape[1]))
    return jnp.einsum("bon,bnc->boc", ones, x, precision="highest")[:, 0]


def spread(v: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """`v` float32, `[C]` or `[B, C]`, over the pixels of an array of `shape` `[B, H, W, C]`.

    A broadcast whose transpose is a product with ones (see `depthwise`). Unlike `affine` it can be
    differentiated forwards too, and any number of times: it is linear.
    """

    def back(_, g):
        if v.ndim == 2:
            flat = jax.lax.optimization_barrier(g.reshape(len(g), -1, shape[3]))
            return _pixel_sums(flat.astype(jnp.float32)).astype(v.dtype)
        flat = jax.lax.optimization_barrier(g.reshape(-1, shape[3]).astype(jnp.float32))
        return jnp.einsum("n,nc->c", jnp.ones(len(flat)), flat, precision="highest").astype(v.dtype)

    def wide(_, v):
        row = v[:, None, None] if v.ndim == 2 else v[None, None, None]
        return jnp.broadcast_to(row.astype(dtype), shape)

    return linear_call(wide, back, (), v)


def over_channels(x: jax.Array, channels: int) -> jax.Array:
    """`x` `[B, H, W, 1]` for each of `channels`; its transpose is a product with ones: see `spread`."""

    def back(_, g):
        flat = jax.lax.optimization_barrier(g.reshape(-1, channels).astype(jnp.float32))
        sums = jnp.einsum("nc,c->n", flat, jnp.ones(channels), precision="highest")
        return sums.reshape(x.shape).astype(x.dtype)

    wide = lambda _, x: jnp.broadcast_to(x, (*x.shape[:3], channels))  # noqa: E731
    return linear_call(wide, back, (), x)


class LayerNorm(InstanceNorm):
    """Normalises each picture over its pixels and channels together, then scale and bias by channel.

    Not flax's, which leaves pixels apart: this is `contrib.layers.layer_norm` of TensorFlow 1 on
    pictures, and group norm of one group.
    """

    def apply(self, x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Normalises by the given statistics `[B, C]` of the single channels."""
        whole = mean.mean(1, keepdims=True)
        variance = (variance + jnp.square(mean - whole)).mean(1, keepdims=True)
        return super().apply(
            x, jnp.broadcast_to(whole, mean.shape), jnp.broadcast_to(variance, mean.shape)
        )


def moments(x: jax.Array, extent: Extent = None) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance `[B, C]` float32 of each channel over the pixels within `extent`.

    Two passes: E[x^2] - E[x]^2 in float32 loses the digits that the golden outputs ask for. Axis
    after axis: XLA's sums over two axes at once take three times as long on CPU.
    """
    x = x.astype(jnp.float32)
    if extent is None:
        mean = x.mean(2).mean(1)
        return mean, jnp.square(x - mean[:, None, None]).mean(2).mean(1)
    count = jnp.asarray(extent[0] * extent[1], jnp.float32)
    mean = inside(x, extent).sum(2).sum(1) / count
    return mean, inside(jnp.square(x - mean[:, None, None]), extent).sum(2).sum(1) / count


class BatchNorm(nnx.Module):
    """Batch normalisation with torch's conventions: momentum 0.1, eps 1e-5, unbiased running variance.

    At training the statistics are those of the global batch on any mesh.
    """

    def __init__(self, channels: int, *, epsilon: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.variance = nnx.BatchStat(jnp.ones(channels))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array, *, train: bool = False, extent: Extent = None) -> jax.Array:
        mean, variance = self.mean[...], self.variance[...]
        if train:
            if extent is not None:
                raise ValueError("batch statistics of a padded picture are not defined")
            y = x.astype(jnp.float32)
            mean = y.mean((0, 1, 2))
            variance = jnp.square(y - mean[None, None, None]).mean((0, 1, 2))
            count = x.size // x.shape[-1]
            self.mean[...] = 0.9 * self.mean[...] + 0.1 * mean
            self.variance[...] = 0.9 * self.variance[...] + 0.1 * variance * (count / (count - 1))
        factor = self.scale[...] * jax.lax.rsqrt(variance + self.epsilon)
        shift = self.bias[...] - mean * factor
        y = x.astype(jnp.float32) * factor[None, None, None] + shift[None, None, None]
        return y.astype(x.dtype)


def upsample_nearest(x: jax.Array) -> jax.Array:
    """Doubles height and width by repeating pixels."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def upsample_bilinear(x: jax.Array, convention: str, extent: Extent = None) -> jax.Array:
    """Doubles height and width by linear interpolation; `convention` says where pixels lie.

    For n pixels on an axis and pixel k of the result:
    * "legacy" (TensorFlow 1): at k / 2;
    * "half" (torch's default): at (k + 1/2) / 2 - 1/2;
    * "corners" (torch's `align_corners=True`): at k (n - 1) / (2n - 1).
    Beyond the edges lies the edge. With an `extent`, n is that of the extent.
    """
    sizes = x.shape[1:3] if extent is None else extent
    for axis, size in zip((1, 2), sizes, strict=True):
        at = jnp.arange(x.shape[axis])
        # Pixel 2m lies `back` before pixel m, and 2m + 1 lies `ahead` after it.
        if convention == "corners":
            back, ahead = at / (2 * size - 1), (size - 1 - at) / (2 * size - 1)
        else:
            first, second = {"legacy": (0.0, 0.5), "half": (0.25, 0.25)}[convention]
            back, ahead = jnp.where(at > 0, first, 0.0), jnp.where(at < size - 1, second, 0.0)
        x = _doubled(x, back.astype(x.dtype), ahead.astype(x.dtype), axis)
    return x


def _doubled(x: jax.Array, back: jax.Array, ahead: jax.Array, axis: int) -> jax.Array:
    """Between each pixel of an axis and its neighbours, by the shares of these; edges repeat."""
    size = x.shape[axis]
    cut = functools.partial(jax.lax.slice_in_dim, x, axis=axis)
    before = jnp.concatenate([cut(0, 1), cut(0, size - 1)], axis)
    after = jnp.concatenate([cut(1, size), cut(size - 1, size)], axis)
    back, ahead = (jnp.expand_dims(w, [a for a in range(4) if a != axis]) for w in (back, ahead))
    pair = x * (1 - back) + before * back, x * (1 - ahead) + after * ahead
    shape = list(x.shape)
    shape[axis] *= 2
    return jnp.stack(pair, axis + 1).reshape(shape)


def resize_corners(x: jax.Array, height: int, width: int) -> jax.Array:
    """Linear interpolation to any size, first and last pixels on each other (`align_corners`)."""
    for axis, target in ((1, height), (2, width)):
        size = x.shape[axis]
        at = np.arange(target) * ((size - 1) / max(target - 1, 1))
        low = np.minimum(at.astype(int), max(size - 2, 0))
        share = jnp.asarray(at - low, x.dtype)
        share = jnp.expand_dims(share, [a for a in range(4) if a != axis])
        high = jnp.take(x, np.minimum(low + 1, size - 1), axis=axis)
        x = jnp.take(x, low, axis=axis) * (1 - share) + high * share
    return x


@functools.cache
def compiler_options() -> dict[str, Any] | None:
    """Options for every top-level `jax.jit` of the package, or None where none are needed.

    XLA's default CPU path for convolutions (YNNPACK) is slow for padded, depthwise and gradient
    convolutions (measured 2-6x); this asks for the older path where the jaxlib knows the option.
    """
    if jax.default_backend() != "cpu":
        return None
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options)(0)
    except Exception:  # another jaxlib: unknown names raise various errors, and none may stop us
        return None
    return options


def jit(function, **kwargs):
    """`jax.jit` with the `compiler_options` of this backend: for top-level programs."""
    return jax.jit(function, compiler_options=compiler_options(), **kwargs)


def count_macs(function, *arguments) -> int:
    """Multiply-accumulates of the convolutions and matrix products that `function` would run."""
    return sum(_macs(e) for e in _equations(jax.make_jaxpr(function)(*arguments).jaxpr))


def count_activations(function, *arguments) -> int:
    """Bytes of all results of convolutions in `function`: what a backward pass about keeps alive."""
    return sum(
        e.outvars[0].aval.size * e.outvars[0].aval.dtype.itemsize
        for e in _equations(jax.make_jaxpr(function)(*arguments).jaxpr)
        if e.primitive.name == "conv_general_dilated"
    )


def _equations(jaxpr):
    """Every equation of a program, those of the programs that it calls included."""
    for equation in jaxpr.eqns:
        yield equation
        is_program = lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")  # noqa: E731
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
            if is_program(inner):
                yield from _equations(getattr(inner, "jaxpr", inner))


def _macs(equation) -> int:
    if equation.primitive.name not in ("conv_general_dilated", "dot_general"):
        return 0
    out = equation.outvars[0].aval
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        spec = equation.params["dimension_numbers"].rhs_spec  # (out, in, spatial...)
        # A dilated input (the gradient of a strided convolution) is zeros for the rest.
        zeros = math.prod(equation.params["lhs_dilation"])
        return out.size * kernel[spec[1]] * kernel[spec[2]] * kernel[spec[3]] // zeros
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return out.size * math.prod(shape[axis] for axis in contracted)
