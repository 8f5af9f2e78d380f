"""Closed forms of the losses, and the published ArtifyGAN's values."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from artifygan_jax import losses
from tests.conftest import shared


def test_bce_of_zero_logits_is_log_two_for_either_label():
    zeros = jnp.zeros((3, 4, 4, 1))
    for label in (0.0, 1.0):
        np.testing.assert_allclose(losses.bce(zeros, label), np.full(3, np.log(2)), rtol=1e-6)


def test_bce_falls_as_logits_move_to_the_label():
    up = jnp.full((1, 2, 2, 1), 3.0)
    assert losses.bce(up, 1.0)[0] < np.log(2) < losses.bce(up, 0.0)[0]


def test_bce_is_finite_and_linear_where_a_sigmoid_saturates():
    assert np.isclose(losses.bce(jnp.full((1, 1), -300.0), 1.0)[0], 300.0)


def test_lsgan_is_the_squared_distance_to_the_label_per_example():
    maps = jnp.stack([jnp.full((2, 2, 1), 0.25), jnp.full((2, 2, 1), 2.0)])
    np.testing.assert_allclose(losses.lsgan(maps, 1.0), [0.5625, 1.0])


@pytest.mark.parametrize(("reduction", "value"), [("mean", 2.0), ("sum", 2.0 * 24)])
def test_feature_l1_of_a_constant_difference(reduction, value):
    a = jnp.ones((2, 2, 2, 3))
    assert float(losses.feature_l1(a, a - 2, reduction)) == value


def logit(p):
    return np.log(p) - np.log1p(-p)


def test_adversarial_losses_equal_the_notebooks():
    """The golden maps are probabilities; float64 logits of them keep every digit that matters."""
    golden = np.load(shared("golden", "artifygan_notebook.npz"), allow_pickle=False)
    maps = {k: golden[f"in/maps/{k}"].astype(np.float64) for k in ("cartoon", "smooth", "fake")}
    logits = {k: jnp.asarray(logit(m), jnp.float32) for k, m in maps.items()}
    d = sum(losses.bce(x, float(k == "cartoon")).mean() for k, x in logits.items())
    np.testing.assert_allclose(d, golden["out64/loss/d_loss"], rtol=1e-5)  # golden README: losses
    g = losses.bce(logits["fake"], 1.0).mean()
    np.testing.assert_allclose(g, golden["out64/loss/g_adversarial"], rtol=1e-5)
    assert json.loads(str(golden["meta"]))["loss_w"] == 5e-6
