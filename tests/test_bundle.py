"""Model bundles: what is written is what is loaded, and nothing else is ever loaded."""

import hashlib
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.nets import cartoongan

OPTIONS = {"channels": 4, "blocks": 1, "norm": "batch"}


def small(seed=0, **options):
    return cartoongan.build("generator", {**OPTIONS, **options}, rngs=nnx.Rngs(seed))


def arrays_of(net):
    return {name: np.asarray(x) for name, x in bundle.variables(net).items()}


def refused(where):
    with pytest.raises(UserError) as raised:
        bundle.load(where)
    return str(raised.value)


def rebuild(arrays):
    with pytest.raises(UserError) as raised:
        bundle.build("cartoongan", "generator", OPTIONS, arrays)
    return str(raised.value)


@pytest.fixture
def saved(tmp_path):
    bundle.save(tmp_path / "model", small())
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARTIFYGAN_CACHE", str(tmp_path / "cache"))


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    net = small(padding="zero")
    net.stem_norm.mean[...] = jnp.arange(4.0)  # statistics travel with the parameters
    written = bundle.save(tmp_path / "m", net, {"licence": "mine", "step": 7})
    loaded, card = bundle.load(tmp_path / "m")
    assert card == written
    assert (card["licence"], card["step"], card["channels"]) == ("mine", 7, "RGB")
    assert (card["architecture"], card["net"]) == ("cartoongan", "generator")
    assert loaded.options == net.options
    expected, found = arrays_of(net), arrays_of(loaded)
    assert list(found) == list(expected)
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x)
    x = jnp.full((1, 8, 8, 3), 0.3)
    np.testing.assert_array_equal(jax.jit(loaded)(x), jax.jit(net)(x))


def test_float16_bundles_are_smaller_and_load_as_float32(tmp_path, saved):
    bundle.save(tmp_path / "half", small(), dtype="float16")
    net, card = bundle.load(tmp_path / "half")
    assert card["dtype"] == "float16"
    for name, x in arrays_of(small()).items():
        found = arrays_of(net)[name]
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, x.astype(np.float16))
    sizes = [(path / bundle.WEIGHTS).stat().st_size for path in (tmp_path / "half", saved)]
    assert sizes[0] < 0.75 * sizes[1]


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_bit_is_noticed(saved, place):
    data = bytearray((saved / bundle.WEIGHTS).read_bytes())
    data[place] ^= 1
    (saved / bundle.WEIGHTS).write_bytes(data)
    assert "SHA-256 differs" in refused(saved)


@pytest.mark.parametrize("contents", [b"<!DOCTYPE html>", b"", None], ids=["page", "empty", "cut"])
def test_other_contents_are_refused_even_with_their_own_hash(saved, contents):
    whole = (saved / bundle.WEIGHTS).read_bytes()
    contents = whole[: len(whole) // 2] if contents is None else contents
    (saved / bundle.WEIGHTS).write_bytes(contents)
    assert "SHA-256 differs" in refused(saved)
    card = json.loads((saved / bundle.CARD).read_text())
    card["sha256"] = hashlib.sha256(contents).hexdigest()
    (saved / bundle.CARD).write_text(json.dumps(card))
    assert "no safetensors file" in refused(saved)


def test_missing_extra_and_transposed_arrays_are_all_listed():
    arrays = arrays_of(small())
    del arrays["stem/bias"]
    arrays["stray/kernel"] = np.zeros(3, np.float32)
    arrays["up/0/conv1/kernel"] = arrays["up/0/conv1/kernel"].transpose(0, 1, 3, 2)
    message = rebuild(arrays)
    assert "-stem/bias" in message and "+stray/kernel" in message
    assert "up/0/conv1/kernel is (3, 3, 8, 16), wanted (3, 3, 16, 8)" in message


def test_many_faults_are_counted_not_all_listed():
    message = rebuild({})
    assert "; -" in message and message.endswith(f"and {len(arrays_of(small())) - 12} more")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    arrays = {name: x.copy() for name, x in arrays_of(small()).items()}
    arrays["out/kernel"][3, 3, 0, 0] = value
    assert "out/kernel holds NaN or infinity" in rebuild(arrays)


def test_an_unknown_architecture_is_refused_with_a_suggestion():
    for name, words in (("cartongan", "did you mean 'cartoongan'"), ("ops", "no architecture")):
        with pytest.raises(UserError, match=words):
            bundle.build(name, "generator", OPTIONS, {})


@pytest.mark.parametrize(
    "change, words",
    [
        ({"format": 99}, "bundle format 99"),
        ({"sha256": None}, "lacks sha256"),
        ({"options": None, "net": None}, "lacks net, options"),
        ({"options": {"bloks": 3}}, "did you mean 'blocks'"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused(saved, change, words):
    card = json.loads((saved / bundle.CARD).read_text()) | change
    card = {name: value for name, value in card.items() if value is not None}
    (saved / bundle.CARD).write_text(json.dumps(card))
    assert words in refused(saved)


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b""])
def test_a_card_that_is_no_json_is_refused(saved, text):
    (saved / bundle.CARD).write_bytes(text)
    assert "is not JSON" in refused(saved)


def test_a_name_is_looked_up_in_the_cache(saved, tmp_path):
    (tmp_path / "cache").mkdir()
    os.rename(saved, tmp_path / "cache" / "hayao-test")
    assert bundle.find("hayao-test") == tmp_path / "cache" / "hayao-test"
    assert bundle.load("hayao-test")[0].options.channels == 4


def test_a_wrong_name_is_refused_with_the_names_there_are(saved, tmp_path):
    (tmp_path / "cache").mkdir()
    os.rename(saved, tmp_path / "cache" / "hayao-test")
    message = refused("hayou-test")
    assert "no model bundle at 'hayou-test'" in message
    assert "did you mean 'hayao-test'" in message


def test_a_folder_without_a_card_is_no_bundle(saved):
    (saved / bundle.CARD).unlink()
    assert "no model bundle" in refused(saved)


def test_saving_replaces_the_older_bundle_whole(saved, tmp_path):
    (saved / "old.txt").touch()
    bundle.save(saved, small(seed=1))
    assert sorted(os.listdir(tmp_path)) == ["model"]
    assert sorted(os.listdir(saved)) == [bundle.CARD, bundle.WEIGHTS]
    kernel = bundle.load(saved)[0].stem.kernel[...]
    np.testing.assert_array_equal(kernel, small(seed=1).stem.kernel[...])


def test_a_failure_while_writing_leaves_the_older_bundle_and_no_rest(saved, tmp_path, monkeypatch):
    def broken(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle, "replace_folder", broken)
    with pytest.raises(OSError, match="No space"):
        bundle.save(saved, small(seed=1))
    assert os.listdir(tmp_path) == ["model"]
    kernel = bundle.load(saved)[0].stem.kernel[...]
    np.testing.assert_array_equal(kernel, small().stem.kernel[...])


def test_a_kill_between_the_renames_leaves_the_older_bundle_beside(saved, tmp_path, monkeypatch):
    rename, calls = os.rename, []

    def killed(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        bundle.save(saved, small(seed=1))
    monkeypatch.undo()
    kernel = bundle.load(tmp_path / "model.old")[0].stem.kernel[...]
    np.testing.assert_array_equal(kernel, small().stem.kernel[...])
    bundle.save(saved, small(seed=2))  # and the next one cleans up
    assert os.listdir(tmp_path) == ["model"]


def test_the_weights_file_is_plain_safetensors(saved):
    found = safetensors.numpy.load_file(saved / bundle.WEIGHTS)
    assert set(found) == set(arrays_of(small()))
