"""How well a classifier tells attributes of held-out pictures."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from artifygan_jax.metrics.evals import Generate, in_batches, pictures_of


@dataclasses.dataclass
class Accuracy:
    """Over the attributes `names`: the mean share told rightly, and `balanced`, the mean over having
    an attribute and not having it, which guessing the commoner leaves at 1/2."""

    photos: Any
    names: tuple[str, ...]
    every: int = 1000
    count: int = 1000
    size: int = 256

    def run(self, generate: Generate, step: int, workdir: pathlib.Path) -> Iterator:
        """The numbers."""
        found = in_batches(generate, pictures_of(self.photos, self.count, self.size)) > 0
        wanted = self.photos.marked(self.names)[: len(found)]
        yield "right", float((found == wanted).mean())
        yield "balanced", float(np.nanmean(balanced(found, wanted)))


def balanced(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """`[K]`: mean of the shares of right answers among wanted and unwanted, bool `[N, K]`."""
    right = found == wanted
    shares = [(right & mask).sum(0) / np.maximum(mask.sum(0), 1) for mask in (wanted, ~wanted)]
    both = wanted.any(0) & ~wanted.all(0)
    return np.where(both, np.mean(shares, axis=0), np.nan)
