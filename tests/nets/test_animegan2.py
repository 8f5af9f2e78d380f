"""AnimeGANv2's generator against the recorded original and an oracle written here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import convert
from artifygan_jax.nets import ops
from artifygan_jax.nets.animegan2 import Generator, GeneratorOptions
from tests import golden
from tests.conftest import shared


@pytest.fixture(autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


def nhwc(x):
    return np.ascontiguousarray(np.transpose(x, (0, 2, 3, 1)))


def nchw(x):
    return np.ascontiguousarray(np.transpose(x, (0, 3, 1, 2)))


def features(net, x):
    """Every feature of one compiled call, as NCHW."""
    graph, state = nnx.split(net)
    run = ops.jit(lambda state, x: nnx.merge(graph, state).features(x))
    return {name: nchw(y) for name, y in run(state, jnp.asarray(x)).items()}


@pytest.mark.parametrize("size", ["sq", "odd"])
@pytest.mark.parametrize("corners", [True, False])
def test_the_generator_equals_the_original(size, corners):
    path = shared("golden", "animegan2_generator.npz")
    arrays, meta = golden.load(path)
    weights = golden.recipe(path, "generator")
    net, _ = convert.build("animegan2", weights)
    if not corners:
        options = GeneratorOptions(upsampling="half")
        half = Generator(options, rngs=nnx.Rngs(0))
        nnx.update(half, nnx.state(net))
        net = half
    out = features(net, nhwc(arrays[f"in/{size}"]))
    case = f"{size}/align_corners_{corners}"
    golden.check_out(arrays, meta, case, out["image"])
    names = [name for name in "abcde" if f"{case}/block_{name}" in meta["taps"]]
    assert len(names) == 5 or case == "odd/align_corners_False"
    for name in names:
        tap = f"{case}/block_{name}"
        golden.check_tap(meta, tap, out[name], arrays[f"tap/{tap}"])
