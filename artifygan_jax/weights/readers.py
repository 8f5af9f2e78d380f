"""Weights files as `{name: array}`: .npz, a folder of .npy, .safetensors. Nothing is unpickled."""

import hashlib
import os
import pathlib
import zipfile
import zlib

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from artifygan_jax.errors import UserError

FORMATS = "a .npz file, a folder of .npy files or a .safetensors file"
# What training scripts and wrappers put before every name: DDP, torch.compile, checkpoints.
PREFIXES = ("module.", "_orig_mod.", "state_dict.", "model_state_dict.", "g_state_dict.")
_TROUBLE = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of a weights file by name, without the `PREFIXES` that all names share.

    The kind is told by the contents, not by the name. A `UserError` for anything else.
    """
    path = pathlib.Path(path)
    try:
        if path.is_dir():
            arrays = _read_folder(path)
        else:
            arrays = _read_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if not arrays:
        raise UserError(f"{path} holds no arrays; give {FORMATS}")
    return _strip(arrays)


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
            arrays[name] = np.load(file, allow_pickle=False)
        except _TROUBLE as error:
            raise UserError(f"{file} is no .npy file of numbers: {error}; get it again") from error
    return arrays


def _npy_files(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path.rglob("*.npy"))


def _read_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    with path.open("rb") as stream:
        head = stream.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _read_npz(path)
    _refuse_others(path, head)
    try:
        return {name: _plain(x) for name, x in safetensors.numpy.load_file(path).items()}
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is not {FORMATS}, or is damaged ({error}); get it again or give another"
        ) from error


def _plain(x: np.ndarray) -> np.ndarray:
    """bfloat16 as float32, which numpy itself knows."""
    return x.astype(np.float32) if x.dtype == ml_dtypes.bfloat16 else x


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith("data.pkl") for name in archive.namelist()):
                raise _pickle(path)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except UserError:
        raise
    except _TROUBLE as error:
        raise UserError(
            f"{path} is damaged or no .npz file of numbers ({error}); get it again"
        ) from error


def _refuse_others(path: pathlib.Path, head: bytes) -> None:
    """A `UserError` for the things that are most often given instead of weights."""
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(
            f"{path} is a web page, not weights: the download gave an error or a log-in page;"
            " open the address in a browser and save the file itself"
        )
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a Git LFS pointer, not the weights: run `git lfs pull` there")
    if head.startswith(b"\x80") and head[1:2] in b"\x02\x03\x04\x05" and head[8:9] != b"{":
        raise _pickle(path)
    if head.startswith(b"\x93NUMPY"):
        raise UserError(f"{path} is one .npy array; give {FORMATS}")
    if head.startswith(b"\x89HDF"):
        raise UserError(f"{path} is HDF5, which is not read; re-save its arrays with numpy.savez")


def _pickle(path: pathlib.Path) -> UserError:
    fresh = path.with_suffix(".npz").name
    return UserError(
        f"{path} is a PyTorch or pickle file; this version reads {FORMATS}: re-save it with"
        f" python -c \"import numpy, torch; d = torch.load('{path}', map_location='cpu',"
        f" weights_only=True); numpy.savez('{fresh}', **{{k: v.numpy() for k, v in d.items()}})\""
    )


def _strip(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Drops prefixes that every name has, in any order and number."""
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in arrays)), None):
        arrays = {name.removeprefix(prefix): x for name, x in arrays.items()}
    return arrays
