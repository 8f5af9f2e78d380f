"""Packs: built once, checked each time, never half there."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from artifygan_jax.data import packed
from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.errors import UserError

SHAPE = (130, 4, 4, 3)  # more than two chunks


def make(i):
    return np.full((4, 4, 3), i, np.uint8)


def build(folder, marks="x", make=make, shape=SHAPE):
    return packed.open_or_build(folder, "photo", {"marks": marks}, shape, make)


def refuse(i):
    raise AssertionError(f"picture {i} is packed already")


def test_pictures_come_back_and_are_made_once(tmp_path):
    pack = build(tmp_path)
    assert [int(pack[i][0, 0, 0]) for i in range(130)] == list(range(130))
    again = build(tmp_path, make=refuse)
    np.testing.assert_array_equal(again[77], make(77))
    with pytest.raises(ValueError, match="read-only"):
        pack[3][:] = 9


def test_other_marks_or_shapes_are_other_packs(tmp_path):
    build(tmp_path)
    build(tmp_path, marks="y", make=lambda i: make(i + 1))
    assert build(tmp_path, make=refuse)[0].max() == 0
    assert build(tmp_path, marks="y", make=refuse)[0].max() == 1
    with pytest.raises(AssertionError, match="is packed already"):
        build(tmp_path, make=refuse, shape=(129, 4, 4, 3))


def test_pictures_that_cannot_be_read_are_refused_again_by_name(tmp_path):
    def some(i):
        if i % 50 == 3:
            raise UnreadablePicture(f"{i}.png", "truncated")
        return make(i)

    for maker in (some, refuse):
        pack = build(tmp_path, make=maker)
        with pytest.raises(UnreadablePicture, match="53.png: truncated"):
            pack[53]
        assert pack[54].max() == 54


@pytest.mark.parametrize("damage", ["flip", "cut", "note", "no note", "half build"])
def test_a_damaged_pack_is_built_again(tmp_path, damage, caplog):
    build(tmp_path)
    path = next(tmp_path.glob("*.npy"))
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-5] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-100])
    elif damage == "note":
        path.with_suffix(".json").write_text("{")
    elif damage == "no note":
        path.with_suffix(".json").unlink()
    else:
        path.rename(path.with_suffix(".part"))
    pack = build(tmp_path)
    assert [int(pack[i][0, 0, 0]) for i in range(130)] == list(range(130))
    assert ("packed again" in caplog.text) == (damage in ("flip", "cut", "note"))
    assert not list(tmp_path.glob("*.part"))


def test_an_error_of_the_maker_leaves_nothing(tmp_path):
    def broken(i):
        if i == 70:
            raise OSError(5, "disk on fire")
        return make(i)

    with pytest.raises(UserError, match="cannot be packed: disk on fire"):
        build(tmp_path, make=broken)
    assert {p.suffix for p in tmp_path.iterdir()} == {".lock"}


def test_a_full_disk_is_said_before_the_work(tmp_path):
    with pytest.raises(UserError, match="GB free where packing 1000000000 pictures"):
        build(tmp_path, make=refuse, shape=(10**9, 256, 256, 3))


def test_of_two_processes_one_builds_while_the_other_waits(tmp_path):
    code = """
import os, sys, time
import numpy as np
from artifygan_jax.data import packed
def make(i):
    time.sleep(0.02)
    open(f"{sys.argv[1]}/made-{i}-{os.getpid()}", "w").close()
    return np.full((4, 4, 3), i, np.uint8)
pack = packed.open_or_build(sys.argv[1] + "/p", "photo", {}, (20, 4, 4, 3), make)
assert [int(pack[i].max()) for i in range(20)] == list(range(20))
"""
    runs = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0]
    assert len(list(tmp_path.glob("made-*"))) == 20


def test_the_note_says_what_the_pack_is(tmp_path):
    build(tmp_path)
    note = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert note["marks"] == {"marks": "x"} and note["shape"] == list(SHAPE) and not note["bad"]
    assert os.path.getsize(next(tmp_path.glob("*.npy"))) > 130 * 48
