"""Every benchmark runs with tiny arguments and reports what it promises; its rival does our work.

No number of these runs is a result. The children run with one thread and a compilation cache.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

sys.path.append(str(ROOT / "bench"))
import _common as common

REPORT = {"bench", "environment", "arguments", "runs", "load_after"}
TINY = ("--rounds=1", "--threads=1", "--gemm=64")
CASES = {
    "peak": (("--copy_mb=1",), {"what", "engine", "value", "unit"}),
    "infer": (
        ("--model=cartoongan", "--size=32", "--batch=1", "--channels=4"),
        {"model", "size", "batch", "contender", "ms_per_image", "images_per_s", "ratio"}
        | {"gmac_per_image", "peak"},
    ),
    "train_step": (
        ("--size=32", "--batch=2", "--channels=4", "--content=random:pyramid", "--layer=blur4"),
        {"model", "size", "batch", "contender", "ms_per_step", "images_per_s", "ratio"}
        | {"gmac_per_image", "mfu"},
    ),
    "conv_layers": (
        ("--size=32", "--channels=4", "--layers=g/up/0/conv1"),
        {"model", "layer", "shape", "direction", "contender", "gflops", "peak", "ratio"},
    ),
    "data": (
        ("--size=32", "--batch=2", "--count=2", "--steps=2", "--grain=1"),
        {"path", "images_per_s", "ms_per_image", "faster"},
    ),
    "prepare": (
        ("--size=32", "--count=2"),
        {"source", "task", "way", "images_per_s", "ratio", "differs"},
    ),
    "inception_fid": (
        ("--batch=1", "--size=32", "--count=2", "--width=16"),
        {"what", "batch", "contender", "ms", "images_per_s", "peak", "ratio"},
    ),
    "modconv": (
        ("--sizes=4x4x4", "--batch=2", "--forms=library,scaled,vmap"),
        {"what", "direction", "form", "ms", "gmac_forward", "ratio"},
    ),
    "upfirdn": (
        ("--sizes=8x4x4", "--batch=2", "--forms=library,matrices"),
        {"what", "direction", "form", "ms", "gmac_forward", "ratio"},
    ),
    "r1": (
        ("--size=8", "--batch=2", "--base=32"),
        {"what", "size", "batch", "contender", "ms", "ratio"},
    ),
    "compile_time": (
        ("--size=32", "--batch=2", "--channels=4"),
        {"config", "cache", "build", "content", "d_and_g", "rest", "total"},
    ),
}
TINY_CONFIG = """
import importlib.util
from artifygan_jax import config


def get_config():
    spec = importlib.util.spec_from_file_location("demo", config.find("demo"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cfg = module.get_config()
    cfg.method.generator.blocks = 1
    return cfg
"""


def call(name, *flags):
    """(exit code, stdout, stderr) of a benchmark in a process of its own."""
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax")}
    env.pop("XLA_FLAGS", None)  # the suite's eight devices are none of a benchmark's business
    command = [sys.executable, str(ROOT / "bench" / f"{name}.py"), *flags]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_last_line_is_a_report_with_the_promised_columns(name, tmp_path):
    flags, columns = CASES[name]
    file = tmp_path / "report.json"
    if name == "compile_time":
        config = tmp_path / "tiny.py"
        config.write_text(TINY_CONFIG)
        flags = (*flags, f"--config={config}")
    alone = ("peak", "conv_layers", "prepare", "modconv", "upfirdn")
    torch = () if name in alone else ("--no_torch",)
    code, out, err = call(name, *TINY, "--no_compile", *torch, *flags, f"--json={file}")
    assert code == 0, err
    report = json.loads(out.splitlines()[-1])
    assert report.keys() == REPORT and report["bench"] == name
    assert json.loads(file.read_text()) == report
    (run,) = report["runs"]
    assert run["metric"] == "cpu" and run["threads"] == 1
    assert run["rows"] and all(row.keys() == columns for row in run["rows"])
    measured = [v for row in run["rows"] for v in row.values() if isinstance(v, float)]
    assert measured and all(np.isfinite(measured))
    assert "--no_torch" in str(run["notes"]) or not torch or name == "compile_time"


def test_flag_that_a_benchmark_does_not_have_is_one_line_and_exit_code_1():
    code, out, err = call("peak", "--round=1")
    assert (code, out) == (1, "")
    assert err.startswith("error: unknown argument '--round' (did you mean '--rounds'?)")
    assert err.count("\n") == 1


def test_every_benchmark_is_in_the_readme_and_in_this_test():
    scripts = {p.stem: p.read_text() for p in (ROOT / "bench").glob("[a-z]*.py")}
    text = (ROOT / "bench" / "README.md").read_text()
    assert {name for name, code in scripts.items() if "common.main(" in code} == CASES.keys()
    assert [name for name in scripts if f"`{name}.py`" not in text] == []


def test_contenders_are_called_in_turn_and_the_median_of_the_rounds_is_given(monkeypatch):
    now, order = [0.0], []
    costs = {"a": [9, 9, 1, 2, 30], "b": [9, 9, 4, 4, 4]}

    def contender(name):
        def run():
            order.append(name)
            now[0] += costs[name].pop(0)

        return run

    monkeypatch.setitem(common.CLOCKS, "cpu", lambda: now[0])
    found = common.interleave({n: contender(n) for n in costs}, rounds=3, metric="cpu")
    assert found == {"a": 2, "b": 4}
    assert order == ["a", "a", "b", "b", *"ababab"]  # compiled, counted, then rounds


def test_contender_that_a_machine_lacks_leaves_its_reason_in_the_notes():
    args = common.argparse.Namespace(no_compile=False)
    contenders, notes = {}, []

    def make():
        raise RuntimeError("no compiler\nand more")

    common.add_compiled(contenders, notes, args, make)
    assert contenders == {} and notes == ["no torch.compile row: RuntimeError: no compiler"]
    common.add_compiled(contenders, notes, args, lambda: lambda: None)
    assert list(contenders) == ["torch.compile"]


@pytest.mark.slow
@pytest.mark.parametrize("model", (*common.MODELS, "animegan2"))
def test_torch_rival_has_the_losses_of_the_first_two_steps_of_our_engine(model):
    pytest.importorskip("torch")
    import torch_reference as reference
    import train_step

    flags = dict(content="random:vgg", layer="conv2_1", dtype="float32", accumulate=2, channels=4)
    args = common.argparse.Namespace(**flags)
    cfg = train_step.experiment(args, model, size=32, batch=4)
    if model in common.MODELS:
        cfg.method.generator.blocks = 2
    batch = common.noise(cfg)
    ours = train_step.Ours(cfg, batch)
    rival = reference.Step(
        *(cfg.method, cfg.optim, ours.arrays()), device="cpu", dtype="float32", accumulate=2
    )
    pictures = {k: reference.pictures(x, "cpu") for k, x in batch.items()}
    # The second step also says that both moved alike; float32 sums in another order.
    for _ in range(2):
        theirs = [float(x) for x in rival(pictures)]
        np.testing.assert_allclose(ours.losses(), theirs, rtol=1e-4)


@pytest.mark.slow
def test_layers_refuse_to_be_timed_against_a_rival_that_computes_something_else(monkeypatch):
    pytest.importorskip("torch")
    import conv_layers

    args = common.argparse.Namespace(no_torch=False, dtype="float32")
    layer = conv_layers.ops.Conv(3, 4, 3, padding="reflect", rngs=conv_layers.nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    conv_layers.directions(args, layer, x)
    right = conv_layers.theirs(layer, x, "eager", "float32")
    wrong = right | {"dgrad": lambda: 1.01 * right["dgrad"]()}
    monkeypatch.setattr(conv_layers, "theirs", lambda *_: wrong)
    with pytest.raises(RuntimeError, match="differ by 9.90e-03"):
        conv_layers.directions(args, layer, x)


def test_jojogans_iteration_has_the_first_loss_of_torch():
    pytest.importorskip("torch")
    how = ("--model=jojogan", "--size=32", "--batch=2", "--channels=4")
    code, out, err = call("train_step", *TINY, "--no_compile", *how)
    assert code == 0, err
    (run,) = json.loads(out.splitlines()[-1])["runs"]
    wanted = ["jax engine", "torch eager", "torch, target each step"]
    assert [row["contender"] for row in run["rows"]] == wanted
    assert all(row["ms_per_step"] > 0 and row["model"] == "jojogan" for row in run["rows"])
    assert "agrees with torch" in str(run["notes"]) and "300 iterations" in str(run["notes"])
