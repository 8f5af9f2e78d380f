"""How unlike pictures look to what weights are at hand: LPIPS, a feature network, or mere pixels."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.nets.lpips import BACKBONES, LPIPS, Options

# Names of bundles as `models get` gives them: the head and the backbones that it may be for.
HEADS = {
    "lpips_vgg": ("vgg16",),
    "lpips_squeeze": ("squeezenet_torch", "squeezenet"),
    "lpips_alex": ("alexnet",),
}
ALONE = ("vgg16", "vgg19", "squeezenet_torch", "squeezenet", "alexnet")
LARGEST, SMALLEST = 256, 64  # pixels a side that a network looks at (256: as NVIDIA's projector)
Maps = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Distance:
    """`graph` and `weights` are of (head, backbone), or None: then pixels at several scales.

    Programs take `weights` as an argument.
    """

    name: str
    graph: Any = None
    weights: Any = None

    def maps(self, weights: Any, images: jax.Array) -> Maps:
        """What is compared of pictures `[N, S, S, 3]` in [-1, 1]; S a power of 2."""
        if self.graph is None:
            return _pyramid(images)
        head, net = nnx.merge(self.graph, weights)
        return net(_seen(images), head.layers)

    def between(self, weights: Any, a: Maps, b: Maps) -> jax.Array:
        """Distances `[N]`, 0 for equal pictures."""
        if self.graph is None:
            return sum((jnp.square(a[k] - b[k]).mean((1, 2, 3)) for k in a), start=jnp.zeros(()))
        return nnx.merge(self.graph, weights)[0](a, b)


def find(text: str = "auto") -> Distance:
    """The distance of `--perceptual`: `auto`, `none`, `BACKBONE` or `HEAD:BACKBONE`, names or folders.

    A backbone alone is compared as LPIPS compares it, with all channels of a layer alike. `auto`
    takes the first pair of `HEADS`, else the first of `ALONE`, that is at hand, else none.
    """
    if text == "none":
        return Distance("pixels")
    if text != "auto":
        head, colon, backbone = text.rpartition(":")
        return _of(head, backbone)
    pairs = [(head, net) for head, nets in HEADS.items() for net in nets]
    for head, net in pairs + [("", net) for net in ALONE]:
        if (not head or bundle.is_here(head)) and bundle.is_here(net):
            return _of(head, net)
    return Distance("pixels")


def _of(head: str, backbone: str) -> Distance:
    net, card = bundle.load(backbone)
    layers = getattr(net, "layers", ())
    if head:
        weighing, _ = bundle.load(head)
        if not isinstance(weighing, LPIPS):
            raise UserError(f"{head} is no LPIPS head; convert one with --arch=lpips")
    else:
        fits = [kind for kind, taps in BACKBONES.items() if set(taps) <= set(layers)]
        if not fits:
            kind = f"{card['architecture']} {card['net']}"
            raise UserError(
                f"{backbone} is a {kind}, whose layers no perceptual distance is known of; give a"
                f" bundle of {', '.join(ALONE)}, or --perceptual=none"
            )
        weighing = LPIPS(Options(fits[0]), rngs=nnx.Rngs(0))
    missing = [name for name in weighing.layers if name not in layers]
    if missing:
        raise UserError(f"{head} weighs {', '.join(missing)}, which {backbone} does not have")
    graph, weights = nnx.split((weighing, net))
    return Distance(
        f"lpips {head}:{backbone}" if head else f"features of {backbone}", graph, weights
    )


def _seen(images: jax.Array) -> jax.Array:
    """Pictures at 64 to 256 px: averaged over squares, or enlarged."""
    side = images.shape[1]
    if side > LARGEST:
        return _halved(images, side // LARGEST)
    if side < SMALLEST:
        shape = (len(images), SMALLEST, SMALLEST, 3)
        return jax.image.resize(images, shape, "bilinear")
    return images


def _pyramid(images: jax.Array) -> Maps:
    maps = {}
    while images.shape[1] >= 4:
        maps[f"side{images.shape[1]}"] = images
        images = _halved(images, 2)
    return maps


def _halved(images: jax.Array, factor: int) -> jax.Array:
    """Means over squares of `factor` px."""
    n, h, w, c = images.shape
    return images.reshape(n, h // factor, factor, w // factor, factor, c).mean((2, 4))
