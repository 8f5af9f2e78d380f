"""The projector finds what the net can draw, each target for itself."""

import jax.numpy as jnp
import numpy as np
import pytest

from artifygan_jax.errors import UserError
from artifygan_jax.latent import distance, projector
from artifygan_jax.latent.codes import by_seed
from artifygan_jax.latent.projector import Projection, Projector
from artifygan_jax.latent.render import to_uint8
from artifygan_jax.metrics.latents import of_seeds
from tests.latent import nets


@pytest.fixture(scope="module")
def renderer():
    return nets.renderer()


@pytest.fixture(scope="module")
def targets(renderer):
    return to_uint8(np.concatenate(list(renderer.images(by_seed([3, 4], renderer.options)))))


def test_pictures_of_the_net_are_found_again_and_codes_draw_what_is_said(renderer, targets):
    looking = Projector(renderer, distance.Distance("pixels"), Projection("w+", 80))
    seen = []
    watch = lambda step, images: seen.append((step, images is not None))  # noqa: E731
    found = looking(targets, watch=watch, shown=(1, 80))
    start = np.square(to_uint8(_at_mean(looking, 2)) / 127.5 - targets / 127.5).mean((1, 2, 3))
    assert (found.mse < 0.15 * start).all(), (found.mse, start)
    assert [s for s, shown in seen if shown] == [1, 80] and len(seen) == 80
    codes = by_seed([0, 1], renderer.options).with_ws(found.ws)
    codes = type(codes)(codes.names, codes.keys, ws=found.ws, maps=found.maps)
    again = np.concatenate(list(renderer.images(codes)))
    np.testing.assert_allclose(again, found.images, atol=1e-4)
    for m in found.maps.values():
        np.testing.assert_allclose(m.mean((1, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(np.square(m).mean((1, 2)), 1, atol=1e-3)


def _at_mean(looking, count):
    codes = by_seed(list(range(count)), looking.renderer.options)
    ws = np.tile(looking.mean, (count, looking.renderer.num_ws, 1))
    return np.concatenate(list(looking.renderer.images(codes.with_ws(ws))))


def test_a_target_alone_gets_what_it_gets_among_others(renderer, targets):
    looking = Projector(renderer, distance.Distance("pixels"), Projection("w", 12))
    both, one = looking(targets), looking(targets[1:])
    np.testing.assert_allclose(one.ws[0], both.ws[1], atol=1e-3)
    assert np.ptp(both.ws, axis=1).max() == 0  # one code for all layers
    assert np.abs(both.ws[0] - both.ws[1]).max() > 0.01


def test_rates_rise_stay_and_fall():
    how = Projection(steps=100)
    rates = [how.rate_at(step) for step in range(100)]
    assert rates[0] < rates[2] < rates[4] == rates[50] == 0.1
    assert 0 < rates[-1] < 1e-3 and rates[74] == rates[75] > rates[80]
    assert how.jitter_at(0) == 0.05 and how.jitter_at(75) == 0


def test_correlated_noise_is_punished():
    even = jnp.ones((1, 16, 16))
    # ones: each neighbour's product is 1, on two axes, at 16 and at 8 px
    assert float(projector._correlation(even)[0]) == pytest.approx(4)
    board = jnp.asarray(np.indices((1, 16, 16)).sum(0) % 2 * 2.0 - 1)
    assert float(projector._correlation(board)[0]) == pytest.approx(2)  # its means are 0
    free = np.random.default_rng(0).normal(size=(1, 64, 64))
    assert float(projector._correlation(jnp.asarray(free))[0]) < 0.05


def test_the_mean_code_is_over_classes(renderer):
    labelled = nets.renderer(labels=3)
    mean, deviation = projector.code_statistics(labelled)
    z = of_seeds(range(400), 16)  # pyright: ignore[reportArgumentType]
    w = labelled.code(z, np.eye(3, dtype=np.float32)[np.arange(400) % 3])
    assert np.abs(w.mean(0) - mean).max() < 0.2 * deviation
    wanted = np.sqrt(np.square(w - mean).sum(1).mean())
    assert deviation == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize(
    ("how", "words"), [(dict(space="z"), "there is w and w"), (dict(steps=-1), "--steps=-1")]
)
def test_a_projection_that_is_none_is_one_line(how, words):
    with pytest.raises(UserError, match=words):
        Projection(**how)
