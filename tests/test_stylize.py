"""The stylize command: what is done, kept, skipped and refused, and what it says about it."""

import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from flax import nnx
from PIL import Image, ImageCms

from artifygan_jax import bundle, cli, inference, stylize
from artifygan_jax.data import saving
from artifygan_jax.errors import UserError
from artifygan_jax.nets import cartoongan

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    net = cartoongan.build("generator", {"channels": 4, "blocks": 1}, rngs=nnx.Rngs(0))
    net.out.kernel[...] *= 40  # so that the output is not all grey
    bundle.save(folder, net)
    return folder


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    return folder


def draw(path, height=20, width=30, seed=0, **options):
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(rgb).save(path, **options)
    return rgb


def run(model, source, output, *flags):
    return stylize.main([f"--model={model}", f"--input={source}", f"--output={output}", *flags])


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


# ------------------------------------------------------------------------- what is done


def test_a_folder_gives_one_picture_of_its_own_size_for_each(model, photos, tmp_path):
    (photos / "sub").mkdir()
    sizes = {"a.png": (20, 30), "b.jpg": (31, 17), "sub/a.webp": (1, 1), "c d.png": (7, 9)}
    for name, size in sizes.items():
        draw(photos / name, *size)
    summary, code = run(model, photos, tmp_path / "out")
    assert code == 0
    counts = {k: summary[k] for k in ("done", "skipped", "failed", "failures", "compilations")}
    assert counts == {"done": 4, "skipped": 0, "failed": 0, "failures": [], "compilations": 1}
    assert summary["model"] == str(model)
    assert summary["images_per_s"] == pytest.approx(4 / summary["seconds"], rel=0.05)  # 3 digits
    assert files(tmp_path / "out") == ["a.png", "b.png", "c d.png", "sub/a.png"]
    for name, (height, width) in sizes.items():
        made = tmp_path / "out" / pathlib.Path(name).with_suffix(".png")
        assert pixels(made).shape == (height, width, 3), name


def test_the_file_holds_what_the_library_gives_and_says_who_made_it(model, photos, tmp_path):
    draw(photos / "a.png")
    run(model, photos / "a.png", tmp_path / "new" / "b.png")
    with Image.open(tmp_path / "new" / "b.png") as image:
        assert np.array_equal(np.asarray(image), inference.load(model)(photos / "a.png"))
        assert image.text["DigitalSourceType"] == saving.DIGITAL_SOURCE_TYPE
        assert image.text["Model"].startswith("tiny ")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_format_chooses_the_files_of_a_folder(model, photos, tmp_path, suffix):
    draw(photos / "a.png")
    run(model, photos, tmp_path / "out", f"--format={suffix}")
    assert files(tmp_path / "out") == [f"a.{suffix}"]


def test_zips_their_folders_and_globs_are_read(model, photos, tmp_path):
    draw(photos / "a.png")
    draw(photos / "b.png", seed=1)
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.write(photos / "a.png", "x/a.png")
        archive.write(photos / "b.png", "b.png")
    run(model, tmp_path / "p.zip", tmp_path / "zip")
    run(model, tmp_path / "p.zip" / "x", tmp_path / "inside")
    run(model, photos / "b*", tmp_path / "glob")
    assert files(tmp_path / "zip") == ["b.png", "x/a.png"]
    assert files(tmp_path / "inside") == ["a.png"]
    assert files(tmp_path / "glob") == ["b.png"]
    assert np.array_equal(pixels(tmp_path / "glob/b.png"), pixels(tmp_path / "zip/b.png"))


def test_two_inputs_of_one_stem_give_two_outputs(model, photos, tmp_path):
    draw(photos / "a.png")
    draw(photos / "a.jpg", seed=1)
    summary, _ = run(model, photos, tmp_path / "out")
    assert summary["done"] == 2 and files(tmp_path / "out") == ["a_jpg.png", "a_png.png"]


def test_odd_names_work_and_cannot_break_a_line_of_the_log(model, photos, tmp_path, capsys):
    for name in ("-rf.png", "line\nbreak.png", "größe.png", "l" * 250 + ".png"):
        draw(photos / name)
    (photos / "bad\nname.png").write_text("no picture")
    summary, code = run(model, photos, tmp_path / "out")
    assert (summary["done"], code) == (4, cli.SOME_FAILED)
    assert len(files(tmp_path / "out")) == 4
    err = capsys.readouterr().err
    assert "'bad\\nname.png': failed: not an image" in err and "\nbreak" not in err


def test_strength_zero_gives_the_photo(model, photos, tmp_path):
    rgb = draw(photos / "a.png")
    run(model, photos, tmp_path / "out", "--strength=0")
    assert np.array_equal(pixels(tmp_path / "out/a.png"), rgb)


def test_keep_color_keeps_the_chroma_of_the_photo(model, photos, tmp_path):
    Image.new("RGB", (24, 24), (180, 100, 110)).save(photos / "a.png")
    run(model, photos, tmp_path / "plain")
    run(model, photos, tmp_path / "kept", "--keep_color")
    kept = pixels(tmp_path / "kept/a.png").astype(int)
    clipped = (kept == 0) | (kept == 255)
    assert clipped.mean() < 0.5
    inner = kept[~clipped.any(-1)]
    # differences of channels are chroma; each channel is rounded once
    assert np.abs(inner[:, 0] - inner[:, 1] - 80).max() <= 1
    assert not np.array_equal(kept, pixels(tmp_path / "plain/a.png"))


def test_max_side_makes_larger_photos_smaller_and_no_other(model, photos, tmp_path):
    draw(photos / "large.png", 60, 90)
    draw(photos / "small.png", 20, 30)
    run(model, photos, tmp_path / "out", "--max_side=45")
    assert pixels(tmp_path / "out/large.png").shape == (30, 45, 3)
    assert pixels(tmp_path / "out/small.png").shape == (20, 30, 3)


def test_alpha_is_kept_by_png_and_webp_and_laid_on_the_background_for_jpg(model, photos, tmp_path):
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[:, 16:] = (200, 30, 40, 255)
    rgba[:, :16, 1] = 255  # a hidden green, which must not be seen
    Image.fromarray(rgba).save(photos / "a.png")
    for suffix in ("png", "webp"):
        run(model, photos, tmp_path / suffix, f"--format={suffix}")
        assert np.array_equal(pixels(tmp_path / suffix / f"a.{suffix}")[..., 3], rgba[..., 3])
    run(model, photos, tmp_path / "jpg", "--format=jpg", "--strength=0", "--background=#0000ff")
    jpg = pixels(tmp_path / "jpg/a.jpg").astype(int)
    assert np.abs(jpg[4, 4] - [0, 0, 255]).max() < 12  # JPEG's own loss


def test_a_photo_on_its_side_comes_out_upright_with_its_profile_and_without_its_place(
    model, photos, tmp_path
):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[1] = "N"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    draw(photos / "a.jpg", 20, 30, exif=exif, icc_profile=profile)
    run(model, photos, tmp_path / "out", "--format=jpg")
    with Image.open(tmp_path / "out/a.jpg") as image:
        assert image.size == (20, 30)
        assert image.info["icc_profile"] == profile
        assert not image.getexif().get_ifd(0x8825)
        assert image.getexif().get(0x0112, 1) == 1


def test_large_pictures_run_in_tiles_and_the_memory_is_said_first(
    model, photos, tmp_path, monkeypatch, capsys
):
    draw(photos / "a.png", 90, 70)
    run(model, photos, tmp_path / "whole")
    whole = inference.load(model)
    tiled = inference.Stylizer(whole._net(whole._weights), whole.card, whole_megapixels=0, tile=32)
    monkeypatch.setattr(inference, "load", lambda _: tiled)
    capsys.readouterr()
    run(model, photos, tmp_path / "tiled")
    assert "a.png: in tiles, which needs about 0.0 GB of memory\n" in capsys.readouterr().err
    one, other = (pixels(tmp_path / way / "a.png").astype(int) for way in ("whole", "tiled"))
    assert np.abs(one - other).max() <= 1  # values that fall between two bytes


# ------------------------------------------------------------------------- kept, skipped, failed


def test_outputs_that_exist_are_kept_unless_overwritten(model, photos, tmp_path):
    draw(photos / "a.png")
    draw(photos / "b.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    summary, code = run(model, photos, out)
    assert (summary["done"], summary["skipped"], code) == (1, 1, 0)
    assert (out / "a.png").read_bytes() == b"mine"
    summary, _ = run(model, photos, out)
    assert (summary["done"], summary["skipped"], summary["compilations"]) == (0, 2, 0)
    summary, _ = run(model, photos, out, "--overwrite")
    assert (summary["done"], summary["skipped"]) == (2, 0)
    assert (out / "a.png").read_bytes() != b"mine"


def test_bad_files_are_named_with_the_reason_and_the_others_are_done(
    model, photos, tmp_path, capsys
):
    draw(photos / "good.png")
    (photos / "empty.png").touch()
    (photos / "folder.png").mkdir()
    (photos / "gone.png").symlink_to(tmp_path / "nowhere")
    draw(photos / "cut.jpg", 80, 80)
    data = (photos / "cut.jpg").read_bytes()
    (photos / "cut.jpg").write_bytes(data[: len(data) * 6 // 10])
    summary, code = run(model, photos, tmp_path / "out")
    assert (code, summary["done"], summary["failed"]) == (cli.SOME_FAILED, 1, 4)
    assert {f["input"]: f["reason"] for f in summary["failures"]} == {
        "cut.jpg": "truncated",
        "empty.png": "empty file",
        "folder.png": "a folder, not a picture",
        "gone.png": "a link to a missing file",
    }
    err = capsys.readouterr().err.splitlines()
    assert "empty.png: failed: empty file" in err and "done 1, skipped 0, failed 4" in err
    assert files(tmp_path / "out") == ["good.png"]


def test_all_bad_is_exit_code_two_and_nothing_is_written(model, photos, tmp_path):
    (photos / "a.png").write_text("no picture")
    summary, code = run(model, photos, tmp_path / "out")
    assert (code, summary["done"], files(tmp_path / "out")) == (cli.SOME_FAILED, 0, [])


def test_a_full_disk_fails_the_picture_and_leaves_no_half_file(
    model, photos, tmp_path, monkeypatch
):
    draw(photos / "a.png")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    summary, code = run(model, photos, tmp_path / "out")
    assert code == cli.SOME_FAILED and "No space left" in summary["failures"][0]["reason"]
    assert files(tmp_path / "out") == []


def test_a_picture_beyond_the_memory_fails_alone(model, photos, tmp_path, monkeypatch):
    draw(photos / "a.png", 20, 30)
    draw(photos / "b.png", 600, 600)
    monkeypatch.setattr(inference, "available_memory", lambda: 5e6)
    summary, code = run(model, photos, tmp_path / "out")
    assert (code, summary["done"]) == (cli.SOME_FAILED, 1)
    assert "--max_side" in summary["failures"][0]["reason"]


def test_an_output_folder_inside_the_input_is_not_read_again(model, photos):
    draw(photos / "a.png")
    for _ in range(2):
        summary, _ = run(model, photos, photos / "cartoons")
    assert (summary["done"], summary["skipped"]) == (0, 1)
    assert files(photos) == ["a.png", "cartoons/a.png"]


def test_a_first_frame_is_said(model, photos, tmp_path, capsys):
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    frames[0].save(photos / "a.gif", save_all=True, append_images=frames[1:])
    run(model, photos, tmp_path / "out")
    assert "a.gif: first of 2 frames" in capsys.readouterr().err


# ------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--strength=1.5"], "--strength=1.5: give 0"),
        (["--strength=nan"], "--strength=nan: give 0"),
        (["--max_side=0"], "--max_side=0"),
        (["--background=whit"], "--background=whit: give a colour name"),
        (["--format=gif"], "invalid choice: 'gif'"),
        (["--overwite"], "did you mean '--overwrite'"),
        (["--face=auto"], "unknown argument '--face'"),
        (["--model=no_such_model"], "no model bundle at 'no_such_model'"),
        (["--input=NOWHERE"], "no such place"),
        (["--input=a.mp4"], "is a video"),
        (["--input=EMPTY"], "no pictures here"),
        (["--output=x.gif"], ".gif cannot be written; use .png"),
        (["--output=x.png", "--format=jpg"], "x.png is no jpg"),
        (["--output=x.png"], "one file for 2 pictures"),
        (["--output=photos"], "output folder"),
        (["--input=photos/a.png", "--output=photos/a.png", "--overwrite"], "is the input"),
        (["--input=photos/a.png", "--output=photos", "--overwrite"], "overwrite the picture"),
        (["--output=file"], "is a file"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_a_wrong_call_is_one_line_and_writes_nothing(
    model, photos, tmp_path, monkeypatch, flags, said
):
    monkeypatch.chdir(tmp_path)
    draw(photos / "a.png")
    draw(photos / "b.png")
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "file").touch()
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with pytest.raises(UserError) as caught:
        run(model, "photos", "out", *flags)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_output_folder_is_found_before_any_work(model, photos, tmp_path):
    draw(photos / "a.png")
    (tmp_path / "out").mkdir(mode=0o500)
    with pytest.raises(UserError, match="cannot be written"):
        run(model, photos, tmp_path / "out")


# ---------------------------------------------------------------------------------- as a process


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "artifygan_jax.stylize", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def test_a_mistake_ends_with_code_one_without_a_traceback():
    process = start("--model=x", "--input=y")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("error: ") and "--output" in err and err.count("\n") == 1


@pytest.fixture
def interruptible():
    """A child inherits an ignored SIGINT, as a suite that a script runs in the background has."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_keeps_what_is_done_and_the_next_run_goes_on(interruptible, model, photos, tmp_path):
    data = io.BytesIO()
    draw(data, 300, 300, format="PNG")
    for i in range(100):
        (photos / f"{i:03}.png").write_bytes(data.getvalue())
    out = tmp_path / "out"
    flags = (f"--model={model}", f"--input={photos}", f"--output={out}")
    process = start(*flags)
    limit = time.monotonic() + 300
    while not (out / "002.png").exists():
        assert process.poll() is None and time.monotonic() < limit, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    stdout, err = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (cli.INTERRUPTED, "")
    assert err.endswith("run the same command again to go on\n") and "Traceback" not in err
    kept = files(out)
    assert 3 <= len(kept) < 100 and all(name.endswith(".png") for name in kept)
    for name in kept:
        assert pixels(out / name).shape == (300, 300, 3)

    for i in range(len(kept) + 2, 100):  # two are left to do
        (photos / f"{i:03}.png").unlink()
    process = start(*flags)
    stdout, err = process.communicate(timeout=300)
    summary = json.loads(stdout.splitlines()[-1])
    assert (process.returncode, summary["done"], summary["skipped"]) == (0, 2, len(kept)), err
    assert summary["compilations"] == 1
    assert len(files(out)) == len(kept) + 2
