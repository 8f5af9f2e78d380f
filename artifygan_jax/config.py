"""What an experiment may say, and how configs are found, read, compared and written down."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from artifygan_jax.errors import UserError, did_you_mean


@dataclasses.dataclass
class Experiment:
    """One training run. A config is a Python file whose `get_config(variant)` returns one of these.

    `optim` is keyed by net or "phase/net"; `ema` by net. `evals` are objects with `every` and `run`.
    `dtype` is the compute dtype: "auto" is float32 on CPU and bfloat16 elsewhere. `best` names an
    evaluation's number whose lowest value marks the checkpoint that is kept beside the last `keep`.
    Durations are steps; a config that thinks in epochs computes them.
    """

    method: Any
    data: dict[str, Any]
    optim: dict[str, Any]
    steps: int
    batch_size: int
    evals: dict[str, Any] = dataclasses.field(default_factory=dict)
    ema: dict[str, Any] = dataclasses.field(default_factory=dict)
    accumulate: int = 1
    dtype: str = "auto"
    seed: int = 0
    checkpoint_every: int = 1000
    log_every: int = 50
    keep: int = 2
    best: str = ""
    init_from: dict[str, str] = dataclasses.field(default_factory=dict)

    def check(self) -> None:
        """Raises one `UserError` that names every value that cannot be."""
        wrong = [
            f"{name} is {getattr(self, name)}, needs at least 1"
            for name in (
                "steps",
                "batch_size",
                "accumulate",
                "checkpoint_every",
                "log_every",
                "keep",
            )
            if getattr(self, name) < 1
        ]
        if self.dtype not in ("auto", "float32", "bfloat16"):
            wrong.append(f"dtype is {self.dtype!r}, allowed are auto, float32, bfloat16")
        if wrong:
            raise UserError("; ".join(wrong))


# Fields that a run may change when it goes on; others need --resume_override or are refused.
FREE = ("steps", "checkpoint_every", "log_every", "keep", "evals", "best")
REFUSED = ("method.generator", "method.discriminator", "data", "batch_size", "seed")


def find(name: str) -> str:
    """The path of a config given by path or by bare name, with its `:variant` kept."""
    path, colon, variant = name.partition(":")
    folders = (
        pathlib.Path(__file__).parent / "configs",
        pathlib.Path(__file__).parents[1] / "configs",
    )
    if pathlib.Path(path).is_file():
        return name
    for folder in folders:
        file = folder / f"{pathlib.Path(path).stem}.py"
        if file.is_file() and pathlib.Path(path).parent in (
            pathlib.Path("."),
            pathlib.Path("configs"),
        ):
            return f"{file}{colon}{variant}"
    known = sorted({p.stem for folder in folders for p in folder.glob("[a-z]*.py")})
    stem = pathlib.Path(path).stem
    raise UserError(
        f"no config at {path!r}{did_you_mean(stem, known)}: give a file, or a name of {', '.join(known)}"
    )


def describe(value: Any) -> Any:
    """A config as plain JSON data; dataclasses carry their class name as `type`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(v) for v in value]
    return value


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested JSON data as `{"a.b.0": leaf}`."""
    if isinstance(tree, (dict, list)):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        nested = [flatten(v, f"{prefix}{k}.") for k, v in items]
        return {k: v for part in nested for k, v in part.items()}
    return {prefix[:-1]: tree}


def check_resume(old: Mapping, new: Mapping, override: bool) -> list[str]:
    """What changed between two described configs, as lines; `UserError` where that may not be."""
    a, b = flatten(dict(old)), flatten(dict(new))
    changed = [k for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)]
    changed = [k for k in changed if k.split(".")[0] not in FREE]
    lines = [f"{k}: {json.dumps(a.get(k))} -> {json.dumps(b.get(k))}" for k in changed]
    refused = [
        line
        for k, line in zip(changed, lines, strict=True)
        if any(k == r or k.startswith(r + ".") for r in REFUSED)
    ]
    if refused:
        raise UserError(
            f"this run cannot go on with another architecture, data or seed ({'; '.join(refused[:6])});"
            " use a new --workdir, or --restart to begin anew here"
        )
    if lines and not override:
        raise UserError(
            f"the config differs from the run in this workdir ({'; '.join(lines[:6])});"
            " add --resume_override to go on with the new values, or use a new --workdir"
        )
    return lines
