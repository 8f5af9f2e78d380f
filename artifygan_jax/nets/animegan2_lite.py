"""AnimeGANv2's lite generator: a U of 698,240 parameters and 7.15 GMAC at 256 px, for 32 channels.

An encoder to an eighth of the size, four bottleneck residual blocks, and three steps of bilinear
up-sampling, each with the encoder's maps added. Padding, norms and activations are AnimeGANv2's. Its
discriminator is that of `nets.animegan`.
Differs: weights of the original were only published for TensorFlow 1 and have not been compared; the
places of the sums are those of AnimeGANv3, which has the same decoder.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax.errors import UserError
from artifygan_jax.nets.animegan import UPSAMPLINGS, LayerNames, check_sides, chosen
from artifygan_jax.nets.animegan2 import Block, he
from artifygan_jax.nets.cartoongan import choose
from artifygan_jax.nets.ops import Conv, Extent, scaled, upsample_bilinear


@dataclasses.dataclass(unsafe_hash=True)
class GeneratorOptions:
    """What a generator is: channels of the first layer, and the bilinear interpolation."""

    channels: int = 32
    upsampling: str = "legacy"
    norm_epsilon: float = 1e-5

    def check(self) -> None:
        """Raises `UserError` for a value outside the choices above."""
        choose("upsampling", self.upsampling, UPSAMPLINGS)
        if self.channels < 1:
            raise UserError(f"a generator of {self.channels} channels; needs at least 1")


class Bottleneck(nnx.Module):
    """1x1 to a quarter of the channels, 3x3, 1x1 back without a norm; plus the input."""

    def __init__(self, channels: int, epsilon: float, *, rngs: nnx.Rngs):
        middle = channels // 4
        self.squeeze = Block(channels, middle, 1, 1, epsilon, rngs=rngs)
        self.conv = Block(middle, middle, 3, 1, epsilon, rngs=rngs)
        deviation = he(1, middle)
        self.expand = Conv(middle, channels, 1, bias=False, deviation=deviation, rngs=rngs)

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        return x + self.expand(self.conv(self.squeeze(x, extent), extent))


class Step(nnx.Module):
    """Two blocks: on the way down the first halves the size, on the way up it is doubled before."""

    def __init__(
        self,
        sizes: tuple[int, int, int],
        epsilon: float,
        *,
        stride: int = 1,
        kernel: int = 3,
        rngs: nnx.Rngs,
    ):
        inputs, middle, outputs = sizes
        self.conv1 = Block(inputs, middle, 3, stride, epsilon, rngs=rngs)
        self.conv2 = Block(middle, outputs, kernel, 1, epsilon, rngs=rngs)

    def __call__(self, x: jax.Array, extent: Extent, skip: jax.Array | None = None) -> jax.Array:
        """`skip` is added between the two."""
        x = self.conv1(x, extent)
        x = x if skip is None else x + skip
        return self.conv2(x, scaled(extent, -self.conv1.stride))


class Generator(nnx.Module):
    """Photo in, cartoon out: `[B, H, W, 3]` in [-1, 1], the same size; sides are multiples of 8.

    `extent` as in `nets.ops`, multiples of 8.
    """

    multiple = 8

    def __init__(self, options: GeneratorOptions, *, rngs: nnx.Rngs):
        options.check()
        self.options = options
        c, e = options.channels, options.norm_epsilon
        self.stem = Block(3, c, 7, 1, e, rngs=rngs)
        down = [(c, c, 2 * c), (2 * c, 2 * c, 4 * c), (4 * c, 2 * c, 4 * c)]
        self.down = nnx.List([Step(sizes, e, stride=2, rngs=rngs) for sizes in down])
        self.blocks = nnx.List([Bottleneck(4 * c, e, rngs=rngs) for _ in range(4)])
        up = [(4 * c, 4 * c, 2 * c, 3), (2 * c, 2 * c, c, 3), (c, c, c, 7)]
        self.up = nnx.List([Step((i, m, o), e, kernel=k, rngs=rngs) for i, m, o, k in up])
        self.out = Conv(c, 3, 1, bias=False, deviation=he(1, c), rngs=rngs)
        # What a run holds at once, in full-size channels (XLA's plan at 512 px): for `inference`.
        self.width = 3 * c // 2

    def __call__(self, x: jax.Array, *, train: bool = False, extent: Extent = None) -> jax.Array:
        return self.features(x, train=train, extent=extent)["image"]

    def features(
        self, x: jax.Array, *, train: bool = False, extent: Extent = None
    ) -> dict[str, jax.Array]:
        """Every stage by name: stem, down0 to down2, block0 to block3, up0 to up2, image."""
        del train  # the same at training and at test
        check_sides(x, self.multiple)
        x = self.stem(x, extent)
        out, skips = {"stem": x}, []
        for i, down in enumerate(self.down):
            skips.append(x)
            x = out[f"down{i}"] = down(x, extent)
            extent = scaled(extent, -2)
        for i, block in enumerate(self.blocks):
            x = out[f"block{i}"] = block(x, extent)
        for i, up in enumerate(self.up):
            x, extent = upsample_bilinear(x, self.options.upsampling, extent), scaled(extent, 2)
            x = out[f"up{i}"] = up(x, extent, skips.pop())
        out["image"] = jnp.tanh(self.out(x))
        return out

    def layer_names(self) -> LayerNames:
        """stem, down0 to down2, block0 to block3, up0 to up2, out: the first four encode."""
        names = [("stem", r"stem/.*"), *((f"down{i}", rf"down/{i}/.*") for i in range(3))]
        names += [(f"block{i}", rf"blocks/{i}/.*") for i in range(4)]
        return (*names, *((f"up{i}", rf"up/{i}/.*") for i in range(3)), ("out", r"out/.*"))


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> nnx.Module:
    """The net called "generator" with `options` over the defaults."""
    choose("net", net, ("generator",))
    return Generator(chosen("animegan2_lite generator", GeneratorOptions, options), rngs=rngs)
