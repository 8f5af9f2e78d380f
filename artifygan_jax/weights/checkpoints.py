"""What a PyTorch or NVIDIA file holds, sorted: nets, each a dict of tensors, and the rest."""

import contextlib
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.weights import containers
from artifygan_jax.weights.pickles import Budget, Damaged, Record, Refused, shown
from artifygan_jax.weights.tensors import Tensor

MAX_DEPTH = 64
GROWTH, SMALL = 4, 64 << 20  # what a file may unpack to: 4 times its size, at least 64 MiB
ADVICE = "nothing of it was run; save the network's state_dict() alone and give that"

Tensors = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Net:
    """One net of a weights file: its `arrays`, and what the file says beside them.

    `part` is what the file calls the net (None where it has no other). `beside`: the single arrays
    that were asked for. `options`: see `Checkpoint.options`.
    """

    arrays: dict[str, np.ndarray]
    part: str | None = None
    beside: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Checkpoint:
    """What a file holds: its nets by name ("" where it is one), and everything else by name.

    `modules` are the nets that came as whole objects: of NVIDIA's snapshots and of TorchScript.
    `others`: numbers, text, single tensors, inert `Record`s.
    """

    nets: dict[str, Tensors] = dataclasses.field(default_factory=dict)
    modules: dict[str, Record] = dataclasses.field(default_factory=dict)
    others: dict[str, Any] = dataclasses.field(default_factory=dict)

    def net(self, part: str | None = None) -> Tensors:
        """The net called `part`, or the only one; also the tensors whose names begin with `part.`.

        A `UserError` names the nets where there are several and none was chosen, or none so called.
        """
        sizes = [f"{name} ({len(tensors)} arrays)" for name, tensors in self.nets.items()]
        have = f"{', '.join(map(shown, sizes[:12]))}{', ...' * (len(sizes) > 12)}"
        if part is None:
            if "" in self.nets or len(self.nets) == 1:
                return self.nets.get("") or next(iter(self.nets.values()))
            if not self.nets:
                raise UserError("it holds no arrays")
            raise UserError(f"it holds {len(self.nets)} nets; choose a part of {have}")
        if part in self.nets:
            return self.nets[part]
        found = {
            name.removeprefix(f"{part}.") if name != part else part: tensor
            for name, tensor in self._all()
            if name == part or name.startswith(f"{part}.")
        }
        if not found:
            raise UserError(
                f"it has no part {part!r}{did_you_mean(part, self.nets)}; it has {have}"
            )
        return found

    def _all(self) -> Iterator[tuple[str, Tensor]]:
        for net, tensors in self.nets.items():
            for name, tensor in tensors.items():
                yield _join(net, name), tensor
        for name, value in self.others.items():
            if isinstance(value, Tensor):
                yield name, value

    def choose(self, prefer: Collection[str]) -> str | None:
        """The first of the parts `prefer` that there is; the name of the only net; else None."""
        names = [*prefer, *self.nets] if len(self.nets) == 1 else prefer
        return next((name for name in names if name and name in self.nets), None)

    def options(self, part: str) -> dict[str, Any]:
        """What the constructor of module `part` of a snapshot was called with, by keyword.

        Numbers, text, None, lists, dicts. Empty for a net that is no module.
        """
        state = self.modules[part].state if part in self.modules else None
        options = plain(state.get("_init_kwargs") if isinstance(state, dict) else None)
        return options if isinstance(options, dict) else {}


def read(
    path: str | os.PathLike,
    part: str | None = None,
    prefer: Collection[str] = (),
    beside: Collection[str] = (),
) -> Net:
    """One net of a file: `part`, or else `Checkpoint.choose(prefer)`. bfloat16 comes as float32.

    With it come the single arrays called `beside`, where there are such. A `UserError` says what the
    file asks for that weights never need, how it is damaged, or which nets there are; see
    `Checkpoint.net`.
    """
    with _refusing(path):
        checkpoint, budget = _load(pathlib.Path(path))
        part = part or checkpoint.choose(prefer)
        arrays = {name: tensor.numpy(budget) for name, tensor in checkpoint.net(part).items()}
        found = {name: checkpoint.others.get(name) for name in beside}
        singles = {k: x.numpy(budget) for k, x in found.items() if isinstance(x, Tensor)}
        return Net(arrays, part, singles, checkpoint.options(part or ""))


def load(path: str | os.PathLike) -> Checkpoint:
    """What a file holds; no tensor is read before its `numpy` is called. Errors as for `read`."""
    with _refusing(path):
        return _load(pathlib.Path(path))[0]


def plain(value: Any) -> Any:
    """Numbers, text, lists and dicts as they are, records as the dicts they hold, the rest as None.

    Raises `UserError` for what is nested deeper, or is larger, than options are.
    """
    try:
        return _plain(value, Budget(SMALL))
    except Refused as error:
        raise UserError(f"no options of a net: {error}") from error


def _plain(value: Any, budget: Budget, depth: int = 0) -> Any:
    budget.spend(1)
    if depth > MAX_DEPTH:
        raise Refused(f"they are nested more than {MAX_DEPTH} deep")
    if isinstance(value, Record):
        value = value.items or value.state
    if isinstance(value, dict):
        return {str(key): _plain(x, budget, depth + 1) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(x, budget, depth + 1) for x in value]
    if isinstance(value, set):
        return sorted(map(str, value))
    return value if isinstance(value, str | int | float) else None


@contextlib.contextmanager
def _refusing(path: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except Refused as error:
        raise UserError(f"{path} refused: {error} ({ADVICE})") from error
    except Damaged as error:
        raise UserError(f"{path} is damaged: {error}; get it again") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _load(path: pathlib.Path) -> tuple[Checkpoint, Budget]:
    budget = Budget(max(GROWTH * path.stat().st_size, SMALL))
    return _sorted(containers.tree(path, budget), budget), budget


# --------------------------------------------------------------------------------------- sorting


def _join(*names: str) -> str:
    return ".".join(filter(None, names))


def _sorted(tree: Any, budget: Budget) -> Checkpoint:
    """The nets of a tree: dicts with tensors and no nets below them, and modules."""
    found = Checkpoint()
    if isinstance(tree, Tensor):
        tree = {"tensor": tree}
    if isinstance(tree, list | tuple):
        tree = {str(i): x for i, x in enumerate(tree)}
    _walk("", tree, found, budget)
    return found


def _walk(path: str, node: Any, found: Checkpoint, budget: Budget, depth: int = 0) -> None:
    budget.spend(1, len(path))
    if depth > MAX_DEPTH:
        raise Refused(f"the file nests dicts more than {MAX_DEPTH} deep")
    if _is_module(node):
        found.modules[path] = node
        if tensors := dict(_module(node, budget)):
            _once(found.nets, path, tensors)
        return
    if not isinstance(node, dict) or not all(isinstance(key, str) for key in node):
        _once(found.others, path, node)
        return
    before, own = len(found.nets), {}
    for key, value in node.items():
        if isinstance(value, Tensor):
            budget.spend(1)
            own[key] = value
        else:
            _walk(_join(path, key), value, found, budget, depth + 1)
    if own and len(found.nets) == before:
        _once(found.nets, path, own)
    elif own:
        for key, tensor in own.items():
            _once(found.others, _join(path, key), tensor)


def _once(into: dict[str, Any], name: str, value: Any) -> None:
    if name in into:
        raise Damaged(f"it holds two things called {shown(name)}")
    into[name] = value


def _is_module(node: Any) -> bool:
    if not isinstance(node, Record) or not isinstance(node.state, dict):
        return False
    return node.name.startswith("__torch__.") or "_parameters" in node.state


def _module(record: Record, budget: Budget, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a module and those within, in the order of torch's `state_dict()`.

    Modules of TorchScript keep parameters, buffers and modules side by side.
    """
    if depth > MAX_DEPTH:
        raise Refused(f"the file nests modules more than {MAX_DEPTH} deep")
    state: Mapping[str, Any] = record.state
    if "_parameters" in state:
        passing = _dict(state, "_non_persistent_buffers_set")
        buffers = {k: x for k, x in _dict(state, "_buffers").items() if k not in passing}
        parts = (_dict(state, "_parameters"), buffers, _dict(state, "_modules"))
    else:
        parts = (state,)
    for name, value in itertools.chain.from_iterable(part.items() for part in parts):
        budget.spend(1)
        if isinstance(value, Tensor):
            yield str(name), value
        elif _is_module(value):
            for inner, tensor in _module(value, budget, depth + 1):
                full = _join(str(name), inner)
                budget.spend(1, len(full))
                yield full, tensor


def _dict(state: Mapping[str, Any], name: str) -> dict:
    value = state.get(name)
    if isinstance(value, set):
        return dict.fromkeys(value)
    return value if isinstance(value, dict) else {}
