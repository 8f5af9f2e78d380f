"""What can this machine do? The denominators of the other benchmarks.

    python bench/peak.py

Matrix products in float32 and bfloat16 (GFLOP/s), and copying an array (GB/s, read and written),
in jax and torch. The other scripts measure the product again, in their own run.
"""

import argparse
from typing import Any

import _common as common
import jax.numpy as jnp
import numpy as np

from artifygan_jax.nets import ops


def options(parser: argparse.ArgumentParser) -> None:
    """The flags of this script."""
    parser.add_argument("--copy_mb", type=int, default=256, help="size of the copied array")


def measure(args: argparse.Namespace, metric: str) -> dict[str, Any]:
    """All rows of one run."""
    rows = [
        {"what": f"matrix product {dtype}", "engine": engine, "value": value, "unit": "GFLOP/s"}
        for dtype in ("float32", "bfloat16")
        for engine, value in common.gemm(args, dtype, metric).items()
    ]
    for engine, value in copies(args, metric).items():
        rows.append({"what": "copy", "engine": engine, "value": value, "unit": "GB/s"})
    missing = common.torch_missing(args)
    return {"rows": rows, "notes": [missing] if missing else []}


def copies(args: argparse.Namespace, metric: str) -> dict[str, float]:
    """GB/s of reading and writing an array, by engine."""
    a = np.ones(args.copy_mb * 250_000, np.float32)
    x = jnp.asarray(a)
    # Adding one, since a compiler may leave out a plain copy; donation would make it in place.
    copy = ops.jit(lambda x: x + 1)
    contenders: common.Contenders = {"jax": lambda: copy(x)}
    if not common.torch_missing(args):
        import torch

        y = torch.from_numpy(a).to(common.torch_device())
        contenders["torch"] = lambda: y + 1
    seconds = common.interleave(contenders, args.rounds, metric)
    return {k: 2e-9 * a.nbytes / s for k, s in seconds.items()}


if __name__ == "__main__":
    common.main(__doc__, options, measure)
