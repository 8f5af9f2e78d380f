"""A picture server on this machine that does whatever servers do wrong; the path says what."""

import contextlib
import io
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

HTML = b"<!DOCTYPE html><html><body>please log in</body></html>"


def picture_bytes(kind: str = "JPEG", width: int = 48, height: int = 40, seed: int = 0) -> bytes:
    """A picture of coloured noise."""
    rgb = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, kind)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 100,000 pixels wide and high."""
    size = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


class HostileServer(ThreadingHTTPServer):
    """`http://127.0.0.1:PORT/BEHAVIOUR/...`; `hits` counts the requests by path, `times` when they came."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.hits: Counter[str] = Counter()
        self.times: list[float] = []
        self.agents: list[str | None] = []
        self.flying = self.most_flying = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def url(self, path: str) -> str:
        return f"http://{self.host}/{path}"

    def handle_error(self, request, client_address):
        """Clients that hang up are what the tests are about."""


@contextlib.contextmanager
def running() -> Iterator[HostileServer]:
    server = HostileServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: HostileServer

    def log_message(self, *args):
        pass

    def do_GET(self):
        server, parts = self.server, self.path.strip("/").split("/")
        with server.lock:
            server.hits[self.path] += 1
            server.times.append(time.monotonic())
            server.agents.append(self.headers.get("User-Agent"))
            server.flying += 1
            server.most_flying = max(server.flying, server.most_flying)
        try:
            with contextlib.suppress(OSError):
                getattr(self, parts[0])(*parts[1:])
        finally:
            with server.lock:
                server.flying -= 1

    def answer(self, body: bytes, kind: str | None = "image/jpeg", length: int | None = -1):
        """A whole answer; `length` -1 is the true one, None sends none."""
        self.send_response(200)
        if kind:
            self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        self.wfile.write(body)

    def status_only(self, status: int, **headers: str):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    # ------------------------------------------------------------------------------------- well

    def ok(self, name="1.jpg", *_):
        kinds = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF"}
        kind = kinds[name.rpartition(".")[2]]
        self.answer(picture_bytes(kind, seed=len(name)), f"image/{kind.lower()}")

    def small(self, *_):
        self.answer(picture_bytes(width=9, height=8))

    def octets(self, *_):
        self.answer(picture_bytes(), "application/octet-stream")

    def untyped(self, *_):
        self.answer(picture_bytes(), None)

    def mislabelled(self, *_):
        self.answer(picture_bytes("PNG"), "image/jpeg")

    def chunked(self, *_):
        self.chunks(picture_bytes(), end=True)

    # -------------------------------------------------------------------------------------- slow

    def slow(self, *_):
        self.server.closing.wait(0.15)
        self.ok("1.jpg")

    def stall(self, *_):
        self.server.closing.wait(5)

    def stallbody(self, *_):
        self.answer(picture_bytes()[:100], length=1000)
        self.wfile.flush()
        self.server.closing.wait(5)

    def drip(self, *_):
        self.answer(b"", length=100_000)
        for byte in picture_bytes():
            self.wfile.write(bytes([byte]))
            if self.server.closing.wait(0.02):
                return

    def dripheaders(self, *_):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n")
        for n in range(200):
            self.wfile.write(f"X-{n}: y\r\n".encode())
            if self.server.closing.wait(0.02):
                return

    # --------------------------------------------------------------------------------------- cut

    def cut(self, *_):
        data = picture_bytes()
        self.answer(data[: len(data) // 2], length=len(data))

    def cutsilently(self, *_):
        data = picture_bytes()
        self.answer(data[: len(data) // 2], length=None)

    def cutchunked(self, *_):
        self.chunks(picture_bytes()[:600], end=False)

    def shortlength(self, *_):
        data = picture_bytes()
        self.answer(data, length=len(data) // 2)

    def hangup(self, *_):
        self.connection.close()

    def garbage(self, *_):
        self.wfile.write(b"220 mail.example ESMTP\r\n")

    def chunks(self, data: bytes, end: bool):
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        for at in range(0, len(data), 500):
            part = data[at : at + 500]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n" if end else b"1f4\r\nabc")

    # ------------------------------------------------------------------------------------- status

    def status(self, code, *_):
        self.status_only(int(code))

    def flaky(self, code, times, *_):
        """`code` for so many times, then the picture."""
        if self.server.hits[self.path] <= int(times):
            self.status_only(int(code))
        else:
            self.ok("1.jpg")

    def busy(self, seconds, *_):
        """429 with Retry-After once, then the picture."""
        if self.server.hits[self.path] == 1:
            self.status_only(429, Retry_After=seconds)
        else:
            self.ok("1.jpg")

    # ----------------------------------------------------------------------------------- redirects

    def to(self, *parts):
        """Redirects to another path of this server."""
        self.status_only(302, Location="/" + "/".join(parts))

    def away(self, where, *_):
        targets = {
            "ftp": "ftp://127.0.0.1/1.jpg",
            "file": "file:///etc/hostname",
            "data": "data:image/png;base64,AAAA",
            "script": "javascript:alert(1)",
            "host": "http://pictures.example/1.jpg",
            "noscheme": "//pictures.example/1.jpg",
            "port": "http://127.0.0.1:9/1.jpg",
            "user": f"http://{self.server.host}@pictures.example/1.jpg",
            "nowhere": "",
        }
        self.status_only(301, Location=targets[where])

    def loop(self, *_):
        self.status_only(302, Location=self.path)

    # ------------------------------------------------------------------------------------- content

    def html(self, *_):
        self.answer(HTML, "text/html; charset=utf-8")

    def htmlasjpeg(self, *_):
        self.answer(HTML, "image/jpeg")

    def text(self, *_):
        self.answer(picture_bytes(), "text/plain")

    def notpicture(self, *_):
        self.answer(b"MZ\x90" + b"x" * 500, "image/jpeg")

    def empty(self, *_):
        self.answer(b"")

    def bomb(self, *_):
        self.answer(bomb(), "image/png")

    def saidhuge(self, *_):
        self.answer(b"\xff\xd8\xff", length=10**13)

    def endless(self, *_):
        self.answer(b"\xff\xd8\xff", length=None)
        while not self.server.closing.is_set():
            self.wfile.write(b"x" * 65536)
