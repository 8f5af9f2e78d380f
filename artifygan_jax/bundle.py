"""Model bundles: a folder with `model.safetensors` and `model.json`, which says how to use it.

`model.json`: format, architecture (a module of `nets/`), net, options, channels (RGB or BGR order
inside), parameters, dtype, sha256 of the weights, licence, and what else the writer knows (training
step, source file and its hash). Loading checks the hash, every name and every shape.
"""

import hashlib
import importlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx

from artifygan_jax.errors import UserError, did_you_mean

FORMAT = 1
WEIGHTS, CARD = "model.safetensors", "model.json"


def variables(net: nnx.Module) -> dict[str, jax.Array]:
    """Every variable of `net` by its path, such as `blocks/0/conv1/kernel`."""
    flat = nnx.to_flat_state(nnx.state(net))
    return {"/".join(map(str, path)): leaf.get_value() for path, leaf in flat}


def save(
    directory: str | os.PathLike,
    net: nnx.Module,
    card: Mapping[str, Any] | None = None,
    *,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Writes `net` as a bundle, stored as `dtype`; `card` adds fields to model.json. Returns the card.

    An older bundle there is replaced; a kill leaves the old one or the new one, or at worst the old
    one beside its name with the suffix `.old`.
    """
    directory = pathlib.Path(directory)
    if directory.exists() and any(directory.iterdir()) and not (directory / CARD).is_file():
        raise UserError(f"{directory} holds other things than a bundle: it is not replaced")
    arrays = {name: np.asarray(x).astype(dtype, copy=False) for name, x in variables(net).items()}
    infinite = [name for name, x in arrays.items() if not np.isfinite(x).all()]
    if infinite:
        raise UserError(f"{', '.join(infinite)}: not finite as {dtype}; store float32")
    card = {
        "format": FORMAT,
        "architecture": type(net).__module__.rsplit(".", 1)[-1],
        "net": type(net).__name__.lower(),
        "options": {k: _plain(v) for k, v in vars(vars(net)["options"]).items()},
        "channels": "RGB",
        "parameters": sum(x.size for x in arrays.values()),
        "dtype": dtype,
        "licence": "not stated",
        **(card or {}),
    }
    fresh = directory.with_name(f"{directory.name}.tmp{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        card["sha256"] = _write(arrays, fresh / WEIGHTS)
        (fresh / CARD).write_text(json.dumps(card, indent=1) + "\n")
        shutil.copymode(fresh / CARD, fresh / WEIGHTS)  # safetensors' own is the owner's alone
        replace_folder(fresh, directory)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return card


def _write(arrays: dict[str, np.ndarray], path: pathlib.Path) -> str:
    """Writes the weights, with half the memory of `save()` and `write_bytes`; returns their digest."""
    try:
        safetensors.numpy.save_file(arrays, path)
    except safetensors.SafetensorError as error:
        raise OSError(f"{path}: {error}") from error
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace_folder(fresh: pathlib.Path, target: pathlib.Path) -> None:
    """Gives `fresh` the name `target`, whose former contents go."""
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.rename(target, old)
    os.rename(fresh, target)
    shutil.rmtree(old, ignore_errors=True)


def load(where: str | os.PathLike) -> tuple[nnx.Module, dict[str, Any]]:
    """The net of a bundle (float32) and its card. `where` is a folder or a name; see `find`."""
    directory = find(where)
    card = read_card(directory)
    weights = (directory / WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != card["sha256"]:
        raise UserError(
            f"{directory / WEIGHTS} is not what model.json says (SHA-256 differs): the file is damaged"
            " or was exchanged; get or convert it again"
        )
    try:
        arrays = safetensors.numpy.load(weights)
    except Exception as error:
        raise UserError(f"{directory / WEIGHTS} is no safetensors file: {error}") from error
    return _fill(card, arrays, str(directory)), card


def read_card(directory: pathlib.Path) -> dict[str, Any]:
    """model.json of a bundle; `UserError` where it cannot be used."""
    try:
        card = json.loads((directory / CARD).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{directory / CARD} is not JSON: {error}") from error
    missing = [k for k in ("format", "architecture", "net", "options", "sha256") if k not in card]
    if missing:
        raise UserError(f"{directory / CARD} lacks {', '.join(missing)}: not a model bundle")
    if card["format"] != FORMAT:
        raise UserError(
            f"{directory} has bundle format {card['format']}; this version reads {FORMAT}"
        )
    return card


def trained(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a card says of how its net was trained: the run's config, or the little that zoo/ keeps."""
    found = card.get("trained", {})
    config = found.get("config")
    return config if isinstance(config, dict) else {"method": found}


def find(where: str | os.PathLike) -> pathlib.Path:
    """The folder of a bundle: a path, or a name in the cache or in `zoo/` of the checkout."""
    places = [pathlib.Path(where), cache() / where, _checkout() / "zoo" / where]
    for place in places:
        if (place / CARD).is_file() and (place / WEIGHTS).is_file():
            return place
    homes = cache(), _checkout() / "zoo"
    names = [card.parent.name for home in homes for card in home.glob(f"*/{CARD}")]
    raise UserError(
        f"no model bundle at {str(where)!r}{did_you_mean(str(where), names)}: give a folder with"
        f" {CARD} and {WEIGHTS}, or a name of {', '.join(sorted(names)) or '(none here)'}"
    )


def is_here(where: str | os.PathLike) -> bool:
    """Whether `find` finds a bundle."""
    try:
        find(where)
    except UserError:
        return False
    return True


def cache() -> pathlib.Path:
    """Where downloaded and converted bundles live by name."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return pathlib.Path(os.environ.get("ARTIFYGAN_CACHE") or os.path.join(base, "artifygan_jax"))


def _checkout() -> pathlib.Path:
    return pathlib.Path(__file__).parent.parent


def architecture(name: str):
    """The module of `nets/` called `name`."""
    known = sorted(p.stem for p in (pathlib.Path(__file__).parent / "nets").glob("[a-z]*.py"))
    if name not in known or name == "ops":
        raise UserError(f"no architecture {name!r}{did_you_mean(name, known)}; there are {known}")
    return importlib.import_module(f"artifygan_jax.nets.{name}")


def build(
    architecture_name: str, net: str, options: Mapping[str, Any], arrays: Mapping[str, Any]
) -> nnx.Module:
    """A net with the given arrays `{path: array}` as its variables, all of them and no other."""
    card = {"architecture": architecture_name, "net": net, "options": options}
    return _fill(card, arrays, architecture_name)


def _fill(card: Mapping[str, Any], arrays: Mapping[str, Any], what: str) -> nnx.Module:
    module = architecture(card["architecture"])
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in card["options"].items()}
    empty = nnx.eval_shape(lambda: module.build(card["net"], options, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(empty)
    flat = {"/".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}
    wrong = [f"-{name}" for name in flat if name not in arrays]
    wrong += [f"+{name}" for name in arrays if name not in flat]
    wrong += [
        f"{name} is {tuple(arrays[name].shape)}, wanted {tuple(leaf.shape)}"
        for name, leaf in flat.items()
        if name in arrays and tuple(arrays[name].shape) != tuple(leaf.shape)
    ]
    wrong += [
        f"{name} holds NaN or infinity"
        for name, x in arrays.items()
        if not np.isfinite(np.asarray(x, np.float32)).all()
    ]
    if wrong:
        more = f" and {len(wrong) - 12} more" if len(wrong) > 12 else ""
        raise UserError(
            f"{what}: the weights do not fit {card['architecture']} {dict(options)}"
            f" (- missing, + not wanted): {'; '.join(wrong[:12])}{more}"
        )
    for name, leaf in flat.items():
        leaf.set_value(jnp.asarray(arrays[name], jnp.float32))
    return nnx.merge(graph, state)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
