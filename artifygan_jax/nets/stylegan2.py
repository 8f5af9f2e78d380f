"""StyleGAN2's generator and discriminator (Karras et al., arXiv:1912.04958), as in StyleGAN2-ADA.

Skip generator, residual discriminator, of 64 to 1024 px and any widths: `widths` gives those of
config-F (base 32768) and of paper256 and auto (16384). 256 px of base 16384: 24,767,458 parameters of
G (23,191,522 with two mapping layers), 24,001,089 of D; 1024 px of 32768: 30,370,060 and 29,012,513.

Kernels are stored as N(0, 1) and multiplied at run time (equalised rates, arXiv:1710.10196), as the
authors store them. The modulated convolution is one convolution for the whole batch, with styles on
its inputs and demodulation on its outputs. Noise is of the batch's own picture each.
bfloat16 is for the four highest resolutions; mapping, styles, demodulation, RGB and the end of D are
float32.
"""

import collections
import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax.errors import UserError
from artifygan_jax.nets import resample
from artifygan_jax.nets.animegan import chosen
from artifygan_jax.nets.cartoongan import choose
from artifygan_jax.nets.ops import Buffer, convolve, over_channels, spread

HALF = 4  # so many of the highest resolutions are in the dtype asked for
MAPPING_RATE = 0.01
W_AVG_DECAY = 0.995
Steps = Iterator[tuple[str, jax.Array]]


def widths(resolution: int, base: int = 16384, maximum: int = 512) -> tuple[int, ...]:
    """Channels at 4, 8, ..., `resolution` px: base / resolution, at most `maximum`."""
    sizes = [4 * 2**i for i in range(int(math.log2(max(resolution, 4))) - 1)]
    if sizes[-1] != resolution or resolution < 8:
        raise UserError(f"a resolution of {resolution} px; needs a power of 2 of at least 8")
    return tuple(max(1, min(base // size, maximum)) for size in sizes)


@dataclasses.dataclass(unsafe_hash=True)
class GeneratorOptions:
    """What a generator is. `channels[i]` belongs to the block of 4 * 2**i px.

    `labels` is the number of classes (0: none). `clamp` bounds activations after each layer (0: no
    bound); the authors' float16 networks have 256. `added` names resolutions, each once for a residual
    layer put in there, which changes nothing at first (`Added`).
    """

    channels: tuple[int, ...] = widths(256)
    z_size: int = 512
    w_size: int = 512
    mapping_layers: int = 8
    labels: int = 0
    clamp: float = 0.0
    added: tuple[int, ...] = ()


@dataclasses.dataclass(unsafe_hash=True)
class DiscriminatorOptions:
    """What a discriminator is; `channels`, `clamp` and `added` as in `GeneratorOptions`.

    `group` is the number of pictures that share a standard deviation (0: the whole batch).
    """

    channels: tuple[int, ...] = widths(256)
    group: int = 4
    labels: int = 0
    mapping_layers: int = 8
    clamp: float = 0.0
    added: tuple[int, ...] = ()


def lrelu(x: jax.Array, gain: float = math.sqrt(2), clamp: float = 0.0) -> jax.Array:
    """Leaky ReLU of slope 0.2 times `gain`, within +-`clamp` where there is one."""
    x = jnp.where(x >= 0, x * gain, x * (0.2 * gain))
    return jnp.clip(x, -clamp, clamp) if clamp else x


def second_moment(x: jax.Array) -> jax.Array:
    """`x` `[N, C]` over the root of the mean of its squares."""
    return x * jax.lax.rsqrt(jnp.square(x).mean(1, keepdims=True) + 1e-8)


class Dense(nnx.Module):
    """`[N, inputs]` to `[N, outputs]`, in float32; `rate` scales gradients of kernel and bias."""

    def __init__(
        self, inputs: int, outputs: int, *, rate: float = 1.0, bias: float = 0.0, rngs: nnx.Rngs
    ):
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (inputs, outputs)) / rate)
        self.bias = nnx.Param(jnp.full(outputs, bias / rate, jnp.float32))
        self.gain, self.rate = rate / math.sqrt(inputs), rate

    def __call__(self, x: jax.Array) -> jax.Array:
        return x.astype(jnp.float32) @ (self.kernel[...] * self.gain) + self.bias[...][None] * (
            self.rate
        )


class MappingNet(nnx.Module):
    """Latents (and labels) to codes: normalised, then `layers` dense layers, each with its activation."""

    def __init__(self, inputs: int, outputs: int, layers: int, labels: int, *, rngs: nnx.Rngs):
        # The authors embed labels to the width of the codes.
        self.embed = Dense(labels, outputs, rngs=rngs) if labels else None
        first = inputs + (outputs if labels else 0)
        sizes = [first] + [outputs] * layers
        self.layers = nnx.List(
            Dense(a, b, rate=MAPPING_RATE, rngs=rngs)
            for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )
        self.inputs, self.labels = inputs, labels

    def code(self, z: jax.Array | None, labels: jax.Array | None = None) -> jax.Array:
        """Codes `[N, outputs]` of latents `[N, inputs]` (None where there are none) and labels."""
        parts = []
        if self.inputs:
            if z is None or z.ndim != 2 or z.shape[1] != self.inputs:
                got = None if z is None else tuple(z.shape)
                raise UserError(f"latents of shape {got}; this net takes [N, {self.inputs}]")
            parts.append(second_moment(z.astype(jnp.float32)))
        if self.embed is not None:
            if labels is None or labels.ndim != 2 or labels.shape[1] != self.labels:
                got = None if labels is None else tuple(labels.shape)
                raise UserError(f"labels of shape {got}; this net takes [N, {self.labels}] one-hot")
            parts.append(second_moment(self.embed(labels)))
        elif labels is not None:
            raise UserError("labels for a net without classes")
        x = jnp.concatenate(parts, axis=1)
        for layer in self.layers:
            x = lrelu(layer(x))
        return x


class LatentMapping(MappingNet):
    """The generator's mapping network, with the running mean of its codes for truncation."""

    def __init__(self, options: GeneratorOptions, num_ws: int, *, rngs: nnx.Rngs):
        o = options
        super().__init__(o.z_size, o.w_size, o.mapping_layers, o.labels, rngs=rngs)
        self.w_avg = Buffer(jnp.zeros(o.w_size))
        self.num_ws = num_ws

    def __call__(
        self,
        z: jax.Array,
        labels: jax.Array | None = None,
        *,
        truncation: float | jax.Array = 1.0,
        cutoff: int | None = None,
        train: bool = False,
    ) -> jax.Array:
        """Codes `[N, num_ws, w_size]`, one for each layer; `train` moves the mean.

        The first `cutoff` of them (None: all) are drawn towards the mean: w_avg + truncation (w - w_avg).
        """
        w = self.code(z, labels)
        if train:
            mean = jax.lax.stop_gradient(w).mean(0)
            self.w_avg[...] = mean + W_AVG_DECAY * (self.w_avg[...] - mean)
        ws = jnp.repeat(w[:, None], self.num_ws, axis=1)
        if isinstance(truncation, float | int) and truncation == 1:
            return ws
        centre = self.w_avg[...][None, None]
        inner = centre + truncation * (ws - centre)
        count = self.num_ws if cutoff is None else cutoff
        return jnp.where((jnp.arange(self.num_ws) < count)[None, :, None], inner, ws)


class StyledConv(nnx.Module):
    """A modulated 3x3 convolution, noise, bias and activation; `up` doubles the size first.

    Modulation: arXiv:1912.04958, equations 1 and 3, by scaling inputs and outputs.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        resolution: int,
        options: GeneratorOptions,
        *,
        up: bool = False,
        rngs: nnx.Rngs,
    ):
        self.affine = Dense(options.w_size, inputs, bias=1.0, rngs=rngs)
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (3, 3, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros(outputs))
        self.strength = nnx.Param(jnp.zeros(()))
        self.noise = Buffer(jax.random.normal(rngs.params(), (resolution, resolution)))
        self.up, self.clamp, self.resolution = up, options.clamp, resolution

    def __call__(self, x: jax.Array, w: jax.Array, noise: str, key: jax.Array | None) -> jax.Array:
        style, kernel = self.affine(w), self.kernel[...]
        weight = jnp.square(kernel).sum((0, 1))
        demodulation = jax.lax.rsqrt(jnp.square(style) @ weight + 1e-8)
        x = x * spread(style, x.shape, x.dtype)
        if self.up:
            x = resample.up_conv(x, kernel)
        else:
            x = convolve(x, kernel, padding=((1, 1), (1, 1)))
        x = x * spread(demodulation, x.shape, x.dtype)
        if noise != "none":
            # `noise` may have been given a map for each picture.
            drawn = self.noise[...].reshape(-1, self.resolution, self.resolution, 1)
            if noise == "random" and key is not None:
                drawn = jax.random.normal(key, (len(x), self.resolution, self.resolution, 1))
            drawn = jax.lax.optimization_barrier(drawn)  # or XLA draws it for each channel anew
            x = x + over_channels((drawn * self.strength[...]).astype(x.dtype), x.shape[3])
        x = x + spread(self.bias[...], x.shape, x.dtype)
        return lrelu(x, clamp=self.clamp)


class ToRGB(nnx.Module):
    """A modulated 1x1 convolution to three channels, without demodulation and activation; float32."""

    def __init__(self, inputs: int, options: GeneratorOptions, *, rngs: nnx.Rngs):
        self.affine = Dense(options.w_size, inputs, bias=1.0, rngs=rngs)
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (1, 1, inputs, 3)))
        self.bias = nnx.Param(jnp.zeros(3))
        self.gain, self.clamp = 1 / math.sqrt(inputs), options.clamp

    def __call__(self, x: jax.Array, w: jax.Array) -> jax.Array:
        style = self.affine(w) * self.gain
        y = convolve(x * spread(style, x.shape, x.dtype), self.kernel[...])
        y = y.astype(jnp.float32) + spread(self.bias[...], y.shape, jnp.float32)
        return jnp.clip(y, -self.clamp, self.clamp) if self.clamp else y


class Added(nnx.Module):
    """A residual layer for a net that is trained already: x + gain layer(x), with a gain that starts at 0.

    ReZero's way to begin as the identity (arXiv:2003.04887): the scale of kernels does nothing, since
    demodulation undoes it.
    """

    def __init__(self, layer: nnx.Module):
        self.layer: Any = layer
        self.gain = nnx.Param(jnp.zeros(()))

    def __call__(self, x: jax.Array, *how: Any) -> jax.Array:
        return x + self.gain[...].astype(x.dtype) * self.layer(x, *how)


class SynthesisBlock(nnx.Module):
    """The layers of one resolution: conv0 (none at 4 px), conv1, added ones and the step to RGB."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        resolution: int,
        options: GeneratorOptions,
        *,
        rngs: nnx.Rngs,
    ):
        first = resolution == 4
        self.conv0 = (
            None if first else StyledConv(inputs, outputs, resolution, options, up=True, rngs=rngs)
        )
        self.conv1 = StyledConv(outputs, outputs, resolution, options, rngs=rngs)
        self.rgb = ToRGB(outputs, options, rngs=rngs)
        self.added = nnx.List(
            Added(StyledConv(outputs, outputs, resolution, options, rngs=rngs))
            for side in options.added
            if side == resolution
        )


class Synthesis(nnx.Module):
    """Codes to pictures."""

    def __init__(self, options: GeneratorOptions, *, rngs: nnx.Rngs):
        channels = options.channels
        self.const = nnx.Param(jax.random.normal(rngs.params(), (4, 4, channels[0])))
        self.resolutions = tuple(4 * 2**i for i in range(len(channels)))
        for i, resolution in enumerate(self.resolutions):
            block = SynthesisBlock(
                channels[max(i - 1, 0)], channels[i], resolution, options, rngs=rngs
            )
            setattr(self, f"b{resolution}", block)
        self.num_ws, self.w_size = 2 * len(channels), options.w_size

    def __call__(self, ws: jax.Array, **how: Any) -> jax.Array:
        """Pictures `[N, H, W, 3]`, float32, about [-1, 1]; see `steps`."""
        return _last(self.steps(ws, **how))

    def features(self, ws: jax.Array, names: Collection[str], **how: Any) -> dict[str, jax.Array]:
        """The activations called `names`: b4/conv1, b8/conv0, ... and b4/image, ...; see `steps`."""
        known = [name for r in self.resolutions for name in _block_names(r)]
        for name in names:
            choose("feature", name, tuple(known))
        return {name: x for name, x in self.steps(ws, **how) if name in names}

    def steps(
        self,
        ws: jax.Array,
        *,
        noise: str = "const",
        key: jax.Array | None = None,
        dtype: Any = jnp.float32,
    ) -> Steps:
        """(name, array) of every layer in turn, the picture last.

        `ws` is `[N, num_ws, w_size]`. `noise` is "const" (the net's own), "random" (of `key`) or "none".
        """
        choose("noise", noise, ("const", "random", "none"))
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_size):
            raise UserError(
                f"codes of shape {tuple(ws.shape)}; this net takes [N, {self.num_ws}, {self.w_size}]"
            )
        if noise == "random" and key is None:
            raise ValueError("random noise needs a key")
        x = jnp.broadcast_to(self.const[...][None], (len(ws), *self.const[...].shape))
        image = None
        for i, resolution in enumerate(self.resolutions):
            block = getattr(self, f"b{resolution}")
            x = x.astype(dtype if i >= len(self.resolutions) - HALF else jnp.float32)
            for j, name in ((2 * i - 1, "conv0"), (2 * i, "conv1")):
                if getattr(block, name) is not None:
                    layer_key = None if key is None else jax.random.fold_in(key, j)
                    x = getattr(block, name)(x, ws[:, j], noise, layer_key)
                    yield f"b{resolution}/{name}", x
            for k, added in enumerate(block.added):
                added_key = None if key is None else jax.random.fold_in(key, 64 * (k + 1) + 2 * i)
                x = added(x, ws[:, 2 * i], noise, added_key)
            rgb = block.rgb(x, ws[:, 2 * i + 1])
            image = rgb if image is None else resample.up(image) + rgb
            yield f"b{resolution}/image", image

    def styles(self, ws: jax.Array) -> dict[str, jax.Array]:
        """The styles of each layer, `[N, inputs]`: StyleSpace (arXiv:2011.12799)."""
        found = {}
        for i, resolution in enumerate(self.resolutions):
            block = getattr(self, f"b{resolution}")
            for j, name in ((2 * i - 1, "conv0"), (2 * i, "conv1"), (2 * i + 1, "rgb")):
                if getattr(block, name) is not None:
                    found[f"b{resolution}/{name}"] = getattr(block, name).affine(ws[:, j])
        return found


def _block_names(resolution: int) -> list[str]:
    names = ["conv1", "image"] if resolution == 4 else ["conv0", "conv1", "image"]
    return [f"b{resolution}/{name}" for name in names]


class Generator(nnx.Module):
    """Latents to pictures."""

    def __init__(self, options: GeneratorOptions, *, rngs: nnx.Rngs):
        _check_channels(options.channels)
        _check_added(options.added, 4, 2 ** (len(options.channels) + 1))
        self.options = options
        self.synthesis = Synthesis(options, rngs=rngs)
        self.num_ws = self.synthesis.num_ws
        self.mapping = LatentMapping(options, self.num_ws, rngs=rngs)
        self.resolution = self.synthesis.resolutions[-1]

    def __call__(
        self,
        z: jax.Array,
        labels: jax.Array | None = None,
        *,
        truncation: float | jax.Array = 1.0,
        cutoff: int | None = None,
        **how: Any,
    ) -> jax.Array:
        """Pictures `[N, H, W, 3]` of latents `[N, z_size]`; `how` as in `Synthesis.steps`."""
        return self.synthesis(self.mapping(z, labels, truncation=truncation, cutoff=cutoff), **how)

    def layer_names(self) -> list[tuple[str, str]]:
        """(name, pattern of parameters) from the latents to the picture: mapping, b4, b8, ..."""
        blocks = [f"b{r}" for r in self.synthesis.resolutions]
        first = ("b4", r"synthesis/(const|b4/.*)")
        return [("mapping", "mapping/.*"), first] + [(b, f"synthesis/{b}/.*") for b in blocks[1:]]


class ScaledConv(nnx.Module):
    """A convolution of N(0, 1) kernels times 1 / sqrt(fan in), bias and activation; `down` halves."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        down: bool = False,
        linear: bool = False,
        clamp: float = 0.0,
        rngs: nnx.Rngs,
    ):
        shape = (kernel, kernel, inputs, outputs)
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), shape))
        self.bias = None if linear else nnx.Param(jnp.zeros(outputs))
        self.gain = 1 / math.sqrt(kernel**2 * inputs)
        self.size, self.down, self.clamp = kernel, down, clamp

    def __call__(self, x: jax.Array, gain: float = 1.0) -> jax.Array:
        kernel = self.kernel[...] * self.gain
        if self.down and self.size == 1:
            x = convolve(resample.down(x), kernel)
        elif self.down:
            x = resample.down_conv(x, kernel)
        else:
            x = convolve(x, kernel, padding=((self.size // 2, self.size // 2),) * 2)
        if self.bias is None:
            return x * gain
        x = x + spread(self.bias[...], x.shape, x.dtype)
        return lrelu(x, math.sqrt(2) * gain, self.clamp * gain)


class ResidualBlock(nnx.Module):
    """conv0 and conv1, which halves, beside a skip; then `added` layers.

    The first block of D also has the step from RGB.
    """

    def __init__(
        self, inputs: int, outputs: int, *, rgb: bool, clamp: float, added: int, rngs: nnx.Rngs
    ):
        self.rgb = ScaledConv(3, inputs, 1, clamp=clamp, rngs=rngs) if rgb else None
        self.conv0 = ScaledConv(inputs, inputs, 3, clamp=clamp, rngs=rngs)
        self.conv1 = ScaledConv(inputs, outputs, 3, down=True, clamp=clamp, rngs=rngs)
        self.skip = ScaledConv(inputs, outputs, 1, down=True, linear=True, rngs=rngs)
        self.added = nnx.List(
            Added(ScaledConv(outputs, outputs, 3, clamp=clamp, rngs=rngs)) for _ in range(added)
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        skip = self.skip(x, math.sqrt(0.5))
        x = skip + self.conv1(self.conv0(x), math.sqrt(0.5))
        for layer in self.added:
            x = layer(x)
        return x


def minibatch_deviation(x: jax.Array, group: int) -> jax.Array:
    """`x` with one channel more: the mean standard deviation over groups of pictures.

    As the authors' code: picture i belongs to group i modulo N / group, so that groups are the same on
    any number of devices. Where `group` does not divide N, the largest smaller number that does.
    """
    n, h, w, _ = x.shape
    size = min(group or n, n)
    while n % size:
        size -= 1
    y = x.reshape(size, n // size, *x.shape[1:])
    y = jnp.sqrt(jnp.square(y - y.mean(0, keepdims=True)).mean(0) + 1e-8).mean((1, 2, 3))
    y = jnp.broadcast_to(jnp.tile(y, size)[:, None, None, None], (n, h, w, 1))
    return jnp.concatenate([x, y.astype(x.dtype)], axis=3)


class Epilogue(nnx.Module):
    """The block of 4 px: deviation, convolution, dense layer, logits (or a projection of labels)."""

    def __init__(self, channels: int, options: DiscriminatorOptions, *, rngs: nnx.Rngs):
        self.conv = ScaledConv(channels + 1, channels, 3, clamp=options.clamp, rngs=rngs)
        self.dense = ScaledConv(channels, channels, 4, rngs=rngs)
        self.out = Dense(channels, channels if options.labels else 1, rngs=rngs)
        self.group = options.group

    def steps(self, x: jax.Array) -> Steps:
        """(name, array) of each layer."""
        x = minibatch_deviation(x.astype(jnp.float32), self.group)
        yield "b4/std", x
        x = self.conv(x)
        yield "b4/conv", x
        kernel = self.dense.kernel[...].reshape(-1, x.shape[3]) * self.dense.gain
        assert self.dense.bias is not None
        x = lrelu(x.reshape(len(x), -1) @ kernel + self.dense.bias[...][None])
        yield "b4/dense", x
        yield "b4/out", self.out(x)


class Discriminator(nnx.Module):
    """Pictures to logits."""

    def __init__(self, options: DiscriminatorOptions, *, rngs: nnx.Rngs):
        _check_channels(options.channels)
        _check_added(options.added, 4, 2 ** len(options.channels))
        self.options = options
        channels, n = options.channels, len(options.channels)
        self.resolutions = tuple(4 * 2**i for i in reversed(range(n)))
        self.resolution = self.resolutions[0]
        for i in reversed(range(1, n)):
            block = ResidualBlock(
                channels[i],
                channels[i - 1],
                rgb=i == n - 1,
                clamp=options.clamp,
                added=options.added.count(2 * 2**i),
                rngs=rngs,
            )
            setattr(self, f"b{4 * 2**i}", block)
        self.b4 = Epilogue(channels[0], options, rngs=rngs)
        self.mapping = (
            MappingNet(0, channels[0], options.mapping_layers, options.labels, rngs=rngs)
            if options.labels
            else None
        )

    def __call__(self, x: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """Logits `[N]`, float32, of pictures `[N, H, W, 3]` about [-1, 1]."""
        out = _last(self.steps(x))
        if self.mapping is None:
            if labels is not None:
                raise UserError("labels for a discriminator without classes")
            return out[:, 0]
        code = self.mapping.code(None, labels)
        return (out * code).sum(1) / np.sqrt(code.shape[1]).astype(np.float32)

    def features(self, x: jax.Array, names: Collection[str]) -> dict[str, jax.Array]:
        """The activations called `names`: b64/rgb, b64 (output of the block), ..., b4/dense."""
        found = {name: value for name, value in self.steps(x) if name in names}
        for name in names:
            if name not in found:
                choose("feature", name, tuple(n for n, _ in self.steps(x)))
        return found

    def steps(self, x: jax.Array) -> Steps:
        """(name, array) of each block in turn, `b4/out` last; the dtype of `x` is that of the first."""
        if x.ndim != 4 or x.shape[1:] != (self.resolution, self.resolution, 3):
            raise UserError(
                f"pictures of shape {tuple(x.shape)}; this net takes"
                f" [N, {self.resolution}, {self.resolution}, 3]"
            )
        for i, resolution in enumerate(self.resolutions[:-1]):
            block = getattr(self, f"b{resolution}")
            x = x if i < HALF else x.astype(jnp.float32)
            if block.rgb is not None:
                x = block.rgb(x)
                yield f"b{resolution}/rgb", x
            x = block(x)
            yield f"b{resolution}", x
        yield from self.b4.steps(x)

    def layer_names(self) -> list[tuple[str, str]]:
        """(name, pattern) as the authors count layers to freeze: rgb, then conv0, conv1, skip each."""
        names = [f"b{self.resolution}/rgb"]
        names += [f"b{r}/{k}" for r in self.resolutions[:-1] for k in ("conv0", "conv1", "skip")]
        names += ["b4/conv", "b4/dense", "b4/out"]
        return [(name, f"{name}/.*") for name in names]


def _last(steps: Steps) -> jax.Array:
    (_, result) = collections.deque(steps, maxlen=1)[0]
    return result


def _check_channels(channels: tuple[int, ...]) -> None:
    if len(channels) < 2 or min(channels) < 1:
        raise UserError(
            f"channels {channels}: needs at least two numbers of at least 1, for 4, 8, ... px"
        )


def _check_added(added: tuple[int, ...], low: int, high: int) -> None:
    sides = [2**k for k in range(low.bit_length() - 1, high.bit_length())]
    if wrong := [side for side in added if side not in sides]:
        raise UserError(f"added layers at {wrong} px; this net has them at {sides}")


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> nnx.Module:
    """The generator or the discriminator of a bundle's card."""
    choose("net", net, ("generator", "discriminator"))
    if net == "generator":
        found = chosen("stylegan2 generator", GeneratorOptions, options)
        return Generator(found, rngs=rngs)
    return Discriminator(
        chosen("stylegan2 discriminator", DiscriminatorOptions, options), rngs=rngs
    )
