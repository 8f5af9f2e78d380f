"""Reading prepared datasets (tfds, array_record) for training: picture bytes by index, without TensorFlow.

`tfds.data_source` decodes every feature of a record (0.4 ms for CelebA's 40 attributes); training
wants the picture alone (0.04 ms), and the labels of all records at once, which an index keeps.
"""

import dataclasses
import functools
import hashlib
import io
import json
import logging
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.data.labels import Labels
from artifygan_jax.data.listing import list_pictures
from artifygan_jax.data.saving import write_whole
from artifygan_jax.errors import UserError

INDEX = "index.npz"
_INFO = "dataset_info.json"
_POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")


def dataset_folder(path: str) -> pathlib.Path | None:
    """The folder with `dataset_info.json` that `path` is, or that lies below it.

    `celeba`, `celeba/1.0.0` and the folder around `celeba` all do; of several versions the newest is
    taken. None where there is no dataset. Raises `UserError` where there are several.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        return None
    found = [
        p.parent for depth in ("", "*/", "*/*/", "*/*/*/") for p in root.glob(f"{depth}{_INFO}")
    ]
    found = [p for p in found if not any(part.startswith("incomplete.") for part in p.parts)]
    if not found:
        return None
    if len({p.parent for p in found}) > 1:
        raise UserError(
            f"{path} holds several datasets ({', '.join(str(p) for p in sorted(found)[:4])}); name one"
        )
    return max(found, key=lambda p: [int(n) if n.isdigit() else 0 for n in p.name.split(".")])


@dataclasses.dataclass
class Records:
    """The records of a dataset folder, in the order of their names.

    `names` and `labels` come from an index beside the shards, made once. Labels are the true
    `attributes`, the `tags`, the names of `objects/category`, and `split:train` and the like.
    """

    folder: pathlib.Path

    def __post_init__(self):
        self._shards, self._splits = _shards(self.folder)

    @functools.cached_property
    def _source(self):
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        for path, length in self._shards:
            _check_shard(path, length)
        return ArrayRecordDataSource([str(path) for path, _ in self._shards])

    @functools.cached_property
    def _index(self) -> tuple[list[str], np.ndarray, Labels]:
        key = _key(self.folder, self._shards)
        path = self.folder / INDEX
        index = _read_index(path, key)
        if index is None:
            index = _sorted(*self._scan())
            _write_index(path, key, index)
        return index

    @property
    def fingerprint(self) -> str:
        """Changes with the dataset: what it says of itself, and its files with their sizes."""
        return _key(self.folder, self._shards)

    @property
    def names(self) -> list[str]:
        """The pictures' names, sorted."""
        return self._index[0]

    @property
    def labels(self) -> Labels:
        """The labels, in the order of `names`."""
        return self._index[2]

    def landmarks(self) -> dict[str, np.ndarray]:
        """Five points float32 `[5, 2]` (x, y) by name, where the dataset has them (CelebA's order:
        left eye, right eye, nose, left and right corner of the mouth)."""
        found = {}
        for name, record in zip(self.names, self._index[1]):
            try:
                features = self._features(int(record))
            except _BadRecord:  # it is named when its picture is read
                continue
            keys = [f"landmarks/{part}_{axis}" for part in _POINTS for axis in "xy"]
            if all(key in features for key in keys):
                points = [features[key].int64_list.value[0] for key in keys]
                found[name] = np.array(points, np.float32).reshape(5, 2)
        return found

    def read(self, index: int) -> bytes:
        """The bytes of picture `index` (in the order of `names`). Raises `UnreadablePicture`."""
        name, record = self.names[index], int(self._index[1][index])
        try:
            return self._image(record)
        except _BadRecord as error:
            raise UnreadablePicture(name, str(error)) from error

    def _image(self, record: int) -> bytes:
        values = self._features(record)["image"].bytes_list.value
        if len(values) != 1:
            raise _BadRecord("a record without a picture")
        return values[0]

    def _features(self, record: int):
        from tensorflow_datasets.proto import tf_example_pb2 as pb

        try:  # array_record says ValueError, RuntimeError or IndexError; protobuf its DecodeError
            example = pb.Example.FromString(self._source[record])  # pyright: ignore[reportAttributeAccessIssue]
            return example.features.feature
        except UserError:
            raise
        except Exception as error:
            shard, place = self._place(record)
            reason = " ".join(str(error).split())[:120]
            raise _BadRecord(f"record {place} of {shard.name} is damaged: {reason}") from error

    def _place(self, record: int) -> tuple[pathlib.Path, int]:
        for path, length in self._shards:
            if record < length:
                return path, record
            record -= length
        raise IndexError(record)

    def _scan(self) -> tuple[list[str], Labels]:
        """Name and labels of every record, in the order of the shards."""
        logging.info("%s: reading names and labels, once", self.folder)
        categories = _class_names(self.folder)
        splits = [split for split, count in self._splits for _ in range(count)]
        found = [self._describe(record, categories) for record in range(len(splits))]
        names = [name or f"{s}-{i:08d}" for i, (s, (name, _)) in enumerate(zip(splits, found))]
        rows = ([*words, f"split:{s}"] for s, (_, words) in zip(splits, found))
        return names, Labels.of(rows)

    def _describe(self, record: int, categories: list[str]) -> tuple[str, list[str]]:
        try:
            features = self._features(record)
        except _BadRecord as error:
            logging.warning("%s: %s", self.folder, error)  # and again by name when it is read
            return "", []
        name, words = "", []
        for key, value in features.items():
            if key.startswith("attributes/") and value.int64_list.value[:1] == [1]:
                words.append(key.removeprefix("attributes/"))
            elif key == "tags":
                words += [tag.decode() for tag in value.bytes_list.value]
            elif key == "objects/category":
                words += sorted({categories[i] for i in value.int64_list.value})
            elif key == "name":
                name = value.bytes_list.value[0].decode()
        return name, words


@dataclasses.dataclass(frozen=True)
class RecordEntry:
    """One picture of a dataset, with what `listing.Entry` has."""

    name: str
    path: pathlib.Path
    records: Records
    member: int

    def read(self) -> bytes:
        """Its bytes; any thread may. Raises `UnreadablePicture`."""
        return self.records.read(self.member)


def list_any(where: str | os.PathLike, *, exclude: pathlib.Path | None = None) -> Sequence:
    """The pictures of a prepared dataset, or of what `listing.list_pictures` takes, by name."""
    folder = dataset_folder(os.fspath(where))
    if folder is None:
        return list_pictures(where, exclude=exclude)
    records = Records(folder)
    return [RecordEntry(name, folder, records, i) for i, name in enumerate(records.names)]


class _BadRecord(Exception):
    """One record that cannot be read; `str` is the cause."""


def _shards(folder: pathlib.Path) -> tuple[list[tuple[pathlib.Path, int]], list[tuple[str, int]]]:
    """Shards with their lengths and splits with theirs; `UserError` for what is missing or foreign."""
    try:
        info = json.loads((folder / _INFO).read_text(encoding="utf-8"))
        splits = [(s["name"], [int(n) for n in s.get("shardLengths", [])]) for s in info["splits"]]
        name, kind = info["name"], info.get("fileFormat")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / _INFO}: not readable ({error}); prepare the set again"
        ) from error
    if kind != "array_record":
        raise UserError(
            f"{folder} is a dataset of {kind} files; only array_record can be read: prepare it again"
        )
    shards = [
        (folder / f"{name}-{split}.array_record-{i:05d}-of-{len(lengths):05d}", length)
        for split, lengths in splits
        for i, length in enumerate(lengths)
    ]
    missing = [path.name for path, _ in shards if not path.is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of {len(shards)} shards ({', '.join(missing[:5])});"
            " copy them here, or prepare the set again"
        )
    return shards, [(split, sum(lengths)) for split, lengths in splits]


def _check_shard(path: pathlib.Path, length: int) -> None:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(path))
        count = reader.num_records()
        reader.close()
    except Exception as error:  # the module raises whatever its C++ status maps to
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{path} is no whole array_record file ({reason}); copy it again, or prepare the set again"
        ) from error
    if count != length:
        raise UserError(
            f"{path} has {count} records where the dataset says {length};"
            " copy it again, or prepare the set again"
        )


def _class_names(folder: pathlib.Path) -> list[str]:
    path = folder / "objects-category.labels.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _key(folder: pathlib.Path, shards: list) -> str:
    text = (folder / _INFO).read_text(encoding="utf-8")
    files = "".join(f"{path.name} {path.stat().st_size}\n" for path, _ in shards)
    return hashlib.sha256(f"1\n{text}\n{files}".encode()).hexdigest()


def _sorted(names: list[str], labels: Labels) -> tuple[list[str], np.ndarray, Labels]:
    order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    return [names[i] for i in order], order, labels.take(order)


def _read_index(path: pathlib.Path, key: str) -> tuple[list[str], np.ndarray, Labels] | None:
    """The index, or None where there is none that fits."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["key"].item() != key:
                return None
            labels = Labels(tuple(file["vocabulary"].tolist()), file["start"], file["ids"])
            return file["names"].tolist(), file["order"], labels
    except Exception as error:  # np.load raises whatever zipfile and the npy reader raise
        logging.warning("%s is damaged (%s) and made again", path, error)
        return None


def _write_index(path: pathlib.Path, key: str, index: tuple[list[str], np.ndarray, Labels]) -> None:
    names, order, labels = index
    arrays: dict[str, Any] = dict(
        key=np.array(key),
        names=np.array(names),
        order=order,
        vocabulary=np.array(labels.vocabulary),
        start=labels.start,
        ids=labels.ids,
    )
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    try:
        write_whole(path, buffer.getvalue())
    except UserError as error:  # a shared disk that is read only: the next run scans again
        logging.warning("the index is not kept: %s", error)
