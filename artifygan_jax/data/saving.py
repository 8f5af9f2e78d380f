"""Writing pictures: whole or not at all, and marked as made by a network."""

import contextlib
import fcntl
import io
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from artifygan_jax.errors import UserError

# IPTC's words for "a photo changed by a trained network" and "drawn by one out of nothing", and the
# place where readers look for them.
DIGITAL_SOURCE_TYPE = "compositeWithTrainedAlgorithmicMedia"
GENERATED = "trainedAlgorithmicMedia"
_IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_LONGEST_SIDE = {"PNG": 2**31 - 1, "JPEG": 65500, "WEBP": 16383}


def save_picture(
    path: str | os.PathLike,
    rgb: np.ndarray,
    *,
    alpha: np.ndarray | None = None,
    icc: bytes | None = None,
    software: str = "artifygan_jax",
    model: str | None = None,
    source_type: str = DIGITAL_SOURCE_TYPE,
) -> Path:
    """Writes uint8 [H, W, 3] (with `alpha` uint8 [H, W]) as the suffix says: png, jpg or webp.

    The file carries who made it (`software`, `model`, IPTC digital `source_type`) and the colour
    profile, and nothing else of the photo that it was made from: no place, no camera. JPEG has no
    alpha: it is composited on white. Folders are made as needed; a file in the way is replaced.
    Returns the path. Raises `UserError`: unknown suffix, side too long, or the disk refuses.
    """
    path = Path(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise UserError(f"{path}: cannot save as {path.suffix!r}; use .png, .jpg or .webp")
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
        raise ValueError(f"rgb must be uint8 [H, W, 3], got {rgb.dtype} {list(rgb.shape)}")
    if alpha is not None and (alpha.dtype != np.uint8 or alpha.shape != rgb.shape[:2]):
        raise ValueError(f"alpha must be uint8 {list(rgb.shape[:2])}, got {list(alpha.shape)}")
    longest = _LONGEST_SIDE[kind]
    if max(rgb.shape) > longest:
        raise UserError(f"{path}: {kind} ends at {longest} pixels a side; use .png")
    image = Image.fromarray(np.ascontiguousarray(rgb))
    if alpha is not None:
        mask = Image.fromarray(np.ascontiguousarray(alpha))
        if kind == "JPEG":
            image = Image.composite(image, Image.new("RGB", image.size, "white"), mask)
        else:
            image.putalpha(mask)
    buffer = io.BytesIO()
    image.save(buffer, kind, icc_profile=icc, **_options(kind, software, model, source_type))
    write_whole(path, buffer.getvalue())
    return path


def new_file(output: str, suffix: str, *, overwrite: bool) -> Path:
    """The path of `--output`, which ends in `suffix` and is not there, or may be replaced."""
    path = Path(output)
    if path.suffix != suffix:
        raise UserError(f"--output={output}: give a file that ends in {suffix}")
    if path.exists() and not overwrite:
        raise UserError(f"{output} is there already: give another --output, or --overwrite")
    return path


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """The file appears with all its bytes or not at all; what stood there before stays until then.

    Written to a hidden name in the same folder, fsynced, then renamed. Raises `UserError`.
    """
    path = Path(path)
    part = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as file:  # not tempfile: its files are closed to the group
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def sole(path: Path) -> Iterator[None]:
    """Holds the lock file `path` while the body runs; `UserError` where another process has it."""
    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{path.parent}: another run is writing there; wait, or give another --output"
            ) from error
        yield


def _options(kind: str, software: str, model: str | None, source_type: str) -> dict:
    """The arguments of Pillow's `save`: quality, and the marks of provenance."""
    xmp = _xmp(software, model, source_type)
    if kind == "PNG":
        text = PngInfo()
        text.add_itxt("Software", software)
        text.add_itxt("DigitalSourceType", source_type)
        if model:
            text.add_itxt("Model", model)
        text.add_itxt("XML:com.adobe.xmp", xmp)
        return {"pnginfo": text}
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = software
    note = f"DigitalSourceType={source_type}"
    exif[ExifTags.Base.ImageDescription] = f"{note}; model={model}" if model else note
    options: dict = {"exif": exif, "xmp": xmp.encode(), "quality": 95}
    if kind == "JPEG":
        options["subsampling"] = 0  # halved colour bleeds over a cartoon's ink lines
    return options


def _xmp(software: str, model: str | None, source_type: str) -> str:
    """An XMP packet with `Iptc4xmpExt:DigitalSourceType`, which is what readers of marks parse."""
    tool = quoteattr(f"{software} {model}" if model else software)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about=""'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f" xmp:CreatorTool={tool}"
        f' Iptc4xmpExt:DigitalSourceType="{_IPTC}{source_type}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )
