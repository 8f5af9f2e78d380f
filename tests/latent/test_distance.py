"""What pictures are compared by: the weights that are at hand, or pixels."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.latent import distance
from artifygan_jax.metrics.perceptual import Lpips
from artifygan_jax.nets import lpips, pyramid, squeezenet
from tests.latent import nets


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARTIFYGAN_CACHE", str(tmp_path))
    return tmp_path


def save_squeeze(folder, head=True):
    options = {"preprocess": "imagenet"}
    bundle.save(folder / "squeezenet", squeezenet.build("squeezenet", options, rngs=nnx.Rngs(0)))
    if head:
        head_net = lpips.build("lpips", {"backbone": "squeeze"}, rngs=nnx.Rngs(0))
        bundle.save(folder / "lpips_squeeze", head_net)


def pair(side):
    return np.random.default_rng(0).integers(0, 256, (2, 1, side, side, 3), np.uint8)


def between(found, a, b):
    maps = [found.maps(found.weights, jnp.asarray(x, jnp.float32) / 127.5 - 1) for x in (a, b)]
    return np.asarray(found.between(found.weights, *maps))


def test_what_is_in_the_cache_is_taken_and_pixels_where_nothing_is(cache):
    assert distance.find("auto").name == "pixels"
    save_squeeze(cache, head=False)
    assert distance.find("auto").name == "features of squeezenet"
    save_squeeze(cache)
    found = distance.find("auto")
    assert found.name == "lpips lpips_squeeze:squeezenet"
    a, b = pair(64)
    wanted = Lpips("lpips_squeeze", "squeezenet")(a, b)
    np.testing.assert_allclose(between(found, a, b), wanted, rtol=1e-4)
    assert between(found, a, a) == 0
    # an untrained head weighs all channels alike, as a backbone alone is weighed
    np.testing.assert_allclose(between(distance.find("squeezenet"), a, b), wanted, rtol=1e-4)


def test_sides_are_brought_to_what_networks_see():
    for side, seen in ((512, 256), (256, 256), (64, 64), (16, 64)):
        assert distance._seen(jnp.zeros((1, side, side, 3))).shape == (1, seen, seen, 3)


def test_pixels_count_at_every_scale():
    found = distance.find("none")
    a = jnp.zeros((1, 16, 16, 3))
    assert found.between(None, found.maps(None, a), found.maps(None, a + 0.5))[0] == 3 * 0.25
    board = jnp.asarray(np.indices((16, 16)).sum(0) % 2 * 2.0 - 1)[None, :, :, None]
    board = jnp.broadcast_to(board, a.shape)
    assert found.between(None, found.maps(None, a), found.maps(None, board))[0] == 1


def test_bundles_that_compare_nothing_are_named(cache):
    nets.saved(cache / "g")
    bundle.save(cache / "p", pyramid.build("pyramid", {}, rngs=nnx.Rngs(0)))
    save_squeeze(cache)
    for text, words in (
        ("g", "is a stylegan2 generator, whose layers"),
        ("p", "is a pyramid"),
        ("squeezenet:squeezenet", "no LPIPS head"),
        ("lpips_squeeze:p", "which p does not have"),
        ("nowhere", "no model bundle at 'nowhere'"),
    ):
        with pytest.raises(UserError, match=words):
            distance.find(text)
