"""The log of a run: metrics.jsonl (the truth, the same for every run), timing.jsonl, TensorBoard."""

import json
import math
import pathlib
import sys
import time
from collections.abc import Mapping

import tensorboardX
import tqdm


class Log:
    """Appends numbers by step. On resume, lines past step `keep_to` (and half a line) are dropped."""

    def __init__(self, workdir: pathlib.Path, *, keep_to: int = 0):
        for name in ("metrics.jsonl", "timing.jsonl"):
            _trim(workdir / name, keep_to)
        self.metrics = open(workdir / "metrics.jsonl", "a", buffering=1)
        self.timing = open(workdir / "timing.jsonl", "a", buffering=1)
        # TensorBoard hides steps from `purge_step` on; `keep_to` itself stays.
        purge = keep_to + 1 if keep_to else None
        self.board = tensorboardX.SummaryWriter(str(workdir / "tb"), purge_step=purge)
        self.latest: dict[str, float] = {}

    def write(self, step: int, numbers: Mapping) -> None:
        """Numbers of `step` (0-d arrays or floats) to all logs."""
        plain = {k: float(v) for k, v in numbers.items()}
        if not plain:
            return
        self.latest |= plain
        safe = {k: v if math.isfinite(v) else repr(v) for k, v in plain.items()}
        self.metrics.write(json.dumps({"step": step, **safe}) + "\n")
        for name, value in plain.items():
            self.board.add_scalar(name, value, step)

    def write_rate(self, step: int, rate: float) -> None:
        """Images per second around `step`."""
        self.timing.write(
            json.dumps({"step": step, "images_per_s": rate, "time": time.time()}) + "\n"
        )
        self.board.add_scalar("images_per_s", rate, step)

    def close(self) -> None:
        """Flushes and closes the files."""
        self.metrics.close()
        self.timing.close()
        self.board.close()


def _trim(path: pathlib.Path, keep_to: int) -> None:
    """Keeps the whole lines of steps up to `keep_to`."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= keep_to and keep_to:
                kept.append(line + "\n")
        except (ValueError, KeyError):  # half a line, from a kill while it was written
            continue
    fresh = path.with_name(path.name + ".tmp")
    fresh.write_text("".join(kept))
    fresh.replace(path)


class Progress:
    """A bar on a terminal, plain lines elsewhere; and the rate of images, without the first lap."""

    def __init__(self, start: int, steps: int, batch_size: int):
        self.start, self.steps, self.batch_size = start, steps, batch_size
        self.marks = [(start, time.monotonic())]
        self.bar = None
        if sys.stderr.isatty():
            self.bar = tqdm.tqdm(total=steps, initial=start, unit="step", file=sys.stderr)

    def show(self, step: int, log: Log) -> None:
        """Reports that `step` is done."""
        before, then = self.marks[-1]
        now = time.monotonic()
        self.marks.append((step, now))
        rate = (step - before) * self.batch_size / max(now - then, 1e-9)
        log.write_rate(step, rate)
        if self.bar:
            self.bar.update(step - self.bar.n)
            return
        left = (self.steps - step) * (now - then) / max(step - before, 1)
        losses = {k: v for k, v in log.latest.items() if k.endswith("/loss")}
        text = " ".join(f"{k} {v:.4g}" for k, v in losses.items())
        print(
            f"step {step}/{self.steps} {rate:.1f} images/s, {left / 60:.1f} min left, {text}",
            file=sys.stderr,
            flush=True,
        )

    def rate(self, step: int) -> float | None:
        """Images per second since the first report (which has compilation in it), to `step`."""
        marks = self.marks[1:] if len(self.marks) > 2 else self.marks
        (first, then), (last, now) = marks[0], marks[-1]
        if last <= first:
            return None
        return round((last - first) * self.batch_size / (now - then), 2)
