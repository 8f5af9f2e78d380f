"""Accuracies are those counted by hand."""

import numpy as np

from artifygan_jax.metrics.attributes import Accuracy, balanced
from tests.shrink import Marked


def test_balanced_is_the_mean_over_having_and_not_having():
    wanted = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], bool)
    found = np.array([[1, 0], [1, 1], [0, 0], [0, 0]], bool)
    result = balanced(found, wanted)
    np.testing.assert_allclose(result[0], (2 / 3 + 1) / 2)
    assert np.isnan(result[1])  # nobody has it


def test_logits_above_0_are_held_against_the_labels(tmp_path):
    photos = Marked("photo", 4, 5, 32)
    accuracy = Accuracy(photos, ("a", "b"), size=32)
    right = photos.marked(("a", "b"))
    numbers = dict(accuracy.run(lambda x: np.resize(2.0 * right - 1, (len(x), 2)), 0, tmp_path))
    assert numbers == {"right": 1.0, "balanced": 1.0}
    numbers = dict(accuracy.run(lambda x: np.ones((len(x), 2)), 0, tmp_path))
    assert numbers == {"right": 0.5, "balanced": 0.5}
