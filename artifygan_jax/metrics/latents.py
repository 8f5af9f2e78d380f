"""What a run of a generator from latents looks at: the `evals` of `metrics.evals`, without photos."""

import dataclasses
import functools
import logging
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from artifygan_jax import bundle
from artifygan_jax.content import Content
from artifygan_jax.errors import UserError
from artifygan_jax.metrics import distances, features
from artifygan_jax.metrics.evals import (
    Generate,
    grid,
    in_batches,
    pairwise,
    pictures_of,
    pooling,
    write_sheet,
)
from artifygan_jax.metrics.measure import Extractor
from artifygan_jax.metrics.quality import likeness, reference


def of_seeds(seeds: range, size: int) -> np.ndarray:
    """Latents `[N, size]` float32, each drawn by its seed alone, as NVIDIA's programs draw them."""
    drawn = [np.random.RandomState(seed).randn(size) for seed in seeds]
    return np.asarray(drawn, np.float32).reshape(len(seeds), size)


@dataclasses.dataclass
class Seeds:
    """Grids `samples/STEP.png` of the first seeds."""

    every: int = 1000
    count: int = 32
    z_size: int = 512
    per_row: int = 8

    def run(self, generate: Generate, step: int, workdir: pathlib.Path) -> Iterator:
        """Writes the grid; has no numbers."""
        fakes = in_batches(generate, of_seeds(range(self.count), self.z_size))
        write_rows(fakes, self.per_row, workdir / "samples" / f"{step:07d}.png")
        return iter(())


@dataclasses.dataclass
class Snapshots:
    """Grids `samples/STEP.png` of the first seeds, and once `samples/real.png` of real pictures."""

    real: Any
    every: int = 1000
    count: int = 32
    size: int = 256
    z_size: int = 512
    per_row: int = 8

    def run(self, generate: Generate, step: int, workdir: pathlib.Path) -> Iterator:
        """Writes the grids; has no numbers."""
        real = workdir / "samples" / "real.png"
        if not real.exists():
            write_rows(pictures_of(self.real, self.count, self.size), self.per_row, real)
        return Seeds(self.every, self.count, self.z_size, self.per_row).run(generate, step, workdir)


def write_rows(pictures: np.ndarray, per_row: int, path: pathlib.Path) -> None:
    """A sheet of pictures in rows."""
    write_sheet(
        grid([list(pictures[i : i + per_row]) for i in range(0, len(pictures), per_row)]), path
    )


@dataclasses.dataclass
class Reconstruction:
    """How well held-out photos come back from their codes.

    `mse` of values in [-1, 1]; `nearest`, the share of outputs to which no other photo is nearer than
    their own.
    """

    photos: Any
    every: int = 1000
    count: int = 200
    size: int = 256

    def run(self, generate: Generate, step: int, workdir: pathlib.Path) -> Iterator:
        """The numbers."""
        photos = pictures_of(self.photos, self.count, self.size)
        drawn = in_batches(generate, photos)
        a, b = (x.reshape(len(x), -1).astype(np.float64) / 127.5 - 1 for x in (drawn, photos))
        squares = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)[None]
        yield "mse", float(np.diag(squares).mean() / a.shape[1])
        yield "nearest", float((squares.argmin(1) == np.arange(len(a))).mean())


@dataclasses.dataclass(eq=False)
class GeneratedDistance:
    """How far generated pictures are from held-out real ones, in the features of a frozen net; no FID.

    `distance` and `kid` (x 1000) as in `metrics.evals.Distance`; `diversity` is the mean difference of
    neighbouring generated pictures over that of real ones.
    """

    real: Any
    content: Content
    every: int = 1000
    count: int = 500
    size: int = 256
    z_size: int = 512

    @functools.cached_property
    def reference(self) -> tuple[np.ndarray, float]:
        """(features, mean difference of neighbours) of the real pictures."""
        pictures = pictures_of(self.real, self.count, self.size)
        return self._features(pictures), pairwise(pictures)

    def _features(self, pictures: np.ndarray) -> np.ndarray:
        return in_batches(lambda x: np.asarray(self._pooled(x)), pictures)

    @functools.cached_property
    def _pooled(self) -> Callable:
        return pooling(self.content)

    def run(self, generate: Generate, step: int, workdir: pathlib.Path) -> Iterator:
        """The numbers."""
        reference, variety = self.reference
        # Seeds far from those of the grids.
        seeds = range(10**6, 10**6 + len(reference))
        fakes = in_batches(generate, of_seeds(seeds, self.z_size))
        found = self._features(fakes)
        yield "distance", distances.frechet_from_features(found, reference)
        size = max(2, len(reference) // 2)
        yield "kid", 1000 * distances.kid(found, reference, subset_size=size, seed=0)[0]
        yield "diversity", pairwise(fakes) / max(variety, 1e-9)


@dataclasses.dataclass(eq=False)
class GeneratedQuality:
    """FID of generated pictures and what else `metrics.quality.likeness` has, by Inception's `layer`.

    `count` of each set (the papers': 50,000 generated, all real ones). An `inception` that begins with
    ? may be missing: that is said once, and there are no numbers.
    """

    real: Any
    inception: str = "inception"
    layer: str = "2048"
    resize: str = "clean"
    every: int = 5000
    count: int = 50_000
    size: int = 256
    z_size: int = 512

    @functools.cached_property
    def extractor(self) -> Extractor | None:
        """The feature network, or None where an optional one is missing."""
        try:
            bundle.find(self.inception.removeprefix("?"))
        except UserError as error:
            if not self.inception.startswith("?"):
                raise
            logging.warning("no FID in this run: %s; `models get inception` has it", error)
            return None
        return Extractor(self.inception.removeprefix("?"), self.layer, self.resize)

    @functools.cached_property
    def reference(self) -> np.ndarray:
        """The real pictures' features."""
        assert self.extractor is not None
        return reference(self.real, self.size, self.count, self.extractor, "real pictures")

    def run(self, generate: Generate, step: int, workdir: pathlib.Path) -> Iterator:
        """The numbers."""
        if self.extractor is None:
            return
        wanted, start = self.reference, time.monotonic()
        # Seeds far from those of the grids; pictures are not kept.
        parts = (
            range(10**6 + i, 10**6 + min(i + 256, self.count)) for i in range(0, self.count, 256)
        )
        drawn = (in_batches(generate, of_seeds(part, self.z_size)) for part in parts)
        how: dict[str, Any] = dict(layer=self.layer, resize=self.resize)
        found = features.extract(self.extractor.net, drawn, **how)
        yield from likeness(found, wanted, self.layer)
        yield "seconds", time.monotonic() - start
