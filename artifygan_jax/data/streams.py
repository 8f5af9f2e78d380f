"""Training data: streams of prepared pictures, and batches that are functions of the step.

A stream says how the pictures of a source (`data.pictures`) are prepared. `Batches[k]` is the batch of
step k, computed from the seed and k alone, so that a run that resumes at k reads what an unbroken run
would have read.
"""

import collections
import dataclasses
import functools
import logging
import pathlib
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from PIL import Image

from artifygan_jax.data import edges, packed
from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.data.pictures import Mix
from artifygan_jax.errors import StoppedEarly, UserError, did_you_mean

MOST_BAD = 0.001  # share of a set that may be unreadable before a run stops
PATIENCE = 600.0  # seconds for one batch, after which its disk or share is taken for dead


@dataclasses.dataclass
class Stream:
    """A source prepared for training: centre square, `size` px, uint8.

    On the device a random `crop` (0: all) and, with `flip`, a mirror image in half the cases.
    `keep` holds prepared pictures in memory (size * size * 3 bytes each); `pack` names a folder where
    they are kept on disk, prepared once for this run and the next ones (see `data.packed`).
    """

    source: Any
    size: int = 256
    crop: int = 0
    flip: bool = True
    keep: bool = False
    pack: str = ""

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


@dataclasses.dataclass
class Marks:
    """Which of `names` each picture of stream `of` is labelled with: 1 or 0, float32 `[b, names]`.

    The source must know: `marked(names)` as `data.pictures.Pictures` has it.
    """

    of: str = "real"
    names: tuple[str, ...] = ()


Twin = Smoothed | Marks


def leader_of(streams: Mapping[str, Stream | Twin], name: str) -> Stream:
    """The stream that says how `name` is prepared: itself, or the one it is the twin of."""
    spec = streams[name]
    leader = streams[spec.of] if isinstance(spec, Twin) else spec
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
    """Batch k of every stream, `{name: uint8 [b, S, S, 3]}`, or `Marks`.

    b is this host's share of `batch_size`.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream | Twin],
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
        self._marks: dict[tuple, np.ndarray] = {}
        self._packs: dict[tuple, packed.Packed] = {}
        self._bad: dict[int, dict[str, str]] = collections.defaultdict(dict)
        self._lock = threading.Lock()
        self._orders = {}
        for position, name in enumerate(sorted(self.streams)):
            stream = self.streams[name]
            if isinstance(stream, Twin):
                self._check_twin(name, stream)
                if isinstance(stream, Marks):
                    for source in _leaves(leader_of(self.streams, name).source):
                        marked = source.marked(stream.names)
                        self._marks[name, id(source)] = marked.astype(np.float32)
                continue
            stream.check(name)
            self._orders[name] = _order(stream.source, 1000 * seed + position, name)
            if len(stream.source) < batch_size:
                logging.warning(
                    "data.%s has %d pictures for batches of %d: each batch repeats some",
                    *(name, len(stream.source), batch_size),
                )

    def _check_twin(self, name: str, twin: Twin) -> None:
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
            twins = [n for n, s in self.streams.items() if isinstance(s, Twin) and s.of == name]
            picks = [order[step * self.batch_size + i] for i in self.local]
            pictures = zip(*(self._pictures((name, *twins), *pick) for pick in picks), strict=True)
            batch |= {n: np.stack(column) for n, column in zip((name, *twins), pictures)}
        return batch

    def names(self, step: int) -> dict[str, list[str]]:
        """What the batch of `step` is made of, by stream."""
        return {
            name: [s.name(j) for s, j in (order[step * self.batch_size + i] for i in self.local)]
            for name, order in self._orders.items()
        }

    def pack(self) -> None:
        """Builds or opens the packs that streams ask for."""
        pictures = [n for n, s in self.streams.items() if not isinstance(s, Marks)]
        leaders_first = sorted(pictures, key=lambda n: isinstance(self.streams[n], Smoothed))
        for name in leaders_first:
            stream = leader_of(self.streams, name)
            for source in _leaves(stream.source) if stream.pack else ():
                marks = {
                    "source": _fingerprint(source),
                    "twins": [
                        _fingerprint(s.source)
                        for s in [self.streams[name]]
                        if isinstance(s, Smoothed)
                    ],
                    "preparation": "square 1, smooth 1",
                }
                self._packs[name, id(source)] = packed.open_or_build(
                    stream.pack,
                    name,
                    marks,
                    (len(source), stream.size, stream.size, 3),
                    functools.partial(self._prepared, name, source),
                )

    def _pictures(self, names: Sequence[str], source, index: int) -> list[np.ndarray]:
        """Picture `index` in each of `names` (a stream and its twins), or the next readable one.

        Too many bad ones end the run.
        """
        while True:
            try:
                leader = self._cached(names[0], source, index)
                return [leader, *(self._cached(n, source, index, leader) for n in names[1:])]
            except UnreadablePicture as error:
                self._note_bad(source, source.name(index), str(error))
                index = (index + 1) % len(source)

    def _cached(self, name: str, source, index: int, leader=None) -> np.ndarray:
        pack = self._packs.get((name, id(source)))
        if pack is not None:
            return pack[index]
        key = (name, id(source), index)
        if key not in self._kept:
            image = self._prepared(name, source, index, leader)
            if not leader_of(self.streams, name).keep:
                return image
            self._kept[key] = image
        return self._kept[key]

    def _prepared(self, name: str, source, index: int, leader=None) -> np.ndarray:
        """The picture of a stream or a twin; `leader` is the one that it is the twin of, if at hand."""
        spec = self.streams[name]
        if isinstance(spec, Stream):
            return square(source[index], spec.size)
        if isinstance(spec, Marks):
            return self._marks[name, id(source)][index]
        if spec.source is None:
            return edges.smooth(self._cached(spec.of, source, index) if leader is None else leader)
        twin = spec.source[self._twin_index(name, source, index)]
        return square(twin, leader_of(self.streams, name).size)

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
        twins: Any = getattr(self.streams[name], "source")  # noqa: B009 - only pictures have one
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


def _leaves(source) -> list:
    """The sources of a mix, at any depth; a plain source is its own."""
    return [x for s in source.sources for x in _leaves(s)] if isinstance(source, Mix) else [source]


def _fingerprint(source) -> str:
    """What marks the content of a source; drawn ones are what their fields say."""
    return getattr(source, "fingerprint", repr(source))


def load(
    batches: Batches, start: int = 0, *, threads: int = 4, patience: float = PATIENCE
) -> Iterator[dict[str, np.ndarray]]:
    """Batches from `start` on, read ahead by `threads` threads.

    Raises `StoppedEarly` where a batch takes longer than `patience` seconds.
    """
    batches.pack()
    dataset = grain.MapDataset.source(batches).to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    )
    iterator = iter(dataset)
    iterator.set_state({"next_index": start})
    return _watched(iterator, patience)


def _watched(iterator: Iterator, patience: float) -> Iterator:
    """Passes items on; a thread waits for them, since a read that hangs cannot be interrupted."""
    ready: queue.SimpleQueue = queue.SimpleQueue()
    wanted: queue.SimpleQueue = queue.SimpleQueue()

    def pull() -> None:
        while wanted.get():
            try:
                ready.put((next(iterator), None))
            except BaseException as error:  # all of them belong to the thread that asked
                ready.put((None, error))

    threading.Thread(target=pull, daemon=True).start()
    try:
        while True:
            wanted.put(True)
            try:
                item, error = ready.get(timeout=patience)
            except queue.Empty:
                raise StoppedEarly(
                    f"no batch came for {patience:g} s: a disk or network share does not answer;"
                    " look at it and run the same command again"
                ) from None
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        wanted.put(False)
