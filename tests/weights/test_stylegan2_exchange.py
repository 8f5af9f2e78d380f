"""Nets between NVIDIA's and rosinality's files, and the layout that tells the two apart."""

import jax
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle, cli, convert
from artifygan_jax.errors import UserError
from artifygan_jax.nets import stylegan2
from artifygan_jax.weights import exporting, torch_zip
from tests import golden
from tests.conftest import shared
from tests.golden import draw
from tests.weights.test_rosinality import WIDTHS, arrays_of, weights

NETS = ("generator", "discriminator")
ARCHS = ("nvidia", "rosinality")


def written(tmp_path, name, tensors):
    (tmp_path / name).write_bytes(torch_zip.dumps(tensors))
    return str(tmp_path / name)


def check_equal(found, expected):
    assert list(found) == list(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("first, second", [ARCHS, ARCHS[::-1]])
def test_a_net_goes_from_one_layout_to_the_other_and_back_bit_equal(tmp_path, net, first, second):
    source = written(tmp_path, "a.pt", weights(net, first))
    convert.convert(first, source, str(tmp_path / "a"))
    convert.export(str(tmp_path / "a"), str(tmp_path / "b.pt"), arch=second)
    convert.convert(second, str(tmp_path / "b.pt"), str(tmp_path / "b"))
    convert.export(str(tmp_path / "b"), str(tmp_path / "c.pt"), arch=first)
    convert.convert(first, str(tmp_path / "c.pt"), str(tmp_path / "c"))
    a, b, c = (arrays_of(bundle.load(tmp_path / name)[0]) for name in "abc")
    check_equal(b, a)
    check_equal(c, a)


@pytest.mark.parametrize("part", ["G_ema", "D"])
def test_a_snapshot_becomes_rosinalitys_file_with_the_same_numbers(tmp_path, part):
    source = shared("golden", "nvidia_tiny_snapshot.pkl")
    convert.convert("stylegan2", str(source), str(tmp_path / "a"), part=part)
    convert.export(str(tmp_path / "a"), str(tmp_path / "b.pt"), arch="rosinality")
    made = convert.convert("stylegan2", str(tmp_path / "b.pt"), str(tmp_path / "b"))
    assert made["source_layout"] == "rosinality" and "w_avg" not in made
    a, b = (arrays_of(bundle.load(tmp_path / name)[0]) for name in "ab")
    check_equal(b, a)
    expected, _ = golden.load(shared("golden", "nvidia_tiny_snapshot_expected.npz"))
    if part == "G_ema":
        np.testing.assert_array_equal(b["mapping/w_avg"], expected["tensor/G_ema/mapping.w_avg"])


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("arch", ARCHS)
def test_stylegan2_tells_the_two_apart(tmp_path, net, arch):
    source = written(tmp_path, "w.pt", weights(net, arch))
    made = convert.convert("stylegan2", source, str(tmp_path / "m"))
    assert (made["source_layout"], made["net"]) == (arch, net)
    assert convert.export(str(tmp_path / "m"), str(tmp_path / "o.pt"))["layout"] == arch
    built, _ = convert.build("stylegan2", weights(net, arch))
    check_equal(arrays_of(built), arrays_of(bundle.load(tmp_path / "m")[0]))


def test_the_average_is_preferred_in_either_spelling(tmp_path):
    def scaled(factor):
        drawn = weights(arch="nvidia")
        return {k: x if "filter" in k else factor * x for k, x in drawn.items()}

    for n, names in enumerate((["G", "G_ema"], ["g", "G", "G_ema", "g_ema"], ["D", "G", "g"])):
        source = written(tmp_path, f"{n}.pt", {x: scaled(i + 1) for i, x in enumerate(names)})
        made = convert.convert("stylegan2", source, str(tmp_path / str(n)))
        wanted = names[-1]
        assert made["source_part"] == wanted
        found = arrays_of(bundle.load(tmp_path / str(n))[0])["synthesis/b4/rgb/bias"]
        expected = weights(arch="nvidia")["synthesis.b4.torgb.bias"] * np.float32(len(names))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("source", [{}, {"encoder.weight": draw("x", (1, 2))}])
def test_neither_of_the_two_is_one_line(source):
    with pytest.raises(UserError, match="neither NVIDIA's nor rosinality's") as raised:
        convert.build("stylegan2", source)
    assert "\n" not in str(raised.value)


def test_two_nets_without_a_preferred_one_are_named(tmp_path):
    tree = {name: weights("discriminator") for name in ("left", "right")}
    with pytest.raises(UserError, match=r"2 nets; choose a part of left \(\d+ arrays\), right"):
        convert.read("stylegan2", written(tmp_path, "w.pt", tree))


@pytest.mark.parametrize("net", NETS)
def test_a_net_trained_here_is_written_in_either_layout(tmp_path, net):
    options = {"channels": WIDTHS} | (dict(z_size=7, w_size=7) if net == "generator" else {})
    made = stylegan2.build(net, options, rngs=nnx.Rngs(1))
    bundle.save(tmp_path / "m", made)
    for arch in (None, "nvidia"):
        file = str(tmp_path / f"{arch}.pt")
        arguments = ["--export=torch", f"--model={tmp_path / 'm'}", f"--output={file}"]
        summary, code = convert.main(arguments + [f"--arch={arch}"] * bool(arch))
        assert code == cli.DONE and summary["layout"] == (arch or "rosinality")
        convert.convert("stylegan2", file, str(tmp_path / str(arch)))
        check_equal(arrays_of(bundle.load(tmp_path / str(arch))[0]), arrays_of(made))


def test_a_net_with_classes_has_nvidias_layout_only():
    known = {"architecture": "stylegan2", "net": "generator", "options": dict(channels=WIDTHS)}
    known["options"] |= dict(labels=2, z_size=7, w_size=7, mapping_layers=1)
    with pytest.raises(UserError, match="no rosinality layout: its nets have no classes"):
        exporting.state_dict(known, {}, "rosinality")
    assert exporting.state_dict(known, {}, "nvidia")[0] == "nvidia"
