"""Weights files as `{name: array}`: PyTorch's and NVIDIA's, .npz, a folder of .npy, .safetensors.

Nothing that a file holds is run: pickles are read by an interpreter of our own, `weights.pickles`.
"""

import dataclasses
import hashlib
import math
import os
import pathlib
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from typing import IO

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.weights import checkpoints, containers
from artifygan_jax.weights.checkpoints import Net
from artifygan_jax.weights.pickles import Damaged, Refused, shown

FORMATS = "a .pth, .pt or .pkl file, a .npz file, a folder of .npy files or a .safetensors file"
# What training scripts and wrappers put before every name: DDP, torch.compile, checkpoints.
PREFIXES = ("module.", "_orig_mod.", "state_dict.", "model_state_dict.", "g_state_dict.")
MAX_NAME = 300
MAX_GROWTH, SMALL = 20, 64 << 20  # what an .npz may unpack to: 20 times its size, at least 64 MiB
# What foreign bytes make of Python's and numpy's readers of zips and of .npy headers.
_TROUBLE = (
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, struct.error, EOFError, SyntaxError),
    *(ValueError, TypeError, KeyError, OverflowError, RuntimeError, MemoryError, OSError),
)


def read(path: str | os.PathLike, *, part: str | None = None) -> dict[str, np.ndarray]:
    """The arrays of a weights file by name, without the `PREFIXES` that all names share.

    `part` chooses one net of a file with several, such as `g_ema`, or the arrays whose names begin
    so. The kind is told by the contents, not by the name. A `UserError` for anything else, and for
    a PyTorch file with several nets where none is chosen: it names them.
    """
    return net(path, part=part).arrays


def net(
    path: str | os.PathLike,
    *,
    part: str | None = None,
    prefer: Collection[str] = (),
    beside: Collection[str] = (),
) -> Net:
    """As `read`, with what the file says beside the net.

    Where no part is chosen it is the first of `prefer` that a PyTorch file has. `beside` are names of
    single arrays outside of the net that are wanted too, where there are such.
    """
    path = pathlib.Path(path)
    try:
        if path.is_dir():
            found = _flat(path, _read_folder(path), part, beside)
        else:
            found = _read_file(path, part, prefer, beside)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not found.arrays:
        raise UserError(f"{path} holds no arrays; give {FORMATS}")
    for name in found.arrays:
        if not name.isprintable() or len(name) > MAX_NAME:
            raise UserError(f"{path} refused: it names an array {shown(name)}, as no weights do")
    return dataclasses.replace(found, arrays=_strip(found.arrays))


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a weights file; of the names and contents of its .npy files for a folder."""
    path, total = pathlib.Path(path), hashlib.sha256()
    for file in _npy_files(path) if path.is_dir() else [path]:
        if path.is_dir():
            total.update(f"{file.relative_to(path).as_posix()}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def _read_folder(path: pathlib.Path) -> dict[str, np.ndarray]:
    arrays = {}
    for file in _npy_files(path):
        name = file.relative_to(path).as_posix().removesuffix(".npy")
        try:
            with file.open("rb") as stream:
                arrays[name] = _array(stream, file.stat().st_size)
        except _TROUBLE as error:
            raise UserError(
                f"{file} is no .npy file of numbers: {shown(str(error))}; get it again"
            ) from error
    return arrays


def _npy_files(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.rglob("*.npy"))


def _read_file(
    path: pathlib.Path, part: str | None, prefer: Collection[str], beside: Collection[str]
) -> Net:
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        if _is_torch_zip(path):
            return checkpoints.read(path, part, prefer, beside)
        return _flat(path, _read_npz(path), part, beside)
    if head.startswith(b"\x80") and head[1:2] in b"\x02\x03\x04\x05" and head[8:9] != b"{":
        return checkpoints.read(path, part, prefer, beside)
    _refuse_others(path, head)
    try:
        arrays = {name: _plain(x) for name, x in safetensors.numpy.load_file(path).items()}
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is not {FORMATS}, or is damaged ({shown(str(error))}); get it again or give another"
        ) from error
    return _flat(path, arrays, part, beside)


def _flat(
    path: pathlib.Path,
    arrays: dict[str, np.ndarray],
    part: str | None,
    beside: Collection[str],
) -> Net:
    """The arrays below the name `part`, which may end with a dot or a slash in front of theirs."""
    if part is None:
        return Net(arrays)
    starts = (f"{part}.", f"{part}/")
    found = {name[len(part) + 1 :]: x for name, x in arrays.items() if name.startswith(starts)}
    if not found:
        firsts = sorted({name.replace("/", ".").split(".")[0] for name in arrays})
        have = ", ".join(map(shown, firsts[:12]))
        raise UserError(
            f"{path} has no part {part!r}{did_you_mean(part, firsts)}; its names begin with {have}"
        )
    return Net(found, part, {name: arrays[name] for name in beside if name in arrays})


def _is_torch_zip(path: pathlib.Path) -> bool:
    try:
        return any(map(containers.is_description, containers.members(path)))
    except Damaged:  # numpy's reader says what is wrong
        return False
    except Refused as error:
        raise UserError(f"{path} refused: {error}") from error


def _plain(x: np.ndarray) -> np.ndarray:
    """bfloat16 as float32, which numpy itself knows."""
    return x.astype(np.float32) if x.dtype == ml_dtypes.bfloat16 else x


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    arrays, most = {}, max(MAX_GROWTH * path.stat().st_size, SMALL)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if sum(info.file_size for info in infos) > most:
                raise ValueError(f"it unpacks to more than {most >> 20} MiB: a zip bomb?")
            for info in infos:
                with archive.open(info) as stream:
                    name = info.filename.removesuffix(".npy")
                    arrays[name] = _array(stream, info.file_size)
    except _TROUBLE as error:
        raise UserError(
            f"{path} is damaged or no .npz file of numbers ({shown(str(error))}); get it again"
        ) from error
    return arrays


def _array(stream: IO[bytes], room: int) -> np.ndarray:
    """The .npy array that a stream of `room` bytes is; its header is checked before it is believed."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it is .npy of version {version}, which plain numbers never are")
    newer = version == (2, 0)
    header = np.lib.format.read_array_header_2_0 if newer else np.lib.format.read_array_header_1_0
    shape, _, dtype = header(stream)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > room:
        raise ValueError("its header tells of more numbers than it holds")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _refuse_others(path: pathlib.Path, head: bytes) -> None:
    """A `UserError` for the things that are most often given instead of weights."""
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(
            f"{path} is a web page, not weights: the download gave an error or a log-in page;"
            " open the address in a browser and save the file itself"
        )
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` there")
    if head[257:262] == b"ustar":
        raise UserError(
            f"{path} is a tar file: PyTorch before 0.2 wrote such, which are not read; load it with"
            " torch.load and save its state dict again with torch.save"
        )
    if head.startswith(b"\x93NUMPY"):
        raise UserError(f"{path} is one .npy array; give {FORMATS}")
    if head.startswith(b"\x89HDF"):
        raise UserError(f"{path} is HDF5, which is not read; re-save its arrays with numpy.savez")


def _strip(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drops prefixes that every name has, in any order and number."""
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in arrays)), None):
        arrays = {name.removeprefix(prefix): x for name, x in arrays.items()}
    return arrays
