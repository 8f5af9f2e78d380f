"""A prepared set is whole: what was made, what was left out and why, and the same after any stop."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.data.prepared import Made, prepare, read_journal
from artifygan_jax.errors import UserError
from tests.conftest import ROOT


def inverted(rgb: np.ndarray, name: str) -> list[Made]:
    """A work that can be told from doing nothing."""
    return [Made(255 - rgb)]


def folder_of(path: Path, count: int = 4) -> Path:
    """`count` pictures, each of one colour; half of them in a folder of their own."""
    for n in range(count):
        file = path / ("sub" if n % 2 else "") / f"{n}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 5), (n, 10, 20)).save(file)
    return path


def run(source, output, work=inverted, **options):
    return prepare(source, output, work, verb="invert", **{"options": {}, **options})


def manifest(output: Path) -> dict:
    return json.loads((output / "manifest.json").read_text())


def pictures(output: Path) -> dict[str, bytes]:
    files = (p for p in output.rglob("*") if p.suffix in (".png", ".jpg"))
    return {p.relative_to(output).as_posix(): p.read_bytes() for p in files}


def test_every_picture_is_made_and_written_down(tmp_path):
    source, out = folder_of(tmp_path / "in"), tmp_path / "out"
    summary = run(source, out, options={"size": 5})
    counts = {"done": 4, "skipped": 0, "failed": 0, "failures": [], "pictures": 4}
    assert summary == {**counts, "output": str(out)}
    assert pictures(out).keys() == {"0.png", "sub/1.png", "2.png", "sub/3.png"}
    made = np.asarray(Image.open(out / "sub" / "3.png"))
    assert made.shape == (5, 6, 3) and made[0, 0].tolist() == [252, 245, 235]
    assert manifest(out) == {
        "verb": "invert",
        "source": str(source),
        "options": {"size": 5, "format": "png", "background": [255, 255, 255]},
        "finished": True,
        "counts": {"inputs": 4, "pictures": 4, "left_out": 0},
        "left_out": [],
    }
    journal = read_journal(out)
    assert journal["sub/1.png"] == {"input": "sub/1.png", "outputs": [{"file": "sub/1.png"}]}


def test_pictures_that_fail_are_left_out_with_their_reasons_and_tried_again(tmp_path):
    source, out, said = folder_of(tmp_path / "in", 2), tmp_path / "out", []
    (source / "bad.png").write_bytes(b"not a picture")

    def picky(rgb, name):
        if name == "0.png":
            raise UnreadablePicture(name, "no face found")
        return inverted(rgb, name)

    failures = [
        {"input": "0.png", "reason": "no face found"},
        {"input": "bad.png", "reason": "not an image (allowed: JPEG, PNG, WebP, GIF, BMP, TIFF)"},
    ]
    summary = run(source, out, picky, say=said.append)
    assert (summary["done"], summary["failed"]) == (1, 2)
    assert sorted(summary["failures"], key=lambda f: f["input"]) == failures
    assert manifest(out)["left_out"] == summary["failures"]
    assert "0.png: left out: no face found" in said
    Image.new("RGB", (6, 5)).save(source / "bad.png")
    summary = run(source, out, picky)
    assert (summary["done"], summary["skipped"], summary["failed"]) == (1, 1, 1)
    assert manifest(out)["counts"] == {"inputs": 3, "pictures": 2, "left_out": 1}


def test_a_second_run_makes_nothing_again_and_says_so(tmp_path):
    source, out, said = folder_of(tmp_path / "in"), tmp_path / "out", []
    run(source, out)
    before = pictures(out)
    summary = run(source, out, lambda *_: pytest.fail("made again"), say=said.append)
    assert (summary["done"], summary["skipped"], summary["pictures"]) == (0, 4, 4)
    assert said == ["going on: 4 of 4 pictures were prepared before"]
    assert pictures(out) == before


def test_new_inputs_and_lost_outputs_are_made_in_the_next_run(tmp_path):
    source, out = folder_of(tmp_path / "in"), tmp_path / "out"
    run(source, out)
    before = pictures(out)
    (out / "2.png").unlink()
    Image.new("RGB", (6, 5)).save(source / "new.png")
    summary = run(source, out)
    assert (summary["done"], summary["skipped"]) == (2, 3)
    assert {n: b for n, b in pictures(out).items() if n != "new.png"} == before


def test_a_half_written_line_of_the_journal_is_made_again(tmp_path):
    source, out = folder_of(tmp_path / "in"), tmp_path / "out"
    run(source, out)
    journal = out / "prepared.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-9])
    assert run(source, out)["done"] == 1
    assert sorted(journal.read_bytes().splitlines()) == sorted(whole.splitlines())


@pytest.mark.parametrize("line", ["nonsense", "[1]", "{}", '{"input": "0.png", "outputs": [{}]}'])
def test_a_damaged_journal_is_named_with_its_line(line, tmp_path):
    source, out = folder_of(tmp_path / "in"), tmp_path / "out"
    run(source, out)
    journal = out / "prepared.jsonl"
    journal.write_text(line + "\n" + journal.read_text())
    with pytest.raises(UserError, match=r"prepared\.jsonl:1 is damaged .*; remove the folder"):
        run(source, out)


def test_a_folder_prepared_in_another_way_is_refused_with_the_difference(tmp_path):
    source, out = folder_of(tmp_path / "in"), tmp_path / "out"
    run(source, out, options={"size": 5})
    before = pictures(out)
    with pytest.raises(UserError, match=r'another way \(options: .*"size": 5.* -> .*"size": 6'):
        run(source, out, options={"size": 6})
    with pytest.raises(UserError, match=r'"png".* -> .*"jpg"'):
        run(source, out, options={"size": 5}, suffix=".jpg")
    with pytest.raises(UserError, match="source: "):
        run(folder_of(tmp_path / "other"), out, options={"size": 5})
    assert pictures(out) == before


def test_options_that_json_writes_otherwise_are_the_same_in_the_next_run(tmp_path):
    source, out = folder_of(tmp_path / "in"), tmp_path / "out"
    run(source, out, options={"crop": (1, 2)})
    assert run(source, out, options={"crop": (1, 2)})["skipped"] == 4


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path):
    source, out = folder_of(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds 1 other things \(thesis.txt"):
        run(source, out)
    assert pictures(out) == {} and (out / "thesis.txt").read_text() == "mine"


def test_the_source_is_never_the_output(tmp_path):
    source = folder_of(tmp_path / "in")
    before = pictures(source)
    with pytest.raises(UserError, match="is the output folder too"):
        run(source, source)
    assert pictures(source) == before


def test_an_output_below_the_source_is_not_read_as_input(tmp_path):
    source = folder_of(tmp_path / "in")
    assert run(source, source / "out")["done"] == 4
    assert run(source, source / "out")["skipped"] == 4


def test_one_input_may_give_several_pictures_with_facts_and_none_overwrites_another(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for n, name in enumerate(["a", "A_2", "b"]):
        Image.new("RGB", (4, 4), (n, n, n)).save(source / f"{name}.png")

    def twice(rgb, name):
        return [Made(rgb, facts={"face": 1}), Made(rgb + 100, "_2", {"face": 2})]

    assert run(source, out, twice)["pictures"] == 6
    assert len(pictures(out)) == 6
    values = {
        file["file"]: np.asarray(Image.open(out / file["file"]))[0, 0, 0]
        for record in read_journal(out).values()
        for file in record["outputs"]
    }
    assert sorted(values.values()) == [0, 1, 2, 100, 101, 102]
    assert values["a.png"] == 0 and values["A_2.png"] == 1 and values["b_2.png"] == 102
    assert read_journal(out)["b.png"]["outputs"][1] == {"file": "b_2.png", "face": 2}


def test_jpegs_are_written_where_they_are_asked_for_and_other_formats_refused(tmp_path):
    source, out = folder_of(tmp_path / "in"), tmp_path / "out"
    run(source, out, suffix=".jpg")
    assert set(pictures(out)) == {"0.jpg", "2.jpg", "sub/1.jpg", "sub/3.jpg"}
    assert Image.open(out / "0.jpg").format == "JPEG"
    with pytest.raises(UserError, match=r"format '.gif'; allowed are .png, .jpg"):
        run(source, tmp_path / "out2", suffix=".gif")
    assert not (tmp_path / "out2").exists()


def test_a_second_run_at_the_same_time_is_turned_away(tmp_path):
    source, out = folder_of(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    with open(out / ".lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is writing there"):
            run(source, out)
    assert run(source, out)["done"] == 4


def test_an_error_in_the_program_ends_the_run_and_is_not_taken_for_a_bad_picture(tmp_path):
    source, out = folder_of(tmp_path / "in"), tmp_path / "out"

    def broken(rgb, name):
        if name == "sub/1.png":
            raise ZeroDivisionError("a bug")
        return inverted(rgb, name)

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(source, out, broken, threads=1)
    assert manifest(out)["finished"] is False
    assert run(source, out)["pictures"] == 4


def test_several_pictures_are_made_at_a_time_and_the_journal_has_them_in_order(tmp_path):
    source, out = folder_of(tmp_path / "in", 6), tmp_path / "out"
    met = threading.Barrier(3, timeout=20)  # breaks unless three are under way together

    def together(rgb, name):
        met.wait()
        return inverted(rgb, name)

    run(source, out, together, threads=3)
    assert list(read_journal(out)) == sorted(f"{'sub/' * (n % 2)}{n}.png" for n in range(6))


def test_a_zip_and_a_glob_are_sources_too(tmp_path):
    source = folder_of(tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, data in pictures(source).items():
            archive.writestr(f"set/{name}", data)
    summary = run(tmp_path / "in.zip" / "set", tmp_path / "zipped")
    run(source, tmp_path / "folder")
    assert summary["done"] == 4
    assert pictures(tmp_path / "zipped") == pictures(tmp_path / "folder")
    assert run(source / "*.png", tmp_path / "globbed")["done"] == 2


SLOWLY = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the tests' own parent ignores
from artifygan_jax.data.prepared import Made, prepare

def work(rgb, name):
    time.sleep(0.02)
    return [Made(255 - rgb)]

print(prepare(sys.argv[1], sys.argv[2], work, verb="invert", options={}, threads=2)["skipped"])
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_after_a_kill_the_same_command_ends_with_the_same_set(sign, tmp_path):
    source, out = folder_of(tmp_path / "in", 60), tmp_path / "out"
    command = [sys.executable, "-c", SLOWLY, str(source), str(out)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    quiet = dict(env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with subprocess.Popen(command, **quiet) as child:
        until = time.monotonic() + 60
        while len(pictures(out) if out.exists() else ()) < 8 and time.monotonic() < until:
            time.sleep(0.01)
        child.send_signal(sign)
        assert child.wait(30) != 0
    assert manifest(out)["finished"] is False
    for data in pictures(out).values():  # each one whole
        assert data.startswith(b"\x89PNG") and data.endswith(b"IEND\xaeB`\x82")
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert 6 <= int(done.stdout) < 60
    run(source, tmp_path / "unbroken")
    assert pictures(out) == pictures(tmp_path / "unbroken")
    assert manifest(out)["finished"] is True
