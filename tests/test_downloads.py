"""Large files: resumed, checked, whole or not there, whatever the server does."""

import errno
import hashlib
import json
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from artifygan_jax import downloads
from artifygan_jax.data.fetch import FetchFailed, Manners
from artifygan_jax.downloads import Wanted
from artifygan_jax.errors import StoppedEarly, UserError
from tests import file_server
from tests.conftest import ROOT

DATA = np.random.default_rng(0).bytes(300_000)
SIZE = len(DATA)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def running_server():
    with file_server.running() as server:
        yield server


@pytest.fixture
def server(running_server):
    running_server.hits.clear()
    running_server.asked.clear()
    running_server.files.update({"w.pth": DATA, "other": DATA[::-1]})
    return running_server


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "w.pth"


def manners(server, **changes) -> Manners:
    plain = dict(
        hosts=(server.host,), schemes=("http",), rate=1000.0, attempts=2, pause=0.01, timeout=0.4,
        deadline=5.0, longest_pause=1.0,
    )  # fmt: skip
    return Manners(**plain | changes)


def get(server, target, *paths, sha256=SHA, size=SIZE, say=lambda line: None, **changes):
    wanted = Wanted(tuple(map(server.url, paths)), sha256, size)
    downloads.download(wanted, target, say=say, manners=manners(server, **changes))


def refused(server, target, *paths, kind=UserError, **changes) -> str:
    with pytest.raises(UserError) as raised:
        get(server, target, *paths, **changes)
    assert type(raised.value) is kind and "\n" not in str(raised.value)
    return str(raised.value)


def beside(target) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@pytest.mark.parametrize(
    "path", ["file/w.pth", "to/file/w.pth", "noetag/w.pth", "nolength/w.pth", "slowfile/w.pth"]
)
def test_a_file_arrives_whole_and_nothing_is_left_beside_it(server, target, path):
    get(server, target, path, timeout=2.0)
    assert target.read_bytes() == DATA and beside(target) == ["w.pth"]


def test_nothing_known_of_a_file_is_enough_to_get_it(server, target):
    get(server, target, "file/w.pth", sha256="", size=0)
    assert target.read_bytes() == DATA


def test_progress_counts_the_bytes(server, target):
    seen = []
    wanted = Wanted((server.url("file/w.pth"),), SHA, len(DATA))
    downloads.download(
        wanted, target, say=print, manners=manners(server), progress=lambda *n: seen.append(n)
    )
    done = [n for n, _ in seen]
    assert done == sorted(done) and seen[-1] == (len(DATA), len(DATA)) and len(seen) > 2


@pytest.mark.parametrize("path", ["cutat/150000/w.pth", "norange/150000/w.pth"])
def test_a_cut_is_gone_on_with_in_the_same_run(server, target, path):
    get(server, target, path)
    assert target.read_bytes() == DATA and beside(target) == ["w.pth"]
    assert server.asked == [None, "bytes=150000-"]


def test_a_cut_is_gone_on_with_by_the_next_run(server, target):
    said = refused(server, target, "cutalways/150000/w.pth", attempts=1, kind=StoppedEarly)
    assert "cut off after 150000 of 300000 bytes" in said and "place it by hand" in said
    assert beside(target) == ["w.pth.part", "w.pth.part.json"]
    server.files["w.pth"] = DATA
    url = server.url("file/w.pth")
    note = target.with_name("w.pth.part.json")  # the same file, as if its server were well again
    note.write_text(json.dumps(json.loads(note.read_text()) | {"url": url}))
    get(server, target, "file/w.pth")
    assert target.read_bytes() == DATA and server.asked[-1] == "bytes=150000-"


@pytest.mark.parametrize("sha256", ["", hashlib.sha256(DATA[::-1]).hexdigest()])
def test_a_file_that_changed_meanwhile_is_taken_from_its_start(server, target, sha256):
    get(server, target, "changed/150000/w.pth", sha256=sha256)
    assert target.read_bytes() == DATA[::-1]


@pytest.mark.parametrize("note", [{"validator": ""}, {"url": "https://example.org/w.pth"}])
def test_a_part_that_may_be_of_something_else_is_not_gone_on_with(server, target, note):
    _leave(server, target, b"x" * 150_000, **note)
    get(server, target, "file/w.pth", sha256="")
    assert target.read_bytes() == DATA and server.asked == [None]


def test_another_piece_than_asked_for_is_not_glued_on(server, target):
    said = refused(server, target, "anotherpiece/150000/w.pth", kind=StoppedEarly)
    assert "another piece" in said and beside(target) == []


def test_a_part_of_something_else_or_without_a_note_is_not_gone_on_with(server, target):
    target.parent.mkdir()
    target.with_name("w.pth.part").write_bytes(b"rubbish")
    get(server, target, "file/w.pth")
    assert target.read_bytes() == DATA and server.asked == [None]


def test_a_whole_part_of_a_killed_run_is_only_renamed(server, target):
    _leave(server, target, DATA)
    get(server, target, "file/w.pth")
    assert target.read_bytes() == DATA and server.asked == []


@pytest.mark.parametrize("left", [b"x" * len(DATA), b"x" * 150_000])
def test_a_damaged_part_of_an_earlier_run_is_fetched_anew(server, target, left):
    _leave(server, target, left)
    get(server, target, "file/w.pth")
    assert target.read_bytes() == DATA and server.asked[-1] is None


def test_a_part_longer_than_the_file_is_fetched_anew(server, target):
    _leave(server, target, DATA + b"x", size=0)
    get(server, target, "file/w.pth")
    assert target.read_bytes() == DATA


def _leave(server, target, data, **changes):
    """What a killed run leaves."""
    target.parent.mkdir()
    target.with_name("w.pth.part").write_bytes(data)
    note = {"url": server.url("file/w.pth"), "validator": '"1"', "size": SIZE} | changes
    target.with_name("w.pth.part.json").write_text(json.dumps(note))


@pytest.mark.parametrize(
    ("path", "reason", "kind"),
    [
        ("gone/w.pth", "not found (404)", UserError),
        ("html", "a web page, not the file", UserError),
        ("to/html", "a web page, not the file", UserError),
        ("pagefile/w.pth", "a web page, not the file", UserError),
        ("file/other", "not the published file: its SHA-256 is", UserError),
        ("away/ftp", "scheme ftp is not http", UserError),
        ("away/host", "host pictures.example is not allowed", UserError),
        ("loop", "more than 5 redirects", UserError),
        ("octets", "not the published file", UserError),
        ("endless", "larger than 300000 bytes", UserError),
        ("cutalways/150000/w.pth", "cut off after", StoppedEarly),
        ("silent/150000/w.pth", "silent for 0.4 s", StoppedEarly),
        ("stall", "silent for 0.4 s", StoppedEarly),
        ("status/503", "answered 503", StoppedEarly),
        ("hangup", "no connection", StoppedEarly),
    ],
)
def test_a_failure_is_one_line_that_keeps_the_old_file_and_tells_the_way_by_hand(
    server, target, path, reason, kind
):
    target.parent.mkdir()
    target.write_bytes(b"old")
    said = refused(server, target, path, kind=kind)
    assert reason in said
    for fact in (server.url(path), str(target), SHA, "300000 bytes", "same command"):
        assert fact in said
    assert target.read_bytes() == b"old"
    left = [] if kind is UserError else ["w.pth.part", "w.pth.part.json"]
    assert set(beside(target)) <= {"w.pth", *left}


def test_a_wrong_hash_where_nothing_is_known_of_the_size(server, target):
    assert "its SHA-256 is" in refused(server, target, "file/other", size=0)
    assert beside(target) == []


def test_the_first_digits_of_a_hash_are_enough_to_refuse(server, target):
    get(server, target, "file/w.pth", sha256=SHA[:8])
    wrong = "0" * 8
    assert wrong in refused(server, target, "file/w.pth", sha256=wrong)
    assert target.read_bytes() == DATA


def test_the_next_address_is_tried(server, target):
    get(server, target, "gone/w.pth", "html", "file/w.pth")
    assert target.read_bytes() == DATA


def test_a_full_disk_is_named_and_the_part_goes(server, target, monkeypatch):
    opened = downloads._Transfer._open

    class Full:
        def __init__(self, file):
            self.file, self.close = file, file.close

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads._Transfer, "_open", lambda *a: Full(opened(*a)))
    target.parent.mkdir()
    target.write_bytes(b"old")
    said = refused(server, target, "file/w.pth")
    assert "the disk is full" in said and beside(target) == ["w.pth"]
    assert target.read_bytes() == b"old" and server.hits["/file/w.pth"] == 1


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(server, target, monkeypatch):
    usage = type("usage", (), {"free": 10_000_000})
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage)
    assert "10 MB free, 67 MB needed" in refused(server, target, "file/w.pth")
    assert beside(target) == []


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(server, tmp_path / "file" / "w.pth", "file/w.pth")


@pytest.mark.parametrize("value", ["1", "yes"])
def test_offline_asks_nobody_and_tells_the_way_by_hand(server, target, monkeypatch, value):
    monkeypatch.setenv("ARTIFYGAN_OFFLINE", value)
    said = refused(server, target, "file/w.pth")
    for fact in ("ARTIFYGAN_OFFLINE is set", str(target), SHA, "300000 bytes"):
        assert fact in said
    assert not server.hits


def test_offline_zero_is_online(server, target, monkeypatch):
    monkeypatch.setenv("ARTIFYGAN_OFFLINE", "0")
    get(server, target, "file/w.pth")
    assert target.exists()


def test_only_https_is_spoken_unless_a_caller_says_otherwise(server, target):
    wanted = Wanted((server.url("file/w.pth"),), SHA)
    with pytest.raises(UserError, match="scheme http is not https"):
        downloads.download(wanted, target, say=print)
    assert not server.hits


def test_github_may_send_on_to_its_store_and_nobody_else():
    sent = []

    def hosts(url):
        transfer = downloads._Transfer(
            url, Wanted((url,)), pathlib.Path("x"), print, lambda *n: None, 0
        )
        transfer._stream = lambda fetcher: sent.append(fetcher.manners.hosts)
        with pytest.raises(FetchFailed):  # nothing came
            transfer.run(downloads.MANNERS)
        return sent[-1]

    assert hosts("https://github.com/a/b/c.pt") == ("github.com", "githubusercontent.com")
    assert hosts("https://download.pytorch.org/c.pt") == ("download.pytorch.org",)


PROGRAM = """
import pathlib, sys
from artifygan_jax import downloads
from artifygan_jax.data.fetch import Manners
url, host, target = sys.argv[1:]
target = pathlib.Path(target)
say = lambda line: print(line, flush=True)
with downloads.sole(target, say):
    if target.exists():
        say("here already")
    else:
        manners = Manners(hosts=(host,), schemes=("http",))
        downloads.download(downloads.Wanted((url,)), target, say=say, manners=manners)
"""


def test_of_two_processes_one_fetches_and_the_other_waits(server, target, tmp_path):
    started = []
    for name in ("a", "b"):
        with open(tmp_path / name, "w") as out:
            command = [sys.executable, "-c", PROGRAM, server.url("slowfile/w.pth"), server.host]
            started.append(subprocess.Popen([*command, target], stdout=out, stderr=out, cwd=ROOT))
    assert [process.wait(60) for process in started] == [0, 0]
    said = (tmp_path / "a").read_text() + (tmp_path / "b").read_text()
    assert "here already" in said and server.hits["/slowfile/w.pth"] == 1
    assert target.read_bytes() == DATA


def test_the_one_who_waits_says_so(tmp_path):
    target, lines, let_go = tmp_path / "w.pth", [], threading.Event()

    def hold():
        with downloads.sole(target, print):
            held.set()
            let_go.wait(5)

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    threading.Timer(0.1, let_go.set).start()
    start = time.monotonic()
    with downloads.sole(target, lines.append):
        assert time.monotonic() - start > 0.05
    holder.join()
    assert lines == ["another process is getting w.pth: waiting for it"]


def test_lines_of_progress_come_each_tenth_of_the_way(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    lines = []
    with downloads.bar("w.pth", lines.append) as progress:
        for done in range(0, 1001):
            progress(done * 1000, 1_000_000)
        progress(5, 0)
    assert len(lines) == 11 and lines[-1] == "w.pth: 100 % of 1.0 MB"


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    lines = []
    with downloads.bar("w.pth", lines.append) as progress:
        progress(1_000_000, 2_000_000)
    assert "w.pth" in capsys.readouterr().err and not lines
