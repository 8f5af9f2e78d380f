"""Faces that take an expression from another, that move over time, and a table of what edits change."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from artifygan_jax.data import listing
from artifygan_jax.data.saving import new_file, save_picture, write_whole
from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.latent import attributes, codes, sheets
from artifygan_jax.latent.attributes import Boundaries, Judge
from artifygan_jax.latent.directions import Direction
from artifygan_jax.latent.identity import Likeness
from artifygan_jax.latent.invert import Finder, Job
from artifygan_jax.latent.render import Renderer, to_uint8
from artifygan_jax.metrics.evals import grid

COLUMNS = ("attribute", "target", "raised", "others", "identity", "stranger")


def group(what: str, names: Sequence[str]) -> tuple[str, ...]:
    """The attributes of `--what` that a classifier of `names` knows."""
    if what not in attributes.GROUPS:
        known = ", ".join(attributes.GROUPS)
        hint = did_you_mean(what, attributes.GROUPS)
        raise UserError(f"--what={what}{hint}: there is {known}")
    found = tuple(name for name in attributes.GROUPS[what] if name in names)
    if not found:
        raise UserError(f"--what={what}: the classifier knows none of its attributes")
    return found


def one_face(finder: Finder, picture: str) -> np.ndarray:
    """The codes `[1, num_ws, w_size]` of one picture's face; a `UserError` where there is none."""
    entries = listing.list_pictures(picture)
    if len(entries) != 1:
        raise UserError(f"{picture} has {len(entries)} pictures: give one")
    failures: list[dict[str, str]] = []
    for _, found in finder([Job(entries[0], Path("face"))], failures):
        return found.found.ws[:1]
    raise UserError(f"{picture}: {failures[0]['reason']}")


def transfer(
    finder: Finder,
    drawer: Renderer,
    pair: tuple[str, str],
    output: str,
    basis: np.ndarray,
    *,
    strength: float = 1.0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes transfer.png, what `drawer` draws of the second face with what the first has along `basis`.

    Also transfer.npz, its codes, and sheet.png: the first, the second, the result.
    """
    folder = Path(output)
    made = new_file(str(folder / "transfer.npz"), ".npz", overwrite=overwrite)
    first, second = (one_face(finder, picture) for picture in pair)
    listing.writable_folder(folder)
    result = attributes.transferred(second, first, basis, strength)
    known = codes.of_ws(np.concatenate([first, second, result]))
    images = to_uint8(np.concatenate(list(drawer.images(known))))
    save_picture(folder / "transfer.png", images[2], model=drawer.name)
    save_picture(folder / "sheet.png", grid([list(images)]), model=drawer.name)
    buffer = io.BytesIO()
    np.savez(buffer, ws=result)
    write_whole(made, buffer.getvalue())
    return {"done": 1, "output": output, **finder.facts()}


def animate(
    drawer: Renderer,
    ws: np.ndarray,
    direction: Direction,
    strengths: Sequence[float],
    path: str,
    source_type: str,
    **how: Any,
) -> dict[str, Any]:
    """A film of one face `[1, num_ws, w_size]` along `direction`: to each of the strengths in turn, and
    round again; `how` as for `sheets.film`, `source_type` as in `Codes`."""
    keys = np.concatenate([direction.walk(ws, strength) for strength in strengths])
    return sheets.film(drawer, codes.of_ws(keys, source_type=source_type), path, **how)


def table(
    renderer: Renderer,
    judge: Judge,
    boundaries: Boundaries,
    ws: np.ndarray,
    names: Sequence[str],
    keep: Sequence[str],
    strength: float,
    output: str,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """What edits of the codes `ws` change, as `attributes.measured`: a table in the file `output`."""
    path = new_file(output, ".md", overwrite=overwrite)
    if len(ws) < 2:
        raise UserError("a table needs at least two latents; give such as --seeds=0-99")
    every = tuple(range(renderer.num_ws))
    moves = {n: Direction(boundaries.direction(n, keep)[None], every) for n in names}
    rows = attributes.measured(renderer, judge, ws, moves, strength, Likeness.at_hand())
    columns = [c for c in COLUMNS if c in rows[0]]
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(str(row[c]) for c in columns) for row in rows]
    text = "".join(f"| {line} |\n" for line in lines)
    write_whole(path, text.encode())
    return {
        "done": len(rows),
        "faces": len(ws),
        "strength": strength,
        "output": output,
        "rows": rows,
    }
