"""Which content network serves: a measurement of candidates that need no download beside real ones.

    python bench/content_nets.py [--count=100] [--bundles=squeezenet:fire5] [--photos=FILE.zip/FOLDER]

A content loss should say "the same person" across a change of style. The embedded faces have every person
in both domains, so this asks of each candidate: is the nearest drawing to a photo-like face the same
person's (top-1), and how far is one's own drawing compared with a stranger's (ratio; lower is
better)? `--photos` adds real photos against a bilateral-and-edges cartoon of themselves.
"""

import argparse
import json
import sys

import jax.numpy as jnp
import numpy as np

from artifygan_jax import augment
from artifygan_jax.content import Content
from artifygan_jax.data.faces import Faces
from artifygan_jax.data.pictures import Pictures
from artifygan_jax.metrics.evals import in_batches, pictures_of
from artifygan_jax.nets import ops

CANDIDATES = [
    Content("random:pyramid", ("blur8",)),
    Content("random:pyramid", ("edges2",)),
    Content("random:pyramid", ("edges4",)),
    Content("random:pyramid", ("edges8",)),
    Content("random:vgg", ("conv2_2",)),
    Content("random:vgg", ("conv3_2",)),
    Content("random:vgg", ("conv4_4",)),
    Content("random:squeezenet", ("fire3",)),
    Content("random:squeezenet", ("fire5",)),
]


def classical_cartoon(image: np.ndarray) -> np.ndarray:
    """Bilateral smoothing, few colours and dark edges, without any learning."""
    import cv2

    flat = image
    for _ in range(4):
        flat = cv2.bilateralFilter(flat, 7, 40, 7)
    flat = (flat // 32) * 32 + 16
    grey = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 5)
    lines = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 5)
    return np.minimum(flat, lines[..., None])


def judge(content: Content, photos: np.ndarray, drawings: np.ndarray) -> tuple[float, float]:
    """(top-1 share, median own distance / median distance to strangers)."""
    net = content.load()

    @ops.jit
    def run(x):
        maps = content.features(net, augment.to_float(x)).values()
        return jnp.concatenate([m.reshape(len(x), -1) for m in maps], axis=1)

    def flat(x):
        return in_batches(lambda b: np.asarray(run(b)), x)

    a, b = flat(photos), flat(drawings)
    distances = np.stack([np.abs(b - row).mean(1) for row in a])
    own = np.diag(distances)
    strangers = distances[~np.eye(len(a), dtype=bool)]
    top1 = (distances.argmin(1) == np.arange(len(a))).mean()
    return float(top1), float(np.median(own) / np.median(strangers))


def main() -> None:
    """Prints a table and, last, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--bundles", default="", help="NAME:LAYER,... real networks to compare")
    parser.add_argument("--photos", default="", help="a folder of real photos")
    args = parser.parse_args()
    candidates = [
        *CANDIDATES,
        *(Content(b.split(":")[0], (b.split(":")[1],)) for b in args.bundles.split(",") if b),
    ]
    people = [Faces(domain, args.count, 7, args.size) for domain in ("photo", "cartoon")]
    sets = {"drawn": [pictures_of(p, args.count, args.size) for p in people]}
    if args.photos:
        photos = pictures_of(Pictures(args.photos), args.count, args.size)
        sets["photos"] = [photos, np.stack([classical_cartoon(p) for p in photos])]
    rows = []
    for content in candidates:
        row: dict[str, object] = {"net": content.net, "layer": "+".join(content.layers)}
        for name, (a, b) in sets.items():
            row[f"{name}_top1"], row[f"{name}_ratio"] = judge(content, a, b)
        rows.append(row)
        print(" ".join(f"{v:.3f}" if isinstance(v, float) else f"{v:20}" for v in row.values()))
        sys.stdout.flush()
    print(json.dumps({"count": args.count, "size": args.size, "rows": rows}))


if __name__ == "__main__":
    main()
