"""What every benchmark shares: flags, contenders in turn, the peak of the machine, tables, JSON.

A script gives `main` a function `measure(args, metric) -> {"rows": [...], "notes": [...]}`. On CPU
the script is run as its own child, once for each value of `--threads`, held to so many cores. With
one thread the metric is "cpu", CPU time of the whole process, which other programs on the machine
hardly touch and by which ratios are judged; with more it is "wall". Other backends: once, "wall".
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from artifygan_jax import cli, train
from artifygan_jax.data.streams import Smoothed, Stream
from artifygan_jax.errors import UserError
from artifygan_jax.nets import ops

CHILD = "ARTIFYGAN_BENCH_THREADS"
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}
MODELS = {"artifygan": "artifygan:deck", "cartoongan": "cartoongan"}  # name -> config
# Content networks of the configs that have to be fetched: the same layers, with random weights.
RANDOM = {
    "vgg19": ("random:vgg", "{}"),
    "vgg16": ("random:vgg", '{"depth": 16}'),
    "squeezenet": ("random:squeezenet", "{}"),
}

Measure = Callable[[argparse.Namespace, str], dict[str, Any]]
Contenders = dict[str, Callable[[], Any]]


def main(
    doc: str | None,
    options: Callable[[argparse.ArgumentParser], None],
    measure: Measure,
    *,
    host: bool = False,
) -> None:
    """Runs a benchmark as a command. `host`: it measures the host's processor on every backend."""
    cli.run(lambda argv: (bench(argv, doc, options, measure, host), cli.DONE))


def bench(
    argv: Sequence[str], doc: str | None, options, measure: Measure, host: bool
) -> dict[str, Any]:
    """The report of one benchmark; prints its tables, and writes it to `--json`."""
    parser = cli.Parser(description=doc)
    parser.add_argument("--rounds", type=int, default=7, help="samples of each contender (7)")
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="on CPU (1,2)")
    parser.add_argument("--gemm", type=int, default=0, help="side of the peak's matrices (0: auto)")
    parser.add_argument("--no_torch", action="store_true", help="leave the torch rows out")
    parser.add_argument("--no_compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", type=pathlib.Path, help="also write the report to this file")
    options(parser)
    args = parser.parse_args(argv)
    if args.rounds < 1:
        raise UserError(f"--rounds={args.rounds}; give at least 1")
    if CHILD in os.environ:
        pin(int(os.environ[CHILD]))
        return measure(args, "cpu" if os.environ[CHILD] == "1" else "wall")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch shares the device
    report: dict[str, Any] = {
        "bench": pathlib.Path(sys.argv[0]).stem,
        "environment": environment(),
        "arguments": {k: v for k, v in vars(args).items() if k != "json"},
    }
    on_cpu = host or jax.default_backend() == "cpu"
    report["runs"] = [
        {"threads": n, "metric": "cpu" if n == 1 else "wall", **child(argv, n, host)}
        for n in (args.threads if on_cpu else [])
    ] or [{"threads": None, "metric": "wall", **measure(args, "wall")}]
    report["load_after"] = os.getloadavg()
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return report


def child(argv: Sequence[str], threads: int, host: bool) -> dict[str, Any]:
    """What this script measures in a process of its own, held to `threads` cores."""
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    env = os.environ | {CHILD: str(threads)} | dict.fromkeys(pools, str(threads))
    if host:
        env["JAX_PLATFORMS"] = "cpu"
    command = [sys.executable, *sys.argv[:1], *argv]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)  # it has said why
    return json.loads(done.stdout.splitlines()[-1])


def pin(threads: int) -> None:
    """Holds this process to `threads` cores; XLA sizes its pools by that."""
    if not hasattr(os, "sched_setaffinity"):
        raise UserError(f"{platform.system()} cannot hold a process to {threads} cores; use Linux")
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise UserError(f"--threads={threads}; this process may use 1 to {len(cores)}")
    os.sched_setaffinity(0, cores[:threads])


def numbers(text: str) -> list[int]:
    """`"1,8"` as `[1, 8]`: positive whole numbers."""
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise ValueError(text)
    return values


def environment() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    packages = ("jax", "jaxlib", "flax", "numpy", "pillow", "opencv-python-headless", "torch")
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{p: version(p) for p in packages},
        "device": f"{device.platform} {device.device_kind} x{jax.device_count()}",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load": os.getloadavg(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "compiler_options": ops.compiler_options(),
    }


def version(package: str) -> str:
    """The installed version, or "none"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def processor() -> str:
    """The processor's name, as far as the system says it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def torch_missing(args: argparse.Namespace) -> str:
    """Why there are no torch rows in this run, or an empty string where there are."""
    if args.no_torch:
        return "--no_torch: no torch rows"
    if version("torch") == "none":
        return "torch is not installed: no torch rows"
    import torch

    if jax.default_backend() == "gpu" and not torch.cuda.is_available():
        return "this torch has no GPU: no torch rows"
    if jax.default_backend() not in ("cpu", "gpu"):
        return f"torch rows are for cpu and gpu, not {jax.default_backend()}"
    return ""


def interleave(
    contenders: Contenders, rounds: int, metric: str, least: float = 0.05
) -> dict[str, float]:
    """Median seconds of one call of each contender, sampled in turn `rounds` times.

    The first call of each (compilation) is not counted. A sample is as many calls as should last
    `least` seconds, 100 at most, waited for together, as a user's loop would.
    """
    clock = CLOCKS[metric]

    def sample(run: Callable[[], Any], calls: int) -> float:
        began, start = time.perf_counter(), clock()
        done, result = 0, None
        # On a busy machine calls may last far longer than they did when they were counted.
        while done < calls and time.perf_counter() - began < 10 * least:
            result = run()
            done += 1
        wait(result)
        return (clock() - start) / done

    calls = {}
    for name, run in contenders.items():
        wait(run())
        calls[name] = min(100, math.ceil(least / max(sample(run, 1), 1e-6)))
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            samples[name].append(sample(run, calls[name]))
    return {name: statistics.median(found) for name, found in samples.items()}


def wait(result: Any) -> None:
    """Waits until the device has computed `result`."""
    jax.block_until_ready(result)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def cases(args: argparse.Namespace, more: Sequence[str] = ()) -> Iterator[tuple[str, int, int]]:
    """Every (model, size, batch) that the flags ask for; `more` models have no config."""
    for model in args.model.split(","):
        if model not in (allowed := (*MODELS, *more)):
            raise UserError(f"--model={model}; allowed are {', '.join(allowed)}")
        yield from ((model, size, batch) for size in args.size for batch in args.batch)


def add_compiled(
    contenders: Contenders, notes: list[str], args: argparse.Namespace, make: Callable[[], Any]
) -> None:
    """Adds what `make` gives as torch.compile's row, or to the notes why this machine has none."""
    if args.no_compile:
        return
    try:
        run = make()
        wait(run())
    except Exception as error:  # many kinds: no C++ compiler, no Python headers, no Triton
        reason = (str(error).strip() or "no reason given").splitlines()[0][:200]
        notes.append(f"no torch.compile row: {type(error).__name__}: {reason}")
    else:
        contenders["torch.compile"] = run


def gemm(args: argparse.Namespace, dtype: str, metric: str) -> dict[str, float]:
    """GFLOP/s of a square matrix product by engine; by default 2048 a side on CPU, else 8192."""
    side = args.gemm or (2048 if jax.default_backend() == "cpu" else 8192)
    a = np.random.default_rng(0).standard_normal((side, side), np.float32)
    x = jnp.asarray(a, dtype)
    product = ops.jit(lambda x: x @ x)
    contenders: Contenders = {"jax": lambda: product(x)}
    if not torch_missing(args):
        import torch

        y = torch.from_numpy(a).to(torch_device(), getattr(torch, dtype))
        contenders["torch"] = lambda: y @ y
    return {k: 2e-9 * side**3 / s for k, s in interleave(contenders, args.rounds, metric).items()}


def peak(args: argparse.Namespace, dtype: str, metric: str) -> float:
    """GFLOP/s that count as 100 % in this run: the best engine's matrix product."""
    return max(gemm(args, dtype, metric).values())


def exact(dtype: str = "float32") -> bool:
    """Whether products in `dtype` are float32 on this backend: a GPU takes TF32 unless told."""
    return jax.default_backend() == "cpu" and dtype == "float32"


def exactly():
    """Products in float32 for comparisons; where they are already, programs stay the same."""
    return contextlib.nullcontext() if exact() else jax.default_matmul_precision("highest")


def torch_device() -> str:
    """torch's name of jax's default backend."""
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def experiment(config: str, size: int, batch: int, channels: int = 0) -> Any:
    """A config at `size` px without crops; `channels` (0: as it is) is the generator's first layer.

    Content networks that have to be fetched get random weights, which cost the same to run.
    """
    cfg = train.parse([f"--config={config}", "--dry_run"]).config
    cfg.batch_size = batch
    for stream in cfg.data.values():
        if isinstance(stream, Stream):
            stream.size, stream.crop = size, 0
    content = cfg.method.content
    content.net, content.options = RANDOM.get(content.net, (content.net, content.options))
    if channels:
        cfg.method.generator.channels = channels
        cfg.method.discriminator.channels = max(1, channels // 2)
    return cfg


def noise(cfg: Any) -> dict[str, np.ndarray]:
    """A uint8 batch of the shapes that `cfg` trains on."""
    rng = np.random.default_rng(0)
    batch = {}
    for name, spec in cfg.data.items():
        size = (cfg.data[spec.of] if isinstance(spec, Smoothed) else spec).size
        batch[name] = rng.integers(0, 256, (cfg.batch_size, size, size, 3), np.uint8)
    return batch


def show(report: Mapping[str, Any]) -> None:
    """Prints the environment, one table for each run, and its notes."""
    for key, value in report["environment"].items():
        print(f"{key:24} {value}")
    for run in report["runs"]:
        threads = "" if run["threads"] is None else f"{run['threads']} thread(s), "
        print(f"\n{report['bench']}: {threads}{run['metric']} time, medians")
        print(table(run["rows"]))
        for note in run["notes"]:
            print(f"* {note}")
    print(f"load afterwards: {report['load_after']}\n")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as aligned columns."""
    if not rows:
        return "(no rows)"
    cells = [list(rows[0]), *([_cell(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return "-" if value is None else str(value)
