"""The audit of a picture folder: one JSON line for each verdict on a post, only ever appended to."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from artifygan_jax.data.safebooru.posts import Post
from artifygan_jax.errors import UserError

AUDIT = "audit.jsonl"

# Verdicts: `kept` (there is a file), `refused` (by the rules), `failed` (for good), `later` (the
# network or the server; tried again by the next run).
KEPT, REFUSED, FAILED, LATER = "kept", "refused", "failed", "later"


# What is remembered of a record; with the tags of two million posts memory would run out.
_REMEMBERED = ("verdict", "reason", "url", "file", "bytes", "shortest")


class Audit:
    """The latest verdicts by post id, and the file that they are appended to.

    Of a post that was fetched and later refused (by other rules) both are remembered: its file is
    still there when it is wanted again.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._latest: dict[int, dict[str, Any]] = {}
        self._refused: dict[int, dict[str, Any]] = {}
        self.damaged = 0
        for line in file:
            try:
                record = json.loads(line)
                self._of(record["verdict"])[int(record["id"])] = _remembered(record)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self.damaged += 1  # the half line of a killed run, mostly
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")

    def latest(self, post: Post) -> dict[str, Any]:
        """What the last record of fetching this post says, or an empty dict."""
        return self._latest.get(post.id, {})

    def write(self, post: Post, verdict: str, reason: str = "", **facts: Any) -> None:
        """Appends a record, unless it would only repeat the last one of this post."""
        record = {
            "id": post.id,
            "source": post.source,
            "rating": post.rating,
            "tags": post.tags,
            "url": post.url,
            "verdict": verdict,
            "reason": reason,
            **facts,
        }
        known, before = _remembered(record), self._of(verdict)
        if known != before.get(post.id):
            before[post.id] = known
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()

    def _of(self, verdict: str) -> dict[int, dict[str, Any]]:
        return self._refused if verdict == REFUSED else self._latest


def _remembered(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in _REMEMBERED if record.get(key)}


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Audit]:
    """The folder's audit, locked against a second run. Raises `UserError`.

    Never through a link: the file that is written to lies in the folder itself.
    """
    path = folder / AUDIT
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.fdopen(os.open(path, flags, 0o666), "r+b")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; move it away") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{folder}: another run is downloading into it; wait, or give another --output"
            ) from error
        yield Audit(file)
        os.fsync(file.fileno())
