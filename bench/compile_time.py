"""How long until the first training step, cold and with the persistent cache?

    python bench/compile_time.py --config=demo,artifygan:half --size=64

Each sample is a process of its own that imports the package, builds the engine of a config and runs
the first step of every phase, with an empty compilation cache (`cold`) and once more with what the
first left there (`cached`; jax keeps programs that took a second or more). Seconds, medians over
`--rounds` pairs (1); `total` is the life of the process, `rest` what is in no other column, mostly
imports. With one thread they are CPU time, else by the clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import _common as common

from artifygan_jax import sharding, train

ONCE = "--once"


def options(parser: argparse.ArgumentParser) -> None:
    """The flags of this script."""
    parser.add_argument("--config", default="demo,artifygan:half")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--channels", type=int, default=0, help="of the first layer (0: config's)")
    parser.set_defaults(rounds=1)


def measure(args: argparse.Namespace, metric: str) -> dict[str, Any]:
    """All rows of one run."""
    rows = []
    for config in args.config.split(","):
        samples: dict[str, list] = {"cold": [], "cached": []}
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory() as cache:
                for found in samples.values():  # cold first
                    found.append(sample(args, config, cache, metric))
        for name, found in samples.items():
            medians = {k: statistics.median(s[k] for s in found) for k in found[0]}
            rows.append({"config": config, "cache": name, **medians})
    return {"rows": rows, "notes": []}


def sample(args: argparse.Namespace, config: str, cache: str, metric: str) -> dict[str, float]:
    """Seconds of the parts of one fresh process, by the clock of `metric`."""
    sizes = map(str, (args.size, args.batch, args.channels))
    command = [sys.executable, __file__, ONCE, metric, config, *sizes]
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
    start = time.perf_counter()
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    parts = json.loads(done.stdout.splitlines()[-1])
    cpu = parts.pop("cpu")
    total = cpu if metric == "cpu" else time.perf_counter() - start
    return {**parts, "rest": total - sum(parts.values()), "total": total}


def once(metric: str, config: str, size: str, batch: str, channels: str) -> dict[str, float]:
    """Builds the engine and runs step 0 (content alone) and step 1 (D and G) in this process."""
    clock = common.CLOCKS[metric]
    cfg = common.experiment(config, int(size), int(batch), int(channels))
    cfg.method.content_steps = 1
    start = clock()
    engine, mesh = train.build(cfg, devices=1)
    state = sharding.replicate(mesh, engine.init())
    frozen = sharding.replicate(mesh, engine.frozen)
    pictures = sharding.put_batch(mesh, common.noise(cfg))
    common.wait((state, frozen, pictures))
    parts = {"build": clock() - start}
    for step, name in enumerate(("content", "d_and_g")):
        start = clock()
        state, metrics = engine.step(state, frozen, pictures, step)
        common.wait((state, metrics))
        parts[name] = clock() - start
    return {**parts, "cpu": time.process_time()}


if __name__ == "__main__":
    if sys.argv[1:2] == [ONCE]:
        print(json.dumps(once(*sys.argv[2:])))
    else:
        common.main(__doc__, options, measure)
