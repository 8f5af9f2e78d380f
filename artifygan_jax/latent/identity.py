"""Whether two aligned faces show one person, by a network that embeds faces."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.nets import ops

FACE = (35 / 256, 223 / 256, 126 / 256)  # rows, and the middle column, that identity is taken from


def face_net(where: str) -> Any:
    """The network that embeds faces, of 112 px."""
    net, card = bundle.load(where)
    if "embedding" not in getattr(net, "layers", ()):
        kind = f"{card['architecture']} {card['net']}"
        raise UserError(f"identity {where!r} is a {kind}, wanted a network that embeds faces")
    return net


def embedding(net: Any, images: jax.Array) -> jax.Array:
    """Unit embeddings `[N, E]` of aligned faces, cut as pSp's identity loss cuts them.

    A net of faces less wide than high gets less of both sides.
    """
    side, (height, width) = images.shape[1], net.size
    top, bottom = (round(x * side) for x in FACE[:2])
    half, middle = (bottom - top) * width / height / 2, FACE[2] * side
    face = images[:, top:bottom, round(middle - half) : round(middle + half)]
    face = jax.image.resize(face, (len(face), height, width, 3), "bilinear")
    e = net(face, ("embedding",))["embedding"]
    return e / jnp.maximum(jnp.linalg.norm(e, axis=1, keepdims=True), 1e-8)


class Likeness:
    """Cosines of the embeddings of pairs of aligned faces: 1 for one picture, about 0 for strangers."""

    def __init__(self, where: str = "mobilefacenet"):
        graph, self._weights = nnx.split(face_net(where))
        self._embed = ops.jit(lambda weights, x: embedding(nnx.merge(graph, weights), x))

    @classmethod
    def at_hand(cls, where: str = "mobilefacenet") -> "Likeness | None":
        """The likeness by `where`, or None where that bundle is not there."""
        return cls(where) if bundle.is_here(where) else None

    def embeddings(self, images: np.ndarray) -> np.ndarray:
        """Unit vectors `[N, E]` of faces `[N, S, S, 3]`, uint8 or floats in [-1, 1]."""
        x = jnp.asarray(images, jnp.float32)
        return np.asarray(
            self._embed(self._weights, x / 127.5 - 1 if images.dtype == np.uint8 else x)
        )

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """`[N]`."""
        return (self.embeddings(a) * self.embeddings(b)).sum(1)
