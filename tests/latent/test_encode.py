"""Encoders of any kind give codes; what does not fit is a line."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.latent import distance, encode, projector
from artifygan_jax.latent.codes import by_seed
from artifygan_jax.latent.identity import Likeness
from artifygan_jax.latent.render import to_uint8
from artifygan_jax.nets import encoder, mobilefacenet, psp
from tests.latent import nets


@pytest.fixture(scope="module")
def renderer():
    return nets.renderer()


@pytest.fixture(scope="module")
def targets(renderer):
    return to_uint8(np.concatenate(list(renderer.images(by_seed([3, 4], renderer.options)))))


def ours(renderer, folder, passes=2):
    o = renderer.options
    options = encoder.Options((8,) * len(o.channels), renderer.num_ws, o.w_size)
    net = encoder.Encoder(options, rngs=nnx.Rngs(1))
    net.latent_avg.set_value(0.1 * jnp.ones((renderer.num_ws, o.w_size)))
    net.deviation.set_value(jnp.asarray(0.1))
    card = {"trained": {"config": {"method": {"passes": passes}}}}
    bundle.save(folder, net, card)
    return net


def test_each_pass_sees_what_the_last_codes_draw(renderer, targets, tmp_path):
    net = ours(renderer, tmp_path / "e")
    found = encode.Encode(str(tmp_path / "e"), renderer)(targets)
    x = jnp.asarray(targets, jnp.float32) / 127.5 - 1
    ws = jnp.repeat(net.latent_avg[...][None], 2, axis=0)
    for _ in range(2):
        drawn = renderer.net.synthesis(ws, noise="const")
        ws = ws + net(jnp.concatenate([x, drawn], axis=3))
    np.testing.assert_allclose(found, ws, atol=1e-4)
    looking = projector.Projector(
        renderer, distance.Distance("pixels"), projector.Projection(steps=0)
    )
    seen = looking(targets, start=found)
    np.testing.assert_array_equal(seen.ws, found)  # no step moves nothing
    drawn = np.asarray(renderer.net.synthesis(jnp.asarray(found), noise="const"))
    np.testing.assert_allclose(seen.images, drawn, atol=1e-4)
    np.testing.assert_allclose(seen.mse, np.square(drawn - x).mean((1, 2, 3)), rtol=1e-3)


@pytest.mark.parametrize("inputs", [3, 6])
def test_psps_kind_looks_at_256_px(renderer, targets, tmp_path, inputs):
    o = renderer.options
    options = psp.Options("e4e", renderer.num_ws, inputs == 3, inputs, 16, o.w_size)
    bundle.save(tmp_path / "e", psp.Encoder(options, rngs=nnx.Rngs(0)))
    found = encode.Encode(str(tmp_path / "e"), renderer)
    assert (found.side, found.passes) == (256, 1 if inputs == 3 else 5)
    found.passes = min(found.passes, 2)
    assert found(targets[:1]).shape == (1, renderer.num_ws, o.w_size)


def test_pictures_are_averaged_or_enlarged():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1).repeat(3, axis=3)
    np.testing.assert_array_equal(encode.resized(x, 2)[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])
    assert encode.resized(x, 8).shape == (1, 8, 8, 3) and encode.resized(x, 4) is x


def test_auto_takes_what_lies_beside_the_model(renderer, tmp_path):
    model = tmp_path / "faces"
    assert encode.find("auto", model, renderer) is None
    assert encode.find("none", model, renderer) is None
    ours(renderer, tmp_path / "faces_encoder")
    found = encode.find("auto", f"{model}/", renderer)
    assert found is not None and found.name == f"{model}_encoder"


def test_what_does_not_fit_is_a_line(renderer, tmp_path):
    bundle.save(tmp_path / "g", renderer.net)
    with pytest.raises(UserError, match="is a stylegan2 generator, wanted an encoder"):
        encode.Encode(str(tmp_path / "g"), renderer)
    wrong = encoder.Options((8, 8, 8), renderer.num_ws + 2, renderer.options.w_size)
    bundle.save(tmp_path / "e", encoder.Encoder(wrong, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="they do not belong together"):
        encode.Encode(str(tmp_path / "e"), renderer)


def test_likeness_is_1_for_one_picture(targets, tmp_path):
    net = mobilefacenet.build("mobilefacenet", {}, rngs=nnx.Rngs(0))
    bundle.save(tmp_path / "m", net)
    assert Likeness.at_hand(str(tmp_path / "none")) is None
    same = Likeness.at_hand(str(tmp_path / "m"))
    assert same is not None
    floats = targets.astype(np.float32) / 127.5 - 1
    embedded = same.embeddings(targets)
    np.testing.assert_allclose(same.embeddings(floats), embedded, atol=1e-5)
    wanted = np.square(embedded).sum(1)  # 1 but where a random net is blind
    np.testing.assert_allclose(same(targets, floats), wanted, atol=1e-4)
