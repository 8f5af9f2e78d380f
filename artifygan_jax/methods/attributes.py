"""Trains a classifier of CelebA's 40 attributes, by which directions in codes are found and judged."""

import dataclasses
from collections.abc import Mapping

import jax
import optax
from flax import nnx

from artifygan_jax.data.celeba.contents import ATTRIBUTES
from artifygan_jax.nets.attributes import Classifier, Options
from artifygan_jax.nets.stylegan2 import widths
from artifygan_jax.phases import Phase


@dataclasses.dataclass
class AttributeTraining:
    """Hyper-parameters; batches hold `real`, pictures, and `labels`, 1 or 0 for each of `names`.

    `smoothing` is how far labels are drawn from 1 and 0 towards 1/2: CelebA's contradict themselves.
    """

    channels: tuple[int, ...] = widths(256, 8192, 256)
    names: tuple[str, ...] = ATTRIBUTES
    smoothing: float = 0.05

    def nets(self, rngs: nnx.Rngs) -> dict[str, nnx.Module]:
        """The classifier."""
        return {"classifier": Classifier(Options(self.channels, self.names), rngs=rngs)}

    def frozen(self) -> dict[str, nnx.Module]:
        """None."""
        return {}

    def phases(self) -> tuple[Phase, ...]:
        """One."""
        return (Phase("classifier", ("classifier",), self.loss),)

    def loss(self, nets: Mapping, batch: Mapping, key: jax.Array):
        """The mean cross-entropy over attributes, each by itself."""
        logits, labels = nets["classifier"](batch["real"]), batch["labels"]
        wanted = labels + self.smoothing * (0.5 - labels)
        right = (logits > 0) == (labels > 0.5)
        return optax.sigmoid_binary_cross_entropy(logits, wanted).mean(), {"right": right.mean()}

    def generate(self, nets: Mapping, images: jax.Array) -> jax.Array:
        """Logits `[N, names]` of pictures."""
        return nets["classifier"](images)
