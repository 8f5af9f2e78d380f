"""Our PNGs show the very pixels, to every reader."""

import io

import numpy as np
import pytest
from PIL import Image

from artifygan_jax.data import png
from artifygan_jax.data.images import open_picture


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (37, 53), (300, 400)])
def test_readers_find_the_pixels(shape):
    import cv2

    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    data = png.encode(rgb)
    np.testing.assert_array_equal(open_picture(data).rgb, rgb)  # looks at the checksums too
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), 1)[..., ::-1], rgb)
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", shape[::-1])


def test_views_and_flat_pictures_are_written_too():
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for view in (
        rgb[3:9, 5:25],
        rgb[:, ::-1],
        rgb.transpose(1, 0, 2),
        np.full((9, 9, 3), 255, "u1"),
    ):
        np.testing.assert_array_equal(open_picture(png.encode(view)).rgb, view)


def test_files_are_about_as_large_as_those_of_pillows_fast_level():
    y, x = np.mgrid[:128, :128]
    noise = np.random.default_rng(0).normal(0, 2, (128, 128, 3))
    rgb = np.clip(np.stack([x, y, (x + y) / 2], -1) + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG", compress_level=1)
    assert len(png.encode(rgb)) < 1.1 * len(buffer.getvalue())
