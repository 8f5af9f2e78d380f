"""One picture in, one picture out: what is accepted, what is refused, and in which words."""

import errno
import io
import pickle
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from artifygan_jax.data import images
from artifygan_jax.data.images import UnreadablePicture, open_picture, picture_size
from artifygan_jax.errors import UserError

ROOT = Path(__file__).parents[2]


def smooth(height: int = 48, width: int = 64) -> np.ndarray:
    """Colours that vary slowly, so that lossy formats stay close."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    planes = [x / width, y / height, (x + y) / (width + height)]
    return np.uint8(np.stack(planes, -1) * 200 + 30)


def encode(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        buffer, kind, **options
    )
    return buffer.getvalue()


def png(header: tuple[int, int, int, int], rows: bytes = b"", extra: bytes = b"") -> bytes:
    """A PNG by hand from (width, height, bits, colour type), its unfiltered rows and chunks."""
    body = chunk(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0)) + extra
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


def png_16(values: np.ndarray, colour_type: int, extra: bytes = b"") -> bytes:
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png((width, height, 16, colour_type), rows, extra)


def tiff_12() -> bytes:
    """2 x 2 grey of twelve bits: 0, 4095, 2048, 1024."""
    tags = [(256, 2), (257, 2), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 2)]
    tags += [(279, 6)]
    pixels = bytes([0x00, 0x0F, 0xFF, 0x80, 0x04, 0x00])
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 14) + pixels + struct.pack("<H", 9) + table + bytes(4)


def icc_profile(space: bytes, pcs: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A version 2 input profile by hand."""
    data, table = b"", struct.pack(">I", len(tags))
    start = 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        body += b"\0" * (-len(body) % 4)
        table += name + struct.pack(">II", start + len(data), len(body))
        data += body
    white = struct.pack(">iii", 0xF6D6, 0x10000, 0xD32D)
    head = struct.pack(">I", start + len(data)) + b"lcms\2\x10\0\0" + b"prtr" + space + pcs
    head += bytes(12) + b"acsp" + bytes(28) + white
    return head.ljust(128, b"\0") + table + data


def cause(source, **options) -> str:
    with pytest.raises(UnreadablePicture) as caught:
        open_picture(source, **options)
    assert isinstance(caught.value, UserError)
    return caught.value.cause


# ------------------------------------------------------------------------------- broken files


def test_a_zero_byte_file_is_called_empty_with_its_name(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(UnreadablePicture, match=r"a\.png: empty file$"):
        open_picture(tmp_path / "a.png")


@pytest.mark.parametrize(
    "text", [b"x", b"hello, this is text\n", bytes(100), b"%PDF-1.7", b"<svg/>"]
)
def test_text_named_png_is_not_an_image(text):
    assert cause(text).startswith("not an image")


def test_other_frequent_files_are_named():
    assert cause(b"\n<!DOCTYPE html><html>") == "a web page, not a picture"
    assert "HEIC" in cause(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_picture_is_refused_and_never_filled_up(kind, part):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(noise, kind)
    reason = cause(data[: int(len(data) * part)])
    # a cut TIFF lacks its directory, which stands at its end
    assert reason == "truncated" or (kind == "TIFF" and reason.startswith("damaged"))


@pytest.mark.parametrize("cut", [8, 12, 20, 30, 50])
def test_a_png_cut_in_its_header_is_truncated(cut):
    assert cause(encode(smooth(), "PNG")[:cut]) == "truncated"


@pytest.mark.parametrize("place", [45, 0.5, -20])
def test_one_flipped_bit_in_a_png_is_refused(place):
    data = bytearray(encode(smooth(), "PNG"))
    data[int(len(data) * place) if isinstance(place, float) else place] ^= 1
    assert cause(bytes(data)).startswith("damaged")


def test_a_wrong_checksum_alone_is_refused():
    data = bytearray(encode(smooth(), "PNG"))
    data[-13] ^= 1  # last byte of the checksum of the pixels; IEND follows in twelve bytes
    assert "checksum" in cause(bytes(data))


def test_an_exploding_text_chunk_is_refused():
    text = PngInfo()
    text.add_text("Comment", "a" * 80_000_000, zip=True)
    assert cause(encode(smooth(8, 8), "PNG", pnginfo=text)).startswith("damaged")


# ---------------------------------------------------------------------------------- too large


def test_a_huge_header_is_refused_in_words_of_its_size():
    data = png((100_000, 100_000, 8, 2))
    words = "too large: 100000x100000 = 10000 megapixels, at most 64"
    assert cause(data, name="a.png") == words
    with pytest.raises(UnreadablePicture, match="100000x100000"):
        picture_size(data)


def test_a_size_that_pillow_only_warns_of_is_refused_without_a_warning(recwarn):
    assert "12000x12000 = 144 megapixels" in cause(png((12_000, 12_000, 8, 2)))
    assert not recwarn.list


def test_a_webp_with_a_huge_canvas_is_refused():
    canvas = b"\0\0\0\0" + (15_999).to_bytes(3, "little") * 2
    frame = encode(smooth(8, 8), "WEBP", lossless=True)[12:]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + frame
    assert cause(b"RIFF" + struct.pack("<I", len(body)) + body).startswith("too large")


def test_exactly_64_megapixels_pass_the_header_check_and_one_row_more_does_not():
    assert picture_size(png((8000, 8000, 8, 2))) == (8000, 8000)
    assert cause(png((8000, 8001, 8, 2))).startswith("too large")


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png((100_000, 100_000, 8, 2), bytes(10**7)))
    # VmHWM and not getrusage: ru_maxrss of a child starts at the peak of its parent
    program = """if True:
        import sys
        from artifygan_jax.data.images import UnreadablePicture, open_picture
        def peak():
            lines = open("/proc/self/status").read().splitlines()
            return next(int(l.split()[1]) for l in lines if l.startswith("VmHWM")) / 1024
        before = peak()
        try:
            open_picture(sys.argv[1])
        except UnreadablePicture as error:
            print(error.cause[:9], peak(), peak() - before, "jax" in sys.modules)
        """
    if not Path("/proc/self/status").exists():
        pytest.skip("peak memory is read from /proc")
    run = [sys.executable, "-c", program, str(tmp_path / "bomb.png")]
    done = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
    *words, total, growth, jax_loaded = done.stdout.split()
    assert words == ["too", "large"] and jax_loaded == "False"
    assert float(total) < 300 and float(growth) < 20  # MiB; the picture would need 28,000


# --------------------------------------------------------------------------------- what it shows


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    pixels = smooth(40, 24)
    pixels[:10, :10] = 255  # one corner tells all eight apart
    data = encode(pixels, kind, exif=exif, **options)
    tagged = Image.fromarray(pixels)
    tagged.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(tagged))
    got = open_picture(data).rgb
    assert got.shape == upright.shape
    limit = 40 if kind == "JPEG" else 0  # JPEG rings at the white corner; a wrong turn gives 225
    assert np.abs(got.astype(int) - upright).max() <= limit
    assert picture_size(data) == (got.shape[1], got.shape[0])


def test_exif_behind_the_pixels_of_a_png_turns_it_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(smooth(40, 24), "PNG")
    data = data[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + data[-12:]
    assert picture_size(data) == (40, 24)
    assert np.array_equal(open_picture(data).rgb, np.rot90(smooth(40, 24), -1))


def test_broken_exif_does_not_cost_the_picture():
    data = encode(smooth(), "PNG", exif=b"Exif\0\0" + b"XX*\0garbage")
    picture = open_picture(data)
    assert np.array_equal(picture.rgb, smooth())
    assert "broken EXIF" in picture.notes[0]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_has_the_right_colours(kind):
    ink = Image.fromarray(smooth()).convert("CMYK")
    data = encode(ink, kind, **({"quality": 100} if kind == "JPEG" else {}))
    got = open_picture(data).rgb.astype(int)
    assert np.abs(got - smooth()).max() <= 3  # of 255: JPEG and the detour over four inks


def test_cmyk_goes_through_its_own_profile():
    # This press's inks look so: neutral, as dark as the black ink, whatever cyan does.
    corners = [(255 * (1 - (i & 1)), 128, 128) for i in range(16)]  # black runs fastest
    ramp = bytes(range(256))
    unit = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit
    table += ramp * 4 + bytes(np.uint8(corners).ravel()) + ramp * 3
    icc = icc_profile(b"CMYK", b"Lab ", {b"A2B0": table})
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    picture = open_picture(encode(ink, "TIFF", icc_profile=icc))
    assert picture.rgb.min() >= 250  # white by the profile; pure cyan without it
    assert picture.icc is None and picture.notes == ()  # now sRGB


def test_grey_goes_through_its_own_profile():
    linear = struct.pack(">4sIIH", b"curv", 0, 1, 256)  # gamma 1
    white = struct.pack(">4sIiii", b"XYZ ", 0, 0xF6D6, 0x10000, 0xD32D)
    icc = icc_profile(b"GRAY", b"XYZ ", {b"wtpt": white, b"kTRC": linear})
    picture = open_picture(encode(Image.new("L", (8, 8), 55), "PNG", icc_profile=icc))
    # sRGB of 55/255 linear: 1.055 * 0.2157 ** (1 / 2.4) - 0.055 = 0.5019; +-1 for lcms
    assert np.abs(picture.rgb.astype(int) - 128).max() <= 1
    assert picture.icc is None


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3)])
def test_16_bit_png_is_scaled_and_not_clipped(colour_type, channels):
    values = np.random.default_rng(1).integers(0, 2**16, (32, 32, channels))
    got = open_picture(png_16(values, colour_type)).rgb.astype(int)
    true = np.broadcast_to(values / 257, got.shape)
    assert abs(got.mean() - true.mean()) <= 1
    limit = 0.5 if channels == 1 else 1.0  # colour: Pillow takes the high byte
    assert np.abs(got - true).max() <= limit


def test_16_bit_transparent_colours_stay_hidden():
    grey = np.full((4, 4, 1), 1000)
    grey[0] = 60_000
    picture = open_picture(png_16(grey, 0, chunk(b"tRNS", struct.pack(">H", 60_000))))
    assert (picture.alpha[0] == 0).all() and (picture.alpha[1:] == 255).all()
    assert (picture.rgb[0] == 255).all() and (picture.rgb[1:] == 4).all()
    colour = np.full((4, 4, 3), 0x1234)
    colour[0] = 0x00FF
    picture = open_picture(png_16(colour, 2, chunk(b"tRNS", struct.pack(">3H", *[0x00FF] * 3))))
    assert (picture.alpha[0] == 0).all() and (picture.alpha[1:] == 255).all()


def test_16_bit_and_12_bit_tiff_are_scaled():
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    got = open_picture(encode(Image.fromarray(values), "TIFF")).rgb[..., 0]
    assert np.abs(got - values / 257).max() <= 0.5  # rounding
    got = open_picture(tiff_12()).rgb[..., 0]
    assert got.tolist() == [[0, 255], [128, 64]]


HIDDEN = [
    *((kind, mode) for kind in ("PNG", "WEBP", "TIFF") for mode in ("RGBA", "LA")),
    ("GIF", "RGBA"),
    ("GIF", "P"),
    ("PNG", "P"),
]


@pytest.mark.parametrize(("kind", "mode"), HIDDEN)
def test_the_colour_under_transparent_pixels_is_never_seen(kind, mode):
    options: dict = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    if mode == "P":
        image = Image.new("P", (16, 16), 1)
        image.putpalette([40, 40, 40, 200, 200, 200])
        image.paste(0, (0, 0, 8, 16))
        options["transparency"] = 0
    else:
        image = Image.new("RGBA", (16, 16), (200, 200, 200, 255))
        image.paste((40, 40, 40, 0), (0, 0, 8, 16))
        image = image.convert(mode)
    data = encode(image, kind, **options)
    picture = open_picture(data)
    assert (picture.rgb[:, :8] == 255).all() and (picture.rgb[:, 8:] == 200).all()
    assert (picture.alpha[:, :8] == 0).all() and (picture.alpha[:, 8:] == 255).all()
    on_red = open_picture(data, background=(255, 0, 0)).rgb
    assert (on_red[:, :8] == (255, 0, 0)).all()


def test_half_transparent_is_mixed_and_opaque_alpha_is_dropped():
    half = Image.new("RGBA", (4, 4), (0, 100, 200, 128))
    # 128/255 of the colour over white: 255 - 255 * 0.50196 = 127, 177.2, 227.4
    assert np.abs(open_picture(encode(half, "PNG")).rgb.astype(int) - (127, 177, 227)).max() <= 1
    assert open_picture(encode(Image.new("RGBA", (4, 4), "red"), "PNG")).alpha is None


@pytest.mark.parametrize("mode", ["1", "L", "P"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_two_level_grey_and_palette_pictures_become_rgb(mode, kind):
    image = Image.fromarray(smooth()).convert(mode)
    picture = open_picture(encode(image, kind))
    assert np.array_equal(picture.rgb, np.asarray(image.convert("RGB")))
    assert picture.alpha is None and picture.notes == ()


@pytest.mark.parametrize("mode", ["F", "I"])
def test_measurement_modes_are_refused_by_name(mode):
    assert cause(encode(Image.new(mode, (4, 4)), "TIFF")) == f"unsupported mode {mode}"


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken_with_a_note(kind):
    frames = [Image.new("RGB", (16, 16), (0, 20 * i, 250)) for i in range(12)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    picture = open_picture(data)
    assert picture.notes == ("first of 12 frames",)
    assert (picture.rgb == (0, 0, 250)).all()


def test_a_good_profile_is_kept_and_a_broken_one_is_noted():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = open_picture(encode(smooth(), "PNG", icc_profile=srgb))
    assert picture.icc == srgb and picture.notes == ()
    for wrong in (b"x" * 200, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()):
        picture = open_picture(encode(smooth(), "PNG", icc_profile=wrong))
        assert picture.icc is None and "profile" in picture.notes[0]
        assert np.array_equal(picture.rgb, smooth())


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (7, 9), (321, 241)])
def test_odd_sizes_come_in_as_they_are(size):
    pixels = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)
    picture = open_picture(encode(pixels, "PNG"))
    assert np.array_equal(picture.rgb, pixels)
    assert picture.rgb.dtype == np.uint8 and picture.rgb.flags.writeable


def test_the_content_decides_the_format_and_not_the_suffix(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(smooth(), "PNG"))
    with open(path, "rb") as file:
        for source in (path, str(path), path.read_bytes(), file):
            assert np.array_equal(open_picture(source).rgb, smooth())
    assert picture_size(path) == (64, 48)


# ---------------------------------------------------------------------------- places and names


def test_what_is_no_regular_file_has_its_own_reason(tmp_path):
    (tmp_path / "a.png").mkdir()
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "c.png")
    reasons = [cause(tmp_path / name) for name in ("a.png", "b.png", "c.png", "d.png")]
    assert reasons == [
        "a folder, not a picture",
        "a link to a missing file",
        "a link to itself",
        "no such file",
    ]
    assert cause("/dev/null") == "not a regular file"
    assert cause("a\0.png").startswith("cannot be read")


def test_a_file_without_permission_has_a_reason(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(encode(smooth(), "PNG"))

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(images, "open", refuse, raising=False)  # root reads a 0000 file
    assert cause(path) == "cannot be read: Permission denied"


def test_a_disk_that_gives_up_has_a_reason():
    class Failing(io.BytesIO):
        def read(self, *_):
            raise OSError(errno.EIO, "Input/output error")

    assert cause(Failing(), name="a.png") == "cannot be read: Input/output error"


def test_a_refusal_is_one_line_and_survives_a_worker_process():
    error = UnreadablePicture("two\nlines.png", "truncated")
    assert str(error) == "'two\\nlines.png': truncated"
    assert str(UnreadablePicture("été \u96ea.png", "truncated")) == "été \u96ea.png: truncated"
    again = pickle.loads(pickle.dumps(error))
    assert (again.name, again.cause, str(again)) == (error.name, error.cause, str(error))


def test_many_threads_read_alike():
    sources = [encode(smooth(), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF")]
    expected = [open_picture(data).rgb for data in sources]
    wrong = []

    def work():
        for _ in range(10):
            for data, rgb in zip(sources, expected, strict=True):
                if not np.array_equal(open_picture(data).rgb, rgb):
                    wrong.append(data[:4])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ------------------------------------------------------------------------------------------ fuzz

MAGIC = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"MM\0*"]
SEEDS = [
    encode(smooth(20, 28), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
    encode(Image.new("P", (20, 28)), "PNG", transparency=0),
    encode(smooth(20, 28), "JPEG"),
    encode(smooth(20, 28), "WEBP"),
    encode(smooth(20, 28), "WEBP", lossless=True),
    encode(smooth(20, 28), "GIF"),
    encode(smooth(20, 28), "TIFF"),
    encode(smooth(20, 28), "BMP"),
]


def with_checksums(data: bytes) -> bytes:
    """A PNG whose checksums fit again, so that changed bytes reach the parsers behind them."""
    out, place = data[:8], 8
    while place + 8 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        out += chunk(data[place + 4 : place + 8], data[place + 8 : place + 8 + length])
        place += length + 12
    return out


def only_refuses(data: bytes) -> None:
    """Opens it or refuses it; what opens has the size that its header promised."""
    try:
        rgb = open_picture(data).rgb
    except UnreadablePicture as error:
        assert "\n" not in str(error)
        return
    assert picture_size(data) == (rgb.shape[1], rgb.shape[0])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's words on corrupt EXIF
@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*MAGIC, b"RIFF\x20\0\0\0WEBP"]), st.binary(max_size=300))
def test_random_bytes_are_only_ever_refused(magic, data):
    only_refuses(magic + data)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_mutated_pictures_open_or_are_refused(seed, data):
    mutated = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(seed) - 1))] = data.draw(st.integers(0, 255))
    kept = bytes(mutated[: data.draw(st.integers(len(seed) // 2, len(seed)))])
    only_refuses(kept)
    if kept.startswith(b"\x89PNG\r\n\x1a\n"):
        only_refuses(with_checksums(kept))
