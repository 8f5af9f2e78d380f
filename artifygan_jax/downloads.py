"""One large file over https: resumed where it was cut, whole and checked, or not there at all.

Beside the target `NAME` lie `NAME.part`, what has come so far, `NAME.part.json`, what it is a part
of, and `.NAME.lock`. The target appears by a rename when all is well; until then an older one stays.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import http.client
import json
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import tqdm

from artifygan_jax.data.fetch import CHUNK, Fetcher, FetchFailed, Manners
from artifygan_jax.errors import StoppedEarly, UserError

OFFLINE = "ARTIFYGAN_OFFLINE"
# Only https, the host of the address, and where it is known to keep its files. A transfer that was
# cut at the deadline goes on with the next try.
MANNERS = Manners(hosts=(), schemes=("https",), attempts=5, timeout=30.0, deadline=3600.0)
STORES = {"github.com": ("githubusercontent.com",)}
MARGIN = 64 << 20  # bytes that are left free on the disk
MOST = 16 << 30  # bytes of a file whose size nobody tells
PAGE = "a web page, not the file (download quota, or a log-in page?)"

Say = Callable[[str], None]
Progress = Callable[[int, int], None]  # bytes that are here; of how many, or 0 where nobody tells


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A file by its addresses, in the order in which they are tried.

    `sha256`: hex digits, or the first of them where only those are published, or "" where none are.
    `size`: bytes, or 0 where it is not known.
    """

    urls: tuple[str, ...]
    sha256: str = ""
    size: int = 0

    def fits(self, path: pathlib.Path) -> str:
        """What is wrong with the file at `path`, or "" where it is this one as far as is known."""
        try:
            size = path.stat().st_size
            if self.size and size != self.size:
                return f"it has {size} bytes instead of {self.size}"
            if self.sha256 and not (found := digest(path)).startswith(self.sha256):
                return f"its SHA-256 is {found}, wanted {self.sha256}"
        except OSError as error:
            return f"it cannot be read: {error.strerror or error}"
        return ""

    def by_hand(self, target: pathlib.Path) -> str:
        """How to do without the network."""
        facts = [f"SHA-256 {self.sha256}" if self.sha256 else "unverified: no published hash"]
        facts += [f"{self.size} bytes"] if self.size else []
        return (
            f"to place it by hand, get {self.urls[0]} in any other way, put it at {target}"
            f" ({', '.join(facts)}) and run the same command again"
        )


def download(
    wanted: Wanted,
    target: pathlib.Path,
    *,
    say: Say,
    progress: Progress = lambda done, total: None,
    spare: int = 0,
    manners: Manners = MANNERS,
) -> None:
    """Puts the file at `target`. A transfer that was cut before, by this or another process, goes on.

    `spare`: bytes that must stay free beside it. `manners.hosts` are taken from each address where
    they are empty. Raises `StoppedEarly` where another try may help, else `UserError`; in both cases
    what stood at `target` stays.
    """
    if os.environ.get(OFFLINE, "0") not in ("", "0"):
        raise UserError(f"{target.name}: {OFFLINE} is set; {wanted.by_hand(target)}")
    reasons, passing = [], False
    for url in wanted.urls:
        say(f"getting {url}")
        try:
            with _disk(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                return _Transfer(url, wanted, target, say, progress, spare).run(manners)
        except FetchFailed as failure:
            reasons.append(f"{url}: {failure}")
            passing |= failure.passing
    kind = StoppedEarly if passing else UserError
    raise kind(f"{target.name} not downloaded: {'; '.join(reasons)}; {wanted.by_hand(target)}")


@contextlib.contextmanager
def sole(target: pathlib.Path, say: Say) -> Iterator[None]:
    """One process at a time has `target`; others wait here, and say so."""
    with _disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = open(target.with_name(f".{target.name}.lock"), "a")  # stays: removing it is a race
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is getting {target.name}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def bar(name: str, say: Say) -> Iterator[Progress]:
    """Progress: a bar on a terminal, else a line each tenth of the way."""
    if not sys.stderr.isatty():
        tenth = -1

        def line(done: int, total: int) -> None:
            nonlocal tenth
            if total and done * 10 // total > tenth:
                tenth = done * 10 // total
                say(f"{name}: {tenth * 10} % of {total / 1e6:,.1f} MB")

        yield line
        return
    with tqdm.tqdm(
        desc=name, unit="B", unit_scale=True, unit_divisor=1000, file=sys.stderr
    ) as shown:

        def move(done: int, total: int) -> None:
            shown.total = total or None
            shown.update(done - shown.n)

        yield move


def digest(path: pathlib.Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Transfer:
    """One file from one address."""

    def __init__(
        self,
        url: str,
        wanted: Wanted,
        target: pathlib.Path,
        say: Say,
        progress: Progress,
        spare: int,
    ):
        self.url, self.wanted, self.target, self.say = url, wanted, target, say
        self.progress, self.spare = progress, spare
        self.part = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")
        self.resumed = False

    def run(self, manners: Manners) -> None:
        """Gets, checks and renames. Raises `FetchFailed`."""
        host = urlsplit(self.url).hostname or ""
        hosts = manners.hosts or (host, *STORES.get(host, ()))
        fetcher = Fetcher(dataclasses.replace(manners, hosts=hosts))
        fetcher.check(self.url)
        for _ in range(2):
            have, note = self._left()
            self.resumed = have > 0
            if not have or have != note["size"]:  # else killed before the rename
                self._stream(fetcher)
            wrong = self.wanted.fits(self.part)
            if not wrong:
                return self._keep()
            self._drop()
            if not self.resumed:
                break
            self.say(f"{self.target.name}: what an earlier run left does not fit, starting anew")
        raise FetchFailed(f"not the published file: {wrong}")

    def _stream(self, fetcher: Fetcher) -> None:
        try:
            fetcher.stream(self.url, self.take, self.headers)
        except FetchFailed as failure:
            if failure.status != 416:  # the part is all there is, or longer
                raise
            self._drop()
            fetcher.stream(self.url, self.take, self.headers)

    def headers(self) -> dict[str, str]:
        """Of the request: only what lacks, if the file there is still the same."""
        have, note = self._left()
        if not have:
            return {}
        asked = {"Range": f"bytes={have}-"}
        return asked | ({"If-Range": note["validator"]} if note["validator"] else {})

    def take(self, response: http.client.HTTPResponse) -> None:
        """Appends a 206 to the part, begins anew with a 200; `FetchFailed` for what is not the file."""
        start = self._start(response)
        total = start + response.length if response.length is not None else 0
        self._check(response)
        # read1 comes back with what there is, so that a slow answer is seen to go on
        chunk = response.read1(CHUNK)
        if not start and _is_page(chunk):
            raise FetchFailed(PAGE)
        if total and self.wanted.size and total != self.wanted.size:
            raise FetchFailed(f"{total} bytes, wanted {self.wanted.size}: not the published file")
        done, limit = start, self.wanted.size or total or MOST
        with contextlib.closing(self._open(response, start, total)) as file:
            while chunk:
                done += len(chunk)
                if done > limit:
                    self._drop()
                    raise FetchFailed(f"larger than {limit} bytes")
                self._write(file, chunk)
                self.progress(done, total or self.wanted.size)
                chunk = response.read1(CHUNK)
        if done < (total or self.wanted.size):
            self.resumed = True
            cut = f"cut off after {done} of {total or self.wanted.size} bytes"
            raise FetchFailed(f"{cut}; the same command goes on there", passing=True)

    def _left(self) -> tuple[int, dict]:
        """Bytes of the part that can be gone on with, and its note; a part of something else goes."""
        try:
            note = json.loads(self.note.read_text())
            have = self.part.stat().st_size
            known = bool(note["validator"] or self.wanted.sha256)
            if note["url"] == self.url and known and have <= (note["size"] or have):
                return have, note
        except (OSError, ValueError, KeyError, TypeError):
            pass  # none there, or cut off in its turn
        return 0, {}

    def _start(self, response: http.client.HTTPResponse) -> int:
        """Where the answer begins in the file."""
        if response.status == 200:
            return 0
        have, note = self._left()
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers["Content-Range"] or "")
        if not found or int(found[1]) != have or found[2] not in ("*", str(note["size"])):
            self._drop()
            raise FetchFailed("the server sent another piece than asked for", passing=True)
        return have

    def _check(self, response: http.client.HTTPResponse) -> None:
        """Raises for an answer that its headers show to be of no use, and where the disk is too small."""
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise FetchFailed(PAGE)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchFailed("the server packed it, unasked")
        need = (response.length or self.wanted.size) + self.spare
        free = shutil.disk_usage(self.part.parent).free
        if free < need + MARGIN:
            raise UserError(
                f"{self.target.parent}: {_megabytes(free)} free, {_megabytes(need + MARGIN)} needed;"
                " make room, or set ARTIFYGAN_CACHE to a larger disk"
            )

    def _open(self, response: http.client.HTTPResponse, start: int, total: int):
        with _disk(self.target):
            if not start:
                headers = response.headers
                validator = headers.get("ETag") or headers.get("Last-Modified") or ""
                if validator.startswith("W/"):  # a weak one does not promise the same bytes
                    validator = ""
                self.part.unlink(missing_ok=True)
                note = {"url": self.url, "validator": validator, "size": total}
                self.note.write_text(json.dumps(note))
            return open(self.part, "ab", buffering=0)

    def _write(self, file, chunk: bytes) -> None:
        try:
            left = memoryview(chunk)
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self._drop()
                raise UserError(
                    f"{self.part}: the disk is full; it was removed, {self.target.name} is as it was;"
                    " make room, or set ARTIFYGAN_CACHE to a larger disk"
                ) from error
            raise UserError(f"{self.part}: cannot be written: {error.strerror}") from error

    def _keep(self) -> None:
        with self.part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(self.part, self.target)
        self._drop()

    def _drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _is_page(head: bytes) -> bool:
    return (
        head.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html"))
    )


@contextlib.contextmanager
def _disk(target: pathlib.Path) -> Iterator[None]:
    """Errors of files as a `UserError`; those of sockets come as `FetchFailed`."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from error


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.0f} MB"
