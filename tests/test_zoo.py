"""The bundles in `zoo/`: whole, small, described, and what the configs that begin with them want."""

import jax
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle, convert, phases, train
from artifygan_jax.latent import attributes, distance, encode, render
from artifygan_jax.latent.codes import by_seed
from artifygan_jax.latent.directions import Direction
from artifygan_jax.latent.identity import Likeness
from artifygan_jax.latent.projector import Projection, Projector
from tests.conftest import ROOT, SHARED

BUNDLES = sorted(path.parent for path in (ROOT / "zoo").glob("*/model.json"))


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_a_bundle_is_whole_small_and_described(folder):
    net, card = bundle.load(folder)
    assert (folder / bundle.WEIGHTS).stat().st_size <= 8e6 and card["dtype"] == "float16"
    assert "research use only" in card["licence"]
    name, _, variant = card["trained"]["config"].partition(":")
    assert name.startswith("configs/") and f"* {variant}" in (ROOT / name).read_text()
    readme = (folder / "README.md").read_text()
    assert readme.startswith(f"# {folder.name}\n")
    _, params, _ = phases.take_apart(net)
    assert f"{sum(x.size for x in params.values()):,} parameters" in readme
    assert f"{card['trained']['step']:,} steps" in readme


def test_the_fine_tuning_starts_from_the_faces_of_the_zoo():
    cfg = train.parse(["--config=configs/cartoon_stylegan.py:small64", "--dry_run"]).config
    nets = cfg.method.nets(nnx.Rngs(0))
    for name, source in cfg.init_from.items():
        fresh = {k: np.asarray(x) for k, x in phases.values(nets[name]).items()}
        assert train.start_from(nets, name, source)
        moved = [
            k for k, x in phases.values(nets[name]).items() if (np.asarray(x) != fresh[k]).any()
        ]
        assert len(moved) > 0.8 * len(fresh)
    assert cfg.method.source == cfg.init_from["g"]


def test_the_cartoon_generator_still_draws_the_same_heads_as_the_faces():
    """Its latents are those of the faces: a pair is nearer than two seeds of it are."""
    pictures = {}
    for name in ("stylegan2_celeba64", "stylegan2_anime64"):
        renderer = render.load(ROOT / "zoo" / name)
        drawn = np.concatenate(list(renderer.images(by_seed(range(16), renderer.options))))
        assert drawn.shape == (16, 64, 64, 3) and np.isfinite(drawn).all()
        grey = np.asarray(jax.image.resize(drawn.mean(3), (16, 8, 8), "linear"))
        flat = (grey - grey.mean(0)).reshape(16, -1)
        pictures[name] = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    likeness = pictures["stylegan2_celeba64"] @ pictures["stylegan2_anime64"].T
    own, others = np.diag(likeness).mean(), likeness[~np.eye(16, dtype=bool)].mean()
    assert own > others + 0.1, (own, others)


def faces():
    return render.load(ROOT / "zoo" / "stylegan2_celeba64")


def test_the_encoder_finds_pictures_of_the_faces_again():
    renderer = faces()
    encoder = encode.find("auto", ROOT / "zoo" / "stylegan2_celeba64", renderer)
    assert encoder is not None and encoder.passes == 2
    targets = np.concatenate(list(renderer.images(by_seed(range(8), renderer.options))))
    targets = render.to_uint8(targets)
    looking = Projector(renderer, distance.Distance("pixels"), Projection(steps=0))
    mean = np.tile(looking.mean, (8, renderer.num_ws, 1))
    before, after = looking(targets, start=mean), looking(targets, start=encoder(targets))
    assert after.mse.mean() < 0.25 * before.mse.mean(), (after.mse, before.mse)


@pytest.fixture
def edits(tmp_path, monkeypatch):
    """Generator, classifier and one deviation of some attributes; a fifth of the usual pictures."""
    monkeypatch.setenv("ARTIFYGAN_CACHE", str(tmp_path))
    monkeypatch.setattr(attributes, "SAMPLES", 2000)
    renderer, judge = faces(), attributes.Judge(str(ROOT / "zoo" / "celeba_attributes"))
    found, every = attributes.find(renderer, judge), tuple(range(renderer.num_ws))
    names = ("Smiling", "Bangs", "Blond_Hair")
    return renderer, judge, {n: Direction(found.direction(n)[None], every) for n in names}


@pytest.mark.slow
def test_edits_raise_their_attribute_more_than_others_and_keep_the_person(edits, tmp_path):
    renderer, judge, moves = edits
    ws = renderer.ws(by_seed(range(100), renderer.options))
    likeness = None
    weights = SHARED / "data" / "weights" / "mobilefacenet_068.pth"
    if weights.exists():  # without it the logits alone are looked at
        convert.convert("mobilefacenet", str(weights), str(tmp_path / "m"))
        likeness = Likeness(str(tmp_path / "m"))
    for row in attributes.measured(renderer, judge, ws, moves, 2.0, likeness):
        assert row["raised"] > 0.8 and row["target"] > 1.5 * row["others"], row
        if likeness is not None:
            assert row["identity"] > row["stranger"] + 0.2, row
