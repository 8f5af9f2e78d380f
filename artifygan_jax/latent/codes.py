"""Latents by seed or from a file, the texts that name them, and what lies between two of them."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artifygan_jax.data.saving import DIGITAL_SOURCE_TYPE, GENERATED
from artifygan_jax.errors import UserError
from artifygan_jax.metrics.latents import of_seeds
from artifygan_jax.weights import readers

MAX_SEEDS = 100_000
LARGEST_SEED = 2**32 - 1  # of numpy's RandomState
NOISE = "noise/"  # what names of noise maps in a file begin with


@dataclasses.dataclass(frozen=True, eq=False)
class Codes:
    """N latents: `z` `[N, z_size]` with one-hot `labels` `[N, classes]` or None, or codes `ws`
    `[N, num_ws, w_size]` with noise maps of their own `{"b8/conv0": [N, 8, 8], ...}` or none.

    `keys` `[N]` uint32 are what random noise is drawn of; `source_type` (IPTC's word) marks pictures:
    codes of a file may be those of photos.
    """

    names: tuple[str, ...]
    keys: np.ndarray
    z: np.ndarray | None = None
    labels: np.ndarray | None = None
    ws: np.ndarray | None = None
    maps: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    source_type: str = GENERATED

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: Sequence[int] | np.ndarray) -> "Codes":
        """Those at `indices`, in that order; one may come several times."""
        at = np.asarray(indices, int)
        return dataclasses.replace(
            self,
            names=tuple(self.names[i] for i in at),
            keys=self.keys[at],
            z=None if self.z is None else self.z[at],
            labels=None if self.labels is None else self.labels[at],
            ws=None if self.ws is None else self.ws[at],
            maps={name: x[at] for name, x in self.maps.items()},
        )

    def with_ws(self, ws: np.ndarray, names: Sequence[str] | None = None) -> "Codes":
        """The same with codes `ws` in place of what they were."""
        names = self.names if names is None else tuple(names)
        return dataclasses.replace(self, names=names, z=None, labels=None, ws=ws)


# --------------------------------------------------------------------------------------- texts


def parse_range(text: str, flag: str) -> list[int]:
    """The whole numbers of a text such as `0-3,7`, in its order; `UserError` names the `flag`."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})\s*(?:-\s*(\d{1,10})\s*)?", part, re.ASCII)
        if not match:
            raise UserError(
                f"{flag}={text}: {part.strip()!r} is no number and no range; give such as 0-3,7"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UserError(f"{flag}={text}: the range {first}-{last} runs backwards")
        if last > LARGEST_SEED:
            raise UserError(f"{flag}={text}: {last} is above {LARGEST_SEED}")
        if len(found) + last - first >= MAX_SEEDS:
            raise UserError(f"{flag}={text}: more than {MAX_SEEDS} numbers; give fewer at a time")
        found.extend(range(first, last + 1))
    return found


def parse_layers(text: str | None, count: int) -> list[int]:
    """The layers of `--layers` (None: all) of a net that has layers 0 to `count` - 1."""
    if text is None:
        return list(range(count))
    layers = sorted(set(parse_range(text, "--layers")))
    if layers[-1] >= count:
        raise UserError(f"--layers={text}: the net has layers 0-{count - 1}")
    return layers


def parse_numbers(text: str, flag: str) -> list[float]:
    """The finite numbers of a text such as `-3,0,3`."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise UserError(f"{flag}={text}: give numbers with commas between, such as -3,0,3")
    return numbers


# --------------------------------------------------------------------------------- where from


def by_seed(seeds: Sequence[int], options: Any, labels: str | None = None) -> Codes:
    """Latents by seed, the ones that NVIDIA's programs draw by it, for a net of `options`."""
    return Codes(
        names=tuple(f"seed{seed:04d}" for seed in seeds),
        keys=np.array(seeds, np.uint32),
        z=of_seeds(seeds, options.z_size),  # pyright: ignore[reportArgumentType]
        labels=_classes(labels, len(seeds), options.labels),
    )


def of_ws(ws: np.ndarray, names: Sequence[str] | None = None, **marks: Any) -> Codes:
    """Codes `[N, num_ws, w_size]` that are known; `marks` are other fields."""
    named = tuple(names) if names else tuple(f"code{i:04d}" for i in range(len(ws)))
    return Codes(named, np.zeros(len(ws), np.uint32), ws=np.asarray(ws, np.float32), **marks)


def _classes(text: str | None, count: int, classes: int) -> np.ndarray | None:
    """One-hot labels of `--labels`: one class for all, or one for each."""
    if not classes:
        if text is not None:
            raise UserError(f"--labels={text}: the model knows no classes; leave --labels out")
        return None
    if text is None:
        raise UserError(f"the model wants a class: give --labels=0 to {classes - 1}")
    chosen = parse_range(text, "--labels")
    if max(chosen) >= classes:
        raise UserError(f"--labels={text}: the model has classes 0-{classes - 1}")
    if len(chosen) not in (1, count):
        raise UserError(
            f"--labels={text}: {len(chosen)} classes for {count} latents; give 1 or all"
        )
    return _one_hot(np.array(chosen * (count // len(chosen))), classes)


def _one_hot(classes: np.ndarray, count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)[classes]


def read(where: str | os.PathLike, renderer: Any) -> Codes:
    """The latents of a file, or of every .npz in a folder, checked to be for the net of `renderer`.

    Arrays are `z` `[N, z_size]` (with `labels`, one-hot or numbers of classes), or `ws`
    `[N, num_ws, w_size]` (NVIDIA's `w` too) with noise maps `noise/b8/conv0` `[N, 8, 8]`, as
    `invert` writes them.
    """
    path = Path(where)
    if not path.exists():
        raise UserError(f"--latents={where}: no such file; give a .npz with z or ws")
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"--latents={where}: no .npz file in this folder")
    parts = [_read(file, renderer) for file in files]
    if len(parts) == 1:
        return parts[0]
    kinds = {(p.z is None, p.labels is None, *sorted(p.maps)) for p in parts}
    if len(kinds) > 1:
        raise UserError(f"--latents={where}: its files hold different arrays; give them one by one")
    joined: dict[str, Any] = {}
    for key in ("z", "labels", "ws"):
        arrays = [getattr(part, key) for part in parts]
        joined[key] = None if arrays[0] is None else np.concatenate(arrays)
    names = tuple(name for part in parts for name in part.names)
    maps = {k: np.concatenate([part.maps[k] for part in parts]) for k in parts[0].maps}
    keys, kind = np.arange(len(names), dtype=np.uint32), parts[0].source_type
    return Codes(names=names, keys=keys, maps=maps, source_type=kind, **joined)


def _read(path: Path, renderer: Any) -> Codes:
    arrays = readers.read(path)
    if "w" in arrays and "ws" not in arrays:
        arrays["ws"] = arrays.pop("w")
    if ("z" in arrays) == ("ws" in arrays):
        both = "both z and ws" if "z" in arrays else f"{', '.join(arrays)} and neither z nor ws"
        raise UserError(f"{path} holds {both}; give one of them")
    o, kind = renderer.options, "z" if "z" in arrays else "ws"
    wanted = (o.z_size,) if kind == "z" else (renderer.num_ws, o.w_size)
    main = _checked(path, kind, arrays[kind], wanted)
    count = len(main)
    names = [path.stem] if count == 1 else [f"{path.stem}{i:04d}" for i in range(count)]
    found: dict[str, Any] = dict(names=tuple(names), keys=np.arange(count, dtype=np.uint32))
    if kind == "z":
        return Codes(**found, z=main, labels=_labels(path, arrays.get("labels"), count, o.labels))
    maps = {}
    for name, side in renderer.noise_sides.items():
        if NOISE + name in arrays:
            maps[name] = _checked(path, NOISE + name, arrays[NOISE + name], (side, side), count)
    if maps and len(maps) < len(renderer.noise_sides):
        raise UserError(f"{path} has noise maps of other layers than the model")
    return Codes(**found, ws=main, maps=maps, source_type=DIGITAL_SOURCE_TYPE)


def _labels(path: Path, labels: np.ndarray | None, count: int, classes: int) -> np.ndarray | None:
    if labels is None or not classes:
        if classes:
            raise UserError(f"{path} has no labels, which this model of {classes} classes wants")
        return None
    if labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
        if len(labels) != count or labels.min() < 0 or labels.max() >= classes:
            raise UserError(f"{path}: labels must be {count} numbers of 0-{classes - 1}")
        return _one_hot(labels, classes)
    return _checked(path, "labels", labels, (classes,), count)


def _checked(
    path: Path, name: str, x: np.ndarray, shape: tuple[int, ...], count: int | None = None
) -> np.ndarray:
    """float32 `[N, *shape]`, or a `UserError` that says what came and what the model takes."""
    right = x.shape[1:] == shape and len(x) > 0 if x.ndim else False
    if not right or (count is not None and len(x) != count):
        wanted = ", ".join(map(str, ("N" if count is None else count, *shape)))
        raise UserError(f"{path}: {name} is {list(x.shape)}; this model takes [{wanted}]")
    if x.dtype.kind not in "fiu":
        raise UserError(f"{path}: {name} is {x.dtype}, no real numbers")
    x = np.asarray(x, np.float32)
    if not np.isfinite(x).all():
        raise UserError(f"{path}: {name} holds NaN or infinity")
    return x


# ----------------------------------------------------------------------------------- in between


def slerp(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Between vectors `a` and `b` `[D]` along the great circle: `share` `[T]` in 0..1 gives `[T, D]`.

    Lengths go linearly. Where there is no one way (equal, opposite, zero vectors) it is straight.
    """
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    share = np.asarray(share, np.float64)[:, None]
    cosine = float(a @ b) / max(length_a * length_b, 1e-12)
    angle = math.acos(min(max(cosine, -1.0), 1.0))
    if math.sin(angle) < 1e-6 or not length_a or not length_b:
        return ((1 - share) * a + share * b).astype(np.float32)
    way = np.sin((1 - share) * angle) * (a / length_a) + np.sin(share * angle) * (b / length_b)
    length = (1 - share) * length_a + share * length_b
    return (way / math.sin(angle) * length).astype(np.float32)
