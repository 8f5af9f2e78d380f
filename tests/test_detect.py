"""The face detector on one real photo, turned, scaled, moved, doubled, cut; its parts by hand."""

import importlib.util
import math
import threading

import numpy as np
import pytest
from PIL import Image

from artifygan_jax import detect
from artifygan_jax.data import listing, split
from artifygan_jax.data.align import Face
from artifygan_jax.data.images import open_picture
from artifygan_jax.detect import Detector
from artifygan_jax.errors import UserError
from tests.conftest import ROOT, shared

# Eyes of scikit-image's astronaut, by dlib's 68 points (face_recognition_models 0.3.0).
EYES = np.array([[203.0, 101.5], [246.5, 104.0]])


@pytest.fixture(scope="module")
def detector():
    return Detector.from_package()


@pytest.fixture(scope="module")
def photo():
    data = pytest.importorskip("skimage.data")
    return data.astronaut()


@pytest.fixture(scope="module")
def face(detector, photo):
    (face,) = detector(photo)
    return face


def error(points, reference):
    """Mean distance in units of the distance between the eyes."""
    eyes = np.hypot(*(reference[1] - reference[0]))
    return np.hypot(*(points - reference).T).mean() / eyes


def test_the_face_is_found_where_it_is(face):
    assert face.score > 0.95 and face.roll_retry == 0
    left, top, right, bottom = face.box
    assert 165 < left < 195 and 50 < top < 80 and 255 < right < 280 and 160 < bottom < 185
    assert np.abs(face.landmarks[:2] - EYES).max() < 3
    nose, mouth = face.landmarks[2], face.landmarks[3:]
    assert 115 < nose[1] < 135 and 132 < mouth[:, 1].mean() < 148


@pytest.mark.parametrize("factor", [0.4, 0.75, 2.5])
def test_another_size_of_the_photo_gives_the_same_points(detector, photo, face, factor):
    size = round(512 * factor)
    image = Image.fromarray(photo).resize((size, size), Image.Resampling.LANCZOS)
    (other,) = detector(np.asarray(image))
    assert error((other.landmarks + 0.5) * 512 / size - 0.5, face.landmarks) < 0.06


def test_the_mirrored_photo_gives_mirrored_points(detector, photo, face):
    """A bias of the crops, as of a rounded corner, would show here with both signs."""
    (other,) = detector(np.ascontiguousarray(photo[:, ::-1]))
    mirrored = (other.landmarks * [-1, 1] + [511, 0])[[1, 0, 2, 4, 3]]
    assert error(mirrored, face.landmarks) < 0.05
    assert np.abs((mirrored - face.landmarks).mean(0)).max() < 1.5


def test_a_moved_photo_gives_moved_points(detector, photo, face):
    (other,) = detector(np.ascontiguousarray(photo[7:, 13:]))
    assert np.abs(other.landmarks + [13, 7] - face.landmarks).max() < 2


@pytest.mark.parametrize("angle", [15, 30, -45, 60, 90, -90, 180])
def test_rolled_faces_are_found_and_their_points_mapped_back(detector, photo, face, angle):
    image = Image.fromarray(photo).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    there = np.array([[cosine, sine], [-sine, cosine]])
    truth = (face.landmarks - 255.5) @ there.T + np.array(image.size) / 2 - 0.5
    found = detector(np.asarray(image))[0]
    assert error(found.landmarks, truth) < 0.12
    assert abs((found.roll_retry + angle + 180) % 360 - 180) <= 30
    middle = np.reshape(found.box, (2, 2)).mean(0)
    assert np.abs(middle - truth.mean(0)).max() < 25


def test_without_turns_a_face_upside_down_is_not_looked_for(photo):
    upright = Detector.from_package(turn=False)
    turned = upright(np.ascontiguousarray(photo[::-1, ::-1]))
    assert all(face.roll_retry == 0 and face.score < detect.SURE for face in turned)


def test_several_faces_come_the_largest_first_and_always_in_one_order(detector, photo):
    part = photo[:200, 120:320]
    small = np.asarray(Image.fromarray(part).resize((120, 120), Image.Resampling.LANCZOS))
    scene = np.full((420, 520, 3), 128, np.uint8)
    scene[:120, :120] = small
    scene[150:350, 240:440] = part
    scene[250:370, 30:150] = small
    found = detector(scene)
    assert len(found) == 3
    middles = [np.reshape(face.box, (2, 2)).mean(0) for face in found]
    assert middles[0][0] > 300 and middles[1][0] < 200 and middles[2][0] < 200
    again = detector(scene)
    assert [face.box for face in again] == [face.box for face in found]


def test_faces_of_one_size_are_ordered_from_top_to_bottom():
    points = np.zeros((5, 2))
    faces = [Face(box, 1.0, points) for box in ((0, 9, 5, 14), (7, 2, 12, 7), (1, 2, 6, 7))]
    assert [f.box[:2] for f in sorted(faces, key=detect._order)] == [(1, 2), (7, 2), (0, 9)]


@pytest.mark.parametrize("cut", [np.s_[:, 215:], np.s_[95:, :], np.s_[:, :240], np.s_[:145, :]])
def test_a_face_cut_by_the_border_is_found_or_not_and_has_finite_points(detector, photo, cut):
    for face in detector(np.ascontiguousarray(photo[cut])):
        assert np.isfinite(face.landmarks).all() and np.isfinite(face.box).all()


def test_half_a_face_beside_the_border_is_found(detector, photo, face):
    (found,) = detector(np.ascontiguousarray(photo[:, 195:]))
    assert error(found.landmarks + [195, 0], face.landmarks) < 0.15


@pytest.mark.parametrize("name", ["coffee", "rocket"])
def test_pictures_without_a_face_have_none(detector, name):
    data = pytest.importorskip("skimage.data")
    assert detector(getattr(data, name)()) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 600), (600, 1), (7, 9), (19, 19), (40, 3000)])
def test_odd_shapes_have_no_face_and_are_no_error(detector, shape):
    assert detector(np.full((*shape, 3), 127, np.uint8)) == []


def test_noise_has_no_face(detector):
    assert detector(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)) == []


def test_all_sizes_of_photos_share_three_programs(detector, photo, face):
    for height, width in ((100, 300), (333, 222), (512, 512)):
        detector(np.ascontiguousarray(photo[:height, :width]))
    assert {s: p._cache_size() for s, p in detector._programs.items()} == {
        "pnet": 1, "rnet": 1, "onet": 1
    }  # fmt: skip


def test_threads_find_what_one_alone_finds(detector, photo, face):
    photos = [np.ascontiguousarray(photo[n * 5 :]) for n in range(4)]
    alone = [[f.box for f in detector(x)] for x in photos]
    together: list = [None] * 4

    def run(n):
        together[n] = [f.box for f in detector(photos[n])]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.parametrize(
    "photo", [np.zeros((9, 9, 3)), np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8)]
)
def test_what_is_no_photo_is_refused(detector, photo):
    with pytest.raises(UserError, match="a photo is uint8"):
        detector(photo)


def test_a_wrong_smallest_face_is_refused():
    with pytest.raises(UserError, match="allowed are 0.01 to 0.5"):
        Detector({}, share=2)


# -------------------------------------------------------------------------------------- parts


def test_levels_lie_apart_on_even_places_inside_the_canvas():
    for size in ((800, 600), (300, 1200), (64, 64)):
        image = Image.fromarray(np.full((size[1], size[0], 3), 255, np.uint8))
        canvas, levels = detect._canvas(image, 300)
        assert canvas.shape == detect._canvas(Image.new("RGB", (10, 10)), 300)[0].shape
        painted = np.zeros(canvas.shape[:2], int)
        for level in levels:
            assert level.left % 2 == level.top % 2 == 0
            assert min(level.width, level.height) >= 12
            painted[
                level.top : level.top + level.height, level.left : level.left + level.width
            ] += 1
        np.testing.assert_array_equal(painted, canvas[..., 0] // 255)
        assert len(levels) >= 3


def found_at(turn, score, shift=0.0, roll=0.0):
    """A face whose eyes are 40 apart and `roll` degrees off level where it was found."""
    radians = math.radians(roll + turn)
    eyes = 20 * np.array(
        [[-math.cos(radians), -math.sin(radians)], [math.cos(radians), math.sin(radians)]]
    )
    points = np.concatenate([eyes, [[0, 20], [-15, 40], [15, 40]]]) + shift
    return Face((0, 0, 80, 80), score, points, turn)


def test_the_turn_with_the_best_level_face_is_chosen():
    upright, turned = found_at(0, 0.95), found_at(90, 0.99, 100)
    assert detect._choose([[upright], [turned]]) == [turned]
    tilted = found_at(90, 0.99, 100, roll=45)
    assert detect._choose([[upright], [tilted]]) == [upright]


def test_turns_that_find_the_same_face_outvote_a_better_score():
    upright, same, other = found_at(0, 0.9), found_at(30, 0.8, 1, -30), found_at(180, 0.999, 100)
    assert detect._choose([[upright], [same], [other]]) == [upright]
    assert detect._choose([[upright], [], [other]]) == [other]


def test_a_poor_face_in_a_turned_picture_is_none():
    assert detect._choose([[], [found_at(60, 0.9)]]) == []
    good = found_at(60, 0.98)
    assert detect._choose([[], [found_at(60, 0.9), good]]) == [good]


def test_suppression_keeps_the_best_of_each_heap():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [2, 2, 6, 6]], float)
    scores = np.array([0.8, 0.9, 0.7, 0.6])
    assert detect.suppress(boxes, scores, 0.5).tolist() == [1, 2, 3]
    assert detect.suppress(boxes, scores, 0.5, "smaller").tolist() == [1, 2]
    assert detect.suppress(boxes, np.ones(4), 0.5).tolist() == [0, 2, 3]  # ties: the first
    assert detect.suppress(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []


def test_crops_take_parts_of_pixels_and_are_black_outside():
    ramp = np.tile(np.arange(0, 200, 2, dtype=np.uint8), (100, 1))
    image = Image.fromarray(np.stack([ramp] * 3, -1))
    crops = detect._crops(image, np.array([[10.5, 10, 34.5, 34], [-24, 0, 24, 48]]), 24)
    # pixel n of the crop is the mean of halves of columns n + 10 and n + 11 of the ramp
    np.testing.assert_allclose(crops[0, 5, 1:-1, 0], 2 * np.arange(1, 23) + 21, atol=1)
    assert crops[1, :, :11].max() == 0 and crops[1, 5, 20, 0] > 0


def test_the_second_detector_agrees_on_real_faces(detector):
    pytest.importorskip("torch")
    folder = shared("data", "weights")
    spec = importlib.util.spec_from_file_location("face_mesh", ROOT / "bench" / "face_mesh.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    mesh = module.FaceMesh(folder)
    entries = listing.list_pictures(shared("data", "celeba", "img_align_celeba.zip"))
    held = split.held_out([entry.name for entry in entries])
    errors, high = [], []
    for entry in [e for e, keep in zip(entries, held) if keep][:16]:
        rgb = open_picture(entry.read(), name=entry.name).rgb
        ours, theirs = detector(rgb)[0].landmarks, mesh(rgb)
        errors.append(error(ours, theirs))
        eyes = np.hypot(*(theirs[1] - theirs[0]))
        high.append((ours - theirs)[:2, 1].mean() / eyes)
    assert np.median(errors) < 0.08
    assert abs(np.median(high)) < 0.05  # the eyes are not higher than the mesh's
