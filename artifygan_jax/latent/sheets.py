"""What `generate` writes: pictures by latent, sheets of them, mixes, edits, films."""

import io
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from artifygan_jax.data import listing
from artifygan_jax.data.saving import save_picture, write_whole
from artifygan_jax.errors import UserError
from artifygan_jax.latent import video
from artifygan_jax.latent.codes import Codes, parse_layers, slerp
from artifygan_jax.latent.directions import Direction
from artifygan_jax.latent.render import PLAIN, Look, Renderer, to_uint8
from artifygan_jax.metrics.evals import grid

SHEET_PIXELS = 100_000_000
Say = Callable[[str], None]
Rows = Sequence[Sequence[int]]  # of a sheet: indices of latents, -1 for an empty place


def pictures(
    renderer: Renderer,
    codes: Codes,
    output: str,
    look: Look = PLAIN,
    *,
    suffix: str = "png",
    shape: tuple[int, int] | None = None,
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Draws every latent to `OUTPUT/NAME.png` (or .npy: float32 `[H, W, 3]`, not clipped).

    `shape` (columns, rows) makes a sheet `grid.png` of them. Files that are there are kept unless
    `overwrite`. Returns a summary.
    """
    rows = None
    if shape is not None:
        columns, lines = shape
        if columns * lines < len(codes):
            raise UserError(
                f"--grid={columns}x{lines} has {columns * lines} places for {len(codes)} pictures"
            )
        check_sheet(renderer, columns, lines)
        at = np.arange(columns * lines)
        rows = np.where(at < len(codes), at, -1).reshape(lines, columns).tolist()
    return _written(renderer, codes, output, look, suffix, rows, "grid.png", overwrite, say)


def mix(
    renderer: Renderer,
    rows: Codes,
    columns: Codes,
    output: str,
    look: Look = PLAIN,
    *,
    layers: str | None = None,
    suffix: str = "png",
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Style mixing: each row's latent with the codes of each column's in `layers` (0-6).

    Writes `ROW_COLUMN.png` and the sheet `mix.png`, with the parents along its upper and left side.
    """
    chosen = parse_layers(layers, renderer.num_ws) if layers else list(range(renderer.num_ws))[:7]
    r, c = len(rows), len(columns)
    check_sheet(renderer, c + 1, r + 1)
    # in this order: the parents of rows, those of columns, the mixes
    table = [[-1, *range(r, r + c)]]
    table += [[i, *range(r + c + i * c, r + c + (i + 1) * c)] for i in range(r)]
    renderer.check(look)
    of_rows, of_columns = renderer.ws(rows, look), renderer.ws(columns, look)
    mixed = np.repeat(of_rows, c, axis=0)
    mixed[:, chosen] = np.tile(of_columns, (r, 1, 1))[:, chosen]
    names = [f"{a}_{b}" for a in rows.names for b in columns.names]
    codes = Codes(
        names=(*rows.names, *columns.names, *names),
        keys=np.concatenate([rows.keys, columns.keys, np.repeat(rows.keys, c)]),
        ws=np.concatenate([of_rows, of_columns, mixed]),
    )
    plain = Look(noise=look.noise)
    summary = _written(renderer, codes, output, plain, suffix, table, "mix.png", overwrite, say)
    return {**summary, "layers": chosen}


def edit(
    renderer: Renderer,
    codes: Codes,
    direction: Direction,
    strengths: Sequence[float],
    output: str,
    look: Look = PLAIN,
    *,
    suffix: str = "png",
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Each latent moved along `direction`: `NAME_+3.png`, ..., and the sheet `edit.png`, a row each."""
    n, s = len(codes), len(strengths)
    check_sheet(renderer, s, n)
    table = np.arange(n * s).reshape(n, s).tolist()
    renderer.check(look)
    ws = renderer.ws(codes, look)
    moved = np.stack([direction.walk(ws, strength) for strength in strengths], axis=1)
    names = [f"{name}_{strength:+g}" for name in codes.names for strength in strengths]
    many = codes.take(np.repeat(np.arange(n), s))
    many = many.with_ws(moved.reshape(n * s, *ws.shape[1:]), names)
    plain = Look(noise=look.noise)
    summary = _written(renderer, many, output, plain, suffix, table, "edit.png", overwrite, say)
    return {**summary, "layers": list(direction.layers), "strengths": list(strengths)}


def film(
    renderer: Renderer,
    codes: Codes,
    path: str,
    look: Look = PLAIN,
    *,
    frames: int = 60,
    fps: int = 30,
    space: str = "w",
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """A film through all latents and back to the first, `frames` from one to the next.

    `space` "w" goes straight from code to code, "z" on the sphere of latents, which must then be z.
    """
    check_film(renderer, codes, path, frames, fps, space)
    renderer.check(look)
    target, total = Path(path), frames * len(codes)
    if target.exists() and not overwrite:
        say(f"{path} is there: kept (--overwrite makes it again)")
        return {"video": path, "frames": 0}
    steps = _between(renderer, codes, look, frames, space)
    # the codes of w are truncated already; noise of one key stands still
    inner = look if space == "z" else Look(noise=look.noise)
    drawn = (to_uint8(x) for part in steps for batch in renderer.images(part, inner) for x in batch)
    shown = _shown(drawn, total, "frame", say)
    video.write(target, shown, fps, renderer.name, codes.source_type)
    return {"video": path, "frames": total}


def check_film(
    renderer: Renderer, codes: Codes, path: str, frames: int, fps: int, space: str
) -> None:
    """A `UserError`, before anything is drawn, for a film that cannot be made."""
    if len(codes) < 2:
        raise UserError("a film needs at least two latents; give such as --seeds=0-3")
    if frames < 1 or not 1 <= fps <= 240:
        raise UserError(
            f"--frames={frames} --fps={fps}: give 1 or more frames, and 1 to 240 a second"
        )
    if space == "z" and codes.z is None:
        raise UserError("--interpolate=z needs z or seeds; these latents are codes: give w")
    video.check(Path(path), frames * len(codes), renderer.resolution)


def _between(
    renderer: Renderer, codes: Codes, look: Look, frames: int, space: str
) -> Iterator[Codes]:
    """The latents of each part of a film, from one latent to just before the next."""
    share, count = np.arange(frames) / frames, len(codes)
    names, keys = tuple(map(str, range(frames))), np.zeros(frames, np.uint32)
    ws = renderer.ws(codes, look) if space == "w" else None
    for i in range(count):
        j = (i + 1) % count
        if ws is not None:
            yield Codes(names, keys, ws=_lerp(ws[i], ws[j], share))
            continue
        assert codes.z is not None
        labels = None if codes.labels is None else _lerp(codes.labels[i], codes.labels[j], share)
        yield Codes(names, keys, z=slerp(codes.z[i], codes.z[j], share), labels=labels)


def _lerp(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    share = share.reshape(-1, *(1,) * a.ndim)
    return ((1 - share) * a + share * b).astype(np.float32)


def check_sheet(renderer: Renderer, columns: int, lines: int) -> None:
    """A `UserError` for a sheet that would not fit the memory."""
    if columns * lines * renderer.resolution**2 > SHEET_PIXELS:
        raise UserError(
            f"a sheet of {columns} x {lines} pictures of {renderer.resolution} px:"
            f" more than {SHEET_PIXELS // 10**6} megapixels; give fewer latents"
        )


def _written(
    renderer: Renderer,
    codes: Codes,
    output: str,
    look: Look,
    suffix: str,
    rows: Rows | None,
    sheet_name: str,
    overwrite: bool,
    say: Say,
) -> dict[str, Any]:
    """Draws what is missing in the folder `output`, and the sheet of `rows` where there is one."""
    folder = Path(output)
    paths = [folder / f"{name}.{suffix}" for name in codes.names]
    sheet = folder / sheet_name
    if rows is not None and (overwrite or not sheet.exists()):
        wanted = list(range(len(codes)))
    else:
        wanted, rows = [i for i, p in enumerate(paths) if overwrite or not p.exists()], None
    renderer.check(look)
    listing.writable_folder(folder)
    marks: dict[str, Any] = dict(model=renderer.name, source_type=codes.source_type)
    kept: dict[int, np.ndarray] = {}
    made: set[Path] = set()
    images = (x for batch in renderer.images(codes.take(wanted), look) for x in batch)
    for i, image in zip(wanted, _shown(images, len(wanted), "picture", say)):
        if overwrite or not paths[i].exists():
            save(paths[i], image, **marks)
            made.add(paths[i])
        if rows is not None:
            kept[i] = to_uint8(image)
    summary = {"done": len(made), "skipped": len(set(paths)) - len(made), "output": output}
    if summary["skipped"]:
        say(f"{summary['skipped']} files are there: kept (--overwrite makes them again)")
    if rows is not None:
        save_picture(sheet, sheet_of(kept, rows), **marks)
        summary["sheet"] = str(sheet)
    return summary


def sheet_of(images: dict[int, np.ndarray], rows: Rows) -> np.ndarray:
    """uint8 pictures on one sheet; white where there is none."""
    white = np.full_like(next(iter(images.values())), 255)
    return grid([[images.get(i, white) for i in row] for row in rows])


def save(path: Path, image: np.ndarray, **marks: Any) -> None:
    """float32 `[H, W, 3]` as .png, or as it is as .npy."""
    if path.suffix != ".npy":
        save_picture(path, to_uint8(image), **marks)
        return
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(image, np.float32))
    write_whole(path, buffer.getvalue())


def _shown(items: Iterator[Any], total: int, unit: str, say: Say) -> Iterator[Any]:
    """`items` with progress on stderr: a bar on a terminal, else at most about ten lines."""
    step = max(math.ceil(total / 10), 16)
    bar = tqdm.tqdm(total=total, unit=unit, disable=not sys.stderr.isatty())
    with bar:
        for n, item in enumerate(items, 1):
            yield item
            bar.update()
            if bar.disable and (n % step == 0 or n == total):
                say(f"[{n}/{total}] {unit}s")
