"""The engine on two toy nets: what moves, what is remembered, what fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import sharding
from artifygan_jax.errors import UserError
from artifygan_jax.optim import Adam
from artifygan_jax.phases import Ema, Engine, Phase, assemble, take_apart


class Line(nnx.Module):
    """y = x @ kernel + bias, and a count of its calls."""

    def __init__(self, seed: int):
        rngs = nnx.Rngs(seed)
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.second = nnx.Linear(4, 1, rngs=rngs)
        self.calls = nnx.Variable(jnp.zeros(()))

    def __call__(self, x):
        self.calls[...] = self.calls[...] + 1
        return self.second(jax.nn.relu(self.first(x)))


def loss_of(name, scale=1.0):
    def loss(nets, batch, key):
        out = nets[name](batch["x"])
        return scale * jnp.square(out - batch["y"][:, None]).mean(), {"out": out.mean()}

    return loss


def batch_of(n=8, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": jnp.asarray(rng.normal(size=(n, 3)), jnp.float32),
        "y": jnp.asarray(rng.normal(size=n), jnp.float32),
    }


def engine_of(phases=None, optim=None, **kw):
    phases = phases or (Phase("g", ("g",), loss_of("g")), Phase("d", ("d",), loss_of("d"), every=2))
    optim = optim or dict(g=Adam(0.1), d=Adam(0.1))
    nets = dict(g=Line(0), d=Line(1))
    kw = dict(ema={}, batch_size=8) | kw
    ema = kw.pop("ema")
    return Engine(phases, nets, kw.pop("frozen", {}), optim, ema, **kw)


def fresh(engine, devices=None):
    return sharding.replicate(sharding.make_mesh(devices), engine.init())


def host(tree):
    return jax.tree.map(np.asarray, tree)


@pytest.mark.parametrize(
    ("phase", "due"),
    [
        (Phase("p", (), None), [0, 1, 2, 3, 4, 5, 6, 7]),
        (Phase("p", (), None, every=3), [0, 3, 6]),
        (Phase("p", (), None, every=3, start=1), [1, 4, 7]),
        (Phase("p", (), None, stop=2), [0, 1]),
        (Phase("p", (), None, start=2, stop=5), [2, 3, 4]),
    ],
)
def test_due_steps_of_a_phase(phase, due):
    assert [k for k in range(8) if phase.due(k)] == due


def test_a_phase_moves_every_leaf_of_what_it_trains_and_nothing_else():
    engine = engine_of(
        (Phase("g", ("g",), loss_of("g")), Phase("d", ("d",), loss_of("d"), start=9))
    )
    state = fresh(engine)
    before = host(state.params)
    state, metrics = engine.step(state, {}, batch_of(), 0)
    after = host(state.params)
    assert all((before["g"][k] != after["g"][k]).any() for k in before["g"])
    assert all((before["d"][k] == after["d"][k]).all() for k in before["d"])
    assert {"g/loss", "g/out", "g/grad_norm"} == set(metrics)
    assert int(state.step) == 1


def test_buffers_advance_by_forward_passes_and_are_kept():
    engine = engine_of()
    state = fresh(engine)
    for step in range(4):
        state, _ = engine.step(state, {}, batch_of(), step)
    assert float(state.buffers["g"]["calls"]) == 4
    assert float(state.buffers["d"]["calls"]) == 2  # every second step


def test_frozen_leaves_stay_bit_equal_and_hold_no_moments():
    engine = engine_of(optim=dict(g=Adam(0.1, freeze=("first/.*",)), d=Adam(0.1)))
    state = fresh(engine)
    moments = [
        jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(state.opt["g"])
    ]
    assert any("second/kernel" in m for m in moments)
    assert not any("first" in m for m in moments)
    before = host(state.params["g"])
    for step in range(3):
        state, _ = engine.step(state, {}, batch_of(), step)
    after = host(state.params["g"])
    for name in before:
        assert (before[name] == after[name]).all() == name.startswith("first/")


def test_an_optimiser_of_a_phase_has_its_own_rate_and_moments():
    phases = (
        Phase("warm", ("g",), loss_of("g"), stop=1),
        Phase("g", ("g",), loss_of("g"), start=1),
        Phase("d", ("d",), loss_of("d")),
    )
    engine = engine_of(phases, {"warm/g": Adam(0.5), "g": Adam(0.001), "d": Adam(0.1)})
    state = fresh(engine)
    a = host(state.params["g"])
    state, _ = engine.step(state, {}, batch_of(), 0)
    b = host(state.params["g"])
    state, _ = engine.step(state, {}, batch_of(), 1)
    c = host(state.params["g"])
    # Adam's first move is the rate in every moved element.
    assert np.isclose(np.abs(b["second/bias"] - a["second/bias"]).max(), 0.5, rtol=1e-3)
    assert np.isclose(np.abs(c["second/bias"] - b["second/bias"]).max(), 0.001, rtol=1e-2)


def test_ema_follows_its_closed_form():
    engine = engine_of(ema=dict(g=Ema(kimg=0.008, rampup=0)))
    state = fresh(engine)
    first = host(state.params["g"])
    state, _ = engine.step(state, {}, batch_of(), 0)
    second = host(state.params["g"])
    beta = 0.5 ** (8 / 8)  # batch 8, half-life 8 images
    for name, x in host(state.ema["g"]).items():
        np.testing.assert_allclose(x, beta * first[name] + (1 - beta) * second[name], rtol=1e-6)


def test_ema_rampup_limits_the_half_life_to_a_share_of_the_images_seen():
    spec = Ema(kimg=10, rampup=0.05)
    assert np.isclose(float(spec.beta(jnp.asarray(99), 8)), 0.5 ** (8 / (800 * 0.05)))
    assert np.isclose(float(spec.beta(jnp.asarray(10**7), 8)), 0.5 ** (8 / 10_000))


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_equal_those_of_the_whole_batch(parts):
    results = []
    for accumulate in (1, parts):
        engine = engine_of(accumulate=accumulate)
        state, _ = engine.step(fresh(engine), {}, batch_of(), 0)
        results.append(host(state.params["g"]))
    for name in results[0]:
        # Adam divides by the gradient's size, so rounding shows in relative terms only.
        np.testing.assert_allclose(results[0][name], results[1][name], atol=2e-6)


def test_one_and_eight_devices_agree():
    results = []
    for devices in (1, 8):
        mesh = sharding.make_mesh(devices)
        engine = engine_of(ema=dict(g=Ema()))
        state = sharding.replicate(mesh, engine.init())
        for step in range(5):
            batch = sharding.put_batch(mesh, host(batch_of(seed=step)))
            state, metrics = engine.step(state, {}, batch, step)
        results.append((host(state), host(metrics)))
    (state1, metrics1), (state8, metrics8) = results
    # Sums over devices round differently: 1e-5 after five steps, 1e-6 for metrics (decisions §5).
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state1, state8
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), metrics1, metrics8)


def test_each_phase_compiles_once_and_its_state_is_donated():
    engine = engine_of()
    state = fresh(engine)
    for step in range(6):
        old = state
        state, _ = engine.step(state, {}, batch_of(seed=step), step)
        assert old.params["g"]["first/kernel"].is_deleted()
    assert {name: fn._cache_size() for name, fn in engine._steps.items()} == {"g": 1, "d": 1}


def test_the_first_step_that_is_not_finite_is_remembered():
    engine = engine_of()
    state = fresh(engine)
    for step in range(4):
        batch = batch_of(seed=step)
        if step == 2:
            batch["x"] = batch["x"].at[0, 0].set(jnp.nan)
        state, _ = engine.step(state, {}, batch, step)
    assert int(state.bad) == 2


def test_a_frozen_net_is_used_but_may_not_change_its_buffers():
    def loss(nets, batch, key):
        return loss_of("still")(nets, batch, key)[0] + loss_of("g")(nets, batch, key)[0], {}

    engine = engine_of((Phase("g", ("g",), loss),), dict(g=Adam()), frozen=dict(still=Line(5)))
    with pytest.raises(RuntimeError, match=r"changes \['calls'\] of frozen net 'still'"):
        engine.step(fresh(engine), engine.frozen, batch_of(), 0)


def test_keys_differ_by_phase_and_step_but_not_by_run():
    seen = []

    def loss(nets, batch, key):
        return loss_of("g")(nets, batch, key)[0], {"draw": jax.random.uniform(key)}

    for _ in range(2):
        engine = engine_of((Phase("a", ("g",), loss), Phase("b", ("g",), loss)), dict(g=Adam()))
        state, draws = fresh(engine), []
        for step in range(2):
            state, metrics = engine.step(state, {}, batch_of(), step)
            draws += [float(metrics["a/draw"]), float(metrics["b/draw"])]
        seen.append(draws)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 4


@pytest.mark.parametrize(
    ("optim", "words"),
    [
        (dict(g=Adam()), "net 'd' has no optimiser"),
        (dict(g=Adam(), d=Adam(), e=Adam()), "optim.e moves no net"),
        (dict(g=Adam(freeze=("frist/.*",)), d=Adam()), "match no parameter: frist"),
        (dict(g=Adam(freeze=(".*",)), d=Adam()), "nothing to train"),
    ],
)
def test_a_table_that_does_not_fit_is_named(optim, words):
    with pytest.raises(UserError, match=words):
        engine_of(optim=optim)


def test_taking_a_net_apart_and_assembling_it_gives_the_net():
    net = Line(3)
    graph, params, buffers = take_apart(net)
    assert set(params) == {"first/kernel", "first/bias", "second/kernel", "second/bias"}
    assert set(buffers) == {"calls"}
    x = batch_of()["x"]
    assert (assemble(graph, params | buffers)(x) == net(x)).all()
