"""What `prepare images` does to a picture: a crop, then a change of size."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.data.prepared import Made, Work
from artifygan_jax.errors import UserError, did_you_mean

CROPS = ("none", "center")
SMALLEST, LARGEST = 16, 8000  # px a side; the square of the largest is what `open_picture` reads

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
# Where to crop: (uint8 [H, W, 3], its name) to boxes, each of which becomes a picture of its own. They
# may reach beyond the picture. `UnreadablePicture` says why there is none.
Boxes = Callable[[np.ndarray, str], Sequence[Box]]


def resizer(size: int | None, crop: str | Boxes = "none", upsize: bool = True) -> Work:
    """The work of `prepare images`: each picture with sides of `size` px (None: as many as it has).

    `crop` "none" keeps the whole picture and gives its longest side `size`; "center" takes the centre
    square; a function gives boxes (of faces), each of which is made a square inside the picture.
    Squares become `size` x `size`. Bicubic with antialias, as training streams do it: from a set
    prepared at the stream's size a run reads the very pixels that it would have made itself.

    Smaller pictures are enlarged; without `upsize` they are left out, with the reason, since a
    stream would enlarge them later anyway. Raises `UserError` for another size or crop.
    """
    check_size(size)
    if isinstance(crop, str) and crop not in CROPS:
        raise UserError(f"crop {crop!r}{did_you_mean(crop, CROPS)}; allowed are {', '.join(CROPS)}")

    def work(rgb: np.ndarray, name: str) -> list[Made]:
        height, width = rgb.shape[:2]
        if crop == "none":
            boxes, facts = [(0, 0, width, height)], [{}]
        elif crop == "center":
            boxes, facts = [inner_square((0, 0, width, height), width, height)], [{}]
        else:
            assert callable(crop)
            boxes = [inner_square(box, width, height) for box in crop(rgb, name)]
            facts = [{"box": [round(x, 2) for x in box]} for box in boxes]
        parts = ["", *(f"_{n}" for n in range(2, len(boxes) + 1))]
        return [
            Made(_cut(rgb, box, size, upsize, name), part, fact)
            for box, part, fact in zip(boxes, parts, facts)
        ]

    return work


def check_size(size: int | None) -> None:
    """`UserError` for sides that no prepared picture has."""
    if size is not None and not SMALLEST <= size <= LARGEST:
        raise UserError(
            f"size {size}; allowed are {SMALLEST} to {LARGEST} px, or none, which keeps the size"
        )


def inner_square(box: Box, width: int, height: int) -> Box:
    """The square around the middle of `box`, as wide as its longer side, inside `width` x `height`.

    Where it would reach beyond the picture it is moved, and where it is too large made smaller:
    no pixels are invented.
    """
    left, top, right, bottom = box
    side = min(max(right - left, bottom - top, 1), width, height)
    x = min(max((left + right - side) / 2, 0), width - side)
    y = min(max((top + bottom - side) / 2, 0), height - side)
    return x, y, min(x + side, width), min(y + side, height)  # sums of fractions may exceed them


def _cut(rgb: np.ndarray, box: Box, size: int | None, upsize: bool, name: str) -> np.ndarray:
    """The pixels of `box`, with `size` for the longer side."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    if size is None:  # whole pixels
        x, y, w, h = (int(value + 1e-6) for value in (left, top, width, height))
        return rgb[y : y + h, x : x + w]
    longest = max(width, height)
    if longest < size and not upsize:
        raise UnreadablePicture(
            name, f"{width:.0f}x{height:.0f} px would be enlarged to {size}, which was not wanted"
        )
    sides = [max(1, round(size * side / longest)) for side in (width, height)]
    return np.array(Image.fromarray(rgb).resize(sides, Image.Resampling.BICUBIC, box=box))
