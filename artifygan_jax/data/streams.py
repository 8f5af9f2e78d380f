"""Training data: sources of pictures, streams of prepared ones, batches that are functions of the step.

A source is indexable: `len(s)`, `s[i]` uint8 `[H, W, 3]`, `s.name(i)`. A stream says how its pictures
are prepared. `Batches[k]` is the batch of step k, computed from the seed and k alone, so that a run
that resumes at k reads what an unbroken run would have read.
"""

import collections
import dataclasses
import functools
import logging
import pathlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from PIL import Image

from artifygan_jax.data import edges
from artifygan_jax.data.images import UnreadablePicture, open_picture
from artifygan_jax.data.listing import list_pictures
from artifygan_jax.data.split import held_out
from artifygan_jax.errors import UserError, did_you_mean

MOST_BAD = 0.001  # share of a set that may be unreadable before a run stops


@dataclasses.dataclass
class Pictures:
    """The pictures of a folder, a zip, or `FILE.zip/FOLDER`, in the order of their names.

    `split` is "train" (seven of eight), "held_out" (every eighth name, see `data.split`) or "all".
    """

    path: str
    split: str = "all"

    @functools.cached_property
    def entries(self) -> list:
        """What is there, listed once."""
        entries = list_pictures(self.path)
        if self.split == "all":
            return entries
        if self.split not in ("train", "held_out"):
            raise UserError(f"split is {self.split!r}, allowed are all, train, held_out")
        wanted = held_out([e.name for e in entries]) == (self.split == "held_out")
        chosen = [e for e, keep in zip(entries, wanted, strict=True) if keep]
        if not chosen:
            raise UserError(
                f"{self.path} holds {len(entries)} pictures: too few for a {self.split!r} part"
                " (every eighth is held out); use split='all' or a larger set"
            )
        return chosen

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> np.ndarray:
        entry = self.entries[index]
        return open_picture(entry.read(), name=f"{self.path}:{entry.name}").rgb

    def name(self, index: int) -> str:
        """The name of picture `index` within `path`."""
        return self.entries[index].name


@dataclasses.dataclass
class Mix:
    """Several sources, drawn from in the ratio of `weights` (one each), whatever their sizes.

    Each source is shuffled and repeated for itself. As a sequence: one after the other.
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


@dataclasses.dataclass
class Stream:
    """A source prepared for training: centre square, `size` px, uint8.

    On the device a random `crop` (0: all) and, with `flip`, a mirror image in half the cases.
    `keep` holds prepared pictures in memory (size * size * 3 bytes each).
    """

    source: Any
    size: int = 256
    crop: int = 0
    flip: bool = True
    keep: bool = False

    def check(self, name: str) -> None:
        """`UserError` for sizes that cannot be."""
        if self.size < 16 or not 0 <= self.crop <= self.size:
            raise UserError(
                f"data.{name}: size {self.size}, crop {self.crop}; size is at least 16,"
                " crop between 0 (all) and size"
            )


@dataclasses.dataclass
class Smoothed:
    """The edge-smoothed twins of stream `of`: the same pictures, crops and flips.

    Made as they are read, or taken from `source`, whose pictures pair by the stem of their names.
    """

    of: str = "cartoon"
    source: Any = None


def leader_of(streams: Mapping[str, Stream | Smoothed], name: str) -> Stream:
    """The stream that says how `name` is prepared: itself, or the one it is the twin of."""
    spec = streams[name]
    leader = streams[spec.of] if isinstance(spec, Smoothed) else spec
    assert isinstance(leader, Stream), f"{name} is the twin of a twin"
    return leader


def square(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square of a uint8 picture, resized to `size` (bicubic with antialias)."""
    h, w = image.shape[:2]
    side = min(h, w)
    if (h, w) == (size, size):
        return image
    box = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
    picture = Image.fromarray(image)
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=box))


class Batches(Sequence):
    """Batch k of every stream, `{name: uint8 [b, S, S, 3]}`; b is this host's share of `batch_size`."""

    def __init__(
        self,
        streams: Mapping[str, Stream | Smoothed],
        batch_size: int,
        *,
        seed: int = 0,
        steps: int = 2**31,
        host: int = 0,
        hosts: int = 1,
    ):
        self.streams, self.steps = dict(streams), steps
        self.local = range(host * batch_size // hosts, (host + 1) * batch_size // hosts)
        self.batch_size = batch_size
        self._kept: dict[tuple, np.ndarray] = {}
        self._bad: dict[int, dict[str, str]] = collections.defaultdict(dict)
        self._lock = threading.Lock()
        self._orders = {}
        for position, name in enumerate(sorted(self.streams)):
            stream = self.streams[name]
            if isinstance(stream, Smoothed):
                self._check_twin(name, stream)
                continue
            stream.check(name)
            self._orders[name] = _order(stream.source, 1000 * seed + position, name)
            if len(stream.source) < batch_size:
                logging.warning(
                    "data.%s has %d pictures for batches of %d: each batch repeats some",
                    *(name, len(stream.source), batch_size),
                )

    def _check_twin(self, name: str, twin: Smoothed) -> None:
        leaders = [n for n, s in self.streams.items() if isinstance(s, Stream)]
        if twin.of not in leaders:
            raise UserError(
                f"data.{name} is the twin of {twin.of!r}{did_you_mean(twin.of, leaders)};"
                f" streams are {', '.join(leaders)}"
            )

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step):
        batch = {}
        for name, order in self._orders.items():
            picks = [order[step * self.batch_size + i] for i in self.local]
            batch[name] = np.stack([self._picture(name, *pick) for pick in picks])
            for twin, spec in self.streams.items():
                if isinstance(spec, Smoothed) and spec.of == name:
                    batch[twin] = np.stack([self._picture(twin, *pick) for pick in picks])
        return batch

    def names(self, step: int) -> dict[str, list[str]]:
        """What the batch of `step` is made of, by stream."""
        return {
            name: [s.name(j) for s, j in (order[step * self.batch_size + i] for i in self.local)]
            for name, order in self._orders.items()
        }

    def _picture(self, name: str, source, index: int) -> np.ndarray:
        key = (name, id(source), index)
        if key in self._kept:
            return self._kept[key]
        spec = self.streams[name]
        leader = leader_of(self.streams, name)
        if isinstance(spec, Stream):
            image = square(self._read(source, index), spec.size)
        elif spec.source is None:
            image = edges.smooth(self._picture(spec.of, source, index))
        else:
            image = square(spec.source[self._twin_index(name, source, index)], leader.size)
        if leader.keep:
            self._kept[key] = image
        return image

    def _read(self, source, index: int) -> np.ndarray:
        """Picture `index`, or the next that can be read; too many bad ones end the run."""
        while True:
            try:
                return source[index]
            except UnreadablePicture as error:
                self._note_bad(source, source.name(index), str(error))
                index = (index + 1) % len(source)

    def _note_bad(self, source, name: str, reason: str) -> None:
        with self._lock:
            bad = self._bad[id(source)]
            if name not in bad:
                logging.warning("skipped a picture: %s", reason)
            bad[name] = reason
            if len(bad) <= MOST_BAD * len(source):
                return
            for i in range(min(len(source), 20_000)):  # name them all at once, not one a run
                if len(bad) >= 20:
                    break
                try:
                    source[i]
                except UnreadablePicture as error:
                    bad[source.name(i)] = str(error)
        raise UserError(
            f"{len(bad)} or more of {len(source)} pictures cannot be read, at most"
            f" {MOST_BAD:.1%} may be: {'; '.join(list(bad.values())[:20])}; mend or remove them"
        )

    @functools.cache  # noqa: B019 - one Batches lives as long as its run
    def _stems(self, name: str) -> dict[str, int]:
        twins = self.streams[name].source
        return {pathlib.PurePath(twins.name(i)).stem: i for i in range(len(twins))}

    def _twin_index(self, name: str, source, index: int) -> int:
        stem = pathlib.PurePath(source.name(index)).stem
        if stem not in self._stems(name):
            raise UserError(
                f"data.{name}: no twin of {source.name(index)}; every picture of the stream"
                " needs one with the same stem, or leave `source` out to make them as they are read"
            )
        return self._stems(name)[stem]


def _order(source, seed: int, name: str):
    """An endless shuffled order of `(source, index)`, by random access."""
    if isinstance(source, Mix):
        parts = [_order(s, 1000 * seed + i, name) for i, s in enumerate(source.sources)]
        return grain.MapDataset.mix(parts, weights=list(source.weights))
    if not len(source):
        raise UserError(f"data.{name} is empty: {source}")
    indices = grain.MapDataset.range(len(source)).seed(seed % 2**31).shuffle().repeat()
    return indices.map(lambda i: (source, int(i)))


def load(batches: Batches, start: int = 0, *, threads: int = 4) -> Iterator[dict[str, np.ndarray]]:
    """Batches from `start` on, read ahead by `threads` threads."""
    dataset = grain.MapDataset.source(batches).to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    )
    iterator = iter(dataset)
    iterator.set_state({"next_index": start})
    return iterator
