"""Logs: what a resumed run keeps, and what a reader can rely on."""

import io
import json
import struct
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from artifygan_jax import logs
from artifygan_jax.logs import Log, Progress


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def lines(workdir, name="metrics.jsonl"):
    text = (workdir / name).read_text()
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def events(workdir):
    """Every event of the TensorBoard files: frames of length, checksum, bytes, checksum."""
    found = []
    for path in sorted((workdir / "tb").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(event_pb2.Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def write(workdir, steps, keep_to=0):
    log = Log(workdir, keep_to=keep_to)
    for step in steps:
        log.write(step, {"g/loss": step / 10})
        log.write_rate(step, 5.0)
    log.close()


def test_numbers_of_any_kind_are_written_as_plain_ones(tmp_path):
    log = Log(tmp_path)
    log.write(3, {"a": jnp.float32(0.5), "b": np.float64(0.1), "c": 2})
    log.write(4, {})
    log.close()
    assert lines(tmp_path) == [{"step": 3, "a": 0.5, "b": 0.1, "c": 2.0}]


def test_numbers_that_are_not_finite_stay_valid_json_and_keep_their_name(tmp_path):
    log = Log(tmp_path)
    log.write(1, {"a": float("nan"), "b": jnp.inf, "c": -jnp.inf, "d": 1.0})
    log.close()
    assert lines(tmp_path) == [{"step": 1, "a": "nan", "b": "inf", "c": "-inf", "d": 1.0}]


def test_each_line_is_on_disk_before_the_next(tmp_path):
    log = Log(tmp_path)
    log.write(1, {"a": 1})
    assert lines(tmp_path) == [{"step": 1, "a": 1.0}]
    log.close()


def test_lines_after_the_resumed_step_are_dropped_in_both_files(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3], keep_to=2)
    for name in ("metrics.jsonl", "timing.jsonl"):
        assert [line["step"] for line in lines(tmp_path, name)] == [1, 2, 3]


def test_a_run_from_the_start_drops_all(tmp_path):
    write(tmp_path, [0, 1, 2])
    write(tmp_path, [0])
    assert [line["step"] for line in lines(tmp_path)] == [0]


@pytest.mark.parametrize("tail", ['{"step": 2, "g/lo', '{"step": 2', "\0\0\0\0", "{}"])
def test_half_a_line_at_the_end_is_dropped(tail, tmp_path):
    write(tmp_path, [1, 2])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(tail)
    write(tmp_path, [3], keep_to=2)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]


def test_lines_that_stay_do_not_change_by_a_byte(tmp_path):
    write(tmp_path, [1, 2, 3])
    before = (tmp_path / "metrics.jsonl").read_text()
    write(tmp_path, [], keep_to=3)
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_tensorboard_gets_the_numbers_and_hides_steps_after_the_resumed_one(tmp_path):
    write(tmp_path, [1, 2, 3])
    time.sleep(1.1)  # its files are named by the second
    write(tmp_path, [3], keep_to=2)
    scalars = [(e.step, v.tag) for e in events(tmp_path) for v in e.summary.value]
    assert [step for step, tag in scalars if tag == "g/loss"] == [1, 2, 3, 3]
    assert [step for step, tag in scalars if tag == "images_per_s"] == [1, 2, 3, 3]
    starts = [e.step for e in events(tmp_path) if e.HasField("session_log")]
    assert starts == [3]  # steps from 3 on of older files are hidden, step 2 is not


def test_latest_holds_the_last_number_of_each_name(tmp_path):
    log = Log(tmp_path)
    log.write(1, {"a": 1, "b": 2})
    log.write(2, {"a": 3})
    log.close()
    assert log.latest == {"a": 3.0, "b": 2.0}


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    return now


def test_progress_off_a_terminal_is_one_plain_line_a_report(tmp_path, capsys, clock):
    log, progress = Log(tmp_path), Progress(0, 40, batch_size=8)
    log.write(10, {"g/loss": 0.123456, "g/grad_norm": 7})
    clock[0] += 20
    progress.show(10, log)
    error = capsys.readouterr().err
    assert error == "step 10/40 4.0 images/s, 1.0 min left, g/loss 0.1235\n"
    assert lines(tmp_path, "timing.jsonl")[0]["images_per_s"] == 4.0
    log.close()


def test_progress_on_a_terminal_is_a_bar(tmp_path, monkeypatch, clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    log, progress = Log(tmp_path), Progress(4, 40, batch_size=8)
    clock[0] += 1
    progress.show(10, log)
    assert progress.bar.n == 10 and "/40" in sys.stderr.getvalue()
    progress.bar.close()
    log.close()


def test_the_rate_leaves_out_the_first_lap_where_there_are_others(tmp_path, clock):
    log, progress = Log(tmp_path), Progress(0, 40, batch_size=8)
    assert progress.rate(0) is None
    clock[0] += 80  # compiles
    progress.show(10, log)
    assert progress.rate(10) == 1.0
    clock[0] += 10
    progress.show(20, log)
    assert progress.rate(20) == 8.0
    log.close()
