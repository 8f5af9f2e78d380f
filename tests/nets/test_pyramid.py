"""The pyramid against NumPy, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.nets import pyramid


def net():
    return pyramid.build("pyramid", {}, rngs=nnx.Rngs(0))


def pictures(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16])
def test_blur_is_the_mean_of_cells_and_drops_what_does_not_fill_one(side):
    x = pictures(2, 37, 34, 3)
    found = net()(jnp.asarray(x), (f"blur{side}",))[f"blur{side}"]
    assert found.shape == (2, 37 // side, 34 // side, 3)
    for row, column in ((0, 0), (37 // side - 1, 34 // side - 1)):
        cell = x[:, row * side : (row + 1) * side, column * side : (column + 1) * side]
        # float32 means of at most 256 numbers of size one
        np.testing.assert_allclose(found[:, row, column], cell.mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize("side", [1, 2, 4, 8, 16])
def test_edges_are_four_times_the_luma_steps_down_and_across(side):
    x = jnp.asarray(pictures(2, 36, 40, 3))
    maps = net()(x, (f"blur{side}", f"edges{side}"))
    luma = np.asarray(maps[f"blur{side}"]) @ np.array([0.299, 0.587, 0.114], np.float32)
    down, across = np.diff(luma, axis=1)[:, :, :-1], np.diff(luma, axis=2)[:, :-1]
    expected = 4 * np.stack([down, across], -1)
    np.testing.assert_allclose(maps[f"edges{side}"], expected, atol=2e-6)  # four times float32's


def test_a_ramp_to_the_right_has_an_edge_across_and_none_down():
    ramp = jnp.broadcast_to(jnp.linspace(-1, 1, 9)[None, None, :, None], (1, 9, 9, 3))
    edges = np.asarray(net()(ramp, ("edges1",))["edges1"])
    assert (edges[..., 0] == 0).all()
    np.testing.assert_allclose(edges[..., 1], 4 * 0.25, rtol=1e-5)  # luma weights sum to 1 rounded


def test_maps_keep_the_dtype_of_the_picture():
    x = jnp.asarray(pictures(1, 32, 32, 3), jnp.bfloat16)
    assert {m.dtype for m in net()(x, net().layers).values()} == {jnp.dtype(jnp.bfloat16)}


def test_only_the_layers_asked_are_given_in_their_order():
    assert list(net()(jnp.zeros((1, 32, 32, 3)), ("edges4", "blur2"))) == ["edges4", "blur2"]


@pytest.mark.parametrize(("layer", "side"), [("blur16", 15), ("edges8", 15), ("edges1", 1)])
def test_a_picture_too_small_for_a_layer_is_refused_instead_of_giving_nan(layer, side):
    with pytest.raises(UserError, match=f"{layer} needs pictures of at least {side + 1} px"):
        net()(jnp.zeros((1, side, 40, 3)), (layer,))
    room = jnp.zeros((1, side + 1, side + 1, 3))
    assert net()(room, (layer,))[layer].size


def test_wrong_names_are_refused_with_a_suggestion():
    with pytest.raises(UserError, match="did you mean 'edges4'"):
        net()(jnp.zeros((1, 32, 32, 3)), ("edge4",))
    with pytest.raises(UserError, match="did you mean 'pyramid'"):
        pyramid.build("pyramide", {}, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="unknown option 'channels'"):
        pyramid.build("pyramid", {"channels": 3}, rngs=nnx.Rngs(0))


def test_it_has_no_weights_and_survives_as_a_bundle(tmp_path):
    assert bundle.variables(net()) == {}
    bundle.save(tmp_path / "p", net())
    loaded, card = bundle.load(tmp_path / "p")
    assert card["parameters"] == 0
    x = jnp.asarray(pictures(1, 32, 32, 3))
    a, b = net()(x, ("edges2",)), loaded(x, ("edges2",))
    np.testing.assert_array_equal(a["edges2"], b["edges2"])
