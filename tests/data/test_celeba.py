"""CelebA from its official files: what is stored, what is refused, what a second run does."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow_datasets as tfds

from artifygan_jax.data import building, sources
from artifygan_jax.data.celeba import contents as celeba
from artifygan_jax.data.celeba.celeba_dataset_builder import Builder, prepare_celeba
from artifygan_jax.data.sources import Official
from artifygan_jax.errors import UserError
from tests.conftest import ROOT, shared
from tests.data.downloads import (
    attributes_of,
    celeba_folder,
    celeba_tables,
    jpeg,
    name_of,
    unchecked,
    write_zip,
)

RAW = {"image": tfds.decode.SkipDecoding()}


def read(path, split):
    return tfds.builder_from_directory(path).as_data_source(split=split, decoders=RAW)


def tree(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_pictures_and_labels_come_back_as_they_were(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in")
    summary = prepare_celeba(source, tmp_path / "out")
    assert summary["splits"] == {"train": 16, "validation": 2, "test": 2}
    assert summary["features_left_out"] == [] and summary["failed"] == 0
    assert summary["path"] == str(tmp_path / "out" / "celeba" / "1.0.0")
    records = read(summary["path"], "train")
    assert [r["name"].decode() for r in records] == [
        name_of(n) for n in range(1, 21) if n % 10 not in (8, 9)
    ]
    for record in records:
        number = int(record["name"][:6])
        assert record["image"] == jpeg(number)
        assert record["identity"] == 1000 + number
        assert list(record["attributes"]) == sorted(celeba.ATTRIBUTES)
        values = [record["attributes"][name] for name in celeba.ATTRIBUTES]
        assert values == [value > 0 for value in attributes_of(number)]
        assert [record["landmarks"][k] for k in celeba.LANDMARKS] == list(
            range(number, number + 10)
        )
        assert record["bbox"] == {"x_1": number, "y_1": number + 1, "width": 226, "height": 313}
    assert [r["name"].decode()[:6] for r in read(summary["path"], "validation")] == [
        "000008",
        "000018",
    ]


def test_tfds_decodes_the_pictures_by_name_of_the_set(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    prepare_celeba(celeba_folder(tmp_path / "in", 10), tmp_path / "out")
    records = tfds.data_source("celeba", data_dir=tmp_path / "out", split="train")
    assert records[0]["image"].shape == (20, 16, 3) and records[0]["image"].dtype == np.uint8


def test_tables_may_lie_in_folders_or_in_archives(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    loose = celeba_folder(tmp_path / "loose", 10)
    tables = celeba_tables(10)
    for place in ("folders", "zips"):
        (tmp_path / place).mkdir()
        shutil.copy(loose / "img_align_celeba.zip", tmp_path / place)
    partition = "list_eval_partition.txt"
    for name, text in tables.items():
        path = tmp_path / "folders" / ("Eval" if name == partition else "Anno") / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    inside = {f"Anno/{name}": text for name, text in tables.items() if name != partition}
    write_zip(tmp_path / "zips" / "Anno-20240101-001.zip", inside)
    write_zip(tmp_path / "zips" / "Eval.zip", {f"Eval/{partition}": tables[partition]})
    shards = set()
    for place in ("loose", "folders", "zips"):
        path = prepare_celeba(tmp_path / place, tmp_path / f"out_{place}")["path"]
        assert len(read(path, "train")) == 8
        shards.add((tmp_path / path / "celeba-train.array_record-00000-of-00001").read_bytes())
    assert len(shards) == 1


def test_missing_tables_are_said_and_their_features_left_out(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in", 10)
    for name in ("list_bbox_celeba.txt", "list_landmarks_align_celeba.txt"):
        (source / name).unlink()
    (source / "list_eval_partition.txt").unlink()
    said = []
    summary = prepare_celeba(source, tmp_path / "out", say=said.append)
    assert summary["features_left_out"] == ["landmarks", "bbox", "partition"]
    assert summary["splits"] == {"train": 10}
    assert any("no list_bbox_celeba.txt: no feature 'bbox'" in line for line in said)
    assert any("all pictures are in train" in line for line in said)
    assert sorted(read(summary["path"], "train")[0]) == ["attributes", "identity", "image", "name"]


def test_unpacked_pictures_do_and_are_said_to_be_unchecked(tmp_path):
    source = tmp_path / "in"
    (source / "img_align_celeba").mkdir(parents=True)
    for number in (3, 1, 2):
        (source / "img_align_celeba" / name_of(number)).write_bytes(jpeg(number))
    said = []
    summary = prepare_celeba(source, tmp_path / "out", say=said.append)
    assert summary["splits"] == {"train": 3}
    assert summary["files"]["img_align_celeba.zip"]["official"] is None
    assert any("not checked" in line for line in said)
    assert [r["image"] for r in read(summary["path"], "train")] == [jpeg(n) for n in (1, 2, 3)]
    assert prepare_celeba(source, tmp_path / "out")["already"]
    (source / "img_align_celeba" / name_of(4)).write_bytes(jpeg(4))
    with pytest.raises(UserError, match="was made from other files"):
        prepare_celeba(source, tmp_path / "out")


def test_a_partial_archive_is_an_error_unless_missing_pictures_are_allowed(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in", 20, pictures=range(2, 8))
    with pytest.raises(UserError, match="14 pictures are named.*000001.jpg.*--allow_missing"):
        prepare_celeba(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    summary = prepare_celeba(source, tmp_path / "out", allow_missing=True)
    assert summary["pictures"] == 6 and summary["left_out"]["without_picture"] == 14


def test_pictures_without_a_row_are_an_error_or_counted(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in", 5, pictures=range(1, 8))
    with pytest.raises(
        UserError, match="2 pictures have no complete labels .000006.jpg, 000007.jpg"
    ):
        prepare_celeba(source, tmp_path / "out")
    summary = prepare_celeba(source, tmp_path / "out", allow_missing=True)
    assert summary["left_out"] == {"without_picture": 0, "without_row": 2, "unreadable": 0}


def test_an_archive_that_is_not_the_official_one_is_recorded_where_it_is_allowed(
    tmp_path, monkeypatch
):
    source = tmp_path / "in"
    write_zip(source / "img_align_celeba.zip", {"img_align_celeba/000001.jpg": jpeg(1)})
    with pytest.raises(
        UserError, match="img_align_celeba.zip: .* bytes; the official file has 1,443"
    ):
        prepare_celeba(source, tmp_path / "out")
    summary = prepare_celeba(source, tmp_path / "out", allow_missing=True)
    sha256 = hashlib.sha256((source / "img_align_celeba.zip").read_bytes()).hexdigest()
    assert summary["files"]["img_align_celeba.zip"] == {"sha256": sha256, "official": False}
    record = json.loads((tmp_path / "out/celeba/1.0.0/metadata.json").read_text())
    assert record["files"]["img_align_celeba.zip"]["sha256"] == sha256
    info = tfds.builder_from_directory(tmp_path / "out/celeba/1.0.0").info
    assert info.metadata["files"]["img_align_celeba.zip"]["sha256"] == sha256
    unchecked(monkeypatch)  # whatever the archive is, what was made of it is known to be partial
    with pytest.raises(UserError, match="was made with --allow_missing"):
        prepare_celeba(source, tmp_path / "out")


@pytest.mark.parametrize("method", ["sha256", "md5"])
def test_the_right_size_with_the_wrong_checksum_is_no_official_file(tmp_path, monkeypatch, method):
    source = celeba_folder(tmp_path / "in", 3)
    right = {
        p.name: Official(
            p.name, p.stat().st_size, getattr(hashlib, method)(p.read_bytes()).hexdigest()
        )
        for p in source.iterdir()
    }
    order = list(celeba.officials())
    monkeypatch.setattr(celeba, "officials", lambda: {name: right[name] for name in order})
    summary = prepare_celeba(source, tmp_path / "out")
    assert all(file["official"] is True for file in summary["files"].values())
    path = source / "identity_CelebA.txt"
    path.write_text(path.read_text().replace("1001", "1009"))
    with pytest.raises(UserError, match="identity_CelebA.txt: .*checksum .*the official file has"):
        prepare_celeba(source, tmp_path / "other")


def test_every_official_file_but_the_boxes_has_a_sha256():
    known = celeba.officials()
    assert known["img_align_celeba.zip"].size == 1443490838
    assert known["img_align_celeba.zip"].digest.startswith("46fb89443c57")
    assert {name for name, file in known.items() if len(file.digest) != 64} == {
        "list_bbox_celeba.txt"
    }


def test_a_second_run_returns_at_once_and_reads_nothing(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in", 10)
    first = prepare_celeba(source, tmp_path / "out")
    before = tree(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(building, "digest", lambda found: pytest.fail("read a file"))
        second = prepare_celeba(source, tmp_path / "out")
    assert second == {**first, "already": True} and tree(tmp_path) == before
    os.utime(source / "identity_CelebA.txt", (1, 1))  # touched, and still the same bytes
    assert prepare_celeba(source, tmp_path / "out")["already"]


def test_other_files_are_refused_for_a_finished_set(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in", 10)
    prepare_celeba(source, tmp_path / "out")
    (source / "list_bbox_celeba.txt").unlink()
    with pytest.raises(UserError, match="from other files .list_bbox_celeba.txt.; give another"):
        prepare_celeba(source, tmp_path / "out")
    (tmp_path / "out/celeba/1.0.0/metadata.json").write_text("{")
    with pytest.raises(UserError, match="no readable metadata.json"):
        prepare_celeba(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "not a JPEG"),
        (b"", "not a JPEG"),
        (b"<html>quota exceeded</html>", "not a JPEG"),
        (jpeg(1)[:30], "truncated"),
    ],
)
def test_pictures_that_are_none_end_the_run_or_are_listed(tmp_path, monkeypatch, data, reason):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in", 6)
    members = {f"img_align_celeba/{name_of(n)}": jpeg(n) if n != 4 else data for n in range(1, 7)}
    write_zip(source / "img_align_celeba.zip", members)
    with pytest.raises(UserError, match=f"000004.jpg: .*{reason}.*--allow_missing"):
        prepare_celeba(source, tmp_path / "out")
    assert tree(tmp_path / "out") == [".celeba.lock", "celeba"]  # no half set
    summary = prepare_celeba(source, tmp_path / "out", allow_missing=True)
    assert summary["pictures"] == 5 and summary["left_out"]["unreadable"] == 1
    assert [f["input"] for f in summary["failures"]] == ["000004.jpg"] and summary["failed"] == 1
    assert reason in summary["failures"][0]["reason"]
    with pytest.raises(UserError, match="made with --allow_missing"):
        prepare_celeba(source, tmp_path / "out")


def test_a_set_of_which_nothing_can_be_read_is_an_error(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in", 3)
    members = {f"img_align_celeba/{name_of(n)}": b"no" for n in range(1, 4)}
    write_zip(source / "img_align_celeba.zip", members)
    with pytest.raises(UserError, match="none of 3 pictures in a row can be read"):
        prepare_celeba(source, tmp_path / "out", allow_missing=True)
    assert tree(tmp_path / "out") == [".celeba.lock", "celeba"]


@pytest.mark.parametrize("there", [True, False])
def test_without_files_one_message_says_what_to_get_where(tmp_path, there):
    source = tmp_path / "in"
    if there:
        source.mkdir()
    start = time.perf_counter()
    with pytest.raises(UserError) as caught:
        prepare_celeba(source, tmp_path / "out")
    assert time.perf_counter() - start < 1
    text = str(caught.value)
    assert "\n" not in text and "mmlab.ie.cuhk.edu.hk/projects/CelebA.html" in text
    assert str(source) in text and "img_align_celeba.zip (1,443,490,838 bytes)" in text
    assert all(name in text for name in celeba_tables(1))
    assert not (tmp_path / "out").exists()


ROW = "000001.jpg " + " ".join(["1"] * 40)
HEAD = "1\n" + " ".join(celeba.ATTRIBUTES) + "\n"


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("attributes", HEAD + ROW[:-2], "line 3: 39 numbers, 40 expected"),
        ("attributes", HEAD + ROW + " 1", "line 3: 41 numbers, 40 expected"),
        ("attributes", HEAD + ROW.replace("1 1 1", "1 0 1", 1), "line 3: 0 is none of .-1, 1."),
        ("attributes", HEAD + ROW[:-1] + "x", "line 3: .* is no row"),
        ("attributes", HEAD.replace("1", "2", 1) + ROW, "line 1: says 2 rows, there are 1"),
        ("attributes", "0" + HEAD[1:], "line 1: an empty table"),
        (
            "attributes",
            HEAD.replace("Bald", "Bold") + ROW,
            "line 2: not the official columns .Bold",
        ),
        ("attributes", ROW, "line 1: the number of rows was expected"),
        ("attributes", "", "line 1: the number of rows was expected"),
        ("attributes", "1", "line 2: not the official columns .0 columns"),
        ("attributes", HEAD + "\n" + ROW, "line 3: .* is no row"),
        ("attributes", HEAD + ROW + "\n" + ROW, "line 4: 000001.jpg for the second time"),
        ("identity", "000001.jpg 3\n../../x.jpg 4\n", "line 2: '../../x.jpg' is no name"),
        ("identity", "000001.jpg 3\n000002.jpg\n", "line 2: 0 numbers, 1 expected"),
        ("identity", "000001.jpg " + "9" * 30, "line 1: a number too large"),
        ("identity", "", "line 1: an empty table"),
        ("identity", "000001.jpg \u0664", "line 1: .* is no row"),
        ("partition", "000001.jpg 3\n", "line 1: 3 is none of .0, 1, 2."),
    ],
)
def test_a_malformed_table_is_named_with_its_line(kind, text, message):
    layout = celeba.TABLES[kind]
    with pytest.raises(UserError, match=f"^{layout.file}, {message}"):
        celeba.parse(layout, text.encode())


def test_rows_may_have_windows_ends_byte_order_marks_and_any_blanks():
    text = "\ufeff" + HEAD.replace("\n", " \r\n") + ROW.replace(" ", "  ") + " \r\n"
    assert celeba.parse(celeba.TABLES["attributes"], text.encode()) == {"000001.jpg": (1,) * 40}


def test_large_sets_have_several_shards_in_the_order_of_the_names(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    monkeypatch.setattr(building, "SHARD_BYTES", 5 * len(jpeg(1)))
    summary = prepare_celeba(celeba_folder(tmp_path / "in"), tmp_path / "out")
    assert summary["shards"] == {"train": 4, "validation": 1, "test": 1}
    names = [r["name"] for r in read(summary["path"], "train")]
    assert len(names) == 16 and names == sorted(names)


def test_disk_space_is_checked_before_the_work(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in", 3)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(building.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="0 MiB free, .* needed; make room"):
        prepare_celeba(source, tmp_path / "out")
    assert not (tmp_path / "out" / "celeba").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("write() failed: No space left on device; writing x"),  # array_record's
    ],
)
def test_a_disk_that_fills_up_is_one_line(tmp_path, monkeypatch, error):
    unchecked(monkeypatch)
    monkeypatch.setattr(building, "read_jpeg", Mock(side_effect=error))
    with pytest.raises(UserError, match="cannot be written: .*No space left on device"):
        prepare_celeba(celeba_folder(tmp_path / "in", 3), tmp_path / "out")
    assert tree(tmp_path / "out") == [".celeba.lock", "celeba"]


def test_a_second_run_at_the_same_time_is_refused(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in", 3)
    (tmp_path / "out").mkdir()
    with (
        building.sole(tmp_path / "out" / ".celeba.lock"),
        pytest.raises(UserError, match="another run is writing"),
    ):
        prepare_celeba(source, tmp_path / "out")


def test_an_output_that_is_a_file_is_refused(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file"):
        prepare_celeba(celeba_folder(tmp_path / "in", 3), tmp_path / "out")


def test_the_builder_takes_complete_files_from_a_manual_folder(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in", 10)
    config = tfds.download.DownloadConfig(manual_dir=source)
    builder = Builder(data_dir=tmp_path / "out")
    builder.download_and_prepare(download_config=config)
    assert builder.as_data_source(split="train")[0]["bbox"]["x_1"] == 1
    assert builder.info.metadata["files"]["img_align_celeba.zip"]["official"] is None
    (source / "list_bbox_celeba.txt").unlink()
    with pytest.raises(UserError, match="some official files are missing"):
        Builder(data_dir=tmp_path / "two").download_and_prepare(download_config=config)


def test_a_builder_reads_the_features_that_are_on_disk(tmp_path, monkeypatch):
    unchecked(monkeypatch)
    source = celeba_folder(tmp_path / "in", 10)
    (source / "list_bbox_celeba.txt").unlink()
    prepare_celeba(source, tmp_path / "out")
    builder = pickle.loads(pickle.dumps(Builder(data_dir=tmp_path / "out")))
    assert "bbox" not in builder.info.features
    assert builder.as_data_source(split="train")[0]["identity"] == 1001


PREPARE = """
import json, os, signal, sys
from tensorflow_datasets.core import shuffle
from artifygan_jax.data.celeba import contents as celeba
from artifygan_jax.data.celeba.celeba_dataset_builder import prepare_celeba
from artifygan_jax.data.sources import Official
shuffle.MAX_MEM_BUFFER_SIZE = 0  # beyond it tfds's own sorting needs TensorFlow
names = celeba.officials()
celeba.officials = lambda: {name: Official(name) for name in names}

def say(line):
    print(line, file=sys.stderr, flush=True)
    if line.startswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

print(json.dumps(prepare_celeba(sys.argv[1], sys.argv[2], say=say)))
print("tensorflow" in sys.modules)
"""


def run(tmp_path, source, kill_at):
    path = os.pathsep.join([str(tmp_path / "fake"), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", PREPARE, str(source), str(tmp_path / "out"), kill_at],
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_killed_run_leaves_no_half_set_and_the_next_one_cleans_up_without_tensorflow(tmp_path):
    fake = tmp_path / "fake" / "tensorflow"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("raise RuntimeError('tensorflow was imported')")
    source = celeba_folder(tmp_path / "in")
    killed = run(tmp_path, source, "10 of 20")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = os.listdir(tmp_path / "out" / "celeba")
    assert left and all(name.startswith("incomplete.") for name in left)
    again = run(tmp_path, source, "never")
    assert again.returncode == 0, again.stderr
    summary, imported = again.stdout.splitlines()  # nothing of tfds's on stdout
    assert json.loads(summary)["pictures"] == 20 and imported == "False"
    assert os.listdir(tmp_path / "out" / "celeba") == ["1.0.0"]
    assert sorted(os.listdir(tmp_path / "out")) == [".celeba.lock", "celeba"]


def test_the_real_files_are_read(tmp_path):
    source = shared("data", "celeba")
    summary = prepare_celeba(source, tmp_path, allow_missing=True)
    assert summary["splits"] == {"train": 2500}
    assert summary["left_out"] == {"without_picture": 200099, "without_row": 0, "unreadable": 0}
    files = summary["files"]
    assert {name for name in files if files[name]["official"]} == {
        "list_attr_celeba.txt",
        "identity_CelebA.txt",
        "list_eval_partition.txt",
    }
    records = read(summary["path"], "train")
    with zipfile.ZipFile(source / "img_align_celeba.zip") as archive:
        for record in (records[0], records[1234], records[2499]):
            member = f"img_align_celeba/{record['name'].decode()}"
            assert record["image"] == archive.read(member)
    assert sum(r["attributes"]["Smiling"] for r in records) / 2500 == pytest.approx(0.482, abs=5e-4)
    assert (
        sources.digest(celeba.find(source, str)["img_align_celeba.zip"])
        == (files["img_align_celeba.zip"]["sha256"])
    )
