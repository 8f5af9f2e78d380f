"""New photos in a style: found in the face generator, drawn by the one that was fine-tuned from it."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from PIL import Image

from artifygan_jax import bundle
from artifygan_jax.data import align
from artifygan_jax.data.saving import save_picture
from artifygan_jax.errors import UserError
from artifygan_jax.latent.codes import of_ws
from artifygan_jax.latent.invert import Batch, Finder, Target, jobs_of
from artifygan_jax.latent.render import Renderer, layers, load, to_uint8

FEATHER = 0.15  # of the square's side


def source_of(style: Renderer, given: str | None) -> Renderer:
    """The generator that a style was fine-tuned from: `given`, else what its card says, else itself."""
    config = bundle.trained(style.card)
    start = config.get("init_from", {}).get("g", "")
    where = given or config.get("method", {}).get("source") or start
    source = load(where) if where else style
    theirs, mine = ((r.num_ws, r.options.w_size, r.resolution) for r in (source, style))
    if theirs != mine:
        raise UserError(
            f"{style.where} is of {mine[2]} px with {mine[0]} codes of {mine[1]}, its source"
            f" {source.where} of {theirs[2]} px with {theirs[0]} of {theirs[1]}: they do not belong"
            " together; give another --source"
        )
    return source


def blended(source: Renderer, style: Renderer, strength: float) -> Renderer:
    """The generator `strength` of the way from `source` (0) to `style` (1), weight by weight."""
    if not 0 <= strength <= 1:
        raise UserError(f"--strength={strength:g}; give 0 (the photo) to 1 (the style)")
    if strength == 1:
        return style
    a, b = (nnx.to_pure_dict(nnx.state(r.net)) for r in (source, style))
    shapes = [jax.tree.map(lambda x: x.shape, tree) for tree in (a, b)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{style.where} has other layers than {source.where}: only --strength=1 can be had of it"
        )
    net = nnx.clone(style.net)
    mixed = jax.tree.map(lambda x, y: x + strength * (y - x), a, b)
    state = nnx.state(net)
    nnx.replace_by_pure_dict(state, mixed)
    nnx.update(net, state)
    return Renderer(net, style.card, style.where)


def recoloured(image: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """`image` with the colours of `photo`, both uint8 `[S, S, 3]`: light and dark stay.

    Mean and deviation of both chroma channels (Reinhard et al. 2001, in YCbCr).
    """
    a, b = (np.asarray(Image.fromarray(x).convert("YCbCr"), np.float32) for x in (image, photo))
    for k in (1, 2):
        deviation = max(float(a[..., k].std()), 1.0)
        a[..., k] = (a[..., k] - a[..., k].mean()) / deviation * b[..., k].std() + b[..., k].mean()
    back = Image.fromarray(np.rint(a).clip(0, 255).astype(np.uint8), "YCbCr")
    return np.asarray(back.convert("RGB"))


def stylize(
    finder: Finder,
    style: Renderer,
    source: str,
    output: str,
    *,
    keep_colours: bool = False,
    paste: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes NAME.png for each face: the square that `style` draws of its code.

    With `paste` it is the photo with its faces drawn so, put back with a soft seam, written when the
    last of them is in it. The noise maps that the finder made are used. Returns a summary with what
    failed and why; `done` counts files.
    """
    jobs, skipped = jobs_of(source, output, ".png", overwrite=overwrite, say=finder.say)
    failures: list[dict[str, str]] = []
    mse: list[float] = []
    done = 0
    faces = _drawn(finder(jobs, failures, photos=paste), style, mse)
    for _, of_one in itertools.groupby(faces, lambda face: face[0].name):
        path, picture = Path(), np.zeros(0, np.uint8)
        for n, (target, drawn) in enumerate(of_one):
            image = recoloured(drawn, target.rgb) if keep_colours else drawn
            if target.photo is None:
                save_picture(target.output, image, model=style.name)
                done += 1
                continue
            path, picture = (path, picture) if n else (target.output, target.photo)
            picture = align.paste(picture, image, target.quad, FEATHER)
        if picture.size:
            save_picture(path, picture, model=style.name)
            done += 1
    return {
        "done": done,
        "skipped": skipped,
        "failed": len(failures),
        "failures": failures,
        **finder.facts(),
        "source": finder.projector.renderer.where,
        "mse": round(float(np.mean(mse)), 6) if mse else None,
        "output": output,
    }


def _drawn(
    batches: Iterator[tuple[list[Target], Batch]], style: Renderer, mse: list[float]
) -> Iterator[tuple[Target, np.ndarray]]:
    """Every target with what `style` draws of its code, faces of one photo in a row."""
    for batch, (found, _) in batches:
        maps = {k: m for k, m in found.maps.items() if k in layers(style.net)}
        mse += found.mse.tolist()
        yield from zip(batch, to_uint8(style.draw(of_ws(found.ws, maps=maps))), strict=True)
