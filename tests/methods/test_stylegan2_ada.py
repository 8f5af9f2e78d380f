"""StyleGAN2-ADA's four losses and their gradients against the authors', and what its phases do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import ada, phases
from artifygan_jax.methods import stylegan2_ada
from artifygan_jax.methods.stylegan2_ada import Latents, StyleGAN2ADA
from artifygan_jax.nets import ops, stylegan2
from artifygan_jax.optim import Adam
from artifygan_jax.phases import Ema, Engine
from tests import golden
from tests.nets.test_stylegan2 import grouped, tiny
from tests.stylegan2 import apply, check_gradients, file, gradients, nhwc, nvidia, nvidia_net

CASE = "nvidia_stylegan2_ada"
OPTIONS = dict(
    generator=stylegan2.GeneratorOptions((8, 8, 4), z_size=16, w_size=16, mapping_layers=2),
    discriminator=stylegan2.DiscriminatorOptions((8, 8, 4)),
)


def method(**changes):
    """The method at 16 px."""
    return StyleGAN2ADA(**(OPTIONS | changes))


class Fixed:
    """A generator whose noise is its own, as in the golden case."""

    def __init__(self, g):
        self.mapping, self.g = g.mapping, g

    def synthesis(self, ws, **how):
        return self.g.synthesis(ws, noise="const")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "name", "net"),
    [
        ("g", "Gmain(gain=1)", "generator"),
        ("path", "Greg(gain=4)", "generator"),
        ("d", "Dmain(gain=1)", "discriminator"),
        ("r1", "Dreg(gain=16)", "discriminator"),
    ],
)
def test_losses_and_their_gradients_are_the_authors(phase, name, net, monkeypatch):
    arrays, meta, _ = file(CASE)
    g, d = nvidia_net("generator"), nvidia_net("discriminator")
    z, real = jnp.asarray(arrays["in/z4"]), nhwc(arrays["in/x8"][:4])
    path = stylegan2_ada.PathLength()
    path.mean[...] = jnp.float32(0.8)
    y = nhwc(arrays["in/pl_noise_unit_normal(before /sqrt(HW))"])
    made = StyleGAN2ADA(g.options, d.options)
    loss_of = getattr(made, f"{phase}_loss")
    monkeypatch.setattr(made, "latents", lambda n, key: Latents(z[:n], z[:n], jnp.int32(8)))
    if phase == "path":
        monkeypatch.setattr(jax.random, "normal", lambda key, shape: y)
    trained, other = (g, d) if net == "generator" else (d, g)

    class Both(nnx.Module):
        def __init__(self):
            self.net, self.other, self.path = trained, other, path

    def loss(both, real):
        made_g, made_d = (both.net, both.other)[:: 1 if net == "generator" else -1]
        nets = {"g": Fixed(made_g), "d": made_d, "path": both.path}
        value, metrics = loss_of(nets, {"real": real}, jax.random.key(0))
        found.update(metrics)
        return value

    found = {}
    graph, params, buffers = phases.take_apart(Both())

    @ops.jit
    def run(params, rest, real):
        def inner(params):
            found.clear()
            both = phases.assemble(graph, params | rest)
            value = loss(both, real)
            after = {k: v for k, v in phases.values(both).items() if k in buffers}
            return value, (value, dict(found), after)

        grads, result = jax.grad(inner, has_aux=True)(params)
        return grads, result

    moving = {k: v for k, v in params.items() if k.startswith("net/")}
    still = {k: v for k, v in params.items() if k not in moving}
    grads, (value, metrics, after) = run(moving, still | buffers, real)
    grads = {k.removeprefix("net/"): v for k, v in grads.items()}
    # Parameters that the authors' phase does not reach have gradients of zero there and here.
    assert check_gradients(meta, name, grads, nvidia) == grads.keys()

    case = name.split("(")[0]
    out = lambda key: arrays[f"out64/{case}/{key}"]  # noqa: E731
    if phase == "g":
        np.testing.assert_allclose(value, out("report/Loss/G/loss").mean(), rtol=1e-5)
        np.testing.assert_allclose(
            metrics["logit_fake"], out("report/Loss/scores/fake").mean(), rtol=1e-4, atol=1e-6
        )
    if phase == "path":
        penalty = out("report/Loss/pl_penalty").mean()
        np.testing.assert_allclose(metrics["penalty"], penalty, rtol=3e-4)
        np.testing.assert_allclose(value, 4 * out("report/Loss/G/reg").mean(), rtol=3e-4)
        np.testing.assert_allclose(
            after["path/mean"], out("pl_mean_after(start 0.8)")[0], rtol=1e-5
        )
    if phase == "d":
        np.testing.assert_allclose(value, out("report/Loss/D/loss").mean(), rtol=1e-5)
        assert float(metrics["sign_real"]) == out("report/Loss/signs/real").mean()
    if phase == "r1":
        penalty = out("report/Loss/r1_penalty").mean()
        np.testing.assert_allclose(metrics["penalty"], penalty, rtol=1e-5)
        np.testing.assert_allclose(value, 16 * out("report/Loss/D/reg").mean(), rtol=1e-5)
    w_avg = next(v for k, v in after.items() if k.endswith("mapping/w_avg"))
    golden.check_out(arrays, meta, f"{case}/w_avg_after", np.asarray(w_avg))


def test_r1_of_a_linear_critic_is_the_squared_length_of_its_weights():
    w = jnp.asarray(golden.draw("w", (4, 4, 3)))
    x = jnp.asarray(golden.draw("x", (5, 4, 4, 3)))

    def penalty(w):
        value, moves, logits = stylegan2_ada.r1(lambda x: jnp.einsum("nhwc,hwc->n", x, w), x)
        return moves, (value, logits)

    (moves, (value, logits)), slope = jax.value_and_grad(penalty, has_aux=True)(w)
    np.testing.assert_allclose([moves, value], jnp.square(w).sum(), rtol=1e-6)
    np.testing.assert_allclose(slope, 2 * w, rtol=1e-5)
    np.testing.assert_allclose(logits, jnp.einsum("nhwc,hwc->n", x, w), rtol=1e-5)


def same(found, wanted):
    """Gradients by path agree, relative to the longest."""
    scale = max(float(jnp.linalg.norm(x)) for x in wanted.values())
    for path, x in wanted.items():
        worst = float(jnp.linalg.norm(found[path] - x))
        assert worst <= 1e-4 * max(float(jnp.linalg.norm(x)), 1e-2 * scale), path


def test_gradient_of_r1_is_that_of_differentiating_twice_in_reverse():
    """A batch of eight: the deviation over groups is in it."""
    d, x = tiny("discriminator"), jnp.asarray(golden.draw("x", (8, 32, 32, 3)))

    def twice(d, x):
        slope = jax.grad(lambda x: d(x).sum())(x)
        return jnp.square(slope).sum() / len(x)

    value, found, _ = gradients(lambda d, x: stylegan2_ada.r1(d, x)[1], d, x)
    wanted, grads, _ = gradients(twice, d, x)
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    same(found, grads)


def test_gradient_of_path_lengths_is_that_of_differentiating_twice_in_reverse():
    g, z = tiny(), jnp.asarray(golden.draw("z", (3, 16)))
    y = jnp.asarray(golden.draw("y", (3, 32, 32, 3))) / 32

    def ways(g, z):
        along = lambda ws: (g.synthesis(ws) * y).sum()  # noqa: E731
        return g.mapping(z), along

    def ours(g, z):
        ws, along = ways(g, z)
        return stylegan2_ada.path_lengths(along, ws, jnp.float32(0.3), 0.01)[3]

    def twice(g, z):
        ws, along = ways(g, z)
        slope = jax.grad(along)(ws)
        lengths = jnp.sqrt(jnp.square(slope).sum(2).mean(1))
        mean = 0.3 + 0.01 * (lengths.mean() - 0.3)
        return jnp.square(lengths - mean).mean()

    value, found, _ = gradients(ours, g, z)
    wanted, grads, _ = gradients(twice, g, z)
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    same(found, grads)


def test_codes_of_the_second_latents_take_over_at_the_cut():
    g = stylegan2.Generator(OPTIONS["generator"], rngs=nnx.Rngs(0))
    first, second = (jnp.asarray(golden.draw(name, (3, 16))) for name in "ab")
    for cut in (1, 3, g.num_ws):
        ws = stylegan2_ada.mix(g.mapping, Latents(first, second, jnp.int32(cut)))
        np.testing.assert_array_equal(ws[:, :cut], g.mapping(first)[:, :cut])
        np.testing.assert_array_equal(ws[:, cut:], g.mapping(second)[:, cut:])


def test_cuts_are_uniform_and_as_frequent_as_asked():
    def cuts(mixing, draws=400):
        made = method(mixing=mixing)
        keys = jax.random.split(jax.random.key(0), draws)
        return np.asarray(jax.vmap(lambda key: made.latents(1, key).cut)(keys))

    assert set(cuts(0.0)) == {6}  # nowhere: there are six layers at 16 px
    always = np.bincount(cuts(1.0), minlength=7)
    assert always[0] == always[6] == 0 and always[1:6].min() > 400 / 5 - 40
    assert 0.85 < (cuts(0.9) < 6).mean() < 0.95


def test_only_the_first_code_moves_the_mean():
    made, g = method(mixing=1.0), stylegan2.Generator(OPTIONS["generator"], rngs=nnx.Rngs(0))
    latents = made.latents(4, jax.random.key(0))
    made.codes({"g": g}, latents)
    wanted = 0.005 * g.mapping(latents.first)[:, 0].mean(0)
    np.testing.assert_allclose(g.mapping.w_avg[...], wanted, rtol=1e-4, atol=1e-7)


def test_table_of_phases_follows_what_is_asked_for():
    table = [(p.name, p.trains, p.every, p.start) for p in method().phases()]
    assert table == [
        ("g", ("g",), 1, 0),
        ("path", ("g",), 4, 0),
        ("d", ("d",), 1, 0),
        ("r1", ("d",), 16, 0),
    ]
    names = lambda **changes: [p.name for p in method(**changes).phases()]  # noqa: E731
    assert names(path_weight=0.0, r1_gamma=0.0) == ["g", "d"]
    assert names(augment=ada.AdaptiveOptions(ada.Pipe.blit()))[-1] == "ada"
    assert method(path_weight=0.0).nets(nnx.Rngs(0)).keys() == {"g", "d"}


def engine(made, batch_size=4):
    """The engine of the method, without data preparation."""
    adams = {"g": Adam(2e-3, 0.0, 0.99, lazy_every=4), "d": Adam(2e-3, 0.0, 0.99, lazy_every=16)}
    nets = made.nets(nnx.Rngs(0))
    averages = {"g": Ema(kimg=0.1)}
    return Engine(made.phases(), nets, {}, adams, averages, batch_size=batch_size)


def reals(count=4):
    return {"real": jnp.asarray(golden.draw("real", (count, 16, 16, 3)))}


@pytest.mark.slow
def test_each_phase_moves_what_it_trains_remembers_what_it_sees_and_groups_no_convolution():
    """The mean code moves wherever G draws, the mean length and p each in a phase of their own."""
    made = method(augment=ada.AdaptiveOptions(ada.Pipe.bgc(), initial=0.5))
    run = engine(made)
    state, batch = run.init(), reals()
    state.buffers["ada"]["count"] = state.buffers["ada"]["images"] = jnp.float32(8)
    signs = {"ada/signs", "ada/count"}
    remembers = {"g": {"g/mapping/w_avg"}, "path": {"g/mapping/w_avg", "path/mean"}, "r1": signs}
    remembers |= {"d": {"g/mapping/w_avg", "ada/images"} | signs}
    remembers |= {"ada": {"ada/p", "ada/count", "ada/images"}}
    assert remembers.keys() == {phase.name for phase in run.phases}
    for phase in run.phases:
        lowered = ops.jit(lambda s, b, phase=phase: run.update(phase, s, {}, b)).lower(state, batch)
        program = lowered.compile()
        assert grouped((lowered.as_text(), program.as_text())) == [], phase.name
        after, metrics = program(state, batch)
        assert all(np.isfinite(x) for x in metrics.values())
        for name, params in after.params.items():
            moved = [k for k, x in params.items() if not np.array_equal(x, state.params[name][k])]
            assert bool(moved) == (name in phase.trains), (phase.name, name)
        moved = {
            f"{name}/{k}"
            for name, buffers in after.buffers.items()
            for k, x in buffers.items()
            if not np.array_equal(x, state.buffers[name][k])
        }
        # a sum of signs may come back to where it was
        assert moved - {"ada/signs"} == remembers[phase.name] - {"ada/signs"}, phase.name


def test_generated_pictures_are_those_of_the_nets_own_noise():
    made = method()
    nets = made.nets(nnx.Rngs(0))
    z = jnp.asarray(golden.draw("z", (2, 16)))
    found = apply(nets["g"], lambda g, z: made.generate({"g": g}, z), z)
    np.testing.assert_allclose(found, apply(nets["g"], lambda g, z: g(z), z), atol=1e-6)
