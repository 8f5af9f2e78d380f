"""Rebuilds the weights of the golden cases from their recipe and checks tensors against the cases.

The .npz files of `shared/golden` hold numbers of the original networks, not their weights: every
weight is a draw of a generator seeded by the weight's own name, listed in the file's `meta`.
"""

import json
import pathlib
import zlib

import numpy as np


def load(path: str | pathlib.Path) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays, meta) of a golden file; arrays are float32 and NCHW, `meta` is parsed JSON."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return arrays, json.loads(str(arrays.pop("meta")))


def recipe(npz_path: str | pathlib.Path, net_name: str, prefix: str = "") -> dict[str, np.ndarray]:
    """The state dict (torch layout, original order) of one net of a golden file.

    Names keep the manifest's prefix, such as `src.`, unless it is given as `prefix` to be removed.
    The recorded sum of all tensors is checked, so a wrong recipe cannot go unseen.
    """
    net = load(npz_path)[1]["nets"][net_name]
    weights = {entry["key"]: _tensor(entry) for entry in net["state_dict"]}
    drawn = (e["key"] for e in net["state_dict"] if e["kind"] != "fir_kept")
    total = sum(weights[key].astype(np.float64).sum() for key in drawn)
    np.testing.assert_allclose(total, net["sum_of_all_recipe_tensors"], rtol=1e-9, atol=1e-6)
    return {key.removeprefix(prefix): w for key, w in weights.items()}


def _tensor(entry: dict) -> np.ndarray:
    if entry["kind"] == "count":
        return np.array(0)
    if entry["kind"] == "fir_kept":
        taps = np.array([1.0, 3.0, 3.0, 1.0], np.float32)
        return np.outer(taps, taps) / np.float32(64.0) * np.float32(entry["sum"])
    normal = draw(entry["key"], tuple(entry["shape"]))
    scale, shift, post = np.float32(entry["s"]), np.float32(entry["m"]), entry.get("post")
    if post == "abs_then_add":
        normal = np.abs(normal)
    value = np.asarray(normal * scale + shift)
    if post == "l2norm":
        value = value / np.sqrt(np.sum(value.astype(np.float64) ** 2))
    return value.astype(np.float32)


def draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float32 numbers that depend on `key` alone."""
    return np.asarray(_generator(key).standard_normal(shape)).astype(np.float32)


def _generator(key: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(key.encode()))


def probe(name: str, tensor: np.ndarray) -> float:
    """sum(t * q) / sqrt(size), q standard normal: it moves if any part of the tensor does."""
    q = _generator(f"probe:{name}").standard_normal(tensor.size)
    return float(np.sum(tensor.astype(np.float64).ravel() * q) / np.sqrt(tensor.size))


def tolerance(meta: dict, name: str) -> float:
    """Ten times what the original's own float32 run differs from its float64 run."""
    error = meta["errors"][name]
    return 10 * max(error["max_abs"], 1e-6 * error["ref_max"])


def check_tap(meta: dict, name: str, array_nchw, samples: np.ndarray | None = None) -> None:
    """Fails unless the whole tensor is the recorded tap `name` (given without `tap/`).

    The probe and the statistics cover every element; `samples` (the file's `tap/NAME` array) adds
    the element-by-element comparison of every `step`-th one.
    """
    tensor, tap = np.asarray(array_nchw), meta["taps"][name]
    atol = tolerance(meta, f"tap/{name}")
    assert tensor.shape == tuple(tap["shape"]), f"{name}: {tensor.shape}, not {tap['shape']}"
    found = {
        "probe": probe(name, tensor),
        "mean": float(np.mean(tensor, dtype=np.float64)),
        "std": float(np.std(tensor, dtype=np.float64)),
        "absmax": float(np.abs(tensor).max()),
    }
    for what, value in found.items():
        np.testing.assert_allclose(value, tap[what], rtol=0, atol=atol, err_msg=f"{name}: {what}")
    if samples is not None:
        picked = tensor.ravel()[:: tap["step"]]
        np.testing.assert_allclose(picked, samples, rtol=0, atol=atol, err_msg=name)


def check_out(arrays: dict[str, np.ndarray], meta: dict, name: str, array) -> None:
    """Fails unless `array` is the recorded output `name` (the float64 run, `out64/NAME`)."""
    np.testing.assert_allclose(
        np.asarray(array), arrays[f"out64/{name}"], rtol=0, atol=tolerance(meta, name), err_msg=name
    )
