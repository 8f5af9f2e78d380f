"""Layers of two generators: the golden pictures of Cartoon-StyleGAN, and bundles of exchanged weights."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.latent import render, swap
from artifygan_jax.latent.codes import Codes
from artifygan_jax.latent.render import Look
from tests import golden
from tests.conftest import shared
from tests.latent import nets


@pytest.fixture(scope="module")
def pair():
    """(arrays, meta, source, target) of the golden file, with latents of both."""
    path = shared("golden", "cartoon_stylegan.npz")
    arrays, meta = golden.load(path)
    how = dict(channels=(512,) * 4, mapping_layers=2)
    found = [
        nets.rosinality(golden.recipe(path, name, prefix), **how)
        for name, prefix in (("source", "src."), ("target", "tgt."))
    ]
    return arrays, meta, *found


def nchw(images):
    return np.asarray(images).transpose(0, 3, 1, 2)


def codes(z):
    n = len(z)
    return Codes(tuple(map(str, range(n))), np.arange(n, dtype=np.uint32), z=z)


def test_feature_swaps_are_those_of_cartoon_stylegan(pair):
    arrays, meta, source, target = pair
    z = codes(arrays["in/z"])
    ws = [jnp.asarray(net.ws(z)) for net in (target, source)]
    for m in (1, 2, 3):
        parts = target.net.synthesis, source.net.synthesis
        found = swap.features(*parts, *ws, 8 * 2 ** (m - 1))
        golden.check_out(arrays, meta, f"swap{m}_image", nchw(found))


def test_styles_of_the_source_give_freeze_style(pair):
    arrays, meta, source, target = pair
    z = codes(arrays["in/z"])
    (plain,) = target.images(z)
    golden.check_out(arrays, meta, "target_image", nchw(plain))
    for k in (2, 4):
        (found,) = target.images(z, Look(source=source, source_styles=k))
        golden.check_out(arrays, meta, f"freeze_style{k}_image", nchw(found))


def test_a_feature_swap_without_a_difference_is_the_picture():
    net = nets.renderer()
    ws = jnp.asarray(net.ws(codes(np.ones((2, 16), np.float32))))
    synthesis = net.net.synthesis
    for resolution in (4, 8, 16):
        found = swap.features(synthesis, synthesis, ws, ws, resolution)
        np.testing.assert_allclose(found, synthesis(ws), atol=1e-5)
    with pytest.raises(UserError, match="32 px that both"):
        swap.features(synthesis, synthesis, ws, ws, 32)


# ------------------------------------------------------------------------------------ weights


def side(path):
    return 0 if "mapping" in path else int(path.split("/b")[1].split("/")[0]) if "/b" in path else 4


def test_a_swapped_bundle_has_coarse_layers_of_one_and_fine_ones_of_the_other(tmp_path):
    faces, cartoon = (nets.saved(tmp_path / str(seed), seed) for seed in (0, 1))
    target, source = render.load(cartoon), render.load(faces)
    summary = swap.swap(target, source, 8, str(tmp_path / "new"))
    net, card = bundle.load(tmp_path / "new")
    found = bundle.variables(net)
    for path, x in found.items():
        parent = bundle.variables((source if side(path) <= 8 else target).net)
        assert np.array_equal(x, parent[path]), path
    assert card["swap"]["resolution"] == summary["resolution"] == 8
    assert card["licence"] == "licence 0; licence 1"
    assert (
        card["swap"]["source"]["sha256"] == json.loads((faces / "model.json").read_text())["sha256"]
    )


def test_a_soft_swap_lies_between_and_is_half_and_half_at_the_change():
    target, source = nets.renderer(1), nets.renderer(0)
    mixed = swap.weights(target, source, 8, width=0.5)
    ours, theirs = (bundle.variables(net.net) for net in (target, source))
    for path, share in {
        "synthesis/const": 1 / (1 + np.exp(1.5 / 0.5)),
        "synthesis/b8/conv0/kernel": 1 / (1 + np.exp(0.5 / 0.5)),
        "synthesis/b16/rgb/kernel": 1 / (1 + np.exp(-0.5 / 0.5)),
        "mapping/layers/0/kernel": 0.0,
    }.items():
        wanted = theirs[path] + share * (ours[path] - theirs[path])
        np.testing.assert_allclose(mixed[path], wanted, atol=1e-6, err_msg=path)
    hard = swap.weights(target, source, 8, width=1e-3)
    for path, x in swap.weights(target, source, 8).items():
        np.testing.assert_allclose(hard[path], x, atol=1e-6)


def test_nets_of_other_widths_are_named():
    target, source = nets.renderer(1), nets.renderer(0, channels=(16, 16, 4), mapping_layers=3)
    with pytest.raises(
        UserError, match=r"channels \(16, 16, 4\) and \(16, 16, 8\).*mapping_layers 3 and 2"
    ):
        swap.weights(target, source, 8)


@pytest.mark.parametrize("resolution", [2, 7, 16, 64])
def test_a_resolution_without_layers_on_both_sides_is_refused(resolution):
    with pytest.raises(UserError, match="give one of 4, 8"):
        swap.weights(nets.renderer(1), nets.renderer(0), resolution)


def test_a_bundle_that_is_there_is_kept_unless_told(tmp_path):
    target = render.load(nets.saved(tmp_path / "a", 1))
    source = render.load(nets.saved(tmp_path / "b", 0))
    out = str(tmp_path / "a")
    with pytest.raises(UserError, match="--overwrite"):
        swap.swap(target, source, 4, out)
    swap.swap(target, source, 4, out, overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    with pytest.raises(UserError, match="no model bundle"):
        swap.swap(target, source, 4, str(tmp_path / "other"), overwrite=True)
