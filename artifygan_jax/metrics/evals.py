"""What a run looks at while it trains: objects with `every` and `run(generate, step, workdir)`.

`generate` takes uint8 pictures `[N, H, W, 3]` and gives the averaged nets' uint8 outputs; `run` yields
(name, number) pairs.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from artifygan_jax import augment
from artifygan_jax.content import Content
from artifygan_jax.data.streams import square
from artifygan_jax.metrics import distances
from artifygan_jax.nets import ops

Generate = Callable[[np.ndarray], np.ndarray]


def pictures_of(source: Any, count: int, size: int) -> np.ndarray:
    """The first `count` pictures of a source (0: all), uint8 `[N, size, size, 3]`."""
    count = min(count or len(source), len(source))
    return np.stack([square(source[i], size) for i in range(count)])


def in_batches(generate: Generate, pictures: np.ndarray, batch: int = 16) -> np.ndarray:
    """`generate` over pictures in batches of one shape, so that it is compiled once."""
    out = []
    for i in range(0, len(pictures), batch):
        part = pictures[i : i + batch]
        room = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
        out.append(generate(room)[: len(part)])
    return np.concatenate(out)


def grid(rows: list[list[np.ndarray]], gap: int = 2) -> np.ndarray:
    """Pictures of one size as one, on white."""
    h, w, _ = rows[0][0].shape
    height, width = len(rows) * (h + gap) - gap, max(map(len, rows)) * (w + gap) - gap
    sheet = np.full((height, width, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            sheet[r * (h + gap) : r * (h + gap) + h, c * (w + gap) : c * (w + gap) + w] = image
    return sheet


@dataclasses.dataclass
class Samples:
    """A grid `samples/STEP.png`: the first pictures of a source and what becomes of them, side by side."""

    source: Any
    every: int = 1000
    count: int = 12
    size: int = 256
    pairs_per_row: int = 3

    @functools.cached_property
    def inputs(self) -> np.ndarray:
        """The inputs, always the same."""
        return pictures_of(self.source, self.count, self.size)

    def run(self, generate: Generate, step: int, workdir: pathlib.Path) -> Iterator:
        """Writes the grid; has no numbers."""
        outputs = in_batches(generate, self.inputs)
        cells = [image for pair in zip(self.inputs, outputs, strict=True) for image in pair]
        width = 2 * self.pairs_per_row
        sheet = grid([cells[i : i + width] for i in range(0, len(cells), width)])
        write_sheet(sheet, workdir / "samples" / f"{step:07d}.png")
        return iter(())


def write_sheet(sheet: np.ndarray, path: pathlib.Path) -> None:
    """A PNG, whole or not at all; its folder is made."""
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(".tmp")
    Image.fromarray(sheet).save(fresh, format="PNG")
    fresh.replace(path)


@dataclasses.dataclass(eq=False)
class Distance:
    """How far outputs are from held-out cartoons, in the features of a frozen net; no FID by itself.

    `distance` is the Frechet distance between Gaussians of pooled features (mean over the pixels of
    `content.layers`), `photos` the untouched photos' own distance, `kid` the kernel distance x 1000.
    `content` is the mean difference of the pooled features of photo and output, `diversity` that of
    neighbouring outputs over that of neighbouring inputs in grey levels (0: all outputs are alike).
    """

    photos: Any
    cartoons: Any
    content: Content
    every: int = 1000
    count: int = 200
    size: int = 256

    @functools.cached_property
    def reference(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(photos, their features, the cartoons' features), computed once."""
        photos = pictures_of(self.photos, self.count, self.size)
        cartoons = pictures_of(self.cartoons, self.count, self.size)
        return photos, self._features(photos), self._features(cartoons)

    def _features(self, pictures: np.ndarray) -> np.ndarray:
        return in_batches(lambda x: np.asarray(self._pooled(x)), pictures)

    @functools.cached_property
    def _pooled(self) -> Callable:
        return pooling(self.content)

    def run(self, generate: Generate, step: int, workdir: pathlib.Path) -> Iterator:
        """The numbers."""
        photos, photo_features, cartoon_features = self.reference
        outputs = in_batches(generate, photos)
        found = self._features(outputs)
        yield "distance", distances.frechet_from_features(found, cartoon_features)
        yield "photos", distances.frechet_from_features(photo_features, cartoon_features)
        size = min(len(found), len(cartoon_features)) // 2
        yield "kid", 1000 * distances.kid(found, cartoon_features, subset_size=size, seed=0)[0]
        yield "content", float(np.abs(found - photo_features).mean())
        yield "diversity", pairwise(outputs) / max(pairwise(photos), 1e-9)


def pooling(content: Content) -> Callable:
    """A program from uint8 pictures `[N, H, W, 3]` to features `[N, C]`, means over the pixels."""
    net = content.load()

    def pooled(x):
        found = content.features(net, augment.to_float(x)).values()
        return jnp.concatenate([m.mean((1, 2)) if m.ndim == 4 else m for m in found], axis=-1)

    return ops.jit(pooled)


def pairwise(pictures: np.ndarray) -> float:
    """Mean absolute difference between neighbours in a ring of pictures, in grey levels."""
    x = pictures.astype(np.float32)
    return float(np.abs(x - np.roll(x, 1, axis=0)).mean())
