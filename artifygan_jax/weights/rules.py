"""Takes the arrays of a foreign weights file to the variables of a net, all of them or none.

A table says what goes where: `{regex of a source name: (template of a path, transform)}`. The regex
must match the whole name; the template may use its groups. `plan(source)` of each sibling module
makes the table of one source, with the options of the net read off the shapes.
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from artifygan_jax.errors import UserError

Source = Mapping[str, np.ndarray]
Transform = Callable[[np.ndarray], np.ndarray]
Rules = Mapping[str, tuple[str, Transform]]
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the arrays `source` become a net: which net, with which options, by which rules.

    `missing`: paths that the file is known to lack and the net to do without. `channels`: the order
    of colours that the weights work on. `card`: what the bundle's card should say besides.
    """

    architecture: str
    net: str
    options: Mapping[str, Any]
    rules: Rules
    source: Source
    ignore: Collection[str] = ()
    missing: Collection[str] = ()
    channels: str = "RGB"
    card: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def same(x: np.ndarray) -> np.ndarray:
    """Biases, scales, and kernels that are HWIO already."""
    return x


def oihw(x: np.ndarray) -> np.ndarray:
    """torch convolution `[O, I, h, w]` to HWIO."""
    return x.transpose(2, 3, 1, 0)


def iohw(x: np.ndarray) -> np.ndarray:
    """torch transposed convolution `[I, O, h, w]` to the kernel of `nets.ops.ConvTranspose`."""
    return x.transpose(2, 3, 0, 1)


def iohw_stride1(x: np.ndarray) -> np.ndarray:
    """torch transposed convolution of stride 1 to HWIO of the ordinary convolution that it is."""
    return iohw(x)[::-1, ::-1]


def linear(x: np.ndarray) -> np.ndarray:
    """torch linear layer `[O, I]` to `[I, O]`."""
    return x.T


def conv(source: str, target: str, kernel: Transform = oihw) -> Rules:
    """The rules of a torch convolution with bias, by regex and template of the layer's names."""
    return {
        rf"{source}\.weight": (f"{target}/kernel", kernel),
        rf"{source}\.bias": (f"{target}/bias", same),
    }


def batch_norm(source: str, target: str) -> Rules:
    """The rules of a torch batch norm, without its counter of batches."""
    leaves = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
    return {rf"{source}\.{name}": (f"{target}/{ours}", same) for name, ours in leaves.items()}


def targets(rules: Rules, key: str) -> list[tuple[str, Transform]]:
    """(path, transform) of every rule that matches the source name `key`."""
    matches = ((re.fullmatch(pattern, key), rule) for pattern, rule in rules.items())
    return [(match.expand(path), transform) for match, (path, transform) in matches if match]


def writers(rules: Rules, path: str) -> list[tuple[str, Transform]]:
    """(source name, transform) of every rule that writes the variable `path`: `targets` backwards.

    Rules with a regex of other things than plain text and groups, all of them used by the template,
    cannot be read backwards: a `ValueError`.
    """
    found = []
    for pattern, (template, transform) in rules.items():
        text = re.split(r"\(([^()]*)\)", pattern)  # plain text and groups in turn
        plain = [part.replace(r"\.", ".") for part in text[::2]]
        used = re.split(r"\\(\d)", template)
        if sorted(used[1::2]) != [str(n + 1) for n in range(len(plain) - 1)]:
            raise ValueError(f"{template} does not use each group of {pattern} once")
        if any(re.search(r"[][\\(){}|*+?^$]", part) for part in plain):
            raise ValueError(f"{pattern} is more than plain text and groups")
        for n in range(1, len(used), 2):
            used[n] = f"(?P<g{used[n]}>{text[2 * int(used[n]) - 1]})"
        match = re.fullmatch(
            "".join(re.escape(x) if n % 2 == 0 else x for n, x in enumerate(used)), path
        )
        if match:
            groups = (match[f"g{n}"] for n in range(1, len(plain)))
            found.append((plain[0] + "".join(map("".join, zip(groups, plain[1:]))), transform))
    return found


def apply(
    rules: Rules, ignore: Collection[str], source: Source, target_shapes: Mapping[str, Shape]
) -> dict[str, np.ndarray]:
    """`{path: float32 array}` for exactly the paths of `target_shapes`.

    Each name of `source` must match exactly one rule, or none and a regex of `ignore`; each path is
    written once, in its shape; every value is finite in float32. One `UserError` lists all faults.
    """
    writers: dict[str, list[tuple[str, Transform]]] = defaultdict(list)
    wrong = []
    for key in source:
        found = targets(rules, key)
        ignored = [pattern for pattern in ignore if re.fullmatch(pattern, key)]
        if len(found) + len(ignored) == 0:
            wrong.append(f"{key} matches no rule")
        elif found and len(found) + len(ignored) > 1:
            places = [path for path, _ in found] + ["the ignored"] * bool(ignored)
            wrong.append(f"{key} matches more than one rule, for {' and '.join(places)}")
        elif found:
            path, transform = found[0]
            writers[path].append((key, transform))
    out = {}
    for path, keys in writers.items():
        names = " and ".join(key for key, _ in keys)
        if path not in target_shapes:
            wrong.append(f"{names} goes to {path}, which the net does not have")
        elif len(keys) > 1:
            wrong.append(f"{names} all go to {path}")
        else:
            key, transform = keys[0]
            out[path], faults = _convert(source[key], transform, target_shapes[path])
            wrong += [f"{key} (for {path}) {fault}" for fault in faults]
    wrong += [f"nothing in the file is for {path}" for path in target_shapes if path not in writers]
    if wrong:
        raise UserError(f"the weights do not fit the net, {len(wrong)} faults: {'; '.join(wrong)}")
    return out


def _convert(x: np.ndarray, transform: Transform, shape: Shape) -> tuple[np.ndarray, list[str]]:
    """The array as the net wants it, and what is wrong with it."""
    if not np.issubdtype(x.dtype, np.floating):
        return x, [f"holds {x.dtype}, wanted floating point numbers"]
    try:
        y = transform(x)
    except ValueError:  # numpy's transpose of an array with another number of axes
        return x, [f"has shape {x.shape}, which cannot become {tuple(shape)}"]
    faults = []
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite: refused below
        y = np.asarray(y, np.float32, order="C")
    if y.shape != tuple(shape):
        faults.append(f"gives shape {y.shape}, wanted {tuple(shape)}")
    if not np.isfinite(y).all():
        faults.append("holds NaN or infinity")
    return y, faults


def size(what: str, source: Source, key: str, axis: int, axes: int = 4) -> int:
    """Length of an axis of the kernel `key`, which every file of `what` has; else a `UserError`."""
    if key not in source:
        names = ", ".join(sorted(source)[:3]) or "no arrays"
        raise UserError(
            f"no weights of {what}: {key} is not among the {len(source)} arrays ({names}, ...);"
            " give another --arch or another file"
        )
    if source[key].ndim != axes:
        raise UserError(
            f"no weights of {what}: {key} has shape {source[key].shape}, wanted {axes} axes;"
            " give another --arch or another file"
        )
    return source[key].shape[axis]
