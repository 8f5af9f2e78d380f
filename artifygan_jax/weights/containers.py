"""The containers of PyTorch's and NVIDIA's files, read without torch and running nothing of them.

The zip of torch >= 1.6 and of TorchScript, the row of pickles of the torch before, and the plain
pickle with such rows inside that StyleGAN2-ADA's snapshots are.
"""

import functools
import io
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from artifygan_jax.weights import pickles
from artifygan_jax.weights.pickles import Budget, Damaged, Name, Record, Refused, Window, shown
from artifygan_jax.weights.tensors import Storage, dtype_of, find

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of the format before torch 1.6
MAX_PICKLE = 64 << 20  # of data.pkl, which describes tensors and holds none
MAX_DIRECTORY = 16 << 20  # of a zip: some 200,000 members


def tree(path: pathlib.Path, budget: Budget) -> Any:
    """What a file holds as dicts, lists, numbers, text, `Record`s and `Tensor`s.

    Raises `Refused`, `Damaged` or `OSError`.
    """
    with path.open("rb") as file:
        if file.read(4) == b"PK\3\4":
            return _Zip(path, budget).tree()
        file.seek(0)
        window = Window(file, path.stat().st_size)
        return _pickles(window, functools.partial(_part_of_file, path), budget)


def _part_of_file(path: pathlib.Path, place: int, count: int) -> np.ndarray:
    return np.fromfile(path, np.uint8, count, offset=place)


# ------------------------------------------------------------------------------- rows of pickles

Fetch = Callable[[int, int], np.ndarray]


def _pickles(stream: Window, fetch: Fetch, budget: Budget, inner: bool = False) -> Any:
    """The content of a file before torch 1.6, or of one pickle; `fetch(place, bytes)` reads it."""
    find_too = find if inner else functools.partial(_find_with_containers, budget)
    first = pickles.load(stream, find_too, budget)
    if not (isinstance(first, int) and first == MAGIC):
        return first
    if pickles.load(stream, find, budget) != PROTOCOL:
        raise Damaged("it is of an unknown version of PyTorch's old format")
    pickles.load(stream, find, budget)  # of the machine that wrote it; the data is little-endian
    storages: dict[str, Storage] = {}
    tree = pickles.load(stream, find, budget, functools.partial(_old_storage, storages))
    _locate(storages, pickles.load(stream, find, budget), stream, fetch)
    return tree


def _find_with_containers(budget: Budget, text: str) -> Name | None:
    """The allowed names, and the one that holds a file of torch as bytes within another pickle."""
    if text == "torch.storage._load_from_bytes":
        return Name(text, functools.partial(_contained, budget))
    return find(text)


def _contained(budget: Budget, data: Any) -> Any:
    if not isinstance(data, bytes):
        raise Damaged("a storage is not made of bytes")
    if data.startswith(b"PK"):
        raise Refused("the file holds a zip within a pickle")

    def fetch(place: int, count: int) -> np.ndarray:
        return np.frombuffer(data, np.uint8, count, place)

    return _pickles(Window.of(data), fetch, budget, inner=True)


def _missing() -> np.ndarray:
    raise Damaged("a storage is named and not there")


def _reference(reference: Any) -> tuple[np.dtype, str, int, Any]:
    """Type, key, count and view of `("storage", type, key, device, count[, view])`.

    Devices are of no matter: all is read to the main memory.
    """
    if not isinstance(reference, tuple) or len(reference) not in (5, 6):
        raise Damaged("a reference to a storage has another form")
    kind, dtype, key, _, count, *view = reference
    if kind != "storage" or not isinstance(key, str) or type(count) is not int or count < 0:
        raise Damaged("a reference to a storage has another form")
    return dtype_of(dtype), key, count, view[0] if view else None


def _old_storage(storages: dict[str, Storage], reference: Any) -> Storage:
    dtype, key, count, view = _reference(reference)
    base = storages.setdefault(key, Storage(dtype, count, _missing))
    if (base.dtype, base.count) != (dtype, count):
        raise Damaged(f"storage {shown(key)} has two types or sizes")
    if view is None:
        return base
    _, offset, length = view
    if type(offset) is not int or type(length) is not int or not 0 <= offset <= offset + length:
        raise Damaged("a view of a storage has another form")
    if offset + length > count:
        raise Refused(f"a view reaches outside storage {shown(key)}")
    start, end = offset * dtype.itemsize, (offset + length) * dtype.itemsize
    return Storage(dtype, length, lambda: base.data[start:end])


def _locate(storages: dict[str, Storage], keys: Any, stream: Window, fetch: Fetch) -> None:
    """Finds the storages behind the last pickle: of each its count, then its numbers."""
    texts = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not texts or set(keys) != set(storages):
        raise Damaged("its list of storages does not fit its tensors")
    for key in keys:
        storage = storages[key]
        (count,) = struct.unpack("<q", stream.read(8))
        if count != storage.count:
            raise Damaged(f"storage {shown(key)} holds {count} numbers, not {storage.count}")
        storage.read = functools.partial(fetch, stream.skip(storage.size), storage.size)


# ------------------------------------------------------------------------------------------ zips


class _Directory(io.FileIO):
    """A zip of which only the directory is read, in parts of a sane size."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise Refused("the directory of its zip is longer than that of any weights")
        return super().read(-1 if size is None else size)


def members(path: pathlib.Path) -> dict[str, zipfile.ZipInfo]:
    """The members of a zip by name; none is read. Raises `Refused` or `Damaged`."""
    try:
        with _Directory(path) as file, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error) as error:
        raise Damaged(f"no zip: {shown(str(error))}") from error
    found = {info.filename: info for info in infos}
    if len(found) < len(infos):
        raise Refused("its zip holds two files of one name")
    return found


class _Zip:
    """A zip of torch: `NAME/data.pkl`, whose storages are `NAME/data/KEY`."""

    def __init__(self, path: pathlib.Path, budget: Budget):
        self.path, self.budget = path, budget
        self.members = members(path)
        described = next((name for name in self.members if is_description(name)), None)
        if described is None:
            raise Damaged("no data.pkl in its zip")
        self.root = described.removesuffix("data.pkl")
        order = self.root + "byteorder"
        self.big = order in self.members and self.member(order, 16) == b"big"
        self.storages: dict[str, Storage] = {}

    def tree(self) -> Any:
        """The content; of TorchScript the module, or where it is frozen its nameless constants."""
        module = self.load("data.pkl", "data/")
        if self.root + "constants.pkl" not in self.members:
            return module
        constants = self.load("constants.pkl", "constants/")
        frozen = isinstance(module, Record) and not module.state
        # TorchScript's own program text calls them so.
        named = {
            f"c{i}": x for i, x in enumerate(constants if isinstance(constants, tuple) else ())
        }
        return named if frozen else module

    def load(self, name: str, folder: str) -> Any:
        data = self.member(self.root + name, MAX_PICKLE)
        persistent = functools.partial(self.storage, folder)
        return pickles.load(Window.of(bytes(data)), find, self.budget, persistent)

    def storage(self, folder: str, reference: Any) -> Storage:
        dtype, key, count, _ = _reference(reference)
        name = f"{self.root}{folder}{key}"
        if name not in self.members:
            raise Damaged(f"no {shown(name)} in its zip")
        dtype = dtype.newbyteorder(">") if self.big else dtype
        size = count * dtype.itemsize
        if self.members[name].file_size != size:
            raise Damaged(f"{shown(name)} holds {self.members[name].file_size} bytes, not {size}")
        fresh = Storage(dtype, count, lambda: np.frombuffer(self.member(name, size), np.uint8))
        storage = self.storages.setdefault(name, fresh)
        if storage.dtype != dtype:
            raise Damaged(f"{shown(name)} has two types")
        return storage

    def member(self, name: str, most: int) -> bytearray:
        """The content of a member, checked against its size and CRC-32.

        torch.serialization.set_crc32_options(False) writes 0 for every CRC: then there is no check.
        """
        info = self.members[name]
        if info.file_size > most:
            raise Refused(f"{shown(name)} in its zip is larger than {most} bytes")
        if info.flag_bits & 1 or info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise Refused(f"{shown(name)} in its zip is encrypted or packed in an unusual way")
        self.budget.spend(size=info.file_size)
        with self.path.open("rb") as file:
            data = _member_data(file, info)
        if len(data) != info.file_size or info.CRC not in (0, zlib.crc32(data)):
            raise Damaged(f"{shown(name)} in its zip does not fit its checksum")
        return data


def is_description(name: str) -> bool:
    """Whether a member's name is that of the pickle of a PyTorch zip."""
    return name == "data.pkl" or (name.count("/") == 1 and name.endswith("/data.pkl"))


def _member_data(file: BinaryIO, info: zipfile.ZipInfo) -> bytearray:
    """At most `info.file_size` bytes, never more room than the file is long."""
    left = os.fstat(file.fileno()).st_size
    file.seek(min(max(info.header_offset, 0), left))
    head = file.read(30)
    if len(head) < 30 or not head.startswith(b"PK\3\4"):
        raise Damaged(f"{shown(info.filename)} is not where the directory of its zip says")
    file.seek(sum(struct.unpack("<HH", head[26:])), os.SEEK_CUR)
    if not 0 <= info.compress_size <= left - file.tell():
        raise Damaged("it is cut short")
    if info.compress_type == zipfile.ZIP_STORED:
        data = bytearray(min(info.compress_size, info.file_size))
        file.readinto(data)  # pyright: ignore[reportAttributeAccessIssue]
        return data
    try:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        return bytearray(inflate.decompress(file.read(info.compress_size), info.file_size + 1))
    except zlib.error as error:
        raise Damaged(f"{shown(info.filename)} in its zip is damaged") from error
