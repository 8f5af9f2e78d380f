"""Prepared datasets: what is read equals what was written; damage is named and never guessed around."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from artifygan_jax.data import records
from artifygan_jax.data.images import UnreadablePicture, open_picture
from artifygan_jax.data.labels import select
from artifygan_jax.data.records import Records, dataset_folder
from artifygan_jax.errors import UserError
from tests.data import tiny_dataset


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The dataset, made once."""
    return tiny_dataset.write(tmp_path_factory.mktemp("data"))


@pytest.fixture
def folder(original, tmp_path):
    """A copy to damage."""
    return shutil.copytree(original, tmp_path / "tiny_faces" / "1.0.0")


def test_every_picture_comes_back_by_name(folder):
    found = Records(folder)
    assert found.names == [f"{i:03}.png" for i in range(12)]
    for i in range(12):
        np.testing.assert_array_equal(open_picture(found.read(i)).rgb, tiny_dataset.picture(i))


def test_labels_are_attributes_tags_categories_and_splits(folder):
    labels = Records(folder).labels
    for where, expected in {
        "Smiling": [0, 2, 4, 6, 8, 10],
        "Smiling & ~Eyeglasses": [2, 4, 8, 10],
        ":d": [4],
        '"traffic light"': [5],
        "split:test": [9, 10, 11],
    }.items():
        assert np.flatnonzero(select(labels, where)).tolist() == expected, where


def test_the_index_is_made_once_and_again_when_the_dataset_changes(folder, caplog, monkeypatch):
    caplog.set_level("INFO")
    assert Records(folder).names
    monkeypatch.setattr(Records, "_scan", lambda self: pytest.fail("the index is there"))
    assert Records(folder).names
    monkeypatch.undo()
    (folder / records.INDEX).write_bytes(b"PK\x03\x04 not an index")
    assert len(Records(folder).names) == 12
    assert "damaged" in caplog.text
    info = folder / "dataset_info.json"
    info.write_text(info.read_text() + "\n")
    caplog.clear()
    assert Records(folder).names
    assert "once" in caplog.text


def test_a_read_only_dataset_still_works(folder, monkeypatch, caplog):
    def refuse(path, data):
        raise UserError(f"{path}: cannot be written: Read-only file system")

    monkeypatch.setattr(records, "write_whole", refuse)
    assert len(Records(folder).names) == 12
    assert "not kept" in caplog.text


def test_a_flipped_bit_costs_one_record_named(folder):
    assert Records(folder).names  # the index, while all is well
    shard = next(folder.glob("*train*00000-of*"))
    data = bytearray(shard.read_bytes())
    data[data.index(b"IDAT") + 400] ^= 4
    shard.write_bytes(data)
    found = Records(folder)
    bad = []
    for i in range(12):
        try:
            found.read(i)
        except UnreadablePicture as error:
            bad.append(str(error))
    assert len(bad) == 1
    assert bad[0].startswith("0") and shard.name in bad[0] and "damaged" in bad[0]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: p.unlink(), "lacks 1 of 4 shards .*train.*; copy them here"),
        (lambda p: p.write_bytes(p.read_bytes()[:-3000]), "is no whole array_record file"),
        (lambda p: p.write_bytes(b""), "is no whole array_record file"),
        (lambda p: p.write_text("hello\n" * 20_000), "is no whole array_record file"),
        (
            lambda p: shutil.copy(next(p.parent.glob("*test*00000-of*")), p),
            "has . records where the dataset says .",
        ),
    ],
)
def test_a_shard_that_is_not_whole_is_named(folder, damage, words):
    shard = next(folder.glob("*train*00000-of*"))
    damage(shard)
    with pytest.raises(UserError, match=words) as error:
        Records(folder).read(0)
    assert shard.name in str(error.value) and "\n" not in str(error.value)


def test_a_broken_description_is_named(folder):
    (folder / "dataset_info.json").write_text('{"splits": 3}')
    with pytest.raises(UserError, match="dataset_info.json: not readable.*prepare the set again"):
        Records(folder)


def test_the_dataset_is_found_from_above_and_two_are_refused(folder, tmp_path):
    for place in (folder, folder.parent, tmp_path):
        assert dataset_folder(str(place)) == folder
    newer = shutil.copytree(folder, folder.parent / "1.10.0")
    shutil.copytree(folder, folder.parent / "1.9.0")
    shutil.copytree(folder, folder.parent / "incomplete.XYZ_2.0.0")
    assert dataset_folder(str(tmp_path)) == newer
    shutil.copytree(folder, tmp_path / "other" / "1.0.0")
    with pytest.raises(UserError, match="several datasets"):
        dataset_folder(str(tmp_path))
    assert dataset_folder(str(tmp_path / "nowhere")) is None


def test_tfds_reads_the_same_and_nothing_imports_tensorflow(folder):
    code = f"""
import sys
import tensorflow_datasets as tfds
from artifygan_jax.data.records import Records
import pathlib
source = tfds.builder_from_directory({str(folder)!r}).as_data_source(
    split="train", decoders={{"image": tfds.decode.SkipDecoding()}})
ours = Records(pathlib.Path({str(folder)!r}))
for i in range(len(source)):
    example = source[i]
    name = example["name"].decode()
    assert ours.read(ours.names.index(name)) == example["image"]
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=".")
