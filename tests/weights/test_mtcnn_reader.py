"""The package's weight files: read safely, equal to the same weights from elsewhere."""

import importlib.metadata
import io
import os
import pickle
import pickletools

import lz4.frame
import numpy as np
import pytest

from artifygan_jax import bundle, convert
from artifygan_jax.errors import UserError
from artifygan_jax.nets.mtcnn import LAYERS
from artifygan_jax.weights import mtcnn
from tests.conftest import shared


@pytest.fixture(scope="module")
def arrays():
    return mtcnn.package_arrays()


def package_bytes(name="pnet.lz4"):
    files = importlib.metadata.files("mtcnn") or []
    return next(f for f in files if f.name == name).locate().read_bytes()


@pytest.mark.parametrize("stage", LAYERS)
def test_the_packages_arrays_fill_the_nets(arrays, stage):
    net = bundle.build("mtcnn", "mtcnn", {"stage": stage}, arrays[stage])
    assert len(bundle.variables(net)) == len(arrays[stage])


@pytest.mark.parametrize("stage", LAYERS)
def test_they_equal_the_same_weights_in_torchs_layout(arrays, stage):
    file = shared("data", "weights", f"mtcnn_{stage}.npz")
    source = dict(np.load(file))
    net, _ = convert.build("mtcnn", source)
    for name, x in bundle.variables(net).items():
        np.testing.assert_array_equal(x, arrays[stage][name], err_msg=name)


def test_torchs_dense_layer_is_read_channel_width_height():
    """Synthetic, so that the order is held without the shared files too."""
    x = np.arange(5 * 4 * 3 * 3, dtype=np.float32).reshape(5, 4 * 3 * 3)
    kernel = mtcnn._dense(x, 3)
    channel, width, height, out = 2, 1, 2, 3
    assert kernel[height, width, channel, out] == x[out, channel * 9 + width * 3 + height]


def test_other_weights_are_refused_by_name():
    with pytest.raises(UserError, match="no weights of MTCNN: conv9.bias"):
        mtcnn.plan({"conv9.bias": np.zeros(3, np.float32)})


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_pickle_that_calls_something_is_refused_and_nothing_is_called(tmp_path):
    marker = tmp_path / "made"
    with pytest.raises(UserError, match=r"asks to import (posix|nt)\.mkdir"):
        mtcnn.read_joblib(pickle.dumps([Evil(marker)], protocol=4))
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_real_arrays_of_numpys_own_pickle_are_refused(protocol):
    with pytest.raises(UserError, match="no joblib file"):
        mtcnn.read_joblib(pickle.dumps([np.zeros(3)], protocol=protocol))


@pytest.mark.parametrize("data", [b"", b"\x80", b"<!DOCTYPE html>", pickle.dumps({"a": 1})])
def test_what_is_no_list_of_arrays_is_refused(data):
    with pytest.raises(UserError, match="no joblib file"):
        mtcnn.read_joblib(data)


def test_a_cut_file_is_refused():
    data = lz4.frame.decompress(package_bytes())
    for end in (100, len(data) // 2, len(data) - 1):
        with pytest.raises(UserError, match="no joblib file"):
            mtcnn.read_joblib(data[:end])


def test_flipped_bytes_never_do_more_than_change_numbers_or_raise():
    data = lz4.frame.decompress(package_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(0, 400, 100):
        broken = bytearray(data)
        broken[place] ^= 1 << rng.integers(8)
        try:
            arrays = mtcnn.read_joblib(bytes(broken))
        except UserError:
            continue
        assert all(x.dtype == np.float32 for x in arrays)


def test_the_three_names_are_all_that_the_real_files_ask_for():
    """The allow-list is not longer than it need be."""
    data = lz4.frame.decompress(package_bytes())
    ops = pickletools.genops(io.BytesIO(data[:219]))
    strings = set()
    try:
        for _, argument, _ in ops:
            strings |= {argument} if isinstance(argument, str) else set()
    except ValueError:  # the bytes of the array begin
        pass
    for module, name in mtcnn._Reader.ALLOWED:
        assert {module, name} <= strings


def test_a_changed_package_file_is_refused_by_its_hash(monkeypatch):
    changed = bytearray(package_bytes())
    changed[-1] ^= 1
    monkeypatch.setattr(mtcnn, "_package_file", lambda name: bytes(changed))
    with pytest.raises(UserError, match="SHA-256 differs.*pip install --force-reinstall"):
        mtcnn.package_arrays()


def test_a_missing_package_says_what_to_install(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(UserError, match=r"pnet.lz4 .* not installed: pip install .*prepare"):
        mtcnn.package_arrays()


def test_tensorflow_and_the_package_itself_are_not_imported(arrays):
    import sys

    assert not {"tensorflow", "mtcnn", "joblib"} & set(sys.modules)
