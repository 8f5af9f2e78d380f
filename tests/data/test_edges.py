"""Edge smoothing is the shared recipe, pixel for pixel."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from artifygan_jax.data.edges import deck_edges, file_grey, smooth, smoother
from artifygan_jax.data.faces import Faces
from artifygan_jax.data.prepared import prepare
from artifygan_jax.errors import UserError
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


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (3, 40)])
def test_tiny_pictures_are_smoothed_too(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert smooth(image).shape == image.shape


def test_smoothing_equals_the_golden_pictures():
    golden = np.load(shared("golden", "edge_smooth.npz"), allow_pickle=False)
    for i in range(3):
        image = np.ascontiguousarray(golden[f"{i}/resized_bgr"][..., ::-1])
        out = smooth(image, golden[f"{i}/gray_resized"])[..., ::-1]
        np.testing.assert_array_equal(out, golden[f"{i}/smooth_bgr"])


def test_every_pixel_is_truncated_as_whole_256ths():
    # Blurred everywhere: noise has edges at every place, and its 256ths take all values.
    image = np.random.default_rng(1).integers(0, 256, (96, 80, 3), np.uint8)
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), "reflect").astype(np.int64)
    taps = (1, 4, 6, 4, 1)
    rows = sum(w * padded[k : k + 96] for k, w in enumerate(taps))
    total = sum(w * rows[:, k : k + 80] for k, w in enumerate(taps))
    assert len(np.unique(total % 256)) == 256
    np.testing.assert_array_equal(smooth(image), total // 256)


def test_the_picture_that_is_given_is_left_alone():
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    image.flags.writeable = False  # as Pillow's arrays are
    before = image.copy()
    assert (smooth(image) != before).any()
    np.testing.assert_array_equal(image, before)


def test_grey_is_what_opencv_reads_from_a_png(tmp_path):
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    image[:2] = [[0, 0, 0]] * 64 + [[255, 255, 255]] * 64
    Image.fromarray(image).save(tmp_path / "a.png")
    read = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(file_grey(image), read)
    assert (read != cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)).any()


def script(path, size: int) -> np.ndarray:
    """The trainers' script in its order, with OpenCV reading the file twice; RGB."""
    import cv2

    colour = cv2.resize(cv2.imread(str(path)), (size, size))
    grey = cv2.resize(cv2.imread(str(path), 0), (size, size))
    mask = cv2.dilate(cv2.Canny(grey, 100, 200), np.ones((5, 5), np.uint8)) != 0
    padded = np.pad(colour, ((2, 2), (2, 2), (0, 0)), "reflect").astype(float)
    kernel = cv2.getGaussianKernel(5, 0) @ cv2.getGaussianKernel(5, 0).T
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (0, 1))
    blurred = np.einsum("yxcij,ij->yxc", windows, kernel)
    return np.where(mask[..., None], blurred.astype(np.uint8), colour)[..., ::-1]


def prepared(folder, pictures: dict[str, np.ndarray], **options) -> dict[str, np.ndarray]:
    """What `prepare smooth` writes for pictures that lie on disk as PNG."""
    (folder / "in").mkdir()
    for name, rgb in pictures.items():
        Image.fromarray(rgb).save(folder / "in" / f"{name}.png")
    prepare(folder / "in", folder / "out", smoother(**options), verb="smooth", options=options)
    return {p.stem: np.asarray(Image.open(p)) for p in (folder / "out").glob("*.png")}


@pytest.mark.parametrize("size", [48, 100])
def test_a_prepared_file_is_what_the_script_makes_of_it(size, tmp_path):
    drawn = Faces("cartoon", 3, 0, 64)
    made = prepared(tmp_path, {str(i): drawn[i][:, i:] for i in range(3)}, size=size)
    for i in range(3):
        expected = script(tmp_path / "in" / f"{i}.png", size)
        np.testing.assert_array_equal(made[str(i)], expected)


def test_prepared_files_are_the_golden_pictures(tmp_path):
    golden = np.load(shared("golden", "edge_smooth.npz"), allow_pickle=False)
    size = json.loads(str(golden["meta"]))["options"]["img_size"]
    files = {str(i): np.ascontiguousarray(golden[f"{i}/picture_bgr"][..., ::-1]) for i in range(3)}
    made = prepared(tmp_path, files, size=size)
    for i in range(3):
        np.testing.assert_array_equal(made[str(i)][..., ::-1], golden[f"{i}/smooth_bgr"])


def test_without_a_size_the_file_keeps_its_own(tmp_path):
    picture = Faces("cartoon", 1, 0, 64)[0][:50]
    made = prepared(tmp_path, {"a": picture})["a"]
    np.testing.assert_array_equal(made, smooth(picture, file_grey(picture)))


def test_the_decks_variant_is_a_blurred_edge_map_on_black(tmp_path):
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:, 20:] = 45  # a gradient of 180: an edge for 50/150 and none for 100/200
    np.testing.assert_array_equal(smooth(picture), picture)
    (made,) = smoother(variant="deck")(picture, "a")
    assert made.rgb.shape == picture.shape and made.rgb.dtype == np.uint8
    assert (made.rgb == made.rgb[..., :1]).all()
    profile = made.rgb[20, :, 0].astype(int)
    bell = np.exp(-0.5 * (np.arange(-6, 7) / 1.5) ** 2)
    expected = np.zeros(40)
    expected[profile.argmax() - 6 : profile.argmax() + 7] = 255 * bell / bell.sum()
    assert abs(profile.argmax() - 19.5) <= 1
    np.testing.assert_allclose(profile, expected, atol=0.51)


def test_variants_and_sizes_that_are_not_there_are_named():
    with pytest.raises(UserError, match=r"variant 'dek' \(did you mean 'deck'\?\); allowed are"):
        smoother(variant="dek")
    with pytest.raises(UserError, match="size 3; allowed are 16 to 8000"):
        smoother(3)


@pytest.mark.parametrize("module, call", [("cv2", smoother), ("skimage.filters", deck_edges)])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(module, call, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"not installed: pip install 'artifygan_jax\[prepare\]'"):
        call(*([np.zeros((8, 8, 3), np.uint8)] if call is deck_edges else []))
