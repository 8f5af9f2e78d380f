"""Makes a model bundle of a foreign weights file, and a PyTorch file of a bundle.

    python -m artifygan_jax.convert --arch=cartoongan --source=hayao.pth --output=models/hayao
    python -m artifygan_jax.convert --export=torch --model=models/hayao --output=hayao.pth

--arch is the layout of the source:

  alexnet         AlexNet of torchvision
  animegan1       AnimeGAN's PyTorch port, generator or discriminator
  animegan2       AnimeGANv2's generator of animegan2-pytorch
  animegan2-lite  AnimeGANv2's lite generator, variables of TensorFlow
  arcface         face embedding: InsightFace's IResNet
  artifygan       the notebook's generator or discriminator
  cartoongan      the authors' generator
  dinov2          DINOv2's ViT-S, ViT-B or ViT-L
  e4e             e4e's encoder of faces to codes, also ReStyle's of its kind
  inception-fid   the FID network: pytorch-fid's, NVIDIA's, or batch norms folded
  lpips           LPIPS' linear heads, for AlexNet, SqueezeNet or VGG-16
  mobilefacenet   face embedding
  mtcnn           face detector, each of its three nets
  nvidia          StyleGAN2 of NVIDIA's PyTorch programs, generator or discriminator
  psp             pSp's encoder of faces to codes, also ReStyle's of its kind
  rosinality      StyleGAN2 of stylegan2-pytorch, also JoJoGAN's and Cartoon-StyleGAN's
  squeezenet      SqueezeNet 1.1 of Keras or torchvision
  stylegan2       nvidia or rosinality, whichever the names of the arrays say
  vgg16, vgg19    of torchvision or Caffe

--source is a PyTorch file (.pth, .pt), a .pkl of NVIDIA, an .npz file, a folder of .npy files or a
.safetensors file; nothing in it is run. The net's sizes are read off the arrays. Where a file has
several nets --part says which; of StyleGAN2 the averaged generator is taken without it.

--export=torch writes the weights of a bundle under the names and in the layout that the original
has, as a state dict that torch.load(weights_only=True) reads (rosinality: a dict with g_ema and
latent_avg, or with d). Such a file says nothing of options that are not weights, such as norms'
epsilons or the order of colours: the last line does.
"""

import argparse
import importlib
import pathlib
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from flax import nnx

from artifygan_jax import bundle, cli
from artifygan_jax.data.saving import write_whole
from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.weights import exporting, readers, rules, torch_zip

DTYPES = ("float32", "float16")


def plan(arch: str, source: rules.Source) -> rules.Plan:
    """The plan of the layout `arch` for the arrays `source`."""
    return _layout(arch).plan(source)


def read(arch: str, path: str, *, part: str | None = None) -> rules.Plan:
    """The plan of the layout `arch` for a file; a layout may read more of it than arrays."""
    layout = _layout(arch)
    if hasattr(layout, "read"):
        return layout.read(path, part)
    return layout.plan(readers.read(path, part=part))


def _layout(arch: str) -> ModuleType:
    """The module of `weights/` called `arch`."""
    known = []
    for file in sorted(pathlib.Path(rules.__file__).parent.glob("[a-z]*.py")):
        module = importlib.import_module(f"artifygan_jax.weights.{file.stem}")
        if hasattr(module, "plan"):
            known.append(file.stem.replace("_", "-"))
            if known[-1] == arch:
                return module
    raise UserError(
        f"no source layout {arch!r}{did_you_mean(arch, known)}; --arch is {', '.join(known)}"
    )


def build(arch: str, source: rules.Source) -> tuple[nnx.Module, dict[str, Any]]:
    """The net made of the arrays `source` of layout `arch`, and what its bundle's card must say."""
    return made_of(plan(arch, source))


def made_of(made: rules.Plan) -> tuple[nnx.Module, dict[str, Any]]:
    """The net that a plan makes, and what its bundle's card must say."""
    shapes = target_shapes(made.architecture, made.net, made.options)
    wanted = {path: shape for path, shape in shapes.items() if path not in made.missing}
    arrays = rules.apply(made.rules, made.ignore, made.source, wanted)
    arrays |= {path: np.zeros(shapes[path], np.float32) for path in made.missing}
    net = bundle.build(made.architecture, made.net, made.options, arrays)
    return net, {"channels": made.channels, **made.card}


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
    arch: str,
    source: str,
    output: str,
    *,
    part: str | None = None,
    licence: str | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Writes the weights `source`, of layout `arch`, as the bundle `output`; returns its card.

    `part` chooses one net of a file with several; see `readers.read`.
    """
    target = pathlib.Path(output).absolute()
    if target.exists() and not (target / bundle.CARD).is_file():
        if not target.is_dir() or any(target.iterdir()):
            raise UserError(
                f"{output} is there and is no model bundle: it is not replaced;"
                " give another --output"
            )
    net, known = made_of(read(arch, source, part=part))
    _check_range(bundle.variables(net), dtype)
    card = {
        "licence": licence or "not stated",
        "source": pathlib.Path(source).name,
        "source_sha256": readers.digest(source),
        "source_layout": arch,
    }
    if part is not None:
        card["source_part"] = part
    card |= known
    try:
        return bundle.save(target, net, card, dtype=dtype)
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}") from error


def export(
    model: str, output: str, *, arch: str | None = None, dtype: str = "float32"
) -> dict[str, Any]:
    """Writes the weights of the bundle `model` as the PyTorch file `output`; returns a summary.

    `arch` chooses one of several layouts, see `exporting.state_dict`. A `UserError` where the net
    has no PyTorch layout, and where `output` is there already.
    """
    target = pathlib.Path(output)
    if target.exists():
        raise UserError(f"{output} is there already: it is not replaced; give another --output")
    net, card = bundle.load(model)
    arrays = {path: np.asarray(x) for path, x in bundle.variables(net).items()}
    _check_range(arrays, dtype)
    layout, tensors = exporting.state_dict(card, arrays, arch)
    for name, x in tensors.items():
        tensors[name] = x if x.dtype == np.int64 else x.astype(dtype, copy=False)
    write_whole(target, torch_zip.dumps(exporting.file(layout, card["net"], tensors)))
    kept = {key: card.get(key) for key in ("architecture", "net", "options", "channels", "licence")}
    return {"output": output, "layout": layout, "tensors": len(tensors), "dtype": dtype, **kept}


def _check_range(arrays: Mapping[str, Any], dtype: str) -> None:
    limit = float(np.finfo(dtype).max)
    large = [name for name, x in arrays.items() if np.abs(x).max() > limit]
    if large:
        raise UserError(
            f"{', '.join(large)} exceed {limit:g}, the largest {dtype}; use --dtype=float32"
        )


def main(argv: Sequence[str]) -> tuple[dict, int]:
    """The command; the summary is the card of the bundle, or what was exported, and where it lies."""
    parser = cli.Parser(prog="python -m artifygan_jax.convert", description=__doc__)
    parser.add_argument("--arch", metavar="NAME", help="layout of the source, or of the export")
    parser.add_argument("--source", metavar="FILE", help="weights file or folder")
    parser.add_argument("--part", metavar="NAME", help="net of a file with several, such as g_ema")
    parser.add_argument("--licence", metavar="TEXT", help="terms of the weights, for the card")
    parser.add_argument("--export", choices=("torch",), help="write a bundle as a PyTorch file")
    parser.add_argument("--model", metavar="DIR", help="bundle to export, a folder or a name")
    parser.add_argument("--output", metavar="PATH", help="bundle, or with --export file, to write")
    parser.add_argument("--dtype", default="float32", choices=DTYPES, help="how they are stored")
    args: argparse.Namespace = parser.parse_args(argv)
    _check_flags(parser, args)
    if args.export:
        return export(args.model, args.output, arch=args.arch, dtype=args.dtype), cli.DONE
    card = convert(
        args.arch,
        args.source,
        args.output,
        part=args.part,
        licence=args.licence,
        dtype=args.dtype,
    )
    missing = card["options"].get("missing")
    if missing:
        print(f"not in the file, and layers behind refused: {', '.join(missing)}", file=sys.stderr)
    return {"output": args.output, **card}, cli.DONE


def _check_flags(parser: cli.Parser, args: argparse.Namespace) -> None:
    """A `UserError` for flags that are missing, and for those of the other direction."""
    exporting = args.export is not None
    needed = ("model", "output") if exporting else ("arch", "source", "output")
    missing = [f"--{name}" for name in needed if getattr(args, name) is None]
    if missing:
        parser.error(f"the following arguments are required: {', '.join(missing)}")
    other = ("source", "part", "licence") if exporting else ("model",)
    unfit = [f"--{name}" for name in other if getattr(args, name) is not None]
    if unfit:
        how = "does not go with --export" if exporting else "needs --export=torch"
        parser.error(f"{', '.join(unfit)} {how}")


if __name__ == "__main__":
    cli.run(main)
