"""COCO 2017 from its official zips: boxes, persons, and what is refused."""

import hashlib
import json
import time
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from artifygan_jax.data import building
from artifygan_jax.data.coco import annotations as coco
from artifygan_jax.data.coco.coco_dataset_builder import Builder, prepare_coco
from artifygan_jax.data.listing import Entry
from artifygan_jax.errors import UserError
from tests.conftest import shared
from tests.data.downloads import (
    coco_categories,
    coco_folder,
    coco_instances,
    jpeg,
    unchecked,
    write_zip,
)

RAW = {"image": tfds.decode.SkipDecoding()}


def read(path, split):
    return tfds.builder_from_directory(path).as_data_source(split=split, decoders=RAW)


def ids(path, split="train"):
    return [int(record["id"]) for record in read(path, split)]


def parse(tmp_path, content):
    path = tmp_path / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return coco.parse(Entry(path.name, path))


def test_pictures_and_boxes_come_back_as_they_were(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    summary = prepare_coco(coco_folder(tmp_path / "in"), tmp_path / "out")
    assert summary["splits"] == {"train": 6, "validation": 4}
    assert summary["path"] == str(tmp_path / "out" / "coco" / "all" / "1.0.0")
    records = list(read(summary["path"], "train"))
    assert [r["image"] for r in records] == [jpeg(n, (40, 20)) for n in range(1, 7)]
    assert [r["name"] for r in records] == [f"{n:012d}.jpg".encode() for n in range(1, 7)]
    assert [int(r["license"]) for r in records] == [2, 3, 4, 5, 6, 7]
    both = records[5]["objects"]  # picture 6: a person and a crowd
    assert both["is_crowd"] == [False, True] and both["category"] == [0, 0]
    assert both["id"] == [600, 601] and both["area"] == [100, 400]
    np.testing.assert_allclose(both["bbox"], [[0.25, 0.25, 0.75, 0.75], [0, 0, 1, 1]])
    dog = records[0]["objects"]
    features = tfds.builder_from_directory(summary["path"]).info.features
    assert features["objects"]["category"].names[dog["category"][0]] == "dog"
    np.testing.assert_allclose(dog["bbox"], [[0.1, 0, 0.3, 1]], rtol=1e-6)  # cut at the border
    assert ids(summary["path"], "validation") == [101, 102, 103, 104]


def test_pictures_without_any_object_are_kept(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = coco_folder(tmp_path / "in")
    (source / "val2017.zip").unlink()
    content = {**coco_instances(1, 6), "annotations": []}
    write_zip(
        source / "annotations_trainval2017.zip",
        {"annotations/instances_train2017.json": json.dumps(content)},
    )
    records = read(prepare_coco(source, tmp_path / "out")["path"], "train")
    assert len(records) == 6 and list(records[0]["objects"]["category"]) == []


def test_person_only_keeps_pictures_with_a_person_apart_from_the_full_set(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source, said = coco_folder(tmp_path / "in"), []
    full = prepare_coco(source, tmp_path / "out")
    persons = prepare_coco(source, tmp_path / "out", person_only=True, say=said.append)
    assert persons["path"] == str(tmp_path / "out" / "coco" / "person" / "1.0.0")
    assert ids(persons["path"]) == [2, 4, 6]  # 3 has a crowd alone
    assert ids(full["path"]) == [1, 2, 3, 4, 5, 6] and not persons["already"]
    assert "train: 3 of 6 pictures have a person" in said
    assert sum(persons["left_out"].values()) == 0
    assert prepare_coco(source, tmp_path / "out", person_only=True)["already"]


def test_one_zip_of_pictures_will_do_and_the_other_split_is_said_to_lack(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source, said = coco_folder(tmp_path / "in"), []
    (source / "train2017.zip").unlink()
    summary = prepare_coco(source, tmp_path / "out", say=said.append)
    assert summary["splits"] == {"validation": 4}
    assert any("no train2017.zip: no split 'train'" in line for line in said)


@pytest.mark.parametrize("lacks", ["annotations_trainval2017.zip", "train2017.zip"])
def test_without_files_one_message_says_what_to_get_where(tmp_path, lacks):
    source = coco_folder(tmp_path / "in")
    (source / "val2017.zip").unlink()
    (source / lacks).unlink()
    start = time.perf_counter()
    with pytest.raises(UserError) as caught:
        prepare_coco(source, tmp_path / "out")
    assert time.perf_counter() - start < 1
    text = str(caught.value)
    assert "\n" not in text and f"has no {lacks}" in text and "cocodataset.org/#download" in text
    assert "train2017.zip (19,336,861,798 bytes)" in text and "val2017.zip (815,585,330" in text


def test_partial_zips_are_errors_unless_missing_pictures_are_allowed(tmp_path, monkeypatch):
    source = coco_folder(tmp_path / "in")
    with pytest.raises(
        UserError, match="annotations_trainval2017.zip: .*the official file has 252,"
    ):
        prepare_coco(source, tmp_path / "out")
    summary = prepare_coco(source, tmp_path / "whole", allow_missing=True)
    sha256 = hashlib.sha256((source / "train2017.zip").read_bytes()).hexdigest()
    assert summary["files"]["train2017.zip"] == {"sha256": sha256, "official": False}
    unchecked(monkeypatch)
    names = {f"train2017/{n:012d}.jpg": jpeg(n) for n in (2, 3, 77)}
    write_zip(source / "train2017.zip", names)
    with pytest.raises(UserError, match="train2017.zip: 4 pictures are named.*000000000001.jpg"):
        prepare_coco(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    summary = prepare_coco(source, tmp_path / "out", allow_missing=True)
    assert summary["splits"] == {"train": 2, "validation": 4}
    assert summary["left_out"] == {"without_picture": 4, "without_row": 1, "unreadable": 0}


def test_unreadable_pictures_are_listed(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = coco_folder(tmp_path / "in")
    members = {f"train2017/{n:012d}.jpg": jpeg(n) if n != 2 else b"?" for n in range(1, 7)}
    write_zip(source / "train2017.zip", members)
    with pytest.raises(UserError, match="000000000002.jpg: not a JPEG"):
        prepare_coco(source, tmp_path / "out")
    summary = prepare_coco(source, tmp_path / "out", allow_missing=True)
    assert summary["failures"] == [{"input": "000000000002.jpg", "reason": "not a JPEG"}]
    assert ids(summary["path"]) == [1, 3, 4, 5, 6]


def test_a_second_run_returns_at_once_unless_the_zips_changed(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = coco_folder(tmp_path / "in")
    first = prepare_coco(source, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(building, "digest", lambda found: pytest.fail("read a file"))
        assert prepare_coco(source, tmp_path / "out") == {**first, "already": True}
    (source / "val2017.zip").unlink()
    with pytest.raises(UserError, match="made from other files .val2017.zip."):
        prepare_coco(source, tmp_path / "out")


def test_the_builder_takes_complete_zips_from_a_manual_folder(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = coco_folder(tmp_path / "in")
    builder = Builder(data_dir=tmp_path / "out", config="person")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=source))
    assert ids(builder.data_dir) == [2, 4, 6]


def test_annotations_without_the_split_of_a_zip_are_an_error(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = coco_folder(tmp_path / "in")
    write_zip(
        source / "annotations_trainval2017.zip", {"annotations/captions_train2017.json": "{}"}
    )
    with pytest.raises(UserError, match="has no instances_train2017.json"):
        prepare_coco(source, tmp_path / "out")


def test_a_set_without_any_person_is_an_error(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    with pytest.raises(UserError, match="no picture with a person"):
        prepare_coco(coco_folder(tmp_path / "in", 1, 1), tmp_path / "out", person_only=True)


def broken(part, key, value):
    content = coco_instances(1, 2)
    content[part][0][key] = value
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON"),
        ("<html>", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "not the layout of COCO 2017"),
        ("{}", "not the layout of COCO 2017 .KeyError: 'categories'"),
        ({**coco_instances(1, 2), "images": None}, "not the layout"),
        ({**coco_instances(1, 2), "categories": coco_categories()[1:]}, "not the 80 .*79 of them"),
        (broken("categories", "name", "alien"), "not the 80 categories of COCO 2017 .alien"),
        (broken("images", "id", 2), "picture 2 is listed twice"),
        (broken("images", "width", 0), "not the layout .*a side of 0"),
        (broken("images", "width", float("nan")), "not the layout .*a side of nan"),
        (broken("images", "id", 1.5), "not the layout .*1.5 for a number"),
        (broken("images", "id", 2**70), "not the layout"),
        (broken("annotations", "image_id", 99), "not the layout .*KeyError: 99"),
        (broken("annotations", "category_id", 12), "not the layout .*KeyError: 12"),
        (broken("annotations", "bbox", [0, 0, 1]), "not the layout"),
        (broken("annotations", "bbox", [0, 0, -1, 1]), "not the layout .*bbox"),
        (broken("annotations", "bbox", [0, float("inf"), 1, 1]), "not the layout .*bbox"),
        (broken("annotations", "area", "large"), "not the layout"),
    ],
)
def test_annotations_of_another_layout_are_refused(tmp_path, content, message):
    with pytest.raises(UserError, match=f"^instances.json: {message}") as caught:
        parse(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_outlines_are_not_kept_and_a_picture_named_segmentation_is():
    assert coco._without_outline({"segmentation": [1], "id": 2}) == {"id": 2}


def test_every_official_file_has_a_sha256():
    known = coco.officials()
    assert known["train2017.zip"].digest.startswith("69a8bb58ea5f")
    assert known["val2017.zip"].digest.startswith("4f7e2ccb2866")
    assert known["annotations_trainval2017.zip"].digest.startswith("113a836d9019")
    assert {len(file.digest) for file in known.values()} == {64}


def test_the_real_files_are_read(tmp_path):
    source = shared("data", "coco")
    summary = prepare_coco(source, tmp_path, allow_missing=True)
    assert summary["splits"] == {"train": 64}
    records = list(read(summary["path"], "train"))
    assert sum(len(r["objects"]["id"]) for r in records) == 547
    with zipfile.ZipFile(source / "train2017.zip") as archive:
        for record in records:
            assert record["image"] == archive.read(f"train2017/{record['name'].decode()}")
    with zipfile.ZipFile(source / "annotations_trainval2017.zip") as archive:
        content = json.loads(archive.read("annotations/instances_train2017.json"))
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    official = {a["id"]: (a["bbox"], *sizes[a["image_id"]]) for a in content["annotations"]}
    for record in records:
        for number, box in zip(record["objects"]["id"], record["objects"]["bbox"]):
            (left, top, across, down), width, height = official[int(number)]
            found = box * [height, width, height, width]
            np.testing.assert_allclose(found, [top, left, top + down, left + across], atol=0.02)
