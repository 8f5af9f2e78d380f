"""New photos in a style: found by the source, drawn by the style, put back."""

import numpy as np
import pytest
from PIL import Image

from artifygan_jax import bundle, cli, generate
from artifygan_jax.data.align import Face
from artifygan_jax.data.faces import Faces
from artifygan_jax.errors import UserError
from artifygan_jax.latent import render, stylize
from artifygan_jax.latent.codes import by_seed
from tests.latent import nets


def run(*argv):
    return generate.main([str(a) for a in argv])


def drawn(renderer):
    return np.concatenate(list(renderer.images(by_seed([0, 1], renderer.options))))


def test_strength_goes_from_the_source_to_the_style():
    source, style = nets.renderer(0), nets.renderer(1)
    assert stylize.blended(source, style, 1) is style
    np.testing.assert_allclose(drawn(stylize.blended(source, style, 0)), drawn(source), atol=1e-5)
    half = bundle.variables(stylize.blended(source, style, 0.5).net)
    a, b = bundle.variables(source.net), bundle.variables(style.net)
    for path, x in half.items():
        np.testing.assert_allclose(x, (a[path] + b[path]) / 2, rtol=1e-5, atol=1e-4)
    with pytest.raises(UserError, match="give 0 .the photo. to 1"):
        stylize.blended(source, style, 1.5)
    with pytest.raises(UserError, match="has other layers"):
        stylize.blended(source, nets.renderer(1, channels=(16, 8, 8)), 0.5)


def test_colours_are_the_photos_and_light_is_the_pictures():
    random = np.random.default_rng(0)
    image = random.integers(60, 200, (16, 16, 3), dtype=np.uint8)
    photo = np.full((16, 16, 3), (150, 110, 90), np.uint8) + random.integers(
        0, 9, (16, 16, 3), np.uint8
    )
    chroma = lambda x: np.asarray(Image.fromarray(x).convert("YCbCr"), float)  # noqa: E731
    found = chroma(stylize.recoloured(image, photo))
    np.testing.assert_allclose(
        found[..., 1:].mean((0, 1)), chroma(photo)[..., 1:].mean((0, 1)), atol=1
    )
    np.testing.assert_allclose(found[..., 0], chroma(image)[..., 0], atol=2)


def test_the_source_is_the_one_on_the_card(tmp_path):
    source = nets.saved(tmp_path / "faces", 0)
    card = {"trained": {"config": {"method": {"source": str(source)}}}}
    bundle.save(tmp_path / "style", nets.tiny(1), card)
    style = render.load(tmp_path / "style")
    assert stylize.source_of(style, None).where == str(source)
    assert stylize.source_of(nets.renderer(1), None).where == "tiny1"
    bundle.save(tmp_path / "zoo", nets.tiny(1), {"trained": {"config": "x", "source": str(source)}})
    assert stylize.source_of(render.load(tmp_path / "zoo"), None).where == str(source)
    other = nets.saved(tmp_path / "other", 2, channels=(16, 16, 8, 8))
    with pytest.raises(UserError, match="they do not belong together"):
        stylize.source_of(style, str(other))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """One with two faces, one without, one that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    faces = [Faces("photo", 2, 3, 64)[i] for i in range(2)]
    Image.fromarray(np.concatenate([faces[0], np.zeros_like(faces[0]), faces[1]], axis=1)).save(
        folder / "two.png"
    )
    Image.new("RGB", (64, 64)).save(folder / "grey.png")
    (folder / "broken.png").write_text("no picture")
    points = np.array([[22, 26], [42, 26], [32, 36], [25, 45], [39, 45]], np.float32)
    found = [Face((x, 0, x + 64, 64), 1.0, points + [x, 0]) for x in (0, 128)]
    monkeypatch.setattr(
        "artifygan_jax.detect.Detector.from_package",
        lambda: lambda rgb: found if rgb.shape[1] > 64 else [],
    )
    return folder


def test_faces_are_drawn_or_put_back_and_a_failing_photo_stops_nothing(photos, tmp_path):
    model = nets.saved(tmp_path / "style", 1)
    how = ("stylize", f"--model={model}", f"--input={photos}", "--steps=3", "--perceptual=none")
    summary, code = run(*how, f"--output={tmp_path / 'a'}", "--face=all")
    assert code == cli.SOME_FAILED and (summary["done"], summary["failed"]) == (2, 2)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["two.png", "two_2.png"]
    with Image.open(tmp_path / "a" / "two_2.png") as image:
        assert image.size == (16, 16)
    pasted, _ = run(*how, f"--output={tmp_path / 'b'}", "--face=all", "--paste")
    assert pasted["done"] == 1
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["two.png"]
    with Image.open(tmp_path / "b" / "two.png") as image, Image.open(photos / "two.png") as photo:
        moved = (np.asarray(image) != np.asarray(photo.convert("RGB"))).any(2)
    assert moved[20:44, 20:44].mean() > 0.9 and moved[20:44, 148:172].mean() > 0.9
    assert not moved[:, 90:102].any()  # between them
    again, _ = run(*how, f"--output={tmp_path / 'b'}", "--face=all", "--paste")
    assert (again["done"], again["skipped"]) == (0, 1)


def test_colours_and_strength_change_the_picture(photos, tmp_path):
    source, style = nets.saved(tmp_path / "faces", 0), nets.saved(tmp_path / "style", 1)
    (photos / "grey.png").unlink()
    pictures = []
    for i, more in enumerate([(), ("--keep_colours",), ("--strength=0",)]):
        out = tmp_path / str(i)
        how = (f"--model={style}", f"--source={source}", f"--input={photos / 'two.png'}")
        run("stylize", *how, f"--output={out}", "--steps=2", "--perceptual=none", *more)
        pictures.append(np.asarray(Image.open(out / "two.png"), int))
    assert all(np.abs(pictures[0] - x).max() > 5 for x in pictures[1:])


def test_a_style_file_of_the_authors_is_converted_and_draws(tmp_path):
    """JoJoGAN's files hold the fine-tuned generator as `g`, and nothing of averages."""
    torch = pytest.importorskip("torch")
    from artifygan_jax import convert

    model = nets.saved(tmp_path / "style", 1, channels=(16, 16, 8), z_size=16)
    convert.export(str(model), str(tmp_path / "both.pt"), arch="rosinality")
    whole = torch.load(tmp_path / "both.pt", weights_only=True)
    torch.save({"g": whole["g_ema"]}, tmp_path / "jojo.pt")
    convert.convert("rosinality", str(tmp_path / "jojo.pt"), str(tmp_path / "jojo"))
    mine, theirs = (render.load(tmp_path / name) for name in ("style", "jojo"))
    codes = by_seed([0], mine.options).with_ws(np.ones((1, mine.num_ws, 16), np.float32))
    np.testing.assert_allclose(
        np.asarray(theirs.draw(codes)), np.asarray(mine.draw(codes)), atol=1e-4
    )
