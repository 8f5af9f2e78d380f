"""How fast are the generators? Ours beside torch, with the same weights, in the same process.

    python bench/infer.py --model=artifygan,cartoongan --size=256,512 --batch=1,8

Rows: `jax` is the net on the device (`nets.ops.jit` on split state), `load()` the same through
`artifygan_jax.load`, numpy in and out at any size, as users call it; torch eager, channels_last
and torch.compile; onnxruntime of torch's export, on CPU where it is installed. `ratio` is time /
torch eager's time, `peak` the share of matrix products' rate.
To reach at 256 px with one CPU thread: 1.0; AnimeGANv2 0.9, and 1.05 of onnxruntime. `--model=stylegan2`
(see `_stylegan2.py`) draws from latents; there torch eager scales activations, and to reach is 0.7.
"""

import argparse
import io
import os
import warnings
from typing import Any

import _common as common
import _stylegan2 as stylegan
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax import phases
from artifygan_jax.inference import Stylizer
from artifygan_jax.nets import animegan2, ops
from artifygan_jax.nets.cartoongan import Generator

LIMIT = 1e-3  # largest difference of a pixel, in [-1, 1]: an eighth of a step of 8 bits
TARGET, TARGETS = 1.0, {"animegan2": 0.9} | dict.fromkeys(stylegan.CONFIGS, 0.7)


def options(parser: argparse.ArgumentParser) -> None:
    """The flags of this script."""
    parser.add_argument("--model", default="artifygan,cartoongan")
    parser.add_argument("--size", type=common.numbers, default=[256, 512])
    parser.add_argument("--batch", type=common.numbers, default=[1, 8])
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--channels", type=int, default=0, help="of the first layer (0: config's)")


def measure(args: argparse.Namespace, metric: str) -> dict[str, Any]:
    """All rows of one run."""
    peak = common.peak(args, args.dtype, metric)
    rows, missing = [], common.torch_missing(args)
    notes = [missing] if missing else []
    for model, size, batch in common.cases(args, ("animegan2", *stylegan.CONFIGS)):
        if model in stylegan.CONFIGS:
            _, found, macs, more = stylegan.inference(args, metric, model, size, batch)
        else:
            net = generator(model, size, batch, args.channels)
            macs = ops.count_macs(net, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
            found, more = case(args, metric, net, size, batch)
        notes += [f"{model} {size} px, batch {batch}: {note}" for note in more]
        for name, seconds in found.items():
            per_image = seconds / batch
            rows.append(
                {
                    "model": model,
                    "size": size,
                    "batch": batch,
                    "contender": name,
                    "ms_per_image": 1e3 * per_image,
                    "images_per_s": 1 / per_image,
                    "gmac_per_image": 1e-9 * macs,
                    "peak": 2e-9 * macs / per_image / peak,
                    "ratio": seconds / found["torch eager"] if "torch eager" in found else None,
                }
            )
    return {"peak_gflops": peak, "rows": rows, "notes": notes + targets(rows, metric)}


def generator(model: str, size: int, batch: int, channels: int) -> Generator | animegan2.Generator:
    """The net called `model`, with `channels` of its first layer (0: its own)."""
    if model == "animegan2":
        options = animegan2.GeneratorOptions(channels=channels or 32)
        return animegan2.Generator(options, rngs=nnx.Rngs(0))
    cfg = common.experiment(common.MODELS[model], size, batch, channels)
    return Generator(cfg.method.generator, rngs=nnx.Rngs(0))


def case(
    args, metric: str, net: Generator | animegan2.Generator, size: int, batch: int
) -> tuple[dict, list[str]]:
    """(seconds by contender, notes) for one net and one shape."""
    x = np.random.default_rng(0).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)
    graph, state = nnx.split(net)

    def forward(state, x):
        return nnx.merge(graph, state)(x)

    run, arrays = ops.jit(forward), jnp.asarray(x, args.dtype)
    contenders: common.Contenders = {"jax": lambda: run(state, arrays)}
    if args.dtype == "float32":
        through_load = Stylizer(net, {"net": "generator"})
        contenders["load()"] = lambda: through_load(x)
    if common.torch_missing(args):
        return common.interleave(contenders, args.rounds, metric), []
    with common.exactly():
        ours = run(state, jnp.asarray(x))
    rivals, notes = torch_contenders(args, net, x, np.asarray(ours))
    return common.interleave(contenders | rivals, args.rounds, metric), notes


def torch_contenders(
    args, net: Generator | animegan2.Generator, x: np.ndarray, ours: np.ndarray
) -> tuple[dict, list]:
    """torch's rows and notes; refuses where its output differs from ours."""
    import torch
    import torch_reference as reference

    device = common.torch_device()
    torch.backends.cudnn.benchmark = True

    def contender(layout: str, dtype: str = args.dtype, compiled: bool = False):
        rival = reference.generator(net.options)
        rival = reference.filled(rival, phases.values(net), device, layout)
        run = torch.compile(rival) if compiled else rival
        photo = reference.pictures(x, device, layout)

        def forward():
            with torch.no_grad(), reference.autocast(device, dtype):
                return run(photo)

        return forward

    with reference.exact():
        theirs = contender("eager", "float32")().cpu().numpy().transpose(0, 2, 3, 1)
    worst = float(np.abs(theirs - ours).max())
    if not worst <= LIMIT:
        raise RuntimeError(
            f"torch and jax differ by {worst:.2e}, at most {LIMIT} may be: not timed"
        )
    notes = [f"largest difference to torch in float32: {worst:.1e}"]
    contenders = {f"torch {layout}": contender(layout) for layout in reference.LAYOUTS}
    common.add_compiled(contenders, notes, args, lambda: contender("eager", compiled=True))
    if device == "cpu" and args.dtype == "float32" and common.version("onnxruntime") != "none":
        rival = reference.filled(reference.generator(net.options), phases.values(net), device)
        contenders["onnxruntime"] = onnxruntime_contender(rival, x)
    return contenders, notes


def onnxruntime_contender(rival, x: np.ndarray):
    """onnxruntime on torch's export of `rival`, with as many threads as this process has cores."""
    import onnxruntime
    import torch

    photo = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    file: Any = io.BytesIO()  # torch takes one, and its hints do not say so
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter calls itself legacy; the other needs more
        torch.onnx.export(rival.eval(), (photo,), file, opset_version=17, dynamo=False)
    flags = onnxruntime.SessionOptions()
    flags.intra_op_num_threads, flags.inter_op_num_threads = len(os.sched_getaffinity(0)), 1
    session = onnxruntime.InferenceSession(file.getvalue(), flags, ["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: photo.numpy()}
    return lambda: session.run(None, feed)


def targets(rows: list[dict], metric: str) -> list[str]:
    """What was to be reached, and what was."""
    if jax.default_backend() != "cpu" or metric != "cpu":
        return []
    return [
        f"to reach: {TARGETS.get(row['model'], TARGET):.2f}x torch eager; reached: {row['ratio']:.2f}x"
        f" ({row['model']}, {row['size']} px, batch {row['batch']})"
        for row in rows
        if row["contender"] == "jax" and row["ratio"] is not None
        if row["size"] == 256 or row["model"] in stylegan.CONFIGS
    ]


if __name__ == "__main__":
    common.main(__doc__, options, measure)
