"""Faces brought into one position: FFHQ's square from five points, cut out, and pasted back.

The square and the filling of what lies outside of the photo follow the FFHQ data set's recipe
(Karras et al. 2019, arXiv:1812.04948, appendix A; its numbers as in the authors' `download_ffhq.py`).
FFHQ takes eye and mouth points of 68; the five that CelebA and MTCNN give hold all it needs.

Coordinates are (x, y) in pixels, (0, 0) the middle of the upper left pixel.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, ImageFilter

from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.data.prepared import Made, Work
from artifygan_jax.errors import UserError

MARGIN = 0.1  # of the square's side: how much is kept around it before it is cut out
WIDE_MARGIN = 0.3  # the same where the square reaches over the border of the photo
MAX_SIDE = 4.0  # a square's side, in longer sides of the photo
SIZES = (16, 1024)  # pixels a side of what is cut out


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """One face of a picture, in pixels.

    `box` (left, top, right, bottom) counts from the corner of the picture; `score` is 0..1.
    `landmarks` `[5, 2]` count from the middle of the first pixel: left eye, right eye, nose, left
    and right corner of the mouth, as seen in the upright face. `roll_retry`: degrees that the
    picture was turned counter-clockwise before the face was found.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray
    roll_retry: int = 0


Detect = Callable[[np.ndarray], Sequence[Face]]


def quad(landmarks: np.ndarray) -> np.ndarray:
    """FFHQ's square `[4, 2]` around a face: upper left, lower left, lower right, upper right.

    `landmarks` `[5, 2]` as `Face` has them; it turns with the face, so "upper left" is the face's.
    A `UserError` where the points are not finite or all in one place.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise UserError(f"landmarks must be 5 finite points (x, y), not an array {points.shape}")
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    across, down = points[1] - points[0], mouth - eyes
    x = across + [down[1], -down[0]]  # both vectors say where "right" is; noise averages out
    if np.hypot(*x) < 1e-6:
        raise UserError("the landmarks are all in one place, or the face is turned inside out")
    x *= max(2.0 * np.hypot(*across), 1.8 * np.hypot(*down)) / np.hypot(*x)
    y = np.array([-x[1], x[0]])
    centre = eyes + 0.1 * down
    return np.stack([centre - x - y, centre - x + y, centre + x + y, centre + x - y])


def align(rgb: np.ndarray, quad: np.ndarray, size: int) -> np.ndarray:
    """The square `quad` of the photo `rgb` uint8 `[H, W, 3]`, upright: uint8 `[size, size, 3]`.

    What lies outside of the photo is mirrored, and fades into a blur and then into the photo's
    median colour. A `UserError` where the square is not finite, has its middle further than half of
    its side from the photo, or is four times as large.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise UserError(f"size is {size}; allowed are {SIZES[0]} to {SIZES[1]} pixels")
    side, photo = _side(quad), np.array([rgb.shape[1], rgb.shape[0]])
    beside = np.abs(quad.mean(0) + 0.5 - photo / 2) > (photo + side) / 2
    if not np.isfinite(quad).all() or not 1 <= side <= MAX_SIDE * photo.max() or beside.any():
        raise UserError(f"a square of {side:.1f} pixels that is not on the photo")
    image, quad = _shrink(Image.fromarray(rgb), quad, size)
    image, quad = _crop(image, quad)
    image, quad = _pad(image, quad)
    fine = size * min(max(math.ceil(_side(quad) / size), 2), 4)
    corners = tuple((quad + 0.5).ravel())  # Pillow counts from the corner of a pixel
    way = Image.Transform.QUAD
    image = image.transform((fine, fine), way, corners, Image.Resampling.BILINEAR)
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def _side(quad: np.ndarray) -> float:
    return float(np.hypot(*(quad[3] - quad[0])))


def _shrink(image: Image.Image, quad: np.ndarray, size: int) -> tuple[Image.Image, np.ndarray]:
    """The photo made smaller by a whole number where the square is much larger than needed."""
    factor = math.floor(_side(quad) / size / 2)
    if factor <= 1:
        return image, quad
    width, height = (max(1, round(side / factor)) for side in image.size)
    scale = np.array([width, height]) / image.size
    return image.resize((width, height), Image.Resampling.LANCZOS), (quad + 0.5) * scale - 0.5


def _crop(image: Image.Image, quad: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """The part around the square: nothing else need be padded or blurred."""
    border = max(round(_side(quad) * MARGIN), 3)
    low = np.maximum(np.floor(quad.min(0)).astype(int) - border, 0)
    high = np.minimum(np.ceil(quad.max(0)).astype(int) + border, image.size)
    low = np.minimum(low, np.array(image.size) - 1)  # a square beside the photo gets a pixel too
    high = np.maximum(high, low + 1)
    return image.crop((*low, *high)), quad - low


def _pad(image: Image.Image, quad: np.ndarray) -> tuple[Image.Image, np.ndarray]:
    """Room for a square that reaches over the border: mirrored, blurred, then the median colour."""
    side = _side(quad)
    border = max(round(side * MARGIN), 3)
    low = np.ceil(-quad.min(0)).astype(int) + border
    high = np.ceil(quad.max(0)).astype(int) - image.size + border
    if max(*low, *high) <= border - 4:
        return image, quad
    wide = max(round(side * WIDE_MARGIN), 1)
    (left, top), (right, bottom) = np.maximum(low, wide), np.maximum(high, wide)
    rgb = np.pad(np.asarray(image), ((top, bottom), (left, right), (0, 0)), "reflect")
    image = Image.fromarray(rgb)
    height, width = rgb.shape[:2]
    across = _outside(width, left, right)[None]
    outside = np.maximum(_outside(height, top, bottom)[:, None], across)[..., None]
    blurred = image.filter(ImageFilter.GaussianBlur(side * 0.02))
    values = rgb.astype(np.float32)
    values += (np.asarray(blurred, np.float32) - values) * np.clip(3 * outside + 1, 0, 1)
    values += (np.median(values, (0, 1)) - values) * np.clip(outside, 0, 1)
    return Image.fromarray(np.rint(values).clip(0, 255).astype(np.uint8)), quad + [left, top]


def _outside(size: int, low: int, high: int) -> np.ndarray:
    """1 at both ends of a padded side, 0 where the photo begins, negative inside of it."""
    at = np.arange(size, dtype=np.float32)
    return 1 - np.minimum(at / low, (size - 1 - at) / high)


def paste(photo: np.ndarray, aligned: np.ndarray, quad: np.ndarray, feather: float) -> np.ndarray:
    """`photo` uint8 `[H, W, 3]` with the square `aligned` `[S, S, 3]` put back where `align` took it.

    The seam is soft: from the edge of the square inwards the picture comes in over `feather` of its
    side (0..0.5, 0 is hard). Pixels outside of the square stay as they are.
    """
    if not 0 <= feather <= 0.5:
        raise UserError(f"feather is {feather}; allowed is 0 to 0.5 of the square's side")
    side = _side(quad)
    image = Image.fromarray(aligned)
    size = min(image.width, max(8, math.ceil(side)))
    if size < image.width:
        image = image.resize((size, size), Image.Resampling.LANCZOS)
    low = np.clip(np.floor(quad.min(0)).astype(int), 0, [photo.shape[1], photo.shape[0]])
    high = np.clip(np.ceil(quad.max(0)).astype(int) + 1, low, [photo.shape[1], photo.shape[0]])
    width, height = high - low
    if width == 0 or height == 0:
        return photo.copy()
    back = _affine(quad - low, size)
    edge = np.arange(size) + 0.5
    ramp = np.minimum(edge, size - edge) / max(feather * size, 0.5)
    mask = np.minimum(ramp[:, None], ramp[None]).clip(0, 1) * 255
    placed, alpha = (
        np.asarray(layer.transform((width, height), Image.Transform.AFFINE, back, how), np.float32)
        for layer, how in (
            (image, Image.Resampling.BICUBIC),
            (Image.fromarray(mask.astype(np.uint8)), Image.Resampling.BILINEAR),
        )
    )
    out = photo.copy()
    part = out[low[1] : high[1], low[0] : high[0]]
    part += np.rint((placed - part) * (alpha / 255)[..., None]).astype(np.int16).astype(np.uint8)
    return out


def _affine(quad: np.ndarray, size: int) -> tuple[float, ...]:
    """Pillow's six numbers that take a pixel of the photo to one of the `size` square."""
    origin = quad[0] + 0.5
    columns = np.stack([(quad[3] - quad[0]) / size, (quad[1] - quad[0]) / size], axis=1)
    inverse = np.linalg.inv(columns)
    shift = -inverse @ origin
    return (*inverse[0], shift[0], *inverse[1], shift[1])


# ----------------------------------------------------------------------------------- the verb


def aligner(
    size: int,
    *,
    landmarks: Mapping[str, np.ndarray] | None = None,
    detector: Detect | None = None,
    faces: str = "largest",
    no_face: str = "skip",
) -> Work:
    """What `prepare align` does to one picture; every output is `size` x `size`.

    `landmarks` are the data set's own, `[5, 2]` by the name of the picture (or the last part of
    its name); other pictures go through `detector`. `faces` is "largest" or "all", the largest first. Where
    none is found, "skip" leaves the picture out and "center" takes the square in its middle.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise UserError(f"size is {size}; allowed are {SIZES[0]} to {SIZES[1]} pixels")
    if faces not in ("largest", "all"):
        raise UserError(f"faces is {faces!r}; allowed are largest and all")
    if no_face not in ("skip", "center"):
        raise UserError(f"no_face is {no_face!r}; allowed are skip and center")
    own = landmarks or {}

    def work(rgb: np.ndarray, name: str) -> list[Made]:
        points = own.get(name, own.get(PurePosixPath(name).name))
        if points is not None:
            return [_made(rgb, name, size, Face((0, 0, 0, 0), 1.0, points), "own landmarks")]
        found = list(detector(rgb)) if detector else []
        if not found and no_face == "skip":
            raise UnreadablePicture(name, "no face found" if detector else "no landmarks")
        if not found:
            return [_centre(rgb, size)]
        made = []
        for n, face in enumerate(found[: 1 if faces == "largest" else None]):
            turn = f"detector, picture turned by {face.roll_retry} degrees"
            part = f"_{n + 1}" if n else ""
            made.append(_made(rgb, name, size, face, turn if face.roll_retry else "detector", part))
        return made

    return work


def _made(rgb: np.ndarray, name: str, size: int, face: Face, found: str, part: str = "") -> Made:
    try:
        square = quad(face.landmarks)
        facts = {
            "found": found,
            "score": round(float(face.score), 4),
            "landmarks": np.round(face.landmarks, 2).tolist(),
            "quad": np.round(square, 3).tolist(),
        }
        return Made(align(rgb, square, size), part, facts)
    except UserError as error:
        raise UnreadablePicture(name, str(error)) from error


def middle(rgb: np.ndarray, square: np.ndarray) -> Made:
    """`square`, which shows the largest square in the middle of `rgb`, as what alignment makes."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    right, bottom = left + side, top + side
    corners = np.array([[left, top], [left, bottom], [right, bottom], [right, top]]) - 0.5
    return Made(square, facts={"found": "centre", "quad": corners.tolist()})


def _centre(rgb: np.ndarray, size: int) -> Made:
    """The largest square in the middle; `align` would blur its rim, the rim of the photo."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    image = Image.fromarray(rgb).resize(
        (size, size), Image.Resampling.LANCZOS, (left, top, left + side, top + side)
    )
    made = middle(rgb, np.asarray(image))
    made.facts["note"] = "no face found"
    return made
