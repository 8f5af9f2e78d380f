"""FFHQ's square from five points, cutting it out, pasting it back, and what `prepare align` does."""

import math

import numpy as np
import pytest
from PIL import Image

from artifygan_jax.data import align, prepared
from artifygan_jax.data.align import Face
from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.errors import UserError

# Eyes 40 apart at y = 100, mouth 50 below: FFHQ's square by hand is 90 wide on each side of x = 100.
LEVEL = np.array([[80, 100], [120, 100], [100, 120], [85, 150], [115, 150]], float)
SQUARE = align.quad(LEVEL)


def scene(size=256):
    """A smooth picture, the same function of place at any size: uint8 `[size, size, 3]`."""
    v, u = np.mgrid[:size, :size] + 0.5
    u, v = u / size * 2 * np.pi, v / size * 2 * np.pi
    waves = [np.sin(3 * u + v), np.cos(2 * v - u), np.sin(4 * v) * np.cos(3 * u)]
    return (127.5 + 100 * np.stack(waves, -1)).round().astype(np.uint8)


def turned(rgb, points, angle):
    """Picture and points turned counter-clockwise about the middle; the same size."""
    image = Image.fromarray(rgb).rotate(angle, Image.Resampling.BICUBIC)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    middle = np.array(image.size) / 2 - 0.5
    there = np.array([[cosine, sine], [-sine, cosine]])
    return np.asarray(image), (points - middle) @ there.T + middle


def mean_difference(a, b):
    return np.abs(a.astype(float) - b).mean()


def test_the_square_of_a_level_face_is_known():
    # x = (40, 0) - flip((0, 50)) * (-1, 1) = (90, 0), of length max(2 * 40, 1.8 * 50) = 90
    expected = [[10, 15], [10, 195], [190, 195], [190, 15]]
    np.testing.assert_allclose(align.quad(LEVEL), expected, atol=1e-9)


def test_a_wide_face_is_measured_by_its_eyes():
    points = LEVEL.copy()
    points[3:, 1] = 130  # eye to mouth 30: 1.8 * 30 < 2 * 40
    assert np.ptp(align.quad(points)[:, 0]) == pytest.approx(160)


@pytest.mark.parametrize("angle", [30, 90, 180, -45])
def test_the_square_turns_and_grows_with_the_face(angle):
    _, points = turned(np.zeros((256, 256, 3), np.uint8), LEVEL, angle)
    _, corners = turned(np.zeros((256, 256, 3), np.uint8), align.quad(LEVEL), angle)
    np.testing.assert_allclose(align.quad(points), corners, atol=1e-9)
    np.testing.assert_allclose(align.quad(3 * points + 7), 3 * corners + 7, atol=1e-9)


@pytest.mark.parametrize(
    "points",
    [np.full((5, 2), np.nan), np.zeros((4, 2)), np.zeros((5, 2)), np.full((5, 2), np.inf)],
)
def test_points_that_are_none_are_refused(points):
    with pytest.raises(UserError, match="landmarks"):
        align.quad(points)


@pytest.mark.parametrize("size", [64, 100, 256, 1024])
def test_a_square_of_whole_pixels_is_the_resized_crop(size):
    rgb = scene()
    corners = np.array([[19.5, 29.5], [19.5, 179.5], [169.5, 179.5], [169.5, 29.5]])
    crop = Image.fromarray(rgb[30:180, 20:170]).resize((size, size), Image.Resampling.LANCZOS)
    ours = align.align(rgb, corners, size)
    assert ours.shape == (size, size, 3) and ours.dtype == np.uint8
    inner = slice(size // 20, -size // 20)  # at the rim the crop knows nothing of its neighbours
    assert mean_difference(ours[inner, inner], np.asarray(crop)[inner, inner]) < 0.8


@pytest.mark.parametrize("angle", [15, 90, -60])
def test_a_turned_photo_gives_the_same_picture(angle):
    rgb, points = scene(), LEVEL * 0.5 + 70  # all of the square stays inside
    upright = align.align(rgb, align.quad(points), 96)
    other, there = turned(rgb, points, angle)
    assert mean_difference(align.align(other, align.quad(there), 96), upright) < 1.0


@pytest.mark.parametrize("factor", [0.5, 2, 8])
def test_a_larger_photo_gives_the_same_picture(factor):
    points = LEVEL * 0.8 + 40
    upright = align.align(scene(), align.quad(points), 64)
    other, there = scene(int(256 * factor)), (points + 0.5) * factor - 0.5
    assert mean_difference(align.align(other, align.quad(there), 64), upright) < 1.0


def test_the_eyes_lie_where_ffhq_has_them():
    """A dot at each eye is found at the place that the square gives it."""
    rgb = np.zeros((256, 256, 3), np.uint8)
    for x, y in LEVEL[:2].astype(int):
        rgb[y - 1 : y + 2, x - 1 : x + 2] = 255
    bright = align.align(rgb, align.quad(LEVEL), 180)[..., 0].astype(float)
    for x, half in zip(LEVEL[:2, 0], (slice(0, 90), slice(90, 180))):
        weights = bright[:, half]
        row, column = (np.indices(weights.shape) * weights).sum((1, 2)) / weights.sum()
        # the square begins at (10, 15) and is as large as its picture: one pixel is one pixel
        np.testing.assert_allclose([row, column + half.start], [85 - 0.5, x - 10 - 0.5], atol=0.1)


def test_what_lies_outside_is_mirrored_and_fades():
    rgb = scene()
    points = LEVEL - [60, 90]  # the square reaches 50 and 75 pixels over the border
    out = align.align(rgb, align.quad(points), 180)
    sharp = np.abs(np.diff(out[:, 100:].astype(int), axis=1)).mean()
    faded = np.abs(np.diff(out[:20, :60].astype(int), axis=1)).mean()
    assert faded < sharp / 2
    # inside, away from the seam, the photo is untouched
    assert mean_difference(out[110:170, 110:170], rgb[35:95, 60:120]) < 12


@pytest.mark.parametrize("shift", [-54, -40, 30, 55])
def test_a_square_mostly_outside_still_gives_a_picture(shift):
    out = align.align(scene(64), align.quad(LEVEL * 0.3 + shift), 64)
    assert out.shape == (64, 64, 3) and 0 < out.mean() < 255


def test_a_face_far_larger_than_the_photo_needs_no_large_memory():
    out = align.align(scene(64), align.quad(LEVEL * 1.3 - 100), 1024)
    assert out.shape == (1024, 1024, 3)


def test_no_photo_is_too_small():
    for shape in ((1, 1), (1, 50), (7, 9)):
        rgb = np.full((*shape, 3), 90, np.uint8)
        points = LEVEL / 90 * min(shape) / 2 - 0.5
        assert np.all(align.align(rgb, align.quad(points), 64) == 90)


@pytest.mark.parametrize(
    "corners", [np.full((4, 2), np.nan), np.zeros((4, 2)), 9.0 * SQUARE, SQUARE + 600]
)
def test_a_square_that_is_not_on_the_photo_is_refused(corners):
    with pytest.raises(UserError, match="not on the photo"):
        align.align(scene(), corners, 64)


@pytest.mark.parametrize("angle", [0, 20, 90])
def test_pasting_back_what_was_cut_out_changes_little(angle):
    rgb, points = turned(scene(), LEVEL * 0.5 + 70, angle)
    corners = align.quad(points)
    back = align.paste(rgb, align.align(rgb, corners, 256), corners, 0.1)
    assert back.shape == rgb.shape and back.dtype == np.uint8
    assert np.abs(back.astype(int) - rgb).max() <= 12
    assert mean_difference(back, rgb) < 0.5


def test_pasting_changes_the_square_and_nothing_else():
    rgb = np.zeros((100, 120, 3), np.uint8)
    corners = np.array([[29.5, 19.5], [29.5, 69.5], [79.5, 69.5], [79.5, 19.5]])
    white = np.full((200, 200, 3), 255, np.uint8)
    hard = align.paste(rgb, white, corners, 0)
    assert np.all(hard[21:69, 31:79] == 255)
    assert hard[:20].max() == hard[70:].max() == hard[:, :30].max() == hard[:, 80:].max() == 0
    soft = align.paste(rgb, white, corners, 0.5)[..., 0].astype(int)
    assert soft[45, 55] > 245 and 100 < soft[45, 42] < 160
    assert np.all(np.diff(soft[45, 30:55]) >= 0)
    assert rgb.max() == 0  # the photo given is not written to


def test_pasting_over_the_border_and_beside_the_photo():
    rgb = scene(64)
    white = np.full((32, 32, 3), 255, np.uint8)
    over = align.paste(rgb, white, align.quad(LEVEL * 0.3 - 30), 0.1)
    assert not np.array_equal(over[:10, :10], rgb[:10, :10])
    np.testing.assert_array_equal(align.paste(rgb, white, align.quad(LEVEL + 500), 0.1), rgb)


def test_a_wrong_feather_is_refused():
    with pytest.raises(UserError, match="feather is 0.6"):
        align.paste(scene(), scene(), align.quad(LEVEL), 0.6)


# ------------------------------------------------------------------------------------- the verb


def finds(*faces):
    return lambda rgb: list(faces)


def face(shift=0.0, turn=0):
    return Face((0, 0, 50, 50), 0.99, LEVEL + shift, turn)


def test_own_landmarks_go_before_the_detector():
    def never(rgb):
        raise AssertionError("asked")

    work = align.aligner(64, landmarks={"000001.jpg": LEVEL}, detector=never)
    (made,) = work(scene(), "img_align_celeba/000001.jpg")
    assert made.facts["found"] == "own landmarks" and made.rgb.shape == (64, 64, 3)
    np.testing.assert_array_equal(made.rgb, align.align(scene(), align.quad(LEVEL), 64))


def test_the_facts_give_back_the_transform():
    (made,) = align.aligner(64, detector=finds(face()))(scene(), "a.png")
    np.testing.assert_allclose(made.facts["quad"], align.quad(LEVEL), atol=1e-3)
    assert made.facts["found"] == "detector" and made.facts["score"] == 0.99
    assert np.shape(made.facts["landmarks"]) == (5, 2)


def test_a_turn_of_the_picture_is_said():
    (made,) = align.aligner(64, detector=finds(face(turn=-90)))(scene(), "a.png")
    assert made.facts["found"] == "detector, picture turned by -90 degrees"


def test_two_faces_give_the_largest_or_all_under_names_of_their_own():
    two = finds(face(), face(shift=20))
    assert [m.part for m in align.aligner(64, detector=two)(scene(), "a")] == [""]
    made = align.aligner(64, detector=two, faces="all")(scene(), "a")
    assert [m.part for m in made] == ["", "_2"]
    assert made[0].facts["quad"] != made[1].facts["quad"]


def test_no_face_is_left_out_with_the_reason():
    with pytest.raises(UnreadablePicture, match="a.png: no face found"):
        align.aligner(64, detector=finds())(scene(), "a.png")
    with pytest.raises(UnreadablePicture, match="a.png: no landmarks"):
        align.aligner(64)(scene(), "a.png")


def test_no_face_can_give_the_centre_and_a_note():
    rgb = scene()[:128]
    (made,) = align.aligner(128, detector=finds(), no_face="center")(rgb, "a.png")
    assert made.facts["found"] == "centre" and made.facts["note"] == "no face found"
    np.testing.assert_array_equal(made.rgb, rgb[:, 64:192])
    np.testing.assert_array_equal(
        np.array(made.facts["quad"])[[0, 2]], [[63.5, -0.5], [191.5, 127.5]]
    )


def test_broken_landmarks_leave_the_picture_out():
    work = align.aligner(64, landmarks={"a": np.zeros((5, 2))})
    with pytest.raises(UnreadablePicture, match="a: the landmarks are all in one place"):
        work(scene(), "a")


@pytest.mark.parametrize("options", [{"size": 8}, {"faces": "both"}, {"no_face": "centre"}])
def test_wrong_options_are_named(options):
    with pytest.raises(UserError, match="allowed are"):
        align.aligner(**{"size": 64, **options})


def test_a_folder_is_prepared_and_pictures_without_a_face_are_listed(tmp_path):
    (tmp_path / "photos").mkdir()
    for name, rgb in (("face.png", scene()), ("none.png", scene()[:, ::-1])):
        Image.fromarray(rgb).save(tmp_path / "photos" / name)
    first = scene()[0, 0].tolist()

    def detector(rgb):
        return [face()] if rgb[0, 0].tolist() == first else []

    work = align.aligner(64, detector=detector)
    summary = prepared.prepare(
        tmp_path / "photos", tmp_path / "out", work, verb="align", options={"size": 64}
    )
    assert summary["done"] == 1 and summary["failed"] == 1
    assert summary["failures"] == [{"input": "none.png", "reason": "no face found"}]
    record = prepared.read_journal(tmp_path / "out")["face.png"]["outputs"][0]
    assert Image.open(tmp_path / "out" / record["file"]).size == (64, 64)
    np.testing.assert_allclose(record["quad"], SQUARE, atol=1e-3)
