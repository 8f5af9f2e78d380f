"""MTCNN, the three small networks of a face detector (Zhang et al. 2016, arXiv:1604.02878).

`detect` runs them one after the other: P-net on every place of a picture, R-net and O-net on what
is left, and O-net finds five points of the face as well.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from artifygan_jax.nets import _taps as taps

# Layer: (channels, side of the kernel, max pool behind it as (side, padding) or None); pools have
# stride 2. The fully connected layer of R-net and O-net is their last convolution, as wide as the map.
LAYERS = {
    "pnet": ((10, 3, (2, "SAME")), (16, 3, None), (32, 3, None)),
    "rnet": ((28, 3, (3, "SAME")), (48, 3, (3, "VALID")), (64, 2, None), (128, 3, None)),
    "onet": (
        (32, 3, (3, "SAME")),
        (64, 3, (3, "VALID")),
        (64, 3, (2, "SAME")),
        (128, 2, None),
        (256, 3, None),
    ),
}
SIDES = {"pnet": 12, "rnet": 24, "onet": 48}  # the square that one answer of each net looks at


@dataclasses.dataclass(unsafe_hash=True)
class Options:
    """Which of the three networks: "pnet", "rnet" or "onet"."""

    stage: str = "pnet"


class PReLU(nnx.Module):
    """`max(x, 0) + slope * min(x, 0)` with a slope for each channel (He et al. 2015)."""

    def __init__(self, channels: int):
        self.slope = nnx.Param(jnp.full(channels, 0.25))

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x > 0, x, x * self.slope[...].reshape(1, 1, 1, -1))


class MTCNN(nnx.Module):
    """One of the three networks; a new one has random (He-normal) weights."""

    def __init__(self, options: Options, *, rngs: nnx.Rngs):
        taps.check_choice("stage", options.stage, tuple(LAYERS))
        self.options = options
        inputs = 3
        for n, (channels, side, _) in enumerate(LAYERS[options.stage], 1):
            conv = taps.Conv(inputs, channels, side, padding="VALID", rngs=rngs)
            setattr(self, f"conv{n}", conv)
            setattr(self, f"prelu{n}", PReLU(channels))
            inputs = channels
        self.face = taps.Conv(inputs, 2, 1, rngs=rngs)
        self.box = taps.Conv(inputs, 4, 1, rngs=rngs)
        if options.stage == "onet":
            self.points = taps.Conv(inputs, 10, 1, rngs=rngs)

    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """Images `[B, H, W, 3]` in [-1, 1] RGB -> an answer for each square of `SIDES` pixels.

        `face` `[B, h, w]` is the probability of a face. `box` `[B, h, w, 4]` is how far its edges
        (left, top, right, bottom) are from those of the square, in sides of it. O-net alone:
        `points` `[B, h, w, 5, 2]`, the (x, y) of left eye, right eye, nose, left and right corner
        of the mouth as seen in the picture, from the upper left corner, in sides of the square.
        P-net's squares are 2 pixels apart; R-net and O-net are meant for single squares.
        """
        x = images * (127.5 / 128)  # the nets were trained on (value - 127.5) / 128
        for n, (_, _, pool) in enumerate(LAYERS[self.options.stage], 1):
            x = getattr(self, f"prelu{n}")(getattr(self, f"conv{n}")(x))
            if pool:
                x = taps.max_pool(x, pool[0], 2, pool[1])
        found = {"face": jax.nn.softmax(self.face(x))[..., 1], "box": self.box(x)}
        if self.options.stage == "onet":
            points = self.points(x)  # five x, then five y
            found["points"] = jnp.stack([points[..., :5], points[..., 5:]], axis=-1)
        return found


def build(net: str, options: Mapping[str, Any], *, rngs: nnx.Rngs) -> MTCNN:
    """The net called `net` (only "mtcnn"); its option is the `stage`."""
    taps.check_choice("net", net, ("mtcnn",))
    return MTCNN(taps.parse(Options, options), rngs=rngs)
