"""VGG against torch on the same random weights, and the golden maps of ArtifyGAN and AnimeGAN."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle
from artifygan_jax.errors import UserError
from artifygan_jax.nets import ops, vgg
from tests import golden
from tests.conftest import shared

WIDTHS = {
    16: "8 8 M 16 16 M 32 32 32 M 64 64 64 M 64 64 64 M",
    19: "8 8 M 16 16 M 32 32 32 32 M 64 64 64 64 M 64 64 64 64 M",
}


def random_weights(depth, seed=0):
    """`{index: (OIHW kernel, bias)}` as torchvision counts its `features`."""
    rng, index, inputs, weights = np.random.default_rng(seed), 0, 3, {}
    for token in WIDTHS[depth].split():
        if token == "M":
            index += 1
            continue
        outputs = int(token)
        kernel = rng.standard_normal((outputs, inputs, 3, 3)) * np.sqrt(2 / (9 * inputs))
        weights[index] = kernel.astype(np.float32), rng.standard_normal(outputs).astype(np.float32)
        index, inputs = index + 2, outputs
    return weights


def torch_features(depth, weights, images, *, reflect=False, average=False):
    """Every map in order, in float64; `images` are NCHW and preprocessed already."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, index, maps = torch.tensor(images, dtype=torch.float64), 0, []
    for token in WIDTHS[depth].split():
        if token == "M":
            x = functional.avg_pool2d(x, 2) if average else functional.max_pool2d(x, 2)
            index += 1
        else:
            kernel, bias = (torch.tensor(w, dtype=torch.float64) for w in weights[index])
            x = functional.pad(x, (1, 1, 1, 1), "reflect" if reflect else "constant")
            x = functional.conv2d(x, kernel, bias)
            maps.append(x.numpy())
            x = torch.relu(x)
            index += 2
        maps.append(x.numpy())
    return maps


def our_net(depth, weights, **options):
    """A VGG with the given weights; convolutions without any are zero."""
    options = {"depth": depth, **options}
    empty = nnx.eval_shape(lambda: vgg.build("vgg", options, rngs=nnx.Rngs(0)))
    arrays = {n: np.zeros(v.shape, np.float32) for n, v in shapes(empty).items()}
    for index, (kernel, bias) in weights.items():
        name = empty.layers[index]  # torchvision counts convolutions, ReLUs and pools as we do
        arrays[f"{name}/kernel"], arrays[f"{name}/bias"] = kernel.transpose(2, 3, 1, 0), bias
    return bundle.build("vgg", "vgg", options, arrays)


def shapes(net):
    return {"/".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(nnx.state(net))}


def run(net, images, layers):
    return ops.jit(lambda x: net(x, layers))(jnp.asarray(images, jnp.float32))


def nchw(x):
    return np.asarray(x).transpose(0, 3, 1, 2)


def relative(x, reference):
    return np.linalg.norm(np.asarray(x, np.float64) - reference) / np.linalg.norm(reference)


def pictures(*shape, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("depth", [16, 19])
def test_every_layer_equals_torch_on_an_odd_size(depth):
    weights, images = random_weights(depth), pictures(2, 37, 50, 3)
    net = our_net(depth, weights, channels=8, preprocess="none")
    expected = torch_features(depth, weights, (nchw(images) + 1) / 2)
    found = run(net, images, net.layers)
    assert len(net.layers) == len(expected) == (31 if depth == 16 else 37)
    for name, reference in zip(net.layers, expected, strict=True):
        # float32 against float64; torch in float32 is off by up to 1e-6 itself
        assert relative(nchw(found[name]), reference) < 5e-6, name


@pytest.mark.parametrize("mutation", [{"reflect": True}, {"average": True}])
def test_a_wrong_padding_or_pool_would_be_noticed(mutation):
    weights, images = random_weights(19), pictures(1, 32, 32, 3)
    net = our_net(19, weights, channels=8, preprocess="none")
    wrong = torch_features(19, weights, (nchw(images) + 1) / 2, **mutation)
    found = run(net, images, ("conv4_4",))["conv4_4"]
    assert relative(nchw(found), wrong[net.layers.index("conv4_4")]) > 1e-2


def test_preprocessing_follows_the_three_conventions():
    image = pictures(1, 32, 33, 3)
    pixels = (image.astype(np.float64) + 1) / 2
    caffe = pixels[..., [2, 1, 0]] * 255 - np.array([103.939, 116.779, 123.68])
    imagenet = (pixels - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    weights = random_weights(16)
    for name, fed in (("caffe", caffe), ("imagenet", imagenet), ("none", pixels)):
        expected = torch_features(16, weights, nchw(fed))[0]
        net = our_net(16, weights, channels=8, preprocess=name)
        assert relative(nchw(run(net, image, ("conv1_1",))["conv1_1"]), expected) < 5e-6, name


def test_only_what_is_asked_is_computed():
    """A 4x4 image has nothing left for block 4, but conv1_2 does not need it."""
    net = our_net(19, random_weights(19), channels=8)
    found = run(net, pictures(1, 4, 4, 3), ("conv1_2", "relu1_1"))
    assert list(found) == ["conv1_2", "relu1_1"]
    with pytest.raises(UserError, match="too small"):
        net(jnp.zeros((1, 4, 4, 3)), ("conv4_4",))


def test_bfloat16_images_are_computed_in_bfloat16():
    net, images = our_net(16, random_weights(16), channels=8), pictures(1, 32, 32, 3)
    full = run(net, images, ("conv4_3",))["conv4_3"]
    half = net(jnp.asarray(images, jnp.bfloat16), ("conv4_3",))["conv4_3"]
    assert half.dtype == jnp.bfloat16 and net.conv1_1.kernel.dtype == jnp.float32
    # bfloat16 keeps 8 bits: 0.4 % at each of ten layers
    assert 1e-4 < relative(half.astype(jnp.float32), np.asarray(full)) < 0.05


def test_a_wrong_name_is_refused_with_a_suggestion():
    net = our_net(16, random_weights(16), channels=8)
    with pytest.raises(UserError, match="did you mean 'conv4_3'.*allowed: conv1_1"):
        net(jnp.zeros((1, 32, 32, 3)), ("conv4-3",))
    with pytest.raises(UserError, match="tuple of names"):
        net(jnp.zeros((1, 32, 32, 3)), "conv4_3")
    for call in (
        lambda: vgg.build("vggg", {}, rngs=nnx.Rngs(0)),
        lambda: vgg.build("vgg", {"dept": 16}, rngs=nnx.Rngs(0)),
        lambda: vgg.build("vgg", {"preprocess": "cafe"}, rngs=nnx.Rngs(0)),
        lambda: vgg.build("vgg", {"depth": 18}, rngs=nnx.Rngs(0)),
    ):
        with pytest.raises(UserError, match="allowed"):
            call()


def test_a_new_net_keeps_the_scale_of_its_activations():
    """He-normal kernels: the deepest map is neither dead nor enormous."""
    net = vgg.build("vgg", {"channels": 16, "preprocess": "imagenet"}, rngs=nnx.Rngs(0))
    deep = np.asarray(run(net, pictures(1, 64, 64, 3), ("conv5_4",))["conv5_4"])
    assert 0.1 < deep.std() < 10


def golden_weights(path, net_name):
    state = golden.recipe(path, net_name)
    numbers = sorted({int(key.split(".")[1]) for key in state})
    return {i: (state[f"features.{i}.weight"], state[f"features.{i}.bias"]) for i in numbers}


@pytest.mark.parametrize(
    "file, depth, recipe, image, tap, layer, preprocess",
    [
        (
            *("artifygan_notebook", 16, "vgg16_features_24", "g_out"),
            *("vgg16_pool4_of_g_out", "pool4", "none"),
        ),
        (
            *("animegan_losses", 19, "vgg19_to_conv4_4", "fake"),
            *("vgg19_conv4_4_of_fake", "conv4_4", "imagenet"),
        ),
    ],
)
def test_content_maps_equal_the_golden_ones(file, depth, recipe, image, tap, layer, preprocess):
    path = shared("golden", f"{file}.npz")
    arrays, meta = golden.load(path)
    net = our_net(depth, golden_weights(path, recipe), preprocess=preprocess)
    images = arrays[f"in/{image}"].transpose(0, 2, 3, 1)
    if preprocess == "none":
        images = 2 * images - 1  # the notebook works on [0, 1]
    found = nchw(run(net, images, (layer,))[layer])
    golden.check_tap(meta, tap, found, arrays[f"tap/{tap}"])
    with pytest.raises(AssertionError):
        golden.check_tap(meta, tap, found[:, ::-1], arrays[f"tap/{tap}"])
