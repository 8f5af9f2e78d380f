"""The bundles in `zoo/`: whole, small, described, and what the configs that begin with them want."""

import jax
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle, phases, train
from artifygan_jax.latent import render
from artifygan_jax.latent.codes import by_seed
from tests.conftest import ROOT

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
