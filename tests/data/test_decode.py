"""The fast way of decoding gives what Pillow gives, refuses what it refuses, and may be missing."""

import io
import sys
import threading

import numpy as np
import pytest
from PIL import Image, ImageCms

from artifygan_jax.data import decode
from artifygan_jax.data.images import UnreadablePicture, open_picture
from artifygan_jax.data.listing import list_pictures
from tests.conftest import shared

KINDS = [
    dict(),
    dict(progressive=True),
    dict(quality=95, subsampling=0),
    dict(quality=20, subsampling=1),
    dict(optimize=True, restart_marker_blocks=2),
    dict(icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
]


def photo(height: int = 45, width: int = 61) -> np.ndarray:
    """Waves and noise: every coefficient of a JPEG is in use."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 5), np.cos(y / 7), np.sin((x + y) / 11)], -1)
    noise = np.random.default_rng(0).normal(0, 12, waves.shape)
    return np.clip(128 + 90 * waves + noise, 0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray | None = None, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(photo() if pixels is None else pixels).convert(mode)
    image.save(file, "JPEG", **options)
    return file.getvalue()


def outcome(data: bytes):
    """All that a caller sees of a picture, or the words of its refusal."""
    try:
        picture = open_picture(data)
    except UnreadablePicture as error:
        return error.cause
    return picture.rgb.shape, picture.rgb.tobytes(), picture.icc, picture.notes


@pytest.fixture
def by_pillow(monkeypatch):
    """`outcome` as it is where simplejpeg is not installed."""

    def run(data: bytes):
        with monkeypatch.context() as patch:
            patch.setattr(decode, "_simplejpeg", lambda: None)
            return outcome(data)

    return run


@pytest.fixture
def fast():
    """Skips where the package is missing; what is fast then is not tested, only what is right."""
    return pytest.importorskip("simplejpeg")


@pytest.mark.parametrize("options", KINDS)
def test_pixels_and_profile_are_those_of_pillow(options, fast, by_pillow):
    data = jpeg(**options)
    assert decode.jpeg(data, (61, 45)) is not None
    assert outcome(data) == by_pillow(data)
    assert open_picture(data).rgb.flags.writeable


def test_real_pictures_are_those_of_pillow(fast, by_pillow):
    places = [("celeba", "img_align_celeba.zip"), ("coco", "train2017.zip")]
    for place in places:
        for entry in list_pictures(shared("data", *place))[::5][:12]:
            assert outcome(entry.read()) == by_pillow(entry.read()), entry.name


def test_a_picture_cut_anywhere_has_the_fate_that_pillow_gives_it(by_pillow):
    for data in (jpeg(), jpeg(progressive=True)):
        for cut in [*range(4, len(data), 41), len(data) - 2, len(data) - 1]:
            assert outcome(data[:cut]) == by_pillow(data[:cut]), cut
        assert outcome(data[: len(data) // 2]) == "truncated"


def test_damaged_pictures_have_the_fate_that_pillow_gives_them(by_pillow):
    rng = np.random.default_rng(0)
    opened = 0
    for n in range(300):
        data = bytearray(jpeg(**KINDS[n % 5]))
        for place in rng.integers(2, len(data), 2):
            data[place] = rng.integers(256)
        found = outcome(bytes(data))
        assert found == by_pillow(bytes(data)), n
        opened += isinstance(found, tuple)
    assert 30 < opened < 270  # both fates are common


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_modes_and_turned_pictures_are_left_to_pillow(mode, monkeypatch):
    turned = Image.Exif()
    turned[0x0112] = 6
    asked = []
    monkeypatch.setattr(decode, "jpeg", lambda *_: asked.append(1))
    open_picture(jpeg(mode=mode))
    open_picture(jpeg(exif=turned))
    assert asked == []
    open_picture(jpeg())
    assert asked == [1]


def test_another_size_than_that_of_the_checked_header_is_never_decoded(fast, monkeypatch):
    monkeypatch.setattr(fast, "decode_jpeg", lambda *_, **__: pytest.fail("was decoded"))
    assert decode.jpeg(jpeg(), (61, 44)) is None


def test_a_missing_package_is_looked_for_once_and_changes_nothing(monkeypatch):
    before = outcome(jpeg())
    decode._simplejpeg.cache_clear()
    try:
        monkeypatch.setitem(sys.modules, "simplejpeg", None)  # what makes an import fail
        assert decode.jpeg(jpeg(), (61, 45)) is None
        assert outcome(jpeg()) == before
        assert decode._simplejpeg.cache_info().misses == 1
    finally:
        decode._simplejpeg.cache_clear()


def test_many_threads_decode_alike():
    data = [jpeg(photo(40 + n, 50)) for n in range(4)]
    alone, wrong = [outcome(d) for d in data], []

    def work() -> None:
        for _ in range(25):
            wrong.extend(n for n, d in enumerate(data) if outcome(d) != alone[n])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
