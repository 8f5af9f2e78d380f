"""MobileFaceNet, a small face embedding (Chen et al. 2018, arXiv:1804.07573): who is it?

Layers of `Xiaoccer/MobileFaceNet_Pytorch`, for pictures 112 high and 96 wide: 44 convolutions
without bias, a batch norm behind each, a PReLU behind most.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax.errors import UserError
from artifygan_jax.nets import _taps as taps
from artifygan_jax.nets.mtcnn import PReLU
from artifygan_jax.nets.ops import BatchNorm, Conv, Depthwise

SIZE = (112, 96)  # height, width
MAP = (7, 6)  # what is left of it before the last depthwise convolution
# Bottlenecks: (expansion, channels in those of the first layer, how many, stride of the first).
STAGES = ((2, 1, 5, 2), (4, 2, 1, 2), (2, 2, 6, 1), (4, 2, 1, 2), (2, 2, 2, 1))
WIDE = 8  # channels of the last map, in those of the first layer


@dataclasses.dataclass(unsafe_hash=True)
class Options:
    """`channels` of the first layer, and the length of the `embedding`."""

    channels: int = 64
    embedding: int = 128


class Unit(nnx.Module):
    """A convolution without bias, batch norm and, unless `linear`, a PReLU."""

    def __init__(self, conv: nnx.Module, channels: int, *, linear: bool = False):
        self.conv, self.norm = conv, BatchNorm(channels)
        self.prelu = None if linear else PReLU(channels)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.norm(self.conv(x))
        return x if self.prelu is None else self.prelu(x)


class Bottleneck(nnx.Module):
    """1x1 to more channels, 3x3 depthwise, 1x1 back; plus the input where shapes are the same."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, *, rngs: nnx.Rngs):
        middle = inputs * expansion
        depthwise = Depthwise(middle, stride=stride, bias=False, rngs=rngs)
        self.expand = Unit(Conv(inputs, middle, 1, bias=False, rngs=rngs), middle)
        self.depthwise = Unit(depthwise, middle)
        project = Conv(middle, outputs, 1, bias=False, rngs=rngs)
        self.project = Unit(project, outputs, linear=True)
        self.skip = stride == 1 and inputs == outputs

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


class Whole(nnx.Module):
    """Depthwise convolution with a kernel as large as the map: `[B, 7, 6, C]` to `[B, 1, 1, C]`."""

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.kernel = nnx.Param(0.02 * jax.random.normal(rngs.params(), (*MAP, 1, channels)))

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel[...][:, :, 0].astype(x.dtype)
        return (x * kernel[None]).sum((1, 2), keepdims=True)


class MobileFaceNet(nnx.Module):
    """A new one has random weights. Layers: `features` `[B, 7, 6, 512]` and `embedding` `[B, 128]`.

    Embeddings are compared by the cosine of the angle between them; from which value on two faces
    are one person depends on the weights and on how faces are cropped, so measure it.
    """

    layers = ("features", "embedding")
    size = SIZE

    def __init__(self, options: Options, *, rngs: nnx.Rngs):
        self.options = options
        c = options.channels
        self.conv1 = Unit(Conv(3, c, 3, stride=2, bias=False, rngs=rngs), c)
        self.dw_conv1 = Unit(Depthwise(c, bias=False, rngs=rngs), c)
        blocks, inputs = [], c
        for expansion, width, count, stride in STAGES:
            for n in range(count):
                first = stride if n == 0 else 1
                blocks.append(Bottleneck(inputs, width * c, expansion, first, rngs=rngs))
                inputs = width * c
        self.blocks = nnx.List(blocks)
        wide = WIDE * c
        self.conv2 = Unit(Conv(inputs, wide, 1, bias=False, rngs=rngs), wide)
        self.linear7 = Unit(Whole(wide, rngs=rngs), wide, linear=True)
        last = Conv(wide, options.embedding, 1, bias=False, rngs=rngs)
        self.linear1 = Unit(last, options.embedding, linear=True)

    def __call__(
        self, images: jax.Array, layers: tuple[str, ...] = ("embedding",)
    ) -> dict[str, jax.Array]:
        """Faces `[B, 112, 96, 3]` in [-1, 1] RGB, upright and filling the picture -> the layers.

        A `UserError` for pictures of another size and for a layer that there is not.
        """
        path = taps.upto(self.layers, layers)
        if images.shape[1:3] != SIZE:
            height, width = images.shape[1:3]
            raise UserError(
                f"a face of {height}x{width} pixels; MobileFaceNet takes {SIZE[0]} high, {SIZE[1]} wide"
            )
        x = images * (127.5 / 128)  # the weights were trained on (value - 127.5) / 128
        x = self.dw_conv1(self.conv1(x))
        for block in self.blocks:
            x = block(x)
        found = {"features": self.conv2(x)}
        if "embedding" in path:
            x = self.linear1(self.linear7(found["features"]))
            found["embedding"] = x[:, 0, 0].astype(jnp.float32)
        return {name: found[name] for name in layers}


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> MobileFaceNet:
    """The net called `net` (only "mobilefacenet") with `options` as in `Options`."""
    taps.check_choice("net", net, ("mobilefacenet",))
    return MobileFaceNet(taps.parse(Options, options), rngs=rngs)
