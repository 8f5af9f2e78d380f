"""The interpreter of pickles: data comes out as Python's own has it, and nothing is run or blown up."""

import ast
import collections
import os
import pathlib
import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import artifygan_jax
from artifygan_jax.weights import pickles, tensors
from artifygan_jax.weights.pickles import Budget, Damaged, Name, Record, Refused, Window
from tests.weights import hostile
from tests.weights.hostile import call, named, number, pickled, row, text

PROTOCOLS = range(2, 6)


def load(data, find=tensors.find, size=1 << 20):
    with hostile.nothing_runs():
        return pickles.load(Window.of(data), find, Budget(size))


def refused(data, error=Refused):
    with pytest.raises(error) as raised:
        load(data)
    message = str(raised.value)
    assert message.isprintable() and len(message) < 300
    return message


# --- what is read ----------------------------------------------------------------------------------

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.sets(st.text(max_size=3) | st.integers(-(2**63), 2**63 - 1))
)
DATA = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(-9, 9), inner)
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(DATA, st.sampled_from([3, 4, 5]))
def test_data_is_what_pythons_own_interpreter_makes_of_it(data, protocol):
    assert load(pickle.dumps(data, protocol)) == data


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bytes_ordered_dicts_and_sets_are_read_at_every_protocol(protocol):
    data = {"b": b"\x00\xff", "o": collections.OrderedDict(x=1, y=2), "s": {1, 2}, "shared": []}
    data["again"] = data["shared"]
    found = load(pickle.dumps(data, protocol))
    assert found == data and list(found["o"]) == ["x", "y"] and found["again"] is found["shared"]


def test_several_pickles_in_a_row_are_read_one_by_one():
    stream = Window.of(pickle.dumps(1) + pickle.dumps("two"))
    assert [pickles.load(stream, tensors.find, Budget(9)) for _ in range(2)] == [1, "two"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.array([True, False]),
        np.zeros((0, 3), np.float16),
        np.array(7, np.uint8),
    ],
)
def test_arrays_of_numpy_are_read(protocol, array):
    found = load(pickle.dumps(array, protocol)).numpy(Budget(1 << 20))
    assert found.dtype == array.dtype.newbyteorder("=") and found.flags.writeable
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", [np.float64(1.5), np.int32(-3), np.bool_(True)])
def test_numbers_of_numpy_become_pythons(protocol, value):
    found = load(pickle.dumps([value], protocol))[0]
    assert found == value and type(found) in (float, int, bool)


def test_older_numpys_names_are_known_too():
    data = pickle.dumps(np.arange(3.0), 2).replace(b"numpy._core", b"numpy.core")
    assert list(load(data).numpy(Budget(99))) == [0, 1, 2]


def test_a_namespace_is_kept_as_an_inert_record():
    import argparse

    found = load(pickle.dumps(argparse.Namespace(lr=0.1, names=["a"]), 2))
    assert isinstance(found, Record) and found.name == "argparse.Namespace"
    assert found.state == {"lr": 0.1, "names": ["a"]}


# --- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_calls_something_is_refused_by_name_and_nothing_is_called(tmp_path, protocol):
    data = pickle.dumps({"weights": hostile.Evil(tmp_path / "made")}, protocol)
    if protocol:
        assert f"asks for {os.name}.mkdir, which weights never need" in refused(data)
    else:  # its dict is made by an instruction that no file of weights has
        assert "DICT" in refused(data)
    assert not (tmp_path / "made").exists()


def test_the_watch_itself_sees_what_pythons_interpreter_does(tmp_path):
    data = pickle.dumps(hostile.Evil(tmp_path / "made"))
    with pytest.raises(AssertionError, match="mkdir"), hostile.nothing_runs():
        pickle.loads(data)


@pytest.mark.parametrize(
    "name",
    [
        *("posix.system", "builtins.eval", "builtins.exec", "builtins.getattr", "os.system"),
        *("builtins.__import__", "importlib.import_module", "torch.load", "torch.hub.load"),
        *(
            "numpy.load",
            "numpy.f2py.capi_maps.getinit",
            "__main__.Generator",
            "copyreg._reconstructor",
        ),
        *("torch._utils._rebuild_sparse_tensor", "collections.OrderedDict.fromkeys"),
        *("operator.attrgetter", "functools.partial", "x.__torch__", "torch.serialization.load"),
    ],
)
def test_names_that_are_not_on_the_list_are_refused(name):
    assert f"asks for {name}, which" in refused(pickled(call(name, text("x"))))


def test_a_name_from_the_file_cannot_break_the_message():
    evil = "\x1b[2J\u202e" + "m" * 1000
    message = refused(pickled(text(evil), text("n\nerror: all is well"), b"\x93"))
    assert message.startswith("the file asks for \\x1b[2J\\u202em") and "..." in message


@pytest.mark.parametrize(
    "code",
    [
        b"(i__main__\nX\n",  # INST
        b"(" + named("collections.OrderedDict") + b"o",  # OBJ
        b"\x82\x01",  # EXT1
        b"\x84\x01\x00\x00\x00",  # EXT4
        named("collections.OrderedDict") + b")}\x92",  # NEWOBJ_EX
        b"\x8b\x01\x00\x00\x00\x01",  # LONG4
        b"\x97",  # NEXT_BUFFER
        b"Pid\n",  # PERSID
        b"I1\n",
        b"S'x'\n",
    ],
)
def test_instructions_that_weights_never_need_are_refused(code):
    assert "which weights never need" in refused(pickled(code))


@pytest.mark.parametrize(
    "code, words",
    [
        (text("x") + b")R", "calls x"),
        (named("torch.FloatStorage") + b")R", "calls torch.FloatStorage"),
        (named("torch.Size") + b"]R", "calls torch.Size"),
        (b"]}b", "sets the state of a list"),
        (named("torch.Size") + b"}b", "sets the state of a Name"),
        (b"}K\x01a", "appends to a dict"),
        (b"]K\x01K\x01s", "sets items of a list"),
        (b"](K\x01\x90", "adds to a list"),
        (hostile.storage(), "refers to data outside"),
        (b"})K\x01s", "a tuple for a key"),
        (b"}" + number(2**63) + b"K\x01s", "a int for a key"),
        (b"}G" + bytes(8) + b"K\x01s", "a float for a key"),
        (call("torch._utils._rebuild_qtensor", b"N"), "quantised"),
        (call("numpy.dtype", text("O8")), "O8, not plain numbers"),
        (call("_codecs.encode", text("x"), text("rot13")), "encodes text"),
    ],
)
def test_misuse_of_what_is_allowed_is_refused(code, words):
    assert words in refused(pickled(code))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x80", b"\x80\x02", b"\x80\x02.", b"\x80\x02K", b"\x80\x02u.", b"\x80\x02\x85.", b"t.",
     b"h\x05.", b"\x80\x63.", b"X\x01\x00\x00\x00\xff.", b"}(K\x01u.", pickled(call("torch.device"))[:-1],
     b"cx\xff\ny\n.", b"\x93."],
)  # fmt: skip
def test_broken_pickles_are_damaged(data):
    refused(data, Damaged)


@pytest.mark.parametrize(
    "array", [np.array([{}]), np.array(["text"]), np.zeros(2, [("a", "f4")]), np.zeros(2, "c8")]
)
def test_arrays_of_anything_but_plain_numbers_are_refused(array):
    assert "not plain numbers" in refused(pickle.dumps(array))


def test_an_array_with_other_bytes_than_its_shape_is_refused():
    data = pickle.dumps(np.arange(8, dtype=np.uint8).reshape(2, 4), 2)
    assert data.count(b"K\x02K\x04\x86") == 1
    assert "outside its storage" in refused(data.replace(b"K\x02K\x04\x86", b"K\x02K\x05\x86"))
    fewer = data.replace(b"K\x02K\x04\x86", b"K\x02K\x03\x86")
    assert "other bytes than its shape" in refused(fewer, Damaged)


# --- sizes and times -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        b"\x8e" + struct.pack("<Q", 2**60),  # BINBYTES8
        b"\x8d" + struct.pack("<Q", 2**62),  # BINUNICODE8
        b"\x96" + struct.pack("<Q", 2**63 - 1),  # BYTEARRAY8
        b"B" + struct.pack("<I", 2**32 - 1),
        b"X" + struct.pack("<I", 2**32 - 1),
        b"\x8b" + struct.pack("<i", 2**31 - 1),  # LONG4
        b"\x95" + struct.pack("<Q", 2**62) + b"]r\xff\xff\xff\xff",  # FRAME, LONG_BINPUT
    ],
)
def test_claimed_sizes_take_no_memory(code):
    tracemalloc.start()
    with pytest.raises((Damaged, Refused)):
        load(b"\x80\x04" + code)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def doubled(times: int) -> bytes:
    """A tuple of twice a tuple of twice a tuple ...: small here, endless to walk through."""
    return b")" + b"".join(b"q\x00h\x00\x86" for _ in range(times))


@pytest.mark.parametrize(
    "data, words",
    [
        (pickled(b"]" * (pickles.MAX_STEPS + 1)), "more than 500000 steps"),
        (pickled(b"}", doubled(60), b"K\x01s"), "a tuple for a key"),
        (
            pickled(b"](", b"N" * 9999, b"eq\x00", (named("builtins.set") + b"h\x00\x85R") * 500),
            "steps",
        ),
        (
            pickled(
                *(text("x" * 100_000), b"q\x00", text("latin1"), b"q\x01"),
                (named("_codecs.encode") + b"h\x00h\x01\x86R") * 100,
            ),
            "many times its size",
        ),
    ],
)
def test_small_files_that_describe_large_things_are_refused(data, words):
    start = time.process_time()
    message = refused(data, (Refused, Damaged))
    assert words in message and time.process_time() - start < 5


def test_deep_nesting_is_no_recursion():
    data = pickled(b"]" * 100_000 + b"a" * 99_999)
    assert len(load(data)) == 1
    assert load(pickled(b")" + b"\x85" * 100_000))


# --- fuzz ------------------------------------------------------------------------------------------

PIECES = [
    *(b"]", b")", b"}", b"\x8f", b"(", b"t", b"e", b"u", b"\x90", b"\x91", b"s", b"a", b"R", b"b"),
    *(
        b"\x81",
        b"Q",
        b"q\x00",
        b"h\x00",
        b"\x94",
        b"N",
        b"\x88",
        b"K\x01",
        b"K\xff",
        b"0",
        b"2",
        b".",
    ),
    *(number(-1), number(2**62), text("0"), text("f4"), text("latin1"), b"C\x04abcd", b"\x93"),
    *(b"G\x7f\xf0\x00\x00\x00\x00\x00\x00", hostile.storage(), row(), row(number(2), number(3))),
    *(named(name) for name in tensors._FUNCTIONS),
    *(
        named(name)
        for name in ("posix.system", "builtins.eval", "argparse.Namespace", "__torch__.M")
    ),
]


def touch(value, budget):
    """Asks every tensor on top for its numbers."""
    values = value if isinstance(value, list | tuple) else [value]
    for x in values[:9]:
        if isinstance(x, tensors.Tensor):
            assert x.numpy(budget).nbytes <= 1 << 20


@settings(max_examples=400, deadline=10_000)
@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_no_row_of_instructions_does_more_than_make_data_or_be_refused(pieces):
    base = tensors.Storage(np.dtype("<f4"), 6, lambda: np.zeros(24, np.uint8))
    budget = Budget(1 << 20)
    with hostile.nothing_runs():
        try:
            data = Window.of(pickled(*pieces))
            touch(pickles.load(data, tensors.find, budget, lambda _: base), budget)
        except (Refused, Damaged):
            pass


@settings(max_examples=200, deadline=10_000)
@given(st.binary(max_size=60))
def test_no_bytes_do_more_than_make_data_or_be_refused(data):
    with hostile.nothing_runs():
        try:
            pickles.load(Window.of(data), tensors.find, Budget(1 << 20))
        except (Refused, Damaged):
            pass


# --- the code itself -------------------------------------------------------------------------------


def test_no_part_of_the_library_has_a_way_to_load_unsafely():
    """No `torch.load`, `pickle.load`, `joblib.load`, `allow_pickle=True`, `exec` or `eval`."""
    calls = {f"{m}.{f}" for m in ("torch", "pickle", "joblib", "dill") for f in ("load", "loads")}
    calls |= {"exec", "eval", "__import__", "torch.jit.load", "pickle.Unpickler"}
    files = list(pathlib.Path(artifygan_jax.__file__).parent.rglob("*.py"))
    assert len(files) > 30
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in calls, f"{file}:{node.lineno}"
                for keyword in node.keywords:
                    unsafe = keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
                    assert not unsafe, f"{file}:{node.lineno}"


def test_every_function_on_the_list_is_our_own():
    for text_, function in tensors._FUNCTIONS.items():
        name = tensors.find(text_)
        assert isinstance(name, Name) and name.make is function
        if function is not None:
            assert function.__module__.startswith("artifygan_jax.weights."), text_
