"""Whole runs, shrunk: every config, kill and resume, devices, bad calls."""

import importlib.util
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from artifygan_jax import bundle, checkpoint, cli, train
from artifygan_jax.data import streams
from artifygan_jax.data.faces import Faces
from artifygan_jax.data.streams import Stream
from artifygan_jax.errors import UserError
from tests.conftest import ROOT
from tests.shrink import PX, shrink

CONFIGS = sorted(p.stem for p in (ROOT / "configs").glob("[a-z]*.py"))
OTHERS = {  # variants beside the default one
    "artifygan": ["selfie2anime", "half", "anime_faces"],
    "animegan": ["shinkai"],
    "animegan2": ["paprika", "shinkai", "lite", "selfie2anime", "small"],
    "animegan_finetune": ["v2", "selfie2anime"],
    "cartoon_stylegan": ["freezeg", "freezesg", "structure", "small64"],
    "encoder": ["small64"],
    "jojogan": ["colour", "small64"],
    "jojogan_deck": ["small64"],
    "stylegan2_ada": ["paper512", "paper1024", "stylegan2", "auto", "small64"],
    "attributes": ["small64"],
}
OWN_NETS = {"encoder": "encoder", "attributes": "classifier"}  # of methods without a generator


def get_config(name, variant=None):
    spec = importlib.util.spec_from_file_location(f"config_{name}", ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*([variant] if variant else []))


def small(name="demo", variant=None, **changes):
    cfg = shrink(get_config(name, variant))
    for field, value in changes.items():
        setattr(cfg, field, value)
    return cfg


def lines(workdir, name="metrics.jsonl"):
    return [json.loads(line) for line in (workdir / name).read_text().splitlines()]


def leaves(workdir, step):
    folder = workdir / "checkpoints" / str(step) / "state"
    return jax.tree.map(np.asarray, ocp.PyTreeCheckpointer().restore(folder.absolute()))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_runs_shrunk_and_moves_every_trained_net(name, tmp_path):
    cfg = small(name)
    engine, _ = train.build(cfg, devices=1)
    first = {n: {k: np.asarray(x) for k, x in p.items()} for n, p in engine.init().params.items()}
    summary, code = train.run(cfg, tmp_path, devices=1)
    assert code == cli.DONE and summary["steps"] == cfg.steps
    runs = {p.name: sum(p.due(k) for k in range(cfg.steps)) for p in engine.phases}
    assert min(runs.values()) >= 2
    seen = {key.split("/")[0] for line in lines(tmp_path) for key in line}
    assert {p.name for p in engine.phases} <= seen
    assert all(np.isfinite(v) for line in lines(tmp_path) for v in line.values())
    last = leaves(tmp_path, cfg.steps)
    for net, params in first.items():
        for path, before in params.items():
            after = next(
                x for k, x in last.items() if f"params['{net}']['{path}']".replace("/", ".") in k
            )
            moved = (np.asarray(after) != before).any()
            assert moved == (path not in engine.fixed[net]), f"{net} {path}: moved is {moved}"
    net, card = bundle.load(tmp_path / "model")
    assert card["trained"]["step"] == cfg.steps
    assert card["net"] == OWN_NETS.get(name, "generator")
    for folder in ("tb",) if name == "attributes" else ("samples", "tb"):
        assert list((tmp_path / folder).iterdir())
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == cfg.steps


@pytest.mark.parametrize(
    ("name", "variant"), [(name, v) for name, variants in OTHERS.items() for v in variants]
)
def test_every_other_variant_is_one_that_can_be_trained(name, variant):
    """Nets, phases, optimisers, averages and data fit each other; the default variant is run above."""
    text = (ROOT / "configs" / f"{name}.py").read_text()
    assert f"* {variant}" in text or f", {variant}" in text, "the docstring leaves it out"
    cfg = small(name, variant)
    engine, _ = train.build(cfg, devices=1)
    streams.Batches(cfg.data, cfg.batch_size)
    wanted = {"g"} if name == "jojogan" else {OWN_NETS[name]} if name in OWN_NETS else {"d", "g"}
    assert {p.name for p in engine.phases if p.due(cfg.steps - 1)} >= wanted
    params = {net: set(p) for net, p in engine.init().params.items() if p}
    assert all(paths - engine.fixed[net] for net, paths in params.items())


def test_the_bundle_is_what_the_averaged_generator_makes(tmp_path):
    cfg = small()
    engine, mesh = train.build(cfg, devices=1)
    train.run(cfg, tmp_path, devices=1)
    net, _ = bundle.load(tmp_path / "model")
    saved = leaves(tmp_path, cfg.steps)
    for path, x in bundle.variables(net).items():
        key = next(k for k in saved if f"ema['g']['{path}']".replace("/", ".") in k)
        np.testing.assert_array_equal(np.asarray(x), saved[key])


RUN = """
import os, shutil, sys, jax
sys.path.insert(0, {root!r})
import tests.conftest
from artifygan_jax import cli, train
from tests.test_train import small
import logging, pathlib
logging.basicConfig(level=logging.INFO, force=True)
logging.getLogger("absl").setLevel(logging.WARNING)
cfg = small({name!r}, steps={steps}, checkpoint_every=3)
if hasattr(cfg.method, "source"):  # made anew by every process, but a run goes on with what it had
    source = {workdir!r} + ".source"
    os.path.isdir(source) or shutil.move(cfg.method.source, source)
    cfg.method.source = source
summary, code = train.run(cfg, pathlib.Path({workdir!r}), devices=1)
sys.exit(code)
"""


def start(workdir, steps=24, name="demo"):
    code = RUN.format(root=str(ROOT), workdir=str(workdir), steps=steps, name=name)
    with open(f"{workdir}.stderr", "w") as said:  # no pipe: one that nobody reads stops the run
        return subprocess.Popen([sys.executable, "-c", code], stderr=said)


def said_by(workdir):
    return pathlib.Path(f"{workdir}.stderr").read_text()


def wait_for(condition, process, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the run did not get so far"
        if process.poll() is not None:
            return False
        time.sleep(0.002)
    return True


def steps_done(workdir):
    path = workdir / "timing.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def saving(workdir):
    return any((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))


def saved(workdir):
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


@pytest.mark.slow
def test_a_run_killed_at_three_random_steps_once_while_saving_is_bit_equal(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert start(straight).wait() == 0
    rng = random.Random(0)
    moments = sorted(rng.sample(range(4, 22), 3))
    for index, step in enumerate(moments):
        process = start(killed)
        assert wait_for(lambda step=step: steps_done(killed) >= step, process)
        if index == 1:
            assert wait_for(lambda: saving(killed), process), "no save was seen after that step"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    process = start(killed)
    assert process.wait() == 0
    assert "resuming at step" in said_by(killed)
    a, b = leaves(straight, 24), leaves(killed, 24)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert lines(straight) == lines(killed)
    assert not saving(killed)


@pytest.mark.slow
def test_a_killed_stylegan2_goes_on_bit_equal_with_its_augmentation(tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert start(straight, 16, "cartoon_stylegan").wait() == 0
    process = start(killed, 16, "cartoon_stylegan")
    assert wait_for(lambda: saved(killed) and steps_done(killed) >= 5, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert start(killed, 16, "cartoon_stylegan").wait() == 0
    assert "resuming at step" in said_by(killed)
    a, b = leaves(straight, 16), leaves(killed, 16)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    assert lines(straight) == lines(killed)
    for remembered in ("['ada']['p']", "['path']['mean']", "['g']['mapping.w_avg']"):
        assert any(remembered in name for name in a), remembered
    p = next(x for name, x in a.items() if "['ada']['p']" in name)
    assert p not in (0.0, 0.5)  # it is on, and has moved


@pytest.mark.slow
def test_sigterm_saves_exits_75_and_the_run_goes_on(tmp_path):
    process = start(tmp_path / "run", steps=2000)
    assert wait_for(lambda: steps_done(tmp_path / "run") >= 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == cli.STOPPED_EARLY
    message = said_by(tmp_path / "run")
    assert "stopped and saved at step" in message and "to go on: python -m" in message
    done = lines(tmp_path / "run")[-1]["step"]
    summary, code = train.run(
        small(steps=done + 2, checkpoint_every=3), tmp_path / "run", devices=1
    )
    assert code == cli.DONE and summary["resumed_from"] >= done


@pytest.mark.parametrize(
    "name", ["demo", "cartoon_stylegan", "encoder", "attributes", "jojogan_deck"]
)
def test_one_and_eight_devices_agree(name, tmp_path):
    results = []
    for devices in (1, 8):
        cfg = small(name, steps=5)
        for adam in cfg.optim.values():
            # Adam divides by a gradient's own size: where that is rounding noise (a bias before an
            # instance norm) it moves by the full rate, at random. With a large eps the moves are
            # proportional to the gradients, which is what must agree.
            adam.eps, adam.lr = 1.0, 2e-4
        train.run(cfg, tmp_path / str(devices), devices=devices)
        results.append((leaves(tmp_path / str(devices), 5), lines(tmp_path / str(devices))))
    (a, log_a), (b, log_b) = results
    for name in a:
        x, y = np.asarray(a[name], np.float64), np.asarray(b[name], np.float64)
        # 1e-5 relative after five steps (decisions 5), in norm; noise itself is about 1e-6.
        assert np.linalg.norm(x - y) <= 1e-5 * np.linalg.norm(x) + 2e-6 * np.sqrt(x.size), name
    for left, right in zip(log_a, log_b, strict=True):
        assert left.keys() == right.keys()
        for key in left:
            # Evaluations see pictures rounded to bytes, where a pixel may fall on the other side.
            # R1 squares gradients: each picture's error twice, in a mean of few.
            rtol = {"random_vgg_frechet": 1e-4, "r1": 1e-5}.get(key.split("/")[0], 1e-6)
            np.testing.assert_allclose(left[key], right[key], rtol=rtol, err_msg=key)


def test_a_run_on_one_device_goes_on_on_eight(tmp_path):
    train.run(small(steps=3), tmp_path, devices=1)
    summary, code = train.run(small(steps=5), tmp_path, devices=8)
    assert code == cli.DONE and summary["resumed_from"] == 3


def test_a_loss_that_is_not_finite_stops_the_run_with_step_and_batch_named(tmp_path, capsys):
    cfg = small(steps=8, checkpoint_every=2, log_every=1)
    content_loss, calls = cfg.method.d_loss, []

    def broken(nets, batch, key):
        loss, metrics = content_loss(nets, batch, key)
        calls.append(1)
        return loss * np.inf, metrics

    cfg.method.d_loss = broken  # D joins at step 2
    summary, code = train.run(cfg, tmp_path, devices=1)
    assert code == cli.INTERNAL and calls
    assert summary["step"] == 2 and summary["last_good_checkpoint"] == 2
    error = capsys.readouterr().err
    assert "step 2 is not finite" in error and "photo-0000" in error
    report = json.loads((tmp_path / "not_finite.json").read_text())
    assert len(report["batch"]["photo"]) == 8
    kept = leaves(tmp_path, 2)
    assert all(np.isfinite(x).all() for x in kept.values())


def test_best_by_metric_is_kept_beside_the_latest(tmp_path):
    cfg = small(steps=8, checkpoint_every=2, keep=1, best="random_vgg_frechet/distance")
    train.run(cfg, tmp_path, devices=1)
    rows = [line for line in lines(tmp_path) if cfg.best in line and line["step"]]
    best = min(rows, key=lambda line: line[cfg.best])["step"]
    steps = {int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()}
    assert steps == {best, 8}
    assert bundle.read_card(tmp_path / "best")["trained"]["step"] == best


def test_a_finished_run_says_that_it_resumes_and_trains_no_more(tmp_path, caplog):
    train.run(small(steps=4), tmp_path, devices=1)
    before = (tmp_path / "metrics.jsonl").read_text()
    with caplog.at_level("INFO"):
        summary, code = train.run(small(steps=4), tmp_path, devices=1)
    assert code == cli.DONE and summary["resumed_from"] == 4
    assert "resuming at step 4 of 4" in caplog.text
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_a_second_run_in_the_same_workdir_is_refused(tmp_path):
    with (
        checkpoint.lock(tmp_path),
        pytest.raises(UserError, match=f"in use by process {os.getpid()}"),
    ):
        train.run(small(), tmp_path, devices=1)


def test_changed_config_needs_override_and_changed_architecture_is_refused(tmp_path):
    train.run(small(steps=2), tmp_path, devices=1)
    faster = small(steps=4)
    faster.optim["g"].lr = 1e-3
    with pytest.raises(UserError, match=r"optim.g.lr: 0.0004 -> 0.001.*--resume_override"):
        train.run(faster, tmp_path, devices=1)
    assert train.run(faster, tmp_path, devices=1, resume_override=True)[1] == cli.DONE
    wider = small(steps=4)
    wider.method.generator.channels = 6
    with pytest.raises(UserError, match="another architecture"):
        train.run(wider, tmp_path, devices=1, resume_override=True)
    assert train.run(wider, tmp_path, devices=1, restart=True)[0]["resumed_from"] is None


def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_used(tmp_path, caplog):
    train.run(small(steps=4, checkpoint_every=2), tmp_path, devices=1)
    largest = max(
        (tmp_path / "checkpoints" / "4").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size
    )
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    summary, _ = train.run(small(steps=6, checkpoint_every=2), tmp_path, devices=1)
    assert summary["resumed_from"] == 2
    assert "checkpoint 4 is damaged" in caplog.text
    assert (tmp_path / "checkpoints" / "4.damaged").is_dir()


def test_a_start_from_a_bundle_begins_with_its_weights(tmp_path):
    train.run(small(steps=2), tmp_path / "a", devices=1)
    cfg = small(init_from={"g": str(tmp_path / "a" / "model")})
    engine, _ = train.build(cfg, devices=1)
    net, _ = bundle.load(tmp_path / "a" / "model")
    for path, x in bundle.variables(net).items():
        np.testing.assert_array_equal(engine.init().params["g"][path], x)
    cfg.method.generator.channels = 6
    with pytest.raises(UserError, match="does not fit net 'g'"):
        train.build(cfg, devices=1)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config=demo", "--config.stepss=3"], "there is no 'stepss' .did you mean 'steps'"),
        (["--config=demo", "--config.method.generator.chanels=3"], "did you mean 'channels'"),
        (["--config=demo", "--config.optim.q.lr=3"], "there is no 'q'.*allowed are g, d"),
        (["--config=demo", "--config.steps=many"], "many"),
        (["--config=demo", "--config.steps=1.5"], "1.5"),
        (["--config=dem"], "did you mean 'demo'"),
        (["--config=configs/no.py"], "no config at"),
        (["--config=artifygan:selfie"], "selfie"),
        (["--config=demo", "--restrat"], "restrat"),
        (["--config=demo", "--config.batch_size=0"], "batch_size"),
        (["--config=demo", "--config.steps=0"], "steps is 0"),
        (["--config=demo", "--config.dtype=float16"], "float16"),
        (["--config=demo", "--config.method.generator.decoder=leen"], "did you mean 'lean'"),
        (["--config=demo", "--config.data.photo.crop=65"], "crop 65"),
        (["--config=demo", "--config.optim.g.freeze=('nothing',)"], "match no parameter: nothing"),
    ],
)
def test_a_wrong_call_is_one_line_and_writes_nothing(arguments, words, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(UserError, match=words) as error:
        train.main([*arguments, f"--workdir={workdir}"])
    assert "\n" not in str(error.value).strip()
    assert not workdir.exists()


@pytest.mark.smoke
def test_a_wrong_call_ends_with_code_1_and_one_line(tmp_path):
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "artifygan_jax.train", "--config=demo", "--config.stepss=3"]
    result = subprocess.run([*command, f"--workdir={workdir}"], capture_output=True, text=True)
    assert result.returncode == 1 and not workdir.exists()
    assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1


def test_a_batch_that_the_devices_do_not_divide_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="batch_size 6 does not divide over 8 devices"):
        train.run(small(batch_size=6), tmp_path / "run", devices=8)
    assert not (tmp_path / "run").exists()


def test_an_empty_folder_is_refused_before_anything_is_written(tmp_path):
    from artifygan_jax.data.pictures import Pictures

    (tmp_path / "empty").mkdir()
    cfg = small()
    cfg.data["photo"] = Stream(Pictures(str(tmp_path / "empty")), size=PX)
    with pytest.raises(UserError, match="empty"):
        train.run(cfg, tmp_path / "run", devices=1)
    assert not (tmp_path / "run").exists()


def test_overrides_reach_nested_fields(tmp_path):
    args = train.parse(
        [
            "--config=demo",
            "--config.method.content.layers=('edges8',)",
            "--config.data.photo.size=48",
            "--config.optim.g.lr=1e-5",
            f"--workdir={tmp_path}",
        ]
    )
    assert args.config.method.content.layers == ("edges8",)
    assert args.config.data["photo"].size == 48
    assert args.config.optim["g"].lr == 1e-5


def test_dry_run_reports_sizes_and_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    summary, code = train.main(
        ["--config=artifygan:half", "--dry_run", "--config.batch_size=8"]
        + ["--config.method.content.net=random:squeezenet"]
    )
    assert code == cli.DONE and not list(tmp_path.iterdir())
    assert summary["parameters"]["g"] == 3_336_003
    assert summary["batch"]["photo"]["shape"] == (8, 108, 108, 3)
    # G at 96 px is 15.112 GMAC x (96/256)^2; its update costs about three forwards and D's one.
    assert 3 * 2.125 < summary["gmac_per_image"]["g"] < 4 * 2.125
    assert summary["memory_estimate_gib_per_device"] > 0
    json.dumps(summary)


def test_help_shows_every_flag(capsys):
    with pytest.raises(SystemExit):
        train.main(["--help"])
    out = capsys.readouterr().out
    for flag in ("--config", "--workdir", "dry_run", "resume_override", "restart"):
        assert flag in out


def test_gradient_accumulation_and_bfloat16_run(tmp_path):
    summary, code = train.run(small(accumulate=2, dtype="bfloat16"), tmp_path, devices=1)
    assert code == cli.DONE
    assert all(np.isfinite(v) for line in lines(tmp_path) for v in line.values())


def test_faces_stand_in_for_every_stream_of_the_shrunk_deck():
    cfg = small("artifygan", "deck")
    assert all(isinstance(s, Faces) for s in cfg.data["photo"].source.sources)
