"""Faces of anime pictures, by the cascade `lbpcascade_animeface.xml` (Nagadomi, MIT).

The file is not part of this package and nothing fetches it unasked: `find_cascade` says where to get
it. OpenCV 4 runs it where that is installed; OpenCV 5 has no cascades, and scikit-image does instead.
Boxes are (left, top, right, bottom) in pixels, counted from the corner of the picture.
"""

import hashlib
import io
import os
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.errors import UserError

NAME = "lbpcascade_animeface.xml"
ADDRESS = f"https://raw.githubusercontent.com/nagadomi/lbpcascade_animeface/master/{NAME}"
SHA256 = "9376d30ac38db6bda2a68b88b3b76bbd7e6aa33af47f7f5c76bc88ca75f1ce30"
SMALLEST = 24  # pixels: side of the cascade's own window
STEP = 1.1  # from one size of the window to the next
# Windows that must agree on a face. scikit-image looks at every pixel and OpenCV at every second one
# of each row; with 10 the two find the same on real pictures (bench/faces.py).
AGREE = {"opencv": 5, "skimage": 10}
LARGEST = 1024  # pixels: longer pictures are searched in a smaller copy

Box = tuple[float, float, float, float]


def find_cascade(path: str | os.PathLike | None, cache: str | os.PathLike) -> bytes:
    """The cascade's file: at `path`, or by its name in the folder `cache`.

    A `UserError` where it is not there, or is not the published file: the readers behind are not made for
    hostile files, so the hash decides.
    """
    place = pathlib.Path(path) if path else pathlib.Path(cache) / NAME
    try:
        data = place.read_bytes()
    except OSError as error:
        raise UserError(
            f"{place}: {error.strerror or error}; anime faces need the cascade: get {ADDRESS},"
            f" and put it there or pass --cascade=FILE (SHA-256 {SHA256[:16]}...)"
        ) from error
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise UserError(
            f"{place} is not the published {NAME} (SHA-256 differs): get it again from {ADDRESS}"
        )
    return data


class AnimeFaces:
    """Picture uint8 `[H, W, 3]` to boxes of anime faces, the largest first, then from top to bottom.

    The picture is searched in grey with its histogram equalised, as the cascade's author has it.
    `engine` is "opencv" (version 4), "skimage", or "auto": the first of them that is there. Safe to
    call from several threads.
    """

    def __init__(self, cascade: bytes, *, engine: str = "auto"):
        if engine not in ("auto", "opencv", "skimage"):
            raise UserError(f"engine is {engine!r}; allowed are auto, opencv and skimage")
        self.engine = engine if engine != "auto" else "opencv" if _opencv() else "skimage"
        make = _with_opencv if self.engine == "opencv" else _with_skimage
        self._search = make(cascade)
        self._lock = threading.Lock()  # neither engine says that one cascade may be shared

    def __call__(self, rgb: np.ndarray) -> list[Box]:
        grey = Image.fromarray(rgb).convert("L")
        grey.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
        with self._lock:
            found = self._search(equalised(np.asarray(grey)))
        scale = rgb.shape[1] / grey.width, rgb.shape[0] / grey.height
        boxes = [
            (x * scale[0], y * scale[1], (x + w) * scale[0], (y + h) * scale[1])
            for x, y, w, h in found
        ]
        return sorted(boxes, key=lambda b: (-(b[2] - b[0]) * (b[3] - b[1]), b[1], b[0]))


def equalised(grey: np.ndarray) -> np.ndarray:
    """uint8 `[H, W]` with its histogram spread over 0..255, as OpenCV's `equalizeHist` does it."""
    counts = np.bincount(grey.ravel(), minlength=256)
    first = int(np.argmax(counts > 0))
    rest = grey.size - counts[first]
    if rest == 0:
        return grey.copy()
    sums = np.cumsum(counts) - counts[first]
    table = np.rint(sums.clip(0).astype(np.float32) * np.float32(255 / rest))
    return table.astype(np.uint8)[grey]


def _opencv() -> Any:
    """OpenCV's module if it can run cascades, else None."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2 if hasattr(cv2, "CascadeClassifier") else None


def _with_opencv(cascade: bytes) -> Callable[[np.ndarray], Sequence[Sequence[float]]]:
    cv2 = _opencv()
    if cv2 is None:
        raise UserError("this OpenCV has no cascades: pip install 'opencv-python-headless<5'")
    storage = cv2.FileStorage(
        cascade.decode("utf-8"), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY
    )
    classifier = cv2.CascadeClassifier()
    if not classifier.read(storage.getFirstTopLevelNode()):
        raise UserError("OpenCV cannot read the cascade; get it again")
    return lambda grey: classifier.detectMultiScale(
        grey, scaleFactor=STEP, minNeighbors=AGREE["opencv"], minSize=(SMALLEST, SMALLEST)
    )


def _with_skimage(cascade: bytes) -> Callable[[np.ndarray], Sequence[Sequence[float]]]:
    try:
        from skimage.feature import Cascade
    except ImportError as error:
        raise UserError(
            "anime faces need scikit-image: pip install 'artifygan_jax[prepare]'"
        ) from error
    engine = Cascade(io.BytesIO(cascade))

    def search(grey: np.ndarray) -> list[tuple[float, float, float, float]]:
        side = min(grey.shape)
        if side < SMALLEST:
            return []
        found = engine.detect_multi_scale(
            np.ascontiguousarray(grey),
            scale_factor=STEP,
            step_ratio=1,
            min_size=(SMALLEST, SMALLEST),
            max_size=(side, side),
            min_neighbor_number=AGREE["skimage"],
        )
        return [(d["c"], d["r"], d["width"], d["height"]) for d in found]

    return search


def cropper(
    find: Callable[[np.ndarray], Sequence[Box]], margin: float, faces: str = "largest"
) -> Callable[[np.ndarray, str], list[Box]]:
    """The crop of `transforms.resizer`: (picture, its name) to the boxes around its faces.

    `find` gives the faces, the largest first: an `AnimeFaces`, or a `detect.Detector` through the boxes
    of what it finds. `margin` is added on each side, in sides of the face's box. `faces` is
    "largest" or "all". A picture without a face is an `UnreadablePicture`.
    """
    if not 0 <= margin <= 2:
        raise UserError(f"margin is {margin}; allowed is 0 to 2 of the face's side")
    if faces not in ("largest", "all"):
        raise UserError(f"faces is {faces!r}; allowed are largest and all")

    def crop(rgb: np.ndarray, name: str) -> list[Box]:
        found = find(rgb)
        if not found:
            raise UnreadablePicture(name, "no face found")
        boxes = []
        for left, top, right, bottom in found[: 1 if faces == "largest" else None]:
            half = (0.5 + margin) * max(right - left, bottom - top)
            x, y = (left + right) / 2, (top + bottom) / 2
            boxes.append((x - half, y - half, x + half, y + half))
        return boxes

    return crop
