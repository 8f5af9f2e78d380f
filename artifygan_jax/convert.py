"""Makes a model bundle of a foreign weights file.

    python -m artifygan_jax.convert --arch=cartoongan --source=hayao/ --output=models/hayao

--arch is the layout of the source: artifygan (the notebook's generator or discriminator),
cartoongan (the authors' networks), inception (the FID network), squeezenet, vgg. --source is an
.npz file, a folder of .npy files or a .safetensors file. The net's sizes are read off the arrays.
"""

import argparse
import importlib
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from artifygan_jax import bundle, cli
from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.weights import readers, rules

DTYPES = ("float32", "float16")


def plan(arch: str, source: rules.Source) -> rules.Plan:
    """The plan of the module of `weights/` called `arch` for the arrays `source`."""
    known = []
    for file in sorted(pathlib.Path(rules.__file__).parent.glob("[a-z]*.py")):
        module = importlib.import_module(f"artifygan_jax.weights.{file.stem}")
        if hasattr(module, "plan"):
            known.append(file.stem)
            if file.stem == arch:
                return module.plan(source)
    raise UserError(
        f"no source layout {arch!r}{did_you_mean(arch, known)}; --arch is {', '.join(known)}"
    )


def build(arch: str, source: rules.Source) -> tuple[nnx.Module, dict[str, Any]]:
    """The net made of the arrays `source` of layout `arch`, and what its bundle's card must say."""
    made = plan(arch, source)
    shapes = target_shapes(made.architecture, made.net, made.options)
    wanted = {path: shape for path, shape in shapes.items() if path not in made.missing}
    arrays = rules.apply(made.rules, made.ignore, made.source, wanted)
    arrays |= {path: np.zeros(shapes[path], np.float32) for path in made.missing}
    net = bundle.build(made.architecture, made.net, made.options, arrays)
    return net, {"channels": made.channels}


def target_shapes(
    architecture: str, net: str, options: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    """`{path: shape}` of every variable of a net, which is not computed."""
    module = bundle.architecture(architecture)
    empty = nnx.eval_shape(lambda: module.build(net, options, rngs=nnx.Rngs(0)))
    return {
        "/".join(map(str, path)): leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(empty))
    }


def convert(
    arch: str, source: str, output: str, *, licence: str | None = None, dtype: str = "float32"
) -> dict[str, Any]:
    """Writes the weights `source`, of layout `arch`, as the bundle `output`; returns its card."""
    target = pathlib.Path(output).absolute()
    if target.exists() and not (target / bundle.CARD).is_file():
        if not target.is_dir() or any(target.iterdir()):
            raise UserError(
                f"{output} is there and is no model bundle: it is not replaced;"
                " give another --output"
            )
    net, card = build(arch, readers.read(source))
    _check_range(net, dtype)
    card |= {
        "licence": licence or "not stated",
        "source": pathlib.Path(source).name,
        "source_sha256": readers.digest(source),
        "source_layout": arch,
    }
    try:
        return bundle.save(target, net, card, dtype=dtype)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from error


def _check_range(net: nnx.Module, dtype: str) -> None:
    limit = float(np.finfo(dtype).max)
    large = [name for name, x in bundle.variables(net).items() if np.abs(x).max() > limit]
    if large:
        raise UserError(
            f"{', '.join(large)} exceed {limit:g}, the largest {dtype}; use --dtype=float32"
        )


def main(argv: Sequence[str]) -> tuple[dict, int]:
    """The command; the summary is the card of the bundle and where it lies."""
    parser = cli.Parser(prog="python -m artifygan_jax.convert", description=__doc__)
    parser.add_argument("--arch", required=True, metavar="NAME", help="layout of the source")
    parser.add_argument("--source", required=True, metavar="FILE", help="weights file or folder")
    parser.add_argument("--output", required=True, metavar="DIR", help="bundle to write")
    parser.add_argument("--licence", metavar="TEXT", help="terms of the weights, for the card")
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="how they are stored")
    args: argparse.Namespace = parser.parse_args(argv)
    card = convert(args.arch, args.source, args.output, licence=args.licence, dtype=args.dtype)
    missing = card["options"].get("missing")
    if missing:
        print(f"not in the file, and layers behind refused: {', '.join(missing)}", file=sys.stderr)
    return {"output": args.output, **card}, cli.DONE


if __name__ == "__main__":
    cli.run(main)
