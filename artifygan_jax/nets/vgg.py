"""VGG-16 and VGG-19 feature networks (Simonyan & Zisserman 2015, table 1, columns D and E)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from artifygan_jax.nets import _taps as taps

CONVS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
WIDTHS = (1, 2, 4, 8, 8)


@dataclasses.dataclass(unsafe_hash=True)
class Options:
    """`channels` is the width of the first block: 64 in the paper, less for narrow nets."""

    depth: int = 19
    preprocess: str = "caffe"
    channels: int = 64

    def __post_init__(self):
        taps.check_choice("depth", self.depth, tuple(CONVS))
        taps.check_choice("preprocess", self.preprocess, taps.PREPROCESS)


class VGG(nnx.Module):
    """The convolutional part of VGG; a new one has random (He-normal) weights, not trained ones.

    Layers: `conv4_4` is the map BEFORE its ReLU (CartoonGAN's and AnimeGAN's content layer),
    `relu4_4` after it, `pool4` after the 2x2 max pool that ends block 4 (torchvision's VGG16
    `features[:24]`, ArtifyGAN's). Weights in the Caffe convention want `preprocess="caffe"`,
    torchvision's want `"imagenet"`; ArtifyGAN fed torchvision's with `"none"`.
    """

    def __init__(self, options: Options, *, rngs: nnx.Rngs):
        self.options = options
        inputs = 3
        for block, width in enumerate(WIDTHS, start=1):
            for i in range(1, CONVS[options.depth][block - 1] + 1):
                conv = taps.Conv(inputs, width * options.channels, 3, rngs=rngs)
                setattr(self, f"conv{block}_{i}", conv)
                inputs = width * options.channels

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all layers, first to last."""
        names = []
        for block, convs in enumerate(CONVS[self.options.depth], start=1):
            for i in range(1, convs + 1):
                names += [f"conv{block}_{i}", f"relu{block}_{i}"]
            names.append(f"pool{block}")
        return tuple(names)

    def __call__(self, images: jax.Array, layers: tuple[str, ...]) -> dict[str, jax.Array]:
        """Images `[B, H, W, 3]` in [-1, 1] RGB -> `{layer: [B, h, w, C]}` of the layers asked.

        Nothing after the last layer asked is computed. An unknown layer, or an image that pooling
        has used up before the last layer, is a UserError.
        """
        x, found = taps.preprocess(images, self.options.preprocess), {}
        for name in taps.upto(self.layers, layers):
            if name.startswith("conv"):
                x = getattr(self, name)(x)
            elif name.startswith("relu"):
                x = jax.nn.relu(x)
            else:
                x = taps.max_pool(x, 2, 2)
            found[name] = x
        return {name: found[name] for name in layers}


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> VGG:
    """The net called `net` (only "vgg") with `options` as in `Options`."""
    taps.check_choice("net", net, ("vgg",))
    return VGG(taps.parse(Options, options), rngs=rngs)
