"""The engine: a training method is a table of phases, and one function runs any of them.

A phase says which nets move, along which loss, and when. The engine knows nothing of GANs: it takes
a gradient, applies an optimiser and keeps what the nets remember. Everything remembered between
steps is a variable of a net (`nnx.Param` moves by optimisers, every other variable by forward
passes). Frozen nets are an argument, not state. Random keys are functions of the step.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from artifygan_jax import optim
from artifygan_jax.errors import UserError
from artifygan_jax.nets import ops

Arrays = dict[str, jax.Array]  # path -> array


@dataclasses.dataclass(frozen=True)
class Phase:
    """One kind of update.

    `loss(nets, batch, key) -> (scalar, {metric: scalar})`, where `nets` holds the trained and the
    frozen nets by name. Due at steps `start`, `start + every`, ... before `stop`. A phase that runs
    every k steps multiplies its loss itself, where the paper has the factor.
    """

    name: str
    trains: tuple[str, ...]
    loss: Callable[..., tuple[jax.Array, Mapping[str, jax.Array]]]
    every: int = 1
    start: int = 0
    stop: float = float("inf")

    def due(self, step: int) -> bool:
        """Whether the phase runs at `step`."""
        return self.start <= step < self.stop and (step - self.start) % self.every == 0


@dataclasses.dataclass
class Ema:
    """Exponential average of a net's parameters: half-life in thousands of images.

    `rampup` r limits the half-life to r times the images seen (StyleGAN2-ADA); 0 is no ramp.
    """

    kimg: float = 10.0
    rampup: float = 0.05

    def beta(self, step: jax.Array, batch_size: int) -> jax.Array:
        """The factor on the average at `step` (counted from 0)."""
        images = (step + 1).astype(jnp.float32) * batch_size
        half_life = jnp.asarray(self.kimg * 1000.0)
        if self.rampup:
            half_life = jnp.minimum(half_life, images * self.rampup)
        return 0.5 ** (batch_size / half_life)


class State(flax.struct.PyTreeNode):
    """All that a run remembers; what a checkpoint holds. `bad` is the first step that was not finite."""

    step: jax.Array
    bad: jax.Array
    params: dict[str, Arrays]
    buffers: dict[str, Arrays]
    opt: dict[str, Any]
    ema: dict[str, Arrays]


class Graph(NamedTuple):
    """A net without its values: what `assemble` needs besides arrays by path."""

    definition: Any
    leaves: tuple  # (path tuple, variable) in nnx's order


def take_apart(net: nnx.Module) -> tuple[Graph, Arrays, Arrays]:
    """A net as (graph, parameters by path, other variables by path)."""
    definition, state = nnx.split(net)
    leaves = tuple(nnx.to_flat_state(state))
    params = {_name(p): v.get_value() for p, v in leaves if isinstance(v, nnx.Param)}
    buffers = {_name(p): v.get_value() for p, v in leaves if not isinstance(v, nnx.Param)}
    empty = tuple((p, v.replace(None)) for p, v in leaves)
    return Graph(definition, empty), params, buffers


def assemble(graph: Graph, arrays: Mapping[str, jax.Array]) -> nnx.Module:
    """The net of `graph` with the given values."""
    flat = [(p, v.replace(arrays[_name(p)])) for p, v in graph.leaves]
    return nnx.merge(graph.definition, nnx.from_flat_state(flat))


def values(net: nnx.Module) -> Arrays:
    """Every variable of `net` by path."""
    return {_name(p): v.get_value() for p, v in nnx.to_flat_state(nnx.state(net))}


def _name(path) -> str:
    return "/".join(map(str, path))


class Engine:
    """Runs the phases of a method: built once, holds no state of its own.

    `prepare(batch, key) -> batch` turns the uint8 batch into what losses take, inside the program.
    `optimisers` are keyed by net, or by "phase/net" where a phase has one of its own. `accumulate`
    parts of a batch are run one after the other and their gradients averaged.
    """

    def __init__(
        self,
        phases: tuple[Phase, ...],
        nets: Mapping[str, nnx.Module],
        frozen: Mapping[str, nnx.Module],
        optimisers: Mapping[str, optim.Adam],
        ema: Mapping[str, Ema],
        *,
        batch_size: int,
        prepare: Callable = lambda batch, key: batch,
        accumulate: int = 1,
        seed: int = 0,
    ):
        check_table(phases, nets, optimisers, ema)
        self.product = next(iter(nets))  # the net that a run is for; jax sorts the names in states
        self.phases, self.ema, self.prepare = phases, dict(ema), prepare
        self.batch_size, self.accumulate = batch_size, accumulate
        parts = {name: take_apart(net) for name, net in (*nets.items(), *frozen.items())}
        self.graphs = {name: graph for name, (graph, _, _) in parts.items()}
        self.frozen = {name: parts[name][1] | parts[name][2] for name in frozen}
        self.fixed = fixed_leaves(optimisers, nets)
        self.tx = {key: spec.transform() for key, spec in optimisers.items()}
        self.key = jax.random.key(seed)
        self._first = {n: (parts[n][1], parts[n][2]) for n in nets}
        self._steps = {
            p.name: ops.jit(functools.partial(self.update, p), donate_argnums=0) for p in phases
        }
        self._finish = ops.jit(self.finish, donate_argnums=0)

    def init(self) -> State:
        """The state before the first step."""
        params = {n: p for n, (p, _) in self._first.items()}
        trained = {
            key: self._trained(params[key.split("/")[-1]], key.split("/")[-1]) for key in self.tx
        }
        return State(
            step=jnp.zeros((), jnp.int32),
            bad=jnp.full((), -1, jnp.int32),
            params=params,
            buffers={n: b for n, (_, b) in self._first.items()},
            opt={key: tx.init(trained[key]) for key, tx in self.tx.items()},
            ema={n: params[n] for n in self.ema},
        )

    def step(self, state: State, frozen, batch, step: int) -> tuple[State, dict[str, jax.Array]]:
        """All phases due at `step`, then averages. Donates `state`; metrics are `phase/name`."""
        metrics = {}
        for phase in self.phases:
            if phase.due(step):
                state, found = self._steps[phase.name](state, frozen, batch)
                metrics |= found
        return self._finish(state), metrics

    def update(self, phase: Phase, state: State, frozen, batch) -> tuple[State, dict]:
        """One update of one phase, as a pure function."""
        # Every phase sees the same crops and flips: their key leaves the phase out.
        step_key = jax.random.fold_in(self.key, state.step)
        key = jax.random.fold_in(step_key, 1 + self.phases.index(phase))
        batch = self.prepare(batch, jax.random.fold_in(step_key, 0))
        train = {n: self._trained(state.params[n], n) for n in phase.trains}
        grads, loss, metrics, buffers = self._gradient(
            phase, train, state.params, state.buffers, frozen, batch, key
        )
        params, opt = dict(state.params), dict(state.opt)
        for n in phase.trains:
            slot = optimiser_of(phase, n, self.tx)
            moves, opt[slot] = self.tx[slot].update(grads[n], opt[slot], train[n])
            moved: Any = optax.apply_updates(train[n], moves)
            params[n] = params[n] | moved
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        bad = jnp.where((state.bad < 0) & ~finite, state.step, state.bad)
        metrics = {"loss": loss, "grad_norm": norm, **metrics}
        metrics = {f"{phase.name}/{k}": v for k, v in metrics.items()}
        return state.replace(params=params, buffers=buffers, opt=opt, bad=bad), metrics

    def finish(self, state: State) -> State:
        """Moves the averages and the step counter."""
        ema = dict(state.ema)
        for n, spec in self.ema.items():
            beta = spec.beta(state.step, self.batch_size)
            ema[n] = {k: x + (1 - beta) * (state.params[n][k] - x) for k, x in ema[n].items()}
        return state.replace(step=state.step + 1, ema=ema)

    def nets(self, params, buffers) -> dict[str, nnx.Module]:
        """The trained nets with the given values."""
        return {n: assemble(self.graphs[n], params[n] | buffers[n]) for n in params}

    def still(self, frozen) -> dict[str, nnx.Module]:
        """The frozen nets with the given values."""
        return {n: assemble(self.graphs[n], arrays) for n, arrays in frozen.items()}

    def averaged(self, state: State) -> dict[str, nnx.Module]:
        """The nets for use: averaged parameters where there are averages."""
        return self.nets(state.params | state.ema, state.buffers)

    def _trained(self, params: Arrays, net: str) -> Arrays:
        return {k: x for k, x in params.items() if k not in self.fixed[net]}

    def _gradient(self, phase, train, params, buffers, frozen, batch, key):
        """(gradients, loss, metrics, buffers), over `accumulate` parts of the batch."""

        def loss_fn(train, buffers, batch, key):
            whole = params | {n: params[n] | t for n, t in train.items()}
            nets = self.nets(whole, buffers)
            still = self.still(frozen)
            loss, metrics = phase.loss(nets | still, batch, key)
            for n, net in still.items():
                changed = [k for k, x in values(net).items() if x is not frozen[n][k]]
                if changed:
                    raise RuntimeError(f"phase {phase.name} changes {changed} of frozen net {n!r}")
            after = {n: self._moved(n, buffers[n], values(net)) for n, net in nets.items()}
            return loss, (metrics, after)

        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        if self.accumulate == 1:
            (loss, (metrics, buffers)), grads = gradient(train, buffers, batch, key)
            return grads, loss, metrics, buffers

        k = self.accumulate
        # Every k-th example, so that each part has as many examples of every device.
        parts = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, k, *x.shape[1:]), 1, 0), batch)

        def one(buffers, inputs):
            part, index = inputs
            (loss, (metrics, buffers)), grads = gradient(
                train, buffers, part, jax.random.fold_in(key, index)
            )
            return buffers, (grads, loss, metrics)

        buffers, results = jax.lax.scan(one, buffers, (parts, jnp.arange(k)))
        return *jax.tree.map(lambda x: x.mean(0), results), buffers

    def _moved(self, net: str, before: Arrays, after: Arrays) -> Arrays:
        return {k: x if k in self.fixed[net] else after[k] for k, x in before.items()}


def optimiser_of(phase: Phase, net: str, optimisers: Mapping[str, Any]) -> str:
    """The key of the optimiser that moves `net` in `phase`."""
    own = f"{phase.name}/{net}"
    return own if own in optimisers else net


def check_table(phases, nets, optimisers, ema) -> None:
    """`UserError` where phases, nets, optimisers and averages do not name each other rightly."""
    wrong = []
    used = set()
    for phase in phases:
        if phase.every < 1:
            wrong.append(f"phase {phase.name} runs every {phase.every} steps; needs at least 1")
        for n in phase.trains:
            key = optimiser_of(phase, n, optimisers)
            used.add(key)
            if n not in nets:
                wrong.append(f"phase {phase.name} trains {n!r}, nets are {sorted(nets)}")
            elif key not in optimisers:
                wrong.append(f"net {n!r} has no optimiser; optim has {sorted(optimisers)}")
    wrong += [f"optim.{key} moves no net of any phase" for key in optimisers if key not in used]
    wrong += [f"ema.{n}: nets are {sorted(nets)}" for n in ema if n not in nets]
    if wrong:
        raise UserError("; ".join(wrong))


def fixed_leaves(optimisers, nets: Mapping[str, nnx.Module]) -> dict[str, set[str]]:
    """Per net the paths that its optimisers freeze: parameters, and buffers of the same layers."""
    fixed: dict[str, set[str]] = {n: set() for n in nets}
    for key, spec in optimisers.items():
        n = key.split("/")[-1]
        _, params, buffers = take_apart(nets[n])
        found = optim.frozen_paths(optim.freeze_patterns(spec, nets[n], n), params, n)
        blocks = tuple({path.rsplit("/", 1)[0] + "/" for path in found})
        fixed[n] |= found | {path for path in buffers if path.startswith(blocks)}
    return fixed
