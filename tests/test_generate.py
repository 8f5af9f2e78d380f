"""The generate command: what is drawn, kept and refused, verb by verb."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from artifygan_jax import bundle, cli, generate
from artifygan_jax.data import saving
from artifygan_jax.data.align import Face
from artifygan_jax.data.faces import Faces
from artifygan_jax.errors import UserError
from artifygan_jax.latent import render
from artifygan_jax.latent.codes import by_seed
from artifygan_jax.nets import encoder
from tests.latent import nets

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return nets.saved(tmp_path_factory.mktemp("models") / "faces", 0)


@pytest.fixture(scope="module")
def cartoon(tmp_path_factory):
    return nets.saved(tmp_path_factory.mktemp("models") / "cartoon", 1)


def run(*argv):
    return generate.main([str(a) for a in argv])


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def drawn(model, seeds):
    renderer = render.load(model)
    return np.concatenate(list(renderer.images(by_seed(seeds, renderer.options))))


# ------------------------------------------------------------------------------------ pictures


def test_pictures_say_whether_they_were_drawn_of_nothing_or_may_be_of_a_photo(model, tmp_path):
    renderer = render.load(model)
    np.savez(tmp_path / "a.npz", ws=renderer.ws(by_seed([7], renderer.options)))
    run(f"--model={model}", "--seeds=7", f"--output={tmp_path}")
    run(f"--model={model}", f"--latents={tmp_path}/a.npz", f"--output={tmp_path}")
    for name, kind in (("seed0007", saving.GENERATED), ("a", saving.DIGITAL_SOURCE_TYPE)):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.text["DigitalSourceType"] == kind


def test_seeds_give_pictures_a_sheet_and_are_kept(model, tmp_path, capsys):
    out = tmp_path / "out"
    argv = (f"--model={model}", "--seeds=0-1,7", f"--output={out}", "--grid=2x2")
    summary, code = run(*argv)
    assert (code, summary["done"], summary["skipped"]) == (cli.DONE, 3, 0)
    assert files(out) == ["grid.png", "seed0000.png", "seed0001.png", "seed0007.png"]
    wanted = render.to_uint8(drawn(model, [0, 1, 7]))
    assert np.array_equal(pixels(out / "seed0007.png"), wanted[2])
    sheet = pixels(out / "grid.png")
    assert sheet.shape == (34, 34, 3) and np.array_equal(sheet[18:, :16], wanted[2])
    assert (sheet[18:, 18:] == 255).all()
    Image.new("RGB", (16, 16)).save(out / "seed0001.png")
    summary, _ = run(*argv)
    assert (summary["done"], summary["skipped"]) == (0, 3) and not pixels(
        out / "seed0001.png"
    ).any()
    assert "--overwrite" in capsys.readouterr().err
    summary, _ = run(*argv, "--overwrite")
    assert summary["done"] == 3 and np.array_equal(pixels(out / "seed0001.png"), wanted[1])


def test_latents_and_arrays_without_clipping(model, tmp_path):
    renderer = render.load(model)
    z = by_seed([7], renderer.options).z * np.float32(1)
    np.savez(tmp_path / "a.npz", z=z)
    np.savez(tmp_path / "b.npz", ws=renderer.ws(by_seed([7], renderer.options)))
    for name in "ab":
        how = (f"--latents={tmp_path / name}.npz", "--format=npy", f"--output={tmp_path}")
        run(f"--model={model}", *how)
        found = np.load(tmp_path / f"{name}.npy")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, drawn(model, [7])[0], atol=1e-5)


@pytest.mark.parametrize("space", ["w", "z"])
def test_films_run_through_all_latents_and_repeat(model, tmp_path, space):
    film = tmp_path / "film.gif"
    how = (f"--video={film}", "--frames=3", f"--interpolate={space}", f"--output={tmp_path}")
    summary, _ = run(f"--model={model}", "--seeds=0-1", *how)
    assert summary["frames"] == 6
    with Image.open(film) as image:
        assert image.n_frames == 6 and image.size == (16, 16) and image.info["loop"] == 0
        found = []
        for i in (0, 3):
            image.seek(i)
            found.append(np.asarray(image.convert("RGB"), float))
    wanted = render.to_uint8(drawn(model, [0, 1]))
    # a palette of 256 colours is near, and the other picture is not
    assert np.abs(found[0] - wanted[0]).mean() < 4 < np.abs(found[0] - wanted[1]).mean()
    assert np.abs(found[1] - wanted[1]).mean() < 4


def test_an_mp4_holds_every_frame(model, tmp_path):
    av = pytest.importorskip("av")
    film = tmp_path / "film.mp4"
    how = (f"--video={film}", "--frames=4", "--fps=12", f"--output={tmp_path}")
    run(f"--model={model}", "--seeds=0-1", *how)
    with av.open(str(film)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 12
    assert len(frames) == 8 and frames[0].shape == (16, 16, 3)


def test_first_styles_of_a_source(model, cartoon, tmp_path):
    how = (f"--source={model}", "--source_styles=6", "--seeds=3", "--format=npy")
    run(f"--model={cartoon}", *how, f"--output={tmp_path}")
    target, source = render.load(cartoon), render.load(model)
    codes = by_seed([3], source.options)
    wanted = next(target.images(codes.with_ws(source.ws(codes))))
    np.testing.assert_allclose(np.load(tmp_path / "seed0003.npy"), wanted[0], atol=1e-5)


# --------------------------------------------------------------------------------- other verbs


def test_mix_takes_the_columns_styles_in_the_layers(model, tmp_path):
    how = ("--rows=0-1", "--columns=2-3", "--layers=0-1", "--format=npy", f"--output={tmp_path}")
    summary, _ = run("mix", f"--model={model}", *how)
    assert summary["layers"] == [0, 1] and "mix.png" in files(tmp_path)
    assert pixels(tmp_path / "mix.png").shape == (52, 52, 3)
    renderer = render.load(model)
    row, column = (renderer.ws(by_seed([seed], renderer.options)) for seed in (1, 2))
    row[:, :2] = column[:, :2]
    wanted = next(renderer.images(by_seed([1], renderer.options).with_ws(row)))[0]
    np.testing.assert_allclose(np.load(tmp_path / "seed0001_seed0002.npy"), wanted, atol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "seed0003.npy"), drawn(model, [3])[0], atol=1e-5)


def test_edit_moves_and_strength_zero_does_not(model, tmp_path):
    run("directions", f"--model={model}", f"--output={tmp_path / 'd.npz'}", "--layers=0-1")
    how = (f"--direction={tmp_path / 'd.npz'}:0", "--strength=0,2.5", "--seeds=5", "--format=npy")
    summary, _ = run("edit", f"--model={model}", *how, f"--output={tmp_path / 'out'}")
    assert summary["layers"] == [0, 1]
    assert files(tmp_path / "out") == ["edit.png", "seed0005_+0.npy", "seed0005_+2.5.npy"]
    still, moved = (np.load(tmp_path / "out" / f"seed0005_{s}.npy") for s in ("+0", "+2.5"))
    np.testing.assert_allclose(still, drawn(model, [5])[0], atol=1e-5)
    assert np.abs(moved - still).max() > 0.01


def test_swap_writes_a_bundle_that_draws(model, cartoon, tmp_path):
    how = (f"--source={model}", "--resolution=8", f"--output={tmp_path / 'new'}")
    summary, _ = run("swap", f"--model={cartoon}", *how)
    assert summary["resolution"] == 8 and bundle.load(tmp_path / "new")[1]["swap"]["width"] == 0
    run(f"--model={tmp_path / 'new'}", "--seeds=0", f"--output={tmp_path / 'out'}")
    assert files(tmp_path / "out") == ["seed0000.png"]


def test_inverted_pictures_are_drawn_again_and_a_faceless_one_is_a_line(
    model, tmp_path, monkeypatch
):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    face = Faces("photo", 1, 3, 64)[0]
    Image.fromarray(face).save(photos / "face.png")
    Image.new("RGB", (64, 64)).save(photos / "grey.png")
    (photos / "broken.png").write_text("no picture")
    points = np.array([[22, 26], [42, 26], [32, 36], [25, 45], [39, 45]], np.float32)
    detector = lambda rgb: [Face((0, 0, 64, 64), 1.0, points)] if rgb.any() else []  # noqa: E731
    monkeypatch.setattr("artifygan_jax.detect.Detector.from_package", lambda: detector)
    how = (f"--input={photos}", f"--output={out}", "--steps=4", "--perceptual=none")
    argv = ("invert", f"--model={model}", *how)
    summary, code = run(*argv, "--face=largest")
    assert code == cli.SOME_FAILED and (summary["done"], summary["failed"]) == (1, 2)
    reasons = {f["input"]: f["reason"] for f in summary["failures"]}
    assert reasons["grey.png"] == "no face found" and "not an image" in reasons["broken.png"]
    assert files(out) == ["face.npz", "face.png", "steps/face.png"]
    with np.load(out / "face.npz") as arrays:
        assert arrays["ws"].shape == (1, 6, 16) and arrays["noise/b8/conv0"].shape == (1, 8, 8)
    assert summary["results"][0]["mse"] > 0 and summary["distance"] == "pixels"
    run(f"--model={model}", f"--latents={out}", f"--output={tmp_path / 'again'}")
    again = pixels(tmp_path / "again" / "face.png").astype(int)
    assert np.abs(again - pixels(out / "face.png")).max() <= 1
    summary, _ = run(*argv, "--face=auto", "--space=w")  # grey: the middle; face: kept
    assert (summary["done"], summary["skipped"], summary["failed"]) == (1, 1, 1)


def test_an_encoder_beside_the_model_finds_codes_and_optimisation_goes_on(
    model, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("artifygan_jax.latent.identity.Likeness.at_hand", lambda: None)
    net = encoder.Encoder(encoder.Options((8, 8, 4), 6, 16), rngs=nnx.Rngs(0))
    bundle.save(tmp_path / "e", net, {"trained": {"config": {"method": {"passes": 2}}}})
    Image.fromarray(Faces("photo", 1, 3, 64)[0]).save(tmp_path / "face.png")
    how = ("invert", f"--model={model}", f"--input={tmp_path / 'face.png'}", "--perceptual=none")
    how += (f"--encoder={tmp_path / 'e'}",)
    alone, _ = run(*how, f"--output={tmp_path / 'a'}")
    assert (alone["encoder"], alone["steps"], alone["done"]) == (str(tmp_path / "e"), 0, 1)
    assert "codes by encoder" in capsys.readouterr().err and alone["identity"] is None
    both, _ = run(*how, f"--output={tmp_path / 'b'}", "--steps=30")
    assert both["steps"] == 30 and both["mse"] < alone["mse"]
    assert files(tmp_path / "a") == files(tmp_path / "b")
    with pytest.raises(UserError, match="they do not belong together"):
        net = encoder.Encoder(encoder.Options((8, 8, 4), 8, 16), rngs=nnx.Rngs(0))
        bundle.save(tmp_path / "e", net)
        run(*how, f"--output={tmp_path / 'c'}")


# --------------------------------------------------------------------------------- wrong calls


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--seeds=3-1"], "runs backwards"),
        (["--seeds=x"], "no number and no range"),
        ([], "--seeds --latents"),
        (["--seeds=0", "--latents=x.npz"], "not allowed with"),
        (["--seeds=0-4", "--grid=2x2"], "4 places for 5 pictures"),
        (["--seeds=0", "--grid=2by2"], "COLUMNSxROWS"),
        (["--seeds=0-9", "--grid=9999x9999"], "100 megapixels"),
        (["--seeds=0", "--truncation=nan"], "such as 0.7"),
        (["--seeds=0", "--labels=1"], "knows no classes"),
        (["--seeds=0", "--source_styles=2"], "go together"),
        (["--seeds=0", "--video=x.gif"], "at least two latents"),
        (["--seeds=0-1", "--video=x.avi"], ".mp4 or .gif"),
        (["--seeds=0-1", "--video=x.gif", "--frames=0"], "--frames=0"),
        (["--seeds=0-1", "--video=x.gif", "--frames=9999999"], "too many for a .gif"),
        (["--latents=none.npz"], "no such file"),
        (["--seed=0"], "did you mean '--seeds'"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(model, tmp_path, argv, words):
    with pytest.raises(UserError, match=words) as error:
        run(f"--model={model}", f"--output={tmp_path / 'out'}", *argv)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["invrt"], "did you mean 'invert'"),
        (["mix", "--rows=0", "--columns=1", "--layers=0-6"], "layers 0-5"),
        (["edit", "--seeds=0", "--direction=sefa:99"], "sefa:0 to sefa:15"),
        (["edit", "--seeds=0", "--direction=sefa:0", "--strength=x"], "such as -3,0,3"),
        (["invert", "--input=nowhere", "--perceptual=none"], "no such place"),
        (["invert", "--input=nowhere", "--steps=0"], "--steps=0"),
        (["swap", "--source=nowhere", "--resolution=8"], "no model bundle"),
    ],
)
def test_a_wrong_call_of_a_verb_is_one_line(model, tmp_path, argv, words):
    verb, *rest = argv
    with pytest.raises(UserError, match=words):
        run(verb, f"--model={model}", f"--output={tmp_path / 'out'}", *rest)
    assert not (tmp_path / "out").exists()


@pytest.mark.smoke
def test_help_names_every_verb_and_a_wrong_call_ends_with_1(tmp_path):
    command = [sys.executable, "-m", "artifygan_jax.generate"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, cwd=ROOT)
    verbs = [verb for verb in generate.VERBS if verb]
    assert shown.returncode == 0 and all(verb in shown.stdout for verb in verbs)
    done = subprocess.run([*command, "--seeds=0"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
