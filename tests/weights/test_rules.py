"""The rule engine takes all or nothing and says all that is wrong; the tables of each source."""

import functools

import numpy as np
import pytest

from artifygan_jax import convert
from artifygan_jax.errors import UserError
from artifygan_jax.nets.inception import fold
from artifygan_jax.weights import cartoongan, inception_fid, rules, squeezenet, vgg16, vgg19
from tests.golden import draw

RULES = {
    **rules.conv(r"layer(\d)", r"layers/\1"),
    r"norm\.scale": ("norm/scale", rules.same),
}
IGNORE = (r".*\.count",)
SHAPES = {"layers/0/kernel": (3, 3, 2, 4), "layers/0/bias": (4,), "norm/scale": (4,)}


def source():
    return {
        "layer0.weight": draw("w", (4, 2, 3, 3)),
        "layer0.bias": draw("b", (4,)),
        "norm.scale": draw("s", (4,)),
        "norm.count": np.array(3),
    }


def refused(arrays, table=RULES, ignore=IGNORE, shapes=SHAPES):
    with pytest.raises(UserError) as raised:
        rules.apply(table, ignore, arrays, shapes)
    return str(raised.value)


def test_every_path_gets_its_array_in_float32():
    arrays = source()
    arrays["norm.scale"] = arrays["norm.scale"].astype(np.float16)
    out = rules.apply(RULES, IGNORE, arrays, SHAPES)
    assert {path: x.shape for path, x in out.items()} == SHAPES
    assert {x.dtype for x in out.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(out["norm/scale"], arrays["norm.scale"].astype(np.float32))
    assert out["layers/0/kernel"][2, 1, 0, 3] == arrays["layer0.weight"][3, 0, 2, 1]


def test_a_missing_array_is_named_by_its_path():
    arrays = source()
    del arrays["layer0.bias"]
    assert refused(arrays).endswith("1 faults: nothing in the file is for layers/0/bias")


def test_an_array_without_rule_is_named():
    assert "extra.weight matches no rule" in refused(source() | {"extra.weight": np.zeros(3)})


def test_an_array_for_a_layer_the_net_lacks_is_named():
    message = refused(source() | {"layer7.bias": np.zeros(3)})
    assert "layer7.bias goes to layers/7/bias, which the net does not have" in message


def test_an_array_of_another_shape_is_named_with_both_shapes():
    arrays = source() | {"layer0.weight": draw("w", (2, 4, 3, 3))}
    message = refused(arrays)
    assert "layer0.weight (for layers/0/kernel) gives shape (3, 3, 4, 2)" in message
    assert "wanted (3, 3, 2, 4)" in message


def test_an_array_with_too_few_axes_is_named():
    message = refused(source() | {"layer0.weight": np.zeros(7, np.float32)})
    assert "layer0.weight (for layers/0/kernel) has shape (7,)" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_value_that_is_not_finite_in_float32_is_refused(value):
    arrays = source() | {"norm.scale": np.array([1, 2, value, 3])}
    assert "norm.scale (for norm/scale) holds NaN or infinity" in refused(arrays)


@pytest.mark.parametrize("dtype", ["int32", "bool", "complex64", "U4"])
def test_arrays_that_are_not_floating_point_are_refused(dtype):
    message = refused(source() | {"norm.scale": np.ones(4).astype(dtype)})
    assert "norm.scale (for norm/scale) holds" in message and "wanted floating" in message


def test_two_arrays_for_one_path_are_both_named():
    table = {**RULES, r"alias\.scale": ("norm/scale", rules.same)}
    message = refused(source() | {"alias.scale": np.ones(4)}, table)
    assert "norm.scale and alias.scale all go to norm/scale" in message


def test_a_name_that_two_rules_match_is_refused():
    table = {**RULES, r"norm\..+e": ("layers/0/bias", rules.same)}
    assert "norm.scale matches more than one rule, for norm/scale and layers/0/bias" in refused(
        source(), table
    )


def test_a_name_that_a_rule_and_an_ignore_match_is_refused():
    message = refused(source(), ignore=(*IGNORE, r"norm\..*"))
    assert "norm.scale matches more than one rule, for norm/scale and the ignored" in message


def test_a_rule_must_match_the_whole_name():
    arrays = source()
    arrays["old.norm.scale"] = arrays.pop("norm.scale")
    assert "old.norm.scale matches no rule" in refused(arrays)


def test_all_faults_come_in_one_error():
    arrays = source() | {"extra": np.zeros(1), "layer0.weight": draw("w", (2, 4, 3, 3))}
    arrays["norm.scale"] = np.full(4, np.nan, np.float32)
    del arrays["layer0.bias"]
    message = refused(arrays)
    for word in ("4 faults", "extra", "layer0.weight", "norm.scale", "layers/0/bias"):
        assert word in message
    assert "\n" not in message


def test_inference_of_sizes_names_the_array_that_another_file_lacks():
    with pytest.raises(UserError, match="no weights of CartoonGAN: conv01_1.weight is not among"):
        cartoongan.plan(source())
    with pytest.raises(UserError, match=r"conv01_1.weight has shape \(3,\), wanted 4 axes"):
        cartoongan.plan({"conv01_1.weight": np.zeros(3)})


# --- VGG -----------------------------------------------------------------------------------------

TORCHVISION = {  # where torchvision's `features` have convolutions
    16: (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    19: (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
BLOCKS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
PICTURE = np.tanh(draw("picture", (1, 32, 32, 3)))


def vgg_kernels(depth):
    """OIHW kernels of a VGG of 2 channels, by `convI_J`."""
    names = [f"conv{b}_{i}" for b, n in enumerate(BLOCKS[depth], 1) for i in range(1, n + 1)]
    widths = [3] + [2 * (1, 2, 4, 8, 8)[int(name[4]) - 1] for name in names]
    return {n: draw(n, (o, i, 3, 3)) for n, i, o in zip(names, widths, widths[1:])}


@pytest.mark.parametrize("depth", [16, 19])
def test_torchvision_vgg_goes_to_the_layers_of_its_names(depth):
    kernels = vgg_kernels(depth)
    arrays = {"classifier.0.weight": np.zeros((4, 4)), "classifier.0.bias": np.zeros(4)}
    for index, (name, kernel) in zip(TORCHVISION[depth], kernels.items(), strict=True):
        arrays[f"features.{index}.weight"] = kernel
        arrays[f"features.{index}.bias"] = draw(f"{name}b", kernel.shape[:1])
    net, _ = convert.build(f"vgg{depth}", arrays)
    options = net.options
    assert (options.depth, options.preprocess, options.channels) == (depth, "imagenet", 2)
    for name, kernel in kernels.items():
        layer = getattr(net, name)
        np.testing.assert_array_equal(layer.kernel[...], kernel.transpose(2, 3, 1, 0))
        np.testing.assert_array_equal(layer.bias[...], draw(f"{name}b", kernel.shape[:1]))
    assert np.isfinite(np.asarray(net(PICTURE, ("pool5",))["pool5"])).all()


@pytest.mark.parametrize("depth", [16, 19])
def test_caffe_vgg_keeps_its_kernels_and_wants_caffe_preprocessing(depth):
    arrays = {"fc6/weight": np.zeros((4, 4)), "fc6/bias": np.zeros(4)}
    for name, kernel in vgg_kernels(depth).items():
        arrays[f"{name}/weight"] = kernel.transpose(2, 3, 1, 0)
        arrays[f"{name}/bias"] = np.zeros(len(kernel), np.float32)
    net, _ = convert.build(f"vgg{depth}", arrays)
    options = net.options
    assert (options.depth, options.preprocess, options.channels) == (depth, "caffe", 2)
    np.testing.assert_array_equal(net.conv4_3.kernel[...], arrays["conv4_3/weight"])


def test_a_vgg_cut_short_is_refused_with_the_count():
    with pytest.raises(UserError, match="no weights of VGG-16: 1 kernels .* wanted 13; without"):
        vgg16.plan({"features.0.weight": np.zeros((2, 3, 3, 3))})


@pytest.mark.parametrize("depth, plan", [(16, vgg19.plan), (19, vgg16.plan)])
def test_a_vgg_of_the_other_depth_is_called_by_its_name(depth, plan):
    for suffix in ("features.{}.weight", "conv{}/weight"):
        arrays = {suffix.format(n): kernel for n, kernel in enumerate(vgg_kernels(depth).values())}
        with pytest.raises(UserError, match=f"it is VGG-{depth}: use --arch=vgg{depth}"):
            plan(arrays)


# --- SqueezeNet and Inception --------------------------------------------------------------------


@functools.cache
def random_arrays(architecture):
    """Arrays for every variable of a feature net, by our paths."""
    shapes = convert.target_shapes(architecture, architecture, {})
    return {path: draw(path, shape) for path, shape in shapes.items()}


def test_squeezenet_arrays_go_to_the_layers_of_their_names():
    arrays = random_arrays("squeezenet")
    net, _ = convert.build("squeezenet", arrays)
    np.testing.assert_array_equal(net.conv1.kernel[...], arrays["conv1/kernel"])
    layer = net.fire9.expand3x3
    np.testing.assert_array_equal(layer.kernel[...], arrays["fire9/expand3x3/kernel"])
    with pytest.raises(UserError, match="fire10/squeeze1x1/bias matches no rule"):
        convert.build("squeezenet", arrays | {"fire10/squeeze1x1/bias": np.zeros(3)})
    with pytest.raises(UserError, match="no weights of SqueezeNet 1.1"):
        squeezenet.plan({})


def folded_name(path):
    """`Mixed_5b/branch1x1/kernel` as the folded files have it: `Mixed_5b.branch1x1/kernel`."""
    *layer, leaf = path.split("/")
    return f"{'.'.join(layer)}/{leaf}"


def test_folded_inception_may_lack_kernels_and_refuses_the_layers_behind_them():
    lacking = "Mixed_7b.branch3x3dbl_2"
    arrays = {folded_name(path): 0.05 * x for path, x in random_arrays("inception").items()}
    del arrays[f"{lacking}/kernel"]
    net, _ = convert.build("inception-fid", arrays)
    assert net.options.missing == (lacking,) and net.options.normalise == "tensorflow"
    kernel = arrays["Mixed_6b.branch7x7_2/kernel"]
    np.testing.assert_array_equal(net.Mixed_6b.branch7x7_2.kernel[...], kernel)
    with pytest.raises(UserError, match=f"'2048' needs {lacking}"):
        net(PICTURE, ("2048",))
    del arrays["Mixed_5b.branch1x1/bias"]  # a layer of which the bias is lacking is no known gap
    with pytest.raises(UserError, match="nothing in the file is for Mixed_5b/branch1x1/bias"):
        convert.build("inception-fid", arrays)


def pytorch_fid_arrays():
    """Unfolded arrays by pytorch-fid's names; each has its own statistics."""
    arrays = {"fc.weight": np.zeros((1008, 2048)), "fc.bias": np.zeros(1008)}
    for path, x in random_arrays("inception").items():
        name, _, leaf = path.replace("/", ".").rpartition(".")
        if leaf == "kernel":
            n = x.shape[-1]
            arrays[f"{name}.conv.weight"] = x.transpose(3, 2, 0, 1)
            arrays[f"{name}.bn.weight"] = 1 + 0.1 * draw(f"{name}g", (n,))
            arrays[f"{name}.bn.bias"] = draw(f"{name}b", (n,))
            arrays[f"{name}.bn.running_mean"] = draw(f"{name}m", (n,))
            arrays[f"{name}.bn.running_var"] = 0.01 + np.abs(draw(f"{name}v", (n,)))
            arrays[f"{name}.bn.num_batches_tracked"] = np.array(0)
    return arrays


def test_pytorch_fid_inception_is_folded_as_torch_computes_it():
    torch = pytest.importorskip("torch")
    arrays = pytorch_fid_arrays()
    net, _ = convert.build("inception-fid", arrays)
    assert net.options.missing == () and net.options.normalise == "pytorch"
    name, layer = "Mixed_6b.branch7x7_2", net.Mixed_6b.branch7x7_2
    x = draw("x", (1, 128, 6, 9))
    w = {k: torch.tensor(v).double() for k, v in arrays.items() if k.startswith(f"{name}.")}
    y = torch.nn.functional.conv2d(
        torch.tensor(x).double(), w[f"{name}.conv.weight"], None, 1, (0, 3)
    )
    statistics = (w[f"{name}.bn.{leaf}"] for leaf in ("running_mean", "running_var"))
    affine = (w[f"{name}.bn.{leaf}"] for leaf in ("weight", "bias"))
    y = torch.nn.functional.batch_norm(y, *statistics, *affine, eps=1e-3).relu().numpy()
    found = np.transpose(layer(np.transpose(x, (0, 2, 3, 1))), (0, 3, 1, 2))
    # 900 float32 products a value; with eps 1e-5 a variance of 0.01 would be off by 5 %
    assert np.abs(found - y).max() <= 5e-6 * np.abs(y).max()


def test_pytorch_fid_inception_without_a_statistic_is_refused_by_layer():
    arrays = pytorch_fid_arrays()
    del arrays["Mixed_5b.branch1x1.bn.running_var"]
    arrays["Mixed_7c.branch_pool.bn.bias"] = np.zeros(3)
    with pytest.raises(UserError) as raised:
        inception_fid.plan(arrays)
    assert "2 layers" in str(raised.value)
    assert "Mixed_5b.branch1x1.bn, Mixed_7c.branch_pool.bn" in str(raised.value)


def test_torchvision_inception_is_not_taken_for_the_fid_network():
    arrays = pytorch_fid_arrays() | {"AuxLogits.conv0.conv.weight": np.zeros((128, 768, 1, 1))}
    with pytest.raises(UserError, match="torchvision's inception_v3"):
        inception_fid.plan(arrays)


def test_folding_uses_the_epsilon_of_inception():
    kernel, bias = fold(np.ones((1, 1, 1, 1)), *(np.ones(1), np.zeros(1), np.ones(1), np.zeros(1)))
    np.testing.assert_allclose([kernel.item(), bias.item()], [1000**0.5, -(1000**0.5)], rtol=1e-6)
