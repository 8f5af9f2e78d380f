"""The demo: trains configs/demo.py, cartoonises a real photo at full size, and prints the numbers.

    python -m artifygan_jax.demo --workdir=runs/demo [--config.FIELD=VALUE ...]

The photo is scikit-image's public-domain portrait of an astronaut (512 x 512).
"""

import json
import pathlib
from collections.abc import Sequence

from artifygan_jax import cli, load, train
from artifygan_jax.data.saving import save_picture
from artifygan_jax.errors import UserError

METRIC = "random_vgg_frechet"


def main(argv: Sequence[str]) -> tuple[dict, int]:
    """Trains, stylises, sums up. The summary's distances are those of configs/demo.py."""
    if {"--help", "-h"} & set(argv):
        print(__doc__)
        raise SystemExit(0)
    summary, code = train.main(["--config=demo", *argv])
    if code != cli.DONE or "workdir" not in summary:  # a dry run has none
        return summary, code
    workdir = pathlib.Path(summary["workdir"])
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    numbers = [line for line in lines if f"{METRIC}/distance" in line]
    before, after = numbers[0][f"{METRIC}/distance"], numbers[-1][f"{METRIC}/distance"]
    picture = workdir / "astronaut.png"
    save_picture(picture, cartoonise(workdir / "model"), model="demo")
    return {
        "steps": summary["steps"],
        "resumed_from": summary["resumed_from"],
        "images_per_s": summary["images_per_s"],
        "distance": "Frechet, pooled features of a random VGG, held-out drawn cartoons",
        "distance_before": round(before, 4),
        "distance_after": round(after, 4),
        "distance_of_photos": round(numbers[-1][f"{METRIC}/photos"], 4),
        "fall": round(1 - after / before, 3),
        "diversity": round(numbers[-1][f"{METRIC}/diversity"], 3),
        "grid": str(sorted((workdir / "samples").glob("*.png"))[-1]),
        "stylised": str(picture),
        "model": summary["model"],
    }, cli.DONE


def cartoonise(model: pathlib.Path):
    """The astronaut through the bundle `model`, uint8 `[512, 512, 3]`."""
    try:
        from skimage.data import astronaut
    except ImportError as error:
        raise UserError(
            "the demo's photo is in scikit-image: pip install 'artifygan_jax[prepare]'"
        ) from error
    import numpy as np

    photo = astronaut().astype(np.float32)[None] / 127.5 - 1
    out = load(model)(photo)
    return np.clip(np.round((np.asarray(out[0]) + 1) * 127.5), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    cli.run(main)
