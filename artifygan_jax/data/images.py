"""One picture from a file somebody else made, and one picture back to disk.

Everything wrong with a picture is an `UnreadablePicture`: its name and a few words of cause. The
content decides the format, never the suffix; the size is checked before anything is decoded.
"""

import contextlib
import errno
import io
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from artifygan_jax.data import decode
from artifygan_jax.errors import UserError

MAX_PIXELS = 64_000_000
MAX_BYTES = 512 * 2**20

Source = str | os.PathLike | bytes | BinaryIO

# The allow-list. Calling a format's own class keeps Pillow's other forty parsers away from foreign
# bytes, and leaves the size check (and its wording) to us. JPEG's class reads multi-picture files
# of phones as the one photo that they show.
_FORMATS = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"GIF87a", GifImageFile),
    (b"GIF89a", GifImageFile),
    (b"BM", BmpImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# How Pillow words the end of the data, format by format.
_CUT_SHORT = ("truncated", "incomplete checksum", "unpack", "chunk b''")


class UnreadablePicture(UserError):
    """One picture that cannot be used; the others can. `str` is `NAME: CAUSE` on one line."""

    def __init__(self, name: str, cause: str):
        super().__init__(name, cause)
        self.name, self.cause = name, cause

    def __str__(self) -> str:
        return f"{printable(self.name)}: {self.cause}"


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright picture: `rgb` uint8 [H, W, 3], `alpha` uint8 [H, W] or None where opaque.

    `rgb` is already composited, so that a transparent pixel shows the background and not the
    colour hidden under it. `icc` is the RGB colour profile of `rgb` (None: sRGB). `notes` says
    what was left out, in words for the user.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes | None = None
    notes: tuple[str, ...] = ()


def printable(name: str) -> str:
    """A name that cannot break a log line: as it is, or quoted with its odd characters escaped."""
    return name if name.isprintable() else repr(name)


def open_picture(
    source: Source,
    *,
    name: str | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Picture:
    """Reads a JPEG, PNG, WebP, GIF, BMP or TIFF of at most 64 megapixels.

    Of an animation or a multi-page file the first frame is taken, with a note. 16-bit grey is
    scaled by 1/257, 16-bit colour by its high byte (Pillow; at most 1 of 255 off). CMYK and grey
    pictures with a profile come back as sRGB. Safe to call from several threads.
    Raises `UnreadablePicture`.
    """
    name = name or _name_of(source)
    data = read_bytes(source, name)
    notes: list[str] = []
    with _pillow_errors(name):
        image = _open_header(io.BytesIO(data), name)
        if image.format == "PNG":  # Pillow loads pixels without looking at their checksums
            PngImageFile(io.BytesIO(data)).verify()
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            notes.append(f"first of {frames} frames")
        turn = _UPRIGHT.get(_orientation(image, notes))
        if turn is None and (image.format, image.mode) == ("JPEG", "RGB"):
            pixels = decode.jpeg(data, image.size)
            if pixels is not None:  # no profile changes the pixels of a picture that is RGB
                icc = _to_rgb_profile(image, notes)[1]
                return Picture(pixels, None, icc, tuple(notes))
        _split_16_bit_key(image)
        image.load()
        image, icc = _to_rgb_profile(image, notes)
        rgb, alpha = _planes(image, name, background)
        if turn is not None:
            rgb, alpha = rgb.transpose(turn), alpha and alpha.transpose(turn)
        return Picture(np.array(rgb), None if alpha is None else np.array(alpha), icc, tuple(notes))


def picture_size(source: Source, *, name: str | None = None) -> tuple[int, int]:
    """(width, height) of the upright picture, from the header alone; the pixels may yet be broken.

    Raises `UnreadablePicture`, as `open_picture` does.
    """
    name = name or _name_of(source)
    with contextlib.ExitStack() as stack:
        if isinstance(source, str | os.PathLike):
            file: BinaryIO = stack.enter_context(_open_file(source, name))
        else:
            file = io.BytesIO(read_bytes(source, name))
        with _pillow_errors(name):
            image = _open_header(file, name)
            width, height = image.size
            return (height, width) if _orientation(image, []) >= 5 else (width, height)


def read_bytes(source: Source, name: str) -> bytes:
    """All bytes of a source, at most 512 MiB; never waits on a pipe or a device."""
    if isinstance(source, str | os.PathLike):
        with _open_file(source, name) as file:
            return read_bytes(file, name)
    try:
        data = source if isinstance(source, bytes) else source.read(MAX_BYTES + 1)
    except OSError as error:  # a disk or a network share that gives up half-way
        raise UnreadablePicture(name, f"cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_BYTES:
        raise UnreadablePicture(name, f"too large: more than {MAX_BYTES >> 20} MiB")
    return data


def _name_of(source: Source) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fsdecode(source)
    given = getattr(source, "name", None)
    return given if isinstance(given, str) else "picture"


def _open_file(path: str | os.PathLike, name: str) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            return open(path, "rb")
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise UnreadablePicture(name, _why_not_opened(path, error)) from error
    raise UnreadablePicture(
        name, "a folder, not a picture" if stat.S_ISDIR(mode) else "not a regular file"
    )


def _why_not_opened(path: str | os.PathLike, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "a link to a missing file" if os.path.islink(path) else "no such file"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "a link to itself"
    text = error.strerror if isinstance(error, OSError) else str(error)
    return f"cannot be read: {text}"


@contextlib.contextmanager
def _pillow_errors(name: str) -> Iterator[None]:
    """Any failure of a decoder is the file's fault.

    Broad on purpose: on foreign bytes Pillow raises OSError, SyntaxError, ValueError, struct.error,
    zlib.error, KeyError, OverflowError, MemoryError and more.
    """
    try:
        yield
    except UnreadablePicture:
        raise
    except Exception as error:
        raise UnreadablePicture(name, _cause(error)) from error


def _cause(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: more than {MAX_PIXELS // 10**6} megapixels"
    if isinstance(error, MemoryError):
        return "damaged, or not enough memory to decode it"
    text = " ".join(str(error).split())
    if isinstance(error, EOFError) or any(sign in text.lower() for sign in _CUT_SHORT):
        return "truncated"
    return f"damaged: {printable(text[:100]) or type(error).__name__}"


def _open_header(file: BinaryIO, name: str) -> ImageFile:
    """The picture, not yet decoded: its format is allowed and its size within the limit."""
    head = file.read(512)
    plugin = next((cls for magic, cls in _FORMATS if head.startswith(magic)), None)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        plugin = WebPImageFile
        size = file.seek(0, io.SEEK_END)
        if size < 8 + int.from_bytes(head[4:8], "little"):
            raise UnreadablePicture(name, "truncated")
    if plugin is None:
        raise UnreadablePicture(name, _not_a_picture(head))
    exif = _png_exif(file) if plugin is PngImageFile else None
    file.seek(0)
    image = plugin(file)
    if exif is not None:
        image.info["exif"] = exif
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadablePicture(
            name,
            f"too large: {width}x{height} = {width * height / 1e6:.0f} megapixels, "
            f"at most {MAX_PIXELS // 10**6}",
        )
    return image


def _not_a_picture(head: bytes) -> str:
    if not head:
        return "empty file"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page, not a picture"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"avif"):
        return "a HEIC or AVIF picture; save it as JPEG, PNG or WebP first"
    return "not an image (allowed: JPEG, PNG, WebP, GIF, BMP, TIFF)"


def _png_exif(file: BinaryIO) -> bytes | None:
    """The eXIf chunk, which may stand behind the pixels; Pillow would decode them all to see it."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            return file.read(length)
        file.seek(length + 4, io.SEEK_CUR)
    return None


def _orientation(image: ImageFile, notes: list[str]) -> int:
    """The EXIF orientation 1..8 that is still to be applied."""
    if image.format == "TIFF":  # Pillow turns these itself while it loads
        return 1
    try:  # the base class: PngImageFile.getexif decodes the picture
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # camera notes are no reason to refuse the pixels
        notes.append(f"broken EXIF ignored ({type(error).__name__})")
        return 1
    return value if value in _UPRIGHT else 1


def _split_16_bit_key(image: ImageFile) -> None:
    """Pillow keeps the high byte of 16-bit colour, but leaves the transparent colour at 16 bits."""
    key = image.info.get("transparency")
    deep = image.format == "PNG" and str(image.tile[0].args).endswith("16B")
    if deep and isinstance(key, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _to_rgb_profile(image: Image.Image, notes: list[str]) -> tuple[Image.Image, bytes | None]:
    """Keeps an RGB profile; carries grey and CMYK pictures over to sRGB by theirs."""
    icc = image.info.get("icc_profile")
    if not icc:
        return image, None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()  # pyright: ignore[reportAttributeAccessIssue]
        if space == "RGB" and image.mode in ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA"):
            return image, icc
        if (space, image.mode) in (("CMYK", "CMYK"), ("GRAY", "L")):
            if "transparency" in image.info:  # a key of grey levels, which would not survive
                raise ValueError("grey profile with transparency")
            srgb = ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB"), None  # pyright: ignore[reportReturnType]
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):
        notes.append("broken colour profile ignored, colours taken as sRGB")
        return image, None
    notes.append(f"colour profile for {space} ignored, colours taken as sRGB")
    return image, None


def _planes(
    image: Image.Image, name: str, background: tuple[int, int, int]
) -> tuple[Image.Image, Image.Image | None]:
    """RGB over `background`, and the alpha plane where something is transparent."""
    if image.mode.startswith("I;16"):
        image = _grey_16(image)
    elif image.mode not in (
        "1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"
    ):  # fmt: skip
        raise UnreadablePicture(name, f"unsupported mode {image.mode}")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB"), None
    rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
    alpha = rgba.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return rgba.convert("RGB"), None
    rgb = Image.new("RGB", rgba.size, background)
    rgb.paste(rgba.convert("RGB"), mask=alpha)
    return rgb, alpha


def _grey_16(image: Image.Image) -> Image.Image:
    """L or LA from 16-bit grey; Pillow's own conversion clips everything above 255 to white."""
    values = np.asarray(image).astype(np.uint32)
    bits = getattr(image, "tag_v2", {}).get(ExifTags.Base.BitsPerSample, (16,))[0]
    full = 2**bits - 1
    grey = Image.fromarray(((values * 255 + full // 2) // full).clip(max=255).astype(np.uint8))
    key = image.info.get("transparency")
    if key is not None:
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey
