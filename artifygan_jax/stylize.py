"""Turns photos into cartoons.

    python -m artifygan_jax.stylize --model=NAME|DIR --input=FILE|DIR|GLOB|ZIP --output=FILE|DIR

A result has the size, the colour profile and (png, webp) the transparency of its photo, stands
upright, and is marked as made by a network. Results that exist are kept: after a stop, run the same
command again. A photo that cannot be used is named with the reason, and the others are done.
"""

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tqdm
from PIL import Image, ImageColor

from artifygan_jax import cli
from artifygan_jax.data import listing
from artifygan_jax.data.images import (
    Picture,
    UnreadablePicture,
    open_picture,
    picture_size,
    printable,
)
from artifygan_jax.data.saving import save_picture
from artifygan_jax.errors import UserError

KINDS = {".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".webp": "webp"}
VIDEO = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"}
THREADS = 2  # they read ahead and write behind; each may hold a picture of 64 megapixels


class Job(NamedTuple):
    entry: listing.Entry
    output: Path


def main(argv: Sequence[str]) -> tuple[dict[str, Any], int]:
    """The command; returns (summary, exit code)."""
    arguments = _parser().parse_args(argv)
    _check(arguments)
    jobs, folder = _jobs(arguments)
    from artifygan_jax import inference  # brings jax, for which a mistyped call need not wait

    stylizer = inference.load(arguments.model)
    listing.writable_folder(folder)
    waiting = [job for job in jobs if arguments.overwrite or not os.path.lexists(job.output)]
    start = time.monotonic()
    failures = _run(waiting, Artist(stylizer, inference.blend, arguments))
    seconds = time.monotonic() - start
    done, skipped = len(waiting) - len(failures), len(jobs) - len(waiting)
    _say(f"done {done}, skipped {skipped}, failed {len(failures)}")
    summary = {
        "done": done,
        "skipped": skipped,
        "failed": len(failures),
        "failures": failures,
        "compilations": stylizer.compilations,
        "model": arguments.model,
        "seconds": round(seconds, 3),
        "images_per_s": round(done / max(seconds, 1e-9), 3),
    }
    return summary, cli.SOME_FAILED if failures else cli.DONE


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="artifygan_jax.stylize", description=__doc__)
    add = parser.add_argument
    add("--model", required=True, help="a model bundle: its folder, or a name")
    add("--input", required=True, help="a picture, folder, glob, zip or FILE.zip/FOLDER")
    add("--output", required=True, help="a folder; or a .png, .jpg or .webp file for one picture")
    add("--strength", type=float, default=1.0, help="0 (the photo) to 1 (the cartoon)")
    add("--keep_color", action="store_true", help="keep the colours of the photo")
    add("--overwrite", action="store_true", help="make outputs again that exist")
    add("--background", default="white", help="behind transparency: a name or #rrggbb")
    add("--max_side", type=int, help="shrink larger photos to this many pixels a side")
    add("--format", choices=("png", "jpg", "webp"), help="of outputs in a folder (default png)")
    return parser


def _check(arguments) -> None:
    """Raises `UserError` for values that no run could use; makes `background` a colour."""
    if not 0 <= arguments.strength <= 1:
        raise UserError(f"--strength={arguments.strength:g}: give 0 (the photo) to 1 (the cartoon)")
    if arguments.max_side is not None and arguments.max_side < 1:
        raise UserError(f"--max_side={arguments.max_side}: give a number of pixels, 1 or more")
    try:
        arguments.background = ImageColor.getrgb(arguments.background)[:3]
    except ValueError as error:
        raise UserError(
            f"--background={arguments.background}: give a colour name or #rrggbb"
        ) from error
    source = Path(arguments.input)
    if source.suffix.lower() in VIDEO and not source.is_dir():
        raise UserError(
            f"--input={printable(arguments.input)} is a video, which stylize cannot read yet;"
            " give pictures"
        )


def _jobs(arguments) -> tuple[list[Job], Path]:
    """What is made of what, and the folder that must be writable."""
    output = Path(arguments.output).expanduser()
    suffix = output.suffix.lower()
    if output.is_dir() or suffix not in {*KINDS, *listing.SUFFIXES}:
        entries = listing.list_pictures(arguments.input, exclude=output)
        names = listing.output_names(entries, output, f".{arguments.format or 'png'}")
        return [Job(*pair) for pair in zip(entries, names, strict=True)], output
    said = printable(f"--output={arguments.output}")
    if suffix not in KINDS:
        raise UserError(f"{said}: {suffix} cannot be written; use .png, .jpg or .webp")
    if arguments.format not in (None, KINDS[suffix]):
        raise UserError(f"{said} is no {arguments.format}: leave --format out, or change either")
    entries = listing.list_pictures(arguments.input)
    if len(entries) > 1:
        raise UserError(f"{said} is one file for {len(entries)} pictures: give a folder")
    if entries[0].member is None and output.exists() and output.samefile(entries[0].path):
        raise UserError(f"{said} is the input: give another name")
    return [Job(entries[0], output)], output.parent


class Artist:
    """The three steps of a picture: read and write in any thread, draw in one."""

    def __init__(self, stylizer, blend: Callable[..., np.ndarray], arguments):
        self.stylizer, self.blend, self.arguments = stylizer, blend, arguments
        self.rooms: list[tuple[int, int]] = []
        self.model = f"{Path(arguments.model).resolve().name} {stylizer.card['sha256'][:12]}"

    def plan(self, jobs: Sequence[Job]) -> None:
        """Looks at all sizes, so that few programs are compiled."""
        with ThreadPoolExecutor(THREADS) as pool:
            sizes = pool.map(self._size, jobs)
            self.rooms = self.stylizer.plan([size for size in sizes if size is not None])

    def _size(self, job: Job) -> tuple[int, int] | None:
        entry = job.entry
        try:
            source = entry.path if entry.member is None else entry.read()
            width, height = picture_size(source, name=entry.name)
        except UnreadablePicture:
            return None  # `read` will raise it again, and there it is reported
        return _fitted(height, width, self.arguments.max_side)

    def read(self, job: Job) -> Picture:
        data, name = job.entry.read(), job.entry.name
        picture = open_picture(data, name=name, background=self.arguments.background)
        height, width = picture.rgb.shape[:2]
        size = _fitted(height, width, self.arguments.max_side)
        if size == (height, width):
            return picture
        alpha = None if picture.alpha is None else _resized(picture.alpha, size)
        return Picture(_resized(picture.rgb, size), alpha, picture.icc, picture.notes)

    def draw(self, job: Job, picture: Picture) -> np.ndarray:
        name = printable(job.entry.name)
        for note in picture.notes:
            _say(f"{name}: {note}")
        tiled, needed = self.stylizer.memory(picture.rgb.shape[:2], self.rooms)
        if tiled:
            _say(f"{name}: in tiles, which needs about {needed / 1e9:.1f} GB of memory")
        return self.stylizer.rgb(picture.rgb, self.rooms)

    def write(self, job: Job, picture: Picture, drawn: np.ndarray) -> None:
        rgb = self.blend(picture.rgb, drawn, self.arguments.strength, self.arguments.keep_color)
        # a jpg has no alpha, and the photo lies on its background already
        alpha = None if KINDS[job.output.suffix.lower()] == "jpg" else picture.alpha
        save_picture(job.output, rgb, alpha=alpha, icc=picture.icc, model=self.model)


def _run(jobs: Sequence[Job], artist: Artist) -> list[dict[str, str]]:
    """Does all jobs, with progress on stderr; returns input and reason of those that failed."""
    failures = []
    bar = tqdm.tqdm(total=len(jobs), unit="picture", disable=not sys.stderr.isatty())
    with bar, contextlib.closing(_outcomes(jobs, artist)) as outcomes:
        for n, (job, reason) in enumerate(outcomes, 1):
            name = printable(job.entry.name)
            if reason is not None:
                failures.append({"input": job.entry.name, "reason": reason})
                _say(f"{name}: failed: {reason}")
            elif bar.disable:
                _say(f"[{n}/{len(jobs)}] {name}")
            bar.update()
    return failures


def _outcomes(jobs: Sequence[Job], artist: Artist) -> Generator[tuple[Job, str | None], None, None]:
    """Each job in order, with None where it was done, or else the reason."""
    artist.plan(jobs)
    pool = ThreadPoolExecutor(THREADS)
    writing: deque[tuple[Job, Future]] = deque()
    try:
        for job, reading in _ahead(pool, artist.read, jobs):
            try:
                picture = reading.result()
                drawn = artist.draw(job, picture)
                writing.append((job, pool.submit(artist.write, job, picture, drawn)))
            except UserError as error:
                failed: Future = Future()
                failed.set_exception(error)
                writing.append((job, failed))
            if len(writing) > THREADS:
                yield _outcome(*writing.popleft())
        while writing:
            yield _outcome(*writing.popleft())
    finally:  # after Ctrl-C: what is being written is written to its end, and nothing else begins
        pool.shutdown(wait=True, cancel_futures=True)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Job], Any], jobs: Iterable[Job]
) -> Iterator[tuple[Job, Future]]:
    """The jobs with the results of `function`, which runs at most THREADS jobs ahead."""
    queue: deque[tuple[Job, Future]] = deque()
    for job in jobs:
        queue.append((job, pool.submit(function, job)))
        if len(queue) > THREADS:
            yield queue.popleft()
    while queue:
        yield queue.popleft()


def _outcome(job: Job, written: Future) -> tuple[Job, str | None]:
    try:
        written.result()
    except UnreadablePicture as error:
        return job, error.cause
    except UserError as error:
        return job, str(error)
    return job, None


def _fitted(height: int, width: int, max_side: int | None) -> tuple[int, int]:
    """(height, width), made smaller where a side is above `max_side`."""
    scale = min(1.0, (max_side or max(height, width)) / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    resampling = Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(plane).resize((size[1], size[0]), resampling))


def _say(line: str) -> None:
    """One line on stderr, above the bar where there is one."""
    tqdm.tqdm.write(line, file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
