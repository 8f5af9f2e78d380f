"""The CartoonGAN family: CartoonGAN (Chen, Lai, Liu, CVPR 2018) and ArtifyGAN (10 residual blocks).

Reference for layers and padding: the first author's released networks. One module covers

* CartoonGAN:        blocks 8, decoder "full", norm "instance", padding "mixed", output "tanh";
* ArtifyGAN:         blocks 10, decoder "lean" (no 3x3 convolution after a transposed one, as the
                     slides say), the rest as CartoonGAN;
* ArtifyGAN, as run: blocks 10, decoder "full", norm "batch", padding "zero", output "sigmoid",
                     discriminator with a leak of 0.01 where no norm precedes.

Both nets take and give pictures in [-1, 1]; a "sigmoid" generator works on [0, 1] inside.
Differs: norm scales start at 1, where the author's Torch draws them from U(0, 1).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.nets.ops import (
    BatchNorm,
    Conv,
    ConvTranspose,
    Extent,
    InstanceNorm,
    scaled,
    upsample_nearest,
)


@dataclasses.dataclass(unsafe_hash=True)
class GeneratorOptions:
    """What a generator is: channels of the first layer, residual blocks and the variants above."""

    channels: int = 64
    blocks: int = 8
    decoder: str = "full"  # "full": a 3x3 convolution after each transposed one; "lean": none
    norm: str = "instance"  # or "batch"
    padding: str = "mixed"  # reflect for 7x7 and residual layers, zero elsewhere; or "zero"
    output: str = "tanh"  # or "sigmoid"
    upsampling: str = "transposed"  # or "resize": nearest x2, then a 3x3 convolution
    norm_epsilon: float = 1e-5  # the released CartoonGAN was tested with 1e-9

    def check(self) -> None:
        """Raises `UserError` for a value outside the choices above."""
        choose("decoder", self.decoder, ("full", "lean"))
        choose("norm", self.norm, ("instance", "batch"))
        choose("padding", self.padding, ("mixed", "zero"))
        choose("output", self.output, ("tanh", "sigmoid"))
        choose("upsampling", self.upsampling, ("transposed", "resize"))
        if self.channels < 1 or self.blocks < 0:
            raise UserError(
                f"a generator of {self.channels} channels and {self.blocks} blocks;"
                " needs channels >= 1 and blocks >= 0"
            )


@dataclasses.dataclass(unsafe_hash=True)
class DiscriminatorOptions:
    """What a patch discriminator is; `plain_slope` is the leak after layers without a norm."""

    channels: int = 32
    norm: str = "instance"
    plain_slope: float = 0.2

    def check(self) -> None:
        """Raises `UserError` for a value outside the choices above."""
        choose("norm", self.norm, ("instance", "batch"))
        if self.channels < 1:
            raise UserError(f"a discriminator of {self.channels} channels; needs at least 1")


Stage = tuple[Callable[[jax.Array, Extent], jax.Array], InstanceNorm | BatchNorm]


def choose(field: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises `UserError` unless `value` is one of `allowed`."""
    if value not in allowed:
        raise UserError(
            f"{field} is {value!r}, allowed are {', '.join(allowed)}{did_you_mean(value, allowed)}"
        )


def norm(kind: str, channels: int, epsilon: float = 1e-5) -> InstanceNorm | BatchNorm:
    """The normalisation called `kind`."""
    return (BatchNorm if kind == "batch" else InstanceNorm)(channels, epsilon=epsilon)


class Residual(nnx.Module):
    """conv, norm, ReLU, conv, norm, plus the input; no ReLU after the sum."""

    def __init__(self, channels: int, options: GeneratorOptions, *, rngs: nnx.Rngs):
        padding = "reflect" if options.padding == "mixed" else "zero"
        self.conv1 = Conv(channels, channels, 3, padding=padding, rngs=rngs)
        self.norm1 = norm(options.norm, channels, options.norm_epsilon)
        self.conv2 = Conv(channels, channels, 3, padding=padding, rngs=rngs)
        self.norm2 = norm(options.norm, channels, options.norm_epsilon)

    def __call__(self, x: jax.Array, *, train: bool, extent: Extent) -> jax.Array:
        y = self.norm1(self.conv1(x, extent), train=train, extent=extent)
        y = self.norm2(self.conv2(jax.nn.relu(y), extent), train=train, extent=extent)
        return x + y


class Down(nnx.Module):
    """3x3 stride 2, then 3x3, norm, ReLU: half the size, twice the channels."""

    def __init__(self, channels: int, options: GeneratorOptions, *, rngs: nnx.Rngs):
        self.conv1 = Conv(channels, 2 * channels, 3, stride=2, rngs=rngs)
        self.conv2 = Conv(2 * channels, 2 * channels, 3, rngs=rngs)
        self.norm = norm(options.norm, 2 * channels, options.norm_epsilon)

    def convolve(self, x: jax.Array, extent: Extent) -> jax.Array:
        """What the norm is given."""
        return self.conv2(self.conv1(x, extent), scaled(extent, -2))

    def __call__(self, x: jax.Array, *, train: bool, extent: Extent) -> jax.Array:
        x = self.convolve(x, extent)
        return jax.nn.relu(self.norm(x, train=train, extent=scaled(extent, -2)))


class Up(nnx.Module):
    """Twice the size, half the channels; then (full decoder) a 3x3 convolution; norm, ReLU."""

    def __init__(self, channels: int, options: GeneratorOptions, *, rngs: nnx.Rngs):
        half = channels // 2
        if options.upsampling == "transposed":
            self.conv1 = ConvTranspose(channels, half, rngs=rngs)
        else:
            self.conv1 = Conv(channels, half, 3, rngs=rngs)
        self.conv2 = Conv(half, half, 3, rngs=rngs) if options.decoder == "full" else None
        self.norm = norm(options.norm, half, options.norm_epsilon)
        self.resize = options.upsampling == "resize"

    def convolve(self, x: jax.Array, extent: Extent) -> jax.Array:
        """What the norm is given."""
        double = scaled(extent, 2)
        x = self.conv1(upsample_nearest(x), double) if self.resize else self.conv1(x, extent)
        return x if self.conv2 is None else self.conv2(x, double)

    def __call__(self, x: jax.Array, *, train: bool, extent: Extent) -> jax.Array:
        x = self.convolve(x, extent)
        return jax.nn.relu(self.norm(x, train=train, extent=scaled(extent, 2)))


class Generator(nnx.Module):
    """Photo in, cartoon out: `[B, H, W, 3]` in [-1, 1], the same size.

    Sides are multiples of 4 at the down-sampling layers; others give output sides rounded up to a
    multiple of 4, as the released network does. `extent` as in `nets.ops`, multiples of 4.
    """

    multiple = 4
    halo = 12  # pixels beyond its own that encoder() reads for one of its output; so does decoder()

    def __init__(self, options: GeneratorOptions, *, rngs: nnx.Rngs):
        options.check()
        self.options = options
        edge = "reflect" if options.padding == "mixed" else "zero"
        c = options.channels
        self.stem = Conv(3, c, 7, padding=edge, rngs=rngs)
        self.stem_norm = norm(options.norm, c, options.norm_epsilon)
        self.down = nnx.List([Down(c, options, rngs=rngs), Down(2 * c, options, rngs=rngs)])
        self.blocks = nnx.List([Residual(4 * c, options, rngs=rngs) for _ in range(options.blocks)])
        self.up = nnx.List([Up(4 * c, options, rngs=rngs), Up(2 * c, options, rngs=rngs)])
        self.out = Conv(c, 3, 7, padding=edge, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False, extent: Extent = None) -> jax.Array:
        return self.features(x, train=train, extent=extent)["image"]

    def features(
        self, x: jax.Array, *, train: bool = False, extent: Extent = None
    ) -> dict[str, jax.Array]:
        """Every stage by name: stem, down0, down1, block0 ..., up0, up1, image."""
        out = {}
        x = self.stem_norm(self.enter(x, extent), train=train, extent=extent)
        x = out["stem"] = jax.nn.relu(x)
        for i, down in enumerate(self.down):
            x = out[f"down{i}"] = down(x, train=train, extent=extent)
            extent = scaled(extent, -2)
        for i, block in enumerate(self.blocks):
            x = out[f"block{i}"] = block(x, train=train, extent=extent)
        for i, up in enumerate(self.up):
            x = out[f"up{i}"] = up(x, train=train, extent=extent)
            extent = scaled(extent, 2)
        out["image"] = self.image(x, extent)
        return out

    def enter(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        """The convolution that sees the photo."""
        return self.stem((x + 1) / 2 if self.options.output == "sigmoid" else x, extent)

    def image(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        """The convolution that makes the picture, in [-1, 1]."""
        x = self.out(x, extent)
        return jnp.tanh(x) if self.options.output == "tanh" else 2 * jax.nn.sigmoid(x) - 1

    def encoder(self) -> list[Stage]:
        """The stages before the residual blocks: `relu(norm(convolve(x, extent)))` each."""
        return [(self.enter, self.stem_norm), *((d.convolve, d.norm) for d in self.down)]

    def decoder(self) -> list[Stage]:
        """The stages between the residual blocks and `image`."""
        return [(up.convolve, up.norm) for up in self.up]


class Discriminator(nnx.Module):
    """Patch discriminator: `[B, H, W, 3]` in [-1, 1] to logits `[B, H/4, W/4, 1]`.

    The authors' layers: 3x3 c, then twice (3x3 stride 2, 3x3 with norm), 3x3 with norm, 3x3 to one.
    """

    def __init__(self, options: DiscriminatorOptions, *, rngs: nnx.Rngs):
        options.check()
        self.options = options
        c = options.channels
        self.conv1 = Conv(3, c, 3, rngs=rngs)
        self.conv2 = Conv(c, 2 * c, 3, stride=2, rngs=rngs)
        self.conv3 = Conv(2 * c, 4 * c, 3, rngs=rngs)
        self.norm1 = norm(options.norm, 4 * c)
        self.conv4 = Conv(4 * c, 4 * c, 3, stride=2, rngs=rngs)
        self.conv5 = Conv(4 * c, 8 * c, 3, rngs=rngs)
        self.norm2 = norm(options.norm, 8 * c)
        self.conv6 = Conv(8 * c, 8 * c, 3, rngs=rngs)
        self.norm3 = norm(options.norm, 8 * c)
        self.conv7 = Conv(8 * c, 1, 3, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        slope = self.options.plain_slope
        if self.options.norm == "batch":
            x = (
                x + 1
            ) / 2  # as run, on [0, 1]; with instance norm the range is a matter of weights
        x = jax.nn.leaky_relu(self.conv1(x), slope)
        x = jax.nn.leaky_relu(self.conv2(x), slope)
        x = jax.nn.leaky_relu(self.norm1(self.conv3(x), train=train), 0.2)
        x = jax.nn.leaky_relu(self.conv4(x), slope)
        x = jax.nn.leaky_relu(self.norm2(self.conv5(x), train=train), 0.2)
        x = jax.nn.leaky_relu(self.norm3(self.conv6(x), train=train), 0.2)
        return self.conv7(x)


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> nnx.Module:
    """The net called "generator" or "discriminator" with `options` over the defaults."""
    choose("net", net, ("generator", "discriminator"))
    kind = GeneratorOptions if net == "generator" else DiscriminatorOptions
    allowed = [field.name for field in dataclasses.fields(kind)]
    for name in options:
        if name not in allowed:
            raise UserError(
                f"cartoongan {net} has no option {name!r}{did_you_mean(name, allowed)};"
                f" it has {', '.join(allowed)}"
            )
    if net == "generator":
        return Generator(GeneratorOptions(**options), rngs=rngs)
    return Discriminator(DiscriminatorOptions(**options), rngs=rngs)
