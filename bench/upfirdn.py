"""How should StyleGAN2 filter and resample? Forms of the filter, of `up`, `down` and the down-conv.

    python bench/upfirdn.py --sizes=64x32x64,32x64x128 --batch=16

For a layer SIDExINPUTSxOUTPUTS of the discriminator: the filter on the inputs, pictures doubled
(`up`, three channels), pictures or features halved (`down`), and the 3x3 convolution of stride 2
behind the filter (`down_conv`). `ratio` is the time of a form / that of the first.
"""

import argparse
from typing import Any

import _common as common
import _fir as fir
import _forms as forms
import jax.numpy as jnp
import numpy as np

from artifygan_jax.nets import resample
from artifygan_jax.nets.ops import convolve


def options(parser: argparse.ArgumentParser) -> None:
    """The flags of this script."""
    forms.options(parser, "64x32x64,32x64x128")
    parser.add_argument("--what", default="fir,up,down,down_conv")


def measure(args: argparse.Namespace, metric: str) -> dict[str, Any]:
    """All rows of one run."""
    rows, rng = [], np.random.default_rng(0)
    for (side, inputs, outputs), batch in forms.layers(args):
        x = rng.normal(size=(batch, side, side, inputs)).astype(np.float32)
        kernel = rng.normal(size=(3, 3, inputs, outputs)).astype(np.float32)
        shape = f"{side}px {inputs}>{outputs} b{batch}"
        cases = {
            "fir": (FIR, (x, ())),
            "up": (UP, (x[..., :3], ())),
            "down": (DOWN, (x, ())),
            "down_conv": (DOWN_CONV, (x, kernel / np.sqrt(9 * inputs))),
        }
        for name in args.what.split(","):
            rows += forms.measure(args, metric, f"{name} {shape}", *cases[name])
    return {"rows": rows, "notes": []}


def to_depth(x):
    """`[B, 2H, 2W, C]` as `[B, H, W, 4C]`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // 2, w // 2, 4 * c)


def composed(kernel, gain: float = 1.0):
    """A 3x3 kernel and the filter as one 6x6 kernel."""
    for axis in (0, 1):
        parts = []
        for i, tap in enumerate(fir.TAPS):
            room = [(0, 0)] * 4
            room[axis] = (i, 3 - i)
            parts.append(gain**0.5 * tap * jnp.pad(kernel, room))
        kernel = sum(parts)
    return kernel


def strided(filtered):
    """The filter, then a convolution of stride 2: as it is written in the papers' code."""
    return lambda x, kernel: convolve(filtered(x, 2, 2), kernel, 2)


def depth_2x2(filtered):
    """The filter, then 2x2 cells as channels and a 2x2 convolution of four times the inputs."""

    def form(x, kernel):
        i, o = kernel.shape[2:]
        k = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0))).reshape(2, 2, 2, 2, i, o)
        k = k.transpose(0, 2, 1, 3, 4, 5).reshape(2, 2, 4 * i, o)
        return convolve(to_depth(filtered(x, 2, 3)), k)

    return form


def phases(filtered):
    """The filter, then four small convolutions of every second row and column, summed."""

    def form(x, kernel):
        y = filtered(x, 2, 3)
        n = x.shape[1] // 2
        total = 0.0
        for i in (0, 1):
            for j in (0, 1):
                part = y[:, i : i + 2 * (n + 1 - i) : 2, j : j + 2 * (n + 1 - j) : 2]
                total = total + convolve(part, kernel[i::2, j::2])
        return total

    return form


def six(x, kernel):
    """One 6x6 convolution of stride 2."""
    return convolve(x, composed(kernel), 2, ((2, 2), (2, 2)))


def depth_3x3(x, kernel):
    """One 3x3 convolution of 2x2 cells."""
    i, o = kernel.shape[2:]
    k = composed(kernel).reshape(3, 2, 3, 2, i, o).transpose(0, 2, 1, 3, 4, 5)
    return convolve(to_depth(x), k.reshape(3, 3, 4 * i, o), 1, ((1, 1), (1, 1)))


def up_phases(x, _):
    """Pairs of neighbours at a quarter and three quarters."""
    for axis in (1, 2):
        n = x.shape[axis]
        wide = fir.padded(x, 1, 1, (axis,))
        before, after = (wide[:, s : s + n] if axis == 1 else wide[:, :, s : s + n] for s in (0, 2))
        pair = [0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after]
        shape = list(x.shape)
        shape[axis] *= 2
        x = jnp.stack(pair, axis + 1).reshape(shape)
    return x


def up_zeros(filtered):
    """Zeros between the pixels, then the filter."""

    def form(x, _):
        b, h, w, c = x.shape
        y = jnp.zeros((b, h, 2, w, 2, c), x.dtype).at[:, :, 0, :, 0].set(x)
        return filtered(y.reshape(b, 2 * h, 2 * w, c), 2, 1, 4.0)

    return form


def down_whole(filtered):
    """The filter, of which three quarters are thrown away."""
    return lambda x, _: filtered(x, 1, 1)[:, ::2, ::2]


def down_phases(x, _):
    """Rows and columns in pairs, and the outer neighbours of each pair."""
    for axis in (1, 2):
        shape = list(x.shape)
        shape[axis : axis + 1] = [x.shape[axis] // 2, 2]
        cells = x.reshape(shape)
        first, second = (cells.take(i, axis=axis + 1) for i in (0, 1))
        n = shape[axis]
        left = fir.padded(second, 1, 0, (axis,))
        right = fir.padded(first, 0, 1, (axis,))
        left = left[:, :n] if axis == 1 else left[:, :, :n]
        right = right[:, 1:] if axis == 1 else right[:, :, 1:]
        x = 0.375 * (first + second) + 0.125 * (left + right)
    return x


def down_strided(x, _):
    """Four strided multiply-adds on each axis."""
    for axis in (1, 2):
        wide, n = fir.padded(x, 1, 1, (axis,)), x.shape[axis] // 2
        parts = (
            [wide[:, i : i + 2 * n - 1 : 2] for i in range(4)]
            if axis == 1
            else [wide[:, :, i : i + 2 * n - 1 : 2] for i in range(4)]
        )
        x = 0.125 * (parts[0] + parts[3]) + 0.375 * (parts[1] + parts[2])
    return x


def down_matrices(x, _):
    """A product with a banded matrix on each axis."""
    for axis in (1, 2):
        n = x.shape[axis]
        band = np.zeros((n, n // 2), np.float32)
        for j in range(n // 2):
            for i, tap in enumerate(fir.TAPS):
                if 0 <= 2 * j + i - 1 < n:
                    band[2 * j + i - 1, j] = tap
        x = jnp.einsum("bhwc,hk->bkwc" if axis == 1 else "bhwc,wk->bhkc", x, band.astype(x.dtype))
    return x


LIBRARY = "the library's"
FIR = {
    LIBRARY: lambda x, _: resample.fir(x, 2),
    **{name: lambda x, _, f=f: f(x, 2, 2) for name, f in fir.FORMS.items()},
}
UP = {
    LIBRARY: lambda x, _: resample.up(x),
    "phases": up_phases,
    "zeros, shifts": up_zeros(fir.barriers),
    "zeros, depthwise": up_zeros(fir.depthwise),
}
DOWN = {
    LIBRARY: lambda x, _: resample.down(x),
    "strided shifts": down_strided,
    "pairs": down_phases,
    "banded matrices": down_matrices,
    "all of shifts": down_whole(fir.barriers),
    "all of depthwise": down_whole(fir.depthwise),
}
DOWN_CONV = {
    LIBRARY: resample.down_conv,
    **{f"{name}; stride 2": strided(f) for name, f in fir.FORMS.items() if name != "shifts"},
    "shifts, own transpose; 2x2 of depth": depth_2x2(fir.own_transpose),
    "shifts, two passes; 2x2 of depth": depth_2x2(fir.barriers),
    "banded matrices; 2x2 of depth": depth_2x2(fir.matrices),
    "shifts, own transpose; phases": phases(fir.own_transpose),
    "6x6 stride 2": six,
    "3x3 of depth": depth_3x3,
}

if __name__ == "__main__":
    common.main(__doc__, options, measure)
