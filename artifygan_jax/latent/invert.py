"""Pictures of faces to latents, in batches: read, aligned, looked for, written."""

import io
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tqdm

from artifygan_jax.data import align, listing
from artifygan_jax.data.images import UnreadablePicture, open_picture, printable
from artifygan_jax.data.saving import save_picture, write_whole
from artifygan_jax.data.streams import square
from artifygan_jax.latent.codes import NOISE
from artifygan_jax.latent.encode import Encode
from artifygan_jax.latent.identity import Likeness
from artifygan_jax.latent.projector import Found, Projector
from artifygan_jax.latent.render import Renderer, to_uint8
from artifygan_jax.metrics.evals import grid

FACES = ("none", "auto", "largest", "all")
BATCH, BATCH_PIXELS = 8, 2**20  # targets at once: so many, and no more pixels than that
SHOWN = (0.02, 0.1, 0.25, 0.5, 1.0)  # shares of the steps after which progress pictures are taken
Say = Callable[[str], None]


class Target(NamedTuple):
    """One square picture uint8 of the net's size, and the .npz that its codes go to."""

    name: str
    rgb: np.ndarray
    output: Path


def invert(
    projector: Projector,
    source: str,
    output: str,
    *,
    encoder: Encode | None = None,
    likeness: Likeness | None = None,
    face: str = "none",
    detector: align.Detect | None = None,
    overwrite: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Writes NAME.npz (`ws` and noise maps, for `--latents`), NAME.png and steps/NAME.png for each picture.

    `face`: "none" takes the square in the middle of a picture, "largest" its largest face, aligned,
    "all" every face, "auto" the largest or, where there is none, the middle. A picture without a
    face fails under "largest" and "all". The projector starts from
    the codes of the `encoder`, if any. Returns a summary with what failed and why.
    """
    folder = Path(output)
    entries = listing.list_pictures(source, exclude=folder)
    names = listing.output_names(entries, folder, ".npz")
    listing.writable_folder(folder)
    jobs = [
        (entry, name)
        for entry, name in zip(entries, names, strict=True)
        if overwrite or not name.exists()
    ]
    if len(jobs) < len(entries):
        say(f"{len(entries) - len(jobs)} are done: kept (--overwrite makes them again)")
    failures: list[dict[str, str]] = []
    results: list[dict[str, Any]] = []
    work = _squares(projector.renderer.resolution, face, detector)
    size = max(1, min(BATCH, BATCH_PIXELS // projector.renderer.resolution**2, len(jobs)))
    targets = _targets(jobs, work, failures, say)
    while batch := list(itertools.islice(targets, size)):
        found = _found(projector, batch, size, encoder, say)
        same = likeness and likeness(np.stack([t.rgb for t in batch]), found.found.images)
        for i, target in enumerate(batch):
            results.append(_write(projector.renderer, target, found, i))
            if same is not None:
                results[-1]["identity"] = round(float(same[i]), 4)
    return {
        "done": len(results),
        "skipped": len(entries) - len(jobs),
        "failed": len(failures),
        "failures": failures,
        "encoder": encoder and encoder.name,
        "steps": projector.how.steps,
        "distance": projector.distance.name,
        "output": output,
        "mse": _mean(results, "mse"),
        "perceptual": _mean(results, "perceptual"),
        "identity": _mean(results, "identity") if likeness else None,
        "results": results,
    }


def _mean(results: list[dict[str, Any]], key: str) -> float | None:
    return round(float(np.mean([r[key] for r in results])), 6) if results else None


def _squares(side: int, face: str, detector: align.Detect | None) -> Callable:
    """(rgb, name) -> [(suffix of the name, uint8 `[side, side, 3]`)]."""
    if face == "none":
        return lambda rgb, name: [("", square(rgb, side))]
    work = align.aligner(
        side,
        detector=detector,
        faces="all" if face == "all" else "largest",
        no_face="center" if face == "auto" else "skip",
    )
    return lambda rgb, name: [(made.part, made.rgb) for made in work(rgb, name)]


def _targets(jobs, work: Callable, failures: list, say: Say) -> Iterator[Target]:
    """Every target that can be had; `failures` gets the others."""
    for entry, path in jobs:
        try:
            picture = open_picture(entry.read(), name=entry.name)
            for part, rgb in work(picture.rgb, entry.name):
                yield Target(entry.name, rgb, path.with_name(f"{path.stem}{part}.npz"))
        except UnreadablePicture as error:
            failures.append({"input": entry.name, "reason": error.cause})
            say(f"{printable(entry.name)}: failed: {error.cause}")


class _Progress:
    """What a batch looked like after some steps, and a line or a bar that says how far it is."""

    def __init__(self, steps: int, name: str, say: Say):
        self.steps, self.say, self.images = steps, say, []
        shares = SHOWN if steps else ()
        self.shown = tuple(dict.fromkeys(max(1, round(share * steps)) for share in shares))
        self.bar = tqdm.tqdm(total=steps, unit="step", desc=name, disable=not sys.stderr.isatty())
        self.name = name

    def __call__(self, step: int, images: np.ndarray | None) -> None:
        self.bar.update()
        if images is not None:
            self.images.append(images)
            if self.bar.disable:
                self.say(f"{self.name}: step {step} of {self.steps}")
        if step == self.steps:
            self.bar.close()


class _Batch(NamedTuple):
    found: Found
    steps: list[np.ndarray]


def _found(
    projector: Projector, batch: list[Target], size: int, encoder: Encode | None, say: Say
) -> _Batch:
    """Codes of a batch, filled up to `size` so that one program serves all batches."""
    targets = np.stack([target.rgb for target in batch])
    count = len(batch)
    room = np.repeat(targets[-1:], size - len(batch), axis=0)
    name = printable(batch[0].name) + (f" and {len(batch) - 1} more" if len(batch) > 1 else "")
    progress = _Progress(projector.how.steps, name, say)
    filled = np.concatenate([targets, room])
    start = None if encoder is None else encoder(filled)
    found = projector(filled, start=start, watch=progress, shown=progress.shown)
    return _Batch(found.first(count), progress.images or [found.images])


def _write(renderer: Renderer, target: Target, batch: _Batch, i: int) -> dict[str, Any]:
    """The files of target `i` of a batch; the .npz comes last, and says that it is done."""
    found, path = batch.found, target.output
    row = [target.rgb, *(to_uint8(images[i]) for images in batch.steps)]
    steps = path.parent / "steps" / f"{path.stem}.png"
    save_picture(steps, grid([row]), model=renderer.name)
    save_picture(path.with_suffix(".png"), to_uint8(found.images[i]), model=renderer.name)
    buffer = io.BytesIO()
    maps = {NOISE + name: m[i : i + 1] for name, m in found.maps.items()}
    np.savez(buffer, ws=found.ws[i : i + 1], **maps)  # pyright: ignore[reportArgumentType]
    write_whole(path, buffer.getvalue())
    return {
        "input": target.name,
        "output": str(path),
        "mse": round(float(found.mse[i]), 6),
        "perceptual": round(float(found.perceptual[i]), 6),
    }
