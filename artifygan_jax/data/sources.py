"""Official downloads of a data set: where they lie, whether they are what was published, what is inside.

Archives are read member by member and never unpacked, so nothing is written by their names.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from artifygan_jax.data import listing
from artifygan_jax.data.images import UnreadablePicture, picture_size, printable
from artifygan_jax.data.listing import Entry
from artifygan_jax.errors import UserError

MAX_PICTURES = 300_000  # CelebA has 202,599 and COCO's larger half 118,287

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Official:
    """What is published of a file: bytes, and sha256 or md5 in hex; None where nobody says."""

    name: str
    size: int | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An official file that is there: loose, inside a zip, or as a folder it was unpacked into."""

    official: Official
    entry: Entry

    @property
    def stamp(self) -> list[int]:
        """Bytes and time of change of what lies on the disk: equal means not touched since."""
        status = self.entry.path.stat()
        return [status.st_size, status.st_mtime_ns]

    @property
    def is_folder(self) -> bool:
        return self.entry.path.is_dir()


@dataclass
class Contents:
    """What becomes of the files: pictures by split, in order of name, and what is known of each.

    `labels(split, name)` are an example's features but for `image` and `name`. `record` goes to the
    data set's `metadata.json`; of it, `left_out` counts and `failures` grow while it is written.
    """

    splits: dict[str, list[Entry]]
    labels: Callable[[str, str], dict[str, Any]]
    record: dict[str, Any]
    allow_missing: bool


def official_files(checksums: Path) -> dict[str, Official]:
    """The rows of a tfds `checksums.tsv` (url, bytes, sha256, name) by name."""
    rows = [line.split("\t") for line in checksums.read_text().splitlines()]
    return {name: Official(name, int(size), digest) for _, size, digest, name in rows}


def find(
    source: Path, officials: Iterable[Official], *, folders: Sequence[str], archives: Sequence[str]
) -> dict[str, Found]:
    """Those of the files that are there: in `source` or one of its `folders`, else in an archive.

    `archives` are glob patterns of zips in the same places (`Anno*.zip`: the browser's name for a
    download from Google Drive has more behind it). Raises `UserError` for a zip that is none or
    holds a file twice.
    """
    places = [source, *(source / folder for folder in folders)]
    zips = [path for place in places for pattern in archives for path in _glob(place, pattern)]
    inside: dict[str, Entry] = {}
    for path in zips:
        inside = {**members(path), **inside}
    found = {}
    for official in officials:
        loose = next(
            (place / official.name for place in places if (place / official.name).is_file()), None
        )
        entry = Entry(official.name, loose) if loose else inside.get(official.name)
        if entry is not None:
            found[official.name] = Found(official, entry)
    return found


def unpacked(folder: Path) -> Found:
    """A folder of pictures in place of the archive they came in; nobody publishes a checksum of it."""
    return Found(Official(folder.name), Entry(folder.name, folder))


def where_to_get(source: Path, lacks: str, page: str, officials: Iterable[Official]) -> UserError:
    """The one message for files that are not there: which, how large, from whom, to where."""
    listed = ", ".join(f"{o.name} ({o.size:,} bytes)" if o.size else o.name for o in officials)
    state = f"has no {lacks}" if source.is_dir() else "is no folder"
    return UserError(
        f"{source} {state}; download from {page} and put as they are into that folder: {listed}"
    )


def verify(found: Found, *, allow_missing: bool, say: Say) -> dict[str, Any]:
    """Checks a file against what is published; what the data set's metadata keep of it.

    `official` is True, False, or None where no checksum is published (said). Raises `UserError`
    for a file that is not the official one, unless `allow_missing`, which says so.
    """
    official = found.official
    size = size_of(found.entry)
    if found.is_folder or official.digest is None:
        say(f"{official.name}: not checked, there is no official checksum of it")
        same: bool | None = None
        sha256 = digest(found)
    elif official.size not in (None, size) and not allow_missing:
        raise _not_official(official, f"{size:,} bytes")
    else:
        if size > 2**30:
            say(f"checking {official.name} ({size / 2**30:.1f} GiB)")
        sha256 = digest(found)
        shown = sha256 if len(official.digest) == 64 else digest(found, "md5")
        same = shown == official.digest
        if not same and not allow_missing:
            raise _not_official(official, f"{size:,} bytes, checksum {shown}")
        if not same:
            say(f"{official.name}: not the official file; sha256 {sha256}")
    return {"sha256": sha256, "official": same, "stamp": found.stamp}


def digest(found: Found, method: str = "sha256") -> str:
    """The hash of a file's bytes, or of the names and sizes in a folder, in hex."""
    if found.is_folder:
        lines = (f"{e.name} {size_of(e)}\n" for e in listing.list_pictures(found.entry.path))
        return hashlib.new(method, "".join(lines).encode(errors="surrogatepass")).hexdigest()
    if found.entry.member is not None:
        return hashlib.new(method, found.entry.read()).hexdigest()
    try:
        with open(found.entry.path, "rb") as file:
            return hashlib.file_digest(file, method).hexdigest()
    except OSError as error:
        raise UserError(f"{found.entry.path}: cannot be read: {error.strerror}") from error


def members(archive: Path) -> dict[str, Entry]:
    """The files in a zip by their last name. Raises `UserError`: no zip, or a file twice in it."""
    entries: dict[str, Entry] = {}
    for name, member in listing.zip_directory(archive):
        base = PurePosixPath(name).name
        if base in entries and "__MACOSX" not in name:
            raise UserError(f"{archive}: holds {printable(base)} twice; download it again")
        entries.setdefault(base, Entry(base, archive, member))
    return entries


def pictures(found: Found) -> dict[str, Entry]:
    """The pictures of an archive or a folder by their last name. Reads none of them.

    Raises `UserError`: no zip, a name that points outside, two pictures of one name (also where
    only letter case differs), over `MAX_PICTURES` members.
    """
    path = found.entry.path
    if found.is_folder:
        entries = listing.list_pictures(path)
    else:
        entries = list(_zipped_pictures(path))
    if len(entries) > MAX_PICTURES:
        raise UserError(f"{path}: {len(entries)} pictures, at most {MAX_PICTURES}")
    named: dict[str, Entry] = {}
    seen: set[str] = set()
    for entry in entries:
        base = PurePosixPath(entry.name).name
        if base.casefold() in seen:
            raise UserError(f"{path}: holds {printable(base)} twice (letter case set aside)")
        seen.add(base.casefold())
        named[base] = Entry(base, entry.path, entry.member)
    return named


def left_out(
    archive: str,
    there: Collection[str],
    named: Collection[str],
    usable: Collection[str],
    allow_missing: bool,
    say: Say,
) -> dict[str, int]:
    """Counts the pictures that one side lacks: `without_picture`, `without_row`, `unreadable` (0 yet).

    `there` are the pictures of the archive, `named` those that labels name, `usable` those with all
    labels. Raises `UserError` with the first of them, unless `allow_missing`, which says the counts.
    """
    absent = sorted(set(named) - set(there))
    unknown = sorted(set(there) - set(usable))
    for names, what in (
        (absent, "are named in the labels and are not in it"),
        (unknown, "have no complete labels"),
    ):
        line = f"{archive}: {len(names)} pictures {what} ({', '.join(map(printable, names[:3]))})"
        if names and not allow_missing:
            raise UserError(f"{line}; download again, or add --allow_missing to leave them out")
        if names:
            say(f"{line}: left out")
    if not usable:
        raise UserError(f"{archive}: none of its {len(there)} pictures can be used")
    return {"without_picture": len(absent), "without_row": len(unknown), "unreadable": 0}


def size_of(entry: Entry) -> int:
    """The bytes of a file, as its folder or zip says. Raises `UnreadablePicture`."""
    try:
        return entry.member.size if entry.member else entry.path.stat().st_size
    except OSError as error:
        raise UnreadablePicture(entry.name, f"cannot be read: {error.strerror}") from error


def read_jpeg(entry: Entry) -> bytes:
    """The bytes of a picture whose JPEG header can be read. Raises `UnreadablePicture`."""
    data = entry.read()
    if not data.startswith(b"\xff\xd8\xff"):
        raise UnreadablePicture(entry.name, "not a JPEG")
    picture_size(data, name=entry.name)
    return data


def _glob(place: Path, pattern: str) -> list[Path]:
    return sorted(path for path in place.glob(pattern) if path.is_file())


def _not_official(official: Official, came: str) -> UserError:
    published = f"{official.size:,} bytes, " if official.size else ""
    return UserError(
        f"{official.name}: {came}; the official file has {published}checksum {official.digest};"
        " download it again, or add --allow_missing to take what is there"
    )


def _zipped_pictures(archive: Path) -> Iterator[Entry]:
    for name, member in listing.zip_directory(archive):
        base = PurePosixPath(name).name
        if (
            base.lower().endswith(listing.SUFFIXES)
            and not base.startswith(".")
            and "__MACOSX" not in name
        ):
            yield Entry(name, archive, member)
