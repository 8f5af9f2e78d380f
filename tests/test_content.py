"""Content losses: where the network comes from, and what is measured in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.content import Content
from artifygan_jax.errors import UserError
from artifygan_jax.nets import vgg
from artifygan_jax.phases import assemble, take_apart

NARROW = '{"channels": 2, "depth": 16}'


def pictures(seed, side=32, count=2):
    x = np.random.default_rng(seed).uniform(-1, 1, (count, side, side, 3))
    return jnp.asarray(x, jnp.float32)


def narrow(**changes):
    return Content(**{"net": "random:vgg", "layers": ("conv2_2",), "options": NARROW} | changes)


def l1(a, b, net, layers):
    maps = [net(x, layers) for x in (a, b)]
    return {k: np.abs(np.asarray(maps[0][k]) - np.asarray(maps[1][k])) for k in layers}


@pytest.mark.parametrize(
    ("net", "layer", "options"),
    [
        ("random:vgg", "conv2_2", NARROW),
        ("random:squeezenet", "fire3", "{}"),
        ("random:pyramid", "edges2", "{}"),
    ],
)
def test_each_architecture_with_named_layers_serves_without_weights(net, layer, options):
    content = Content(net, (layer,), options)
    loaded, a, b = content.load(), pictures(0), pictures(1)
    assert float(content.loss(loaded, a, a)) == 0
    assert float(content.loss(loaded, a, b)) > 1e-3


def test_random_weights_follow_from_the_seed():
    a, b = pictures(0), pictures(1)
    values = [float(narrow(seed=s).loss(narrow(seed=s).load(), a, b)) for s in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def test_a_bundle_is_loaded_by_folder_and_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("ARTIFYGAN_CACHE", str(tmp_path))
    net = vgg.build("vgg", {"channels": 2, "depth": 16}, rngs=nnx.Rngs(7))
    bundle.save(tmp_path / "mine", net)
    x = pictures(0)
    for where in (str(tmp_path / "mine"), "mine"):
        content = Content(where, ("conv2_2",))
        found = content.features(content.load(), x)["conv2_2"]
        np.testing.assert_array_equal(found, net(x, ("conv2_2",))["conv2_2"])


def test_options_replace_those_of_a_bundle_and_are_checked(tmp_path):
    options = {"channels": 2, "depth": 16}
    net = vgg.build("vgg", options | {"preprocess": "caffe"}, rngs=nnx.Rngs(7))
    bundle.save(tmp_path / "mine", net)
    where, x = str(tmp_path / "mine"), pictures(0)
    content = Content(where, ("conv1_1",), '{"preprocess": "none"}')
    found = content.features(content.load(), x)["conv1_1"]
    plain = vgg.build("vgg", options | {"preprocess": "none"}, rngs=nnx.Rngs(7))
    np.testing.assert_array_equal(found, plain(x, ("conv1_1",))["conv1_1"])
    for wrong, words in (
        ('{"preproces": "none"}', "did you mean 'preprocess'"),
        ('{"preprocess": "non"}', "did you mean 'none'"),
        ('{"channels": 3}', "do not fit"),
    ):
        with pytest.raises(UserError, match=words):
            Content(where, ("conv1_1",), wrong).load()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"net": "random:vg"}, "no architecture 'vg'.*did you mean 'vgg'"),
        ({"net": "no/such/bundle"}, "no model bundle at 'no/such/bundle'"),
        ({"layers": ("conv2-2",)}, "no layer 'conv2-2' .did you mean 'conv2_2'.*conv1_1, relu1_1"),
        ({"layers": ("conv2_2", "pool9")}, "no layer 'pool9'"),
        ({"options": '{"chanels": 2}'}, "did you mean 'channels'"),
        ({"options": "{channels: 2}"}, "wanted a JSON object"),
        ({"options": "[2]"}, "wanted a JSON object"),
        ({"reduction": "max"}, "reduction is 'max', allowed are mean, sum"),
        ({"net": "random:cartoongan", "options": "{}"}, "cartoongan"),
    ],
)
def test_a_wrong_choice_is_one_line_that_says_what_is_allowed(changes, words):
    with pytest.raises(UserError, match=words) as error:
        narrow(**changes).load()
    assert "\n" not in str(error.value)


def test_a_net_without_named_layers_is_refused(tmp_path):
    from artifygan_jax.nets import cartoongan

    options = {"channels": 2, "blocks": 0}
    bundle.save(tmp_path / "g", cartoongan.build("generator", options, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="no named activations"):
        Content(str(tmp_path / "g")).load()


def test_no_layers_are_refused():
    content = narrow(layers=())
    with pytest.raises(UserError, match="layers"):
        content.loss(content.load(), pictures(0), pictures(1))


def test_mean_and_sum_differ_by_the_number_of_activations():
    a, b = pictures(0), pictures(1)
    net = narrow().load()
    difference = l1(a, b, net, ("conv2_2",))["conv2_2"].astype(np.float64)
    # float32 sums of some thousand numbers
    np.testing.assert_allclose(narrow().loss(net, a, b), difference.mean(), rtol=1e-5)
    np.testing.assert_allclose(narrow(reduction="sum").loss(net, a, b), difference.sum(), rtol=1e-5)


def test_several_layers_add_up():
    a, b, layers = pictures(0), pictures(1), ("conv1_2", "conv2_2", "pool1")
    net = narrow().load()
    each = [float(narrow(layers=(k,)).loss(net, a, b)) for k in layers]
    np.testing.assert_allclose(narrow(layers=layers).loss(net, a, b), sum(each), rtol=1e-6)


def test_pictures_are_resized_first_where_asked():
    content = narrow(resize=16)
    net, x = content.load(), pictures(0, side=32)
    assert content.features(net, x)["conv2_2"].shape == (2, 8, 8, 4)
    assert narrow().features(net, x)["conv2_2"].shape == (2, 16, 16, 4)
    half = jax.image.resize(x, (2, 16, 16, 3), "bilinear", antialias=False)
    np.testing.assert_array_equal(
        content.features(net, x)["conv2_2"], narrow().features(net, half)["conv2_2"]
    )
    low = x.astype(jnp.bfloat16)
    assert content.features(net, low)["conv2_2"].dtype == jnp.bfloat16


def test_the_pictures_get_a_gradient_and_the_frozen_net_stays_what_it_was():
    content, a, b = narrow(), pictures(0), pictures(1)
    graph, params, buffers = take_apart(content.load())

    def loss(a):
        net = assemble(graph, params | buffers)
        value = content.loss(net, a, b)
        after = take_apart(net)[1]
        assert all(after[k] is params[k] for k in params)
        return value

    gradient = jax.grad(loss)(a)
    assert float(jnp.abs(gradient).max()) > 0 and not buffers


def test_the_loss_is_float32_for_pictures_of_bfloat16():
    content = narrow()
    a, b = (x.astype(jnp.bfloat16) for x in (pictures(0), pictures(1)))
    assert content.loss(content.load(), a, b).dtype == jnp.float32
