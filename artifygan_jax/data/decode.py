"""The pixels of plain JPEGs by libjpeg-turbo directly, where the package `simplejpeg` is installed.

Pillow decodes with the same library and the same settings (accurate DCT, smooth chroma), so the pixels
are equal bit for bit, but keeps four bytes a pixel and copies them out twice. `bench/prepare.py` has
the difference in time.
"""

import functools
from types import ModuleType

import numpy as np


def jpeg(data: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """The uint8 `[H, W, 3]` RGB of a JPEG with three components whose header gave `size` (W, H).

    None leaves it to Pillow: simplejpeg is not installed, reads another size than Pillow did, or
    has any complaint. Then Pillow decides whether the file is good, and its words are what a user
    reads. So nothing that Pillow refuses is let in, and nothing depends on what is installed.
    """
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return None
    try:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
        if (width, height) != size:  # before memory is taken for whatever that other header says
            return None
        return simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except (ValueError, MemoryError, RuntimeError):
        return None


@functools.cache
def _simplejpeg() -> ModuleType | None:
    """The package; a failing import, which searches the disk, is tried once."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg
