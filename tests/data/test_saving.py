"""Written pictures: whole or not at all, as given, and marked."""

import errno
import os
import stat
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageCms

from artifygan_jax.data import saving
from artifygan_jax.data.images import open_picture
from artifygan_jax.data.saving import save_picture, write_whole
from artifygan_jax.errors import UserError

MARK = "compositeWithTrainedAlgorithmicMedia"


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    planes = [x / width, y / height, (x + y) / (width + height)]
    return np.uint8(np.stack(planes, -1) * 200 + 30)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (7, 9), (321, 241)])
def test_png_gives_back_every_pixel_at_odd_sizes(tmp_path, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    path = save_picture(tmp_path / "a.png", pixels)
    assert np.array_equal(open_picture(path).rgb, pixels)


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".jpg", "JPEG"), (".JPEG", "JPEG"), (".webp", "WEBP")]
)
def test_the_suffix_decides_the_format_and_colours_stay_close(tmp_path, suffix, kind):
    path = save_picture(tmp_path / f"a{suffix}", smooth())
    assert Image.open(path).format == kind
    # quality 95; WebP halves the colour planes, so that single pixels move more than the mean
    error = np.abs(open_picture(path).rgb.astype(int) - smooth())
    assert error.mean() < 2 and error.max() < 16


def test_jpeg_keeps_the_colour_of_a_line_one_pixel_wide(tmp_path):
    line = np.full((32, 32, 3), (20, 40, 220), np.uint8)
    line[:, 15] = (220, 40, 20)
    rgb = open_picture(save_picture(tmp_path / "a.jpg", line)).rgb.astype(int)
    assert np.abs(rgb - line).max() < 25  # quality 95; with halved colour planes it is over 100


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_the_file_says_that_a_network_made_it(tmp_path, suffix):
    path = save_picture(tmp_path / f"a{suffix}", smooth(), software="tool 1", model='box & "ink" é')
    image = Image.open(path)
    image.load()
    xmp = image.info["XML:com.adobe.xmp" if suffix == ".png" else "xmp"]
    ((description,),) = ElementTree.fromstring(xmp)
    iptc, adobe = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/", "http://ns.adobe.com/xap/1.0/"
    mark = description.attrib[f"{{{iptc}}}DigitalSourceType"]
    assert mark == f"http://cv.iptc.org/newscodes/digitalsourcetype/{MARK}"
    assert description.attrib[f"{{{adobe}}}CreatorTool"] == 'tool 1 box & "ink" é'
    if suffix == ".png":
        assert image.text["Software"] == "tool 1"
        assert image.text["DigitalSourceType"] == MARK
        assert image.text["Model"] == 'box & "ink" é'
    else:
        assert image.getexif()[0x0131] == "tool 1"
        assert f"DigitalSourceType={MARK}; model=box" in image.getexif()[0x010E]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_place_and_camera_of_the_photo_are_not_carried_over(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "SecretCamera", 6
    exif.get_ifd(0x8825)[1] = "N"
    Image.fromarray(smooth()).save(tmp_path / "photo.jpg", exif=exif, comment=b"SecretComment")
    picture = open_picture(tmp_path / "photo.jpg")
    path = save_picture(tmp_path / f"out{suffix}", picture.rgb, icc=picture.icc)
    assert b"Secret" not in path.read_bytes()
    tags = Image.open(path).getexif()
    assert not tags.get_ifd(0x8825) and 0x0112 not in tags  # upright: nothing left to turn


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_the_colour_profile_is_kept(tmp_path, suffix):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert open_picture(save_picture(tmp_path / f"a{suffix}", smooth(), icc=icc)).icc == icc


def test_alpha_is_kept_by_png_and_webp_and_put_on_white_by_jpeg(tmp_path):
    dark = np.zeros((16, 16, 3), np.uint8)
    alpha = np.zeros((16, 16), np.uint8)
    alpha[8:] = 255
    for suffix in (".png", ".webp"):
        back = open_picture(save_picture(tmp_path / f"a{suffix}", dark, alpha=alpha))
        assert np.array_equal(back.alpha, alpha)
    rgb = open_picture(save_picture(tmp_path / "a.jpg", dark, alpha=alpha)).rgb
    assert (rgb[:8] == 255).all() and (rgb[8:] == 0).all()


def test_a_second_save_replaces_the_first_and_folders_are_made(tmp_path):
    path = tmp_path / "new" / "deep" / "a.png"
    save_picture(path, smooth())
    save_picture(path, smooth()[::-1])
    assert np.array_equal(open_picture(path).rgb, smooth()[::-1])
    assert os.listdir(path.parent) == ["a.png"]


def test_others_may_read_the_file_as_the_umask_says(tmp_path):
    (tmp_path / "plain").touch()
    path = save_picture(tmp_path / "a.png", smooth())
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, step):
    path = save_picture(tmp_path / "a.png", smooth())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving.os, step, full)
    with pytest.raises(UserError, match=r"a\.png: cannot be written: No space left on device"):
        save_picture(path, smooth()[::-1])
    assert os.listdir(tmp_path) == ["a.png"]
    assert np.array_equal(open_picture(path).rgb, smooth())


def test_an_interrupt_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(saving.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.bin", b"x")
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_place_of_a_folder_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        save_picture(tmp_path / "file" / "a.png", smooth())


def test_unknown_suffixes_and_sides_too_long_are_user_errors(tmp_path):
    with pytest.raises(UserError, match=r"cannot save as '\.gif'; use \.png"):
        save_picture(tmp_path / "a.gif", smooth())
    long = np.zeros((1, 70_000, 3), np.uint8)
    for suffix in (".jpg", ".webp"):
        with pytest.raises(UserError, match=r"pixels a side; use \.png"):
            save_picture(tmp_path / f"a{suffix}", long)
    assert open_picture(save_picture(tmp_path / "a.png", long)).rgb.shape == long.shape
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8)])
def test_arrays_of_another_kind_are_a_mistake_of_the_caller(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        save_picture(tmp_path / "a.png", wrong)
