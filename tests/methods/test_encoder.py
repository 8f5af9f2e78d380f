"""The encoder's training: what each term compares, and that passes learn by themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle, phases
from artifygan_jax.errors import UserError
from artifygan_jax.methods.encoder import EncoderTraining
from artifygan_jax.nets import stylegan2
from tests.shrink import random_pair


@pytest.fixture(scope="module")
def method():
    method = EncoderTraining(
        channels=(8, 8, 4), passes=2, pixels=1, features=0, latents=0, spread=0
    )
    random_pair(method)
    return method


def both(method):
    return method.nets(nnx.Rngs(3)) | method.frozen()


def loss_of(method, made, real):
    return method.loss(made, {"real": real}, jax.random.key(5))


def test_codes_start_at_the_mean_and_moves_are_in_deviations(method):
    net = method.nets(nnx.Rngs(3))["encoder"]
    assert net.options.styles == 6 and np.ptp(np.asarray(net.latent_avg[...]), axis=0).max() == 0
    x = jax.random.normal(jax.random.key(0), (2, 16, 16, 6))
    before = net(x)
    assert before.shape == (2, 6, 8)
    net.deviation.set_value(3 * net.deviation[...])
    np.testing.assert_allclose(net(x), 3 * before, rtol=1e-6)
    with pytest.raises(UserError, match=r"this net takes \[N, 16, 16, 6\]"):
        net(x[:, :8])


def test_terms_are_those_of_pictures_drawn_again(method):
    made, real = both(method), jax.random.uniform(jax.random.key(1), (2, 16, 16, 3)) * 2 - 1
    loss, numbers = loss_of(method, made, real)
    mapping = made["g"].mapping
    known = mapping(jax.random.normal(jax.random.key(5), (2, mapping.inputs)))
    images = jnp.concatenate([real, made["g"].synthesis(known, noise="const")])
    ws = jnp.repeat(made["encoder"].latent_avg[...][None], 4, axis=0)
    pixels, latents = [], []
    for _ in range(2):
        drawn = made["g"].synthesis(ws, noise="const")
        ws = ws + made["encoder"](jnp.concatenate([images, drawn], axis=3))
        drawn = made["g"].synthesis(ws, noise="const")
        pixels.append(jnp.square(drawn - images).mean())
        latents.append(jnp.square(ws[2:] - known).mean() / made["encoder"].deviation[...] ** 2)
    np.testing.assert_allclose(loss, np.mean(pixels), rtol=1e-5)
    np.testing.assert_allclose(numbers["last_pixels"], pixels[-1], rtol=1e-5)
    np.testing.assert_allclose(numbers["latents"], np.mean(latents), rtol=1e-4)
    again = method.generate(made, images)
    np.testing.assert_allclose(again, drawn, atol=1e-5)


def test_a_pass_learns_only_by_its_own_move(method):
    """With no gradient from pass to pass, that of two passes is the mean of each alone."""
    made, real = both(method), jax.random.uniform(jax.random.key(1), (2, 16, 16, 3)) * 2 - 1
    graph, params, buffers = phases.take_apart(made["encoder"])

    def of(pixels):
        def loss(params):
            net = phases.assemble(graph, params | buffers)
            return pixels(made | {"encoder": net})

        return jax.grad(loss)(params)["out/bias"]

    whole = of(lambda made: loss_of(method, made, real)[0])
    known = made["g"].mapping(jax.random.normal(jax.random.key(5), (2, 8)))
    images = jnp.concatenate([real, made["g"].synthesis(known, noise="const")])
    states = [method._start(made, 4)]
    states.append(method._pass(made, images, *states[0]))
    parts = [
        of(lambda made, s=s: jnp.square(method._pass(made, images, *s)[1] - images).mean())
        for s in states
    ]
    np.testing.assert_allclose(whole, (parts[0] + parts[1]) / 2, atol=1e-5 * np.abs(whole).max())


def test_a_pair_that_is_none_is_a_line(method, tmp_path):
    other = stylegan2.Discriminator(stylegan2.DiscriminatorOptions((8, 8)), rngs=nnx.Rngs(0))
    bundle.save(tmp_path / "d", other)
    wrong = EncoderTraining(source=method.source, critic=str(tmp_path / "d"))
    with pytest.raises(UserError, match="they must be a pair"):
        wrong.nets(nnx.Rngs(0))
    wrong = EncoderTraining(source=method.source, critic=method.source)
    with pytest.raises(UserError, match="wanted the stylegan2 discriminator"):
        wrong.frozen()
