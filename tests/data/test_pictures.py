"""Sources: folders, zips and datasets alike, the one split, filters, and sets of a given size."""

import io
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from artifygan_jax.data.celeba import contents
from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.data.split import held_out
from artifygan_jax.errors import UserError
from tests.data import tiny_dataset


def save(path, value=100, size=(20, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def names(source):
    return [source.name(i) for i in range(len(source))]


def test_pictures_come_from_folder_zip_and_folder_in_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for i in range(3):
            data = io.BytesIO()
            Image.new("RGB", (8, 8), (i, i, i)).save(data, "PNG")
            archive.writestr(f"faces/{i}.jpg", data.getvalue())  # PNG data: content decides
    for i in range(3):
        save(tmp_path / "faces" / f"{i}.png", i, (8, 8))
    for path in ("set.zip", "set.zip/faces", "faces"):
        source = Pictures(str(tmp_path / path))
        assert [int(source[i][0, 0, 0]) for i in range(len(source))] == [0, 1, 2]


def test_train_and_held_out_parts_are_the_one_split(tmp_path):
    for i in range(16):
        save(tmp_path / f"{i:02}.png", i)
    everything = Pictures(str(tmp_path))
    names = [everything.name(i) for i in range(16)]
    parts = {}
    for split in ("train", "held_out"):
        source = Pictures(str(tmp_path), split)
        parts[split] = [source.name(i) for i in range(len(source))]
    assert parts["held_out"] == [n for n, out in zip(names, held_out(names), strict=True) if out]
    assert sorted(parts["train"] + parts["held_out"]) == names
    with pytest.raises(UserError, match="allowed are all, train, held_out"):
        len(Pictures(str(tmp_path), "test"))


def test_a_prepared_dataset_is_a_place_like_any_other(tmp_path):
    folder = tiny_dataset.write(tmp_path)
    source = Pictures(str(tmp_path / "tiny_faces"), where="Smiling & ~Eyeglasses")
    assert names(source) == ["002.png", "004.png", "008.png", "010.png"]
    np.testing.assert_array_equal(source[1], tiny_dataset.picture(4))
    test = Pictures(str(folder), where="split:test & Smiling")
    assert names(test) == ["010.png"]
    with pytest.raises(UserError, match="'Smilling' .did you mean 'Smiling'"):
        len(Pictures(str(folder), where="Smilling"))
    with pytest.raises(UserError, match="a dataset with its own labels"):
        len(Pictures(str(folder), labels="tags.csv"))


def test_what_is_held_out_does_not_depend_on_the_filter(tmp_path):
    folder = tiny_dataset.write(tmp_path)
    everything = held_out([f"{i:03}.png" for i in range(12)])
    source = Pictures(str(folder), "train", where="~Smiling")
    assert names(source) == [f"{i:03}.png" for i in range(12) if i % 2 and not everything[i]]


def test_a_csv_labels_a_folder_or_a_zip(tmp_path):
    for i in range(4):
        save(tmp_path / "set" / "faces" / f"{i}.png", i)
    table = tmp_path / "tags.csv"
    table.write_text(
        "file,hair\nfaces/0.png,blonde hair\nfaces/1.png,red hair\n2.png,blonde hair\n"
    )
    source = Pictures(str(tmp_path / "set"), where='"blonde hair"', labels=str(table))
    assert names(source) == ["faces/0.png", "faces/2.png"]
    others = Pictures(str(tmp_path / "set"), where='~"blonde hair"', labels=str(table))
    assert names(others) == ["faces/1.png", "faces/3.png"]
    with pytest.raises(UserError, match="`where` needs a table"):
        len(Pictures(str(tmp_path / "set"), where="red"))
    table.write_text("file,hair\nother.png,red\n")
    with pytest.raises(UserError, match="no row for any of 4 pictures such as faces/0.png"):
        len(Pictures(str(tmp_path / "set"), where="red", labels=str(table)))


def test_count_takes_so_many_always_the_same(tmp_path):
    for i in range(20):
        save(tmp_path / f"{i:02}.png", i)
    some = Pictures(str(tmp_path), count=6)
    assert len(set(names(some))) == 6 and names(some) == sorted(names(some))
    assert (
        names(some) == names(Pictures(str(tmp_path), count=6)) != [f"{i:02}.png" for i in range(6)]
    )
    with pytest.raises(UserError, match="20 of 20 pictures.*count is 21"):
        len(Pictures(str(tmp_path), count=21))


def test_a_fingerprint_changes_with_the_pictures_and_the_choice(tmp_path):
    for i in range(10):
        save(tmp_path / "a" / f"{i}.png", i)
    prints = {Pictures(str(tmp_path / "a")).fingerprint}
    prints.add(Pictures(str(tmp_path / "a"), count=3).fingerprint)
    assert Pictures(str(tmp_path / "a")).fingerprint in prints
    save(tmp_path / "a" / "3.png", 77, (21, 21))
    prints.add(Pictures(str(tmp_path / "a")).fingerprint)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a" / "3.png", "3.png")
    prints.add(Pictures(str(tmp_path / "a.zip")).fingerprint)
    prints.add(Pictures(str(tiny_dataset.write(tmp_path))).fingerprint)
    assert len(prints) == 5


def test_a_damaged_record_is_an_unreadable_picture(tmp_path):
    folder = tiny_dataset.write(tmp_path)
    names(Pictures(str(folder)))
    for shard in folder.glob("*train*"):
        data = bytearray(shard.read_bytes())
        data[data.index(b"IDAT") + 400] ^= 4
        shard.write_bytes(data)
    source, bad = Pictures(str(folder)), 0
    for i in range(len(source)):
        try:
            source[i]
        except UnreadablePicture:
            bad += 1
    assert bad == 2
    shutil.rmtree(folder)


def test_celebas_own_table_gives_labels_also_from_its_zip(tmp_path):
    names = ("000001.jpg", "000002.jpg", "000003.jpg")
    for name in names[:2]:
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    rows = [["1" if (i + k) % 2 == 0 else "-1" for k in range(40)] for i in range(3)]
    lines = ["3", " ".join(contents.ATTRIBUTES)]
    lines += [f"{name}  {' '.join(row)}" for name, row in zip(names, rows, strict=True)]
    table = tmp_path / "list_attr_celeba.txt"
    table.write_text("\n".join(lines) + "\n")
    with zipfile.ZipFile(tmp_path / "Anno.zip", "w") as archive:
        archive.write(table, "Anno/list_attr_celeba.txt")
    for labels in (str(table), f"{tmp_path}/Anno.zip/Anno/list_attr_celeba.txt"):
        source = Pictures(f"{tmp_path}/*.jpg", labels=labels)
        found = source.marked(contents.ATTRIBUTES)
        np.testing.assert_array_equal(found, np.array(rows[:2]) == "1")
        with pytest.raises(UserError, match="'Smilling' .did you mean 'Smiling'"):
            source.marked(["Smilling"])
    with pytest.raises(UserError, match="cannot be read"):
        Pictures(f"{tmp_path}/*.jpg", labels=f"{tmp_path}/no/list_attr_celeba.txt").marked(
            ["Young"]
        )
