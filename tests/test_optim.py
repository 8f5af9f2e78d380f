"""Rates, the lazy correction, freeze patterns."""

import jax.numpy as jnp
import numpy as np
import pytest

from artifygan_jax.errors import UserError
from artifygan_jax.optim import Adam, frozen_paths


def moves(spec, gradients):
    tx = spec.transform()
    x = jnp.zeros(1)
    state, out = tx.init(x), []
    for g in gradients:
        update, state = tx.update(jnp.full(1, g), state, x)
        out.append(float(update[0]))
    return np.array(out)


def adam_by_hand(lr, b1, b2, gradients, eps=1e-8):
    m = v = 0.0
    out = []
    for t, g in enumerate(gradients, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        out.append(-lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps))
    return np.array(out)


def test_adam_equals_the_algorithm_written_out():
    gradients = [0.3, -1.0, 2.0, 0.1]
    expected = adam_by_hand(2e-4, 0.5, 0.999, gradients)
    np.testing.assert_allclose(moves(Adam(2e-4), gradients), expected, rtol=1e-5)


def test_the_lazy_correction_raises_rate_and_betas_to_k_over_k_plus_one():
    gradients = [0.3, -1.0, 2.0]
    c = 16 / 17
    expected = adam_by_hand(2e-3 * c, 0.0**c, 0.99**c, gradients)
    got = moves(Adam(2e-3, b1=0.0, b2=0.99, lazy_every=16), gradients)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_the_rate_is_constant_and_then_falls_linearly_to_zero():
    spec = Adam(1.0, constant_steps=2, decay_steps=4)
    # With a constant gradient Adam moves by the rate itself.
    np.testing.assert_allclose(-moves(spec, [1.0] * 8), [1, 1, 1, 0.75, 0.5, 0.25, 0, 0], atol=1e-5)


def test_freeze_patterns_match_whole_paths():
    paths = ["down/0/kernel", "down/1/kernel", "out/kernel"]
    assert frozen_paths(["down/.*"], paths, "g") == {"down/0/kernel", "down/1/kernel"}
    assert frozen_paths([], paths, "g") == set()
    with pytest.raises(UserError, match="match no parameter: down$|match no parameter: down;"):
        frozen_paths(["down"], paths, "g")


def test_every_idle_pattern_is_named_at_once():
    with pytest.raises(UserError, match=r"one.*, two"):
        frozen_paths(["one", "two", "out/.*"], ["out/kernel", "in/kernel"], "g")
