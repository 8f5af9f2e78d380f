"""Fetching over HTTP: politely, from named hosts only, and never more than was asked for.

Built on `http.client`, so nothing of the environment has a say: no proxy variables, no `.netrc`, no
cookies, no redirects but those that are checked here. (OpenSSL alone still honours `SSL_CERT_FILE`.)
"""

import contextlib
import dataclasses
import email.utils
import functools
import http.client
import importlib.metadata
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from artifygan_jax.data.images import UnreadablePicture, open_picture, picture_size, printable

MAX_REDIRECTS = 5
CHUNK = 1 << 16

_SUFFIXES = ((b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"))
_REDIRECTS = {301, 302, 303, 307, 308}
_PICTURES = {"Accept": "image/*"}
# What a server says when it is busy, or has had enough of us; the same request may pass later.
_PASSING = {403, 408, 425, 429}
_PORTS = {"http": 80, "https": 443}

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Manners:
    """What a `Fetcher` allows itself; times in seconds.

    `hosts` are the hosts that may be spoken to, with all their subdomains; `HOST:PORT` for one that
    does not listen at its scheme's own port; `schemes` are how. `rate` is requests per second and
    host, all threads together. `timeout` ends a connect and each silence, `deadline` a whole answer.
    A passing failure is tried `attempts` times with pauses that double from `pause` on; a server that
    asks for more than `longest_pause` is left alone. `max_bytes` is for pictures.
    """

    hosts: tuple[str, ...]
    rate: float = 2.0
    attempts: int = 4
    pause: float = 1.0
    longest_pause: float = 60.0
    timeout: float = 15.0
    deadline: float = 120.0
    max_bytes: int = 32 << 20
    schemes: tuple[str, ...] = ("http", "https")


class FetchFailed(Exception):
    """One picture or file that could not be had; `str` is the reason.

    `passing`: later it might be; `again`: even in the same run. `status`: what the server answered,
    where that is the reason.
    """

    def __init__(
        self, reason: str, *, passing: bool = False, again: bool = True, status: int | None = None
    ):
        super().__init__(reason)
        self.passing, self.again, self.status = passing, passing and again, status


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A whole picture that decodes: its bytes, its suffix by content, its upright size."""

    data: bytes
    suffix: str
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class _Answer:
    status: int
    headers: http.client.HTTPMessage
    body: Any = b""


class Fetcher:
    """Fetches pictures and files; several threads may use one, and share its rate limit."""

    def __init__(self, manners: Manners):
        self.manners = manners
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._turns: dict[str, float] = {}  # by host: when the next request may leave
        self._closed: dict[str, float] = {}  # by host: until when it asked to be left alone
        self._sockets: set[socket.socket] = set()

    def picture(self, url: str) -> Fetched:
        """The JPEG, PNG or WebP at `url`. Raises `FetchFailed` with a reason on one line."""
        address = self.check(url)
        return self._tries(lambda: _picture(self._follow(address, self._read, _PICTURES)))

    def stream(
        self,
        url: str,
        take: Callable[[http.client.HTTPResponse], None],
        headers: Callable[[], Mapping[str, str]],
    ) -> None:
        """Lets `take` read what `url` answers: 200, and 206 where `headers` has a Range.

        Both are called at each try. `take` may raise `FetchFailed`; the size is its own affair.
        """
        address = self.check(url)
        self._tries(lambda: self._follow(address, take, headers()))

    def _tries(self, attempt: Callable[[], T]) -> T:
        """What `attempt` gives, tried again with pauses after failures that may pass."""
        for number in range(1, self.manners.attempts + 1):
            try:
                return attempt()
            except FetchFailed as failure:
                if not failure.again or number == self.manners.attempts:
                    raise
            # Jitter, so that workers which failed together do not all come back together.
            pause = self.manners.pause * 2 ** (number - 1) * random.uniform(0.5, 1.5)
            self._sleep(min(pause, self.manners.longest_pause))
        raise AssertionError("attempts must be at least 1")

    def check(self, url: str) -> SplitResult:
        """The parts of an address that may be asked for. Raises `FetchFailed`.

        An address without a scheme (`//host/path`, `host/path`) is taken as https.
        """
        try:
            address = urlsplit(_complete(url))
            host, port, scheme = address.hostname or "", address.port, address.scheme
        except ValueError as error:
            raise FetchFailed(f"bad address {printable(url[:100])}") from error
        if scheme not in self.manners.schemes:
            allowed = " or ".join(self.manners.schemes)
            raise FetchFailed(f"scheme {printable(scheme[:20])} is not {allowed}")
        if "@" in address.netloc or not self._allowed(host, port, scheme):
            raise FetchFailed(f"host {printable(address.netloc[:100])} is not allowed")
        return address

    def stop(self) -> None:
        """Ends all waiting and all transfers; they fail with "stopped"."""
        self._stopped.set()
        with self._lock:
            for sock in self._sockets:
                _shut(sock)

    def _allowed(self, host: str, port: int | None, scheme: str) -> bool:
        plain = port is None or port == _PORTS[scheme]
        for entry in self.manners.hosts:
            name, _, own_port = entry.lower().partition(":")
            same_port = str(port) == own_port if own_port else plain
            if same_port and name and (host == name or host.endswith("." + name)):
                return True
        return False

    def _follow(self, address: SplitResult, *how: Any) -> _Answer:
        """The answer at the end of the redirects, each of them checked."""
        for _ in range(MAX_REDIRECTS + 1):
            self._take_turn(address.netloc.lower())
            answer = self._request(address, *how)
            if answer.status not in _REDIRECTS:
                return answer
            target = self.check(urljoin(address.geturl(), answer.headers.get("Location", "")))
            if (address.scheme, target.scheme) == ("https", "http"):
                raise FetchFailed("redirected from https to http")
            address = target
        raise FetchFailed(f"more than {MAX_REDIRECTS} redirects")

    def _request(
        self,
        address: SplitResult,
        take: Callable[[http.client.HTTPResponse], Any],
        headers: Mapping[str, str],
    ) -> _Answer:
        """One request and what `take` makes of it; `FetchFailed` for errors of network and server."""
        connection = _connection(address, self.manners.timeout)
        expired = threading.Event()
        try:
            connection.connect()
            with self._watched(connection.sock, expired):
                path = quote(address.path or "/", safe="/%:=&~+!$,;'@()*[]")
                query = "?" + quote(address.query, safe="/%:=&?~+!$,;'@()*[]")
                sent = {"User-Agent": user_agent(), **headers}
                connection.request("GET", path + query.rstrip("?"), headers=sent)
                response = connection.getresponse()
                body = take(response) if _is_whole(response.status, headers) else b""
                answer = _Answer(response.status, response.headers, body)
            if expired.is_set():  # without a length, our own cut looks like the end
                raise TimeoutError
        except (OSError, http.client.HTTPException, FetchFailed) as error:
            if isinstance(error, FetchFailed) and not expired.is_set():
                raise
            raise FetchFailed(self._why(error, expired), passing=True) from error
        finally:
            connection.close()
        if not _is_whole(answer.status, headers):
            self._heed(address.netloc.lower(), answer)
        return answer

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """The body; at most `max_bytes` of it."""
        length, limit = response.length, self.manners.max_bytes
        body = bytearray()
        # read1 comes back with what there is: a slow body is seen to grow past the limit
        while (length or 0) <= limit and len(body) <= limit and (part := response.read1(CHUNK)):
            body += part
        if (length or 0) > limit or len(body) > limit:
            raise FetchFailed(f"larger than {limit / 2**20:.3g} MiB")
        if length is not None and len(body) != length:
            raise FetchFailed(f"cut off after {len(body)} of {length} bytes", passing=True)
        return bytes(body)

    def _heed(self, host: str, answer: _Answer) -> None:
        """Raises for a status that is no answer; notes until when the host wants to be left alone."""
        status = answer.status
        if status in _REDIRECTS:
            return
        if status in _PASSING or status >= 500:
            wait = _retry_after(answer.headers.get("Retry-After"))
            with self._lock:
                until = time.monotonic() + wait
                self._closed[host] = max(self._closed.get(host, 0.0), until)
            raise FetchFailed(f"the server answered {status}", passing=True, status=status)
        reason = "not found (404)" if status == 404 else f"the server answered {status}"
        raise FetchFailed(reason, status=status)

    def _take_turn(self, host: str) -> None:
        """Waits until a request to `host` may leave."""
        while True:
            with self._lock:
                now = time.monotonic()
                closed = self._closed.get(host, 0.0) - now
                if closed <= 0:
                    turn = max(now, self._turns.get(host, 0.0))
                    self._turns[host] = turn + 1 / self.manners.rate
                    break
            if closed > self.manners.longest_pause:
                reason = f"{host} asked for a pause of {closed:.0f} s"
                raise FetchFailed(reason, passing=True, again=False)
            self._sleep(closed)
        self._sleep(turn - now)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(max(seconds, 0.0)):
            raise FetchFailed("stopped", passing=True, again=False)

    @contextlib.contextmanager
    def _watched(self, sock: socket.socket, expired: threading.Event) -> Iterator[None]:
        """Shuts the socket at the deadline: timeouts start anew with each byte that drips in."""

        def expire() -> None:
            expired.set()
            _shut(sock)

        with self._lock:
            self._sockets.add(sock)
        timer = threading.Timer(self.manners.deadline, expire)
        timer.daemon = True
        timer.start()
        try:
            self._sleep(0)  # `stop` may have come before the socket was known to it
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._sockets.discard(sock)

    def _why(self, error: Exception, expired: threading.Event) -> str:
        if self._stopped.is_set():
            return "stopped"
        if expired.is_set():
            return f"not done after {self.manners.deadline:g} s"
        if isinstance(error, TimeoutError):
            return f"silent for {self.manners.timeout:g} s"
        if isinstance(error, http.client.IncompleteRead):
            return "cut off"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the certificate is not trusted: {error.verify_message}"
        return f"no connection: {' '.join(str(error).split())[:100] or type(error).__name__}"


@functools.cache
def user_agent() -> str:
    """The name and version that servers see."""
    try:
        version = importlib.metadata.version("artifygan_jax")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        version = "0"
    return f"artifygan_jax/{version} (data sets and weights)"


def _is_whole(status: int, headers: Mapping[str, str]) -> bool:
    return status == 200 or (status == 206 and "Range" in headers)


def _complete(url: str) -> str:
    """`url` with a scheme. Blanks and control characters, which urlsplit drops silently, raise."""
    url = url.strip()
    if not url or not url.isprintable() or " " in url:
        raise ValueError("empty or not printable")
    if url.startswith("//"):
        return "https:" + url
    return url if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:(?!\d)", url) else "https://" + url


def _connection(address: SplitResult, timeout: float) -> http.client.HTTPConnection:
    host = address.hostname or ""
    if address.scheme == "https":
        context = _tls()
        return http.client.HTTPSConnection(host, address.port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, address.port, timeout=timeout)


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _shut(sock: socket.socket) -> None:
    """Wakes whoever reads it. The plain method: SSLSocket's own unwraps it under the reader's feet."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _retry_after(value: str | None) -> float:
    """Seconds from a Retry-After header, which has a number or a date; 0 where it has neither."""
    if not value:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, date.timestamp() - time.time())


def picture_suffix(data: bytes) -> str | None:
    """`.jpg`, `.png` or `.webp` by the first bytes of a file, or None for any other format."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for magic, suffix in _SUFFIXES if data.startswith(magic)), None)


def _picture(answer: _Answer) -> Fetched:
    """The picture of an answer. The bytes decide; the content type can only refuse."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise FetchFailed("a web page, not a picture")
    if kind and not kind.startswith("image/") and not kind.endswith("/octet-stream"):
        raise FetchFailed(f"wrong type: {printable(kind[:60])}")
    data = answer.body
    suffix = picture_suffix(data)
    try:
        width, height = picture_size(data, name="picture")  # refuses foreign bytes and bombs
        if suffix is None:
            raise FetchFailed("wrong format (allowed: JPEG, PNG, WebP)")
        open_picture(data, name="picture")
    except UnreadablePicture as error:
        # Without a Content-Length this is the only sign of a cut.
        raise FetchFailed(error.cause, passing=error.cause == "truncated") from error
    return Fetched(data, suffix, width, height)
