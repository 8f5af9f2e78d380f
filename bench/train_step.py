"""How fast is a training step? Our engine beside the same step in torch, from the same weights.

    python bench/train_step.py --model=artifygan --size=64,128,256 --batch=4

A step is phases `d` and `g` on a uint8 batch that is on the device already. Changed against the
configs: no random flips, no pool of pictures and no resizing before the content network, so that
both do the same work and `--size` is every net's. `mfu` is counted FLOP / time / the rate of the
measured matrix product. `--model=animegan2` has its grey, style, colour and variation terms too,
and torch's interpolation. To reach: 1.2x torch eager at 64 px with one CPU thread; on an H100 or
H200, 480 images/s for `--model=artifygan --size=256 --batch=16 --dtype=bfloat16`.
`--model=stylegan2` (also stylegan2-paper256, stylegan2-f; see `_stylegan2.py`) has a row for each of
its `--phases`, and seconds per 1,000 images: to reach, D's step with R1 1.0x torch eager on CPU, 4
s/kimg for `--model=stylegan2-paper256 --size=256 --batch=64 --dtype=bfloat16 --augment` on such a GPU.
`--model=jojogan --size=64,256,1024 --batch=1` is an iteration of JoJoGAN (`_jojogan.py`): to reach, no
slower than torch eager on CPU, 300 iterations at 1024 px in 15 s on such a GPU.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

import _common as common
import _jojogan
import _stylegan2 as stylegan
import jax
import numpy as np

from artifygan_jax import sharding, train
from artifygan_jax.config import Experiment
from artifygan_jax.content import Content
from artifygan_jax.nets import ops

# Relative, of the first losses: sums of 10^6 terms through 60 layers, in other orders.
LIMIT = 1e-3
TARGET_RATIO, TARGET_RATE = 1.2, 480.0


def options(parser: argparse.ArgumentParser) -> None:
    """The flags of this script."""
    parser.add_argument("--model", default="artifygan")
    parser.add_argument("--size", type=common.numbers, default=[64, 128, 256])
    parser.add_argument("--batch", type=common.numbers, default=[4])
    parser.add_argument("--content", default="random:vgg", help="bundle or random:ARCHITECTURE")
    parser.add_argument("--layer", default="conv4_4", help="of the content network")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--phases", default="g,path,d,r1", help="of stylegan2 (g,path,d,r1)")
    parser.add_argument("--augment", action="store_true", help="stylegan2's, without torch rows")
    parser.add_argument("--channels", type=int, default=0, help="of the first layer (0: config's)")


def measure(args: argparse.Namespace, metric: str) -> dict[str, Any]:
    """All rows of one run."""
    peak = common.peak(args, args.dtype, metric)
    rows, missing = [], common.torch_missing(args)
    notes = [missing] if missing else []
    for model, size, batch in common.cases(args, ("animegan2", "jojogan", *stylegan.CONFIGS)):
        for name, found, macs, more in runs(args, metric, model, size, batch):
            notes += [f"{name or model} {size} px, batch {batch}: {note}" for note in more]
            for contender, seconds in found.items():
                rows.append(
                    {
                        "model": name,
                        "size": size,
                        "batch": batch,
                        "contender": contender,
                        "ms_per_step": 1e3 * seconds,
                        "images_per_s": batch / seconds,
                        "gmac_per_image": 1e-9 * macs / batch,
                        "mfu": 2e-9 * macs / seconds / peak,
                        "ratio": seconds / found["torch eager"] if "torch eager" in found else None,
                    }
                )
    notes += targets(args, rows, metric)
    return {"peak_gflops": peak, "rows": rows, "notes": notes}


def runs(args, metric: str, model: str, size: int, batch: int) -> Iterator[stylegan.Case]:
    """What is timed of a model: a whole step, or each phase."""
    if model == "jojogan":
        yield model, *_jojogan.case(args, metric, size, batch)
    elif model in stylegan.CONFIGS:
        yield from stylegan.training(args, metric, model, size, batch)
    else:
        yield model, *case(args, metric, experiment(args, model, size, batch))


def experiment(args: argparse.Namespace, model: str, size: int, batch: int) -> Experiment:
    """The config of `model`, changed as the head of this file says."""
    cfg = common.experiment(common.MODELS.get(model, model), size, batch, args.channels)
    cfg.method.content = Content(args.content, (args.layer,))
    cfg.method.content_steps = 0
    cfg.optim.pop("content/g", None)  # for the phase that is left out
    if model == "animegan2":
        cfg.method.generator.upsampling = "half"  # torch has no such as TensorFlow 1's
    else:
        cfg.method.pool = 0
    for stream in cfg.data.values():
        stream.flip = False
    cfg.dtype, cfg.accumulate = args.dtype, args.accumulate
    return cfg


def case(args, metric: str, cfg: Experiment) -> tuple[dict[str, float], int, list[str]]:
    """(seconds by contender, MACs of a step, notes) of one experiment."""
    batch, notes = common.noise(cfg), []
    ours = Ours(cfg, batch)
    contenders: common.Contenders = {"jax engine": ours}
    macs = ours.macs()
    if not common.torch_missing(args):
        rivals, notes = torch_contenders(args, cfg, batch, ours)
        contenders |= rivals
    return common.interleave(contenders, args.rounds, metric), macs, notes


class Ours:
    """The engine of an experiment and its state, one step a call."""

    def __init__(self, cfg: Experiment, batch: dict[str, np.ndarray]):
        self.engine, mesh = train.build(cfg, devices=1)
        self.state = sharding.replicate(mesh, self.engine.init())
        self.frozen = sharding.replicate(mesh, self.engine.frozen)
        self.batch = sharding.put_batch(mesh, batch)
        self.metrics: dict[str, jax.Array] = {}

    def __call__(self):
        self.state, self.metrics = self.engine.step(self.state, self.frozen, self.batch, 0)
        return self.state

    def losses(self) -> list[float]:
        """The losses of D and G in one step."""
        self()
        return [float(self.metrics[k]) for k in ("d/loss", "g/loss")]

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """What the nets hold, by name and path."""
        trained = {k: v | self.state.buffers[k] for k, v in self.state.params.items()}
        return jax.device_get({**trained, **self.frozen})

    def macs(self) -> int:
        """Multiply-accumulates of all phases of a step."""
        return sum(
            ops.count_macs(
                lambda s, f, b, phase=phase: self.engine.update(phase, s, f, b),
                *(self.state, self.frozen, self.batch),
            )
            for phase in self.engine.phases
            if phase.due(0)
        )


def torch_contenders(args, cfg: Experiment, batch, ours: Ours) -> tuple[dict, list[str]]:
    """torch's rows and notes; refuses where its first losses differ from those of fresh `ours`."""
    import torch
    import torch_reference as reference

    if missing := reference.can_step(cfg.method.content):
        return {}, [missing]
    torch.backends.cudnn.benchmark = True
    device = common.torch_device()
    nets = ours.arrays()

    def contender(layout: str, dtype: str = args.dtype, compiled: bool = False):
        step = reference.Step(
            *(cfg.method, cfg.optim, nets),
            device=device,
            dtype=dtype,
            layout=layout,
            accumulate=cfg.accumulate,
            compiled=compiled,
        )
        pictures = {k: reference.pictures(x, device, layout) for k, x in batch.items()}
        return lambda: step(pictures)

    with reference.exact():
        theirs = [float(x) for x in contender("eager", "float32")()]
    notes = [f"first losses of D and G agree with torch to {compare(cfg, batch, ours, theirs):.1e}"]
    contenders = {f"torch {layout}": contender(layout) for layout in reference.LAYOUTS}
    common.add_compiled(contenders, notes, args, lambda: contender("eager", compiled=True))
    return contenders, notes


def compare(cfg: Experiment, batch, ours: Ours, theirs: list[float]) -> float:
    """The largest relative difference of the first losses in float32; refuses above the limit."""
    if common.exact(cfg.dtype):
        mine = ours.losses()
    else:
        with common.exactly():
            mine = Ours(dataclasses.replace(cfg, dtype="float32"), batch).losses()
    worst = max(abs(a - b) / abs(b) for a, b in zip(mine, theirs))
    if not worst <= LIMIT:
        raise RuntimeError(f"first losses: jax {mine}, torch {theirs}: they differ, so not timed")
    return worst


def targets(args, rows: list[dict], metric: str) -> list[str]:
    """What was to be reached, and what was."""
    own = ("jojogan",)  # with a target of their own
    ours = [
        row
        for row in rows
        if row["contender"] == "jax engine" and "/" not in row["model"] and row["model"] not in own
    ]
    if jax.default_backend() == "cpu":
        return [
            f"to reach: {TARGET_RATIO:.2f}x torch eager at 64 px; reached: {row['ratio']:.2f}x"
            f" ({row['model']}, batch {row['batch']})"
            for row in ours
            if metric == "cpu" and row["size"] == 64 and row["ratio"] is not None
        ]
    return [
        f"to reach: {TARGET_RATE:.0f} images/s at 256 px in bfloat16 on an H100 or H200; reached:"
        f" {row['images_per_s']:.0f} ({row['model']}, batch {row['batch']})"
        for row in ours
        if row["size"] == 256 and args.dtype == "bfloat16"
    ]


if __name__ == "__main__":
    common.main(__doc__, options, measure)
