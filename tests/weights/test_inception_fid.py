"""The files of the FID network: the whole of pytorch-fid's layout against torch, NVIDIA's names."""

import numpy as np
import pytest

from artifygan_jax import convert
from artifygan_jax.errors import UserError
from artifygan_jax.weights import inception_fid
from tests.nets.test_inception import Reference, convolutions, pixels, random_layers, relative, run

LEAVES = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}

# What two public ports of NVIDIA's file say of its names, block by block: theirs to pytorch-fid's.
NVIDIA = {
    "layers.conv": "Conv2d_1a_3x3",
    "layers.conv_2": "Conv2d_2b_3x3",
    "layers.conv_4": "Conv2d_4a_3x3",
    "layers.mixed.conv": "Mixed_5b.branch1x1",
    "layers.mixed_1.tower.conv_1": "Mixed_5c.branch5x5_2",
    "layers.mixed_2.tower_1.conv_2": "Mixed_5d.branch3x3dbl_3",
    "layers.mixed_2.tower_2.conv": "Mixed_5d.branch_pool",
    "layers.mixed_3.conv": "Mixed_6a.branch3x3",
    "layers.mixed_3.tower.conv_2": "Mixed_6a.branch3x3dbl_3",
    "layers.mixed_4.tower.conv_1": "Mixed_6b.branch7x7_2",
    "layers.mixed_6.conv": "Mixed_6d.branch1x1",
    "layers.mixed_7.tower_1.conv_4": "Mixed_6e.branch7x7dbl_5",
    "layers.mixed_7.tower_2.conv": "Mixed_6e.branch_pool",
    "layers.mixed_8.tower.conv_1": "Mixed_7a.branch3x3_2",
    "layers.mixed_8.tower_1.conv_3": "Mixed_7a.branch7x7x3_4",
    "layers.mixed_9.tower_conv": "Mixed_7b.branch3x3_1",
    "layers.mixed_9.tower_mixed_conv": "Mixed_7b.branch3x3_2a",
    "layers.mixed_9.tower_mixed_conv_1": "Mixed_7b.branch3x3_2b",
    "layers.mixed_10.tower_1_conv_1": "Mixed_7c.branch3x3dbl_2",
    "layers.mixed_10.tower_1_mixed_conv_1": "Mixed_7c.branch3x3dbl_3b",
    "layers.mixed_10.tower_2_conv": "Mixed_7c.branch_pool",
}


def pytorch_fid(layers):
    """The state dict of pytorch-fid's file, 94 layers and the classifier that is left out."""
    out = {"fc.weight": np.zeros((1008, 2048), np.float32), "fc.bias": np.zeros(1008, np.float32)}
    for name, layer in layers.items():
        out[f"{name}.conv.weight"] = layer.kernel
        for ours, theirs in LEAVES.items():
            out[f"{name}.bn.{theirs}"] = getattr(layer, ours).astype(np.float32)
    return out


def nvidia(layers):
    """The same as NVIDIA has it; scales are 1."""
    out = {"output.weight": np.zeros((1008, 2048), np.float32)}
    for theirs, ours in inception_fid.nvidia_names().items():
        layer = layers[ours]
        out[f"{theirs}.weight"] = layer.kernel
        for name, x in (("beta", layer.shift), ("mean", layer.mean), ("var", layer.variance)):
            out[f"{theirs}.{name}"] = x.astype(np.float32)
    return out


@pytest.mark.slow
def test_pytorch_fids_file_gives_the_vectors_that_torch_computes_with_batch_norms():
    layers = random_layers()
    net, _ = convert.build("inception-fid", pytorch_fid(layers))
    assert net.options.normalise == "pytorch" and net.options.missing == ()
    image = pixels(75, 83)
    expected = Reference(layers)(image, pytorch=True)
    for name, x in run(net, image, ("64", "768", "2048")).items():
        assert relative(x, expected[name]) <= 1e-5, name


def test_nvidias_names_are_those_of_the_94_convolutions():
    names = inception_fid.nvidia_names()
    assert sorted(names.values()) == sorted(convolutions()) and len(set(names)) == 94
    assert {theirs: names[theirs] for theirs in NVIDIA} == NVIDIA


def test_nvidias_file_gives_the_same_net_with_tensorflows_input():
    layers = random_layers()
    layers = {k: x._replace(scale=np.ones_like(x.scale)) for k, x in layers.items()}
    found, other = (inception_fid.plan(x) for x in (nvidia(layers), pytorch_fid(layers)))
    assert (found.options["normalise"], other.options["normalise"]) == ("tensorflow", "pytorch")
    assert len(other.source) == 2 * 94 + 2
    for name in set(other.source) - {"fc.weight", "fc.bias"}:
        np.testing.assert_array_equal(found.source[name], other.source[name], err_msg=name)


def test_a_tensor_that_nvidias_file_lacks_or_has_too_many_is_named():
    arrays = {f"layers.conv.{leaf}": np.ones(32, np.float32) for leaf in ("beta", "mean")}
    arrays["layers.conv.weight"] = np.zeros((32, 3, 3, 3), np.float32)
    with pytest.raises(UserError, match="1 layers without all.*Conv2d_1a_3x3.bn"):
        inception_fid.plan(arrays)
    arrays |= {"layers.conv.var": np.ones(32, np.float32), "layers.conv.gamma": np.ones(32)}
    with pytest.raises(UserError, match="layers.conv.gamma matches no rule"):
        convert.build("inception-fid", arrays)
