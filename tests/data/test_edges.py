"""Edge smoothing is the shared recipe, pixel for pixel."""

import numpy as np

from artifygan_jax.data.edges import smooth
from tests.conftest import shared


def test_smoothing_equals_the_recipe_written_pixel_by_pixel():
    import cv2

    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (6, 7, 3), np.uint8), (33, 29), interpolation=0)
    mask = cv2.dilate(cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 100, 200), np.ones((5, 5)))
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), "reflect").astype(float)
    weights = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    expected = image.copy()
    for y, x in zip(*np.nonzero(mask), strict=True):
        window = padded[y : y + 5, x : x + 5]
        expected[y, x] = (window * weights[..., None]).sum((0, 1)).astype(np.uint8)
    out = smooth(image)
    np.testing.assert_array_equal(out, expected)
    assert (out != image).any()
    np.testing.assert_array_equal(out[mask == 0], image[mask == 0])


def test_a_flat_picture_stays_as_it_is():
    flat = np.full((16, 16, 3), 77, np.uint8)
    np.testing.assert_array_equal(smooth(flat), flat)


def test_smoothing_equals_the_golden_pictures():
    golden = np.load(shared("golden", "edge_smooth.npz"), allow_pickle=False)
    for i in range(3):
        image = np.ascontiguousarray(golden[f"{i}/resized_bgr"][..., ::-1])
        out = smooth(image, golden[f"{i}/gray_resized"])[..., ::-1]
        np.testing.assert_array_equal(out, golden[f"{i}/smooth_bgr"])
