"""Face detection on real pictures: how many faces, how right their points, how many false alarms.

    python bench/faces.py [--count=300] [--rolled=50] [--only=photos,rolled,alarms,anime] [--json=F]

Reads the project's folder of real pictures (ARTIFYGAN_SHARED). `photos`: held-out selfies and CelebA;
points are held against MediaPipe's face mesh (`face_mesh.py`, needs torch), as the mean distance of
the five in units of the distance between the eyes. `rolled`: selfies turned by known angles, points
held against those of the upright picture. `alarms`: COCO pictures without a person. `anime`: the
cascade's engines on anime faces. Not a matter of time, but CPU time a picture is printed.
"""

import argparse
import json
import math
import os
import pathlib
import time
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from artifygan_jax.data import anime_faces, listing, split
from artifygan_jax.data.align import Face
from artifygan_jax.data.images import open_picture
from artifygan_jax.detect import Detector
from artifygan_jax.errors import UserError

HERE = pathlib.Path(__file__).parent.parent
SHARED = pathlib.Path(os.environ.get("ARTIFYGAN_SHARED", HERE.parent / "shared")) / "data"
SETS = {
    "selfies": "selfie2anime/selfie2anime.zip/trainA",
    "CelebA": "celeba/img_align_celeba.zip",
}
ANGLES = (0, 15, 30, 45, 60, 90, 135, 180)
WRONG = 0.3  # of the distance between the eyes: points that are not those of the face

Row = dict[str, Any]


def held_out(where: str, count: int) -> list[np.ndarray]:
    """The first `count` held-out pictures of a set."""
    entries = listing.list_pictures(SHARED / where)
    held = split.held_out([entry.name for entry in entries])
    return [pixels(e) for e, keep in zip(entries, held) if keep][:count]


def pixels(entry: listing.Entry) -> np.ndarray:
    return open_picture(entry.read(), name=entry.name).rgb


def error(points: np.ndarray, reference: np.ndarray) -> float:
    """Mean distance of five points, in distances between the reference's eyes."""
    eyes = np.hypot(*(reference[1] - reference[0]))
    return float(np.hypot(*(points - reference).T).mean() / eyes)


def timed(detector: Detector, pictures: Sequence[np.ndarray]) -> tuple[list[list[Face]], float]:
    """What is found in each picture, and CPU milliseconds for one."""
    detector(pictures[0])  # compiles
    start = time.process_time()
    found = [detector(rgb) for rgb in pictures]
    return found, 1000 * (time.process_time() - start) / len(pictures)


def photos(detector: Detector, args: argparse.Namespace) -> list[Row]:
    """Shares found and errors on the sets of photos."""
    mesh = second_opinion()
    rows = []
    for name, where in SETS.items():
        pictures = held_out(where, args.count)
        found, ms = timed(detector, pictures)
        best = [faces[0] if faces else None for faces in found]
        row: Row = {
            "set": name,
            "pictures": len(pictures),
            "found": share(b is not None for b in best),
            "unturned": share(b is not None and not b.roll_retry for b in best),
            "several": share(len(faces) > 1 for faces in found),
            "cpu_ms": ms,
        }
        if mesh:
            other = [mesh(rgb) for rgb in pictures]
            both = [(b.landmarks, m) for b, m in zip(best, other) if b and m is not None]
            errors = [error(points, m) for points, m in both]
            bias = np.median([(p - m) / np.hypot(*(m[1] - m[0])) for p, m in both], axis=0)
            row |= {
                "mesh_found": share(m is not None for m in other),
                "error_median": float(np.median(errors)),
                "error_p90": float(np.percentile(errors, 90)),
                "wrong": share(e > WRONG for e in errors),
                "bias": np.round(bias, 3).tolist(),  # dx, dy of each point, median
            }
        rows.append(row)
    return rows


def second_opinion() -> Callable[[np.ndarray], np.ndarray | None] | None:
    """The face mesh, or None without torch."""
    try:
        import torch
        from face_mesh import FaceMesh
    except ImportError:
        return None
    torch.set_num_threads(1)
    return FaceMesh(SHARED / "weights")


def rolled(detector: Detector, args: argparse.Namespace) -> list[Row]:
    """Selfies turned by known angles: what is found, and how far the points are from the truth."""
    upright = [(rgb, faces[0]) for rgb in held_out(SETS["selfies"], 200)[:: 200 // args.rolled]
               if (faces := detector(rgb)) and not faces[0].roll_retry]  # fmt: skip
    rows = []
    for angle in ANGLES:
        errors = []
        for n, (rgb, face) in enumerate(upright):
            turn = angle if n % 2 else -angle
            image, truth = roll(rgb, face.landmarks, turn)
            faces = detector(image)
            errors.append(error(faces[0].landmarks, truth) if faces else None)
        known = [e for e in errors if e is not None]
        rows.append(
            {
                "angle": angle,
                "pictures": len(errors),
                "found": len(known) / len(errors),
                "wrong": share(e > WRONG for e in known),
                "error_median": float(np.median(known)),
                "error_p90": float(np.percentile(known, 90)),
            }
        )
    return rows


def roll(rgb: np.ndarray, points: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture turned counter-clockwise by `angle` degrees, and its points there."""
    image = Image.fromarray(rgb)
    turned = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    there = np.array([[cosine, sine], [-sine, cosine]])
    middle = np.array(image.size) / 2 - 0.5
    return np.asarray(turned), (points - middle) @ there.T + np.array(turned.size) / 2 - 0.5


def alarms(detector: Detector, args: argparse.Namespace) -> list[Row]:
    """Faces in COCO pictures that have no person, by the annotations."""
    del args
    with zipfile.ZipFile(SHARED / "coco/annotations_trainval2017.zip") as archive:
        table = json.loads(archive.read("annotations/instances_train2017.json"))
    person = next(c["id"] for c in table["categories"] if c["name"] == "person")
    peopled = {a["image_id"] for a in table["annotations"] if a["category_id"] == person}
    entries = listing.list_pictures(SHARED / "coco/train2017.zip")
    entries = [e for e in entries if int(pathlib.PurePath(e.name).stem) not in peopled]
    found, ms = timed(detector, [pixels(entry) for entry in entries])
    alarm = {
        e.name: [(round(f.score, 3), f.roll_retry) for f in faces]
        for e, faces in zip(entries, found)
        if faces
    }
    row = {"pictures": len(entries), "false_alarms": len(alarm), "cpu_ms": ms, "which": alarm}
    return [row]


def anime(detector: Detector, args: argparse.Namespace) -> list[Row]:
    """Held-out anime faces of selfie2anime by each engine that is here."""
    del detector
    cascade = anime_faces.find_cascade(SHARED / "weights" / anime_faces.NAME, "")
    pictures = held_out("selfie2anime/selfie2anime.zip/trainB", args.count)
    rows = []
    for engine in ("opencv", "skimage"):
        try:
            find = anime_faces.AnimeFaces(cascade, engine=engine)
        except UserError as reason:
            print(f"{engine}: {reason}")
            continue
        start = time.process_time()
        found = [find(rgb) for rgb in pictures]
        rows.append(
            {
                "engine": engine,
                "pictures": len(pictures),
                "found": share(bool(boxes) for boxes in found),
                "several": share(len(boxes) > 1 for boxes in found),
                "cpu_ms": 1000 * (time.process_time() - start) / len(pictures),
            }
        )
    return rows


def share(those: Any) -> float:
    """The part of them that is true."""
    return float(np.mean(list(those)))


PARTS = {"photos": photos, "rolled": rolled, "alarms": alarms, "anime": anime}


def main() -> None:
    """Prints a table for each part and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="pictures of each set (300)")
    parser.add_argument("--rolled", type=int, default=50, help="selfies that are turned (50)")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run")
    parser.add_argument("--json", type=pathlib.Path, help="also write the report to this file")
    args = parser.parse_args()
    if unknown := set(args.only.split(",")) - set(PARTS):
        parser.error(f"--only has {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}")
    detector = Detector.from_package()
    report: dict[str, list[Row]] = {}
    for name in args.only.split(","):
        report[name] = PARTS[name](detector, args)
        print(f"\n{name}")
        columns = [k for k in report[name][0] if k not in ("bias", "which")]
        print("  ".join(f"{column:>12}" for column in columns))
        for row in report[name]:
            cells = (row[c] for c in columns)
            print("  ".join(f"{c:12.3f}" if isinstance(c, float) else f"{c:>12}" for c in cells))
    text = json.dumps(report)
    if args.json:
        args.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
