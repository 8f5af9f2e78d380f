"""`prepare images`: crops lie where they should, sizes are as asked, pixels as a stream makes them."""

import numpy as np
import pytest
from PIL import Image

from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.data.prepared import prepare
from artifygan_jax.data.streams import square
from artifygan_jax.data.transforms import inner_square, resizer
from artifygan_jax.errors import UserError


def ramp(height: int, width: int) -> np.ndarray:
    """Red tells the column, green the row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, 0 * x], -1).astype(np.uint8)


def one(work, picture: np.ndarray) -> np.ndarray:
    (made,) = work(picture, "a.png")
    assert made.part == "" and made.rgb.dtype == np.uint8
    return made.rgb


@pytest.mark.parametrize("shape", [(40, 100), (100, 40), (33, 34)])
@pytest.mark.parametrize("size", [16, 20, 64])
def test_the_longest_side_becomes_size_and_the_aspect_is_kept(shape, size):
    out = one(resizer(size), ramp(*shape))
    assert max(out.shape) == size
    assert abs(min(out.shape[:2]) - size * min(shape) / max(shape)) <= 0.5


def test_a_line_keeps_at_least_one_pixel():
    assert one(resizer(16), ramp(1, 200)).shape == (1, 16, 3)


@pytest.mark.parametrize("shape", [(40, 101), (90, 57), (64, 64), (32, 32)])
def test_centre_squares_are_the_pixels_that_a_stream_would_make(shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    np.testing.assert_array_equal(one(resizer(32, "center"), picture), square(picture, 32))


def test_without_a_size_crops_keep_their_pixels():
    picture = ramp(40, 101)
    assert one(resizer(None), picture) is not None
    np.testing.assert_array_equal(one(resizer(None), picture), picture)
    np.testing.assert_array_equal(one(resizer(None, "center"), picture), picture[:, 30:70])


def test_at_its_own_size_a_picture_stays_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    np.testing.assert_array_equal(one(resizer(24), picture), picture)


def test_shrinking_has_antialias():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255  # every second column: without antialias black or white
    out = one(resizer(16), stripes)
    assert 110 < out[4:-4, 4:-4].min() and out[4:-4, 4:-4].max() < 145


def test_smaller_pictures_are_enlarged_or_left_out_with_the_reason():
    small, wide = ramp(20, 30), ramp(20, 64)
    assert one(resizer(32), small).shape == (21, 32, 3)
    assert one(resizer(32, upsize=False), wide).shape == (10, 32, 3)  # its longest side shrinks
    with pytest.raises(UnreadablePicture, match="30x20 px would be enlarged to 32"):
        resizer(32, upsize=False)(small, "a")
    with pytest.raises(UnreadablePicture, match="20x20 px would be enlarged to 32"):
        resizer(32, "center", upsize=False)(wide, "a")


def test_each_box_becomes_a_square_picture_with_its_place_written_down():
    def boxes(rgb, name):
        assert name == "a.png"
        return [(10, 20, 30, 40), (50, 10, 60, 40)]

    first, second = resizer(None, boxes)(ramp(60, 90), "a.png")
    np.testing.assert_array_equal(first.rgb, ramp(60, 90)[20:40, 10:30])
    np.testing.assert_array_equal(second.rgb, ramp(60, 90)[10:40, 40:70])
    assert (first.part, second.part) == ("", "_2")
    assert second.facts == {"box": [40, 10, 70, 40]}
    assert [m.rgb.shape for m in resizer(16, boxes)(ramp(60, 90), "a.png")] == [(16, 16, 3)] * 2


@pytest.mark.parametrize(
    "box, expected",
    [
        ((10, 10, 30, 20), (10, 5, 30, 25)),  # the longer side counts
        ((-10, -10, 10, 10), (0, 0, 20, 20)),  # moved inside
        ((90, 50, 120, 70), (70, 30, 100, 60)),
        ((0, -50, 100, 110), (20, 0, 80, 60)),  # too large: as large as the picture allows
        ((200, 200, 210, 210), (90, 50, 100, 60)),
    ],
)
def test_squares_lie_inside_the_picture(box, expected):
    assert inner_square(box, 100, 60) == expected


def test_any_box_of_a_detector_gives_a_square_picture():
    rng = np.random.default_rng(0)
    boxes = [tuple(box) for box in rng.uniform(-60, 160, (400, 4))]
    boxes += [(5, 5, 5, 5), (33.3, 9, 66.6, 9), (90, 50, 20, 10)]  # empty, flat, turned over
    for size in (None, 16):
        for made in resizer(size, lambda *_: boxes)(ramp(60, 97), "a"):
            height, width, _ = made.rgb.shape
            assert height == width == (size or width) and 1 <= height <= 60


def test_a_picture_without_a_face_is_left_out_in_the_words_of_the_detector(tmp_path):
    def boxes(rgb, name):
        raise UnreadablePicture(name, "no face found")

    Image.fromarray(ramp(20, 20)).save(tmp_path / "a.png")
    work = resizer(16, boxes)
    summary = prepare(tmp_path / "a.png", tmp_path / "out", work, verb="images", options={})
    assert summary["failures"] == [{"input": "a.png", "reason": "no face found"}]


@pytest.mark.parametrize("size", [0, -5, 15, 8001])
def test_sizes_that_cannot_be_are_refused(size):
    with pytest.raises(UserError, match=f"size {size}; allowed are 16 to 8000 px"):
        resizer(size)


def test_a_misspelt_crop_is_named_with_the_allowed_ones():
    with pytest.raises(UserError, match=r"crop 'centre' \(did you mean 'center'\?\)"):
        resizer(64, "centre")


def test_from_the_file_alpha_ink_and_turned_pictures_arrive_as_they_look(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    see_through = np.dstack([ramp(40, 40), np.zeros((40, 40), np.uint8)])
    see_through[:, 20:, 3] = 255
    Image.fromarray(see_through).save(folder / "alpha.png")  # 32 bits a pixel
    turned = Image.Exif()
    turned[0x0112] = 6  # upright after a quarter turn
    Image.fromarray(ramp(40, 80)).save(folder / "turned.png", exif=turned)
    Image.new("CMYK", (40, 40), (0, 255, 255, 0)).save(folder / "ink.jpg", quality=100)
    deep = np.full((40, 40), 0x8080, np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    out = tmp_path / "out"
    black = (0, 0, 0)
    summary = prepare(
        folder, out, resizer(20), verb="images", options={"size": 20}, background=black
    )
    assert (summary["done"], summary["failed"]) == (4, 0)
    pictures = {p.stem: Image.open(p) for p in out.glob("*.png")}
    assert {p.mode for p in pictures.values()} == {"RGB"}  # 24 bits a pixel
    alpha = np.asarray(pictures["alpha"])
    assert alpha[:, :9].max() <= 2 and alpha[10, 19, 0] > 30
    assert pictures["turned"].size == (10, 20)
    assert np.asarray(pictures["turned"])[0, 0, 1] > 30  # the lower left corner is now on top
    assert np.asarray(pictures["ink"])[10, 10].tolist() == pytest.approx([255, 0, 0], abs=3)
    assert np.unique(pictures["deep"]).tolist() == [128]
