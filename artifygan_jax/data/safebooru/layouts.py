"""The records of a metadata file as a stream: lines of a CSV, JSON lines, a JSON list or object.

Each generator gives (place, record): where the record stands, and what it is, or a `Malformed` that
says why it is none. What ends the reading of the whole file is a `UserError`.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from artifygan_jax.errors import UserError

# Longer than any post; a file without line ends is not read into memory whole.
MAX_RECORD = 1 << 20
MAX_OBJECT = 64 << 20  # a single JSON object around a list; a page of either interface has 2 MB

# The Kaggle file's columns, by its author's code (AlexLamson/safebooru-predict).
COLUMNS = (
    "id", "created_at", "rating", "score", "sample_url", "sample_width", "sample_height",
    "preview_url", "tags",
)  # fmt: skip


_BETWEEN = re.compile(r"[\s,]*")


class Malformed(Exception):
    """A record that is no post; `str` is the reason."""


class reading:
    """The text of a plain or gzipped file; what is wrong with it is a `UserError`."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> TextIO:
        try:
            with open(self.path, "rb") as file:
                head = file.read(4)
            raw: Any = gzip.open(self.path) if head[:2] == b"\x1f\x8b" else open(self.path, "rb")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror}") from error
        if head == b"PK\3\4":
            raise UserError(f"{self.path} is a zip; unpack it, and give the file that was in it")
        self.file = io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline="\n")
        return self.file

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.file.close()
        if isinstance(error, EOFError | OSError | zlib.error):
            raise UserError(f"{self.path}: cannot be read to its end: {error}") from error


def lines(file: TextIO) -> Iterator[tuple[str, str | Malformed]]:
    """(place, line) of each line that is not blank; of an endless one its length is all that is said."""
    number = 0
    while line := file.readline(MAX_RECORD):
        number += 1
        whole: str | Malformed = line
        while len(line) == MAX_RECORD and not line.endswith("\n"):
            whole = Malformed(f"a line of more than {MAX_RECORD} characters")
            line = file.readline(MAX_RECORD)
        if isinstance(whole, Malformed) or whole.strip():
            yield f"line {number}", whole


def csv_rows(file: TextIO) -> Iterator[tuple[str, Any]]:
    """Rows as dicts by column name. Each line by itself, so that a lost quote costs one row only."""
    columns: tuple[str, ...] = COLUMNS
    first = True
    for place, line in lines(file):
        if isinstance(line, Malformed):
            yield place, line
            continue
        try:
            fields = next(csv.reader([line.lstrip("\ufeff")], strict=True, skipinitialspace=True))
        except csv.Error as error:
            yield place, Malformed(str(error))
            continue
        fields = [field.strip() for field in fields]
        if first and {"id", "tags"} <= set(fields):
            columns = tuple(fields)
        elif len(fields) == len(columns):
            yield place, dict(zip(columns, fields))
        elif columns[:5] == COLUMNS[:5] and len(fields) in (len(COLUMNS), len(COLUMNS) + 2):
            # 9 names and 11 fields, or the other way round: the author's code wrote such files
            yield place, dict(zip(COLUMNS[:7], fields)) | {"tags": fields[-1]}
        else:
            yield place, Malformed(f"{len(fields)} fields where {len(columns)} are named")
        first = False


def json_lines(file: TextIO) -> Iterator[tuple[str, Any]]:
    for place, line in lines(file):
        if isinstance(line, Malformed):
            yield place, line
            continue
        try:
            yield place, json.loads(line.lstrip("\ufeff"))
        except (ValueError, RecursionError) as error:
            yield place, Malformed(f"not JSON: {error}")


def json_list(file: TextIO) -> Iterator[tuple[str, Any]]:
    """The elements of a list of any length, decoded one by one from a sliding window."""
    decoder = json.JSONDecoder()
    window, at, number = file.read(MAX_RECORD).lstrip("\ufeff \t\r\n"), 1, 0
    while True:
        at = _BETWEEN.match(window, at).end()  # pyright: ignore[reportOptionalMemberAccess]
        if window[at : at + 1] == "]":
            return
        try:
            record, end = decoder.raw_decode(window, at)
        except (ValueError, RecursionError) as error:
            more = file.read(MAX_RECORD) if len(window) - at <= MAX_RECORD else ""
            if not more:
                name = getattr(file, "name", "the file")
                raise UserError(f"{name}: not JSON after post {number}; cut off?") from error
            window, at = window[at:] + more, 0
            continue
        number, at = number + 1, end
        yield f"post {number}", record


def json_object(file: TextIO) -> Iterator[tuple[str, Any]]:
    """The list under `post` (Gelbooru's interface) or `posts` of the one object in the file."""
    name = getattr(file, "name", "the file")
    text = file.read(MAX_OBJECT + 1)
    if len(text) > MAX_OBJECT:
        raise UserError(f"{name}: one JSON object of more than {MAX_OBJECT >> 20} MiB; give a list")
    try:
        top = json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not JSON: {error}") from error
    inside = top.get("post", top.get("posts", top))
    for number, record in enumerate(inside if isinstance(inside, list) else [inside], 1):
        yield f"post {number}", record
