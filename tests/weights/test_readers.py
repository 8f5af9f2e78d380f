"""PyTorch's and NVIDIA's files: what is in them is read, nothing of them is run, the rest refused."""

import argparse
import collections
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from artifygan_jax import convert
from artifygan_jax.errors import UserError
from artifygan_jax.weights import checkpoints, readers
from tests.conftest import ROOT, shared
from tests.golden import draw
from tests.nets.test_cartoongan import cartoongan_weights
from tests.weights import hostile
from tests.weights.hostile import (
    dictionary,
    number,
    old_file,
    pickled,
    row,
    tensor,
    text,
    torch_zip,
)

SIX = np.arange(6, dtype=np.float32)
RAW = SIX.tobytes()
PLAIN = pickled(dictionary({"a.weight": tensor(), "a.bias": tensor((2,), (1,), 4)}))
EXPECTED = {"a.weight": SIX.reshape(2, 3), "a.bias": SIX[4:]}


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory):
    """What Python imports when it first meets zips and codecs is not of the files' doing."""
    folder = tmp_path_factory.mktemp("warm")
    for path in every_format(folder):
        readers.read(path, part="G" if path.suffix == ".pkl" else None)
    with pytest.raises(UserError):
        readers.read(torch_zip(folder / "x.pth", b"\x80\x02c\xff\n", {}, pack=8))


def every_format(folder):
    """A good file of each kind: zip, old, snapshot, npz, safetensors."""
    torch_zip(folder / "zip.pth", PLAIN, {"0": RAW}, pack=zipfile.ZIP_DEFLATED)
    (folder / "old.pth").write_bytes(old_file(PLAIN, {"0": (6, RAW)}))
    (folder / "snapshot.pkl").write_bytes(snapshot())
    np.savez(folder / "w.npz", **EXPECTED)
    safetensors.numpy.save_file(EXPECTED, folder / "w.safetensors")
    return sorted(path for path in folder.iterdir() if path.suffix != ".json")


def read(path, **options):
    # numpy parses its headers by `ast.literal_eval`, which compiles and runs nothing.
    with hostile.nothing_runs(but={"compile"} if str(path).endswith(".npz") else ()):
        return readers.read(path, **options)


def check(found, expected):
    assert list(found) == list(expected)
    for name, x in expected.items():
        assert found[name].dtype == x.dtype, name
        np.testing.assert_array_equal(found[name], x, err_msg=name)


def refused(path, **options):
    with pytest.raises(UserError) as raised:
        read(path, **options)
    message = str(raised.value)
    assert "\n" not in message and str(path) in message
    return message.replace(str(path), "PATH")


def write(tmp_path, content, storages=None, old=False):
    storages = {"0": RAW} if storages is None else storages
    if old:
        sized = {key: (len(data) // 4, data) for key, data in storages.items()}
        (tmp_path / "w.pth").write_bytes(old_file(content, sized))
    else:
        torch_zip(tmp_path / "w.pth", content, storages)
    return tmp_path / "w.pth"


# --- containers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_both_of_torchs_formats_are_read(tmp_path, old):
    check(read(write(tmp_path, PLAIN, old=old)), EXPECTED)


@pytest.mark.parametrize("old", [False, True])
def test_arrays_own_their_memory_and_may_be_written(tmp_path, old):
    found = read(write(tmp_path, PLAIN, old=old))
    assert all(x.flags.writeable and x.flags.aligned for x in found.values())


def test_deflated_and_big_endian_zips_are_read(tmp_path):
    swapped = SIX.astype(">f4").tobytes()
    check(read(torch_zip(tmp_path / "w", PLAIN, {"0": swapped}, b"big", pack=8)), EXPECTED)


@pytest.mark.parametrize("old", [False, True])
def test_tensors_of_a_gpu_come_to_the_main_memory(tmp_path, old):
    where = hostile.storage(device="cuda:3")
    path = write(tmp_path, pickled(dictionary({"a": tensor(where=where)})), old=old)
    check(read(path), {"a": SIX.reshape(2, 3)})


def test_old_views_of_a_storage_are_read(tmp_path):
    view = row(text("1"), number(2), number(3))
    where = hostile.storage("0", 6, "torch.FloatStorage", "cpu", view)
    content = pickled(dictionary({"a": tensor((3,), (1,), 0, where), "b": tensor()}))
    check(read(write(tmp_path, content, old=True)), {"a": SIX[2:5], "b": SIX.reshape(2, 3)})


def test_a_lone_tensor_is_called_tensor_and_a_list_is_numbered(tmp_path):
    check(read(write(tmp_path, pickled(tensor()))), {"tensor": SIX.reshape(2, 3)})
    both = pickled(b"](" + tensor() + tensor((6,), (1,)) + b"e")
    check(read(write(tmp_path, both)), {"0": SIX.reshape(2, 3), "1": SIX})


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_torch_writes_is_read_as_torch_reads_it(tmp_path, old, protocol):
    torch = pytest.importorskip("torch")
    base = torch.arange(24.0).reshape(2, 3, 4)
    state = collections.OrderedDict(
        f64=base.double(), f16=base.half(), i64=base.long(), i8=base.to(torch.int8),
        flag=base > 3, turned=base.permute(2, 0, 1), part=base[1, :, ::2], shared=base,
        wide=torch.ones(2, 1).expand(2, 5), none=torch.zeros(0, 3), one=torch.tensor(2.5),
        parameter=torch.nn.Parameter(base + 1),
    )  # fmt: skip
    state._metadata = {"": {"version": 1}}  # pyright: ignore[reportAttributeAccessIssue]
    path = tmp_path / "w.pth"
    torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not old)
    check(read(path), {k: x.detach().numpy() for k, x in state.items()})


@pytest.mark.parametrize("old", [False, True])
def test_bfloat16_becomes_float32(tmp_path, old):
    halves = np.array([1.5, -2.0, 0, 3, 0.25, 8], np.float32).view(np.uint16)[1::2].tobytes()
    content = pickled(
        dictionary({"a": tensor(where=hostile.storage(kind="torch.BFloat16Storage"))})
    )
    torch_zip(tmp_path / "w.pth", content, {"0": halves})
    if old:
        (tmp_path / "w.pth").write_bytes(old_file(content, {"0": (6, halves)}))
    check(read(tmp_path / "w.pth"), {"a": np.float32([[1.5, -2, 0], [3, 0.25, 8]])})


def test_unsigned_types_of_newer_torch_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    x = np.array([1, 2, 65535], np.uint16)
    torch.save({"a": torch.from_numpy(x), "n": np.arange(3.0)}, tmp_path / "w.pth")
    check(read(tmp_path / "w.pth"), {"a": x, "n": np.arange(3.0)})


def test_a_file_saved_without_checksums_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(3)}, tmp_path / "w.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    check(read(tmp_path / "w.pth"), {"a": np.arange(3)})


@pytest.mark.parametrize("frozen", [False, True])
def test_tensors_of_torchscript_are_read_without_its_program(tmp_path, frozen):
    torch = pytest.importorskip("torch")
    norm = torch.nn.Tanh() if frozen else torch.nn.BatchNorm2d(2)  # which freezing would fold in
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), norm).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is out of fashion
        program = torch.jit.trace(net, torch.zeros(1, 1, 5, 5))
        (torch.jit.freeze(program) if frozen else program).save(str(tmp_path / "w.pt"))
    found = read(tmp_path / "w.pt")
    if frozen:  # names are gone; how many constants there are is torch's choice
        assert all(re.fullmatch(r"c\d+", name) for name in found)
        assert any(np.array_equal(x, net[0].weight.detach()) for x in found.values())
    else:
        expected = {k: v.numpy() for k, v in net.state_dict().items()}
        check({k: found[k] for k in expected}, expected)
        assert set(found) == set(expected)


# --- wrappings and parts -----------------------------------------------------------------------------


def nested(**parts):
    return {name: dictionary(x) if isinstance(x, dict) else x for name, x in parts.items()}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize(
    "key", ["g_ema", "state_dict", "model_state_dict", "params_ema", "generator"]
)
def test_the_only_net_of_a_file_is_found_in_any_wrapping(tmp_path, key, prefix):
    net = {f"{prefix}a.weight": tensor(), f"{prefix}a.count": tensor((), ())}
    optimiser = {"state": b"}K\x00" + dictionary({"exp_avg": tensor()}) + b"s"}
    parts = nested(epoch=number(7), **{key: net}, optim=optimiser, losses=b"](G" + bytes(8) + b"e")
    found = read(write(tmp_path, pickled(dictionary(parts))))
    check(found, {"a.weight": SIX.reshape(2, 3), "a.count": SIX[0:1].reshape(())})


def several(tmp_path):
    """As rosinality's StyleGAN2 saves: nets, loose tensors, options."""
    net = {"conv.weight": tensor()}
    options = hostile.named("argparse.Namespace") + b")\x81" + dictionary({"lr": number(3)}) + b"b"
    parts = nested(
        g=net, d={**net, "last": tensor()}, g_ema={"conv.weight": tensor((6,), (1,))},
        latent_avg=tensor((2,), (1,)), args=options, ada_aug_p=number(0),
    )  # fmt: skip
    return write(tmp_path, pickled(dictionary(parts)))


def test_of_several_nets_one_must_be_chosen(tmp_path):
    words = "it holds 3 nets; choose a part of g (1 arrays), d (2 arrays), g_ema (1 arrays)"
    assert words in refused(several(tmp_path))


@pytest.mark.parametrize(
    "part, names",
    [("g_ema", ["conv.weight"]), ("d", ["conv.weight", "last"]), ("latent_avg", ["latent_avg"]),
     ("g.conv", ["weight"])],
)  # fmt: skip
def test_a_part_is_a_net_a_loose_tensor_or_a_prefix(tmp_path, part, names):
    assert list(read(several(tmp_path), part=part)) == names


def test_a_part_that_is_not_there_is_named_with_those_that_are(tmp_path):
    message = refused(several(tmp_path), part="g_emma")
    assert "no part 'g_emma' (did you mean 'g_ema'?)" in message and "d (2 arrays)" in message


def test_what_is_no_array_is_listed_and_options_stay_inert(tmp_path):
    others = checkpoints.load(several(tmp_path)).others
    assert sorted(others) == ["ada_aug_p", "args", "latent_avg"] and others["ada_aug_p"] == 0
    assert checkpoints.plain(others["args"]) == {"lr": 3}


def test_torchs_own_namespace_beside_weights_is_read_and_inert(tmp_path):
    torch = pytest.importorskip("torch")
    args = argparse.Namespace(
        lr=0.1, path=tmp_path, device=torch.device("cpu"), size=torch.Size([2])
    )
    torch.save({"g": {"a": torch.ones(2)}, "args": args, "when": np.float64(3)}, tmp_path / "w.pt")
    check(read(tmp_path / "w.pt"), {"a": np.ones(2, np.float32)})
    found = checkpoints.plain(checkpoints.load(tmp_path / "w.pt").others["args"])
    assert found["lr"] == 0.1 and found["size"] == [2]


@pytest.mark.parametrize("part, words", [("b", "no part 'b'"), ("x", "its names begin with a")])
def test_parts_of_other_formats_are_prefixes(tmp_path, part, words):
    np.savez(tmp_path / "w.npz", **EXPECTED)
    check(read(tmp_path / "w.npz", part="a"), {"weight": SIX.reshape(2, 3), "bias": SIX[4:]})
    assert words in refused(tmp_path / "w.npz", part=part)


def test_a_file_without_arrays_says_so(tmp_path):
    assert "holds no arrays" in refused(write(tmp_path, pickled(dictionary({"epoch": number(3)}))))


# --- NVIDIA's snapshots ----------------------------------------------------------------------------

BOMB = "import os; os.mkdir('made')"


def module(**state):
    hooks = {"_forward_hooks": hostile.call("collections.OrderedDict"), "training": b"\x88"}
    parts = {"_parameters": b"}", "_buffers": b"}", "_modules": b"}", **hooks, **state}
    return dictionary(parts)


def snapshot():
    """Two nets whose program text would make a folder."""
    values = hostile.contained_tensor(RAW, 6)
    options = hostile.named("dnnlib.util.EasyDict") + b")\x81(" + text("num_layers") + b"K\x02u"
    inner = hostile.snapshot_module(
        "Inner",
        module(
            _parameters=dictionary({"weight": values, "none": b"N"}),
            _buffers=dictionary({"b": values, "temporary": values}),
            _non_persistent_buffers_set=b"\x8f(" + text("temporary") + b"\x90",
            gain=hostile.call(
                "numpy.core.multiarray.scalar", f8(), b"C\x08" + struct.pack("<d", 2)
            ),
        ),
        BOMB,
    )
    outer = hostile.snapshot_module(
        "Generator",
        module(
            _modules=dictionary({"b4": inner, "none": b"N"}),
            _parameters=dictionary({"const": values}),
            _init_kwargs=dictionary({"z_dim": number(8), "mapping_kwargs": options}),
        ),
        BOMB,
    )
    parts = {"G": outer, "D": inner, "training_set_kwargs": options, "augment_pipe": b"N"}
    return b"\x80\x04" + dictionary(parts) + b"."


def f8():
    dtype = hostile.call("numpy.dtype", text("f8"), number(0), number(1))
    return (
        dtype
        + row(number(3), text("<"), b"N", b"N", b"N", number(-1), number(-1), number(0))
        + b"b"
    )


def test_snapshots_are_read_in_the_order_of_a_state_dict_and_their_program_is_not_run(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.pkl").write_bytes(snapshot())
    check(read("s.pkl", part="G"), {"const": SIX, "b4.weight": SIX, "b4.b": SIX})
    check(read("s.pkl", part="D"), {"weight": SIX, "b": SIX})
    assert "choose a part of G (3 arrays), D (2 arrays)" in refused("s.pkl")
    assert os.listdir() == ["s.pkl"]


def test_a_snapshot_tells_what_its_nets_were_made_with(tmp_path):
    (tmp_path / "s.pkl").write_bytes(snapshot())
    found = checkpoints.load(tmp_path / "s.pkl")
    assert found.options("G") == {"z_dim": 8, "mapping_kwargs": {"num_layers": 2}}
    assert found.options("D") == {} and found.modules["D"].state["gain"] == 2
    assert found.modules["G"].name == "Generator"
    assert not any(BOMB in repr(record) for record in found.modules.values())
    assert checkpoints.plain(found.others["training_set_kwargs"]) == {"num_layers": 2}


def test_the_real_writers_snapshot_is_read_as_it_runs():
    path = shared("golden", "nvidia_tiny_snapshot.pkl")
    with np.load(shared("golden", "nvidia_tiny_snapshot_expected.npz")) as expected:
        order = json.loads(str(expected["meta"]))["state_dict_order"]
        for part in ("G", "D", "G_ema"):
            found = read(path, part=part)
            assert list(found) == order[part]
            small = [key for key in expected.files if key.startswith(f"tensor/{part}/")]
            assert len(small) > 20
            for key in small:
                np.testing.assert_array_equal(found[key.split("/")[2]], expected[key])
    options = checkpoints.load(path).options("G_ema")
    assert (options["z_dim"], options["img_resolution"]) == (32, 32)
    assert options["synthesis_kwargs"]["channel_base"] == 256
    assert options["mapping_kwargs"] == {"num_layers": 2}


def test_original_tensorflow_snapshots_are_refused_by_name(tmp_path):
    data = b"\x80\x03" + hostile.named("dnnlib.tflib.network.Network") + b")\x81}b."
    (tmp_path / "s.pkl").write_bytes(data)
    assert "asks for dnnlib.tflib.network.Network" in refused(tmp_path / "s.pkl")


# --- the fault matrix ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zip", "old", "pkl", "inner"])
def test_a_malicious_file_is_refused_by_what_it_asks_for(tmp_path, kind):
    """Row 31."""
    path, evil = tmp_path / "w.pth", hostile.Evil(tmp_path / "made")
    bomb = pickle.dumps({"a": evil}, 2)
    if kind == "zip":
        torch_zip(path, bomb, {})
    elif kind == "old":
        path.write_bytes(old_file(bomb, {}))
    else:
        inner = b"B" + struct.pack("<I", len(bomb)) + bomb
        within = pickled(hostile.call("torch.storage._load_from_bytes", inner))
        path.write_bytes(within if kind == "inner" else bomb)
    message = refused(path)
    assert f"PATH refused: the file asks for {os.name}.mkdir, which weights never need" in message
    assert "nothing of it was run" in message and "state_dict()" in message
    assert not (tmp_path / "made").exists()


def test_a_whole_module_is_refused_by_its_class(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth")
    assert "asks for torch.nn.modules.linear.Linear" in refused(tmp_path / "w.pth")


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "shape, strides, offset",
    [
        ((2, 3), (3, 1), 1),
        ((7,), (1,), 0),
        ((2,), (6,), 0),
        ((1,), (1,), 6),
        ((1,), (1,), 2**62),
        ((2**40, 2**40), (1, 1), 0),
        ((2,), (2**62,), 0),
        ((2, 3), (-3, 1), 5),
        ((2, 3), (3, 1), -1),
        ((-2, 3), (3, 1), 0),
        ((2, 3), (3,), 0),
    ],
)  # fmt: skip
def test_a_tensor_outside_its_storage_is_refused(tmp_path, old, shape, strides, offset):
    """Row 33."""
    content = pickled(dictionary({"a": tensor(shape, strides, offset)}))
    message = refused(write(tmp_path, content, old=old))
    assert "reaches outside its storage" in message or "negative or unfit strides" in message


@settings(max_examples=100, deadline=10_000)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(-2, 5)), max_size=3), st.integers(-2, 8)
)  # fmt: skip
def test_a_view_is_numpys_or_refused(tmp_path_factory, axes, offset):
    shape, strides = [tuple(x) for x in zip(*axes, strict=True)] or ((), ())
    places = [offset + sum(i * s for i, s in zip(at, strides)) for at in np.ndindex(*shape)]
    inside = all(0 <= place < 6 for place in places) and min((*strides, offset)) >= 0
    path = write(
        tmp_path_factory.mktemp("v"), pickled(dictionary({"a": tensor(shape, strides, offset)}))
    )
    if inside:
        check(read(path), {"a": SIX[places].reshape(shape) if places else np.zeros(shape, "f4")})
    else:
        refused(path)


@pytest.mark.parametrize("old", [False, True])
def test_an_expanded_tensor_of_a_small_storage_is_not_made_large(tmp_path, old):
    for axis in (10**8, 10**12):
        content = pickled(dictionary({"a": tensor((axis,), (0,))}))
        assert "many times its size" in refused(write(tmp_path, content, old=old))


def test_many_views_of_one_storage_are_not_made_large(tmp_path):
    data = bytes(4 << 20)
    where = hostile.storage("0", 1 << 20)
    many = {str(i): tensor((1 << 10, 1 << 10), (1, 1 << 10), 0, where) for i in range(99)}
    assert "many times its size" in refused(write(tmp_path, pickled(dictionary(many)), {"0": data}))


@pytest.mark.parametrize(
    "where, words",
    [
        (hostile.storage("1"), "no w/data/1 in its zip"),
        (hostile.storage("../data/0"), "no w/data/../data/0 in its zip"),
        (hostile.storage("0", 7), "holds 24 bytes, not 28"),
        (hostile.storage("0", 5), "holds 24 bytes, not 20"),
        (hostile.storage("0", -6), "another form"),
        (hostile.storage(kind="torch.QInt8Storage"), "type is torch.QInt8Storage"),
        (hostile.storage(kind="torch.ComplexFloatStorage"), "asks for torch.ComplexFloatStorage"),
        (text("0") + b"Q", "another form"),
        (number(3), "no storage"),
    ],
)
def test_a_wrong_storage_is_refused(tmp_path, where, words):
    content = pickled(dictionary({"a": tensor((1,), (1,), 0, where)}))
    assert words in refused(write(tmp_path, content))


@pytest.mark.parametrize("kind", range(3))
def test_an_old_file_whose_storages_do_not_fit_is_damaged(tmp_path, kind):
    wrong = [{"0": (7, RAW)}, {"1": (6, RAW)}, {"0": (6, RAW[:-1])}][kind]
    (tmp_path / "w.pth").write_bytes(old_file(PLAIN, wrong))
    assert "is damaged" in refused(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["zip.pth", "old.pth", "snapshot.pkl"])
def test_a_cut_file_is_damaged_wherever_it_is_cut(tmp_path, name):
    every_format(tmp_path)
    data = (tmp_path / name).read_bytes()
    for end in [*range(12, len(data), 37), len(data) - 1]:
        (tmp_path / name).write_bytes(data[:end])
        assert "damaged" in refused(tmp_path / name)


def test_a_flipped_bit_in_a_zip_is_noticed(tmp_path):
    """As row 36 for PyTorch's files, whose zip has checksums; bundles have their own."""
    path = write(tmp_path, PLAIN)
    data = bytearray(path.read_bytes())
    data[data.index(RAW) + 9] ^= 4
    path.write_bytes(data)
    assert "does not fit its checksum" in refused(path)


@pytest.mark.parametrize(
    "header, size",
    [(b"{", 2**40), (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', None),
     (b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}', None),
     (b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}', None)],
)  # fmt: skip
def test_broken_safetensors_are_refused(tmp_path, header, size):
    """Row 35."""
    data = struct.pack("<Q", size or len(header)) + header + bytes(4)
    (tmp_path / "w.safetensors").write_bytes(data)
    assert "is damaged" in refused(tmp_path / "w.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_converted(tmp_path, value):
    """Row 38."""
    arrays = cartoongan_weights(2, 1, "full")
    arrays["conv01_1.bias"][0] = value
    raw = {name: x.tobytes() for name, x in arrays.items()}
    entries = {
        name: tensor(
            x.shape,
            tuple(s // 4 for s in np.ascontiguousarray(x).strides),
            where=hostile.storage(name, x.size),
        )
        for name, x in arrays.items()
    }
    path = torch_zip(tmp_path / "w.pth", pickled(dictionary(entries)), raw)
    with pytest.raises(UserError, match="conv01_1.bias .*holds NaN or infinity"):
        convert.build("cartoongan", readers.read(path))


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.pkl"])
@pytest.mark.parametrize(
    "contents, words",
    [
        (b"<!DOCTYPE html><html>", "is a web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"", "give another"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ],
)
def test_what_is_often_given_instead_of_weights_is_named(tmp_path, name, contents, words):
    """Row 3."""
    (tmp_path / name).write_bytes(contents)
    assert words in refused(tmp_path / name)


def test_the_oldest_format_a_tar_is_refused_with_what_to_do(tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "w.pth", "w") as archive:
        archive.add(ROOT / "README.md", "sys_info")
    assert "save its state dict again" in refused(tmp_path / "w.pth")


def test_zips_that_lie_or_swell_are_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of zipfile: duplicate name
        path = torch_zip(tmp_path / "w", PLAIN, {"0": RAW}, **{"data.pkl": PLAIN})
    assert "two files of one name" in refused(path)
    swollen = pickled(dictionary({"a": tensor((1,), (1,), 0, hostile.storage("0", 17 << 20))}))
    path = torch_zip(tmp_path / "w", swollen, {"0": bytes(68 << 20)}, pack=zipfile.ZIP_DEFLATED)
    assert "many times its size" in refused(path)


def test_a_zip_with_a_huge_directory_is_refused_before_it_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("w/data.pkl", PLAIN)
        for i in range(300):
            archive.writestr(f"w/{i}" + "x" * 60_000, b"")
    tracemalloc.start()
    message = refused(tmp_path / "w.pth")
    assert "directory of its zip" in message and tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_numpys_headers_are_not_believed(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"
    header += b" " * (54 - len(header) % 64 + 63) + b"\n"
    claim = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("a.npy", claim)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.npy").write_bytes(claim)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(65 << 20))
    for name, words in [
        ("w.npz", "more numbers"),
        ("folder", "more numbers"),
        ("bomb.npz", "bomb"),
    ]:
        with pytest.raises(UserError, match=words):
            readers.read(tmp_path / name)


@pytest.mark.parametrize("name", ["a\nerror: all is well", "\x1b[2J", "\u202eevil", "a" * 301])
def test_names_that_could_forge_a_message_are_refused(tmp_path, name):
    message = refused(write(tmp_path, pickled(dictionary({name: tensor()}))))
    assert "names an array" in message and message.isascii()


# --- fuzz ------------------------------------------------------------------------------------------


def mutated(data: bytes, edits) -> bytes:
    out = bytearray(data)
    for place, kind, value in edits:
        place %= max(1, len(out))
        if kind == 0 and out:
            out[place] = value
        elif kind == 1:
            del out[place : place + value]
        elif kind == 2:
            out[place:place] = bytes([value]) * 3
        else:
            out[place : place + 8] = struct.pack("<q", -1 if value % 2 else 2**40 + value)
    return bytes(out)


FUZZ: dict = {}
EDITS = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(0, 3), st.integers(0, 255)), min_size=1, max_size=4
)


@pytest.mark.parametrize("kind", ["zip.pth", "old.pth", "snapshot.pkl", "w.npz", "w.safetensors"])
@settings(max_examples=120, deadline=10_000)
@given(edits=EDITS)
def test_changed_files_are_read_or_refused_and_never_run(tmp_path_factory, kind, edits):
    folder = FUZZ.setdefault(kind, tmp_path_factory.mktemp("fuzz"))
    if not (folder / kind).exists():
        every_format(folder)
    (folder / f"changed_{kind}").write_bytes(mutated((folder / kind).read_bytes(), edits))
    tracemalloc.start()
    try:
        found = read(folder / f"changed_{kind}")
        assert sum(x.nbytes for x in found.values()) < 1 << 20
    except UserError as error:
        assert "\n" not in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 << 20


@settings(max_examples=150, deadline=10_000)
@given(edits=EDITS)
def test_changed_descriptions_in_a_whole_zip_never_run(tmp_path_factory, edits):
    """The pickle is changed, not the zip around it, whose checksums would hide the change."""
    folder = FUZZ.setdefault("pickles", tmp_path_factory.mktemp("fuzz"))
    torch_zip(folder / "w", mutated(PLAIN, edits), {"0": RAW})
    with hostile.nothing_runs():
        try:
            assert sum(x.nbytes for x in readers.read(folder / "w").values()) < 1 << 20
        except UserError as error:
            assert "\n" not in str(error)


# --- cost ------------------------------------------------------------------------------------------

MEASURE = """
import os, sys, time, resource
from artifygan_jax.weights import readers
kib = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, start = kib(), time.process_time()
arrays = readers.read(sys.argv[1])
print((kib() - before) * 1024 / os.path.getsize(sys.argv[1]), time.process_time() - start)
"""


@pytest.mark.parametrize("old", [False, True])
def test_a_45_mb_file_takes_no_more_than_twice_its_size_and_two_seconds(tmp_path, old):
    count, many = 1 << 20, 11
    raw = {str(i): draw(str(i), (count,)).tobytes() for i in range(many)}
    entries = {key: tensor((count,), (1,), 0, hostile.storage(key, count)) for key in raw}
    path = write(tmp_path, pickled(dictionary(entries)), raw, old)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    growth, seconds = map(float, done.stdout.split())
    assert growth < 2 and seconds < 2


# --- real files ------------------------------------------------------------------------------------

REAL = [
    *("blazeface.pth", "blazeface_landmark.pth", "cartoongan_hayao.pth", "mobilefacenet_068.pth"),
    *("lpips_v0.1_alex.pth", "lpips_v0.1_squeeze.pth", "lpips_v0.1_vgg.pth"),
    *(f"stylegan_aux/{name}.pt" for name in ("age", "dctnet_noise", "ffhq_pca", "pose", "smile")),
]


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_as_torch_reads_them(name):
    torch = pytest.importorskip("torch")
    path = shared("data", "weights", *name.split("/"))
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state if isinstance(state, dict) else {"tensor": state}
    check(read(path), {key: x.numpy() for key, x in state.items()})
