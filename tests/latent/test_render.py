"""Pictures of latents are what the net itself gives, whatever the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.latent import render
from artifygan_jax.latent.codes import Codes, by_seed
from artifygan_jax.latent.render import Look
from artifygan_jax.nets import cartoongan, ops, stylegan2
from tests.latent import nets


@pytest.fixture(scope="module")
def renderer():
    found = nets.renderer()
    found.batch = 2
    return found


@pytest.fixture(scope="module")
def five(renderer):
    return by_seed([0, 1, 2, 3, 7], renderer.options)


def synthesis(renderer, ws, noise="const"):
    graph, weights = nnx.split(renderer.net.synthesis)
    return np.asarray(ops.jit(lambda s, x: nnx.merge(graph, s)(x, noise=noise))(weights, ws))


def drawn(renderer, codes, look=Look()):  # noqa: B008
    return np.concatenate(list(renderer.images(codes, look)))


def test_batches_give_what_the_net_gives(renderer, five):
    batches = list(renderer.images(five))
    assert [len(x) for x in batches] == [2, 2, 1]
    wanted = synthesis(renderer, renderer.net.mapping(five.z))
    np.testing.assert_allclose(np.concatenate(batches), wanted, atol=1e-5)


def test_truncation_and_cutoff_are_the_nets(renderer, five):
    for truncation, cutoff in ((0.7, None), (0.3, 2), (0.0, 6)):
        look = Look(truncation=truncation, cutoff=cutoff, noise="none")
        wanted = renderer.net.mapping(five.z, truncation=truncation, cutoff=cutoff)
        np.testing.assert_allclose(renderer.ws(five, look), wanted, atol=1e-5)
    wanted = synthesis(renderer, wanted, "none")
    np.testing.assert_allclose(drawn(renderer, five, look), wanted, atol=1e-5)


def test_random_noise_belongs_to_the_seed_and_not_to_the_batch(renderer, five):
    look = Look(noise="random")
    together, alone = drawn(renderer, five, look), drawn(renderer, five.take([3]), look)
    np.testing.assert_allclose(alone[0], together[3], atol=1e-5)
    same = five.take([0, 0])
    other = Codes(same.names, np.array([0, 1], np.uint32), z=same.z)
    a, b = drawn(renderer, other, look)
    assert np.abs(a - b).max() > 0.05


def test_noise_maps_of_latents_take_the_place_of_the_nets(renderer, five):
    ws = renderer.ws(five)[:2]
    own = {k: np.stack([np.zeros((s, s), np.float32)] * 2) for k, s in renderer.noise_sides.items()}
    plain = synthesis(renderer, ws, "none")
    for name in own:
        own[name][1] = render.layer(renderer.net.synthesis, name).noise[...]
    wanted = synthesis(renderer, ws)
    codes = five.take([0, 1]).with_ws(ws)
    codes = Codes(codes.names, codes.keys, ws=ws, maps=own)
    found = drawn(renderer, codes)
    np.testing.assert_allclose(found[0], plain[0], atol=1e-5)
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)
    assert np.abs(plain - wanted).max() > 0.01


def test_gradients_go_through_noise_maps(renderer, five):
    ws = jnp.asarray(renderer.ws(five)[:1])
    maps = {k: jnp.zeros((1, s, s)) for k, s in renderer.noise_sides.items()}
    loss = lambda m: render.with_maps(renderer.graph, renderer.weights, ws, m).sum()  # noqa: E731
    found = jax.jit(jax.grad(loss))(maps)
    assert all(np.abs(x).max() > 0 for x in found.values())


def test_classes_reach_the_mapping():
    renderer = nets.renderer(labels=3)
    found = [drawn(renderer, by_seed([5], renderer.options, str(k)))[0] for k in (0, 1)]
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_the_first_styles_of_a_source_replace_the_nets(renderer, five):
    source = nets.renderer(1)
    found = renderer.ws(five, Look(source=source, source_styles=2))
    assert np.array_equal(found[:, :2], source.ws(five)[:, :2])
    assert np.array_equal(found[:, 2:], renderer.ws(five)[:, 2:])


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (Look(noise="loud"), "const, random, none"),
        (Look(truncation=float("nan")), "such as 0.7"),
        (Look(cutoff=7), "has 6 layers"),
        (Look(cutoff=0), "has 6 layers"),
    ],
)
def test_a_look_that_the_net_has_not_is_one_line(renderer, five, look, words):
    with pytest.raises(UserError, match=words):
        drawn(renderer, five, look)


def test_a_source_that_does_not_fit_is_named(renderer, five):
    with pytest.raises(UserError, match="is no source of it"):
        drawn(renderer, five, Look(source=nets.renderer(z_size=8), source_styles=1))
    source = nets.renderer(1)
    with pytest.raises(UserError, match="give 1 to 6"):
        drawn(renderer, five, Look(source=source, source_styles=7))
    codes = five.with_ws(renderer.ws(five))
    with pytest.raises(UserError, match="need z or seeds"):
        drawn(renderer, codes, Look(source=source, source_styles=1))


def test_other_nets_are_refused_by_name(tmp_path):
    bundle.save(
        tmp_path / "c",
        cartoongan.build("generator", {"channels": 4, "blocks": 1}, rngs=nnx.Rngs(0)),
    )
    with pytest.raises(UserError, match="is a cartoongan generator"):
        render.load(tmp_path / "c")
    d = stylegan2.build("discriminator", {"channels": (8, 8)}, rngs=nnx.Rngs(0))
    bundle.save(tmp_path / "d", d)
    with pytest.raises(UserError, match="is a stylegan2 discriminator"):
        render.load(tmp_path / "d")
