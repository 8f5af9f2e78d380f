"""The measures of `evaluate compare` while a run trains: an object with `every` and `run`, as in `evals`."""

import dataclasses
import functools
import logging
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from artifygan_jax.errors import UserError
from artifygan_jax.metrics import coverage, distances, features
from artifygan_jax.metrics.evals import Generate, in_batches, pictures_of
from artifygan_jax.metrics.identity import Identity
from artifygan_jax.metrics.measure import Extractor, measure
from artifygan_jax.metrics.perceptual import Lpips
from artifygan_jax.metrics.sets import from_source


@dataclasses.dataclass(eq=False)
class Quality:
    """How good outputs for `photos` are beside `cartoons`, by the averaged nets.

    * `fid`: Frechet distance in Inception's `layer` of `inception` (`fd` where that is not 2048); `kid`
      x 1000 and its standard error; `precision`, `recall`, `density`, `coverage` from six pictures on.
    * `lpips` to the own photo, if `lpips` names "HEAD:BACKBONE"; `cosine` to the own face and `rank1`,
      if `identity` names a face embedding.
    * `seconds` that this took, the first time without the cartoons' own features, which are kept in the
      cache by their content and shared by all runs.

    `count` of each set (0: all), as squares of `size` px. A best checkpoint by one of these: `cfg.best`.
    """

    photos: Any
    cartoons: Any
    inception: str = "inception"
    layer: str = "2048"
    resize: str = "clean"
    lpips: str = ""
    identity: str = ""
    every: int = 5000
    count: int = 0
    size: int = 256

    @functools.cached_property
    def inputs(self) -> np.ndarray:
        """The photos, always the same."""
        return pictures_of(self.photos, self.count, self.size)

    @functools.cached_property
    def extractor(self) -> Extractor:
        """The feature network."""
        return Extractor(self.inception, self.layer, self.resize)

    @functools.cached_property
    def reference(self) -> np.ndarray:
        """The cartoons' features."""
        return reference(self.cartoons, self.size, self.count, self.extractor, "cartoons")

    @functools.cached_property
    def perceptual(self) -> Lpips:
        """LPIPS."""
        head, _, backbone = self.lpips.partition(":")
        if not (head and backbone):
            raise UserError(f"lpips is {self.lpips!r}, wanted HEAD:BACKBONE, two bundles")
        return Lpips(head, backbone)

    @functools.cached_property
    def faces(self) -> Identity:
        """The face embedding."""
        return Identity(self.identity)

    def run(self, generate: Generate, step: int, workdir: pathlib.Path) -> Iterator:
        """The numbers."""
        wanted, start = self.reference, time.monotonic()
        outputs = in_batches(generate, self.inputs)
        net = self.extractor.net
        found = features.extract(net, outputs, layer=self.layer, resize=self.resize)
        yield from likeness(found, wanted, self.layer)
        if self.lpips:
            yield "lpips", float(self.perceptual(self.inputs, outputs).mean())
        if self.identity:
            same = self.faces.similarity(list(self.inputs), list(outputs))
            yield "cosine", float(np.nanmean(same["cosine"]))
            yield "rank1", same["rank1"]
        seconds = time.monotonic() - start
        logging.info("quality of %d outputs at step %d in %.1f s", len(outputs), step, seconds)
        yield "seconds", seconds


def reference(source: Any, size: int, count: int, extractor: Extractor, label: str) -> np.ndarray:
    """Features `[N, d]` of a set (its first `count`, 0: all), kept in the cache by its content."""
    pictures = from_source(source, size=size, count=count)
    found = measure(pictures, extractor, say=logging.info, label=label)
    if found.features is None:
        raise UserError(f"{len(pictures):,} {label} are too many; set count to 50000 or less")
    return found.features


def likeness(found: np.ndarray, wanted: np.ndarray, layer: str) -> Iterator[tuple[str, float]]:
    """Distances of two sets of features: Frechet, KID, and from six pictures on shares by neighbours."""
    yield "fid" if layer == "2048" else "fd", distances.frechet_from_features(found, wanted)
    kid, error = distances.kid(found, wanted)
    yield "kid", 1000 * kid
    yield "kid_error", 1000 * error
    if min(len(found), len(wanted)) > 5:
        yield from coverage.prdc(wanted, found).items()
