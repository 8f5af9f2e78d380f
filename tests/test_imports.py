"""Imports only run downwards; a table of ranks says which way that is."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "artifygan_jax"

# A module, or a package with all that is in it, may import what has a lower rank, and inside of one
# entry its neighbours. The longest entry that fits a module's name is its own.
RANK = {
    "errors": 0,
    "cli": 1,
    "data": 1,
    "nets.ops": 1,
    "nets": 2,
    "downloads": 2,
    "losses": 3,
    "augment": 3,
    "programs": 3,
    "bundle": 3,
    "registry": 3,
    "warp": 3,
    "ada": 4,
    "tiling": 4,
    "content": 4,
    "detect": 5,
    "inference": 5,
    "logs": 5,
    "weights": 5,
    "metrics": 6,
    "config": 6,
    "optim": 6,
    "phases": 6,
    "sharding": 6,
    "checkpoint": 6,
    "methods": 6,
    "latent": 6,
    "": 7,  # artifygan_jax/__init__.py
    "train": 7,
    "stylize": 7,
    "evaluate": 7,
    "convert": 7,
    "prepare": 7,
    "generate": 7,
    "export": 7,
    "models": 7,
    "serve": 7,
    "doctor": 7,
    "demo": 7,
}

# Edges between entries of one rank that are meant: (who imports, what).
ALLOWED = {
    ("methods", "phases"),  # a method is a table of phases, and knows no optimiser or checkpoint
    ("phases", "optim"),
    ("latent", "metrics"),
    ("methods", "latent"),  # a one-shot method finds the code of its reference first
    ("detect", "weights"),  # the face detector's own, which no bundle holds
    ("demo", "train"),  # the demo is two commands in a row: train, then what `load` gives
    ("demo", ""),
    ("models", "convert"),  # what `models get` fetches becomes a bundle
}

# Edges that run downwards and are not meant all the same.
FORBIDDEN = {
    ("data", "cli"),  # data knows errors and nothing else
    ("data", "nets.ops"),
}

# What no module of an entry may import from outside; "" stands for all modules.
FOREIGN = {
    "": {"torch", "torchvision", "tensorflow", "keras"},
    "data": {"jax", "jaxlib", "flax", "optax", "orbax"},
}


def modules(package: pathlib.Path) -> dict[str, pathlib.Path]:
    """Every module by its name below the package; "" is the package itself."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def entry(module: str) -> str | None:
    """The longest entry of RANK that `module` falls under."""
    parts = module.split(".")
    heads = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((head for head in heads if head in RANK), None)


def imports(module: str, path: pathlib.Path, known: dict, package: str) -> set[tuple[str, bool]]:
    """What `module` imports anywhere: (name below the package, True) or (foreign name, False)."""
    full = f"{package}.{module}" if module else package
    here = full if path.name == "__init__.py" else full.rpartition(".")[0]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = here.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            # `from package import x` may mean a module, or a name in the package
            names |= {f"{base}.{alias.name}" for alias in node.names}
    found = set()
    for name in names:
        head, _, rest = name.partition(".")
        if head != package:
            found.add((head, False))
            continue
        while rest and rest not in known:
            rest = rest.rpartition(".")[0]
        found.add((rest, True))
    return found


def violations(package: pathlib.Path) -> list[str]:
    """One line for each import that the table does not allow and each module without a rank."""
    known = modules(package)
    lines = []
    for module, path in known.items():
        own = entry(module)
        if own is None:
            lines.append(f"{module} has no rank: add it to RANK in tests/test_imports.py")
            continue
        for target, ours in sorted(imports(module, path, known, package.name)):
            if not ours:
                if target in FOREIGN[""] | FOREIGN.get(own.split(".")[0], set()):
                    lines.append(f"{module} imports {target}, which is forbidden there")
                continue
            other = entry(target)
            edge = (own, other)
            if other is None or own == other or edge in ALLOWED:
                continue
            if RANK[other] >= RANK[own] or edge in FORBIDDEN:
                lines.append(
                    f"{module} (rank {RANK[own]}) imports {target} (rank {RANK[other]}):"
                    " imports only run downwards"
                )
    return lines


def test_imports_of_the_package_only_run_downwards():
    assert not violations(PACKAGE), "\n".join(violations(PACKAGE))


def test_every_name_in_the_exceptions_has_a_rank():
    named = {name for edge in ALLOWED | FORBIDDEN for name in edge} | set(FOREIGN)
    assert named <= set(RANK)


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("nets/gan.py", "from artifygan_jax import losses", "nets.gan (rank 2) imports losses"),
        ("nets/gan.py", "from artifygan_jax.losses import l1", "imports losses (rank 3)"),
        ("nets/gan.py", "from ..losses import l1", "imports losses (rank 3)"),
        ("nets/gan.py", "def f():\n    import artifygan_jax.losses", "imports losses (rank 3)"),
        ("nets/gan.py", "import torch", "imports torch"),
        ("data/faces.py", "import jax.numpy as jnp", "imports jax"),
        ("data/faces.py", "from artifygan_jax import cli", "imports cli (rank 1)"),
        ("data/faces.py", "from artifygan_jax.nets import ops", "imports nets.ops (rank 1)"),
        ("methods/gan.py", "from artifygan_jax import train", "imports train (rank 7)"),
        ("methods/gan.py", "import artifygan_jax.optim", "imports optim (rank 6)"),
        ("methods/gan.py", "from artifygan_jax import checkpoint", "imports checkpoint (rank 6)"),
        ("train.py", "from artifygan_jax import stylize", "imports stylize (rank 7)"),
        ("errors.py", "from artifygan_jax import cli", "errors (rank 0) imports cli (rank 1)"),
        ("novel.py", "", "novel has no rank"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, file, text, complaint):
    package = _package(tmp_path)
    (package / file).write_text(text)
    found = violations(package)
    assert len(found) == 1 and complaint in found[0], found


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data/faces.py", "from artifygan_jax.errors import UserError\nimport numpy"),
        ("data/faces.py", "from artifygan_jax.data import split\nfrom . import split as s"),
        ("nets/gan.py", "from artifygan_jax.nets import ops\nfrom artifygan_jax.nets.ops import C"),
        ("methods/gan.py", "from artifygan_jax import losses, nets, phases"),
        ("train.py", "from artifygan_jax import cli, checkpoint\nimport artifygan_jax.optim"),
    ],
)
def test_an_import_that_runs_downwards_passes(tmp_path, file, text):
    package = _package(tmp_path)
    (package / file).write_text(text)
    assert violations(package) == []


def _package(tmp_path: pathlib.Path) -> pathlib.Path:
    package = tmp_path / "artifygan_jax"
    for name in ("nets", "data", "methods"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    for name in ("errors", "cli", "losses", "phases", "optim", "checkpoint", "config", "train"):
        (package / f"{name}.py").touch()
    for name in ("__init__", "stylize", "data/split", "nets/ops"):
        (package / f"{name}.py").touch()
    return package
