"""JoJoGAN's case of `train_step.py`, beside `torch_stylegan2`.

The paper's recipe (`configs/jojogan.py`) on a random pair: at 64 px with the widths of the pair in
`zoo/`, above with config-F's. `--batch` is the number of references. torch has the target's features
computed once ("torch eager"), as ours are, or in every step, as the authors' program has it.
"""

import contextlib
import functools
import io
import tempfile
from pathlib import Path

import _common as common
import jax
import numpy as np
from _stylegan2 import Ours
from flax import nnx
from PIL import Image

from artifygan_jax import bundle, train
from artifygan_jax.config import Experiment
from artifygan_jax.methods import jojogan
from artifygan_jax.nets import ops, stylegan2

LIMIT = 1e-3  # of the first losses, relative
GOAL = 300  # updates of a run


def experiment(args, size: int, batch: int, folder: Path) -> Experiment:
    """The config on a random pair and pictures, whose codes are known, in `folder`."""
    small = size <= 64
    base = size * args.channels if args.channels else 1024 if small else 32768
    channels, latent = stylegan2.widths(size, base, 256 if small else 512), 256 if small else 512
    options = stylegan2.GeneratorOptions(channels, latent, latent)
    bundle.save(folder / "g", stylegan2.Generator(options, rngs=nnx.Rngs(1)))
    critic = stylegan2.DiscriminatorOptions(channels)
    bundle.save(folder / "d", stylegan2.Discriminator(critic, rngs=nnx.Rngs(2)))
    random = np.random.RandomState(0)
    (folder / "references").mkdir()
    for i in range(batch):
        picture = random.randint(0, 256, (size, size, 3), np.uint8)
        Image.fromarray(picture).save(folder / "references" / f"{i}.png")
    np.savez(
        folder / "ws.npz", ws=random.randn(batch, 2 * len(channels), latent).astype(np.float32)
    )
    variant = "small64" if small else "jojo"
    cfg = train.parse([f"--config=configs/jojogan.py:{variant}", "--dry_run"]).config
    method = cfg.method
    method.source, method.critic = str(folder / "g"), str(folder / "d")
    method.reference, method.aligned = str(folder / "references"), True
    method.latents, cfg.dtype, cfg.evals = str(folder / "ws.npz"), "float32", {}
    return cfg


def case(args, metric: str, size: int, batch: int) -> tuple[dict[str, float], int, list[str]]:
    """(seconds by contender, MACs of a step, notes)."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        cfg = experiment(args, size, batch, Path(folder))
        engine, mesh = train.build(cfg, devices=1)
    (phase,) = engine.phases
    ours = Ours(engine, mesh, phase, {})
    contenders: common.Contenders = {"jax engine": ours}
    macs = ops.count_macs(functools.partial(engine.update, phase), *ours.arguments())
    notes = [f"peak memory: {ours.memory()}"]
    if not common.torch_missing(args):
        rivals, more = rivals_of(cfg, engine, phase)
        contenders |= rivals
        notes += more
    found = common.interleave(contenders, args.rounds, metric)
    notes.append(f"{GOAL} iterations: {GOAL * found['jax engine']:.3g} s")
    if "torch eager" in found:
        ratio = found["jax engine"] / found["torch eager"]
        notes.append(f"to reach on CPU: 1.00x torch eager; reached: {ratio:.2f}x")
    return found, macs, notes


def rivals_of(cfg, engine, phase) -> tuple[common.Contenders, list[str]]:
    """torch's rows, after the first loss was compared with ours on the same latents."""
    import torch
    import torch_stylegan2 as rival

    state = engine.init()
    arrays = {
        "g": jax.device_get(state.params["g"] | state.buffers["g"]),
        "d": jax.device_get(engine.frozen["critic"]),
    }
    found = jax.device_get(state.buffers["reference"])
    images = torch.from_numpy(found["images"].transpose(0, 3, 1, 2).copy())
    ws, device = torch.from_numpy(found["ws"].copy()), common.torch_device()
    options = engine.nets(state.params, state.buffers)["g"].options
    critic = engine.still(engine.frozen)["critic"].options
    make = functools.partial(Rival, rival, cfg, options, critic, arrays, images.to(device))
    steps = {
        "torch eager": make(ws.to(device), device=device, once=True),
        "torch, target each step": make(ws.to(device), device=device, once=False),
    }
    key = jax.random.fold_in(jax.random.fold_in(engine.key, 0), 1)
    z = jax.random.normal(jax.random.split(key)[0], (len(ws), options.z_size))
    with common.exactly():
        update = ops.jit(functools.partial(engine.update, phase))
        mine = float(update(engine.init(), engine.frozen, {})[1]["g/loss"])
    theirs = float(steps["torch eager"].loss(torch.from_numpy(np.array(z)).to(device)))
    worst = abs(mine - theirs) / abs(theirs)
    if not worst <= LIMIT:
        raise RuntimeError(f"first loss: jax {mine}, torch {theirs}: not timed")
    return dict(steps), [f"first loss agrees with torch to {worst:.1e}"]


class Rival:
    """An update in torch: mixed codes, pictures, the critic's features, L1, Adam."""

    def __init__(self, rival, cfg, options, critic, arrays, images, ws, *, device: str, once: bool):
        import torch

        self.torch, self.images, self.ws, self.device = torch, images, ws, device
        self.g = rival.Generator(options, arrays["g"], device=device)
        self.d = rival.Discriminator(critic, arrays["d"], device=device).requires_grad_(False)
        self.mixed = list(jojogan.clipped(cfg.method.mixed, ws.shape[1]))
        self.names, self.alpha = jojogan.taps(self.d.resolutions[0]), cfg.method.alpha
        for name, parameter in self.g.named_parameters():
            parameter.requires_grad_(not name.startswith("mapping"))
        adam = cfg.optim["g"]
        trained = [p for p in self.g.parameters() if p.requires_grad]
        self.adam = torch.optim.Adam(trained, adam.lr, betas=(adam.b1, adam.b2), fused=True)
        self.wanted = self.features(images) if once else None

    def features(self, x):
        """The outputs of the critic's blocks that are compared."""
        sides = [int(name[1:]) for name in self.names]
        return [y for side, y in self.d.blocks(x, sides[-1]) if side in sides]

    def loss(self, z):
        """The loss of latents `[R, z]`, with gradients."""
        torch = self.torch
        with torch.no_grad():
            other = self.g.codes(z)
            wanted = self.features(self.images) if self.wanted is None else self.wanted
        ws = self.ws.clone()
        ws[:, self.mixed] = (1 - self.alpha) * ws[:, self.mixed] + self.alpha * other[:, self.mixed]
        found = self.features(self.g.synthesis(ws, "random"))
        loss = sum((a - b).abs().mean() for a, b in zip(found, wanted)) / len(wanted)
        self.adam.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    def __call__(self):
        loss = self.loss(self.torch.randn(len(self.ws), self.g.options.z_size, device=self.device))
        self.adam.step()
        return loss
