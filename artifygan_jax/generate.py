"""Draws pictures of a StyleGAN2 generator's latents, and finds latents of pictures.

    python -m artifygan_jax.generate --model=NAME|DIR --seeds=0-3,7 --output=DIR
    python -m artifygan_jax.generate --model=NAME|DIR --latents=FILE.npz --output=DIR
    python -m artifygan_jax.generate VERB ...

  mix         style mixing: rows and columns of seeds, and a sheet of all pairs
  invert      codes of pictures (W or W+), by an encoder, optimisation or both
  stylize     photos in the style of a generator that was fine-tuned from faces (JoJoGAN)
  edit        latents moved along a direction (of the weights: sefa:3, or of a file) or by an attribute
  transfer    the expression of one face, given to another
  animate     a face whose expression moves, as a film
  attributes  a table of what edits by attributes change in many faces
  directions  the directions of the weights (SeFa), to a file
  swap        coarse layers of one generator, fine ones of another: a new bundle

A seed means what it means in NVIDIA's programs. Files that are there are kept, unless --overwrite.
GENERATE VERB --help has the flags of a verb.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import tqdm

from artifygan_jax import bundle, cli
from artifygan_jax.data.saving import DIGITAL_SOURCE_TYPE
from artifygan_jax.errors import UserError, did_you_mean


def main(argv: Sequence[str]) -> tuple[dict, int]:
    """The command; returns (summary, exit code)."""
    verb, rest = ("", argv) if not argv or argv[0].startswith("-") else (argv[0], argv[1:])
    if verb not in VERBS:
        known = [name for name in VERBS if name]
        raise UserError(
            f"no verb {verb!r}{did_you_mean(verb, known)}; there are {', '.join(known)}"
        )
    flags, do = VERBS[verb]
    about = do.__doc__ if verb else __doc__
    parser = cli.Parser(prog=f"artifygan_jax.generate {verb}".strip(), description=about)
    parser.add_argument(
        "--model", required=True, help="a generator's bundle: its folder, or a name"
    )
    flags(parser)
    parser.add_argument("--overwrite", action="store_true", help="make again what is there")
    arguments = parser.parse_args(rest)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr, force=True)
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(bundle.cache() / "xla"))
    start = time.monotonic()
    found = do(arguments)
    seconds = round(time.monotonic() - start, 3)
    summary = {"verb": verb or "generate", "model": arguments.model, **found, "seconds": seconds}
    return summary, cli.SOME_FAILED if summary.get("failed") else cli.DONE


# ------------------------------------------------------------------------------------- flags


def _look_flags(parser: cli.Parser) -> None:
    add = parser.add_argument
    add("--truncation", type=float, default=1.0, help="towards the mean: 1 (not at all) to 0")
    add("--cutoff", type=int, help="truncate so many of the first layers (all)")
    noises = ("const", "random", "none")
    add("--noise", choices=noises, default="const", help="of the net, new by seed, or none (const)")
    add("--labels", help="class of each latent, or one for all: 0,2,1; for models with classes")
    add("--format", choices=("png", "npy"), default="png", help="npy: float32 [H, W, 3] (png)")


def _latent_flags(parser: cli.Parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", help="numbers and ranges: 0-3,7")
    text = "an .npz with z (and labels) or ws, or a folder of such, as invert writes them"
    what.add_argument("--latents", help=text)


def _picture_flags(parser: cli.Parser) -> None:
    _latent_flags(parser)
    add = parser.add_argument
    add("--output", required=True, help="a folder")
    _look_flags(parser)
    add("--grid", help="also a sheet grid.png of COLUMNSxROWS: 4x2")
    add("--video", help="also a film from latent to latent and back to the first: .mp4 or .gif")
    add("--frames", type=int, default=60, help="of the film, from one latent to the next (60)")
    add("--fps", type=int, default=30, help="frames a second (30)")
    text = "codes in straight lines, or latents on their sphere (w)"
    add("--interpolate", choices=("w", "z"), default="w", help=text)
    add("--source", help="a bundle whose mapping gives the first styles (FreezeSG)")
    add("--source_styles", type=int, help="how many of them")


def _mix_flags(parser: cli.Parser) -> None:
    add = parser.add_argument
    add("--rows", required=True, help="seeds: 0-3,7")
    add("--columns", required=True, help="seeds whose styles replace those of the rows")
    add("--layers", help="in these layers (0-6)")
    add("--output", required=True, help="a folder")
    _look_flags(parser)


def _finder_flags(parser: cli.Parser, face: str) -> None:
    add = parser.add_argument
    add("--space", choices=("w", "w+"), default="w+", help="one code, or one for each layer (w+)")
    text = "a bundle, none, or auto: MODEL_encoder where that is there (auto)"
    add("--encoder", default="auto", help=text)
    text = "of optimisation, from the encoder's codes (0) or from the mean (400)"
    add("--steps", type=int, help=text)
    text = "auto, none, a backbone's bundle, or HEAD:BACKBONE of LPIPS (auto: what is at hand)"
    add("--perceptual", default="auto", help=text)
    text = f"aligned: no, the largest, all; auto: the largest, or else the middle ({face})"
    add("--face", choices=("none", "auto", "largest", "all"), default=face, help=text)


def _invert_flags(parser: cli.Parser) -> None:
    add = parser.add_argument
    add("--input", required=True, help="a picture, folder, glob, zip or FILE.zip/FOLDER")
    add("--output", required=True, help="a folder")
    _finder_flags(parser, "none")


def _stylize_flags(parser: cli.Parser) -> None:
    add = parser.add_argument
    add("--input", required=True, help="a picture, folder, glob, zip or FILE.zip/FOLDER")
    add("--output", required=True, help="a folder")
    add("--source", help="the generator that the style was made from (the card's)")
    add("--strength", type=float, default=1.0, help="0: the photo found again, 1: the style (1)")
    add("--keep_colours", action="store_true", help="the photo's colours instead of the style's")
    add("--paste", action="store_true", help="the whole photo, with its faces put back")
    _finder_flags(parser, "largest")


def _edit_flags(parser: cli.Parser) -> None:
    _latent_flags(parser)
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    text = "sefa:NUMBER, svd:NUMBER, or a file (.npy, .npz, .pt), FILE:NAME for one of its arrays"
    what.add_argument("--direction", help=text)
    what.add_argument("--attribute", help="of CelebA, such as Smiling")
    add("--strength", default="-3,0,3", help="how far, several with commas (-3,0,3)")
    add("--layers", help="in these layers (the file's, or all)")
    add("--output", required=True, help="a folder")
    _attribute_flags(parser)
    _look_flags(parser)


def _attribute_flags(parser: cli.Parser) -> None:
    add = parser.add_argument
    text = "the generator of photos whose codes --model draws too (its card's)"
    add("--source", help=text)
    text = "the classifier's bundle (celeba_attributes)"
    add("--classifier", default="celeba_attributes", help=text)
    text = "attributes that stay, with commas, or none (seven that go with many others)"
    add("--keep", help=text)


def _transfer_flags(parser: cli.Parser) -> None:
    add = parser.add_argument
    add("--from", dest="first", required=True, help="a picture: the face to take from")
    add("--to", dest="second", required=True, help="a picture: the face to change")
    text = "expression, glasses, hat, hair or age (expression)"
    add("--what", default="expression", help=text)
    add("--strength", type=float, default=1.0, help="0: nothing, 1: as the other has it (1)")
    add("--output", required=True, help="a folder")
    _attribute_flags(parser)
    _finder_flags(parser, "largest")


def _animate_flags(parser: cli.Parser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--input", help="a picture of a face")
    what.add_argument("--seeds", help="a number: a face from nothing")
    what.add_argument("--latents", help="an .npz of one face, as invert writes it")
    add = parser.add_argument
    add("--attribute", default="Smiling", help="what changes over time (Smiling)")
    text = "how far, one after the other and round again (0,2.5,0,-2.5)"
    add("--strength", default="0,2.5,0,-2.5", help=text)
    add("--layers", help="in these layers (0-7)")
    add("--frames", type=int, default=15, help="from one strength to the next (15)")
    add("--fps", type=int, default=30, help="frames a second (30)")
    add("--output", required=True, help="a film: .mp4 or .gif")
    _attribute_flags(parser)
    _finder_flags(parser, "largest")


def _attributes_flags(parser: cli.Parser) -> None:
    _latent_flags(parser)
    add = parser.add_argument
    text = "which, with commas (those of expression, glasses, hat, hair and age)"
    add("--attributes", help=text)
    add("--strength", type=float, default=2.0, help="how far (2)")
    add("--output", required=True, help="a file: .md")
    _attribute_flags(parser)


def _directions_flags(parser: cli.Parser) -> None:
    add = parser.add_argument
    add("--count", type=int, default=8, help="how many, the strongest first (8)")
    text = "sefa: unit styles, as its authors; svd: raw ones, as rosinality (sefa)"
    add("--method", choices=("sefa", "svd"), default="sefa", help=text)
    add("--layers", help="found in these layers, and meant for them (all)")
    add("--output", required=True, help="a .npz file")


def _swap_flags(parser: cli.Parser) -> None:
    add = parser.add_argument
    add("--source", required=True, help="the generator of the coarse layers and of the mapping")
    add("--resolution", type=int, required=True, help="the last one that the source gives: 16")
    add("--width", type=float, default=0.0, help="octaves of a soft change (0: hard)")
    add("--output", required=True, help="folder of the new bundle")


# ------------------------------------------------------------------------------------- verbs


def _pictures(a) -> dict[str, Any]:
    """A picture for each latent."""
    from artifygan_jax.latent import render, sheets

    if (a.source is None) != (a.source_styles is None):
        raise UserError("--source and --source_styles go together: whose styles, and how many")
    shape = _shape(a.grid)
    renderer = render.load(a.model)
    codes, look = _codes(a, renderer), _look(a)
    if a.source is not None:
        source = render.load(a.source)
        look = render.Look(look.truncation, look.cutoff, look.noise, source, a.source_styles)
    how: dict[str, Any] = dict(overwrite=a.overwrite, say=_say)
    if a.video:
        sheets.check_film(renderer, codes, a.video, a.frames, a.fps, a.interpolate)
    summary = sheets.pictures(renderer, codes, a.output, look, suffix=a.format, shape=shape, **how)
    if a.video:
        timing: dict[str, Any] = dict(frames=a.frames, fps=a.fps, space=a.interpolate)
        summary |= sheets.film(renderer, codes, a.video, look, **timing, **how)
    return summary


def _mix(a) -> dict[str, Any]:
    """Style mixing: each row's latent with the styles of each column's in some layers."""
    from artifygan_jax.latent import codes, render, sheets

    rows, columns = (codes.parse_range(getattr(a, k), f"--{k}") for k in ("rows", "columns"))
    renderer = render.load(a.model)
    of = renderer.options
    parents = codes.by_seed(rows, of, a.labels), codes.by_seed(columns, of, a.labels)
    how: dict[str, Any] = dict(layers=a.layers, suffix=a.format, overwrite=a.overwrite, say=_say)
    return sheets.mix(renderer, *parents, a.output, _look(a), **how)


def _invert(a) -> dict[str, Any]:
    """Codes of pictures, by an encoder or optimisation: what the generator draws them from."""
    from artifygan_jax.latent import invert, render
    from artifygan_jax.latent.identity import Likeness

    finder = _finder(a, render.load(a.model), a.model)
    same = Likeness.at_hand()
    return invert.invert(finder, a.input, a.output, likeness=same, overwrite=a.overwrite)


def _stylize(a) -> dict[str, Any]:
    """New photos in the style of --model: faces found, drawn and, with --paste, put back."""
    from artifygan_jax.latent import render, stylize

    style = render.load(a.model)
    source = stylize.source_of(style, a.source)
    drawer = stylize.blended(source, style, a.strength)
    how: dict[str, Any] = dict(keep_colours=a.keep_colours, paste=a.paste, overwrite=a.overwrite)
    finder = _finder(a, source, source.where)
    return stylize.stylize(finder, drawer, a.input, a.output, **how)


def _finder(a, renderer, model: str):
    """What the flags say of how codes are found."""
    from artifygan_jax.latent import distance, encode, projector
    from artifygan_jax.latent.invert import Finder

    encoder = encode.find(a.encoder, model, renderer)
    steps = a.steps if a.steps is not None else 0 if encoder else STEPS
    if not steps and encoder is None:
        raise UserError("--steps=0 needs an --encoder; without one there is only optimisation")
    how = projector.Projection(space=a.space, steps=steps, **(FROM_CODES if encoder else {}))
    ways = [f"encoder {encoder.name}, {encoder.passes} passes"] if encoder else []
    _say("codes by " + ", then ".join(ways + [f"{steps} steps of optimisation"] * (steps > 0)))
    found = distance.find(a.perceptual)
    _say(f"distance: {found.name}" + _ADVICE * (a.perceptual == "auto" and found.graph is None))
    detector = None
    if a.face != "none":
        from artifygan_jax import detect

        detector = detect.Detector.from_package()
    return Finder(projector.Projector(renderer, found, how), encoder, a.face, detector, _say)


STEPS = 400
FROM_CODES = dict(rate=0.03, jitter=0.0)  # an encoder's codes are near already
_ADVICE = " at several scales; faces come closer with `models get lpips_vgg` and vgg16"


def _edit(a) -> dict[str, Any]:
    """Latents moved along a direction or by an attribute, each by several strengths."""
    from artifygan_jax.latent import codes, directions, render, sheets

    strengths = codes.parse_numbers(a.strength, "--strength")
    renderer = render.load(a.model)
    how: dict[str, Any] = dict(suffix=a.format, overwrite=a.overwrite, say=_say)
    latents, look, found = _codes(a, renderer), _look(a), {}
    if a.attribute is None:
        direction = directions.read(a.direction, renderer, a.layers)
    else:
        known = _Attributes(a, renderer)
        direction = known.direction(a.attribute, a.layers)
        if len(latents) > 1:
            most = max(strengths, key=abs)
            found = known.changes(a.attribute, direction, renderer.ws(latents, look), most)
    return sheets.edit(renderer, latents, direction, strengths, a.output, look, **how) | found


class _Attributes:
    """Boundaries in the codes of the generator of photos that `renderer` was made from."""

    def __init__(self, a, renderer):
        from artifygan_jax.latent import attributes, stylize

        self.judge = attributes.Judge(a.classifier)
        for name in (getattr(a, "attribute", None), *(a.keep or "").split(",")):
            if name and name != "none":
                self.judge.number(name)
        self.source = stylize.source_of(renderer, a.source)
        self.keep = attributes.KEEP if a.keep is None else tuple(a.keep.split(","))
        self.boundaries = attributes.find(self.source, self.judge, _say)

    def direction(self, name: str, layers: str | None):
        """One standard deviation towards the attribute."""
        from artifygan_jax.latent.codes import parse_layers
        from artifygan_jax.latent.directions import Direction

        chosen = tuple(parse_layers(layers, self.source.num_ws))
        return Direction(self.boundaries.direction(name, self.keep)[None], chosen)

    def changes(self, name: str, direction, ws, strength: float) -> dict[str, Any]:
        """What moving codes changes in the photos that they are of."""
        from artifygan_jax.latent import attributes
        from artifygan_jax.latent.identity import Likeness

        move = {name: direction}
        how = (self.source, self.judge, ws, move, strength, Likeness.at_hand())
        return {"measured_at": strength, **attributes.measured(*how)[0]}


def _transfer(a) -> dict[str, Any]:
    """The expression (or glasses, hat, hair, age) of one face given to another."""
    from artifygan_jax.latent import moves, render

    drawer = render.load(a.model)
    known = _Attributes(a, drawer)
    names = moves.group(a.what, known.judge.names)
    basis = known.boundaries.basis(names, [k for k in known.keep if k not in names])
    finder = _finder(a, known.source, known.source.where)
    how: dict[str, Any] = dict(strength=a.strength, overwrite=a.overwrite)
    summary = moves.transfer(finder, drawer, (a.first, a.second), a.output, basis, **how)
    return {**summary, "attributes": names}


def _animate(a) -> dict[str, Any]:
    """A face whose expression moves, as a film: from a photo, a seed or codes."""
    from artifygan_jax.latent import attributes, codes, moves, render, sheets

    strengths = codes.parse_numbers(a.strength, "--strength")
    drawer = render.load(a.model)
    several = codes.by_seed(range(len(strengths)), drawer.options)
    sheets.check_film(drawer, several, a.output, a.frames, a.fps, "w")
    known = _Attributes(a, drawer)
    direction = known.direction(
        a.attribute, a.layers or f"0-{min(attributes.SHAPE, drawer.num_ws) - 1}"
    )
    facts: dict[str, Any] = {}
    if a.input is not None:
        finder = _finder(a, known.source, known.source.where)
        ws, facts, kind = moves.one_face(finder, a.input), finder.facts(), DIGITAL_SOURCE_TYPE
    else:
        latents = _codes(a, known.source)
        if len(latents) != 1:
            raise UserError(f"{len(latents)} latents: a film is of one face")
        ws, kind = known.source.ws(latents), latents.source_type
    how: dict[str, Any] = dict(frames=a.frames, fps=a.fps, overwrite=a.overwrite, say=_say)
    return {**moves.animate(drawer, ws, direction, strengths, a.output, kind, **how), **facts}


def _attributes(a) -> dict[str, Any]:
    """A table of what edits by attributes change in many faces: logits and identity."""
    from artifygan_jax.latent import attributes, moves, render

    known = _Attributes(a, render.load(a.model))
    names = a.attributes.split(",") if a.attributes else []
    if not names:
        every = [name for group in attributes.GROUPS.values() for name in group]
        names = [name for name in dict.fromkeys(every) if name in known.judge.names]
    for name in names:
        known.judge.number(name)
    ws = known.source.ws(_codes(a, known.source))
    rest = (known.keep, a.strength, a.output)
    how = (known.source, known.judge, known.boundaries, ws, names, *rest)
    return moves.table(*how, overwrite=a.overwrite)


def _directions(a) -> dict[str, Any]:
    """Directions that the weights themselves give (SeFa), strongest first, to a file."""
    from artifygan_jax.latent import directions, render

    how: dict[str, Any] = dict(
        method=a.method, layers=a.layers, count=a.count, overwrite=a.overwrite
    )
    return directions.write(render.load(a.model), a.output, **how)


def _swap(a) -> dict[str, Any]:
    """A new bundle: mapping and coarse layers of --source, fine layers of --model."""
    from artifygan_jax.latent import render, swap

    target, source = render.load(a.model), render.load(a.source)
    how: dict[str, Any] = dict(width=a.width, overwrite=a.overwrite)
    return swap.swap(target, source, a.resolution, a.output, **how)


VERBS: dict[str, tuple[Callable[[cli.Parser], None], Callable[[Any], dict[str, Any]]]] = {
    "": (_picture_flags, _pictures),
    "mix": (_mix_flags, _mix),
    "invert": (_invert_flags, _invert),
    "stylize": (_stylize_flags, _stylize),
    "edit": (_edit_flags, _edit),
    "transfer": (_transfer_flags, _transfer),
    "animate": (_animate_flags, _animate),
    "attributes": (_attributes_flags, _attributes),
    "directions": (_directions_flags, _directions),
    "swap": (_swap_flags, _swap),
}


def _look(a):
    from artifygan_jax.latent.render import Look

    return Look(a.truncation, a.cutoff, a.noise)


def _codes(a, renderer):
    """The latents of --seeds or --latents."""
    from artifygan_jax.latent import codes

    labels = getattr(a, "labels", None)  # verbs for photos' generators have no classes
    if a.seeds is not None:
        seeds = codes.parse_range(a.seeds, "--seeds")
        return codes.by_seed(seeds, renderer.options, labels)
    if labels is not None:
        raise UserError("--labels goes with --seeds; a file of latents brings its own")
    return codes.read(a.latents, renderer)


def _shape(text: str | None) -> tuple[int, int] | None:
    """(columns, rows) of --grid."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text, re.ASCII)
    if not match:
        raise UserError(f"--grid={text}: give COLUMNSxROWS, such as 4x2")
    return int(match[1]), int(match[2])


def _say(line: str) -> None:
    """One line on stderr, above the bar where there is one."""
    tqdm.tqdm.write(line, file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
