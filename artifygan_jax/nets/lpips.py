"""LPIPS, the learned perceptual distance (Zhang et al. 2018, arXiv:1801.03924): its linear heads.

The maps come from a backbone of its own bundle; `BACKBONES` says which of its layers. Nets that want
`preprocess="imagenet"` get the very input of the authors' "scaling layer".
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax.errors import UserError
from artifygan_jax.nets import _taps as taps

# Backbone: {layer: its channels}. SqueezeNet's layers are those of `nets.squeezenet`, VGG-16's those
# of `nets.vgg`, which both are ReLUs' results; AlexNet's are the five ReLUs of its convolutions.
BACKBONES = {
    "alex": {"relu1": 64, "relu2": 192, "relu3": 384, "relu4": 256, "relu5": 256},
    "vgg": {"relu1_2": 64, "relu2_2": 128, "relu3_3": 256, "relu4_3": 512, "relu5_3": 512},
    "squeeze": {
        **{"conv1": 64, "fire3": 128, "fire5": 256},
        **{"fire6": 384, "fire7": 384, "fire8": 512, "fire9": 512},
    },
}
EPSILON = 1e-10


@dataclasses.dataclass(unsafe_hash=True)
class Options:
    """Which backbone the head is for: "alex", "vgg" (VGG-16) or "squeeze" (SqueezeNet 1.1)."""

    backbone: str = "vgg"

    def __post_init__(self):
        taps.check_choice("backbone", self.backbone, tuple(BACKBONES))


class LPIPS(nnx.Module):
    """The weight of each channel of each layer; a new one weighs all channels of a layer alike."""

    def __init__(self, options: Options, *, rngs: nnx.Rngs):
        del rngs  # nothing is random
        self.options = options
        for n, channels in enumerate(BACKBONES[options.backbone].values()):
            setattr(self, f"lin{n}", nnx.Param(jnp.full(channels, 1 / channels)))

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of the backbone, whose maps are wanted."""
        return tuple(BACKBONES[self.options.backbone])

    def __call__(self, a: Mapping[str, jax.Array], b: Mapping[str, jax.Array]) -> jax.Array:
        """Maps `{layer: [B, h, w, C]}` of two batches of pictures -> their distances `[B]` float32.

        Version 0.1: maps are normalised over channels, squared differences weighted and summed over
        channels, averaged over pixels, summed over layers. `UserError` for a layer that is missing.
        """
        total = jnp.zeros(())
        for n, layer in enumerate(self.layers):
            if layer not in a or layer not in b:
                raise UserError(f"no maps of {layer!r}; the head needs {', '.join(self.layers)}")
            weights = getattr(self, f"lin{n}")[...].reshape(1, 1, 1, -1)
            squares = jnp.square(_normalised(a[layer]) - _normalised(b[layer]))
            total = total + (squares * weights).sum(-1).mean((1, 2))
        return total


def _normalised(x: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    return x / (jnp.sqrt(jnp.square(x).sum(-1, keepdims=True)) + EPSILON)


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> LPIPS:
    """The net called `net` (only "lpips"); its option is the `backbone`."""
    taps.check_choice("net", net, ("lpips",))
    return LPIPS(taps.parse(Options, options), rngs=rngs)
