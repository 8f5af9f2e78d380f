"""A cache of prepared pictures: one uint8 array `[N, S, S, 3]` on disk, mapped into memory.

Reading from it costs a copy where decoding costs a millisecond. 30,000 pictures of 256 px take 5.9 GB.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.data.saving import write_whole
from artifygan_jax.errors import UserError

CHUNK = 64  # pictures that are decoded before they are written


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """`packed[i]` uint8 `[S, S, 3]`, read-only; a picture that could not be read is refused again."""

    pictures: np.ndarray
    bad: dict[int, tuple[str, str]]

    def __getitem__(self, index: int) -> np.ndarray:
        if index in self.bad:
            raise UnreadablePicture(*self.bad[index])
        return self.pictures[index]


def open_or_build(
    folder: str | os.PathLike,
    name: str,
    marks: dict[str, Any],
    shape: tuple[int, int, int, int],
    make: Callable[[int], np.ndarray],
) -> Packed:
    """The pack of `make(0..N-1)` (uint8 `[S, S, 3]`) in `folder`, built where there is none.

    `marks` (JSON) is all that decides the content; packs of other marks lie beside it. The file is
    checked by its SHA-256 each time it is opened, and built anew where it is damaged. Of several
    processes one builds while the others wait. Raises `UserError` where the disk has no room.
    """
    folder = pathlib.Path(folder).expanduser()
    key = hashlib.sha256(json.dumps([marks, shape], sort_keys=True).encode()).hexdigest()
    path = folder / f"{name}-{key[:16]}.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _sole(path):
            found = _open(path, shape)
            if found is None:
                _build(path, marks, shape, make)
                found = _open(path, shape)
    except OSError as error:
        raise UserError(f"{path}: cannot be packed: {error.strerror or error}") from error
    if found is None:
        raise UserError(f"{path} reads back otherwise than it was written; the disk is failing")
    return found


@contextlib.contextmanager
def _sole(path: pathlib.Path) -> Iterator[None]:
    with open(path.with_suffix(".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _open(path: pathlib.Path, shape: tuple[int, ...]) -> Packed | None:
    """None where there is no pack, or a damaged one."""
    note = path.with_suffix(".json")
    if not (path.exists() and note.exists()):
        return None
    try:
        card = json.loads(note.read_text(encoding="utf-8"))
        with open(path, "rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == card["sha256"]
        pictures = np.load(path, mmap_mode="r", allow_pickle=False) if whole else None
        bad = {int(i): (name, cause) for i, name, cause in card["bad"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        logging.warning("%s is damaged (%s) and packed again", path, error)
        return None
    if pictures is None or pictures.shape != shape or pictures.dtype != np.uint8:
        logging.warning("%s is damaged (its checksum differs) and packed again", path)
        return None
    return Packed(pictures, bad)


def _build(
    path: pathlib.Path, marks: dict, shape: tuple[int, ...], make: Callable[[int], np.ndarray]
) -> None:
    size = int(np.prod(shape, dtype=np.int64))
    free = shutil.disk_usage(path.parent).free
    if free < 1.05 * size:
        raise UserError(
            f"{path.parent} has {free / 1e9:.1f} GB free where packing {shape[0]} pictures of"
            f" {shape[1]} px needs {size / 1e9:.1f}; name another folder, or leave `pack` empty"
        )
    logging.info("packing %d pictures, %.1f GB, into %s", shape[0], size / 1e9, path)
    part = path.with_suffix(".part")
    bad = []

    def attempt(index: int) -> np.ndarray | UnreadablePicture:
        try:
            return make(index)
        except UnreadablePicture as error:
            return error

    try:
        pictures = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, shape[0], CHUNK):
                block = range(start, min(start + CHUNK, shape[0]))
                for index, picture in zip(block, pool.map(attempt, block)):
                    if isinstance(picture, UnreadablePicture):
                        bad.append((index, picture.name, picture.cause))
                    else:
                        pictures[index] = picture
        pictures.flush()
        with open(part, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    card = {"marks": marks, "shape": shape, "sha256": digest, "bad": bad}
    write_whole(path.with_suffix(".json"), (json.dumps(card, indent=1) + "\n").encode())
