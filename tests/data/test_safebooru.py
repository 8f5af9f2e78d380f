"""Safebooru: downloads that go on where they stopped, and the data set that is built."""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from artifygan_jax.data.fetch import Fetcher, Manners
from artifygan_jax.data.safebooru import download as downloads
from artifygan_jax.data.safebooru.download import download_pictures
from artifygan_jax.data.safebooru.posts import open_metadata
from artifygan_jax.data.safebooru.select import Rules
from artifygan_jax.errors import UserError
from tests.conftest import shared
from tests.data import hostile_server
from tests.data.booru import DANBOORU, HEADER, metadata
from tests.data.hostile_server import picture_bytes

# ------------------------------------------------------------------------------------------ downloads


@pytest.fixture(scope="module")
def running_server():
    with hostile_server.running() as server:
        yield server


@pytest.fixture
def server(running_server):
    running_server.hits.clear()
    running_server.times.clear()
    running_server.most_flying = 0
    return running_server


def kaggle(folder, server, paths, **changes):
    """Metadata of one post for each path of the server; `changes` maps an id to (rating, tags)."""
    rows = [HEADER]
    for number, path in enumerate(paths, 1):
        rating, words = changes.get(f"p{number}", ("s", "1girl"))
        url = path if "//" in path else server.url(path)
        rows.append(f'{number},1500000000,{rating},0,"{url}",0,0,,"{words}"')
    (folder / "all_data.csv").write_text("\n".join(rows))
    return open_metadata(folder / "all_data.csv")


def fetch_all(read, folder, server, *, count=None, workers=3, rules=None, say=print, **manners):
    quick = dict(hosts=(server.host,), rate=1000.0, attempts=2, pause=0.01, timeout=2.0)
    fetcher = Fetcher(Manners(**(quick | manners)))
    rules = rules or Rules()
    return download_pictures(read, folder, fetcher, rules, count=count, workers=workers, say=say)


def audit(folder):
    lines = (folder / "audit.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def pictures(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != "audit.jsonl")


MIXED = [
    "ok/1.jpg", "mislabelled/2.jpg", "status/404/3.jpg", "status/500/4.jpg", "html/5.jpg", "text/6.jpg",
    "away/host/7.jpg", "cut/8.jpg", "ok/9.webp", "empty/10.jpg", "small/11.jpg", "ok/12.gif",
]  # fmt: skip


def test_the_good_pictures_of_a_bad_server_are_kept_and_every_verdict_is_written_down(
    tmp_path, server
):
    read = kaggle(tmp_path, server, MIXED, p1=("s", "1girl smile"))
    done, tally = fetch_all(read, tmp_path / "pics", server, rules=Rules(min_size=20))
    assert pictures(tmp_path / "pics") == ["1.jpg", "2.png", "9.webp"]
    assert (done.kept, done.failed, done.stopped) == (3, 8, "")
    assert tally.refused == {"extension": 1} and tally.tags == {"smile": 1}
    verdicts = {r["id"]: (r["verdict"], r["reason"]) for r in audit(tmp_path / "pics")}
    assert verdicts[3] == ("failed", "not found (404)")
    assert verdicts[4] == ("later", "the server answered 500")
    assert verdicts[5] == ("failed", "a web page, not a picture")
    assert verdicts[8][0] == "later" and verdicts[11] == ("failed", "too small: 9x8")
    assert verdicts[12][0] == "refused"
    kept = next(r for r in audit(tmp_path / "pics") if r["id"] == 1)
    data = (tmp_path / "pics" / "1.jpg").read_bytes()
    assert kept["tags"] == ["1girl", "smile"] and kept["rating"] == "s"
    assert kept["bytes"] == len(data) and kept["file"] == "1.jpg" and len(kept["sha256"]) == 64
    assert {f["input"] for f in done.failures} == {"3", "4", "5", "6", "7", "8", "10", "11"}


def test_a_second_run_asks_only_for_what_may_have_passed(tmp_path, server):
    read = kaggle(tmp_path, server, MIXED)
    fetch_all(read, tmp_path / "pics", server, rules=Rules(min_size=20))
    server.hits.clear()
    lines = len(audit(tmp_path / "pics"))
    done, _ = fetch_all(read, tmp_path / "pics", server, rules=Rules(min_size=20))
    assert set(server.hits) == {"/status/500/4.jpg", "/cut/8.jpg"}
    assert (done.kept, done.already, done.given_up, done.failed) == (0, 3, 6, 2)
    assert len(audit(tmp_path / "pics")) == lines  # nothing new to say
    # without the size limit the small one is wanted; with another address the lost one is
    read = kaggle(tmp_path, server, [*MIXED[:2], "ok/3.jpg", *MIXED[3:]])
    server.hits.clear()
    done, _ = fetch_all(read, tmp_path / "pics", server)
    assert done.kept == 2 and {"/small/11.jpg", "/ok/3.jpg"} <= set(server.hits)


def test_a_missing_or_changed_file_is_fetched_again(tmp_path, server):
    read = kaggle(tmp_path, server, ["ok/1.jpg", "ok/2.jpg", "ok/3.jpg"])
    folder = tmp_path / "pics"
    fetch_all(read, folder, server)
    (folder / "1.jpg").unlink()
    (folder / "2.jpg").write_bytes(b"half")
    done, _ = fetch_all(read, folder, server)
    assert (done.kept, done.already) == (2, 1)
    assert (folder / "2.jpg").stat().st_size > 100


def test_a_half_last_line_of_the_audit_is_left_out(tmp_path, server):
    read = kaggle(tmp_path, server, ["ok/1.jpg", "ok/2.jpg"])
    folder, said = tmp_path / "pics", []
    fetch_all(read, folder, server, workers=1)
    text = (folder / "audit.jsonl").read_bytes()
    (folder / "audit.jsonl").write_bytes(text[:-30])
    done, _ = fetch_all(read, folder, server, say=said.append)
    assert (done.kept, done.already) == (1, 1)
    assert said == ["1 damaged lines of the audit left out"]
    assert [r["id"] for r in audit(folder)] == [1, 2]
    assert len((folder / "audit.jsonl").read_text().splitlines()) == 3  # the half line stays


def test_count_is_how_many_there_are_in_the_end(tmp_path, server):
    paths = ["ok/1.jpg", "status/404/2.jpg", "ok/3.jpg", "ok/4.jpg", "ok/5.jpg", "ok/6.jpg"]
    read = kaggle(tmp_path, server, paths)
    done, _ = fetch_all(read, tmp_path / "pics", server, count=3, workers=4)
    assert len(pictures(tmp_path / "pics")) == done.kept == 3
    server.hits.clear()
    done, _ = fetch_all(read, tmp_path / "pics", server, count=3)
    assert (done.kept, done.already) == (0, 3) and not server.hits
    done, _ = fetch_all(read, tmp_path / "pics", server, count=4)
    assert (done.kept, done.already) == (1, 3)


def test_count_is_not_exceeded_when_an_early_post_is_fetched_late(tmp_path, server):
    folder = tmp_path / "pics"
    read = kaggle(tmp_path, server, ["flaky/500/1/1.jpg", "ok/2.jpg", "ok/3.jpg"])
    fetch_all(read, folder, server, count=2, attempts=1)
    assert pictures(folder) == ["2.jpg", "3.jpg"]
    done, _ = fetch_all(read, folder, server, count=2, attempts=1)
    assert (done.kept, done.already) == (1, 1) and server.hits["/flaky/500/1/1.jpg"] == 2


def test_refused_posts_are_never_asked_for(tmp_path, server):
    folder = tmp_path / "pics"
    paths = [f"ok/{n}.jpg" for n in range(1, 6)]
    read = kaggle(
        tmp_path, server, paths, p1=("q", "a"), p2=("", "a"), p3=("s", "comic"), p4=("s", "hat")
    )
    fetch_all(read, folder, server, rules=Rules(without=("hat",)))
    assert set(server.hits) == {"/ok/5.jpg"} and pictures(folder) == ["5.jpg"]
    assert [r["id"] for r in audit(folder) if r["verdict"] == "refused"] == [1, 2, 3]


def test_a_picture_that_other_rules_refuse_need_not_be_fetched_again(tmp_path, server):
    rows = kaggle(tmp_path, server, ["ok/1.jpg"]).path.read_text().replace(",0,0,,", ",48,40,,")
    read = metadata(tmp_path, rows)
    for min_size in (0, 100, 0):
        done, _ = fetch_all(read, tmp_path / "pics", server, rules=Rules(min_size=min_size))
    assert (done.kept, done.already, len(server.times)) == (0, 1, 1)
    assert [r["verdict"] for r in audit(tmp_path / "pics")] == ["kept", "refused"]


def test_a_post_without_an_address_is_refused_not_tried(tmp_path, server):
    record = DANBOORU | {"file_url": None, "large_file_url": None}
    done, tally = fetch_all(metadata(tmp_path, json.dumps([record])), tmp_path / "pics", server)
    assert tally.refused == {"address": 1} and done.failed == 0


def test_workers_fetch_at_once_but_no_more_than_told(tmp_path, server):
    read = kaggle(tmp_path, server, [f"slow/{n}.jpg" for n in range(6)])
    done, _ = fetch_all(read, tmp_path / "pics", server, workers=3)
    assert done.kept == 6 and 2 <= server.most_flying <= 3


def test_nothing_is_written_outside_the_folder_whatever_lies_in_the_way(tmp_path, server):
    folder, outside = tmp_path / "pics", tmp_path / "outside.txt"
    folder.mkdir()
    outside.write_text("mine")
    (folder / "1.jpg").symlink_to(outside)
    paths = ["ok/1.jpg/../../../../x.jpg", "ok/2.jpg/%2e%2e%2f%2e%2e%2fx.jpg"]
    read = kaggle(tmp_path, server, paths)
    done, _ = fetch_all(read, folder, server)
    assert done.kept == 2 and pictures(folder) == ["1.jpg", "2.jpg"]
    assert outside.read_text() == "mine" and not (folder / "1.jpg").is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all_data.csv", "outside.txt", "pics"]


def test_an_audit_that_points_elsewhere_is_not_followed(tmp_path, server):
    folder, outside = tmp_path / "pics", tmp_path / "outside.txt"
    folder.mkdir()
    outside.write_text("mine")
    (folder / "audit.jsonl").symlink_to(outside)
    with pytest.raises(UserError, match="audit.jsonl: cannot be written"):
        fetch_all(kaggle(tmp_path, server, ["ok/1.jpg"]), folder, server)
    (folder / "audit.jsonl").unlink()
    line = {"id": 1, "verdict": "kept", "file": "../outside.txt", "bytes": 4}
    (folder / "audit.jsonl").write_text(json.dumps(line) + "\n[]\n7\n")
    done, _ = fetch_all(kaggle(tmp_path, server, ["ok/1.jpg"]), folder, server)
    assert (done.kept, done.already) == (1, 0) and outside.read_text() == "mine"


def test_a_dead_server_is_given_up_after_some_posts(tmp_path, server, monkeypatch):
    monkeypatch.setattr(downloads, "GIVE_UP_AFTER", 5)
    paths = ["ok/1.jpg", *["status/503/x.jpg"] * 40]
    said = []
    done, _ = fetch_all(
        kaggle(tmp_path, server, paths), tmp_path / "pics", server, workers=2, say=said.append
    )
    assert done.stopped == "5 posts in a row failed, the last: the server answered 503"
    assert done.kept == 1 and done.failed <= 7 and server.hits["/status/503/x.jpg"] <= 14
    assert "run the same command again later" in said[-1]


def test_lost_pictures_alone_are_no_reason_to_give_up(tmp_path, server, monkeypatch):
    monkeypatch.setattr(downloads, "GIVE_UP_AFTER", 5)
    paths = [*[f"status/404/{n}.jpg" for n in range(12)], "ok/1.jpg"]
    done, _ = fetch_all(kaggle(tmp_path, server, paths), tmp_path / "pics", server)
    assert (done.stopped, done.kept, done.failed) == ("", 1, 12)


def test_a_second_run_at_the_same_time_is_refused(tmp_path, server):
    read = kaggle(tmp_path, server, ["ok/1.jpg"])

    def say(line):
        pass

    with downloads.opened(downloads.writable_folder(tmp_path / "pics")):
        with pytest.raises(UserError, match="another run is downloading into it"):
            fetch_all(read, tmp_path / "pics", server, say=say)


def test_ctrl_c_keeps_what_is_finished_and_the_next_run_goes_on(tmp_path, server):
    read = kaggle(tmp_path, server, ["ok/1.jpg", "ok/2.jpg", "stall/3.jpg", "stall/4.jpg"])
    code = f"""
import pathlib, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background jobs without
from artifygan_jax.data.fetch import Fetcher, Manners
from artifygan_jax.data.safebooru.download import download_pictures
from artifygan_jax.data.safebooru.posts import open_metadata
from artifygan_jax.data.safebooru.select import Rules
fetcher = Fetcher(Manners(hosts=({server.host!r},), rate=1000.0, timeout=60.0))
read = open_metadata(pathlib.Path({str(tmp_path / "all_data.csv")!r}))
download_pictures(read, pathlib.Path({str(tmp_path / "pics")!r}), fetcher, Rules(), workers=2)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: sum(path.startswith("/stall") for path in list(server.hits)) == 2)
        child.send_signal(signal.SIGINT)
        assert child.wait(4) != 0  # the stalls would last 5 s, and then be tried again
    finally:
        child.kill()
        child.wait()
    assert pictures(tmp_path / "pics") == ["1.jpg", "2.jpg"]  # and no temporary file
    done, _ = fetch_all(read, tmp_path / "pics", server, count=2)
    assert (done.kept, done.already) == (0, 2)


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------- data set


def prepare(*args, **kwargs):
    from artifygan_jax.data.safebooru.safebooru_dataset_builder import prepare_safebooru

    return prepare_safebooru(*args, **kwargs)


def gallery(folder: pathlib.Path, posts: list[dict]) -> pathlib.Path:
    """`posts.json` and the pictures `pics/NAME` of those posts that have `file`."""
    (folder / "pics").mkdir()
    records = []
    for number, one in enumerate(posts, 1):
        one = {"id": number} | one
        if name := one.pop("file", None):
            kind = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]]
            (folder / "pics" / name).write_bytes(picture_bytes(kind, 40 + number, seed=number))
        records.append(DANBOORU | one)
    (folder / "posts.json").write_text(json.dumps(records))
    return folder / "posts.json"


def test_a_data_set_is_built_and_read_back(tmp_path, capfd):
    source = gallery(
        tmp_path,
        [
            {"file": "1.jpg", "tag_string": "1girl smile yellow_eyes", "score": -4},
            {"file": "6b7cfd682de80770b8514be779f7e4c2.png", "tag_string": ""},
            {"file": "sample-6b7c.webp", "md5": "", "created_at": None, "score": None},
            {"md5": "", "large_file_url": "", "file_url": ""},
            {"file": "5.jpg", "rating": "s"},
        ],
    )
    summary = prepare(source, tmp_path / "out", pictures=tmp_path / "pics")
    assert capfd.readouterr().out == ""
    assert (summary["pictures"], summary["splits"], summary["failed"]) == (3, {"train": 3}, 0)
    assert summary["left_out"] == {"without_picture": 1, "unreadable": 0}
    assert summary["refused"] == {"rating": 1} and summary["kind"] == "danbooru"
    assert summary["built_tags"] == {
        "yellow_eyes": 2, "brown_eyes": 0, "blonde_hair": 0, "smile": 1, "red_hair": 0
    }  # fmt: skip
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(summary["path"])
    rows = list(builder.as_data_source(split="train"))
    assert [row["name"] for row in rows] == [b"1.jpg", b"2.png", b"3.webp"]
    assert [row["image"].shape for row in rows] == [(40, 41, 3), (40, 42, 3), (40, 43, 3)]
    first = {k: v for k, v in rows[0].items() if k != "image"}
    assert first == dict(
        name=b"1.jpg", id=1, rating=b"g", tags=[b"1girl", b"smile", b"yellow_eyes"],
        width=41, height=40, created=1159579817, score=-4,
    )  # fmt: skip
    assert list(rows[1]["tags"]) == [] and (rows[2]["created"], rows[2]["score"]) == (0, 0)
    raw = builder.as_data_source(split="train", decoders={"image": tfds.decode.SkipDecoding()})
    assert raw[2]["image"] == (tmp_path / "pics" / "sample-6b7c.webp").read_bytes()


def test_the_data_set_is_what_training_reads(tmp_path):
    from artifygan_jax.data.records import Records, dataset_folder

    source = gallery(tmp_path, [{"file": "1.jpg"}, {"file": "2.webp", "tag_string": "red_hair"}])
    prepare(source, tmp_path / "out", pictures=tmp_path / "pics")
    folder = dataset_folder(str(tmp_path / "out"))
    assert folder is not None
    records = Records(folder)
    assert records.names == ["1.jpg", "2.webp"] and "red_hair" in records.labels.vocabulary
    assert records.read(1) == (tmp_path / "pics" / "2.webp").read_bytes()


def test_a_second_run_says_so_and_other_options_are_refused(tmp_path):
    source = gallery(tmp_path, [{"file": "1.jpg"}, {"file": "2.jpg"}])
    kwargs = dict(pictures=tmp_path / "pics")
    first = prepare(source, tmp_path / "out", **kwargs)
    said = []
    again = prepare(source, tmp_path / "out", say=said.append, **kwargs)
    assert again == {**first, "already": True} and "finished before" in said[-1]
    with pytest.raises(UserError, match="other options"):
        prepare(source, tmp_path / "out", tags="1girl", **kwargs)
    (tmp_path / "pics" / "2.jpg").unlink()
    with pytest.raises(UserError, match="made from other files .pictures"):
        prepare(source, tmp_path / "out", **kwargs)


def test_pictures_that_do_not_decode_are_left_out_with_their_reasons(tmp_path):
    source = gallery(
        tmp_path, [{"file": f"{n}.jpg"} for n in range(1, 6)] + [{"file": "6.png", "id": 6}]
    )
    folder = tmp_path / "pics"
    (folder / "2.jpg").write_bytes((folder / "2.jpg").read_bytes()[:700])
    (folder / "3.jpg").write_bytes(hostile_server.HTML)
    (folder / "4.jpg").write_bytes(hostile_server.bomb())
    (folder / "5.jpg").write_bytes(picture_bytes("GIF"))
    (folder / "6.png").write_bytes(picture_bytes("PNG", 9, 9))
    summary = prepare(source, tmp_path / "out", pictures=folder, min_size=20)
    assert summary["pictures"] == 1 and summary["left_out"]["unreadable"] == 5
    reasons = {f["input"]: f["reason"] for f in summary["failures"]}
    assert reasons["2.jpg"] == "truncated" and "web page" in reasons["3.jpg"]
    assert reasons["4.jpg"].startswith("too large") and "not a JPEG" in reasons["5.jpg"]
    assert reasons["6.png"] == "too small: 9x9, at least 20" and summary["failed"] == 5


def test_count_and_tags_choose_what_is_built(tmp_path):
    posts = [{"file": f"{n}.jpg", "tag_string": "a" if n % 2 else "a b"} for n in range(1, 9)]
    source = gallery(tmp_path, posts)
    summary = prepare(
        source, tmp_path / "out", pictures=tmp_path / "pics", tags="a", without="b", count=3
    )
    assert summary["pictures"] == 3 and summary["built_tags"]["a"] == 3
    assert summary["options"] == {"tags": ["a"], "without": ["b"], "min_size": 0, "count": 3}


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        (dict(pictures="pics", tags="nobody_has_it"), "1 without the tags asked for"),
        (dict(pictures="elsewhere"), "1 without a picture"),
        (dict(), "no pictures there; give their folder as --pictures, or add --download"),
        (dict(pictures="empty"), "no pictures here"),
        (dict(pictures="pics", download=True), "give --pictures or --download"),
        (dict(pictures="pics", count=0), "--count=0"),
        (dict(pictures="pics", workers=0), "--workers=0"),
        (dict(pictures="pics", rate=0.0), "--rate=0.0"),
        (dict(pictures="pics", rate=float("nan")), "--rate=nan"),
        (dict(pictures="pics", min_size=-1), "--min_size=-1"),
        (dict(pictures="pics", tags="a*"), "a tag is one name"),
        (dict(pictures="pics", tags="a,golden eyes", without="yellow_eyes"), "drop one of them"),
    ],
)
def test_a_call_that_gives_nothing_says_why_and_writes_nothing(tmp_path, kwargs, words):
    source = gallery(tmp_path, [{"file": "1.jpg"}])
    (tmp_path / "empty").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jpg").write_bytes(picture_bytes())
    if "pictures" in kwargs:
        kwargs = kwargs | {"pictures": tmp_path / kwargs["pictures"]}
    with pytest.raises(UserError) as caught:
        prepare(source, tmp_path / "out", **kwargs)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_real_posts_build_nothing_for_their_rating(tmp_path):
    source = shared("data", "safebooru")
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "73510.jpg").write_bytes(picture_bytes())
    with pytest.raises(UserError, match=r"none of 73 danbooru posts .* 73 refused \(73 for rating"):
        prepare(source, tmp_path / "out", pictures=tmp_path / "pics")


def test_a_download_becomes_a_data_set_in_one_go(tmp_path, server):
    read = kaggle(tmp_path, server, MIXED, p9=("s", "1girl red_hair"))
    kwargs = dict(download=True, hosts=(server.host,), rate=20.0, min_size=20, count=3)
    # post 4 answers 500: with the true pauses its four tries take 7 s, so it is not there
    lines = read.path.read_text().splitlines()
    read.path.write_text(
        "\n".join(line for line in lines if "/500/" not in line and "cut" not in line)
    )
    summary = prepare(read.path, tmp_path / "out", tags="1girl", **kwargs)
    assert (summary["pictures"], summary["downloaded"], summary["stopped"]) == (3, 3, "")
    assert summary["built_tags"]["red_hair"] == 1 and summary["failed"] == len(summary["failures"])
    assert {f["input"] for f in summary["failures"]} >= {"3", "5", "6", "7"}
    server.hits.clear()
    again = prepare(read.path, tmp_path / "out", tags="1girl", **kwargs)
    assert again["already"] and not server.hits
    assert (again["downloaded"], again["downloaded_before"]) == (0, 3)


def test_a_download_that_gave_up_builds_nothing(tmp_path, server, monkeypatch):
    monkeypatch.setattr(downloads, "GIVE_UP_AFTER", 3)
    read = kaggle(tmp_path, server, ["ok/1.jpg", *["busy/3600/1.jpg"] * 9])
    summary = prepare(
        read.path, tmp_path / "out", download=True, hosts=(server.host,), rate=20.0, workers=1
    )
    assert "3 posts in a row failed" in summary["stopped"] and summary["downloaded"] == 1
    assert not (tmp_path / "out" / "safebooru").exists()


def test_the_builder_alone_reads_its_manual_folder(tmp_path):
    import tensorflow_datasets as tfds

    from artifygan_jax.data.safebooru.safebooru_dataset_builder import Builder

    gallery(tmp_path, [{"file": "1.jpg"}, {"file": "2.png"}])
    os.rename(tmp_path / "pics", tmp_path / "safebooru_pictures")
    builder = Builder(data_dir=tmp_path / "out")
    config = tfds.download.DownloadConfig(manual_dir=tmp_path)
    builder.download_and_prepare(download_dir=tmp_path / "dl", download_config=config)
    assert [r["id"] for r in builder.as_data_source(split="train")] == [1, 2]
    assert "all_data.csv" in Builder.MANUAL_DOWNLOAD_INSTRUCTIONS


def test_tensorflow_is_never_imported(tmp_path):
    source = gallery(tmp_path, [{"file": "1.jpg"}])
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise SystemExit('imported')")
    code = (
        "import sys; from artifygan_jax.data.safebooru.safebooru_dataset_builder import *;"
        "prepare_safebooru(sys.argv[1], sys.argv[2], pictures=sys.argv[3])"
    )
    args = [str(source), str(tmp_path / "out"), str(tmp_path / "pics")]
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"},
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (0, b""), done.stderr[-2000:]


def test_shards_are_planned_by_size(tmp_path, monkeypatch):
    from artifygan_jax.data import building

    monkeypatch.setattr(building, "SHARD_BYTES", 5000)
    source = gallery(tmp_path, [{"file": f"{n}.png"} for n in itertools.islice(range(1, 7), 6)])
    summary = prepare(source, tmp_path / "out", pictures=tmp_path / "pics")
    assert summary["pictures"] == 6 and summary["shards"]["train"] > 2
