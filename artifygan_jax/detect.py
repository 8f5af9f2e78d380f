"""Finds faces and five points of each: MTCNN (arXiv:1604.02878) with fixed shapes, in any photo.

All levels of the picture's pyramid lie side by side in one canvas of a fixed size, and what R-net
and O-net look at comes in batches of a fixed size: three programs are compiled, whatever the
sizes of the photos. Resizing is Pillow's, which filters as it shrinks.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from artifygan_jax import bundle
from artifygan_jax.data.align import Face
from artifygan_jax.errors import UserError
from artifygan_jax.nets import ops
from artifygan_jax.nets.mtcnn import SIDES
from artifygan_jax.weights import mtcnn

CELL, STRIDE = SIDES["pnet"], 2
FACTOR = 0.709  # from one level to the next, of the authors: half the area
THRESHOLDS = {"pnet": 0.6, "rnet": 0.7, "onet": 0.7}
LEVEL_OVERLAP, OVERLAP = 0.5, 0.7  # what two boxes of one face share: within a level, and later
BATCH = {"rnet": 64, "onet": 16}
AT_MOST = {"rnet": 512, "onet": 64}  # candidates that each net looks at, the best first
SMALLEST = 20  # pixels: smaller faces say nothing
WORK_SIDE = 1280  # faces are looked at in the photo shrunk to this
# Degrees that the picture is turned where it shows no sure face as it is: one with a score of SURE whose
# eyes are at most MAX_TILT degrees from level. Rolled faces are found without it too, with poor points.
TURNS = (30, -30, 90, -90, 60, -60, 180)
SURE, MAX_TILT = 0.99, 20.0
TURNED_SCORE = 0.97  # what a face must reach in a turned picture: more tries, more false alarms
# Which turn is right: the score of its best face, less so much for each degree off level, and more for
# each other turn that found the same points, to this share of the distance between the eyes.
TILT_COST, VOTE, SAME = 0.001, 0.1, 0.2


@dataclasses.dataclass(frozen=True)
class Level:
    """One level of the pyramid: where it lies in the canvas, and its size. Even places."""

    left: int
    top: int
    width: int
    height: int


class Detector:
    """MTCNN as a function: photo to faces. Safe to call from several threads.

    `nets` are the three nets by stage. `share` is the smallest face that is looked for, as a share
    of the photo's longer side (and never below 20 pixels). `turn` looks again in the picture turned
    where no face is sure, and takes the turn that is most likely right.
    """

    def __init__(self, nets: Mapping[str, nnx.Module], *, share: float = 0.04, turn: bool = True):
        if not 0.01 <= share <= 0.5:
            raise UserError(f"the smallest face is {share} of the photo; allowed are 0.01 to 0.5")
        self._side = math.ceil(CELL / share / 2) * 2
        self._turn = turn
        self._states, self._programs = {}, {}
        for stage, net in nets.items():
            graph, self._states[stage] = nnx.split(net)
            self._programs[stage] = ops.jit(functools.partial(_run, graph))

    @classmethod
    def from_package(cls, **options: Any) -> "Detector":
        """With the weights of the installed package `mtcnn`; a `UserError` where it is missing."""
        arrays = mtcnn.package_arrays()
        nets = {s: bundle.build("mtcnn", "mtcnn", {"stage": s}, arrays[s]) for s in SIDES}
        return cls(nets, **options)

    def __call__(self, rgb: np.ndarray) -> list[Face]:
        """The faces of a photo uint8 `[H, W, 3]`, the largest first; then from top to bottom."""
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
            raise UserError(f"a photo is uint8 [H, W, 3], not {rgb.dtype} {list(rgb.shape)}")
        image = Image.fromarray(rgb)
        image.thumbnail((WORK_SIDE, WORK_SIDE), Image.Resampling.BILINEAR)
        scale = np.array([rgb.shape[1], rgb.shape[0]]) / image.size
        faces = self._look(image, 0)
        if self._turn and not any(_is_sure(face) for face in faces):
            faces = _choose([faces, *(self._look(image, angle) for angle in TURNS)])
        return sorted((_scaled(face, scale) for face in faces), key=_order)

    def _look(self, image: Image.Image, angle: int) -> list[Face]:
        """The faces of the picture turned by `angle` degrees, in coordinates of `image`."""
        turned = _turned(image, angle)
        boxes = self._propose(turned)
        boxes, _, _ = self._refine("rnet", turned, boxes, "union")
        boxes, scores, points = self._refine("onet", turned, boxes, "smaller")
        faces = []
        for box, score, five in zip(boxes, scores, points, strict=True):
            corners = _turn_back(box[[[0, 1], [0, 3], [2, 3], [2, 1]]], image, turned, angle)
            around = (*corners.min(0).tolist(), *corners.max(0).tolist())
            five = _turn_back(five, image, turned, angle)
            faces.append(Face(around, float(score), five - 0.5, angle))
        return faces

    def _propose(self, image: Image.Image) -> np.ndarray:
        """P-net's candidates `[N, 4]` at all levels, made square, the best first."""
        canvas, levels = _canvas(image, self._side)
        found = self._call("pnet", canvas[None])
        face, move = found["face"][0], found["box"][0]
        boxes, scores = [np.zeros((0, 4))], [np.zeros(0)]
        for level in levels:
            rows = slice(level.top // STRIDE, (level.top + level.height - CELL) // STRIDE + 1)
            columns = slice(level.left // STRIDE, (level.left + level.width - CELL) // STRIDE + 1)
            some = np.argwhere(face[rows, columns] >= THRESHOLDS["pnet"])
            score = face[rows, columns][tuple(some.T)]
            corner = some[:, ::-1] * STRIDE
            box = np.concatenate([corner, corner + CELL], 1)
            box = box + CELL * move[rows, columns][tuple(some.T)]
            box = box * np.tile(np.array(image.size) / (level.width, level.height), 2)
            keep = suppress(box, score, LEVEL_OVERLAP)
            boxes.append(box[keep])
            scores.append(score[keep])
        boxes, scores = np.concatenate(boxes), np.concatenate(scores)
        return _square(boxes[suppress(boxes, scores, OVERLAP)])

    def _refine(
        self, stage: str, image: Image.Image, boxes: np.ndarray, by: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(boxes `[N, 4]`, scores, points `[N, 5, 2]`) that the net `stage` agrees with, moved by it.

        The points are of O-net; for R-net they are empty, and its boxes are made square again.
        """
        boxes = boxes[: AT_MOST[stage]]
        found = self._ask(stage, _crops(image, boxes, SIDES[stage]))
        good = found["face"] >= THRESHOLDS[stage]
        boxes, found = boxes[good], {k: v[good] for k, v in found.items()}
        sides = boxes[:, 2:] - boxes[:, :2]
        moved = boxes + found["box"] * np.tile(sides, 2)
        points = boxes[:, None, :2] + found["points"] * sides[:, None]
        keep = suppress(moved, found["face"], OVERLAP, by)
        moved = _square(moved[keep]) if stage == "rnet" else moved[keep]
        return moved, found["face"][keep], points[keep]

    def _ask(self, stage: str, crops: np.ndarray) -> dict[str, np.ndarray]:
        """R-net's or O-net's answers for uint8 crops `[N, side, side, 3]`, in batches of one size."""
        parts = [{"face": np.zeros(0), "box": np.zeros((0, 4)), "points": np.zeros((0, 5, 2))}]
        for at in range(0, len(crops), BATCH[stage]):
            part = crops[at : at + BATCH[stage]]
            room = np.zeros((BATCH[stage] - len(part), *part.shape[1:]), np.uint8)
            found = self._call(stage, np.concatenate([part, room]))
            found = {k: v[: len(part), 0, 0] for k, v in found.items()}
            parts.append({"points": np.zeros((len(part), 5, 2)), **found})
        return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}

    def _call(self, stage: str, images: np.ndarray) -> dict[str, np.ndarray]:
        return jax.device_get(self._programs[stage](self._states[stage], images))


def _run(graph: Any, state: Any, images: jax.Array) -> dict[str, jax.Array]:
    """One of the nets on uint8 images."""
    return nnx.merge(graph, state)(images.astype(jnp.float32) / 127.5 - 1)


# ------------------------------------------------------------------------------------ pyramid


@functools.cache
def _places(side: int) -> tuple[tuple[int, int, int], ...]:
    """(left, top, side) of every level of a square photo: two shelves, which waste little."""
    sides = []
    while side >= CELL:
        sides.append(side)
        side = math.ceil(side * FACTOR / 2) * 2
    places, left, top = [], 0, 0
    for n, size in enumerate(sides):
        if n == 2:
            left, top = 0, sides[0]
        places.append((left, top, size))
        left += size
    return tuple(places)


def _canvas(image: Image.Image, side: int) -> tuple[np.ndarray, list[Level]]:
    """uint8 `[H, W, 3]` of one size for every photo, with all levels that can hold a face."""
    places = _places(side)
    shape = max(top + size for _, top, size in places), max(x + size for x, _, size in places)
    canvas = np.zeros((*shape, 3), np.uint8)
    first = min(side / max(image.size), CELL / SMALLEST)
    levels: list[Level] = []
    for n, (left, top, _) in enumerate(places):
        width, height = (round(x * first * FACTOR**n) for x in image.size)
        if min(width, height) < CELL:
            break
        small = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        canvas[top : top + height, left : left + width] = np.asarray(small)
        levels.append(Level(left, top, width, height))
    return canvas, levels


def _crops(image: Image.Image, boxes: np.ndarray, size: int) -> np.ndarray:
    """The boxes `[N, 4]` of the picture as uint8 `[N, size, size, 3]`; black outside of it."""
    crops = np.zeros((len(boxes), size, size, 3), np.uint8)
    for n, box in enumerate(boxes):
        low, high = np.floor(box[:2]), np.ceil(box[2:])
        part = image.crop((*low.astype(int), *high.astype(int)))
        within = tuple((box - np.tile(low, 2)).tolist())
        crops[n] = np.asarray(part.resize((size, size), Image.Resampling.BILINEAR, within))
    return crops


# -------------------------------------------------------------------------------------- boxes


def suppress(boxes: np.ndarray, scores: np.ndarray, limit: float, by: str = "union") -> np.ndarray:
    """Non-maximum suppression: indexes of the boxes `[N, 4]` to keep, the best first.

    A box goes where it shares more than `limit` of the "union" (or of the "smaller" box) with a
    better one that stays. Equal scores keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = np.prod((high - low).clip(0), axis=1)
        smaller = np.minimum(area[best], area[rest])
        whole = smaller if by == "smaller" else area[best] + area[rest] - shared
        order = rest[shared <= limit * whole]
    return np.array(keep, int)


def _square(boxes: np.ndarray) -> np.ndarray:
    """Boxes `[N, 4]` made square around their middle, by the longer side; empty ones are gone."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    return np.concatenate([middle - half, middle + half], 1)[half[:, 0] >= 1]


# ---------------------------------------------------------------------------------- turning


def _turned(image: Image.Image, angle: int) -> Image.Image:
    """The picture turned counter-clockwise, larger where need be."""
    return image.rotate(angle, Image.Resampling.BILINEAR, expand=True) if angle else image


def _turn_back(points: np.ndarray, image: Image.Image, turned: Image.Image, angle: int):
    """Points `[N, 2]` of the turned picture in the original; (0, 0) is its corner in both."""
    if not angle:
        return points
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    back = np.array([[cosine, -sine], [sine, cosine]])
    return (points - np.array(turned.size) / 2) @ back.T + np.array(image.size) / 2


def _tilt(face: Face) -> float:
    """Degrees that the eyes are away from level in the picture in which the face was found."""
    right, down = face.landmarks[1] - face.landmarks[0]
    tilt = math.degrees(math.atan2(down, right)) - face.roll_retry
    return abs((tilt + 180) % 360 - 180)


def _is_sure(face: Face) -> bool:
    """Whether no other turn of the picture need be tried."""
    return face.score >= SURE and _tilt(face) <= MAX_TILT


def _choose(looks: list[list[Face]]) -> list[Face]:
    """The faces of the turn that is most likely right; each item of `looks` is of one turn."""
    best = [max(faces, key=lambda face: face.score) for faces in looks if faces]

    def quality(face: Face) -> float:
        votes = sum(_apart(other, face) < SAME for other in best) - 1
        return face.score - TILT_COST * _tilt(face) + VOTE * votes

    good = [face for face in best if not face.roll_retry or face.score >= TURNED_SCORE]
    if not good:
        return []
    turn = max(good, key=quality).roll_retry
    enough = TURNED_SCORE if turn else 0.0
    return [f for faces in looks for f in faces if f.roll_retry == turn and f.score >= enough]


def _apart(one: Face, other: Face) -> float:
    """Mean distance of their points, in distances between the eyes of `other`."""
    eyes = np.hypot(*(other.landmarks[1] - other.landmarks[0]))
    return float(np.hypot(*(one.landmarks - other.landmarks).T).mean() / max(eyes, 1e-6))


def _scaled(face: Face, scale: np.ndarray) -> Face:
    """The face in the photo, of which the picture looked at was a smaller copy."""
    box = tuple((np.reshape(face.box, (2, 2)) * scale).ravel().tolist())
    landmarks = (face.landmarks + 0.5) * scale - 0.5
    return dataclasses.replace(face, box=box, landmarks=landmarks)


def _order(face: Face) -> tuple[float, ...]:
    left, top, right, bottom = face.box
    return (-(right - left) * (bottom - top), top, left)
