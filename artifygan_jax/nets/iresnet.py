"""IResNet, the face embedding that ArcFace is trained with (Deng et al. 2019, arXiv:1801.07698).

Layers of InsightFace's `arcface_torch`: residual blocks that begin with a batch norm, for faces of
112x112 pixels.
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
from artifygan_jax.nets.ops import BatchNorm, Conv

SIZE = (112, 112)  # height, width
MAP = 7  # side of what is left of it
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3)}
WIDTHS = (1, 2, 4, 8)  # channels of the stages, in those of the first layer


@dataclasses.dataclass(unsafe_hash=True)
class Options:
    """`depth` 18, 34, 50 or 100; `channels` of the first layer; the length of the `embedding`."""

    depth: int = 50
    channels: int = 64
    embedding: int = 512

    def __post_init__(self):
        taps.check_choice("depth", self.depth, tuple(DEPTHS))


class Block(nnx.Module):
    """Norm, 3x3, norm, PReLU, 3x3 with the stride, norm; plus the input, itself or by 1x1 and norm."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs):
        self.norm1, self.norm2 = BatchNorm(inputs), BatchNorm(outputs)
        self.norm3 = BatchNorm(outputs)
        self.prelu = PReLU(outputs)
        self.conv1 = Conv(inputs, outputs, 3, bias=False, rngs=rngs)
        self.conv2 = Conv(outputs, outputs, 3, stride=stride, bias=False, rngs=rngs)
        if stride > 1:
            self.shortcut = Conv(inputs, outputs, 1, stride=stride, bias=False, rngs=rngs)
            self.shortcut_norm = BatchNorm(outputs)
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.conv1(self.norm1(x))
        y = self.norm3(self.conv2(self.prelu(self.norm2(y))))
        if self.stride > 1:
            x = self.shortcut_norm(self.shortcut(x))
        return x + y


class IResNet(nnx.Module):
    """A new one has random weights. Layers: `features` `[B, 7, 7, 512]` and `embedding` `[B, 512]`.

    Embeddings are compared by the cosine of the angle between them.
    """

    layers = ("features", "embedding")
    size = SIZE

    def __init__(self, options: Options, *, rngs: nnx.Rngs):
        self.options = options
        c = options.channels
        self.conv1, self.norm1 = Conv(3, c, 3, bias=False, rngs=rngs), BatchNorm(c)
        self.prelu = PReLU(c)
        stages, inputs = [], c
        for width, count in zip(WIDTHS, DEPTHS[options.depth], strict=True):
            outputs = width * c
            strides = [2] + [1] * (count - 1)
            widths = [inputs] + [outputs] * (count - 1)
            pairs = zip(widths, strides, strict=True)
            stages.append(nnx.List([Block(n, outputs, stride, rngs=rngs) for n, stride in pairs]))
            inputs = outputs
        self.stages = nnx.List(stages)
        self.norm2 = BatchNorm(inputs)
        self.linear = taps.Conv(inputs, options.embedding, MAP, padding="VALID", rngs=rngs)
        self.norm3 = BatchNorm(options.embedding)

    def __call__(
        self, images: jax.Array, layers: tuple[str, ...] = ("embedding",)
    ) -> dict[str, jax.Array]:
        """Faces `[B, 112, 112, 3]` in [-1, 1] RGB, upright and filling the picture -> the layers.

        A `UserError` for pictures of another size and for a layer that there is not.
        """
        path = taps.upto(self.layers, layers)
        if images.shape[1:3] != SIZE:
            height, width = images.shape[1:3]
            raise UserError(f"a face of {height}x{width} pixels; IResNet takes 112x112")
        x = self.prelu(self.norm1(self.conv1(images)))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        found = {"features": self.norm2(x)}
        if "embedding" in path:
            x = self.norm3(self.linear(found["features"]))
            found["embedding"] = x[:, 0, 0].astype(jnp.float32)
        return {name: found[name] for name in layers}


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> IResNet:
    """The net called `net` (only "iresnet") with `options` as in `Options`."""
    taps.check_choice("net", net, ("iresnet",))
    return IResNet(taps.parse(Options, options), rngs=rngs)
