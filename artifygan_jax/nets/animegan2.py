"""AnimeGANv2's generator (Xin Chen, TensorFlow 1), as `bryandlee/animegan2-pytorch` ported it.

2,143,552 parameters and 26.28 GMAC at 256 px for 32 channels: an encoder to a quarter of the size,
inverted residual blocks, and a decoder of bilinear up-sampling. Every convolution has reflect padding
and a layer norm over pixels and channels, but for the last. Its discriminator is that of
`nets.animegan` with layer norm.
Differs: kernels are drawn from a normal of He's deviation, which TensorFlow cuts at two deviations.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax.errors import UserError
from artifygan_jax.nets.animegan import LayerNames, chosen
from artifygan_jax.nets.cartoongan import choose
from artifygan_jax.nets.ops import (
    Conv,
    Depthwise,
    Extent,
    LayerNorm,
    resize_corners,
    scaled,
    upsample_bilinear,
)

SLOPE = 0.2
# Named blocks in order: group and index; for c, 1 to 4 are the inverted residuals.
BLOCKS = {"a": 3, "b": 2, "c": 6, "d": 2, "e": 3}


@dataclasses.dataclass(unsafe_hash=True)
class GeneratorOptions:
    """What a generator is: channels of the first layer, and which bilinear interpolation.

    `upsampling`: "corners", to the encoder's size, is that of the PyTorch weights; "legacy" that of
    TensorFlow's; "half" torch's other (`ops.upsample_bilinear`). TensorFlow's norms have epsilon 1e-12.
    """

    channels: int = 32
    upsampling: str = "corners"
    norm_epsilon: float = 1e-5

    def check(self) -> None:
        """Raises `UserError` for a value outside the choices above."""
        choose("upsampling", self.upsampling, ("corners", "legacy", "half"))
        if self.channels < 1:
            raise UserError(f"a generator of {self.channels} channels; needs at least 1")


def he(kernel: int, inputs: int) -> float:
    """The deviation of a kernel before a ReLU (He et al., arXiv:1502.01852)."""
    return math.sqrt(2 / (kernel**2 * inputs))


class Block(nnx.Module):
    """Convolution without bias, layer norm, leaky ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, epsilon: float, *, rngs: nnx.Rngs
    ):
        self.conv = Conv(
            inputs,
            outputs,
            kernel,
            stride=stride,
            padding="reflect",
            bias=False,
            deviation=he(kernel, inputs),
            rngs=rngs,
        )
        self.norm = LayerNorm(outputs, epsilon=epsilon)
        self.stride = stride

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        x = self.conv(x, extent)
        return jax.nn.leaky_relu(self.norm(x, extent=scaled(extent, -self.stride)), SLOPE)


class Inverted(nnx.Module):
    """Inverted residual: 1x1 to twice the channels, depthwise 3x3, 1x1; plus the input if it fits."""

    stride = 1

    def __init__(self, inputs: int, outputs: int, epsilon: float, *, rngs: nnx.Rngs):
        middle = 2 * inputs
        self.expand = Block(inputs, middle, 1, 1, epsilon, rngs=rngs)
        self.depthwise = Depthwise(middle, padding="reflect", deviation=he(3, 1), rngs=rngs)
        self.depthwise_norm = LayerNorm(middle, epsilon=epsilon)
        self.project = Conv(middle, outputs, 1, bias=False, deviation=he(1, middle), rngs=rngs)
        self.project_norm = LayerNorm(outputs, epsilon=epsilon)

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        y = self.depthwise(self.expand(x, extent), extent)
        y = jax.nn.leaky_relu(self.depthwise_norm(y, extent=extent), SLOPE)
        y = self.project_norm(self.project(y), extent=extent)
        return x + y if x.shape == y.shape else y


class Generator(nnx.Module):
    """Photo in, cartoon out: `[B, H, W, 3]` in [-1, 1], the same size.

    Sides of at least 8. Any side gives its own size with "corners"; with the others it is rounded
    down to a multiple of 4, as the originals do. `extent` as in `nets.ops`, multiples of 4.
    """

    multiple = 4

    def __init__(self, options: GeneratorOptions, *, rngs: nnx.Rngs):
        options.check()
        self.options = options
        c, e = options.channels, options.norm_epsilon

        def block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> Block:
            return Block(inputs, outputs, kernel, stride, e, rngs=rngs)

        self.a = nnx.List([block(3, c, 7), block(c, 2 * c, stride=2), block(2 * c, 2 * c)])
        self.b = nnx.List([block(2 * c, 4 * c, stride=2), block(4 * c, 4 * c)])
        inverted = [Inverted(min(i, 2) * 4 * c, 8 * c, e, rngs=rngs) for i in (1, 2, 3, 4)]
        self.c = nnx.List([block(4 * c, 4 * c), *inverted, block(8 * c, 4 * c)])
        self.d = nnx.List([block(4 * c, 4 * c), block(4 * c, 4 * c)])
        self.e = nnx.List([block(4 * c, 2 * c), block(2 * c, 2 * c), block(2 * c, c, 7)])
        self.out = Conv(c, 3, 1, bias=False, deviation=he(1, c), rngs=rngs)
        # What a run holds at once, in full-size channels (XLA's plan at 512 px): for `inference`.
        self.width = 3 * c

    def __call__(self, x: jax.Array, *, train: bool = False, extent: Extent = None) -> jax.Array:
        return self.features(x, train=train, extent=extent)["image"]

    def features(
        self, x: jax.Array, *, train: bool = False, extent: Extent = None
    ) -> dict[str, jax.Array]:
        """The five groups of blocks by name, a to e, and the image."""
        del train  # the same at training and at test
        out = {}
        whole = x.shape
        x, extent = _through(self.a, x, extent)
        out["a"], middle = x, x.shape
        x, extent = _through(self.b, x, extent)
        out["b"] = x
        x, extent = _through(self.c, x, extent)
        out["c"] = x
        x, extent = self._up(x, middle, extent)
        x, extent = _through(self.d, x, extent)
        out["d"] = x
        x, extent = self._up(x, whole, extent)
        out["e"], _ = _through(self.e, x, extent)
        out["image"] = jnp.tanh(self.out(out["e"]))
        return out

    def _up(self, x: jax.Array, like: tuple[int, ...], extent: Extent) -> tuple[jax.Array, Extent]:
        """`x` at twice its size; "corners" reaches the size `like` that was rounded down too."""
        doubled = 2 * x.shape[1], 2 * x.shape[2]
        if self.options.upsampling == "corners" and doubled != like[1:3]:
            return resize_corners(x, *like[1:3]), None
        return upsample_bilinear(x, self.options.upsampling, extent), scaled(extent, 2)

    def layer_names(self) -> LayerNames:
        """a0, a1, a2, b0, b1: the encoder, 282,016 parameters; c0 to c5, d0, d1, e0 to e2, out."""
        names = [(f"{k}{i}", rf"{k}/{i}/.*") for k, count in BLOCKS.items() for i in range(count)]
        return (*names, ("out", r"out/.*"))


def _through(blocks, x: jax.Array, extent: Extent) -> tuple[jax.Array, Extent]:
    """`x` and its extent through the blocks one after the other."""
    for block in blocks:
        x = block(x, extent)
        extent = scaled(extent, -block.stride)
    return x, extent


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> nnx.Module:
    """The net called "generator" with `options` over the defaults."""
    choose("net", net, ("generator",))
    return Generator(chosen("animegan2 generator", GeneratorOptions, options), rngs=rngs)
