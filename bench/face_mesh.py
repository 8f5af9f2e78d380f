"""A second opinion on faces: MediaPipe's BlazeFace and face mesh, run by torch from their weights.

Not part of the package; `faces.py` and one test measure against it. The layers are read off the names
and shapes of the state dicts: a depthwise and a pointwise convolution with a skip a block.
"""

import math
import pathlib
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

# Blocks of stride 2, from the published architectures (they do not show in the shapes).
DETECTOR_HALVES = {"backbone1.4", "backbone1.7", "backbone2.0"}
MESH_HALVES = {f"backbone1.{n}" for n in (4, 7, 10, 13)} | {"backbone2a.0", "backbone2b.0"}
# Points of the mesh, as seen in the picture: corners of the left and right eye, tip of the nose,
# left and right corner of the mouth.
FIVE = ((33, 133), (362, 263), (1,), (61,), (291,))

Weights = Mapping[str, torch.Tensor]


class FaceMesh:
    """Photo to five points `[5, 2]` of its best face, or None; pixels as in `artifygan_jax.detect`."""

    def __init__(self, folder: pathlib.Path):
        """`folder` has blazeface.pth, blazeface_anchors.npy and blazeface_landmark.pth."""
        self.detector = torch.load(folder / "blazeface.pth", "cpu", weights_only=True)
        self.mesh = torch.load(folder / "blazeface_landmark.pth", "cpu", weights_only=True)
        self.anchors = np.load(folder / "blazeface_anchors.npy")

    def __call__(self, rgb: np.ndarray) -> np.ndarray | None:
        found = self.detect(rgb)
        if found is None:
            return None
        box, eyes = found
        middle, side = (box[:2] + box[2:]) / 2, float(box[2] - box[0])
        # Twice: the second crop is centred on what the first one saw.
        points = self.look(rgb, middle, 1.5 * side, _roll(*eyes))
        if points is None:
            return None
        low, high = points.min(0), points.max(0)
        five = _five(points)
        points = self.look(
            rgb, (low + high) / 2, 1.5 * float((high - low).max()), _roll(five[0], five[1])
        )
        return None if points is None else _five(points) - 0.5

    @torch.no_grad()
    def detect(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """(box `[4]`, two eyes `[2, 2]`) of the best face, counted from the corner, or None."""
        side = max(rgb.shape[:2])
        image = Image.fromarray(rgb).crop((0, 0, side, side)).resize((128, 128), 2)
        x = F.pad(_tensor(image), (1, 2, 1, 2))
        weights = self.detector
        x = F.relu(F.conv2d(x, weights["backbone1.0.weight"], weights["backbone1.0.bias"], 2))
        x = _blocks(x, weights, "backbone1", DETECTOR_HALVES)
        y = _blocks(x, weights, "backbone2", DETECTOR_HALVES)
        answers = {}
        for kind, width in (("classifier", 1), ("regressor", 16)):
            maps = [_conv(z, weights, f"{kind}_{n}") for z, n in ((x, 8), (y, 16))]
            answers[kind] = np.concatenate([m[0].permute(1, 2, 0).reshape(-1, width) for m in maps])
        scores = 1 / (1 + np.exp(-answers["classifier"][:, 0].astype(float).clip(-100, 100)))
        if scores.max() < 0.5:
            return None
        best = scores.argmax()
        near = scores > 0.9 * scores[best]  # a mean over the neighbours is steadier
        centres = answers["regressor"] / 128
        centres[:, [0, 1]] += self.anchors[:, :2]
        for k in range(4, 16, 2):
            centres[:, k : k + 2] += self.anchors[:, :2]
        near &= np.abs(centres[:, :2] - centres[best, :2]).max(1) < centres[best, 2] / 4
        mean = np.average(centres[near], axis=0, weights=scores[near]) * side
        half = mean[2:4] / 2
        return np.concatenate([mean[:2] - half, mean[:2] + half]), mean[4:8].reshape(2, 2)

    @torch.no_grad()
    def look(
        self, rgb: np.ndarray, middle: np.ndarray, side: float, roll: float
    ) -> np.ndarray | None:
        """The 468 points of the face in a turned square, or None where it shows none."""
        turn = np.array([[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]])
        origin = middle + turn @ np.full(2, -side / 2)
        step = turn * side / 192
        numbers = (*step[0], origin[0], *step[1], origin[1])
        image = Image.fromarray(rgb)
        image = image.transform((192, 192), Image.Transform.AFFINE, numbers, 2)
        weights = self.mesh
        x = F.pad(_tensor(image), (0, 1, 0, 1))
        x = F.conv2d(x, weights["backbone1.0.weight"], weights["backbone1.0.bias"], 2)
        x = _blocks(F.prelu(x, weights["backbone1.1.weight"]), weights, "backbone1", MESH_HALVES)
        flag = torch.sigmoid(_blocks(x, weights, "backbone2b", MESH_HALVES)).item()
        if flag < 0.5:
            return None
        points = _blocks(x, weights, "backbone2a", MESH_HALVES).reshape(468, 3)[:, :2].numpy()
        return origin + points @ step.T


def _tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image, np.float32) / 255).permute(2, 0, 1)[None]


def _conv(x: torch.Tensor, weights: Weights, name: str, **options) -> torch.Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)


def _blocks(x: torch.Tensor, weights: Weights, stage: str, halves: set[str]) -> torch.Tensor:
    """All layers of a stage behind its first convolution of the picture, by their numbers."""
    numbers = sorted({int(k.split(".")[1]) for k in weights if k.split(".")[0] == stage})
    for n in numbers:
        name = f"{stage}.{n}"
        if f"{name}.convs.0.weight" in weights:
            x = _block(x, weights, name, name in halves)
        elif stage == "backbone1":
            continue  # the first convolution and its PReLU
        elif weights[f"{name}.weight"].ndim == 1:
            x = F.prelu(x, weights[f"{name}.weight"])
        else:
            x = _conv(x, weights, name)
    return x


def _block(x: torch.Tensor, weights: Weights, name: str, halve: bool) -> torch.Tensor:
    channels = x.shape[1]
    y = F.pad(x, (0, 2, 0, 2)) if halve else F.pad(x, (1, 1, 1, 1))
    y = _conv(y, weights, f"{name}.convs.0", groups=channels, stride=2 if halve else 1)
    y = _conv(y, weights, f"{name}.convs.1")
    x = F.max_pool2d(x, 2) if halve else x
    y = y + F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - channels))
    slope = weights.get(f"{name}.act.weight")
    return F.relu(y) if slope is None else F.prelu(y, slope)


def _roll(left: np.ndarray, right: np.ndarray) -> float:
    return math.atan2(right[1] - left[1], right[0] - left[0])


def _five(points: np.ndarray) -> np.ndarray:
    return np.stack([points[list(some)].mean(0) for some in FIVE])
