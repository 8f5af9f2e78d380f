"""The readers, and the command that makes a bundle of a foreign file."""

import json
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from artifygan_jax import bundle, cli, convert
from artifygan_jax.errors import UserError
from artifygan_jax.weights import readers, torch_zip
from tests.conftest import ROOT, shared
from tests.golden import draw
from tests.nets.test_cartoongan import artifygan_weights, cartoongan_weights, discriminator_weights

ARRAYS = {"a.weight": draw("a", (2, 3)), "b": np.float16([1, 2])}


def refused(path):
    with pytest.raises(UserError) as raised:
        readers.read(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def check(found, expected=ARRAYS):
    assert list(found) == list(expected)
    for name, x in expected.items():
        assert found[name].dtype == x.dtype
        np.testing.assert_array_equal(found[name], x)


# --- readers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_read(tmp_path, save):
    save(tmp_path / "w.npz", **ARRAYS)
    check(readers.read(tmp_path / "w.npz"))


def test_the_kind_is_told_by_the_contents_not_by_the_name(tmp_path):
    np.savez(tmp_path / "w.npz", **ARRAYS)
    os.rename(tmp_path / "w.npz", tmp_path / "w.safetensors")
    check(readers.read(tmp_path / "w.safetensors"))


def test_a_folder_of_npy_is_read_by_names_and_subfolders(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "kernel.npy", draw("k", (3,)))
    np.save(tmp_path / "b.weight.npy", draw("b", (2,)))
    (tmp_path / "readme.txt").write_text("not an array")
    expected = {"a/kernel": draw("k", (3,)), "b.weight": draw("b", (2,))}
    check(readers.read(tmp_path), expected)


def test_safetensors_is_read(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "w.safetensors")
    check(readers.read(tmp_path / "w.safetensors"))


def test_bfloat16_of_safetensors_becomes_float32(tmp_path):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    halves = np.array([1.5, -2.0], np.float32).view(np.uint16)[1::2]  # the upper half is bfloat16
    data = len(header).to_bytes(8, "little") + header + halves.tobytes()
    (tmp_path / "w.safetensors").write_bytes(data)
    check(readers.read(tmp_path / "w.safetensors"), {"a": np.float32([1.5, -2.0])})


@pytest.mark.parametrize("prefix", ["module.", "state_dict.", "state_dict.module.", "_orig_mod."])
def test_prefixes_that_all_names_share_are_dropped(tmp_path, prefix):
    np.savez(tmp_path / "w.npz", **{prefix + name: x for name, x in ARRAYS.items()})
    check(readers.read(tmp_path / "w.npz"))


def test_a_prefix_of_some_names_only_stays(tmp_path):
    arrays = {"module.a": draw("a", (2,)), "b": draw("b", (2,))}
    np.savez(tmp_path / "w.npz", **arrays)
    check(readers.read(tmp_path / "w.npz"), arrays)


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><html>", b"\n <html>\n", b"<?xml version='1.0'?><Error/>"]
)
def test_a_web_page_instead_of_weights_is_noticed(tmp_path, page):
    (tmp_path / "w.npz").write_bytes(page)
    assert "is a web page, not weights" in refused(tmp_path / "w.npz")


def test_a_git_lfs_pointer_is_noticed(tmp_path):
    (tmp_path / "w.npz").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "git lfs pull" in refused(tmp_path / "w.npz")


@pytest.mark.parametrize("cut", [1, 9, 40, -1])
@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_truncated_file_is_refused(tmp_path, kind, cut):
    path = tmp_path / f"w.{kind}"
    np.savez(path, **ARRAYS) if kind == "npz" else safetensors.numpy.save_file(ARRAYS, path)
    path.write_bytes(path.read_bytes()[:cut])
    assert "damaged" in refused(path)


def test_a_damaged_member_of_an_npz_is_refused(tmp_path):
    np.savez(tmp_path / "w.npz", **ARRAYS)
    data = bytearray((tmp_path / "w.npz").read_bytes())
    data[data.index(ARRAYS["a.weight"].tobytes())] ^= 1
    (tmp_path / "w.npz").write_bytes(data)
    assert "damaged" in refused(tmp_path / "w.npz")


@pytest.mark.parametrize("contents", [b"", b"hello", b"\x00" * 100])
def test_something_else_is_refused_with_what_is_read(tmp_path, contents):
    (tmp_path / "w.bin").write_bytes(contents)
    assert ".npz file, a folder of .npy files or a .safetensors file" in refused(tmp_path / "w.bin")


def test_nothing_is_ever_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    bomb = np.array([Bomb()], dtype=object)
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "w.npz", a=bomb)
    np.save(tmp_path / "folder" / "a.npy", bomb)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Bomb()))
    assert "Object arrays cannot be loaded" in refused(tmp_path / "w.npz")
    assert "Object arrays cannot be loaded" in refused(tmp_path / "folder")
    assert "pickle" in refused(tmp_path / "w.pkl")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name, words", [("absent.npz", "No such file"), (".", "holds no arrays")])
def test_nothing_there_is_a_clear_error(tmp_path, name, words):
    assert words in refused(tmp_path / name)


@pytest.mark.parametrize(
    "contents, words", [(b"\x93NUMPY\x01", "one .npy array"), (b"\x89HDF\r\n", "HDF5")]
)
def test_other_formats_are_called_by_their_name(tmp_path, contents, words):
    (tmp_path / "w").write_bytes(contents)
    assert words in refused(tmp_path / "w")


def test_digest_of_a_folder_depends_on_names_and_contents(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    first = readers.digest(tmp_path)
    (tmp_path / "note.txt").write_text("no array")
    assert readers.digest(tmp_path) == first
    os.rename(tmp_path / "a.npy", tmp_path / "b.npy")
    second = readers.digest(tmp_path)
    np.save(tmp_path / "b.npy", np.ones(3))
    assert len({first, second, readers.digest(tmp_path)}) == 3


# --- the command ---------------------------------------------------------------------------------


def test_convert_writes_a_bundle_that_loads_and_says_where_it_came_from(tmp_path):
    np.savez(tmp_path / "w.npz", **cartoongan_weights(4, 2, "full"))
    output = tmp_path / "out"
    summary, code = convert.main(
        [
            "--arch=cartoongan",
            f"--source={tmp_path / 'w.npz'}",
            f"--output={output}",
            "--licence=made up",
        ]
    )
    assert code == cli.DONE
    json.dumps(summary)
    net, card = bundle.load(output)
    assert {"output": str(output), **card} == summary
    assert (card["architecture"], card["net"], card["channels"]) == (
        "cartoongan",
        "generator",
        "BGR",
    )
    assert card["licence"] == "made up" and card["source"] == "w.npz"
    assert card["source_sha256"] == readers.digest(tmp_path / "w.npz")
    assert (net.options.channels, net.options.blocks) == (4, 2)
    kernel = cartoongan_weights(4, 2, "full")["conv01_1.weight"]
    np.testing.assert_array_equal(net.stem.kernel[...], kernel.transpose(2, 3, 1, 0))


def test_convert_reads_the_folder_layout_of_the_released_arrays(tmp_path):
    for name, x in cartoongan_weights(4, 1, "full").items():
        np.save(tmp_path / f"{name}.npy", x)
    convert.convert("cartoongan", str(tmp_path), str(tmp_path / "out"))
    assert bundle.load(tmp_path / "out")[0].options.blocks == 1


def test_convert_reads_halves_of_a_pytorch_file_under_a_prefix_and_leaves_counters_out(tmp_path):
    weights = artifygan_weights(2, 1, "full")
    stored = {
        f"module.{name}": x if x.dtype.kind == "i" else x.astype(np.float16)
        for name, x in weights.items()
    }
    (tmp_path / "w.pth").write_bytes(torch_zip.dumps(stored))
    card = convert.convert("artifygan", str(tmp_path / "w.pth"), str(tmp_path / "out"))
    assert card["dtype"] == "float32" and card["source_sha256"] == readers.digest(
        tmp_path / "w.pth"
    )
    expected = weights["norm_2.running_var"].astype(np.float16).astype(np.float32)
    net, _ = bundle.load(tmp_path / "out")
    np.testing.assert_array_equal(net.down[0].norm.variance[...], expected)


def test_convert_takes_one_net_of_a_file_with_two(tmp_path):
    nets = {"g": artifygan_weights(2, 1, "full"), "d": discriminator_weights(2)}
    stored = {f"{net}.{name}": x for net, w in nets.items() for name, x in w.items()}
    (tmp_path / "w.pth").write_bytes(torch_zip.dumps(stored))
    arguments = ["--arch=artifygan", f"--source={tmp_path / 'w.pth'}", f"--output={tmp_path / 'o'}"]
    summary, _ = convert.main([*arguments, "--part=d"])
    assert summary["net"] == "discriminator" and summary["source_part"] == "d"
    for wrong in ([], ["--part=e"]):
        with pytest.raises(UserError):
            convert.main([*arguments, *wrong])
    assert bundle.read_card(tmp_path / "o")["net"] == "discriminator"


@pytest.mark.parametrize("old, new", [("vgg", "vgg19"), ("inception", "inception-fid")])
def test_names_of_layouts_of_old_point_to_those_of_today(old, new):
    with pytest.raises(UserError, match=f"no source layout '{old}'.*{new}"):
        convert.plan(old, {})


def test_every_layout_of_the_commands_help_is_one():
    words = (convert.__doc__ or "").split("layout of the source:")[1].split("--source is")[0]
    named = set(re.findall(r"^  ([a-z0-9-]+)(?:, ([a-z0-9-]+))?", words, re.MULTILINE))
    with pytest.raises(UserError) as raised:
        convert.plan("none", {})
    listed = str(raised.value).split("--arch is ")[1].split(", ")
    assert sorted(filter(None, sum(named, ()))) == sorted(listed)


def test_convert_tells_artifygans_discriminator_from_its_generator(tmp_path):
    for net, weights in (
        ("generator", artifygan_weights(2, 1, "full")),
        ("discriminator", discriminator_weights(2)),
    ):
        safetensors.numpy.save_file(weights, tmp_path / "w")
        card = convert.convert("artifygan", str(tmp_path / "w"), str(tmp_path / net))
        assert card["net"] == net and card["channels"] == "RGB"
        assert card["options"]["norm"] == "batch"


def test_convert_to_float16_stores_the_rounded_values(tmp_path):
    np.savez(tmp_path / "w.npz", **artifygan_weights(4, 1, "full"))
    nets = {}
    for dtype in ("float32", "float16"):
        where = tmp_path / dtype
        card = convert.convert("artifygan", str(tmp_path / "w.npz"), str(where), dtype=dtype)
        assert card["dtype"] == dtype
        stored = safetensors.numpy.load_file(where / bundle.WEIGHTS)
        assert {x.dtype for x in stored.values()} == {np.dtype(dtype)}
        nets[dtype] = np.asarray(bundle.load(where)[0].stem.kernel[...])
    np.testing.assert_array_equal(nets["float16"], nets["float32"].astype(np.float16))


def test_convert_to_float16_refuses_what_float16_cannot_hold(tmp_path):
    weights = artifygan_weights(4, 1, "full")
    weights["norm_1.running_var"][2] = 1e5
    np.savez(tmp_path / "w.npz", **weights)
    with pytest.raises(UserError, match="stem_norm/variance exceed 65504.*--dtype=float32"):
        convert.convert("artifygan", str(tmp_path / "w.npz"), str(tmp_path / "o"), dtype="float16")
    assert not (tmp_path / "o").exists()


def test_a_wrong_file_writes_nothing_and_lists_all_faults(tmp_path):
    weights = cartoongan_weights(4, 2, "full")
    del weights["conv05_1.bias"], weights["in01_1.shift"]
    np.savez(tmp_path / "w.npz", **weights, stray=np.zeros(2))
    with pytest.raises(UserError) as raised:
        convert.convert("cartoongan", str(tmp_path / "w.npz"), str(tmp_path / "out"))
    for word in ("3 faults", "stray", "blocks/1/conv1/bias", "stem_norm/bias"):
        assert word in str(raised.value)
    assert os.listdir(tmp_path) == ["w.npz"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_bundle_is_never_replaced(tmp_path, kind):
    np.savez(tmp_path / "w.npz", **cartoongan_weights(2, 1, "full"))
    output = tmp_path / "out"
    precious = output
    if kind == "folder":
        output.mkdir()
        precious = output / "thesis.txt"
    precious.write_text("years of work")
    with pytest.raises(UserError, match="no model bundle: it is not replaced"):
        convert.convert("cartoongan", str(tmp_path / "w.npz"), str(output))
    assert precious.read_text() == "years of work"


def test_an_older_bundle_is_replaced(tmp_path):
    for blocks in (1, 2):
        np.savez(tmp_path / "w.npz", **cartoongan_weights(2, blocks, "full"))
        convert.convert("cartoongan", str(tmp_path / "w.npz"), str(tmp_path / "out"))
    assert bundle.load(tmp_path / "out")[0].options.blocks == 2
    assert sorted(os.listdir(tmp_path)) == ["out", "w.npz"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--arch=cartoongam", "--source=w.npz", "--output=o"], "did you mean 'cartoongan'"),
        (["--arch=readers", "--source=w.npz", "--output=o"], "no source layout 'readers'"),
        (["--arch=vgg19", "--source=w.npz", "--output=o"], "no weights of VGG-19: 0 kernels"),
        (["--arch=vgg19", "--source=x.npz", "--output=o"], "cannot read x.npz"),
        (["--arch=vgg19", "--source=w.npz", "--output=o", "--dtype=int8"], "'int8'"),
        (
            ["--arch=vgg19", "--source=w.npz", "--output=o", "--licens=x"],
            "did you mean '--licence'",
        ),
        (["--arch=vgg19"], "--source, --output"),
    ],
)
def test_wrong_calls_say_what_is_allowed(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    np.savez("w.npz", **ARRAYS)
    with pytest.raises(UserError) as raised:
        convert.main(arguments)
    assert words in str(raised.value)
    assert os.listdir(tmp_path) == ["w.npz"]


def test_the_command_ends_with_one_json_line(tmp_path):
    np.savez(tmp_path / "w.npz", **cartoongan_weights(2, 1, "full"))
    command = [sys.executable, "-m", "artifygan_jax.convert", "--arch=cartoongan"]
    done = subprocess.run(
        [*command, "--source=w.npz", "--output=out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["output"] == "out"


def test_an_error_of_the_command_is_one_line_and_exit_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("w.npz", **ARRAYS)
    monkeypatch.setattr(
        sys, "argv", ["convert", "--arch=vgg19", "--source=w.npz", "--output=w.npz"]
    )
    with pytest.raises(SystemExit) as stopped:
        cli.run(convert.main)
    printed = capsys.readouterr()
    assert stopped.value.code == 1 and printed.out == ""
    assert printed.err.startswith("error: w.npz is there") and printed.err.count("\n") == 1


# --- real weights --------------------------------------------------------------------------------


def photo(size):
    rows, columns = np.mgrid[0:size, 0:size] / size
    colours = np.stack([rows, columns, np.hypot(rows - 0.5, columns - 0.5)], axis=-1)
    return (2 * colours - 1).astype(np.float32)[None]


def test_the_real_squeezenet_becomes_a_bundle_that_runs(tmp_path):
    source = shared("data", "weights", "squeezenet_v1.1_notop.npz")
    card = convert.convert("squeezenet", str(source), str(tmp_path / "sq"), licence="MIT")
    assert card["parameters"] == 722_496
    net, _ = bundle.load(tmp_path / "sq")
    y = np.asarray(net(photo(64), ("fire3",))["fire3"])
    assert y.shape == (1, 15, 15, 128) and np.isfinite(y).all()
    assert 0.05 < (y > 0).mean() < 0.8  # features of a trained net are sparse


def test_the_real_inception_becomes_a_bundle_that_runs_up_to_what_it_lacks(tmp_path):
    source = shared("data", "weights", "inception_2015_12_05_fid_folded_partial.npz")
    card = convert.convert("inception-fid", str(source), str(tmp_path / "i"), dtype="float16")
    lacking = ["Mixed_7b.branch3x3dbl_2", "Mixed_7c.branch3x3dbl_2"]
    assert card["options"]["missing"] == lacking
    net, _ = bundle.load(tmp_path / "i")
    with np.load(source) as arrays:  # float16 already: nothing may be lost
        kernel = arrays["Mixed_6e.branch7x7_3/kernel"].astype(np.float32)
    np.testing.assert_array_equal(net.Mixed_6e.branch7x7_3.kernel[...], kernel)
    y = np.asarray(net(photo(99), ("64",))["64"])
    assert y.shape == (1, 64) and np.isfinite(y).all() and (y > 0).any()
    with pytest.raises(UserError, match=lacking[0]):
        net(photo(99), ("2048",))
