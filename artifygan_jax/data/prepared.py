"""A folder of prepared pictures: made one by one, written down, gone on with after a stop.

`manifest.json` says what the set is (verb, source, options), how many pictures it has and which inputs
were left out, with reasons. `prepared.jsonl` has one line for each input, in the order of finishing:
its outputs and facts (an alignment's transform, say), or the reason why there are none.
"""

import contextlib
import dataclasses
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from PIL import Image

from artifygan_jax.data import listing, png
from artifygan_jax.data.images import UnreadablePicture, open_picture, printable
from artifygan_jax.data.records import list_any
from artifygan_jax.data.saving import sole, write_whole
from artifygan_jax.errors import UserError

MANIFEST, JOURNAL = "manifest.json", "prepared.jsonl"
SUFFIXES = (".png", ".jpg")


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """One output: `rgb` uint8 `[H, W, 3]`; `part` is added to its name where an input gives several."""

    rgb: np.ndarray
    part: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


# What a verb does to one picture: (uint8 [H, W, 3], its name) to outputs. An input that it cannot
# use is an `UnreadablePicture` with the reason; any other error ends the run.
Work = Callable[[np.ndarray, str], Sequence[Made]]


def prepare(
    source: str | os.PathLike,
    output: str | os.PathLike,
    work: Work,
    *,
    verb: str,
    options: dict[str, Any],
    suffix: str = ".png",
    background: tuple[int, int, int] = (255, 255, 255),
    threads: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Does `work` on every picture of `source` (as `records.list_any` takes it) and writes the results.

    A run that was stopped goes on where it was; inputs that failed are tried again. `options` is all
    that decides what the outputs look like: a folder prepared otherwise is refused, and so is one
    that holds other things. `threads` 0 is one for each core. Returns the summary with `done`,
    `skipped` (made before), `failed`, `failures`. Raises `UserError`.
    """
    if suffix not in SUFFIXES:
        raise UserError(f"format {suffix!r}; allowed are {', '.join(SUFFIXES)}")
    output = Path(output)
    entries = list_any(source, exclude=output)
    paths = listing.output_names(entries, output, suffix)
    head = {
        "verb": verb,
        "source": str(Path(source).expanduser().resolve()),
        "options": {**options, "format": suffix[1:], "background": list(background)},
    }
    listing.writable_folder(output)
    with sole(output / ".lock"):
        for part in output.rglob(".*.part"):  # of a run that was killed while it wrote
            part.unlink()
        before = _begin(output, head)
        jobs = [job for job in zip(entries, paths) if not _done(before.get(job[0].name), output)]
        skipped = len(entries) - len(jobs)
        if skipped:
            say(f"going on: {skipped} of {len(entries)} pictures were prepared before")
        records = {entry.name: before.get(entry.name) for entry in entries}
        do = _Job(work, output, suffix, background, frozenset(str(p).casefold() for p in paths))
        with open(output / JOURNAL, "a", encoding="utf-8") as journal:
            for record in _progress(_in_order(do, jobs, threads or os.cpu_count() or 1), jobs, say):
                journal.write(json.dumps(record) + "\n")
                journal.flush()
                records[record["input"]] = record
        return _finish(output, head, [r for r in records.values() if r], skipped)


@dataclasses.dataclass(frozen=True)
class _Job:
    """One input from its bytes to its files, in any thread."""

    work: Work
    output: Path
    suffix: str
    background: tuple[int, int, int]
    taken: frozenset[str]  # the files of all inputs, letter case ignored

    def __call__(self, entry: listing.Entry, path: Path) -> dict[str, Any]:
        try:
            picture = open_picture(entry.read(), name=entry.name, background=self.background)
            made = self.work(picture.rgb, entry.name)
        except UnreadablePicture as error:
            return {"input": entry.name, "reason": error.cause}
        outputs = []
        for one in made:
            file = path.with_name(f"{path.stem}{one.part}{self.suffix}")
            # The second face of a.jpg is not to overwrite the only one of a_2.jpg.
            while one.part and str(file).casefold() in self.taken:
                file = file.with_name(f"{file.stem}_{self.suffix}")
            write_whole(file, encoded(one.rgb, self.suffix))
            outputs.append({"file": file.relative_to(self.output).as_posix(), **one.facts})
        notes = {"notes": list(picture.notes)} if picture.notes else {}
        return {"input": entry.name, "outputs": outputs, **notes}


def encoded(rgb: np.ndarray, suffix: str) -> bytes:
    """uint8 `[H, W, 3]` as a file: PNG, or JPEG of quality 95 with its colours at full resolution."""
    if suffix == ".png":
        return png.encode(rgb)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _in_order(do: _Job, jobs: Sequence[tuple], threads: int) -> Iterator[dict[str, Any]]:
    """The records of all jobs, a few of them under way at a time."""
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(do, *job))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # after Ctrl-C: what is being written is written to its end, and nothing else begins
        pool.shutdown(wait=True, cancel_futures=True)


def _progress(
    records: Iterator[dict], jobs: Sequence, say: Callable[[str], None]
) -> Iterator[dict]:
    """Passes records on; a bar on a terminal, else a line at every tenth; failures at once."""
    with (
        tqdm.tqdm(total=len(jobs), unit="picture", disable=None) as bar,
        contextlib.closing(
            records  # pyright: ignore[reportArgumentType]  # a generator, which has `close`
        ),
    ):
        for n, record in enumerate(records, 1):
            if "reason" in record:
                say(f"{printable(record['input'])}: left out: {record['reason']}")
            if bar.disable and n * 10 // len(jobs) > (n - 1) * 10 // len(jobs):
                say(f"{n} of {len(jobs)} pictures")
            bar.update()
            yield record


def _begin(output: Path, head: dict[str, Any]) -> dict[str, dict]:
    """What was done before, by input; `UserError` where the folder is something else."""
    manifest = output / MANIFEST
    if manifest.exists():
        old, head = _read_manifest(manifest), json.loads(json.dumps(head))  # tuples become lists
        changed = [
            f"{key}: {json.dumps(old.get(key))} -> {json.dumps(head[key])}"
            for key in head
            if old.get(key) != head[key]
        ]
        if changed:
            raise UserError(
                f"{output} was prepared in another way ({'; '.join(changed)});"
                " give another --output, or remove the folder"
            )
        return read_journal(output)
    foreign = sorted(item.name for item in output.iterdir() if not item.name.startswith("."))
    if foreign:
        raise UserError(
            f"{output} holds {len(foreign)} other things ({printable(foreign[0])}, ...);"
            " give a new or empty folder as --output"
        )
    _write_manifest(output, {**head, "finished": False})
    return {}


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a readable manifest ({error}); remove the folder") from error


def _write_manifest(output: Path, content: dict[str, Any]) -> None:
    write_whole(output / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())


def read_journal(output: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """The last record of every input of a prepared folder; a half line at the end is cut off."""
    path = Path(output) / JOURNAL
    if not path.exists():
        return {}
    records, whole = {}, 0
    with open(path, "r+b") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                record = json.loads(line)
                records[record["input"]] = record
                if not all("file" in one for one in record.get("outputs", ())):
                    raise ValueError("an output without a file")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{path}:{number} is damaged ({error}); remove the folder"
                ) from error
            whole += len(line)
        file.truncate(whole)
    return records


def _done(record: dict | None, output: Path) -> bool:
    outputs = (record or {}).get("outputs")
    return outputs is not None and all((output / one["file"]).is_file() for one in outputs)


def _finish(output: Path, head: dict, records: list[dict], skipped: int) -> dict[str, Any]:
    failures = [{"input": r["input"], "reason": r["reason"]} for r in records if "outputs" not in r]
    counts = {
        "inputs": len(records),
        "pictures": sum(len(r.get("outputs", ())) for r in records),
        "left_out": len(failures),
    }
    _write_manifest(output, {**head, "finished": True, "counts": counts, "left_out": failures})
    done = len(records) - len(failures) - skipped
    summary = {"done": done, "skipped": skipped, "failed": len(failures), "failures": failures}
    return {**summary, "pictures": counts["pictures"], "output": str(output)}
