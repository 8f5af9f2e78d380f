"""MTCNN's three networks against torch on the same random weights; sizes and names of answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.nets import mtcnn

STAGES = tuple(mtcnn.LAYERS)


def random_net(stage):
    empty = nnx.eval_shape(lambda: mtcnn.build("mtcnn", {"stage": stage}, rngs=nnx.Rngs(0)))
    rng, arrays = np.random.default_rng(1), {}
    for path, leaf in nnx.to_flat_state(nnx.state(empty)):
        scale = np.sqrt(2 / np.prod(leaf.shape[:3])) if len(leaf.shape) == 4 else 0.2
        arrays["/".join(path)] = (scale * rng.standard_normal(leaf.shape)).astype(np.float32)
    return bundle.build("mtcnn", "mtcnn", {"stage": stage}, arrays), arrays


def run(net, images):
    graph, state = nnx.split(net)
    with jax.default_matmul_precision("highest"):
        found = jax.jit(lambda state, x: nnx.merge(graph, state)(x))(state, jnp.asarray(images))
    return jax.device_get(found)


def torch_answers(stage, arrays, images):
    """The same in torch, float64, the dense layer as a product over the flattened map."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    weights = {k: torch.tensor(np.asarray(v)).double() for k, v in arrays.items()}
    x = (torch.tensor(images).double().permute(0, 3, 1, 2) * 127.5 + 127.5 - 127.5) / 128
    for n, (_, side, pool) in enumerate(mtcnn.LAYERS[stage], 1):
        kernel, bias = weights[f"conv{n}/kernel"], weights[f"conv{n}/bias"]
        if stage != "pnet" and n == len(mtcnn.LAYERS[stage]):
            assert x.shape[2:] == (3, 3) and side == 3
            flat = x.permute(0, 2, 3, 1).reshape(len(x), -1)  # height, width, channel
            x = (flat @ kernel.reshape(-1, kernel.shape[-1]) + bias)[..., None, None]
        else:
            x = functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias)
        x = functional.prelu(x, weights[f"prelu{n}/slope"])
        if pool:
            x = functional.max_pool2d(x, pool[0], 2, ceil_mode=True)
    heads = {
        k: weights[f"{k}/kernel"][0, 0] for k in ("face", "box", "points") if f"{k}/bias" in weights
    }
    x = x.permute(0, 2, 3, 1)
    return {k: (x @ kernel + weights[f"{k}/bias"]).numpy() for k, kernel in heads.items()}


@pytest.mark.parametrize("stage", STAGES)
def test_answers_are_those_of_torch(stage):
    net, arrays = random_net(stage)
    size = 41 if stage == "pnet" else mtcnn.SIDES[stage]
    images = np.random.default_rng(2).uniform(-1, 1, (2, size, size + (stage == "pnet"), 3))
    ours = run(net, images.astype(np.float32))
    theirs = torch_answers(stage, arrays, images)
    odds = np.exp(theirs["face"][..., 1] - theirs["face"][..., 0])
    np.testing.assert_allclose(ours["face"], odds / (1 + odds), atol=1e-5)
    np.testing.assert_allclose(ours["box"], theirs["box"], atol=1e-4)
    if stage == "onet":
        np.testing.assert_allclose(ours["points"][..., 0], theirs["points"][..., :5], atol=1e-4)
        np.testing.assert_allclose(ours["points"][..., 1], theirs["points"][..., 5:], atol=1e-4)


@pytest.mark.parametrize("stage", STAGES)
def test_a_square_of_the_nets_side_gives_one_answer(stage):
    net, _ = random_net(stage)
    side = mtcnn.SIDES[stage]
    found = nnx.eval_shape(lambda: net(jnp.zeros((3, side, side, 3))))
    shapes = {"face": (3, 1, 1), "box": (3, 1, 1, 4)}
    shapes |= {"points": (3, 1, 1, 5, 2)} if stage == "onet" else {}
    assert {name: x.shape for name, x in found.items()} == shapes


def test_p_net_sees_squares_of_12_pixels_two_apart():
    net, _ = random_net("pnet")
    images = np.random.default_rng(3).uniform(-1, 1, (1, 30, 40, 3)).astype(np.float32)
    whole, one = run(net, images), run(net, images[:, 6:18, 8:20])
    np.testing.assert_allclose(whole["box"][0, 3, 4], one["box"][0, 0, 0], atol=1e-5)


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(UserError, match="pnet, rnet, onet"):
        mtcnn.build("mtcnn", {"stage": "qnet"}, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="allowed: mtcnn"):
        mtcnn.build("squeezenet", {}, rngs=nnx.Rngs(0))
