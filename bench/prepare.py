"""How fast are pictures decoded, smoothed and prepared, and is the fast way the right one?

    python bench/prepare.py --size=256 --source=img_align_celeba.zip,train2017.zip

The JPEGs of each `--source` (a folder, a glob or a zip; without one, drawn faces of 178 x 218) are
decoded, and decoded with their centre square resized: by ours with and without simplejpeg, by Pillow
alone, with its draft mode, and by OpenCV and simplejpeg with OpenCV's resizing. `differs` is the
largest difference to ours, of 255, so that a fast row that shows other pixels is seen as such. Then
the work of `prepare`: edge smoothing, and whole pictures from their bytes to the bytes of an output.
Files are read before the clock starts. With one thread the numbers are per core. Needs the extra
`prepare`.
"""

import argparse
import functools
import io
from collections.abc import Callable
from typing import Any
from unittest import mock

import _common as common
import cv2
import numpy as np
from PIL import Image

from artifygan_jax.data import decode, edges
from artifygan_jax.data.faces import Faces
from artifygan_jax.data.images import open_picture
from artifygan_jax.data.listing import list_pictures
from artifygan_jax.data.prepared import SUFFIXES, Work, encoded
from artifygan_jax.data.streams import square
from artifygan_jax.data.transforms import resizer

Way = Callable[[bytes], np.ndarray]


def options(parser: argparse.ArgumentParser) -> None:
    """The flags of this script."""
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--count", type=int, default=32, help="pictures of each source")
    parser.add_argument("--source", default="", help="places of JPEGs (none: drawn faces)")


def measure(args: argparse.Namespace, metric: str) -> dict[str, Any]:
    """All rows of one run."""
    if metric == "cpu":
        cv2.setNumThreads(1)
    rows, notes = [], []
    for place in args.source.split(","):
        files = jpegs(place, args.count)
        sizes = sorted({"x".join(map(str, Image.open(io.BytesIO(f)).size)) for f in files})
        notes.append(
            f"{place or 'drawn'}: {len(files)} JPEGs of {sum(map(len, files)) / len(files):.0f} bytes,"
            f" {', '.join(sizes[:3])}{', ...' if len(sizes) > 3 else ''}"
        )
        for task, ways in (tasks(args.size) | _pngs(files, args.size)).items():
            found = compare(ways, files, args.rounds, metric)
            rows += [{"source": place or "drawn", "task": task, **row} for row in found]
    return {"rows": rows, "notes": notes}


def jpegs(place: str, count: int) -> list[bytes]:
    """Up to `count` JPEGs, spread over the place."""
    if place:
        entries = [e for e in list_pictures(place) if e.name.lower().endswith((".jpg", ".jpeg"))]
        return [e.read() for e in entries[:: max(1, len(entries) // count)][:count]]
    faces = Faces("photo", count, 3, 218)
    drawn = [Image.fromarray(faces[i][:, 20:198]) for i in range(count)]
    return [_saved(picture, "JPEG", quality=92) for picture in drawn]


def compare(ways: dict[str, Way], files: list[bytes], rounds: int, metric: str) -> list[dict]:
    """Rows of one task: each way does all the files; the first is what the others are held against."""

    def run(way: Way) -> None:
        for file in files:
            way(file)

    calls: common.Contenders = {name: functools.partial(run, way) for name, way in ways.items()}
    seconds = common.interleave(calls, rounds, metric)
    first = next(iter(ways))
    return [
        {
            "way": name,
            "images_per_s": len(files) / seconds[name],
            "ratio": seconds[first] / seconds[name],
            "differs": _difference(way, ways[first], files),
        }
        for name, way in ways.items()
    ]


def tasks(size: int) -> dict[str, dict[str, Way]]:
    """By task, the ways to do it, ours first."""
    decoders: dict[str, Way] = {
        "ours": lambda file: open_picture(file).rgb,
        "ours without simplejpeg": _without_simplejpeg(lambda file: open_picture(file).rgb),
        "Pillow": lambda file: np.array(_pillow(file)),
        "OpenCV": _imdecode,
    }
    squares: dict[str, Way] = {
        "ours": lambda file: square(open_picture(file).rgb, size),
        "ours without simplejpeg": _without_simplejpeg(
            lambda file: square(open_picture(file).rgb, size)
        ),
        "Pillow": lambda file: _pillow_square(_pillow(file), size),
        "Pillow, draft": lambda file: _pillow_square(_pillow(file, draft=size), size),
        "OpenCV": lambda file: _opencv_square(_imdecode(file), size),
        "ours, OpenCV's resizing": lambda file: _opencv_square(open_picture(file).rgb, size),
    }
    return {
        "decode": decoders,
        f"decode, square {size}": squares,
        f"smooth {size}": _smoothing(size),
        **{f"prepare {verb} {size}": ways for verb, ways in _prepared(size).items()},
    }


def _smoothing(size: int) -> dict[str, Way]:
    """The smoothing alone: the squares are made before, and kept."""
    made = functools.cache(lambda file: square(open_picture(file).rgb, size))
    return {
        "ours": lambda file: edges.smooth(made(file)),
        "float64 and numpy": lambda file: _float_smooth(made(file)),
    }


PNGS: dict[str, Callable[[np.ndarray], bytes]] = {
    "ours": lambda rgb: encoded(rgb, ".png"),
    "Pillow, level 1": lambda rgb: _saved(Image.fromarray(rgb), "PNG", compress_level=1),
    "Pillow": lambda rgb: _saved(Image.fromarray(rgb), "PNG"),
}


def _pngs(files: list[bytes], size: int) -> dict[str, dict[str, Way]]:
    """Writing and reading PNGs: the squares, and the files, are made before, and kept."""
    made = functools.cache(lambda file: square(open_picture(file).rgb, size))
    written = {k: {f: write(made(f)) for f in files} for k, write in PNGS.items()}

    def writing(write, file: bytes) -> np.ndarray:
        write(made(file))
        return made(file)

    reading = {
        f"{name}, {np.mean([len(p) for p in pngs.values()]):.0f} bytes": lambda f, p=pngs: (
            open_picture(p[f]).rgb
        )
        for name, pngs in written.items()
    }
    return {
        f"write a PNG {size}": {k: functools.partial(writing, w) for k, w in PNGS.items()},
        f"read a PNG {size}": reading,
    }


def _prepared(size: int) -> dict[str, dict[str, Way]]:
    """By verb and by format: from the bytes of a file to those of the output, not yet written."""

    def whole(work: Work, suffix: str, file: bytes) -> np.ndarray:
        (made,) = work(open_picture(file).rgb, "")
        encoded(made.rgb, suffix)
        return made.rgb

    works = {
        "images": resizer(size, "center"),
        "smooth": edges.smoother(size),
        "smooth, deck": edges.smoother(size, "deck"),
    }
    return {
        verb: {suffix: functools.partial(whole, work, suffix) for suffix in SUFFIXES}
        for verb, work in works.items()
    }


def _float_smooth(image: np.ndarray) -> np.ndarray:
    """The recipe as one would write it: the whole picture in float64, truncated, selected by numpy."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    mask = cv2.dilate(cv2.Canny(grey, 100, 200), np.ones((5, 5), np.uint8))
    taps = np.array([1, 4, 6, 4, 1]) / 16
    blurred = cv2.sepFilter2D(
        image.astype(np.float64), -1, taps, taps, borderType=cv2.BORDER_REFLECT_101
    )
    return np.where(mask[..., None] > 0, blurred.astype(np.uint8), image)


def _without_simplejpeg(way: Way) -> Way:
    """`way` as it is where the package is not installed."""

    def run(file: bytes) -> np.ndarray:
        with mock.patch.object(decode, "_simplejpeg", lambda: None):
            return way(file)

    return run


def _pillow(file: bytes, draft: int = 0) -> Image.Image:
    picture = Image.open(io.BytesIO(file))
    if draft:
        picture.draft("RGB", (draft, draft))
    return picture.convert("RGB")


def _pillow_square(picture: Image.Image, size: int) -> np.ndarray:
    w, h = picture.size
    side = min(w, h)
    box = ((w - side) / 2, (h - side) / 2, (w + side) / 2, (h + side) / 2)
    return np.array(picture.resize((size, size), Image.Resampling.BICUBIC, box=box))


def _imdecode(file: bytes) -> np.ndarray:
    bgr = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _opencv_square(image: np.ndarray, size: int) -> np.ndarray:
    """OpenCV's advice: cubic to enlarge, areas to shrink; the square is cut at whole pixels."""
    h, w = image.shape[:2]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    image = image[top : top + side, left : left + side]
    way = cv2.INTER_CUBIC if side < size else cv2.INTER_AREA
    return cv2.resize(image, (size, size), interpolation=way)


def _difference(way: Way, first: Way, files: list[bytes]) -> int:
    return max(int(np.abs(way(f).astype(int) - first(f)).max()) for f in files)


def _saved(picture: Image.Image, format: str, **settings) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **settings)
    return file.getvalue()


if __name__ == "__main__":
    common.main(__doc__, options, measure, host=True)
