"""CartoonGAN's published pictures of style Hayao, and ours from the same weights: how far apart?

    python bench/hayao.py [--model=BUNDLE] [--only=NAME,...] [--output=DIR] [--json=FILE]

Reads the project's folder of real data (ARTIFYGAN_SHARED): `reference_pairs.zip`, and without
--model `weights/cartoongan_hayao.pth`, which it converts first. Mean absolute differences in grey
levels of 255, over what both pictures have:

* recipe: as the published ones were made. Long side to 450, bicubic for the eleven jpgs and bilinear
  for the three pngs, then the net alone, which rounds sides up to multiples of 4. Limits: 7 for a
  jpg, whose own noise is in it, and 2.5 for a png;
* stylize: the same picture through `Stylizer`, which mirrors up to 3 pixels at the right and the
  bottom where sides are no multiples of 4, and cuts them off again;
* shell: what `stylize --max_side=450` makes of the photo itself, with its own Lanczos; it never
  enlarges, as the recipe does with the pngs.

--output writes our pictures: made of pictures and weights for research, they belong into no repository.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from flax import nnx
from PIL import Image

from artifygan_jax import bundle, cli, convert, inference
from artifygan_jax.data import listing
from artifygan_jax.data.images import open_picture
from artifygan_jax.errors import UserError
from artifygan_jax.nets import ops

HERE = pathlib.Path(__file__).parent.parent
SHARED = pathlib.Path(os.environ.get("ARTIFYGAN_SHARED", HERE.parent / "shared")) / "data"
SIDE = 450
LIMITS = {"jpg": 7.0, "png": 2.5}
FILTERS = {"jpg": Image.Resampling.BICUBIC, "png": Image.Resampling.BILINEAR}

Picture = np.ndarray  # uint8 [H, W, 3]


def pairs(archive: pathlib.Path) -> Iterator[tuple[str, Picture, Picture]]:
    """(name, photo, published cartoon) of every pair."""
    found = {}
    for entry in listing.list_pictures(archive):
        found[entry.name.rsplit("/", 1)[-1]] = entry
    for name in sorted(found):
        stem, kind = name.rsplit(".", 1)
        if stem.endswith("_Hayao"):
            photo = found[f"{stem.removesuffix('_Hayao')}.{kind}"]
            yield photo.name.rsplit("/", 1)[-1], pixels(photo), pixels(found[name])


def pixels(entry: listing.Entry) -> Picture:
    return open_picture(entry.read(), name=entry.name).rgb


def resized(photo: Picture, how: Image.Resampling) -> Picture:
    """Long side 450, the other one rounded down."""
    height, width = photo.shape[:2]
    long = max(height, width)
    size = (int(SIDE * width / long), int(SIDE * height / long))
    return np.asarray(Image.fromarray(photo).resize(size, how))


def shell(photo: Picture) -> Picture | None:
    """As `stylize --max_side=450` scales: Lanczos, rounded; None where it would not enlarge."""
    height, width = photo.shape[:2]
    scale = SIDE / max(height, width)
    size = (round(width * scale), round(height * scale))
    if scale > 1:
        return None
    return np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))


def net_alone(net: nnx.Module) -> Callable[[Picture], Picture]:
    """uint8 RGB through a net that works on BGR, without padding."""
    graph, state = nnx.split(net)
    forward = ops.jit(lambda state, x: nnx.merge(graph, state)(x))

    def draw(photo: Picture) -> Picture:
        x = photo[None, :, :, ::-1].astype(np.float32) / 127.5 - 1
        y = np.asarray(forward(state, x))[0, :, :, ::-1]
        return np.rint((y + 1) * 127.5).clip(0, 255).astype(np.uint8)

    return draw


def difference(ours: Picture, published: Picture) -> float:
    """Mean absolute difference over what both have, in grey levels."""
    height, width = (min(ours.shape[i], published.shape[i]) for i in (0, 1))
    a, b = (x[:height, :width].astype(np.float64) for x in (ours, published))
    return float(np.abs(a - b).mean())


def row(
    name: str,
    photo: Picture,
    published: Picture,
    draw: Callable[[Picture], Picture],
    stylize: Callable[[Picture], Picture],
) -> dict:
    """The differences of one pair; `cartoon` is what the recipe makes."""
    kind = name.rsplit(".", 1)[1]
    scaled, small = resized(photo, FILTERS[kind]), shell(photo)
    cartoon = draw(scaled)
    return {
        "name": name,
        "recipe": difference(cartoon, published),
        "stylize": difference(stylize(scaled), published),
        "shell": None if small is None else difference(stylize(small), published),
        "limit": LIMITS[kind],
        "cartoon": cartoon,
    }


def main(argv: Sequence[str]) -> tuple[dict, int]:
    parser = cli.Parser(description=__doc__)
    parser.add_argument("--model", help="bundle of the weights (default: converts the real ones)")
    parser.add_argument("--only", default="", help="names of pictures, such as 4--24.jpg,in1.png")
    parser.add_argument("--output", type=pathlib.Path, help="folder for our pictures")
    parser.add_argument("--json", type=pathlib.Path, help="also write the report to this file")
    args: argparse.Namespace = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or f"{folder}/hayao"
        if not args.model:
            source = SHARED / "weights" / "cartoongan_hayao.pth"
            convert.convert("cartoongan", str(source), model)
        stylizer, net = inference.load(model), bundle.load(model)[0]
    draw = net_alone(net)
    print(f"{'picture':12s} recipe stylize shell limit", file=sys.stderr)
    wanted, rows = set(filter(None, args.only.split(","))), []
    for name, photo, published in pairs(SHARED / "reference_pairs.zip"):
        if wanted and name not in wanted:
            continue
        rows.append(row(name, photo, published, draw, stylizer.rgb))
        cartoon = rows[-1].pop("cartoon")
        numbers = [rows[-1][key] for key in ("recipe", "stylize", "shell", "limit")]
        print(f"{name:12s}", *("    -" if x is None else f"{x:5.2f}" for x in numbers), flush=True)
        if args.output:
            args.output.mkdir(parents=True, exist_ok=True)
            Image.fromarray(cartoon).save(args.output / f"{name}.png")
    if not rows:
        raise UserError(f"no pair is called {args.only}")
    report = {"rows": rows, "within": all(r["recipe"] <= r["limit"] for r in rows)}
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    return report, cli.DONE if report["within"] else cli.SOME_FAILED


if __name__ == "__main__":
    cli.run(main)
