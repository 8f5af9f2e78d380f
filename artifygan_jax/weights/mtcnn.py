"""MTCNN's weights: the arrays of the PyPI package `mtcnn` 1.0.0 (MIT), and those in torch's layout.

The package's own code needs TensorFlow and is never imported: its three files are found through the
package's metadata and checked by hash. Each is an LZ4 frame around joblib's pickle of a list of
arrays, which is read here by an interpreter that knows three names and calls nothing.
"""

import functools
import hashlib
import importlib.metadata
import io
import math
import pathlib
import pickle
from typing import Any

import numpy as np

from artifygan_jax.errors import UserError
from artifygan_jax.nets.mtcnn import LAYERS
from artifygan_jax.weights.rules import Plan, Rules, Source, conv, same

PACKAGE, VERSION = "mtcnn", "1.0.0"
SHA256 = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
INSTALL = "pip install 'artifygan_jax[prepare]'"
AGAIN = f"pip install --force-reinstall --no-deps {PACKAGE}=={VERSION}"
HEADS = {"pnet": ("box", "face"), "rnet": ("box", "face"), "onet": ("box", "points", "face")}


def package_arrays() -> dict[str, dict[str, np.ndarray]]:
    """`{stage: {path: array}}` of the installed package, named as `nets.mtcnn` has its variables.

    A `UserError` where the package (or lz4) is missing, of another version, or changed.
    """
    try:
        import lz4.frame
    except ImportError as error:
        raise UserError(f"face detection needs lz4, which is not installed: {INSTALL}") from error
    found = {}
    for stage, expected in SHA256.items():
        data = _package_file(f"{stage}.lz4")
        if hashlib.sha256(data).hexdigest() != expected:
            raise UserError(
                f"{stage}.lz4 of the installed package {PACKAGE} is not that of version {VERSION}"
                f" (SHA-256 differs): {AGAIN}"
            )
        found[stage] = _named(stage, read_joblib(lz4.frame.decompress(data)))
    return found


def _package_file(name: str) -> bytes:
    try:
        files = importlib.metadata.files(PACKAGE) or []
        path = next(file for file in files if file.parts[-2:] == ("weights", name))
        return pathlib.Path(str(path.locate())).read_bytes()
    except (importlib.metadata.PackageNotFoundError, StopIteration, OSError) as error:
        raise UserError(
            f"face detection needs {name} of the package {PACKAGE} {VERSION}, which is not"
            f" installed: {INSTALL}"
        ) from error


def _named(stage: str, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Keras' list in the order of its layers: kernel, bias, slope of each, then the heads."""
    layers = range(1, len(LAYERS[stage]) + 1)
    names = []
    for n in layers:
        names += [f"conv{n}/kernel", f"conv{n}/bias", f"prelu{n}/slope"]
    names += [f"{head}/{leaf}" for head in HEADS[stage] for leaf in ("kernel", "bias")]
    if len(arrays) != len(names):
        raise UserError(f"{stage}.lz4 holds {len(arrays)} arrays, wanted {len(names)}: {AGAIN}")
    found = dict(zip(names, arrays, strict=True))
    for name, x in found.items():
        if name.endswith("/slope"):
            found[name] = x.reshape(-1)
        elif x.ndim == 2 and name.startswith("conv"):
            # The dense layer reads a 3x3 map in the order width, height, channel.
            found[name] = x.reshape(3, 3, -1, x.shape[1]).transpose(1, 0, 2, 3)
        elif x.ndim == 2:
            found[name] = x[None, None]
    return found


# ------------------------------------------------------------------------------- joblib's pickles


class _Record:
    """Stands for whatever object a pickle makes: keeps its arguments and state, does nothing."""

    args: tuple = ()
    state: Any = None

    def __init__(self, *args: Any):
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


_Interpreter: Any = pickle._Unpickler  # pyright: ignore[reportAttributeAccessIssue]


class _Reader(_Interpreter):
    """joblib's pickles of plain float32 arrays, whose bytes stand between the instructions.

    Python's own interpreter of pickles, not C's, which has no place to read such bytes from.
    """

    ALLOWED = {
        ("joblib.numpy_pickle", "NumpyArrayWrapper"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }
    dispatch = dict(_Interpreter.dispatch)

    def __init__(self, stream: io.BytesIO):
        super().__init__(stream)
        self.bytes_of = stream

    def find_class(self, module: str, name: str) -> type[_Record]:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks to import {module}.{name}")
        return _Record

    def load_build(self) -> None:
        super().load_build()
        state = getattr(self.stack[-1], "state", None)
        if isinstance(state, dict) and "shape" in state:
            self.stack[-1] = self._array(state)

    dispatch[pickle.BUILD[0]] = load_build

    def _array(self, state: dict[str, Any]) -> np.ndarray:
        kind, shape = state["dtype"], state["shape"]
        if kind.args[:1] != ("f4",) or kind.state[1] != "<" or state["order"] != "C":
            raise pickle.UnpicklingError("it holds other arrays than float32")
        if state.get("numpy_array_alignment_bytes"):
            self.bytes_of.read(self.bytes_of.read(1)[0])
        data = self.bytes_of.read(4 * math.prod(shape))
        return np.frombuffer(data, "<f4").reshape(shape)


def read_joblib(data: bytes) -> list[np.ndarray]:
    """The float32 arrays of a joblib pickle of a list; nothing that it names is imported or called.

    A `UserError` for everything else.
    """
    try:
        arrays = _Reader(io.BytesIO(data)).load()
    except Exception as error:  # on foreign bytes the interpreter raises nearly any type
        raise UserError(f"no joblib file of plain float32 arrays: {error}") from error
    if not isinstance(arrays, list) or not all(isinstance(x, np.ndarray) for x in arrays):
        raise UserError("no joblib file of plain float32 arrays: it holds other things")
    return arrays


# ------------------------------------------------------------------------------- torch's layout


def _dense(x: np.ndarray, side: int) -> np.ndarray:
    """torch `[O, C * w * h]`, the map read in the order channel, width, height, to HWIO."""
    return x.reshape(len(x), -1, side, side).transpose(3, 2, 1, 0)


def plan(source: Source) -> Plan:
    """Names such as `features.conv1.weight`, `conv5_2.bias`; the stage is told by the heads."""
    heads = {
        "pnet": {"conv4_1": "face", "conv4_2": "box"},
        "rnet": {"conv5_1": "face", "conv5_2": "box"},
        "onet": {"conv6_1": "face", "conv6_2": "box", "conv6_3": "points"},
    }
    fits = (s for s in reversed(heads) if all(f"{h}.weight" in source for h in heads[s]))
    stage = next(fits, None)
    if stage is None:
        raise UserError(
            f"no weights of MTCNN: {', '.join(sorted(source)[:3])}, ...; wanted are conv4_1,"
            " conv5_1 or conv6_1; give another --arch or another file"
        )
    rules: Rules = {}
    for n, (_, side, _) in enumerate(LAYERS[stage], 1):
        last = stage != "pnet" and n == len(LAYERS[stage])
        kernel = {"kernel": functools.partial(_dense, side=side)} if last else {}
        rules |= conv(rf"features\.conv{n}", f"conv{n}", **kernel)
        rules |= {rf"features\.prelu{n}\.weight": (f"prelu{n}/slope", same)}
    for name, ours in heads[stage].items():
        dense = {} if stage == "pnet" else {"kernel": functools.partial(_dense, side=1)}
        rules |= conv(name, ours, **dense)
    return Plan("mtcnn", "mtcnn", {"stage": stage}, rules, source)
