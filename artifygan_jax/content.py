"""Content losses: a frozen network with named activations, and how two pictures differ in it."""

import dataclasses
import json

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax import bundle, losses
from artifygan_jax.errors import UserError, did_you_mean


@dataclasses.dataclass
class Content:
    """L1 between activations of two pictures in a frozen network, summed over `layers`.

    `net` is a model bundle with named activations (VGG16/19, SqueezeNet, Inception; a folder or a
    name), or `random:ARCHITECTURE`, that network with random weights from `seed`. `options` (JSON)
    are those of the network; for a bundle they replace its own (`{"preprocess": "none"}`). `resize`
    scales pictures to that side first (CartoonGAN's authors: 224); 0 does not. `reduction` is "mean"
    or "sum" (over batch and all).
    """

    net: str = "random:vgg"
    layers: tuple[str, ...] = ("conv4_4",)
    options: str = "{}"
    resize: int = 0
    reduction: str = "mean"
    seed: int = 0

    def load(self) -> nnx.Module:
        """The frozen network."""
        if self.reduction not in ("mean", "sum"):
            raise UserError(f"content.reduction is {self.reduction!r}, allowed are mean, sum")
        options = self._parsed_options()
        if self.net.startswith("random:"):
            arch = self.net.removeprefix("random:")
            net = bundle.architecture(arch).build(arch, options, rngs=nnx.Rngs(self.seed))
        else:
            net, card = bundle.load(self.net)
            if options:
                options = card["options"] | options
                arrays = bundle.variables(net)
                net = bundle.build(card["architecture"], card["net"], options, arrays)
        layers: tuple[str, ...] = getattr(net, "layers", ())
        if not layers:
            raise UserError(f"{self.net} has no named activations: it is no content network")
        for layer in self.layers:
            if layer not in layers:
                hint = did_you_mean(layer, layers)
                raise UserError(
                    f"{self.net} has no layer {layer!r}{hint}; it has {', '.join(layers)}"
                )
        return net

    def _parsed_options(self) -> dict:
        try:
            options = json.loads(self.options)
        except ValueError:
            options = None
        if not isinstance(options, dict):
            raise UserError(
                f"content.options is {self.options!r}, wanted a JSON object such as"
                ' {"channels": 16}'
            )
        return options

    def loss(self, net: nnx.Module, a: jax.Array, b: jax.Array) -> jax.Array:
        """The scalar difference of pictures `a` and `b` `[B, H, W, 3]` in [-1, 1]."""
        of_a, of_b = self.features(net, a), self.features(net, b)
        each = (losses.feature_l1(of_a[k], of_b[k], self.reduction) for k in self.layers)
        return sum(each, start=jnp.zeros(()))

    def features(self, net: nnx.Module, x: jax.Array) -> dict[str, jax.Array]:
        """The activations of `x` `[B, H, W, 3]` in [-1, 1] by layer."""
        if self.resize:
            shape = (len(x), self.resize, self.resize, 3)
            resized = jax.image.resize(x.astype(jnp.float32), shape, "bilinear", antialias=False)
            x = resized.astype(x.dtype)
        return net(x, tuple(self.layers))
