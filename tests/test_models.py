"""The models command: what is here, what can be got, and what is damaged."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from artifygan_jax import bundle, cli, models, registry
from artifygan_jax.data.fetch import Manners
from artifygan_jax.errors import StoppedEarly, UserError
from artifygan_jax.nets import cartoongan
from tests import file_server
from tests.conftest import ROOT, shared
from tests.nets.test_cartoongan import cartoongan_weights

PLAIN = b"<?xml version='1.0'?>" + bytes(range(256)) * 100


def weights() -> bytes:
    return safetensors.numpy.save(
        {name: np.ascontiguousarray(x) for name, x in cartoongan_weights(4, 1, "lean").items()}
    )


@pytest.fixture(scope="module")
def running_server():
    with file_server.running() as server:
        yield server


@pytest.fixture
def server(running_server):
    running_server.hits.clear()
    running_server.files.update({"w.safetensors": weights(), "plain.xml": PLAIN})
    return running_server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, no zoo."""
    monkeypatch.setenv("ARTIFYGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "ZOO", tmp_path / "zoo")
    return tmp_path / "cache"


def entry(server, path="file/w.safetensors", *, arch="cartoongan", **changes) -> registry.Entry:
    data = server.files[path.split("/")[-1]] if path.split("/")[-1] in server.files else weights()
    fields = dict(
        name="toon", what="a test", arch=arch, file=path.split("/")[-1], urls=(server.url(path),),
        sha256=hashlib.sha256(data).hexdigest(), size=len(data), licence="MIT", terms="for tests",
        source="https://example.org", found="made here",
    )  # fmt: skip
    return registry.Entry(**fields | changes)


def get(server, wanted, output=None, lines=None):
    manners = Manners(
        hosts=(server.host,), schemes=("http",), rate=1000.0, attempts=2, pause=0.01, timeout=2.0
    )
    say = (lines if lines is not None else []).append
    return models.get(wanted, output, say=say, manners=manners)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture
def tiny(tmp_path):
    folder = tmp_path / "cache" / "tiny"
    net = cartoongan.build("generator", {"channels": 4, "blocks": 1}, rngs=nnx.Rngs(0))
    bundle.save(folder, net, {"licence": "MIT"})
    return folder


def rewrite(folder, change, *, rehash=True):
    """Changes the arrays of a bundle, and the hash in its card with them."""
    path = folder / bundle.WEIGHTS
    arrays = {name: x.copy() for name, x in safetensors.numpy.load_file(path).items()}
    change(arrays)
    path.write_bytes(safetensors.numpy.save(arrays))
    if rehash:
        card = json.loads((folder / bundle.CARD).read_text())
        card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / bundle.CARD).write_text(json.dumps(card))


# ------------------------------------------------------------------------------------------- get


def test_weights_become_a_bundle_that_loads_and_the_download_goes(server, cache):
    wanted = entry(server)
    got = get(server, wanted)
    assert got["path"] == str(cache / "toon") and got["verified"] and not got["already"]
    _, card = bundle.load("toon")
    assert card["source_sha256"] == wanted.sha256 == got["source_sha256"]
    assert card["licence"] == "MIT; for tests" and card["source"] == "w.safetensors"
    assert names(cache) == ["toon"]


def test_a_second_get_asks_nobody(server):
    wanted = entry(server)
    get(server, wanted)
    server.hits.clear()
    lines = []
    assert get(server, wanted, lines=lines)["already"] and not server.hits
    assert "here already, and in order" in lines[-1]


def test_a_damaged_bundle_is_got_again(server, cache):
    get(server, entry(server))
    path = cache / "toon" / bundle.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    lines = []
    assert not get(server, entry(server), lines=lines)["already"]
    assert "is damaged and replaced" in lines[0] and "SHA-256 differs" in lines[0]
    bundle.load("toon")


def test_a_bundle_of_other_weights_or_a_folder_of_other_things_is_not_replaced(server, tmp_path):
    get(server, entry(server))
    with pytest.raises(UserError, match="is a bundle of other weights.*give another --output"):
        get(server, entry(server, sha256="0" * 64))
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="is no model bundle: give another --output"):
        get(server, entry(server), str(tmp_path / "mine"))


def test_a_file_placed_by_hand_is_taken_and_stays(server, cache):
    cache.mkdir()
    (cache / "w.safetensors").write_bytes(weights())
    get(server, entry(server))
    assert not server.hits and names(cache) == ["toon", "w.safetensors"]


def test_a_wrong_file_placed_by_hand_is_said_and_replaced_only_by_the_right_one(
    server, cache, monkeypatch
):
    cache.mkdir()
    (cache / "w.safetensors").write_bytes(b"wrong")
    lines = []
    with pytest.raises(UserError, match="not downloaded"):
        get(server, entry(server, "gone/w.safetensors"), lines=lines)
    assert "is not the published file: it has 5 bytes" in lines[0]
    assert (cache / "w.safetensors").read_bytes() == b"wrong"
    get(server, entry(server))
    assert names(cache) == ["toon"]


def test_output_chooses_the_folder(server, tmp_path):
    got = get(server, entry(server), str(tmp_path / "a" / "b"))
    assert got["path"] == str(tmp_path / "a" / "b")
    bundle.load(tmp_path / "a" / "b")


def test_a_plain_file_is_kept_as_it_is(server, cache, tmp_path):
    wanted = entry(server, "file/plain.xml", arch="")
    assert get(server, wanted)["path"] == str(cache / "plain.xml")
    assert get(server, wanted)["already"]
    (cache / "plain.xml").write_bytes(b"damaged")
    assert not get(server, wanted)["already"]
    assert (cache / "plain.xml").read_bytes() == PLAIN
    assert get(server, wanted, str(tmp_path))["path"] == str(tmp_path / "plain.xml")
    assert get(server, wanted, str(tmp_path / "x.xml"))["path"] == str(tmp_path / "x.xml")


def test_an_unpublished_hash_is_said_and_the_found_one_shown(server):
    lines = []
    got = get(server, entry(server, sha256="", size=0), lines=lines)
    assert not got["verified"]
    found = hashlib.sha256(weights()).hexdigest()
    assert f"unverified: no published hash; this file's SHA-256 is {found}" in lines


def test_a_page_instead_of_weights_is_no_bundle(server, cache):
    with pytest.raises(UserError, match="a web page, not the file"):
        get(server, entry(server, "pagefile/w.safetensors", sha256="", size=0))
    assert names(cache) == []


def test_a_page_placed_by_hand_is_named(server, cache):
    cache.mkdir()
    (cache / "w.safetensors").write_bytes(b"<!DOCTYPE html><html>quota</html>")
    with pytest.raises(UserError, match="is a web page, not weights"):
        get(server, entry(server, sha256="", size=0))
    assert names(cache) == ["w.safetensors"]


def test_a_cut_is_a_stop_and_the_next_get_goes_on(server, cache):
    with pytest.raises(StoppedEarly, match="the same command goes on"):
        get(server, entry(server, "cutalways/1000/w.safetensors"))
    assert names(cache) == ["w.safetensors.part", "w.safetensors.part.json"]
    note = cache / "w.safetensors.part.json"
    now = {**json.loads(note.read_text()), "url": server.url("file/w.safetensors")}
    note.write_text(json.dumps(now))
    get(server, entry(server))
    assert server.asked[-1] not in (None, "bytes=0-") and names(cache) == ["toon"]


def test_of_two_at_once_one_fetches(server):
    wanted, got, lines = entry(server, "slowfile/w.safetensors"), [], []
    threads = [
        threading.Thread(target=lambda: got.append(get(server, wanted, lines=lines)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(one["already"] for one in got) == [False, True]
    assert server.hits["/slowfile/w.safetensors"] == 1
    assert "another process is getting w.safetensors: waiting for it" in lines


def test_offline_says_how_to_place_the_file_by_hand(cache, monkeypatch, capsys):
    monkeypatch.setenv("ARTIFYGAN_OFFLINE", "1")
    with pytest.raises(UserError) as raised:
        models.main(["get", "vgg19"])
    known = registry.find("vgg19")
    for fact in (known.urls[0], str(cache / known.file), known.sha256, str(known.size)):
        assert fact in str(raised.value)
    assert "\n" not in str(raised.value) and known.conditions in capsys.readouterr().err


def test_a_bundle_that_is_here_needs_no_network(server, monkeypatch):
    get(server, entry(server))
    monkeypatch.setenv("ARTIFYGAN_OFFLINE", "1")
    assert get(server, entry(server))["already"]


def test_a_real_file_placed_by_hand_becomes_a_bundle_without_a_network(cache, monkeypatch):
    path = shared("data", "weights", "lpips_v0.1_vgg.pth")
    monkeypatch.setenv("ARTIFYGAN_OFFLINE", "1")
    cache.mkdir()
    shutil.copy(path, cache / registry.find("lpips_vgg").file)
    summary, code = models.main(["get", "lpips_vgg"])
    assert code == cli.DONE and summary["verified"]
    assert models.main(["verify", "lpips_vgg"])[0]["done"] == 1


# -------------------------------------------------------------------------------------- the others


def test_list_has_what_is_here_and_what_can_be_got(tiny, cache, capsys):
    (cache / "broken").mkdir()
    (cache / "broken" / bundle.CARD).write_text("5")
    summary, code = models.main(["list"])
    table = capsys.readouterr().out
    assert code == cli.DONE
    assert [row["name"] for row in summary["bundles"]] == ["broken", "tiny"]
    assert "problem" in summary["bundles"][0] and summary["bundles"][1]["licence"] == "MIT"
    assert [row["name"] for row in summary["registry"]] == list(registry.entries())
    for text in ("tiny", "broken", "vgg19", "574.7 MB", "BSD-3-Clause"):
        assert text in table
    assert models.main(["list", "--json"])[0] == summary
    assert capsys.readouterr().out == ""


def test_list_says_which_of_the_registry_are_here(tiny, cache):
    tiny.rename(cache / "vgg19")
    (cache / "lbpcascade_animeface.xml").touch()
    summary, _ = models.main(["list", "--json"])
    here = [row["name"] for row in summary["registry"] if row["here"]]
    assert here == ["vgg19", "lbpcascade_animeface"]


def test_path_prints_the_place(tiny, cache, capsys):
    summary, _ = models.main(["path", "tiny"])
    assert summary["path"] == str(tiny) == capsys.readouterr().out.strip()
    (cache / "lbpcascade_animeface.xml").touch()
    place = models.main(["path", "lbpcascade_animeface"])[0]["path"]
    assert place == str(cache / "lbpcascade_animeface.xml")


@pytest.mark.parametrize("verb", ["path", "verify"])
def test_what_is_not_here_says_how_to_get_it(tiny, verb):
    with pytest.raises(UserError, match="vgg19 is not here; .*models get vgg19"):
        models.main([verb, "vgg19"])
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        models.main([verb, "tinny"])


def test_info_has_the_card_the_counts_and_the_registry(tiny, capsys):
    summary, code = models.main(["info", str(tiny)])
    out = capsys.readouterr().out
    assert code == cli.DONE and summary["card"] == bundle.read_card(tiny)
    assert summary["parameters"] == summary["card"]["parameters"] == sum(summary["blocks"].values())
    for text in ("licence: MIT", summary["card"]["sha256"], "blocks:"):
        assert text in out
    summary, _ = models.main(["info", "vgg19"])
    assert summary["path"] is None and summary["registry"]["size"] == 574673361
    models.main(["info", "animegan2_paprika"])
    assert "sha256: not known" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["5", "[]", "{", '"format"'])
def test_info_of_a_card_that_is_none_is_one_line(tiny, text):
    (tiny / bundle.CARD).write_text(text)
    with pytest.raises(UserError) as raised:
        models.main(["info", "tiny"])
    assert "model.json" in str(raised.value) and "\n" not in str(raised.value)


def test_info_of_cut_weights_is_one_line(tiny):
    (tiny / bundle.WEIGHTS).write_bytes((tiny / bundle.WEIGHTS).read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        models.main(["info", "tiny"])


def test_verify_passes_what_is_whole(tiny):
    summary, code = models.main(["verify", "tiny", str(tiny)])
    assert (summary["done"], summary["failed"], code) == (2, 0, cli.DONE)


def test_verify_names_a_flipped_bit(tiny):
    path = tiny / bundle.WEIGHTS
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="model.safetensors .*SHA-256 differs"):
        models.main(["verify", "tiny"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda arrays: arrays["stem/kernel"].fill(np.nan), "stem/kernel holds NaN"),
        (lambda arrays: arrays.pop("stem/kernel"), "-stem/kernel"),
        (lambda arrays: arrays.update(more=np.zeros(2, np.float32)), r"\+more"),
        (lambda arrays: arrays.update({"stem/bias": np.zeros(5, np.float32)}), "stem/bias is"),
    ],
)
def test_verify_names_weights_that_are_hashed_and_wrong(tiny, change, reason):
    rewrite(tiny, change)
    with pytest.raises(UserError, match=reason):
        models.main(["verify", "tiny"])


@pytest.mark.parametrize(
    "fields", [{"options": 5}, {"options": {"colour": 1}}, {"options": {"blocks": "x"}}, {"net": 3}]
)
def test_verify_of_a_card_with_wrong_fields_is_one_line(tiny, fields):
    card = json.loads((tiny / bundle.CARD).read_text())
    (tiny / bundle.CARD).write_text(json.dumps({**card, **fields}))
    with pytest.raises(UserError):
        models.main(["verify", "tiny"])


def test_verify_all_goes_on_after_a_failure_and_ends_with_two(tiny, cache, capsys):
    bad = cache / "bad"
    net = cartoongan.build("generator", {"channels": 4, "blocks": 1}, rngs=nnx.Rngs(1))
    bundle.save(bad, net)
    rewrite(bad, lambda arrays: arrays["stem/kernel"].fill(0), rehash=False)
    (cache / "lbpcascade_animeface.xml").write_bytes(b"not it")
    summary, code = models.main(["verify", "--all"])
    assert code == cli.SOME_FAILED
    assert (summary["done"], summary["failed"], summary["verified"]) == (1, 2, [str(tiny)])
    assert [f["input"] for f in summary["failures"]] == [str(bad), "lbpcascade_animeface"]
    assert capsys.readouterr().err.count("failed: ") == 2


@pytest.mark.parametrize("argv", [["verify"], ["verify", "--all", "x"], ["verify", "--all"]])
def test_verify_of_nothing_or_of_all_and_some_is_a_wrong_call(argv):
    with pytest.raises(UserError):
        models.main(argv)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["get", "vgg91"], "did you mean 'vgg19'"),
        (["fetch", "vgg19"], "invalid choice"),
        ([], "required"),
        (["list", "--jsn"], "did you mean '--json'"),
    ],
)
def test_a_wrong_call_is_one_line(argv, reason):
    with pytest.raises(UserError) as raised:
        models.main(argv)
    assert reason in str(raised.value)


def test_the_command_ends_with_one_json_line_and_its_exit_code(tiny):
    command = [sys.executable, "-m", "artifygan_jax.models", "verify", "tiny"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and json.loads(done.stdout)["done"] == 1


def test_a_damaged_model_ends_with_one_and_one_line(tiny, monkeypatch, capsys):
    (tiny / bundle.WEIGHTS).write_bytes(b"")
    monkeypatch.setattr(sys, "argv", ["models", "verify", "tiny"])
    with pytest.raises(SystemExit) as ended:
        cli.run(models.main)
    out = capsys.readouterr()
    assert ended.value.code == cli.WRONG_CALL and out.out == ""
    assert out.err.startswith("error: ") and out.err.count("\n") == 1


def test_help_names_every_verb(capsys):
    with pytest.raises(SystemExit) as ended:
        models.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for word in ("list", "get", "path", "info", "verify", "ARTIFYGAN_OFFLINE"):
        assert word in text
