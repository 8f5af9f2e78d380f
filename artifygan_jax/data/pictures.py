"""Where training pictures come from. A source is indexable: `len(s)`, `s[i]` uint8 `[H, W, 3]`, `s.name(i)`.

Any object with these three serves in a config; the embedded faces (`data.faces.Faces`) are one.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from artifygan_jax.data import records, sources
from artifygan_jax.data.celeba import contents
from artifygan_jax.data.images import open_picture
from artifygan_jax.data.labels import Labels, read_csv, select
from artifygan_jax.data.listing import Entry, list_pictures
from artifygan_jax.data.split import held_out
from artifygan_jax.errors import UserError


class _Listed:
    """The pictures of a folder, zip or glob, with what `records.Records` has too."""

    def __init__(self, path: str, table: str):
        self.entries: list[Entry] = list_pictures(path)
        self.names = [entry.name for entry in self.entries]
        self.table = table

    def read(self, index: int) -> bytes:
        """The bytes of picture `index`."""
        return self.entries[index].read()

    @functools.cached_property
    def labels(self) -> Labels:
        """The rows of the table, by name or by last part of it."""
        rows = _table(self.table) if self.table else {}
        found = [rows.get(name, rows.get(pathlib.PurePath(name).name)) for name in self.names]
        if not any(row is not None for row in found):
            raise UserError(
                f"labels {self.table!r}: no row for any of {len(found)} pictures such as"
                f" {self.names[0]}; `where` needs a table (file name first), or a prepared dataset"
            )
        return Labels.of(row or () for row in found)

    @property
    def fingerprint(self) -> str:
        """Changes with the pictures: zip members by their checksums, files by size and time."""
        digest = hashlib.sha256()
        for entry in self.entries:
            if entry.member is None:
                try:
                    stat = entry.path.stat()
                    mark = (stat.st_size, stat.st_mtime_ns)
                except OSError:
                    mark = ("missing",)
            else:
                mark = (entry.member.size, entry.member.crc)
            digest.update(repr((entry.name, *mark)).encode())
        return digest.hexdigest()


@dataclasses.dataclass
class Pictures:
    """The pictures of a folder, a zip, `FILE.zip/FOLDER` or a prepared dataset, in the order of their names.

    A prepared dataset (CelebA, COCO, Safebooru by `prepare`) is given by its folder.
    `split` is "train" (seven of eight), "held_out" (every eighth name, see `data.split`) or "all".
    `where` keeps those whose labels fit (`Smiling & ~Eyeglasses`, see `data.labels`); the labels are
    the dataset's attributes, tags or categories, or those of `labels`: a CSV with file names first, or
    CelebA's list_attr_celeba.txt (FILE.zip/NAME where it is in a zip).
    `count` keeps so many of them (0: all), chosen at random, always the same.
    """

    path: str
    split: str = "all"
    where: str = ""
    labels: str = ""
    count: int = 0

    @functools.cached_property
    def _shelf(self) -> _Listed | records.Records:
        folder = records.dataset_folder(self.path)
        if folder is None:
            return _Listed(self.path, self.labels)
        if self.labels:
            raise UserError(f"labels={self.labels!r}: {self.path} is a dataset with its own labels")
        return records.Records(folder)

    @functools.cached_property
    def _chosen(self) -> np.ndarray:
        names = self._shelf.names
        if self.split not in ("all", "train", "held_out"):
            raise UserError(f"split is {self.split!r}, allowed are all, train, held_out")
        keep = np.ones(len(names), bool)
        if self.split != "all":
            keep &= held_out(names) == (self.split == "held_out")
        if not keep.any():
            raise UserError(
                f"{self.path} holds {len(names)} pictures: too few for a {self.split!r} part"
                " (every eighth is held out); use split='all' or a larger set"
            )
        if self.where:
            keep &= select(self._shelf.labels, self.where)
        chosen = np.flatnonzero(keep)
        if not len(chosen) or len(chosen) < self.count or self.count < 0:
            raise UserError(
                f"{self.path}: {len(chosen)} of {len(names)} pictures (split {self.split!r}, where"
                f" {self.where!r}), but count is {self.count}; widen `where`, or ask for fewer"
            )
        if self.count:
            chosen = np.sort(np.random.default_rng(0).permutation(chosen)[: self.count])
        return chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> np.ndarray:
        place = self._chosen[index]
        name = f"{self.path}:{self._shelf.names[place]}"
        return open_picture(self._shelf.read(place), name=name).rgb

    def marked(self, names: Sequence[str]) -> np.ndarray:
        """Bool `[pictures, names]`: which labels each has; `UserError` for one that none has."""
        labels = self._shelf.labels
        return np.stack([labels.has(name) for name in names], axis=1)[self._chosen]

    def name(self, index: int) -> str:
        """The name of picture `index` within `path`."""
        return self._shelf.names[self._chosen[index]]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of which pictures these are and of what marks their content."""
        mark = hashlib.sha256(self._shelf.fingerprint.encode())
        mark.update(self._chosen.tobytes())
        return mark.hexdigest()


def _table(path: str) -> Mapping[str, Sequence[str]]:
    """The words of each picture, of a CSV or of CelebA's own table."""
    layout = contents.TABLES["attributes"]
    if not path.endswith(layout.file):
        return read_csv(path)
    archive, zipped, _ = path.partition(".zip/")
    try:
        data = (
            sources.members(pathlib.Path(f"{archive}.zip"))[layout.file].read()
            if zipped
            else pathlib.Path(path).read_bytes()
        )
    except (OSError, KeyError) as error:
        raise UserError(f"labels {path}: cannot be read ({error})") from error
    rows = contents.parse(layout, data)
    return {name: [w for w, v in zip(layout.columns, row) if v > 0] for name, row in rows.items()}


@dataclasses.dataclass
class Mix:
    """Several sources, drawn from in the ratio of `weights` (one each), whatever their sizes.

    `weights` say how often: (6000, 2000) draws three of the first for one of the second for ever,
    however many different ones there are; each source is shuffled and repeated for itself.
    `Pictures(count=6000)` says how many: two streams with sets of 6,000 and 2,000 take one picture of
    each a step, and the smaller set comes round three times as often.
    As a sequence: one source after the other.
    """

    sources: tuple
    weights: tuple[float, ...]

    def __post_init__(self):
        if len(self.sources) != len(self.weights) or not all(w > 0 for w in self.weights):
            raise UserError(
                f"a mix of {len(self.sources)} sources with weights {self.weights};"
                " needs one positive weight for each"
            )

    def _find(self, index: int) -> tuple[Any, int]:
        for source in self.sources:
            if index < len(source):
                return source, index
            index -= len(source)
        raise IndexError(index)

    def __len__(self) -> int:
        return sum(len(s) for s in self.sources)

    def __getitem__(self, index: int) -> np.ndarray:
        source, i = self._find(index)
        return source[i]

    def name(self, index: int) -> str:
        """The name of picture `index`."""
        source, i = self._find(index)
        return source.name(i)
