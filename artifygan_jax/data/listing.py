"""Finding pictures in a file, a folder, a glob or a zip, and naming what is made of them."""

import glob
import hashlib
import os
import re
import secrets
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from artifygan_jax.data.images import MAX_BYTES, UnreadablePicture, printable, read_bytes
from artifygan_jax.errors import UserError, did_you_mean

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MAX_MEMBERS = 5_000_000
MAX_RATIO = 1000

_ALLOWED = ", ".join(SUFFIXES)
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Member:
    """Where a zip keeps one file: what its directory says, enough to read it without the archive.

    A `ZipFile` can neither be pickled nor be read by two threads at once; six numbers can.
    """

    offset: int
    packed: int
    size: int
    crc: int
    method: int
    flags: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture that was found: `name` is unique, posix, relative to the place listed."""

    name: str
    path: Path
    member: Member | None = None

    def read(self) -> bytes:
        """All its bytes; any thread or process may. Raises `UnreadablePicture`."""
        if self.member is None:
            return read_bytes(self.path, self.name)
        try:
            return _read_member(self.path, self.member)
        except _BadMember as error:
            raise UnreadablePicture(self.name, str(error)) from error
        except OSError as error:
            raise UnreadablePicture(self.name, f"cannot be read: {error.strerror}") from error


def list_pictures(where: str | os.PathLike, *, exclude: Path | None = None) -> list[Entry]:
    """The pictures of a file, a folder (all levels), a glob, a `.zip` or `FILE.zip/FOLDER`.

    Sorted by name. Hidden files and `__MACOSX` are left out, each real folder is walked once
    however many links lead to it, and `exclude` (the folder of the outputs) is not walked. A file
    that is given by itself may have any suffix. Nothing is opened but archives: a broken picture
    is listed, and fails when it is read. Raises `UserError` where there is no picture at all.
    """
    text = os.path.expanduser(os.fspath(where))
    if not text:
        raise UserError("no place given; give a picture, a folder, a glob or a zip")
    path = Path(text)
    archive = _archive_of(path)
    if archive is not None:
        entries = _in_zip(archive, path.relative_to(archive).as_posix())
    elif os.path.isdir(path):
        entries = _in_folder(path, exclude)
    elif os.path.lexists(path):
        entries = [Entry(path.name, path.parent.resolve() / path.name)]
    elif glob.has_magic(text):
        entries = _in_glob(text, exclude)
    else:
        siblings = glob.glob("*", root_dir=path.parent)  # empty where it cannot be listed
        raise UserError(f"{printable(text)}: no such place{did_you_mean(path.name, siblings)}")
    if not entries:
        raise UserError(f"{printable(text)}: no pictures here; allowed suffixes: {_ALLOWED}")
    return sorted(entries, key=lambda entry: entry.name)


def output_names(
    entries: Sequence[Entry], output_dir: str | os.PathLike, suffix: str
) -> list[Path]:
    """One path below `output_dir` for each entry, no two alike even where letter case is ignored.

    `sub/a.jpg` becomes `sub/a.png`. Where several inputs would get one name, each of them keeps
    its old suffix (`a_jpg.png`, `a_webp.png`); those still alike add a hash of their name. Adding
    or removing other inputs changes no name but those of a clash. Characters that some system
    refuses become `_`; parts over 200 bytes are cut and hashed. Raises `UserError` where an output
    would overwrite an input.
    """
    root = Path(os.path.realpath(output_dir))
    names = [_plain(entry.name, suffix) for entry in entries]
    for better in (_with_old_suffix, _with_hash):
        folders = {_key(str(p)) for name in names for p in PurePosixPath(name).parents}
        taken = Counter([*map(_key, names), *folders])
        names = [
            better(entry.name, suffix) if taken[_key(name)] > 1 else name
            for entry, name in zip(entries, names, strict=True)
        ]
    inputs = {entry.path for entry in entries if entry.member is None}
    for name in names:
        if root / name in inputs:
            raise UserError(
                f"{printable(name)} would overwrite the picture it is made from; "
                "choose another output folder or suffix"
            )
    return [Path(output_dir) / name for name in names]


def writable_folder(path: str | os.PathLike) -> Path:
    """The folder, made if need be and proven to take a file. Raises `UserError`."""
    path = Path(path)
    probe = path / f".{secrets.token_hex(8)}.probe"
    try:
        path.mkdir(parents=True, exist_ok=True)
        with open(probe, "xb") as file:
            file.write(b"x")
        probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{path}: is a file or lies below one; a folder is needed") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


# ---------------------------------------------------------------------------------------- folders


def _in_folder(folder: Path, exclude: Path | None) -> list[Entry]:
    root = Path(os.path.realpath(folder))
    left_out = Path(os.path.realpath(exclude)) if exclude else None
    if left_out == root:
        raise UserError(f"{folder}: is the output folder too; choose another one")
    return [Entry(path.relative_to(root).as_posix(), path) for path in _walk(root, left_out)]


def _walk(root: Path, left_out: Path | None) -> Iterator[Path]:
    """Pictures below `root`, links to folders followed, each real folder once."""
    seen: set[str] = set()
    stack = [root]
    while stack:
        folder = stack.pop()
        real = os.path.realpath(folder)
        if real in seen or real == str(left_out):
            continue
        seen.add(real)
        try:
            items = sorted(os.scandir(folder), key=lambda item: item.name, reverse=True)
        except OSError as error:
            raise UserError(f"{folder}: cannot be listed: {error.strerror}") from error
        for item in items:
            if _is_picture(item.name):  # a folder or a dangling link too: it fails when read
                yield folder / item.name
            elif not item.name.startswith(".") and os.path.isdir(item.path):
                stack.append(folder / item.name)


def _in_glob(pattern: str, exclude: Path | None) -> list[Entry]:
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = Path(os.path.realpath(Path(*parts[:fixed])))
    below = str(Path(*parts[fixed:]))
    left_out = Path(os.path.realpath(exclude)) if exclude else None
    found = {PurePosixPath(name) for name in glob.glob(below, root_dir=base, recursive=True)}
    return [
        Entry(str(name), base / name)
        for name in found
        if _is_picture(name.name) and (left_out is None or left_out not in (base / name).parents)
    ]


# --------------------------------------------------------------------------------------- archives


class _BadMember(Exception):
    """A zip member that is refused; `str` is the cause."""


def _archive_of(path: Path) -> Path | None:
    """The .zip file that `path` is, or points into."""
    candidates = [path, *path.parents]
    return next((p for p in candidates if p.suffix.lower() == ".zip" and os.path.isfile(p)), None)


def _in_zip(archive: Path, folder: str) -> list[Entry]:
    """The pictures of a zip below `folder` ("." for all), or the one member of that name."""
    path = archive.resolve()
    members = _members(archive)
    if folder != "." and folder in members:
        return [Entry(PurePosixPath(folder).name, path, members[folder])]
    prefix = "" if folder == "." else folder.rstrip("/") + "/"
    inside = [name for name in members if name.startswith(prefix)]
    if not inside and prefix:
        folders = {str(p) for name in members for p in PurePosixPath(name).parents} - {"."}
        raise UserError(
            f"{printable(str(archive))}: no folder {folder!r} inside{did_you_mean(folder, folders)}"
        )
    return [
        Entry(name.removeprefix(prefix), path, members[name])
        for name in inside
        if _is_picture(PurePosixPath(name).name) and not _hidden(name)
    ]


def _members(archive: Path) -> dict[str, Member]:
    """Place of every file of the archive by name; of members named alike the last, as unzip."""
    return dict(zip_directory(archive))


def zip_directory(archive: Path) -> list[tuple[str, Member]]:
    """Name and place of every regular file of a zip in its order, twins and all; reads no member.

    Raises `UserError`: no zip, too many members, or one whose name points outside the archive.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            infos = [info for info in file.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError, struct.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{archive}: cannot be read as a zip: {reason}") from error
    if len(infos) > MAX_MEMBERS:
        raise UserError(f"{archive}: {len(infos)} members, at most {MAX_MEMBERS}")
    members = []
    for info in infos:
        name = info.filename.replace("\\", "/")
        if name.startswith("/") or ".." in name.split("/") or re.match(r"[A-Za-z]:", name):
            raise UserError(f"{archive}: refused, member {name!r} points outside the archive")
        if stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG):  # no links, no devices
            member = Member(
                info.header_offset,
                info.compress_size,
                info.file_size,
                info.CRC,
                info.compress_type,
                info.flag_bits,
            )
            members.append((str(PurePosixPath(name)), member))
    return members


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _read_member(archive: Path, member: Member) -> bytes:
    """The bytes of one member, checked against its directory's size, CRC and our caps."""
    if member.flags & 1:
        raise _BadMember("encrypted zip member; unpack it first")
    if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _BadMember(f"zip method {member.method}; pack again with deflate")
    if max(member.size, member.packed) > MAX_BYTES:
        raise _BadMember(f"too large: {member.size >> 20} MiB unpacked, at most {MAX_BYTES >> 20}")
    if member.size > MAX_RATIO * max(member.packed, 1):
        ratio = member.size // max(member.packed, 1)
        raise _BadMember(f"unpacks to {ratio} times its size, at most {MAX_RATIO}: a zip bomb?")
    with open(archive, "rb") as file:
        file.seek(member.offset)
        head = file.read(30)
        if len(head) < 30 or head[:4] != b"PK\3\4":
            raise _BadMember("damaged zip member")
        file.seek(sum(struct.unpack("<HH", head[26:30])), os.SEEK_CUR)
        data = file.read(member.packed)
    if member.method == zipfile.ZIP_DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
        except zlib.error as error:
            raise _BadMember("damaged zip member") from error
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise _BadMember("damaged zip member")
    return data


# ---------------------------------------------------------------------------------- output names


def _key(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _plain(name: str, suffix: str) -> str:
    *folders, last = name.split("/")
    return _joined(folders, PurePosixPath(last).stem, suffix)


def _with_old_suffix(name: str, suffix: str) -> str:
    *folders, last = name.split("/")
    old = PurePosixPath(last)
    return _joined(folders, f"{old.stem}_{old.suffix[1:]}" if old.suffix else old.stem, suffix)


def _with_hash(name: str, suffix: str) -> str:
    return f"{_with_old_suffix(name, suffix).removesuffix(suffix)}-{_hash(name)}{suffix}"


def _joined(folders: list[str], stem: str, suffix: str) -> str:
    return "/".join([*map(_legal, filter(None, folders)), _legal(stem) + suffix])


def _legal(part: str) -> str:
    """A file or folder name that Linux, macOS and Windows all take, at most 200 bytes long."""
    legal = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "_" for c in part)
    legal = re.sub(r"^-|[. ]+$", "_", legal)
    if _RESERVED.fullmatch(legal) or not legal:
        legal = "_" + legal
    if len(legal.encode()) > 200:
        legal = legal.encode()[:180].decode(errors="ignore") + "-" + _hash(part)
    return legal


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:10]
