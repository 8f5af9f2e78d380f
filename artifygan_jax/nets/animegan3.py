"""AnimeGANv3's generator as it ships (Liu, Chen, Liu, IEICE 2024): encoder, attention, main decoder.

1,027,520 parameters and 7.39 GMAC at 256 px, for 32 channels. Every convolution but the last is
followed by a linearly adaptive denormalisation (LADE) and a leaky ReLU. The second decoder, which
only training has, and its losses are not here.
Differs: checked against the published counts and an oracle in torch, not against weights of the
authors; the interpolation, which no text names, is TensorFlow's "legacy" unless asked otherwise; at
training the attention's batch norm moves its statistics by 0.1, not 0.001, a step.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax.errors import UserError
from artifygan_jax.nets.animegan import SLOPE, UPSAMPLINGS, LayerNames, check_sides, chosen
from artifygan_jax.nets.animegan2 import he
from artifygan_jax.nets.cartoongan import choose
from artifygan_jax.nets.ops import (
    BatchNorm,
    Conv,
    Extent,
    convolve,
    inside,
    moments,
    pad,
    scaled,
    upsample_bilinear,
)


@dataclasses.dataclass(unsafe_hash=True)
class GeneratorOptions:
    """What a generator is: channels of the first layer, and the bilinear interpolation."""

    channels: int = 32
    upsampling: str = "legacy"

    def check(self) -> None:
        """Raises `UserError` for a value outside the choices above."""
        choose("upsampling", self.upsampling, UPSAMPLINGS)
        if self.channels < 1:
            raise UserError(f"a generator of {self.channels} channels; needs at least 1")


def pointwise(inputs: int, outputs: int, *, rngs: nnx.Rngs) -> Conv:
    """1x1 convolution without bias."""
    return Conv(inputs, outputs, 1, bias=False, deviation=he(1, inputs), rngs=rngs)


class Block(nnx.Module):
    """Convolution, LADE, leaky ReLU: the norm's scale and shift are the statistics of a 1x1 of it.

    An odd row or column of padding is on the top and left, unlike AnimeGANv2's.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, rngs: nnx.Rngs
    ):
        deviation = he(kernel, inputs)
        self.conv = Conv(inputs, outputs, kernel, bias=False, deviation=deviation, rngs=rngs)
        self.adapt = pointwise(outputs, outputs, rngs=rngs)
        self.stride = stride

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        kernel = self.conv.kernel[...]
        total = kernel.shape[0] - self.stride
        x = pad(x, (total - total // 2, total // 2), "reflect", extent)
        x, extent = convolve(x, kernel, self.stride), scaled(extent, -self.stride)
        mean, variance = moments(x, extent)
        wanted, square = moments(self.adapt(x), extent)
        factor = jnp.sqrt((square + 1e-5) / (variance + 1e-5))
        shift = wanted - mean * factor
        y = x.astype(jnp.float32) * factor[:, None, None] + shift[:, None, None]
        return jax.nn.leaky_relu(y.astype(x.dtype), SLOPE)


class ExternalAttention(nnx.Module):
    """Attention to a learned memory in place of the picture itself (Guo et al., arXiv:2105.02358).

    1x1; softmax over positions of the products with the memory, made to sum to 1 over its rows; the
    memory in these shares; 1x1, batch norm; plus the input, leaky ReLU.
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.query = pointwise(channels, channels, rngs=rngs)
        deviation = he(1, channels)
        self.memory = nnx.Param(deviation * jax.random.normal(rngs.params(), (channels, channels)))
        self.project = pointwise(channels, channels, rngs=rngs)
        self.norm = BatchNorm(channels, epsilon=1e-3)

    def __call__(self, x: jax.Array, extent: Extent = None, *, train: bool = False) -> jax.Array:
        memory = self.memory[...]
        scores = jnp.einsum("bhwc,cs->bhws", self.query(x).astype(jnp.float32), memory)
        # Softmax over positions, room excluded; the largest is taken out of the exponents.
        top = scores.max((1, 2), keepdims=True)
        shares = inside(jnp.exp(scores - jax.lax.stop_gradient(top)), extent)
        shares = shares / shares.sum((1, 2), keepdims=True)
        shares = shares / (1e-9 + shares.sum(3, keepdims=True))
        y = jnp.einsum("bhws,cs->bhwc", shares, memory).astype(x.dtype)
        y = self.norm(self.project(y), train=train, extent=extent)
        return jax.nn.leaky_relu(x + y, SLOPE)


class Generator(nnx.Module):
    """Photo in, cartoon out: `[B, H, W, 3]` in [-1, 1], the same size; sides are multiples of 8.

    `extent` as in `nets.ops`, multiples of 8.
    """

    multiple = 8

    def __init__(self, options: GeneratorOptions, *, rngs: nnx.Rngs):
        options.check()
        self.options = options
        c = options.channels
        self.stem = Block(3, c, 7, rngs=rngs)
        down = [(c, c, 2 * c), (2 * c, 2 * c, 4 * c), (4 * c, 4 * c, 4 * c)]
        self.down = nnx.List(
            nnx.List([Block(i, m, stride=2, rngs=rngs), Block(m, o, rngs=rngs)]) for i, m, o in down
        )
        self.attention = ExternalAttention(4 * c, rngs=rngs)
        up = [(4 * c, 4 * c), (4 * c, 2 * c), (2 * c, c)]
        self.up = nnx.List(
            nnx.List([Block(i, o, rngs=rngs), Block(o, o, rngs=rngs)]) for i, o in up
        )
        deviation = he(7, c)
        self.out = Conv(c, 3, 7, padding="reflect", bias=False, deviation=deviation, rngs=rngs)
        # What a run holds at once, in full-size channels (XLA's plan at 512 px): for `inference`.
        self.width = 5 * c // 2

    def __call__(self, x: jax.Array, *, train: bool = False, extent: Extent = None) -> jax.Array:
        return self.features(x, train=train, extent=extent)["image"]

    def features(
        self, x: jax.Array, *, train: bool = False, extent: Extent = None
    ) -> dict[str, jax.Array]:
        """Every stage by name: stem, down0 to down2, attention, up0 to up2, image."""
        check_sides(x, self.multiple)
        x = self.stem(x, extent)
        out, skips = {"stem": x}, []
        for i, (first, second) in enumerate(self.down):
            skips.append(x)
            x, extent = first(x, extent), scaled(extent, -2)
            x = out[f"down{i}"] = second(x, extent)
        x = out["attention"] = self.attention(x, extent, train=train)
        for i, (first, second) in enumerate(self.up):
            x, extent = upsample_bilinear(x, self.options.upsampling, extent), scaled(extent, 2)
            x = out[f"up{i}"] = second(first(x, extent) + skips.pop(), extent)
        out["image"] = jnp.tanh(self.out(x, extent))
        return out

    def layer_names(self) -> LayerNames:
        """stem, down0 to down2, attention, up0 to up2, out: the first four encode."""
        names = [("stem", r"stem/.*"), *((f"down{i}", rf"down/{i}/.*") for i in range(3))]
        names.append(("attention", r"attention/.*"))
        return (*names, *((f"up{i}", rf"up/{i}/.*") for i in range(3)), ("out", r"out/.*"))


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> nnx.Module:
    """The net called "generator" with `options` over the defaults."""
    choose("net", net, ("generator",))
    return Generator(chosen("animegan3 generator", GeneratorOptions, options), rngs=rngs)
