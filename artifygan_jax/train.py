"""Train any method: `python -m artifygan_jax.train --config=configs/artifygan.py --workdir=runs/a`.

The workdir is all the state: running the same command again goes on where the last checkpoint is.
It holds config.json, checkpoints/, model/ (the latest bundle), model_d/ (its discriminator), best/
(the best one, where the config names a metric), samples/, metrics.jsonl and timing.jsonl, tb/
(TensorBoard).
"""

import collections
import dataclasses
import json
import logging
import pathlib
import re
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx
from ml_collections import config_flags

from artifygan_jax import augment, bundle, checkpoint, cli, config, phases, sharding
from artifygan_jax.data import streams
from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.logs import Log, Progress
from artifygan_jax.nets import ops


def main(argv: Sequence[str]) -> tuple[dict, int]:
    """The command: parses flags, then trains. Nothing is written when the call is wrong."""
    args = parse(argv)
    # force: absl has put a handler of its own there, which shows warnings only
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for noisy in ("absl", "orbax", "jax"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # jax makes its options when it runs: type checkers cannot know them.
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        jax.config.update("jax_compilation_cache_dir", str(bundle.cache() / "xla"))
    if args.dry_run:
        return dry_run(args.config), cli.DONE
    workdir = pathlib.Path(args.workdir)
    return run(args.config, workdir, resume_override=args.resume_override, restart=args.restart)


def parse(argv: Sequence[str]) -> Any:
    """The flags, with `config` an `Experiment`. Raises `UserError` with a suggestion for a typo."""
    argv = [_with_config_found(a) for a in argv]
    if {"--help", "-h", "-help"} & set(argv):
        print(f"{__doc__}\n{_flags([]).get_help()}")
        raise SystemExit(0)
    plain = [a for a in argv if not re.match(r"--?config\.", a)]
    for argument in argv:
        if argument not in plain:
            _check_field(_parsed(plain).config, argument)
    values = _parsed(argv)
    if values.config is None:
        raise UserError("--config=FILE or NAME is required, such as --config=configs/artifygan.py")
    if values.workdir is None and not values.dry_run:
        raise UserError("--workdir=FOLDER is required: where the run lives")
    return values


def _flags(argv: Sequence[str]) -> flags.FlagValues:
    """The flags of this command, in a set of their own so that a process may parse them twice."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config",
        flag_values=values,
        help_string="file or name[:variant]; --config.FIELD=VALUE overrides a field",
        sys_argv=["train", *argv],
    )
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
    for name, text in (
        ("dry_run", "say what would be trained, and stop"),
        ("resume_override", "go on though the config changed"),
        ("restart", "begin anew in this workdir"),
    ):
        flags.DEFINE_bool(name, False, text, flag_values=values)
    return values


def _parsed(argv: Sequence[str]) -> flags.FlagValues:
    values = _flags(argv)
    try:
        rest = values(["train", *argv])
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        # A config's own exception stands at the end of a traceback in the message.
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UserError(re.sub(r"^\w+(Error|Exception): ", "", lines[-1])) from error
    if rest[1:]:
        raise UserError(f"unknown argument {rest[1]!r}; see --help")
    return values


def _check_field(node: Any, argument: str) -> None:
    """`UserError` where `--config.a.b=c` names a field that the config does not have."""
    for name in argument.split("=")[0].split(".")[1:]:
        if isinstance(node, dict):
            allowed, found = list(node), node.get(name)
        else:
            is_config = dataclasses.is_dataclass(node)
            allowed = [f.name for f in dataclasses.fields(node)] if is_config else []
            found = getattr(node, name, None)
        if name not in allowed:
            raise UserError(
                f"{argument}: there is no {name!r}{did_you_mean(name, allowed)};"
                f" allowed are {', '.join(allowed) or 'no further fields'}"
            )
        node = found


def _with_config_found(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return (
        f"{flag}={config.find(value)}" if flag in ("--config", "-config") and equals else argument
    )


def build(cfg: config.Experiment, devices: int | None = None) -> tuple[phases.Engine, Any]:
    """The engine of an experiment and its mesh; checks what can be checked without data."""
    cfg.check()
    mesh = sharding.make_mesh(devices)
    if cfg.data:  # a method without data draws the same on every device
        sharding.check_batch(mesh, cfg.batch_size, cfg.accumulate)
    dtype = cfg.dtype
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    nets = cfg.method.nets(nnx.Rngs(cfg.seed))
    for name, source in cfg.init_from.items():
        if not start_from(nets, name, source):
            for key, adam in cfg.optim.items():
                if key.split("/")[-1] == name:  # random layers are nothing to hold on to
                    adam.freeze, adam.freeze_until = (), 0
    frozen = cfg.method.frozen() if hasattr(cfg.method, "frozen") else {}
    engine = phases.Engine(
        cfg.method.phases(),
        nets,
        frozen,
        cfg.optim,
        cfg.ema,
        batch_size=cfg.batch_size,
        prepare=lambda batch, key: augment.prepare(batch, key, cfg.data, jnp.dtype(dtype)),
        accumulate=cfg.accumulate,
        seed=cfg.seed,
    )
    return engine, mesh


def start_from(nets: dict[str, nnx.Module], name: str, source: str) -> bool:
    """Replaces net `name` by the one in bundle `source`, which must be of the same shape.

    A source that begins with ? may be missing: that is said, the net stays as it is, and the result
    is False.
    """
    if name not in nets:
        raise UserError(f"init_from names net {name!r}; this method has {', '.join(nets)}")
    optional, source = source.startswith("?"), source.removeprefix("?")
    try:
        bundle.find(source)
    except UserError:
        if not optional:
            raise
        logging.warning("no bundle %r: net %s starts fresh, with nothing frozen", source, name)
        return False
    net, card = bundle.load(source)
    want = {k: x.shape for k, x in phases.values(nets[name]).items()}
    have = {k: x.shape for k, x in phases.values(net).items()}
    if want != have:
        raise UserError(f"{source} does not fit net {name!r}: {_differences(nets[name], net)}")
    nets[name] = net
    return True


def _differences(wanted: Any, found: Any) -> str:
    """What options two nets differ in, or what variables, where options say nothing."""
    a, b = (vars(net.options) for net in (wanted, found))
    if type(wanted) is not type(found):
        return f"it is {_kind(found)}, wanted {_kind(wanted)}"
    options = [f"{k} is {b[k]}, wanted {a[k]}" for k in a if a[k] != b[k]]
    shapes = [{k: x.shape for k, x in phases.values(net).items()} for net in (wanted, found)]
    variables = sorted(f"{k} {x}" for k, x in shapes[0].items() ^ shapes[1].items())
    return "; ".join(options or variables[:6])


def _kind(net: Any) -> str:
    return f"{type(net).__module__.rsplit('.', 1)[-1]} {type(net).__name__.lower()}"


def run(
    cfg: config.Experiment,
    workdir: pathlib.Path,
    *,
    devices: int | None = None,
    resume_override: bool = False,
    restart: bool = False,
) -> tuple[dict, int]:
    """Trains `cfg` in `workdir` to its last step. Returns (summary, exit code).

    SIGTERM and Ctrl-C save and return early; a step that is not finite ends the run and leaves the
    last good checkpoint.
    """
    engine, mesh = build(cfg, devices)
    for line in parameter_counts(engine):
        logging.info(line)
    batches = streams.Batches(
        cfg.data,
        cfg.batch_size,
        seed=cfg.seed,
        steps=cfg.steps,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    described = config.describe(cfg)
    if restart and workdir.exists():
        with checkpoint.lock(workdir):
            shutil.rmtree(workdir)
    resuming = (workdir / "config.json").exists()
    if resuming:
        old = json.loads((workdir / "config.json").read_text())
        for line in config.check_resume(old, described, resume_override):
            logging.info("config changed: %s", line)
    workdir.mkdir(parents=True, exist_ok=True)
    with checkpoint.lock(workdir):
        write_text(workdir / "config.json", json.dumps(described, indent=1) + "\n")
        trainer = Trainer(cfg, workdir, engine, mesh, batches, described)
        try:
            return trainer.run()
        finally:
            trainer.close()


def parameter_counts(engine: phases.Engine) -> list[str]:
    """How many parameters of each net are trained, and how many are frozen, as lines."""
    lines = []
    for name, params in engine.init().params.items():
        if not params:  # remembers, but learns nothing
            continue
        sizes = {path: x.size for path, x in params.items()}
        frozen = sum(size for path, size in sizes.items() if path in engine.fixed[name])
        lines.append(
            f"net {name}: {sum(sizes.values()) - frozen:,} parameters trained, {frozen:,} frozen"
        )
    return lines


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    fresh = path.with_name(path.name + ".tmp")
    fresh.write_text(text)
    fresh.replace(path)


class Trainer:
    """One run in its workdir: state, log, checkpoints, and the loop."""

    def __init__(self, cfg, workdir, engine, mesh, batches, described):
        self.cfg, self.workdir, self.engine, self.mesh = cfg, workdir, engine, mesh
        self.batches, self.described = batches, described
        self.checkpoints = checkpoint.Checkpoints(
            workdir / "checkpoints", keep=cfg.keep, best=cfg.best
        )
        state = sharding.replicate(mesh, engine.init())
        found = self.checkpoints.restore(state)
        self.start = 0
        if found:
            state, meta = found
            self.start = int(state.step)
            if meta["next_index"] != self.start:
                raise UserError(
                    f"the checkpoint is at step {self.start} but its data at {meta['next_index']}:"
                    " it was not written by this program; use another --workdir"
                )
        self.state = state
        self.frozen = sharding.replicate(mesh, engine.frozen)
        self.log = Log(workdir, keep_to=self.start)
        self.latest: dict[str, float] = {}
        self.signal = 0
        self._generate = ops.jit(self._generate_fn)

    def run(self) -> tuple[dict, int]:
        """The loop."""
        cfg = self.cfg
        if self.start:
            logging.info("resuming at step %d of %d in %s", self.start, cfg.steps, self.workdir)
        else:
            self.evaluate(0)
        self._catch_signals()
        progress = Progress(self.start, cfg.steps, cfg.batch_size)
        batches = ahead(streams.load(self.batches, self.start), self.mesh)
        step = self.start
        while step < cfg.steps and not self.signal:
            batch = next(batches)
            self.state, metrics = self.engine.step(self.state, self.frozen, batch, step)
            step += 1
            if step % cfg.log_every == 0 or step == cfg.steps:
                if not self.finite():
                    return self._not_finite()
                self.log.write(step, metrics)
                progress.show(step, self.log)
            self.evaluate(step)
            if step % cfg.checkpoint_every == 0 or step == cfg.steps:
                if not self.finite():
                    return self._not_finite()
                self.save(step)
        if self.signal and step < cfg.steps:
            return self._stopped(step, progress)
        return self._summary(step, progress), cli.DONE

    def evaluate(self, step: int) -> None:
        """Runs what is due at `step` and logs its numbers."""
        for name, item in self.cfg.evals.items():
            if step % item.every == 0 or step == self.cfg.steps:
                numbers = dict(item.run(self.generate, step, self.workdir))
                numbers = {f"{name}/{k}": float(v) for k, v in numbers.items()}
                self.latest |= numbers
                self.log.write(step, numbers)

    def generate(self, inputs: np.ndarray) -> np.ndarray:
        """What the averaged nets make of uint8 pictures `[N, H, W, 3]` or of latents.

        Pictures are uint8; what is none, such as scores, is as the method gives it.
        """
        params = self.state.params | self.state.ema
        return np.asarray(self._generate(params, self.state.buffers, self.frozen, inputs))

    def _generate_fn(self, params, buffers, frozen, inputs):
        nets = self.engine.nets(params, buffers) | self.engine.still(frozen)
        if inputs.dtype == jnp.uint8:
            inputs = augment.to_float(inputs)
        made = self.cfg.method.generate(nets, inputs)
        return augment.to_uint8(made) if made.ndim == 4 else made

    def save(self, step: int) -> None:
        """A checkpoint and a bundle of `step`; also the best bundle, where this is the best.

        The bundle is of the method's first net, which is what a run is for.
        """
        metrics = dict(self.latest)
        self.checkpoints.save(step, self.state, {"next_index": step, "metrics": metrics}, metrics)
        card = {"trained": {"step": step, "metrics": metrics, "config": self.described}}
        nets = self.engine.averaged(self.state)
        net = nets[self.engine.product]
        bundle.save(self.workdir / "model", net, card)
        if "d" in nets:  # for those who fine-tune: `init_from`
            bundle.save(self.workdir / "model_d", nets["d"], card)
        best = self.cfg.best
        if best in metrics:
            try:
                champion = bundle.read_card(self.workdir / "best")["trained"]["metrics"][best]
            except (FileNotFoundError, UserError):
                champion = float("inf")
            if metrics[best] < champion:
                bundle.save(self.workdir / "best", net, card)

    def finite(self) -> bool:
        """Whether every loss and gradient so far was finite. Waits for the device."""
        return int(self.state.bad) < 0

    def close(self) -> None:
        """Ends what is under way."""
        self.checkpoints.close()
        self.log.close()

    def _not_finite(self) -> tuple[dict, int]:
        bad = int(self.state.bad)
        names = self.batches.names(bad)
        self.checkpoints.wait()
        last = self.checkpoints.manager.latest_step()
        report = {"step": bad, "batch": names, "last_good_checkpoint": last}
        write_text(self.workdir / "not_finite.json", json.dumps(report, indent=1))
        print(
            f"error: loss or gradient of step {bad} is not finite; its batch: {names};"
            f" the checkpoint of step {last} is kept. Lower the rate (--config.optim...lr) and run"
            " the command again with --resume_override",
            file=sys.stderr,
        )
        return {"workdir": str(self.workdir), **report}, cli.INTERNAL

    def _catch_signals(self) -> None:
        def note(number, frame):
            self.signal = number
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C is final

        try:
            signal.signal(signal.SIGTERM, note)
            signal.signal(signal.SIGINT, note)
        except ValueError:  # not the main thread (a notebook, a test): signals are not ours
            logging.info("signals are left alone: not in the main thread")

    def _stopped(self, step: int, progress) -> tuple[dict, int]:
        if not self.finite():
            return self._not_finite()
        self.save(step)
        self.checkpoints.wait()
        command = " ".join(["python -m artifygan_jax.train", *sys.argv[1:]])
        print(f"stopped and saved at step {step}; to go on: {command}", file=sys.stderr)
        code = cli.INTERRUPTED if self.signal == signal.SIGINT else cli.STOPPED_EARLY
        return self._summary(step, progress), code

    def _summary(self, step: int, progress) -> dict:
        return {
            "workdir": str(self.workdir),
            "steps": step,
            "resumed_from": self.start or None,
            "images_per_s": progress.rate(step),
            "model": str(self.workdir / "model"),
            **self.latest,
        }


def ahead(batches: Iterator, mesh, count: int = 2) -> Iterator[dict[str, jax.Array]]:
    """Keeps `count` batches on their way to the devices while the step runs."""
    waiting: collections.deque = collections.deque()
    for batch in batches:
        waiting.append(sharding.put_batch(mesh, batch))
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def dry_run(cfg: config.Experiment) -> dict:
    """What would be trained: config, sizes, costs per image, batches, memory; no data is read."""
    engine, mesh = build(cfg)
    state = engine.init()
    count = lambda arrays: sum(x.size for x in arrays.values())  # noqa: E731
    report: dict[str, Any] = {"config": config.describe(cfg), "devices": mesh.size}
    report["parameters"] = {n: count(p) for n, p in state.params.items()}
    report["trained"] = {n: count(engine._trained(p, n)) for n, p in state.params.items()}
    report["batch"] = {}
    specs = {}
    for name in cfg.data:
        leader = streams.leader_of(cfg.data, name)
        shape = (cfg.batch_size, leader.size, leader.size, 3)
        report["batch"][name] = {
            "shape": shape,
            "dtype": "uint8",
            "crop": leader.crop or leader.size,
        }
        specs[name] = jax.ShapeDtypeStruct(shape, jnp.uint8)
    report["gmac_per_image"] = {}
    activations = 0
    for phase in engine.phases:
        update = lambda s, f, b, phase=phase: engine.update(phase, s, f, b)  # noqa: E731
        macs = ops.count_macs(update, state, engine.frozen, specs)
        report["gmac_per_image"][phase.name] = round(macs / cfg.batch_size / 1e9, 3)
        activations = max(activations, ops.count_activations(update, state, engine.frozen, specs))
    fixed = sum(x.nbytes for x in jax.tree.leaves((state, engine.frozen)))
    per_device = fixed + activations // mesh.size // cfg.accumulate
    report["memory_estimate_gib_per_device"] = round(per_device / 2**30, 2)
    print(json.dumps({k: v for k, v in report.items() if k != "config"}, indent=1), file=sys.stderr)
    return report


if __name__ == "__main__":
    cli.run(main)
