"""Pictures of faces to latents, in batches: read, aligned, looked for, written."""

import dataclasses
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
    """One square picture uint8 of the net's size, and the path that its codes or pictures go to.

    `photo` is what it was taken from at `quad` `[4, 2]`, where that is wanted.
    """

    name: str
    rgb: np.ndarray
    output: Path
    photo: np.ndarray | None
    quad: np.ndarray


class Job(NamedTuple):
    """A picture and what becomes of it."""

    entry: listing.Entry
    output: Path


@dataclasses.dataclass(frozen=True, eq=False)
class Finder:
    """Codes of the faces of pictures, in batches; what cannot be read or has no face is a failure.

    `face`: "none" takes the square in the middle of a picture, "largest" its largest face, aligned,
    "all" every face, "auto" the largest or, where there is none, the middle. A picture without a
    face fails under "largest" and "all". The projector starts from the codes of the `encoder`, if any.
    """

    projector: Projector
    encoder: Encode | None = None
    face: str = "none"
    detector: align.Detect | None = None
    say: Say = print

    def __call__(
        self, jobs: list[Job], failures: list[dict[str, str]], *, photos: bool = False
    ) -> Iterator[tuple[list[Target], "Batch"]]:
        """Batches of targets and what was found of them; `failures` gets the others.

        `photos`: targets keep the pictures that they were taken from.
        """
        side = self.projector.renderer.resolution
        work = _squares(side, self.face, self.detector)
        size = max(1, min(BATCH, BATCH_PIXELS // side**2, len(jobs)))
        targets = _targets(jobs, work, failures, photos, self.say)
        while batch := list(itertools.islice(targets, size)):
            yield batch, _found(self.projector, batch, size, self.encoder, self.say)

    def facts(self) -> dict[str, Any]:
        """How codes are found, for a summary."""
        return {
            "encoder": self.encoder and self.encoder.name,
            "steps": self.projector.how.steps,
            "distance": self.projector.distance.name,
        }


def jobs_of(
    source: str, output: str, suffix: str, *, overwrite: bool, say: Say
) -> tuple[list[Job], int]:
    """(pictures of `source` that are to be done, how many are done); the folder `output` is made."""
    folder = Path(output)
    entries = listing.list_pictures(source, exclude=folder)
    names = listing.output_names(entries, folder, suffix)
    listing.writable_folder(folder)
    jobs = [Job(*x) for x in zip(entries, names, strict=True) if overwrite or not x[1].exists()]
    skipped = len(entries) - len(jobs)
    if skipped:
        say(f"{skipped} are done: kept (--overwrite makes them again)")
    return jobs, skipped


def invert(
    finder: Finder,
    source: str,
    output: str,
    *,
    likeness: Likeness | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes NAME.npz (`ws` and noise maps, for `--latents`), NAME.png and steps/NAME.png for each picture.

    Returns a summary with what failed and why, and how near the pictures came.
    """
    jobs, skipped = jobs_of(source, output, ".npz", overwrite=overwrite, say=finder.say)
    failures: list[dict[str, str]] = []
    results: list[dict[str, Any]] = []
    for batch, found in finder(jobs, failures):
        same = likeness and likeness(np.stack([t.rgb for t in batch]), found.found.images)
        for i, target in enumerate(batch):
            results.append(_write(finder.projector.renderer, target, found, i))
            if same is not None:
                results[-1]["identity"] = round(float(same[i]), 4)
    return {
        "done": len(results),
        "skipped": skipped,
        "failed": len(failures),
        "failures": failures,
        **finder.facts(),
        "output": output,
        "mse": _mean(results, "mse"),
        "perceptual": _mean(results, "perceptual"),
        "identity": _mean(results, "identity") if likeness else None,
        "results": results,
    }


def _mean(results: list[dict[str, Any]], key: str) -> float | None:
    return round(float(np.mean([r[key] for r in results])), 6) if results else None


def _squares(side: int, face: str, detector: align.Detect | None) -> Callable:
    """(rgb, name) -> list of `align.Made`."""
    if face == "none":
        return lambda rgb, name: [align.middle(rgb, square(rgb, side))]
    return align.aligner(
        side,
        detector=detector,
        faces="all" if face == "all" else "largest",
        no_face="center" if face == "auto" else "skip",
    )


def _targets(
    jobs: list[Job], work: Callable, failures: list, photos: bool, say: Say
) -> Iterator[Target]:
    """Every target that can be had; `failures` gets the others."""
    for entry, path in jobs:
        try:
            photo = open_picture(entry.read(), name=entry.name).rgb
            for made in work(photo, entry.name):
                output = path.with_name(f"{path.stem}{made.part}{path.suffix}")
                quad = np.asarray(made.facts["quad"])
                yield Target(entry.name, made.rgb, output, photo if photos else None, quad)
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


class Batch(NamedTuple):
    """What was found of a batch, and what it looked like on the way."""

    found: Found
    steps: list[np.ndarray]


def _found(
    projector: Projector, batch: list[Target], size: int, encoder: Encode | None, say: Say
) -> Batch:
    """Codes of a batch, filled up to `size` so that one program serves all batches."""
    targets = np.stack([target.rgb for target in batch])
    count = len(batch)
    room = np.repeat(targets[-1:], size - len(batch), axis=0)
    name = printable(batch[0].name) + (f" and {len(batch) - 1} more" if len(batch) > 1 else "")
    progress = _Progress(projector.how.steps, name, say)
    filled = np.concatenate([targets, room])
    start = None if encoder is None else encoder(filled)
    found = projector(filled, start=start, watch=progress, shown=progress.shown)
    return Batch(found.first(count), progress.images or [found.images])


def _write(renderer: Renderer, target: Target, batch: Batch, i: int) -> dict[str, Any]:
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
