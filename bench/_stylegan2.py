"""StyleGAN2's cases of `infer.py` and `train_step.py`, beside `torch_stylegan2`.

Models are variants of `configs/stylegan2_ada.py` at the sizes and batches asked for. `--channels` is
the number of channels at the full resolution, doubled at each halving up to 512 (0: the config's).
"""

import functools
from collections.abc import Iterator
from typing import Any

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax import phases, sharding, train
from artifygan_jax.config import Experiment
from artifygan_jax.errors import UserError
from artifygan_jax.nets import ops, stylegan2

CONFIGS = {
    "stylegan2": "stylegan2_ada:small64",
    "stylegan2-paper256": "stylegan2_ada:paper256",
    "stylegan2-f": "stylegan2_ada:stylegan2",
}
PHASES = ("g", "path", "d", "r1")
LIMIT = 1e-3  # of losses, relative; of pixels, of the largest
Case = tuple[str, dict[str, float], int, list[str]]  # label, seconds, MACs, notes


def experiment(args, model: str, size: int, batch: int) -> Experiment:
    """The config: no random flips, no style mixing; no augmentation unless `--augment`."""
    cfg = train.parse([f"--config={CONFIGS[model]}", "--dry_run"]).config
    g, d = cfg.method.generator, cfg.method.discriminator
    found = len(g.channels)
    if args.channels or 4 * 2 ** (found - 1) != size:
        base = size * (args.channels or g.channels[-1])
        g.channels = d.channels = stylegan2.widths(size, base, max(g.channels))
    cfg.batch_size, cfg.dtype = batch, args.dtype
    cfg.method.mixing = 0.0
    if not getattr(args, "augment", False):
        cfg.method.augment = None
    stream = cfg.data["real"]
    stream.size, stream.crop, stream.flip = size, 0, False
    cfg.evals = {}
    return cfg


def wanted(args) -> list[str]:
    """The phases that `--phases` names."""
    names = args.phases.split(",")
    if unknown := set(names) - set(PHASES):
        raise UserError(f"--phases={','.join(sorted(unknown))}; allowed are {', '.join(PHASES)}")
    return names


def training(args, metric: str, model: str, size: int, batch: int) -> Iterator[Case]:
    """A case for each phase: every one alone, on the state of the first step."""
    cfg = experiment(args, model, size, batch)
    cfg.accumulate = args.accumulate
    rng = np.random.default_rng(0)
    real = rng.integers(0, 256, (batch, size, size, 3), np.uint8)
    engine, mesh = train.build(cfg, devices=1)
    pictures = sharding.put_batch(mesh, {"real": real})
    times: dict[str, dict[str, float]] = {}
    for name in wanted(args):
        phase = next(p for p in engine.phases if p.name == name)
        ours = Ours(engine, mesh, phase, pictures)
        contenders: common.Contenders = {"jax engine": ours}
        notes: list[str] = []
        if not common.torch_missing(args) and not cfg.method.augment and args.dtype == "float32":
            rivals, notes = rivals_of(args, cfg, engine, phase, real)
            contenders |= rivals
        macs = ops.count_macs(functools.partial(engine.update, phase), *ours.arguments())
        notes.append(f"peak memory of {name}, state and batch + temporaries: {ours.memory()}")
        times[name] = common.interleave(contenders, args.rounds, metric)
        yield f"{model}/{name}", times[name], macs, notes
    yield "", {}, 0, summary(times, cfg)


class Ours:
    """One phase of the engine, an update a call."""

    def __init__(self, engine: phases.Engine, mesh: Any, phase: phases.Phase, batch):
        self.state = sharding.replicate(mesh, engine.init())
        self.frozen = sharding.replicate(mesh, engine.frozen)
        self.batch, self.metrics = batch, {}
        update = ops.jit(functools.partial(engine.update, phase), donate_argnums=0)
        self.run = update.lower(*self.arguments()).compile()

    def memory(self) -> str:
        """What the program needs at once: what it is given (results take its place), and between."""
        found = self.run.memory_analysis()
        parts = found.argument_size_in_bytes, found.temp_size_in_bytes
        return " + ".join(f"{part / 2**20:,.0f}" for part in parts) + " MiB"

    def arguments(self) -> tuple:
        """What an update takes."""
        return self.state, self.frozen, self.batch

    def __call__(self):
        self.state, self.metrics = self.run(*self.arguments())
        return self.state


def rivals_of(args, cfg, engine, phase, real: np.ndarray) -> tuple[common.Contenders, list[str]]:
    """torch's rows of a phase, after its first loss was compared with ours on the same draws."""
    import torch
    import torch_stylegan2 as rival

    device = common.torch_device()
    torch.backends.cudnn.benchmark = True
    state = engine.init()
    arrays = {n: jax.device_get(state.params[n] | state.buffers[n]) for n in ("g", "d")}
    uint8 = torch.from_numpy(np.ascontiguousarray(real.transpose(0, 3, 1, 2))).to(device)

    def contender(form: str, draws=None):
        step = rival.Step(cfg.method, cfg.optim, arrays, (phase.name,), form=form, device=device)
        return lambda: step(uint8.float() / 127.5 - 1, draws)[phase.name]

    mine = first_loss(engine, phase, real)
    theirs = float(contender("scaled", {phase.name: draws_of(engine, cfg, phase, len(real))})())
    worst = abs(mine - theirs) / abs(theirs)
    if not worst <= LIMIT:
        raise RuntimeError(f"first loss of {phase.name}: jax {mine}, torch {theirs}: not timed")
    notes = [f"first loss of {phase.name} agrees with torch to {worst:.1e}"]
    contenders: common.Contenders = {"torch eager": contender("scaled")}
    if phase.name in ("g", "path"):
        contenders["torch grouped"] = contender("grouped")
    return contenders, notes


def first_loss(engine: phases.Engine, phase: phases.Phase, real: np.ndarray) -> float:
    """The loss of a phase at the first step, in float32."""
    with common.exactly():
        run = ops.jit(functools.partial(engine.update, phase))
        return float(run(engine.init(), {}, {"real": jnp.asarray(real)})[1][f"{phase.name}/loss"])


def draws_of(engine: phases.Engine, cfg: Experiment, phase: phases.Phase, count: int) -> dict:
    """What the phase draws at the first step, as torch's: latents, and directions of paths.

    Noise is multiplied by strengths that are zero at first, so it need not be the same.
    """
    import torch

    key = jax.random.fold_in(engine.key, 0)
    key = jax.random.fold_in(key, 1 + engine.phases.index(phase))
    keys = jax.random.split(key, 4 if phase.name == "d" else 3)
    size = cfg.data["real"].size
    if phase.name == "path":
        count = max(1, count // cfg.method.path_shrink)
    z = cfg.method.latents(count, keys[0]).first
    y = jax.random.normal(keys[1], (count, size, size, 3)).transpose(0, 3, 1, 2)
    return {
        k: torch.from_numpy(np.array(x)).to(common.torch_device()) for k, x in (("z", z), ("y", y))
    }


def summary(times: dict[str, dict[str, float]], cfg: Experiment) -> list[str]:
    """Seconds per 1,000 images with the lazy phases at their intervals; D's step with R1."""
    notes = []
    every = {"g": 1, "path": cfg.method.path_every, "d": 1, "r1": cfg.method.r1_every}
    contenders = [set(found) for found in times.values()]
    for name in sorted(set.intersection(*contenders)):
        if set(times) == set(PHASES):
            step = sum(times[k][name] / every[k] for k in PHASES)
            notes.append(f"{name}: {1000 * step / cfg.batch_size:.4g} s/kimg")
    if {"d", "r1"} <= set(times) and "torch eager" in times["d"]:
        ours, theirs = (
            sum(times[k][name] for k in ("d", "r1")) for name in ("jax engine", "torch eager")
        )
        notes.append(
            f"D's step with R1, to reach: 1.00x torch eager; reached: {ours / theirs:.2f}x"
        )
    return notes


def inference(args, metric: str, model: str, size: int, batch: int) -> Case:
    """Latents to pictures with the net's own noise."""
    cfg = experiment(args, model, size, batch)
    net = stylegan2.Generator(cfg.method.generator, rngs=nnx.Rngs(0))
    shape = (batch, cfg.method.generator.z_size)
    z = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    graph, params, buffers = phases.take_apart(net)

    def forward(arrays, z, dtype=args.dtype):
        return phases.assemble(graph, arrays)(z, dtype=jnp.dtype(dtype))

    run, arrays, latents = ops.jit(forward), params | buffers, jnp.asarray(z)
    contenders: common.Contenders = {"jax": lambda: run(arrays, latents)}
    macs = ops.count_macs(forward, arrays, jax.ShapeDtypeStruct((1, shape[1]), jnp.float32))
    notes: list[str] = []
    if not common.torch_missing(args) and args.dtype == "float32":
        with common.exactly():
            ours = np.asarray(ops.jit(forward)(arrays, latents))
        rivals, notes = torch_generators(args, net, z, ours)
        contenders |= rivals
    return model, common.interleave(contenders, args.rounds, metric), macs, notes


def torch_generators(args, net, z: np.ndarray, ours: np.ndarray) -> tuple[dict, list[str]]:
    """torch's generators in both forms, and compiled; refuses where pictures differ from ours."""
    import torch
    import torch_stylegan2 as rival

    device = common.torch_device()
    arrays = jax.device_get(phases.values(net))
    latents = torch.from_numpy(z).to(device)

    def contender(form: str, compiled: bool = False):
        made = rival.Generator(net.options, arrays, form=form, device=device)
        run = torch.compile(made) if compiled else made

        def forward():
            with torch.no_grad():
                return run(latents)

        return forward

    contenders: common.Contenders = {
        "torch eager": contender("scaled"),
        "torch grouped": contender("grouped"),
    }
    notes = []
    for name, run in contenders.items():
        theirs = run().cpu().numpy().transpose(0, 2, 3, 1)
        worst = float(np.abs(theirs - ours).max() / np.abs(ours).max())
        if not worst <= LIMIT:
            raise RuntimeError(f"{name} and jax differ by {worst:.2e} of the largest: not timed")
        notes.append(f"largest difference to {name}: {worst:.1e} of the largest value")
    common.add_compiled(contenders, notes, args, lambda: contender("scaled", compiled=True))
    return contenders, notes
