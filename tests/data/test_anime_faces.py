"""Anime faces: the cascade's file, the two engines, and crops around what is found."""

import hashlib
import threading

import numpy as np
import pytest

from artifygan_jax.data import anime_faces, listing
from artifygan_jax.data.images import UnreadablePicture, open_picture
from artifygan_jax.errors import UserError
from tests.conftest import shared


def test_a_missing_cascade_says_where_to_get_it(tmp_path):
    with pytest.raises(UserError, match="No such file.*raw.githubusercontent.com.*--cascade"):
        anime_faces.find_cascade(None, tmp_path)
    with pytest.raises(UserError, match="my.xml"):
        anime_faces.find_cascade(tmp_path / "my.xml", tmp_path)


def test_another_file_is_refused_by_its_hash(tmp_path):
    (tmp_path / anime_faces.NAME).write_text("<opencv_storage/>")
    with pytest.raises(UserError, match="not the published.*get it again"):
        anime_faces.find_cascade(None, tmp_path)


def test_the_right_file_is_found_in_the_cache_and_by_path(tmp_path, monkeypatch):
    monkeypatch.setattr(anime_faces, "SHA256", hashlib.sha256(b"cascade").hexdigest())
    (tmp_path / anime_faces.NAME).write_bytes(b"cascade")
    assert anime_faces.find_cascade(None, tmp_path) == b"cascade"
    assert anime_faces.find_cascade(tmp_path / anime_faces.NAME, "/nowhere") == b"cascade"


def test_equalised_is_opencvs():
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    for grey in (
        rng.integers(0, 256, (40, 50)),
        rng.integers(90, 130, (33, 17)),
        rng.normal(100, 20, (64, 64)).clip(0, 255),
        np.full((8, 8), 7),
    ):
        grey = grey.astype(np.uint8)
        np.testing.assert_array_equal(anime_faces.equalised(grey), cv2.equalizeHist(grey))


def test_an_engine_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(anime_faces, "_opencv", lambda: None)
    with pytest.raises(UserError, match="no cascades"):
        anime_faces.AnimeFaces(b"", engine="opencv")
    with pytest.raises(UserError, match="auto, opencv and skimage"):
        anime_faces.AnimeFaces(b"", engine="dlib")


def engine(found):
    """An `AnimeFaces` whose cascade finds `found`, (x, y, w, h) in the picture that it is given."""
    faces = anime_faces.AnimeFaces.__new__(anime_faces.AnimeFaces)
    faces._search = found
    faces._lock = threading.Lock()
    return faces


def test_boxes_are_the_largest_first_and_in_pixels_of_the_large_picture():
    sizes = []

    def search(grey):
        sizes.append(grey.shape)
        return [(0, 0, 10, 10), (50, 30, 20, 20), (5, 30, 20, 20)]

    found = engine(search)(np.zeros((1024, 2048, 3), np.uint8))
    assert sizes == [(512, 1024)]
    assert found == [(10, 60, 50, 100), (100, 60, 140, 100), (0, 0, 20, 20)]


def test_crops_have_their_margin_and_their_number():
    def find(rgb):
        return [(10, 20, 30, 60), (0, 0, 10, 10)]

    rgb = np.zeros((100, 100, 3), np.uint8)
    assert anime_faces.cropper(find, 0.25)(rgb, "a") == [(-10, 10, 50, 70)]
    assert anime_faces.cropper(find, 0, "all")(rgb, "a") == [(0, 20, 40, 60), (0, 0, 10, 10)]


def test_a_picture_without_a_face_is_left_out_with_the_reason():
    crop = anime_faces.cropper(lambda rgb: [], 0.5)
    with pytest.raises(UnreadablePicture, match="a.png: no face found"):
        crop(np.zeros((9, 9, 3), np.uint8), "a.png")


@pytest.mark.parametrize("options", [{"margin": -1}, {"margin": 0, "faces": "second"}])
def test_wrong_options_of_a_crop_are_named(options):
    with pytest.raises(UserError, match="allowed"):
        anime_faces.cropper(lambda rgb: [], **options)


@pytest.fixture(scope="module")
def cascade():
    return anime_faces.find_cascade(shared("data", "weights", anime_faces.NAME), "")


def test_real_anime_faces_are_found_in_their_middle(cascade):
    pytest.importorskip("skimage")
    faces = anime_faces.AnimeFaces(cascade)
    place = shared("data", "selfie2anime", "selfie2anime.zip") / "trainB"
    middles = []
    for entry in listing.list_pictures(place)[::160]:
        boxes = faces(open_picture(entry.read(), name=entry.name).rgb)
        if boxes:
            left, top, right, bottom = boxes[0]
            assert right - left > 60
            middles.append(((left + right) / 2, (top + bottom) / 2))
    assert len(middles) >= 9
    assert np.abs(np.median(middles, axis=0) - 128).max() < 40


def test_pictures_smaller_than_the_window_have_no_face(cascade):
    pytest.importorskip("skimage")
    faces = anime_faces.AnimeFaces(cascade)
    assert faces(np.zeros((10, 300, 3), np.uint8)) == []
    assert faces(np.full((64, 64, 3), 200, np.uint8)) == []
