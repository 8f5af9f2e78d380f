"""Directions in the space of codes: found in the weights (SeFa), or read from a file, and walked."""

import dataclasses
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from artifygan_jax.data.saving import new_file, write_whole
from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.latent.codes import parse_layers
from artifygan_jax.latent.render import Renderer, layer
from artifygan_jax.nets.stylegan2 import Generator
from artifygan_jax.weights import readers

METHODS = ("sefa", "svd")
STEPS = 1000  # the most directions or strengths that one call takes


@dataclasses.dataclass(frozen=True, eq=False)
class Direction:
    """`vectors` `[1 or num_ws, w_size]`, walked in `layers` (indices of codes)."""

    vectors: np.ndarray
    layers: tuple[int, ...]

    def walk(self, ws: np.ndarray, strength: float) -> np.ndarray:
        """`ws` `[N, num_ws, w_size]` moved by `strength` times the direction."""
        move = np.zeros(ws.shape[1:], np.float32)
        move[list(self.layers)] = np.broadcast_to(self.vectors, move.shape)[list(self.layers)]
        return ws + np.float32(strength) * move


def affine(net: Generator, layers: list[int]) -> np.ndarray:
    """What styles make of codes in `layers`: `[w_size, styles]`, kernels side by side.

    Code i is that of one convolution; the last one is the last step to RGB's alone (the other steps
    to RGB share theirs with a convolution, and are left out, as by SeFa's authors).
    """
    blocks = [getattr(net.synthesis, f"b{r}") for r in net.synthesis.resolutions]
    found = [m for block in blocks for m in (block.conv0, block.conv1) if m is not None]
    found.append(blocks[-1].rgb)
    return np.concatenate([np.asarray(found[i].affine.kernel[...]) for i in layers], axis=1)


def sefa(net: Generator, layers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Closed-form factorisation (Shen & Zhou, arXiv:2007.06600): (directions, eigenvalues).

    Row k of `[w_size, w_size]` is the unit eigenvector of A A^T with the k-th largest eigenvalue; the
    columns of A, one for each style of `layers`, are made unit vectors, as the authors' program does.
    """
    a = affine(net, layers).astype(np.float64)
    return _factorised(a / np.maximum(np.linalg.norm(a, axis=0, keepdims=True), 1e-12))


def svd(net: Generator) -> tuple[np.ndarray, np.ndarray]:
    """The same over raw kernels, as rosinality's and Cartoon-StyleGAN's programs have it.

    Every convolution and the first step to RGB, columns as they are.
    """
    layers = list(range(net.num_ws - 1))
    first = np.asarray(layer(net.synthesis, "b4/rgb").affine.kernel[...])
    return _factorised(np.concatenate([affine(net, layers), first], axis=1).astype(np.float64))


def _factorised(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(a @ a.T)
    rows = vectors.T[::-1]
    # A sign is nobody's choice: the largest entry is positive, so that a number means one direction.
    largest = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], 1)
    return (rows * np.sign(largest)).astype(np.float32), values[::-1].astype(np.float32)


def find(net: Generator, method: str, layers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Directions `[w_size, w_size]` and eigenvalues by the method called "sefa" or "svd"."""
    if method not in METHODS:
        raise UserError(
            f"method {method!r}{did_you_mean(method, METHODS)}; there is {', '.join(METHODS)}"
        )
    return sefa(net, layers) if method == "sefa" else svd(net)


def write(
    renderer: Renderer,
    output: str,
    *,
    method: str = "sefa",
    layers: str | None = None,
    count: int = 8,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes the first `count` directions as a .npz for `edit --direction=FILE.npz:NUMBER`."""
    path = new_file(output, ".npz", overwrite=overwrite)
    most = min(renderer.options.w_size, STEPS)
    if not 1 <= count <= most:
        raise UserError(f"--count={count}: give 1 to {most}")
    chosen = parse_layers(layers, renderer.num_ws)
    found, values = find(renderer.net, method, chosen)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        directions=found[:count],
        eigenvalues=values[:count],
        layers=np.array(chosen),
        num_ws=np.array(renderer.num_ws),
    )
    write_whole(path, buffer.getvalue())
    share = values / max(values.sum(), 1e-12)
    shares = [round(float(x), 5) for x in share[:count]]
    return {"done": count, "output": output, "method": method, "layers": chosen, "shares": shares}


def read(text: str, renderer: Renderer, layers: str | None = None) -> Direction:
    """The direction of `--direction`: `sefa:3`, `svd:3`, or `FILE` or `FILE:NAME`.

    A file is a .npy array or anything with arrays (`weights.readers`), of which NAME is one, or the
    number of a row of its `directions`, as `write` makes them. Allowed are `[w]`, `[1, w]` and
    `[num_ws, w]`. Layers are `layers`, else the file's, else all.
    """
    method, _, number = text.partition(":")
    if method in METHODS:
        chosen = parse_layers(layers, renderer.num_ws)
        most = renderer.options.w_size
        if not number.isascii() or not number.isdigit() or int(number) >= most:
            raise UserError(f"--direction={text}: give {method}:0 to {method}:{most - 1}")
        return Direction(find(renderer.net, method, chosen)[0][int(number)][None], tuple(chosen))
    path, name = (text, "") if os.path.exists(text) else text.rpartition(":")[::2]
    if not path or not os.path.exists(path):
        methods = ", ".join(f"{m}:NUMBER" for m in METHODS)
        raise UserError(f"--direction={text}: no such file; give a file or {methods}")
    vectors, own = _from_file(Path(path), name)
    if own is not None and layers is None:
        if own[0] != renderer.num_ws:
            raise UserError(
                f"--direction={text} is for a net of {own[0]} layers; {renderer.where} has"
                f" {renderer.num_ws}: choose --layers"
            )
        chosen = own[1]
    else:
        chosen = parse_layers(layers, renderer.num_ws)
    return Direction(_fitting(text, vectors, renderer), tuple(chosen))


def _fitting(text: str, vectors: np.ndarray, renderer: Renderer) -> np.ndarray:
    """float32 `[1 or num_ws, w_size]`, or a `UserError` that says what the net takes."""
    rows, width = renderer.num_ws, renderer.options.w_size
    x = vectors[None] if vectors.ndim == 1 else vectors
    while x.ndim > 2 and len(x) == 1:
        x = x[0]
    if x.ndim != 2 or x.shape not in ((1, width), (rows, width)):
        raise UserError(
            f"--direction={text} is {list(vectors.shape)}: {renderer.where} has {rows} layers of"
            f" {width} numbers, and takes [{width}], [1, {width}] or [{rows}, {width}]"
        )
    if x.dtype.kind not in "fiu" or not np.isfinite(x).all():
        raise UserError(f"--direction={text}: not finite real numbers")
    return x.astype(np.float32)


def _from_file(path: Path, name: str) -> tuple[np.ndarray, tuple[int, list[int]] | None]:
    """(vectors, (number of layers, layers) where the file says them)."""
    if path.suffix == ".npy":
        try:
            return np.array(np.load(path, mmap_mode="r", allow_pickle=False)), None
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise UserError(f"{path} is damaged or no .npy array of numbers") from error
    arrays = readers.read(path)
    if name in arrays:
        return arrays[name], None
    rows = arrays.get("directions")
    if rows is not None and rows.ndim == 2:
        if not name.isascii() or not name.isdigit() or int(name) >= len(rows):
            raise UserError(f"--direction={path}: give {path}:0 to {path}:{len(rows) - 1}")
        return rows[int(name)], _own_layers(arrays)
    if not name and len(arrays) == 1:
        return next(iter(arrays.values())), None
    have = ", ".join(list(arrays)[:12])
    raise UserError(
        f"{path} has no array {name!r}{did_you_mean(name, arrays)}; give {path}:NAME of {have}"
    )


def _own_layers(arrays: dict[str, np.ndarray]) -> tuple[int, list[int]] | None:
    layers, count = arrays.get("layers"), arrays.get("num_ws")
    if layers is None or count is None or layers.dtype.kind not in "iu" or count.size != 1:
        return None
    chosen = [int(i) for i in layers.ravel() if 0 <= i < int(count)]
    return (int(count), chosen) if chosen else None
