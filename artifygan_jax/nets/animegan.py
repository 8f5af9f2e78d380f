"""AnimeGAN (Chen, Liu, Chen, ISICA 2019): its generator, and the discriminator of all its versions.

Generators: the original of TensorFlow 1 (3,956,096 parameters, 31.06 GMAC at 256 px), and the one of
the PyTorch port `ptran1203/pytorch-animeGAN`, which the slide deck used (3,757,184 and 32.81). The
port has other widths, pads with zeros, has norms without scale and bias, and a norm and an
activation between the two convolutions of a separable one, where the original has none.

The discriminator is CartoonGAN's without biases and with spectral norm: instance norm in the first
version, layer norm in the second, 1,128,800 parameters both. The port has neither scale nor bias in
its norms (`norm="plain"`) and three stages; its state of 2021 to 2023 also multiplied channels by 4
from stage to stage (`growth=4`), which makes 62.9 million parameters of it.
Differs: kernels of the original are drawn from a normal of Xavier's deviation, not from a uniform.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.nets.cartoongan import choose
from artifygan_jax.nets.ops import (
    Conv,
    Depthwise,
    Extent,
    InstanceNorm,
    LayerNorm,
    SpectralConv,
    scaled,
    upsample_bilinear,
)

LayerNames = tuple[tuple[str, str], ...]  # (name, regex of the paths of its parameters, or "")
SLOPE = 0.2
UPSAMPLINGS = ("legacy", "half", "corners")

# (kind, its output channels over those of the first layer) of the layers around the residual blocks.
ENCODERS = {
    "original": "conv1 conv1 down2 conv2 separable2 down4 conv4",
    "port": "conv1 conv2 down2 conv2 separable4 down4 conv4",
}
DECODERS = {
    "original": "conv4 up2 separable2 conv2 up2 conv1 conv1",
    "port": "conv2 up2 separable2 conv2 up2 conv1 conv1",
}


@dataclasses.dataclass(unsafe_hash=True)
class GeneratorOptions:
    """What a generator is: `variant` "original" or "port", channels of the first layer, and blocks.

    `upsampling` is the bilinear interpolation of the decoder (`ops.upsample_bilinear`): "legacy" is
    the original's, "half" the port's.
    """

    channels: int = 64
    blocks: int = 8
    variant: str = "original"
    upsampling: str = "legacy"

    def check(self) -> None:
        """Raises `UserError` for a value outside the choices above."""
        choose("variant", self.variant, ("original", "port"))
        choose("upsampling", self.upsampling, UPSAMPLINGS)
        if self.channels < 1 or self.blocks < 0:
            raise UserError(
                f"a generator of {self.channels} channels and {self.blocks} blocks;"
                " needs channels >= 1 and blocks >= 0"
            )

    @property
    def ported(self) -> bool:
        """Whether it is the port's."""
        return self.variant == "port"

    @property
    def padding(self) -> str:
        """What convolutions find beyond the edge."""
        return "zero" if self.ported else "reflect"


def convolution(
    inputs: int, outputs: int, kernel: int, o: GeneratorOptions, *, rngs: nnx.Rngs
) -> Conv:
    """A convolution without bias, drawn as the variant has it."""
    xavier = math.sqrt(2 / (kernel**2 * (inputs + outputs)))
    return Conv(
        inputs,
        outputs,
        kernel,
        padding=o.padding,
        bias=False,
        deviation=0.02 if o.ported else xavier,
        rngs=rngs,
    )


class Block(nnx.Module):
    """Convolution, norm, leaky ReLU."""

    def __init__(
        self, inputs: int, outputs: int, o: GeneratorOptions, kernel: int = 3, *, rngs: nnx.Rngs
    ):
        self.conv = convolution(inputs, outputs, kernel, o, rngs=rngs)
        self.norm = InstanceNorm(outputs, affine=not o.ported)

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        return jax.nn.leaky_relu(self.norm(self.conv(x, extent), extent=extent), SLOPE)


class Separable(nnx.Module):
    """Depthwise 3x3, 1x1, norm, leaky ReLU; the port has norm and leaky ReLU after the depthwise too."""

    def __init__(
        self, inputs: int, outputs: int, o: GeneratorOptions, stride: int = 1, *, rngs: nnx.Rngs
    ):
        self.depthwise = Depthwise(inputs, stride=stride, padding=o.padding, bias=False, rngs=rngs)
        self.middle = InstanceNorm(inputs, affine=False) if o.ported else None
        self.pointwise = convolution(inputs, outputs, 1, o, rngs=rngs)
        # TensorFlow's default epsilon, which the original has here alone.
        self.norm = InstanceNorm(outputs, epsilon=1e-5 if o.ported else 1e-6, affine=not o.ported)
        self.stride = stride

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        x, extent = self.depthwise(x, extent), scaled(extent, -self.stride)
        if self.middle is not None:
            x = jax.nn.leaky_relu(self.middle(x, extent=extent), SLOPE)
        return jax.nn.leaky_relu(self.norm(self.pointwise(x), extent=extent), SLOPE)


class Down(nnx.Module):
    """Half the size: a separable convolution of stride 2 plus one of the picture at half its size."""

    def __init__(self, inputs: int, outputs: int, o: GeneratorOptions, *, rngs: nnx.Rngs):
        self.strided = Separable(inputs, outputs, o, 2, rngs=rngs)
        self.resized = Separable(inputs, outputs, o, rngs=rngs)
        self.mean = o.ported

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        # Linear interpolation to half the size: TensorFlow 1 takes every other pixel, torch four's mean.
        small = x[:, ::2, ::2]
        if self.mean:
            small = (small + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
        return self.strided(x, extent) + self.resized(small, scaled(extent, -2))


class Up(nnx.Module):
    """Twice the size by linear interpolation, then a separable convolution."""

    def __init__(self, inputs: int, outputs: int, o: GeneratorOptions, *, rngs: nnx.Rngs):
        self.conv = Separable(inputs, outputs, o, rngs=rngs)
        self.upsampling = o.upsampling

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        return self.conv(upsample_bilinear(x, self.upsampling, extent), scaled(extent, 2))


class Inverted(nnx.Module):
    """Inverted residual: 1x1 to twice the channels, depthwise 3x3, 1x1 back; plus the input."""

    def __init__(self, channels: int, o: GeneratorOptions, *, rngs: nnx.Rngs):
        middle, affine = 2 * channels, not o.ported
        self.expand = Block(channels, middle, o, 1, rngs=rngs)
        self.depthwise = Depthwise(middle, padding=o.padding, bias=False, rngs=rngs)
        self.depthwise_norm = InstanceNorm(middle, affine=affine)
        self.project = convolution(middle, channels, 1, o, rngs=rngs)
        self.project_norm = InstanceNorm(channels, affine=affine)

    def __call__(self, x: jax.Array, extent: Extent = None) -> jax.Array:
        y = self.depthwise(self.expand(x, extent), extent)
        y = jax.nn.leaky_relu(self.depthwise_norm(y, extent=extent), SLOPE)
        return x + self.project_norm(self.project(y), extent=extent)


KINDS = {"conv": Block, "separable": Separable, "down": Down, "up": Up}


class Generator(nnx.Module):
    """Photo in, cartoon out: `[B, H, W, 3]` in [-1, 1], the same size; sides are multiples of 4.

    `extent` as in `nets.ops`, multiples of 4.
    """

    multiple = 4

    def __init__(self, options: GeneratorOptions, *, rngs: nnx.Rngs):
        options.check()
        self.options = options
        c = options.channels

        def layers(words: str, inputs: int) -> nnx.List:
            found = []
            for word in words.split():
                outputs = int(word[-1]) * c
                found.append(KINDS[word[:-1]](inputs, outputs, options, rngs=rngs))
                inputs = outputs
            return nnx.List(found)

        self.encoder = layers(ENCODERS[options.variant], 3)
        blocks = range(options.blocks)
        self.blocks = nnx.List([Inverted(4 * c, options, rngs=rngs) for _ in blocks])
        self.decoder = layers(DECODERS[options.variant], 4 * c)
        self.out = convolution(c, 3, 1, options, rngs=rngs)
        # What a run holds at once, in full-size channels (XLA's plan at 512 px): for `inference`.
        self.width = 9 * c // 4 if options.ported else 2 * c

    def __call__(self, x: jax.Array, *, train: bool = False, extent: Extent = None) -> jax.Array:
        return self.features(x, train=train, extent=extent)["image"]

    def features(
        self, x: jax.Array, *, train: bool = False, extent: Extent = None
    ) -> dict[str, jax.Array]:
        """Every layer by its path, such as encoder/0, blocks/0 or decoder/0, and the image."""
        del train  # the same at training and at test
        check_sides(x, self.multiple)
        out = {}
        for group in ("encoder", "blocks", "decoder"):
            for i, layer in enumerate(getattr(self, group)):
                x = out[f"{group}/{i}"] = layer(x, extent)
                factor = {Down: -2, Up: 2}.get(type(layer), 1)
                extent = scaled(extent, factor)
        out["image"] = jnp.tanh(self.out(x))
        return out

    def layer_names(self) -> LayerNames:
        """stem, encoder2 to encoder6, block0 ..., decoder0 to decoder6, out.

        The two convolutions at full size, encoder/0 and encoder/1, count as one, the stem. The first
        five, up to the second `Down`, are 427,584 parameters in the port.
        """
        words = ENCODERS[self.options.variant].split()
        names = [("stem", r"encoder/[01]/.*")]
        names += [(f"encoder{i}", rf"encoder/{i}/.*") for i in range(2, len(words))]
        names += [(f"block{i}", rf"blocks/{i}/.*") for i in range(self.options.blocks)]
        names += [(f"decoder{i}", rf"decoder/{i}/.*") for i in range(len(self.decoder))]
        return (*names, ("out", r"out/.*"))


@dataclasses.dataclass(unsafe_hash=True)
class DiscriminatorOptions:
    """What a discriminator is: channels of the first layer, norm, and how often it halves the size.

    `norm`: "layer" (AnimeGANv2), "instance" (AnimeGAN), or "plain", instance norm without parameters
    (the port). Each of `stages` halves the size and multiplies channels by `growth`, 2 or 4.
    """

    channels: int = 32
    norm: str = "layer"
    spectral: bool = True
    stages: int = 2
    growth: int = 2

    def check(self) -> None:
        """Raises `UserError` for a value outside the choices above."""
        choose("norm", self.norm, ("layer", "instance", "plain"))
        if self.channels < 1 or self.stages < 1 or self.growth not in (2, 4):
            raise UserError(
                f"a discriminator of {self.channels} channels, {self.stages} stages and growth"
                f" {self.growth}; needs channels >= 1, stages >= 1 and growth 2 or 4"
            )


def _norm(kind: str, channels: int) -> InstanceNorm:
    if kind == "layer":
        return LayerNorm(channels)
    return InstanceNorm(channels, affine=kind == "instance")


class PatchConv(nnx.Module):
    """3x3 convolution without bias, padded with zeros, its kernel spectral or not; a norm or none."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        options: DiscriminatorOptions,
        *,
        stride: int = 1,
        norm: bool = False,
        rngs: nnx.Rngs,
    ):
        kind = SpectralConv if options.spectral else Conv
        self.conv = kind(inputs, outputs, 3, stride=stride, bias=False, rngs=rngs)
        self.norm = _norm(options.norm, outputs) if norm else None

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.conv(x, train=train) if isinstance(self.conv, SpectralConv) else self.conv(x)
        return x if self.norm is None else self.norm(x, train=train)


class Discriminator(nnx.Module):
    """Patch discriminator: `[B, H, W, 3]` in [-1, 1] to logits `[B, H/4, W/4, 1]` for two stages.

    Sides are rounded up by each stage. Convolutions in order: one at full size; in each stage one of
    stride 2 and one with a norm; one more with a norm; one to a channel. At training each call
    moves the spectral norms by one step.
    """

    def __init__(self, options: DiscriminatorOptions, *, rngs: nnx.Rngs):
        options.check()
        self.options = options
        c, growth = options.channels, options.growth
        layers = [PatchConv(3, c, options, rngs=rngs)]
        inputs = c
        for _ in range(options.stages):
            layers.append(PatchConv(inputs, 2 * c, options, stride=2, rngs=rngs))
            layers.append(PatchConv(2 * c, 4 * c, options, norm=True, rngs=rngs))
            inputs, c = 4 * c, growth * c
        layers.append(PatchConv(inputs, inputs, options, norm=True, rngs=rngs))
        self.layers = nnx.List(layers)
        self.out = PatchConv(inputs, 1, options, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        for layer in self.layers:
            x = jax.nn.leaky_relu(layer(x, train=train), SLOPE)
        return self.out(x, train=train)

    def layer_names(self) -> LayerNames:
        """Convolutions, norms and leaky ReLUs apart, as in the `Sequential` of the original.

        The first five are three convolutions with two leaky ReLUs: 93,024 parameters.
        """
        names = []
        for i, layer in enumerate(self.layers):
            names.append((f"conv{i}", rf"layers/{i}/conv/.*"))
            if layer.norm is not None:
                own = layer.norm.scale is not None
                names.append((f"norm{i}", rf"layers/{i}/norm/.*" if own else ""))
            names.append((f"relu{i}", ""))
        return (*names, ("out", r"out/.*"))


def check_sides(x: jax.Array, multiple: int) -> None:
    """Raises `UserError` unless height and width of `x` are multiples of `multiple`."""
    if x.shape[1] % multiple or x.shape[2] % multiple:
        raise UserError(
            f"a picture of {x.shape[2]}x{x.shape[1]} pixels came; this generator takes multiples of"
            f" {multiple}"
        )


def chosen(what: str, kind: type, options: Mapping[str, Any]) -> Any:
    """`kind(**options)`, or a `UserError` that names the option that `what` does not have."""
    allowed = [field.name for field in dataclasses.fields(kind)]
    for name in options:
        if name not in allowed:
            raise UserError(
                f"{what} has no option {name!r}{did_you_mean(name, allowed)};"
                f" it has {', '.join(allowed)}"
            )
    return kind(**options)


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> nnx.Module:
    """The net called "generator" or "discriminator" with `options` over the defaults."""
    choose("net", net, ("generator", "discriminator"))
    if net == "generator":
        return Generator(chosen("animegan generator", GeneratorOptions, options), rngs=rngs)
    found = chosen("animegan discriminator", DiscriminatorOptions, options)
    return Discriminator(found, rngs=rngs)
