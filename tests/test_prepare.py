"""The command `prepare`: its verbs end to end, its mistakes on one line, its second runs."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from artifygan_jax import cli, prepare
from artifygan_jax.data import edges, prepared
from artifygan_jax.data.faces import Faces
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.errors import UserError
from tests.conftest import ROOT
from tests.data import tiny_dataset


@pytest.fixture
def photos(tmp_path):
    """Three drawn faces, of which one lies sideways in its file, and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        image = Image.fromarray(Faces("photo", 3, 0, 80)[i][:, :70])
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 1 else 1
        image.save(folder / f"{i}.jpg", exif=exif)
    (folder / "note.png").write_text("not a picture")
    return folder


def run(*argv):
    return prepare.main([str(a) for a in argv])


def test_images_are_upright_squares_and_failures_are_named(photos, tmp_path):
    output = tmp_path / "out"
    summary, code = run("images", f"--source={photos}", f"--output={output}", "--size=32")
    assert code == cli.SOME_FAILED
    assert summary["done"] == 3 and summary["failures"][0]["input"] == "note.png"
    for i in range(3):
        with Image.open(output / f"{i}.png") as image:
            assert image.size == (32, 32) and image.mode == "RGB"
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["verb"] == "images" and manifest["options"]["size"] == 32
    assert manifest["counts"] == {"inputs": 4, "pictures": 3, "left_out": 1}
    assert manifest["left_out"][0]["input"] == "note.png"


def test_a_second_run_goes_on_and_other_options_are_refused(photos, tmp_path, capsys):
    call = ("images", f"--source={photos}", f"--output={tmp_path / 'out'}")
    run(*call, "--size=32")
    (tmp_path / "out" / "2.png").unlink()
    capsys.readouterr()
    summary, _ = run(*call, "--size=32")
    assert (summary["done"], summary["skipped"], summary["failed"]) == (1, 2, 1)
    assert "going on: 2 of 4 pictures were prepared before" in capsys.readouterr().err
    with pytest.raises(UserError, match="prepared in another way .*32.*64.*give another --output"):
        run(*call, "--size=64")


def test_smooth_pairs_with_its_pictures_in_training(tmp_path):
    cartoons = tmp_path / "cartoons"
    cartoons.mkdir()
    for i in range(2):
        Image.fromarray(Faces("cartoon", 2, 0, 64)[i]).save(cartoons / f"{i}.png")
    output = tmp_path / "smooth"
    _, code = run("smooth", f"--source={cartoons}", f"--output={output}", "--size=64")
    assert code == cli.DONE
    plain, twins = Pictures(str(cartoons)), Pictures(str(output))
    for i in range(2):
        assert twins.name(i) == plain.name(i)
        np.testing.assert_array_equal(twins[i], edges.smooth(plain[i]))
        assert (twins[i] != plain[i]).any()


def test_a_prepared_dataset_is_a_source_too(tmp_path):
    folder = tiny_dataset.write(tmp_path / "data")
    call = ("images", f"--source={folder.parent}", f"--output={tmp_path / 'out'}", "--size=16")
    summary, code = run(*call)
    assert code == cli.DONE and summary["done"] == 12
    assert (tmp_path / "out" / "004.png").exists()


def test_danbooru_posts_rated_s_are_all_refused_without_a_request(tmp_path):
    posts = [
        {
            "id": i,
            "tag_string": "1girl smile",
            "rating": "s",
            "file_url": "https://cdn.donmai.us/a.jpg",
        }
        for i in range(3)
    ]
    (tmp_path / "posts.json").write_text(json.dumps(posts))
    words = "none of 3 danbooru posts is left.*3 refused .3 for rating"
    with pytest.raises(UserError, match=words):
        run("safebooru", f"--source={tmp_path}", f"--output={tmp_path / 'out'}", "--download")
    audit = (tmp_path / "out" / "safebooru_pictures" / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["verdict"] for line in audit] == ["refused"] * 3


@pytest.fixture
def astronaut(tmp_path):
    """A folder with the public-domain portrait, a copy lying on its side, and a wall without a face."""
    data = pytest.importorskip("skimage.data")
    folder = tmp_path / "portraits"
    folder.mkdir()
    image = Image.fromarray(data.astronaut())
    image.save(folder / "astronaut.png")
    image.rotate(90).save(folder / "rolled.png")
    Image.new("RGB", (300, 200), "grey").save(folder / "wall.png")
    return folder


@pytest.mark.slow
def test_faces_are_aligned_however_they_lie(astronaut, tmp_path):
    output = tmp_path / "faces"
    summary, code = run("align", f"--source={astronaut}", f"--output={output}", "--size=128")
    assert code == cli.SOME_FAILED
    assert summary["failures"] == [{"input": "wall.png", "reason": "no face found"}]
    upright, rolled = (np.asarray(Image.open(output / f"{n}.png")) for n in ("astronaut", "rolled"))
    assert upright.shape == rolled.shape == (128, 128, 3)
    inner = np.s_[24:104, 24:104]
    difference = np.abs(upright[inner].astype(int) - rolled[inner]).mean()
    assert difference < 12, difference  # two detections; other halves of the picture differ by 60
    records = prepared.read_journal(output)
    assert "turned" in records["rolled.png"]["outputs"][0]["found"]
    left, right = records["astronaut.png"]["outputs"][0]["landmarks"][:2]
    assert abs(left[0] - 203) < 4 and abs(right[0] - 246) < 4 and abs(left[1] - 101) < 4


@pytest.mark.slow
def test_a_face_crop_is_about_the_face(astronaut, tmp_path):
    call = ("images", f"--source={astronaut}", f"--output={tmp_path / 'o'}", "--size=64")
    summary, _ = run(*call, "--crop=face")
    assert summary["done"] == 2
    left, top, right, bottom = prepared.read_journal(tmp_path / "o")["astronaut.png"]["outputs"][0][
        "box"
    ]
    assert left < 180 < 250 < right and top < 80 < 150 < bottom and right - left < 250


def test_own_landmarks_go_before_the_detector(photos, tmp_path):
    (photos / "note.png").unlink()
    table = tmp_path / "list_landmarks_align_celeba.txt"
    columns = " ".join(
        f"{p}_{x}" for p in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for x in "xy"
    )
    rows = [f"{i:06}.jpg 25 30 45 30 35 42 27 55 43 55" for i in range(3)]
    table.write_text("3\n" + columns + "\n" + "\n".join(rows) + "\n")
    for i in range(3):
        (photos / f"{i}.jpg").rename(photos / f"{i:06}.jpg")
    call = ("align", f"--source={photos}", f"--output={tmp_path / 'o'}", "--size=32")
    summary, code = run(*call, f"--landmarks={table}")
    assert code == cli.DONE and summary["done"] == 3
    for record in prepared.read_journal(tmp_path / "o").values():
        assert record["outputs"][0]["found"] == "own landmarks"
    table.write_text("3\n" + columns + "\n" + rows[0][:-3] + "\n")
    with pytest.raises(UserError, match="list_landmarks_align_celeba.txt.*9 numbers, 10 expected"):
        run(*call, f"--landmarks={table}")


def test_anime_faces_want_their_cascade(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("ARTIFYGAN_CACHE", str(tmp_path / "cache"))
    call = ("images", f"--source={photos}", f"--output={tmp_path / 'o'}", "--crop=anime_face")
    with pytest.raises(UserError, match="lbpcascade_animeface.xml.*--cascade=FILE"):
        run(*call)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "required: VERB"),
        (["celebra"], "invalid choice: 'celebra'"),
        (["celeba", "--source=x"], "required: --output"),
        (["images", "--source=x", "--output=y", "--siz=3"], "'--siz' .did you mean '--size'"),
        (["images", "--source=nowhere", "--output=y"], "nowhere: no such place"),
        (["images", "--source=.", "--output=y", "--background=blu"], "give a colour name"),
        (["images", "--source=.", "--output=y", "--size=3"], "size 3; allowed are 16"),
        (["smooth", "--source=.", "--output=y", "--variant=dek"], "invalid choice: 'dek'"),
        (["align", "--source=.", "--output=y", "--size=9"], "size is 9; allowed are 16"),
        (["celeba", "--source=nowhere", "--output=y"], "img_align_celeba.zip"),
        (["coco", "--source=nowhere", "--output=y"], "train2017.zip"),
        (["safebooru", "--source=nowhere", "--output=y", "--download"], "all_data.csv"),
        (
            ["safebooru", "--source=x", "--output=y", "--download", "--pictures=z"],
            "not allowed with",
        ),
        (["eda", "--source=nowhere", "--output=y"], "nowhere"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(argv, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words) as error:
        run(*argv)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.smoke
def test_help_and_summary_through_the_real_command(photos, tmp_path):
    command = [sys.executable, "-m", "artifygan_jax.prepare"]
    helped = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert helped.returncode == 0
    for verb in ("celeba", "coco", "safebooru", "images", "smooth", "align", "eda"):
        assert f"\n    {verb}" in helped.stdout
    done = subprocess.run(
        [*command, "images", f"--source={photos}", f"--output={tmp_path / 'o'}", "--size=16"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == cli.SOME_FAILED
    assert json.loads(done.stdout.splitlines()[-1])["done"] == 3
    assert "note.png: left out: not an image" in done.stderr
