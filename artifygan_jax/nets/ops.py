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
from flax import nnx

Extent = tuple[Any, Any] | None


def pad(x: jax.Array, amount: int, mode: str, extent: Extent = None) -> jax.Array:
    """Pads height and width by `amount`: `mode` is "zero" or "reflect" (edge not repeated).

    With an `extent`, pads that part; `amount` must be smaller than its sides for "reflect".
    """
    if extent is None:
        if mode == "zero":
            return jnp.pad(x, ((0, 0), (amount, amount), (amount, amount), (0, 0)))
        return _reflect(_reflect(x, amount, 1), amount, 2)
    if mode == "zero":
        return pad(inside(x, extent), amount, "zero")
    for axis, size in zip((1, 2), extent, strict=True):
        at = jnp.abs(jnp.arange(-amount, x.shape[axis] + amount))
        at = jnp.where(at < size, at, 2 * (size - 1) - at)  # below 0 only where nothing is read
        x = jnp.take(x, jnp.clip(at, 0, x.shape[axis] - 1), axis=axis)
    return x


def _reflect(x: jax.Array, amount: int, axis: int) -> jax.Array:
    """Slices and one concatenation: on CPU faster than `jnp.pad(mode="reflect")`, with its result."""
    low = jnp.flip(jax.lax.slice_in_dim(x, 1, amount + 1, axis=axis), axis)
    size = x.shape[axis]
    high = jnp.flip(jax.lax.slice_in_dim(x, size - 1 - amount, size - 1, axis=axis), axis)
    return jnp.concatenate([low, x, high], axis)


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

    `padding` is "zero" or "reflect", (kernel - 1) / 2 on each side as in torch. The kernel starts as
    N(0, 0.02), as all CartoonGAN descendants have it, the bias as 0.
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
        rngs: nnx.Rngs,
    ):
        shape = (kernel, kernel, inputs, outputs)
        self.kernel = nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(outputs)) if bias else None
        self.stride, self.padding = stride, padding

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        amount = self.kernel.shape[0] // 2
        kernel = self.kernel[...]
        if self.padding == "zero":
            x = convolve(inside(x, extent), kernel, self.stride, ((amount, amount),) * 2)
        else:
            x = convolve(pad(x, amount, "reflect", extent), kernel, self.stride)
        return x if self.bias is None else x + _row(self.bias, x.dtype)


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

    Biased variance, as torch. Statistics are taken within `extent` where there is one.
    """

    def __init__(self, channels: int, *, epsilon: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.epsilon = epsilon

    def __call__(self, x: jax.Array, *, train: bool = False, extent: Extent = None) -> jax.Array:
        del train  # the same at training and at test
        mean, variance = moments(x, extent)
        return self.apply(x, mean, variance)

    def apply(self, x: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
        """Normalises by the given statistics `[B, C]`, as one multiply-add."""
        factor = self.scale[...][None] * jax.lax.rsqrt(variance + self.epsilon)
        shift = self.bias[...][None] - mean * factor
        y = x.astype(jnp.float32) * factor[:, None, None] + shift[:, None, None]
        return y.astype(x.dtype)


def moments(x: jax.Array, extent: Extent = None) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance `[B, C]` float32 of each channel over the pixels within `extent`.

    Two passes: E[x^2] - E[x]^2 in float32 loses the digits that the golden outputs ask for.
    """
    x = x.astype(jnp.float32)
    if extent is None:
        mean = x.mean((1, 2))
        return mean, jnp.square(x - mean[:, None, None]).mean((1, 2))
    count = jnp.asarray(extent[0] * extent[1], jnp.float32)
    mean = inside(x, extent).sum((1, 2)) / count
    return mean, inside(jnp.square(x - mean[:, None, None]), extent).sum((1, 2)) / count


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
    out = equation.outvars[0].aval
    if equation.primitive.name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        spec = equation.params["dimension_numbers"].rhs_spec  # (out, in, spatial...)
        # A dilated input (the gradient of a strided convolution) is zeros for the rest.
        zeros = math.prod(equation.params["lhs_dilation"])
        return out.size * kernel[spec[1]] * kernel[spec[2]] * kernel[spec[3]] // zeros
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return out.size * math.prod(shape[axis] for axis in contracted)
    return 0
