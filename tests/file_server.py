"""The hostile server with files that can be fetched in pieces: `http://127.0.0.1:PORT/BEHAVIOUR/NAME`."""

import contextlib
import re
from collections.abc import Iterator

from tests.data import hostile_server


@contextlib.contextmanager
def running() -> Iterator[hostile_server.HostileServer]:
    """A server whose attribute `files` maps names to bytes; `asked` has the Range of each request."""
    with hostile_server.running() as server:
        server.RequestHandlerClass = _Handler
        server.files, server.asked = {}, []
        yield server


class _Handler(hostile_server._Handler):
    def file(self, name, *_, ranges=True, etag='"1"', stop=None, kind="application/octet-stream"):
        """The file, or the piece that is asked for; `stop` is where the answer breaks off."""
        data, wanted = self.server.files[name], self.headers.get("Range")
        self.server.asked.append(wanted)
        same = self.headers.get("If-Range") in (None, etag)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and same and ranges else 0
        if start and start >= len(data):
            return self.status_only(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:stop])

    def cutat(self, where, name, *_):
        """Breaks off there at the first request, and answers the next ones well."""
        first = self.server.hits[self.path] == 1
        self.file(name, stop=int(where) if first else None)

    def cutalways(self, where, name, *_):
        self.file(name, stop=int(where))

    def norange(self, where, name, *_):
        first = self.server.hits[self.path] == 1
        self.file(name, ranges=False, stop=int(where) if first else None)

    def noetag(self, name, *_):
        self.file(name, etag=None)

    def changed(self, where, name, *_):
        """Breaks off, and then has another file under the same address."""
        first = self.server.hits[self.path] == 1
        if first:
            return self.file(name, stop=int(where))
        self.file("other", etag='"2"')

    def anotherpiece(self, where, name, *_):
        """Breaks off, and then answers with another piece than was asked for."""
        if self.server.hits[self.path] == 1:
            return self.file(name, stop=int(where))
        self.server.asked.append(self.headers.get("Range"))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes 0-9/{len(self.server.files[name])}")
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(self.server.files[name][:10])

    def silent(self, where, name, *_):
        """Says the whole length, sends so much and then nothing."""
        data = self.server.files[name]
        self.answer(data[: int(where)], "application/octet-stream", len(data))
        self.wfile.flush()
        self.server.closing.wait(5)

    def slowfile(self, name, *_):
        self.server.closing.wait(0.6)
        self.file(name)

    def pagefile(self, name, *_):
        """A web page that calls itself a file."""
        self.answer(hostile_server.HTML, "application/octet-stream")

    def nolength(self, name, *_):
        self.answer(self.server.files[name], "application/octet-stream", None)

    def gone(self, *_):
        self.status_only(404)
