"""How should StyleGAN2's modulated convolutions be computed? Forms of the plain one and the doubling.

    python bench/modconv.py --sizes=32x64x32,16x128x64 --batch=16

For a layer SIDExINPUTSxOUTPUTS of the generator: `modconv`, 3x3 with a style for each picture, and
`up_conv`, the shared 3x3 convolution that doubles the side, with its filter: one that multiplies
inputs by styles needs no other. `ratio` is the time of a form / that of the first.
"""

import argparse
from typing import Any

import _common as common
import _fir as fir
import _forms as forms
import jax
import jax.numpy as jnp
import numpy as np
from upfirdn import LIBRARY, composed

from artifygan_jax.nets import resample
from artifygan_jax.nets.ops import convolve

ONE = ((1, 1), (1, 1))


def options(parser: argparse.ArgumentParser) -> None:
    """The flags of this script."""
    forms.options(parser, "32x64x32,16x128x64")
    parser.add_argument("--what", default="modconv,up_conv")


def measure(args: argparse.Namespace, metric: str) -> dict[str, Any]:
    """All rows of one run."""
    rows, rng = [], np.random.default_rng(0)
    for (side, inputs, outputs), batch in forms.layers(args):
        x = rng.normal(size=(batch, side, side, inputs)).astype(np.float32)
        kernel = rng.normal(size=(3, 3, inputs, outputs)).astype(np.float32)
        kernel /= np.sqrt(9 * inputs)
        style = 1 + rng.normal(size=(batch, inputs)).astype(np.float32) / 2
        shape = f"{side}px {inputs}>{outputs} b{batch}"
        cases = {
            "modconv": (MODCONV, (x, {"kernel": kernel, "style": style})),
            "up_conv": (UP_CONV, (x, kernel)),
        }
        for name in args.what.split(","):
            rows += forms.measure(args, metric, f"{name} {shape}", *cases[name])
    return {"rows": rows, "notes": []}


def scaled(x, weights):
    """Inputs times styles, one convolution, outputs times demodulation."""
    kernel, style = weights["kernel"], weights["style"]
    norms = jnp.square(style) @ jnp.square(kernel).sum((0, 1))
    y = convolve(x * style[:, None, None], kernel, 1, ONE)
    return y * jax.lax.rsqrt(norms + 1e-8)[:, None, None]


def kernels(weights):
    """A kernel for each picture, `[B, 3, 3, I, O]`."""
    kernel = weights["kernel"][None] * weights["style"][:, None, None, :, None]
    return kernel * jax.lax.rsqrt(jnp.square(kernel).sum((1, 2, 3), keepdims=True) + 1e-8)


def grouped(x, weights):
    """Pictures side by side as channels, one convolution with a group for each."""
    b, h, w, i = x.shape
    kernel = kernels(weights)
    o = kernel.shape[-1]
    y = jax.lax.conv_general_dilated(
        x.transpose(1, 2, 0, 3).reshape(1, h, w, b * i),
        kernel.transpose(1, 2, 3, 0, 4).reshape(3, 3, i, b * o),
        (1, 1),
        ONE,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=b,
    )
    return y.reshape(h, w, b, o).transpose(2, 0, 1, 3)


def mapped(x, weights):
    """`jax.vmap` of a convolution over pictures and kernels."""
    return jax.vmap(lambda x, kernel: convolve(x[None], kernel, 1, ONE)[0])(x, kernels(weights))


def looped(x, weights):
    """One convolution after the other."""
    one = lambda _, pair: (None, convolve(pair[0][None], pair[1], 1, ONE)[0])  # noqa: E731
    return jax.lax.scan(one, None, (x, kernels(weights)))[1]


def dilated(filtered):
    """Zeros between the pixels by `lhs_dilation`, then the filter: as in the papers' code."""

    def form(x, kernel):
        y = jax.lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1],
            (1, 1),
            ((2, 2), (2, 2)),
            lhs_dilation=(2, 2),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return filtered(y, 1, 1, 4.0)

    return form


def from_depth(x):
    """`[B, H, W, 4C]` as `[B, 2H, 2W, C]`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, 2 * h, 2 * w, c // 4)


def margin(x):
    """One pixel of zeros around; 2x2 convolutions with padding of their own have a gradient by the
    kernel that takes a hundred times as long on CPU."""
    return fir.padded(x, 1, 1)


def cells(kernel, n: int):
    """A `2n x 2n` kernel over the doubled side as one of `n x n`, four times the outputs."""
    i, o = kernel.shape[2:]
    k = kernel.reshape(n, 2, n, 2, i, o)[::-1, :, ::-1]
    return k.transpose(0, 2, 4, 1, 3, 5).reshape(n, n, i, 4 * o)


def depth_2x2(filtered):
    """One 2x2 convolution to four times the outputs, these as 2x2 cells, then the filter.

    It gives a row and a column more than `dilated`, of zeros, which the filter's zeros count for.
    """

    def form(x, kernel):
        k = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
        return filtered(from_depth(convolve(margin(x), cells(k, 2))), 1, 0, 4.0)

    return form


def depth_2x2_phases(x, kernel):
    """The same; the filter goes over the cells, which are put in their places last."""
    k = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    y = convolve(margin(x), cells(k, 2))
    b, h, w, c = y.shape
    y = y.reshape(b, h, w, 2, 2, c // 4)
    for axis in (1, 2):
        even, odd = (y.take(p, axis=axis + 2) for p in (0, 1))
        n = even.shape[axis] - 1
        cut = lambda a, start: jax.lax.slice_in_dim(a, start, start + n, axis=axis)  # noqa: E731, B023
        before = cut(fir.padded(odd, 1, 0, (axis,)), 0)
        pair = (
            0.25 * (before + cut(even, 1)) + 0.75 * (cut(even, 0) + cut(odd, 0)),
            0.25 * (cut(even, 0) + cut(odd, 1)) + 0.75 * (cut(odd, 0) + cut(even, 1)),
        )
        y = jax.lax.optimization_barrier(jnp.stack(pair, axis + 2))
    return from_depth(y.reshape(b, h - 1, w - 1, c))


def four(filtered):
    """Four small convolutions, one for each place in a 2x2 cell, then the filter."""

    def form(x, kernel):
        wide = margin(x)
        n, rows = x.shape[1] + 1, []
        for i in (0, 1):
            columns = []
            for j in (0, 1):
                k = kernel[i::2, j::2][::-1, ::-1]
                part = wide[:, i : i + n + 1 - i, j : j + n + 1 - j]
                columns.append(convolve(part, k))
            rows.append(jnp.stack(columns, 3))
        y = jnp.stack(rows, 2)
        b, h, _, w, _, c = y.shape
        return filtered(y.reshape(b, 2 * h, 2 * w, c), 1, 0, 4.0)

    return form


def depth_3x3(x, kernel):
    """Kernel and filter as one: a 3x3 convolution to four times the outputs, these as 2x2 cells."""
    return from_depth(convolve(x, cells(composed(kernel, 4.0), 3), 1, ONE))


def up_first(x, kernel):
    """The filter doubles the inputs, then a plain 3x3 convolution."""
    for axis in (1, 2):
        n = x.shape[axis] + 1
        wide = fir.padded(x, 1, 1, (axis,))
        before, here = (wide[:, s : s + n] if axis == 1 else wide[:, :, s : s + n] for s in (0, 1))
        pair = (0.25 * here + 0.75 * before, 0.75 * here + 0.25 * before)
        shape = list(x.shape)
        shape[axis] = 2 * n
        x = jnp.stack(pair, axis + 1).reshape(shape)
    return convolve(x, kernel[::-1, ::-1])


MODCONV = {"scaled": scaled, "grouped": grouped, "vmap": mapped, "scan": looped}
UP_CONV = {
    LIBRARY: resample.up_conv,
    "dilated; shifts, two passes": dilated(fir.barriers),
    "dilated; shifts, own transpose": dilated(fir.own_transpose),
    "2x2 to depth; shifts, own transpose": depth_2x2(fir.own_transpose),
    "2x2 to depth; shifts, two passes": depth_2x2(fir.barriers),
    "2x2 to depth; banded matrices": depth_2x2(fir.matrices),
    "2x2 to depth; filter of cells": depth_2x2_phases,
    "four; shifts, own transpose": four(fir.own_transpose),
    "3x3 to depth": depth_3x3,
    "up, then 3x3": up_first,
    "dilated; depthwise": dilated(fir.depthwise),
}

if __name__ == "__main__":
    common.main(__doc__, options, measure)
