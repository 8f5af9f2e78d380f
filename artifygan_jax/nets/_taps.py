"""What the feature networks share: a convolution, pooling, input conventions, checks of names."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.nets import ops

PREPROCESS = ("caffe", "imagenet", "none")

_Options = TypeVar("_Options")


class Conv(nnx.Module):
    """Convolution with bias: HWIO `kernel` and `bias` in float32, computed in the input's dtype.

    Unlike `ops.Conv` it takes oblong kernels and VALID padding. He-normal initial kernel (He et al.
    2015), which keeps the scale of the activations in a deep untrained net; zero bias.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: str = "SAME",
        rngs: nnx.Rngs,
    ):
        height, width = (size, size) if isinstance(size, int) else size
        shape = (height, width, inputs, outputs)
        self.kernel = nnx.Param(nnx.initializers.he_normal()(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))
        self.stride, self.padding = stride, padding

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = self.kernel[...], self.bias[...].astype(x.dtype)
        if self.padding == "VALID":
            _check_size(x, *kernel.shape[:2])
        y = ops.convolve(x, kernel, self.stride, self.padding)
        return y + bias.reshape(1, 1, 1, -1)


def max_pool(x: jax.Array, size: int, stride: int, padding: str = "VALID") -> jax.Array:
    """Max pool of `[B, H, W, C]`; with VALID, pixels that do not fill a window are dropped."""
    if padding == "VALID":
        _check_size(x, size, size)
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, size, size, 1), (1, stride, stride, 1), padding
    )


def _check_size(x: jax.Array, height: int, width: int) -> None:
    if x.shape[1] < height or x.shape[2] < width:
        raise UserError(
            f"the image is too small for the layers asked: a map of {x.shape[1]}x{x.shape[2]} is "
            f"left where {height}x{width} is needed; use a larger image or an earlier layer"
        )


def preprocess(images: jax.Array, convention: str) -> jax.Array:
    """Images in [-1, 1] RGB -> what a released network was trained on, in the same dtype.

    `caffe`: BGR in 0..255 minus the ImageNet means (Simonyan & Zisserman's models); `imagenet`: RGB
    in 0..1, mean and deviation normalised (torchvision); `none`: RGB in 0..1.
    """
    x = images.astype(jnp.float32)
    if convention == "caffe":
        means = jnp.array([103.939, 116.779, 123.68]).reshape(1, 1, 1, 3)
        x = (x[..., ::-1] + 1) * 127.5 - means
    elif convention == "imagenet":
        means = jnp.array([0.485, 0.456, 0.406]).reshape(1, 1, 1, 3)
        deviations = jnp.array([0.229, 0.224, 0.225]).reshape(1, 1, 1, 3)
        x = ((x + 1) / 2 - means) / deviations
    else:
        x = (x + 1) / 2
    return x.astype(images.dtype)


def upto(layers: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    """`layers` up to the last one asked, or a UserError for a name that is not among them."""
    if isinstance(asked, str) or not asked:
        raise UserError(f"layers must be a tuple of names, not {asked!r}; allowed: {_list(layers)}")
    for name in asked:
        if name not in layers:
            hint = did_you_mean(str(name), layers)
            raise UserError(f"unknown layer {name!r}{hint}; allowed: {_list(layers)}")
    return layers[: 1 + max(layers.index(name) for name in asked)]


def check_choice(what: str, value: Any, allowed: Collection[Any]) -> None:
    """UserError unless `value` is one of `allowed`."""
    if value not in allowed:
        hint = did_you_mean(str(value), map(str, allowed))
        raise UserError(f"{what} is {value!r}{hint}; allowed: {_list(allowed)}")


def parse(kind: type[_Options], options: Mapping[str, Any]) -> _Options:
    """The dataclass `kind` of a mapping; an unknown key is a UserError."""
    fields = [field.name for field in dataclasses.fields(kind)]  # pyright: ignore[reportArgumentType]
    for name in options:
        if name not in fields:
            hint = did_you_mean(name, fields)
            raise UserError(f"unknown option {name!r}{hint}; allowed: {_list(fields) or 'none'}")
    return kind(**options)


def _list(names: Collection[Any]) -> str:
    return ", ".join(map(str, names))
