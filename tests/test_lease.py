"""launch/lease.sh, rehearsed on the CPU: first with a stub for train, then with the real one."""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import time

import numpy as np
import pytest

from bench.parity import difference

ROOT = pathlib.Path(__file__).parent.parent
LEASE = ROOT / "launch" / "lease.sh"
LATE = 15  # seconds that packing may take on a loaded machine; training itself stops by the clock

# Keeps the contract of train: counts steps, on SIGTERM saves and exits with 75, goes on in WORKDIR.
STUB = """
import json, os, pathlib, signal, sys, time
flags = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:])
work = pathlib.Path(flags["workdir"])
stop = []
if "--config.deaf=1" not in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
saved = sorted((work / "checkpoints").glob("*"), key=lambda path: int(path.name))
step = int(saved[-1].name) if saved else 0
start, last = step, int(flags.get("config.steps", 10**9))
for name in ("checkpoints", "model", "samples", "tb"):
    (work / name).mkdir(parents=True, exist_ok=True)
(work / "started").touch()
while step < last and not stop:
    step += 1
    time.sleep(0.02)
for at in (step - 1, step):
    folder = work / "checkpoints" / str(at)
    folder.mkdir(exist_ok=True)
    (folder / "state").write_bytes(os.urandom(1024) * int(flags.get("config.kib", 1)))
    (folder / "manifest.json").touch()
(work / "model" / "model.json").write_text("{}")
(work / "tb" / "events").write_text("")
for n in range(20):
    (work / "samples" / f"{n:06d}.png").write_bytes(b"png")
with open(work / "metrics.jsonl", "a") as log:
    print(json.dumps({"step": step}), file=log)
print(json.dumps({"start": start, "step": step}))
sys.exit(75 if stop else int(flags.get("config.exit", 0)))
"""


# Runs what lease.sh asks of Python beside train: parity and benches that end as the test wants.
CHECKER = """#!/bin/sh
case "$1" in
*/parity.py) exit "${PARITY:-0}" ;;
*/infer.py) exit 3 ;;
*/train_step.py) echo '{"img_per_s": 1}' >"$3" ;;
esac
"""


@pytest.fixture
def lease(tmp_path):
    """lease(workdir, out, minutes, *flags, **environment): the ended process, with `.seconds`."""
    stub = tmp_path / "train.py"
    stub.write_text(STUB)
    config = tmp_path / "config.py"
    config.touch()
    checker = tmp_path / "python"
    checker.write_text(CHECKER)
    checker.chmod(0o755)

    def run(workdir, out, minutes, *flags, **environment):
        defaults = {
            "PYTHON": str(checker),
            "TRAIN": f"{sys.executable} {stub}",
            "CHECKS": "0",
            "SAVE_S": "3",
            "COLLECT_S": "1",
            "JAX_PLATFORMS": "cpu",
        }
        called = environment.pop("CONFIG", config)
        began = time.monotonic()
        done = subprocess.run(
            [LEASE, called, tmp_path / workdir, tmp_path / out, str(minutes), "--", *flags],
            env=os.environ | defaults | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
        )
        done.seconds = time.monotonic() - began
        return done

    return run


def _manifest(out: pathlib.Path) -> str:
    return (out / "MANIFEST.txt").read_text()


def _members(out: pathlib.Path, archive: str) -> set[str]:
    whole = out / f"{archive}.joined"
    whole.write_bytes(b"".join(p.read_bytes() for p in sorted(out.glob(f"{archive}.tar.part*"))))
    with tarfile.open(whole) as tar:
        names = {name.removeprefix("./") for name in tar.getnames()}
    whole.unlink()
    return names


def test_a_run_that_ends_leaves_everything_with_true_checksums(lease, tmp_path):
    done = lease("work", "out", 5, "--config.steps=5", PYTHON=sys.executable)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    files = {p.name for p in out.iterdir()}
    archives = {f"{name}.tar.part00" for name in ("small", "model", "checkpoint")}
    assert files == archives | {"MANIFEST.txt"}
    lines = re.findall(r"^[0-9a-f]{64}  .+$", _manifest(out), re.M)
    sums = dict(reversed(line.split("  ")) for line in lines)
    assert sums == {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("*.part*")}
    assert "best: there is none" in _manifest(out) and "training: exit 0" in _manifest(out)
    assert "Cpu" in (tmp_path / "work" / "lease" / "device.txt").read_text()
    small = _members(out, "small")
    assert {"metrics.jsonl", "lease/train.json", "lease/device.txt", "samples/000019.png"} <= small
    assert "samples/000003.png" not in small  # the newest sixteen
    states = {name for name in _members(out, "checkpoint") if name.endswith("state")}
    assert states == {"checkpoints/5/state"}


def test_the_clock_stops_training_which_saves_and_the_next_lease_goes_on_from_out(lease, tmp_path):
    first = lease("work", "out", 0.25)  # 15 s, of which 4 are kept back
    assert first.returncode == 75, first.stdout + first.stderr
    assert first.seconds < 15 + LATE
    reached = json.loads((tmp_path / "work" / "lease" / "train.json").read_text())["step"]
    assert reached > 5
    (tmp_path / "out").rename(tmp_path / "work2")  # another machine, a new lease
    second = lease("work2", "out2", 5, f"--config.steps={reached + 3}")
    assert second.returncode == 0, second.stdout + second.stderr
    last = (tmp_path / "work2" / "lease" / "train.json").read_text().splitlines()[-1]
    assert json.loads(last) == {"start": reached, "step": reached + 3}
    log = (tmp_path / "work2" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [reached, reached + 3]
    assert not list((tmp_path / "work2").glob("*.part*"))


def test_a_training_that_ignores_the_signal_is_killed_and_the_rest_comes_home(lease, tmp_path):
    done = lease("work", "out", 0.2, "--config.deaf=1", SAVE_S="2")
    assert done.returncode == 2
    assert done.seconds < 12 + LATE
    assert "training: exit 137" in _manifest(tmp_path / "out")
    assert (tmp_path / "out" / "small.tar.part00").exists()


def test_a_training_that_fails_is_told_and_what_there_is_comes_home(lease, tmp_path):
    done = lease("work", "out", 5, "--config.steps=2", "--config.exit=70")
    assert done.returncode == 2
    assert "training: exit 70" in _manifest(tmp_path / "out")
    assert (tmp_path / "out" / "checkpoint.tar.part00").exists()


def test_a_training_that_dies_at_once_leaves_its_log(lease, tmp_path):
    done = lease("work", "out", 5, TRAIN="false")
    assert done.returncode == 2, done.stdout + done.stderr
    manifest = _manifest(tmp_path / "out")
    assert "training: exit 1" in manifest and "checkpoint: there is none" in manifest
    assert "lease/train.txt" in _members(tmp_path / "out", "small")


def test_parts_obey_the_limits_and_what_has_no_room_is_left_out_by_name(lease, tmp_path):
    flags = ("--config.steps=2", "--config.kib=2500")
    assert lease("work", "fits", 5, *flags, PART_MIB="1").returncode == 0
    parts = sorted((tmp_path / "fits").glob("checkpoint.tar.part*"))
    assert len(parts) == 3 and all(p.stat().st_size <= 2**20 for p in parts)
    for name, limit in (("files", {"MAX_FILES": "5"}), ("size", {"MAX_MIB": "2"})):
        assert lease("work", name, 0, PART_MIB="1", **limit).returncode == 0
        assert not list((tmp_path / name).glob("checkpoint*"))
        assert "checkpoint.tar: LEFT OUT" in _manifest(tmp_path / name)
        assert len(list((tmp_path / name).iterdir())) == 3  # MANIFEST.txt, small and model
    alone = {"PART_MIB": "1", "MAX_FILES": "4", "ARCHIVES": "checkpoint"}
    assert lease("work", "alone", 0, **alone).returncode == 0
    assert len(list((tmp_path / "alone").iterdir())) == 4


def test_a_checkpoint_that_was_not_finished_is_not_taken(lease, tmp_path):
    assert lease("work", "out", 5, "--config.steps=2").returncode == 0
    (tmp_path / "work" / "checkpoints" / "10").mkdir()  # killed before its manifest was written
    assert lease("work", "again", 0).returncode == 0
    names = _members(tmp_path / "again", "checkpoint")
    assert {name.split("/")[1] for name in names} == {"2"}


def test_a_damaged_part_is_refused_before_anything_is_unpacked(lease, tmp_path):
    assert lease("work", "out", 5, "--config.steps=2").returncode == 0
    part = tmp_path / "out" / "checkpoint.tar.part00"
    content = bytearray(part.read_bytes())
    content[700] ^= 1
    part.write_bytes(content)
    done = lease("out", "out2", 5, "--config.steps=4")
    assert done.returncode == 1 and "differ from their MANIFEST.txt" in done.stderr
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "needs CONFIG, WORKDIR and OUT"),
        (("none.py", "w", "o"), "no config 'none.py'"),
        (("{config}", "w", "o", "soon"), "MINUTES is 'soon'"),
        (("{config}", "w", "o", "5", "--config.steps=2"), "flags of train come after --"),
        (("{config}", "w", "{full}"), "is not empty"),
    ],
)
def test_a_wrong_call_is_one_line_and_starts_nothing(tmp_path, arguments, complaint):
    (tmp_path / "config.py").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    names = {"config": tmp_path / "config.py", "full": tmp_path / "full"}
    done = subprocess.run(
        [LEASE, *(argument.format(**names) for argument in arguments)],
        cwd=tmp_path,
        env=os.environ | {"TRAIN": f"touch {tmp_path}/trained"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and complaint in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "trained").exists()


@pytest.mark.parametrize(("parity", "code"), [("0", 0), ("1", 2)])
def test_a_failed_parity_is_exit_code_2_and_a_failed_bench_is_only_recorded(
    lease, tmp_path, parity, code
):
    done = lease("work", "out", 5, "--config.steps=2", PARITY=parity, CHECKS="1")
    assert done.returncode == code, done.stdout + done.stderr
    manifest = _manifest(tmp_path / "out")
    assert f"check parity: exit {parity}" in manifest and "training: exit 0" in manifest
    assert "check infer: exit 3" in manifest and "check train_step: exit 0" in manifest
    assert "lease/train_step.json" in _members(tmp_path / "out", "small")


def test_checks_run_on_a_new_run_and_not_on_one_that_goes_on(lease, tmp_path):
    for out, checked in (("out", True), ("out2", False)):
        assert lease("work", out, 5, "--config.steps=2", CHECKS="").returncode == 0
        assert ("check parity" in _manifest(tmp_path / out)) is checked


@pytest.mark.slow
def test_the_real_train_is_stopped_by_the_clock_and_goes_on_from_out(lease, tmp_path):
    """The time a first run of two steps takes, compilation included, says how long a lease is."""
    config = ROOT / "configs" / "demo.py"
    train = [sys.executable, "-m", "artifygan_jax.train"]
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "",  # one device, as batch 2 needs it, and not the eight of the test process
    }
    flags = ("--config.batch_size=2", "--config.log_every=1")
    began = time.monotonic()
    alone = [*train, f"--config={config}", f"--workdir={tmp_path}/alone", *flags]
    subprocess.run([*alone, "--config.steps=2"], env=os.environ | environment, check=True)
    needed = time.monotonic() - began

    save_s = int(needed) + 20  # the end of a process, too, takes as long as the machine is loaded
    environment |= {"CONFIG": config, "TRAIN": " ".join(train), "SAVE_S": str(save_s)}
    minutes = f"{(2 * needed + save_s + 1) / 60:.2f}"
    first = lease("work", "out", minutes, *flags, "--config.steps=1000000", **environment)
    assert first.returncode == 75, first.stdout + first.stderr
    (step,) = {name.split("/")[1] for name in _members(tmp_path / "out", "checkpoint")}
    bundle = {"model/model.json", "model/model.safetensors"}
    assert int(step) > 2 and bundle <= _members(tmp_path / "out", "model")

    (tmp_path / "out").rename(tmp_path / "work2")
    last = int(step) + 2
    second = lease("work2", "out2", 5, *flags, f"--config.steps={last}", **environment)
    assert second.returncode == 0, second.stdout + second.stderr
    summary = (tmp_path / "work2" / "lease" / "train.json").read_text().splitlines()[-1]
    assert json.loads(summary)["resumed_from"] == int(step)
    lines = (tmp_path / "work2" / "metrics.jsonl").read_text().splitlines()
    steps = {json.loads(line)["step"] for line in lines}
    assert set(range(1, last + 1)) <= steps


def test_parity_on_the_cpu_says_that_it_compares_nothing():
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / "parity.py", "--size", "32"],
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing is compared" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["difference"] == 0


def test_parity_measures_the_largest_difference_relative_to_the_largest_number():
    a = {"x": np.array([1.0, 4.0]), "y": np.array([0.0, 0.1])}
    b = {"x": np.array([1.0, 4.0]), "y": np.array([0.0, 0.5])}
    assert difference(a, a) == 0
    assert difference(a, b) == pytest.approx(0.1)
    assert difference({"x": np.array([np.nan])}, {"x": np.array([1.0])}) == float("inf")
