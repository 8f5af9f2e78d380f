"""Posts of a booru from its metadata files, read as a stream: one row in memory at a time.

Three kinds of source, recognised by what is in the file, never by its name:

* `kaggle`: `all_data.csv` of the Kaggle set alamson/safebooru; 9 or 11 fields, tags in the last.
* `safebooru`: the JSON of `index.php?page=dapi&s=post&q=index&json=1` (Gelbooru's interface).
* `danbooru`: the JSON of Danbooru's `/posts.json`, and that of the Danbooru20xx dumps.

JSON may be a list, an object around a list, or one object a line; any file may be gzipped.
"""

import csv
import dataclasses
import datetime
import html
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from artifygan_jax.data.images import printable
from artifygan_jax.data.safebooru.layouts import (
    COLUMNS,
    Malformed,
    csv_rows,
    json_lines,
    json_list,
    json_object,
    lines,
    reading,
)
from artifygan_jax.errors import UserError

MAX_NAMED = 20  # malformed records that are named; all are counted
WHERE = "Safebooru, Danbooru or Kaggle's all_data.csv"

_SUFFIXES = (".csv", ".json", ".jsonl", ".ndjson")

# Keys that only one of the two interfaces has.
_DANBOORU = {"tag_string", "tag_string_general", "large_file_url", "image_width", "is_deleted"}
_SAFEBOORU = {"directory", "hash", "image"}


@dataclasses.dataclass(frozen=True, slots=True)
class Post:
    """One post. What the metadata does not say is empty, 0 for sizes, None for numbers.

    `source` is the kind of metadata, which decides what `rating` means. `url` is the reduced picture
    (up to 850 pixels wide) where there is one, `full_url` the original. `width` and `height` are
    those of `url` where they are known, else of the original. `created` is unix time in seconds.
    """

    id: int
    source: str
    rating: str
    tags: tuple[str, ...]
    url: str = ""
    full_url: str = ""
    preview_url: str = ""
    width: int = 0
    height: int = 0
    created: int | None = None
    score: int | None = None
    md5: str = ""
    extension: str = ""
    deleted: bool = False
    banned: bool = False


@dataclasses.dataclass
class Metadata:
    """A metadata file whose kind is known; iterate it for the posts, as often as needed.

    `malformed` counts the records of the latest pass that could not be read; `bad` names the first
    of them (`line 7: ...`, `post 7: ...`).
    """

    path: Path
    kind: str  # kaggle, safebooru or danbooru
    layout: str  # csv, json list, json lines or json object
    malformed: int = 0
    bad: list[str] = dataclasses.field(default_factory=list)

    def __iter__(self) -> Iterator[Post]:
        """The posts in the file's order. Raises `UserError` where the file itself breaks off."""
        self.malformed, self.bad = 0, []
        with reading(self.path) as file:
            for place, record in self._records(file):
                try:
                    yield self._post(record)
                except Malformed as error:
                    self._note(f"{place}: {error}")

    def _records(self, file: TextIO) -> Iterator[tuple[str, Any]]:
        if self.layout == "csv":
            return csv_rows(file)
        if self.layout == "json lines":
            return json_lines(file)
        return json_list(file) if self.layout == "json list" else json_object(file)

    def _post(self, record: Any) -> Post:
        if isinstance(record, Malformed):
            raise record
        if self.kind == "kaggle":
            return _kaggle(record)
        found = _kind_of(record)
        if found != self.kind:  # the letter of a rating means other things in other sources
            raise Malformed(f"looks like {found or 'no post'}, the file like {self.kind}")
        return _PARSERS[self.kind](record)

    def _note(self, line: str) -> None:
        self.malformed += 1
        if len(self.bad) < MAX_NAMED:
            self.bad.append(line)


def find_metadata(source: Path) -> Path:
    """The metadata file that `source` is, or the one in that folder. Raises `UserError`."""
    if source.is_file():
        return source
    found = []
    if source.is_dir():
        found = sorted(
            path
            for path in source.iterdir()
            if path.is_file()
            and path.name.lower().removesuffix(".gz").endswith(_SUFFIXES)
            and not path.name.startswith(".")
        )
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(printable(path.name) for path in found[:5])
        raise UserError(f"{source} holds several metadata files ({names}); name one of them")
    raise UserError(
        f"{source}: no metadata here; needed is all_data.csv of the Kaggle set alamson/safebooru"
        " (kaggle.com/datasets/alamson/safebooru, unpacked), or a JSON file of posts from the"
        " interface of Safebooru or Danbooru: put it there, or give its path as --source"
    )


def open_metadata(path: Path) -> Metadata:
    """Recognises the file's kind from its first record. Raises `UserError`."""
    with reading(path) as file:
        head = file.read(1 << 16).lstrip("\ufeff \t\r\n")
    if not head:
        raise UserError(f"{path} is empty; needed is metadata of {WHERE}")
    if head[0] not in "[{":
        return Metadata(path, _kind_of_csv(path, head), "csv")
    layout = "json list" if head[0] == "[" else _layout_of_object(path)
    metadata = Metadata(path, "", layout)
    with reading(path) as file:
        record = next((r for _, r in metadata._records(file) if isinstance(r, dict)), None)
    kind = _kind_of(record)
    if kind is None:
        keys = ", ".join(sorted(record)[:8]) if record else "no posts"
        raise UserError(
            f"{path}: {printable(keys)} is metadata of no known source; needed is {WHERE}"
        )
    if kind == "both":
        raise UserError(
            f"{path} has keys of Safebooru's and of Danbooru's interface, where ratings differ in"
            " meaning; give a file as one of the two sent it"
        )
    return dataclasses.replace(metadata, kind=kind)


def _layout_of_object(path: Path) -> str:
    """Whether the first line is an object for itself, and a post."""
    with reading(path) as file:
        first = next((line for _, line in lines(file)), "")
    try:
        record = json.loads(first.lstrip("\ufeff")) if isinstance(first, str) else {}
    except (ValueError, RecursionError):
        return "json object"
    return "json lines" if _kind_of(record) else "json object"


def _kind_of_csv(path: Path, head: str) -> str:
    line = head.splitlines()[0]
    fields = [field.strip() for field in next(csv.reader([line], skipinitialspace=True))]
    named = {"id", "rating", "sample_url", "tags"} <= set(fields)
    plain = len(fields) in (len(COLUMNS), len(COLUMNS) + 2) and fields[0].isdecimal()
    if named or plain:
        return "kaggle"
    raise UserError(
        f"{path}: starts with {printable(line[:60])!r}, which is metadata of no known source;"
        f" needed is {WHERE}"
    )


def _kind_of(record: Any) -> str | None:
    """`danbooru`, `safebooru`, `both`, or None for what is no post of either."""
    if not isinstance(record, dict):
        return None
    keys = set(record)
    danbooru = bool(keys & _DANBOORU) and bool(keys & {"tag_string", "tag_string_general", "tags"})
    urls = " ".join(str(record.get(key)) for key in ("file_url", "sample_url", "preview_url"))
    safebooru = isinstance(record.get("tags"), str) and bool(
        keys & _SAFEBOORU or "//safebooru.org/" in urls
    )
    if danbooru and safebooru:
        return "both"
    return "danbooru" if danbooru else "safebooru" if safebooru else None


# -------------------------------------------------------------------------------------------- posts


def _kaggle(row: Mapping[str, str]) -> Post:
    url = row.get("sample_url", "")
    return Post(
        id=_id(row.get("id")),
        source="kaggle",
        rating=row.get("rating", "").lower(),
        tags=_tags(row.get("tags")),
        url=url,
        preview_url=row.get("preview_url", ""),
        width=_size(row.get("sample_width")),
        height=_size(row.get("sample_height")),
        created=_time(row.get("created_at")),
        score=_number(row.get("score")),
        extension=_extension(url),
    )


def _safebooru(post: Mapping[str, Any]) -> Post:
    full = _text(post, "file_url")
    folder, image = str(post.get("directory", "")), _text(post, "image")
    if not full and folder and image:  # older answers leave the address to the reader
        full = f"https://safebooru.org/images/{folder}/{image}"
    preview, sample = _text(post, "preview_url"), _text(post, "sample_url")
    if sample == preview:  # where there is no sample, some answers give the thumbnail for it
        sample = ""
    if not sample and post.get("sample") in (True, 1, "1", "true") and folder and image:
        stem = PurePosixPath(image).stem
        sample = f"https://safebooru.org/samples/{folder}/sample_{stem}.jpg"
    reduced = bool(sample) and sample != full and _size(post.get("sample_width")) > 0
    return Post(
        id=_id(post.get("id")),
        source="safebooru",
        rating=_text(post, "rating").lower(),
        tags=_tags(post.get("tags")),
        url=sample or full,
        full_url=full,
        preview_url=preview,
        width=_size(post.get("sample_width" if reduced else "width")),
        height=_size(post.get("sample_height" if reduced else "height")),
        created=_time(post.get("created_at") or post.get("change")),
        score=_number(post.get("score")),
        md5=_text(post, "hash"),
        extension=_extension(sample or full),
        deleted=_text(post, "status") == "deleted",
    )


def _danbooru(post: Mapping[str, Any]) -> Post:
    tags = post.get("tag_string", post.get("tags"))
    if tags is None:
        parts = ("general", "character", "copyright", "artist", "meta")
        tags = [tag for part in parts for tag in _tags(post.get(f"tag_string_{part}"))]
    full = _text(post, "file_url")
    url = _text(post, "large_file_url") or full
    return Post(
        id=_id(post.get("_id", post.get("id"))),
        source="danbooru",
        rating=_text(post, "rating").lower(),
        tags=_tags(tags),
        url=url,
        full_url=full,
        preview_url=_text(post, "preview_file_url"),
        width=_size(post.get("image_width")),
        height=_size(post.get("image_height")),
        created=_time(post.get("created_at")),
        score=_number(post.get("score")),
        md5=_text(post, "md5"),
        extension=_extension(url) or _text(post, "file_ext").lower(),
        deleted=bool(post.get("is_deleted", False)),
        banned=bool(post.get("is_banned", False)),
    )


_PARSERS: dict[str, Callable[[Mapping[str, Any]], Post]] = {
    "safebooru": _safebooru,
    "danbooru": _danbooru,
}


def _id(value: Any) -> int:
    """Ids name files, so they are plain integers and nothing else."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    raise Malformed(f"id {printable(repr(value)[:40])} is no plain integer")


def _tags(value: Any) -> tuple[str, ...]:
    """Tags from words with blanks between them, a list of words, or a list of `{"name": word}`."""
    if isinstance(value, list | tuple):
        words = [w.get("name", "") if isinstance(w, dict) else w for w in value]
        value = " ".join("_".join(w.split()) for w in words if isinstance(w, str))
    if not isinstance(value, str):
        return ()
    text = html.unescape(value)  # Gelbooru's interface sends &#039; for '
    text = text.encode(errors="replace").decode()  # no half of a surrogate pair
    return tuple(dict.fromkeys(text.lower().split()))


def _text(post: Mapping[str, Any], key: str) -> str:
    value = post.get(key)
    return value.strip() if isinstance(value, str) else ""


def _number(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _size(value: Any) -> int:
    return max(_number(value) or 0, 0)


def _time(value: Any) -> int | None:
    """Unix time from itself, from ISO 8601, or from `Wed Jan 01 10:00:00 +0000 2020`."""
    number = _number(value)
    if number is not None or not isinstance(value, str):
        return number
    for parse in (
        datetime.datetime.fromisoformat,
        lambda text: datetime.datetime.strptime(text, "%a %b %d %H:%M:%S %z %Y"),
    ):
        try:
            when = parse(value.strip())
            when = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
            return int(when.timestamp())
        except (ValueError, OverflowError):
            continue
    return None


def _extension(url: str) -> str:
    """`jpg` of an address; faster than urlsplit, which a million rows feel."""
    name = url.partition("?")[0].partition("#")[0].rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name else ""
