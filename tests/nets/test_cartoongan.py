"""The CartoonGAN family against torch: the recorded originals and oracles written here."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import convert
from artifygan_jax.errors import UserError
from artifygan_jax.nets import cartoongan, ops
from artifygan_jax.weights import rules
from tests import golden
from tests.conftest import shared

compilers = pytest.mark.parametrize("compiler", [ops.jit, jax.jit], ids=["ops.jit", "jax.jit"])


@pytest.fixture(autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


def nhwc(x):
    return np.ascontiguousarray(np.transpose(x, (0, 2, 3, 1)))


def nchw(x):
    return np.ascontiguousarray(np.transpose(x, (0, 3, 1, 2)))


def run(net, x, compiler=ops.jit, **flags):
    """(output, net with the statistics after it) of one compiled call; `net` itself stays."""
    graph, state = nnx.split(net)

    def forward(state, x):
        called = nnx.merge(graph, state)
        return called(x, **flags), nnx.state(called)

    y, state = compiler(forward)(state, jnp.asarray(x))
    return np.asarray(y), nnx.merge(graph, state)


def layer_outputs(net, x, monkeypatch, **flags):
    """Outputs of the layers of one eager call, NCHW, by path such as `up/0/conv1`."""
    net, out = nnx.clone(net), {}
    paths = {id(node): "/".join(map(str, path)) for path, node in nnx.iter_graph(net)}

    def recorder(original):
        def call(self, *args, **kwargs):
            y = original(self, *args, **kwargs)
            out[paths[id(self)]] = nchw(y)
            return y

        return call

    with monkeypatch.context() as patch:
        for kind in (ops.Conv, ops.ConvTranspose, ops.BatchNorm, cartoongan.Residual):
            patch.setattr(kind, "__call__", recorder(kind.__call__))
        net(jnp.asarray(x), **flags)
    return out


@dataclasses.dataclass
class Case:
    """One recorded network: its arrays, our net with its weights, and the names' translation."""

    arch: str
    weights: dict
    arrays: dict
    meta: dict

    def __post_init__(self):
        self.net, self.card = convert.build(self.arch, self.weights)
        self.rules = convert.plan(self.arch, self.weights).rules

    def path(self, key):
        """The path of our variable for a name of the original."""
        ((path, _),) = rules.targets(self.rules, key)
        return path

    def layer(self, name):
        if name.startswith("res."):
            return name.replace("res.", "blocks/")
        return self.path(f"{name}.weight").rsplit("/", 1)[0]

    def check_taps(self, prefix, outputs):
        names = [name for name in self.meta["taps"] if name.startswith(prefix)]
        assert len(names) >= 7
        for name in names:
            tap = outputs[self.layer(name.removeprefix(prefix))]
            golden.check_tap(self.meta, name, tap, self.arrays[f"tap/{name}"])

    def check_statistics(self, prefix, net):
        """The running statistics after a call; returns how many arrays were compared."""
        found = nnx.to_flat_state(nnx.state(net, nnx.BatchStat))
        found = {"/".join(map(str, path)): leaf[...] for path, leaf in found}
        names = [name for name in self.arrays if name.startswith(f"out64/{prefix}")]
        for name in names:
            name = name.removeprefix("out64/")
            path = self.path(name.removeprefix(prefix))
            golden.check_out(self.arrays, self.meta, name, found[path])
        assert len(names) == len(found)
        return len(names)


def load_case(file, net, arch):
    path = shared("golden", file)
    return Case(arch, golden.recipe(path, net), *golden.load(path))


@pytest.fixture(scope="module")
def transformer():
    return load_case("cartoongan_transformer.npz", "transformer", "cartoongan")


@pytest.fixture(scope="module")
def artifygan():
    return load_case("artifygan_notebook.npz", "generator", "artifygan")


@pytest.fixture(scope="module")
def discriminator():
    return load_case("artifygan_notebook.npz", "discriminator", "artifygan")


# --- recorded outputs of the originals -----------------------------------------------------------


@compilers
@pytest.mark.parametrize("size", ["sq", "odd"])
def test_cartoongan_equals_the_authors_network(transformer, size, compiler):
    y, _ = run(transformer.net, nhwc(transformer.arrays[f"in/{size}"]), compiler)
    if size == "odd":
        assert y.shape == (1, 76, 56, 3)  # 75 x 53, rounded up to multiples of 4
    golden.check_out(transformer.arrays, transformer.meta, size, nchw(y))


@pytest.mark.parametrize("size", ["sq", "odd"])
def test_cartoongan_equals_the_authors_network_layer_by_layer(transformer, size, monkeypatch):
    x = nhwc(transformer.arrays[f"in/{size}"])
    transformer.check_taps(f"{size}/", layer_outputs(transformer.net, x, monkeypatch))


def test_cartoongan_weights_are_read_as_the_released_network(transformer):
    options = transformer.net.options
    assert (options.channels, options.blocks, options.decoder) == (64, 8, "full")
    assert (options.norm, options.padding, options.norm_epsilon) == ("instance", "mixed", 1e-9)
    assert transformer.card["channels"] == "BGR"


@compilers
@pytest.mark.parametrize(
    "name, source, train",
    [
        ("generator/train", "x", True),
        ("generator/eval", "x", False),
        ("generator/eval_odd_size", "x_odd", False),
        ("generator/notebook_inference_0_255_train_mode_batch1", "x0_times_255_rounded", True),
    ],
)
def test_artifygan_generator_equals_the_notebook(artifygan, name, source, train, compiler):
    x = 2 * nhwc(artifygan.arrays[f"in/{source}"]) - 1  # the original works on [0, 1]
    y, _ = run(artifygan.net, x, compiler, train=train)
    golden.check_out(artifygan.arrays, artifygan.meta, name, nchw((y + 1) / 2))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_artifygan_generator_equals_the_notebook_layer_by_layer(artifygan, mode, monkeypatch):
    x = 2 * nhwc(artifygan.arrays["in/x"]) - 1
    outputs = layer_outputs(artifygan.net, x, monkeypatch, train=mode == "train")
    artifygan.check_taps(f"generator/{mode}/", outputs)


def test_artifygan_generator_updates_its_statistics_as_the_notebook(artifygan):
    _, after = run(artifygan.net, 2 * nhwc(artifygan.arrays["in/x"]) - 1, train=True)
    prefix = "generator/running_after_one_train_call/"
    assert artifygan.check_statistics(prefix, after) == 50  # 5 + 20 norms, mean and variance


@compilers
@pytest.mark.parametrize(
    "name, source, train",
    [("train", "x", True), ("eval", "x", False), ("eval_odd_size", "x_odd", False)],
)
def test_artifygan_discriminator_equals_the_notebook(discriminator, name, source, train, compiler):
    x = 2 * nhwc(discriminator.arrays[f"in/{source}"]) - 1
    logits, _ = run(discriminator.net, x, compiler, train=train)
    probabilities = nchw(jax.nn.sigmoid(logits))  # the original ends in a sigmoid, ours in logits
    golden.check_out(
        discriminator.arrays, discriminator.meta, f"discriminator/{name}", probabilities
    )


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_artifygan_discriminator_equals_the_notebook_layer_by_layer(
    discriminator, mode, monkeypatch
):
    x = 2 * nhwc(discriminator.arrays["in/x"]) - 1
    outputs = layer_outputs(discriminator.net, x, monkeypatch, train=mode == "train")
    discriminator.check_taps(f"discriminator/{mode}/", outputs)


def test_artifygan_discriminator_updates_its_statistics_as_the_notebook(discriminator):
    _, after = run(discriminator.net, 2 * nhwc(discriminator.arrays["in/x"]) - 1, train=True)
    prefix = "discriminator/running_after_one_train_call/"
    assert discriminator.check_statistics(prefix, after) == 6


# --- torch networks written here, at tiny width --------------------------------------------------


def cartoongan_weights(channels, blocks, decoder):
    """Random weights by the names of the released CartoonGAN."""
    c = channels
    shapes = {"conv01_1": (c, 3, 7, 7), "deconv03_1": (3, c, 7, 7)}
    shapes |= {"conv02_1": (2 * c, c, 3, 3), "conv02_2": (2 * c, 2 * c, 3, 3)}
    shapes |= {"conv03_1": (4 * c, 2 * c, 3, 3), "conv03_2": (4 * c, 4 * c, 3, 3)}
    shapes |= {"deconv01_1": (4 * c, 2 * c, 3, 3), "deconv02_1": (2 * c, c, 3, 3)}
    if decoder == "full":
        shapes |= {"deconv01_2": (2 * c, 2 * c, 3, 3), "deconv02_2": (c, c, 3, 3)}
    norms = {"in01_1": c, "in02_1": 2 * c, "in03_1": 4 * c}
    norms |= {f"in{blocks + 4:02}_1": 2 * c, f"in{blocks + 5:02}_1": c}
    for block in range(4, blocks + 4):
        shapes |= {f"conv{block:02}_{i}": (4 * c, 4 * c, 3, 3) for i in (1, 2)}
        norms |= {f"in{block:02}_{i}": 4 * c for i in (1, 2)}
    outputs = {k: v[1] if k in ("deconv01_1", "deconv02_1") else v[0] for k, v in shapes.items()}
    weights = {f"{k}.weight": golden.draw(k, v) * 0.1 for k, v in shapes.items()}
    weights |= {f"{k}.bias": golden.draw(f"{k}b", (n,)) * 0.1 for k, n in outputs.items()}
    weights |= {f"{k}.scale": 1 + 0.1 * golden.draw(f"{k}s", (n,)) for k, n in norms.items()}
    return weights | {f"{k}.shift": 0.1 * golden.draw(f"{k}t", (n,)) for k, n in norms.items()}


def cartoongan_oracle(torch, w, x, blocks, decoder):
    """The released network in torch's functions; `x` NCHW."""
    functional = torch.nn.functional

    def conv(name, x, stride=1, reflect=0):
        if reflect:
            x = functional.pad(x, (reflect,) * 4, mode="reflect")
        zeros = 0 if reflect else 1
        return functional.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride, zeros)

    def norm(name, x):
        scale, shift = w[f"{name}.scale"], w[f"{name}.shift"]
        return functional.instance_norm(x, weight=scale, bias=shift, eps=1e-9)

    def up(name, x):
        kernel, bias = w[f"{name}_1.weight"], w[f"{name}_1.bias"]
        x = functional.conv_transpose2d(x, kernel, bias, 2, 1, output_padding=1)
        return conv(f"{name}_2", x) if decoder == "full" else x

    x = norm("in01_1", conv("conv01_1", x, reflect=3)).relu()
    x = norm("in02_1", conv("conv02_2", conv("conv02_1", x, 2))).relu()
    x = norm("in03_1", conv("conv03_2", conv("conv03_1", x, 2))).relu()
    for b in range(4, blocks + 4):
        y = norm(f"in{b:02}_1", conv(f"conv{b:02}_1", x, reflect=1)).relu()
        x = x + norm(f"in{b:02}_2", conv(f"conv{b:02}_2", y, reflect=1))
    x = norm(f"in{blocks + 4:02}_1", up("deconv01", x)).relu()
    x = norm(f"in{blocks + 5:02}_1", up("deconv02", x)).relu()
    return conv("deconv03_1", x, reflect=3).tanh()


def artifygan_weights(channels, blocks, decoder):
    """Random weights by the names of the notebook's generator."""
    c = channels
    shapes = {"conv_1": (c, 3, 7, 7), "conv_10": (3, c, 7, 7)}
    shapes |= {"conv_2": (2 * c, c, 3, 3), "conv_3": (2 * c, 2 * c, 3, 3)}
    shapes |= {"conv_4": (4 * c, 2 * c, 3, 3), "conv_5": (4 * c, 4 * c, 3, 3)}
    shapes |= {"conv_6": (4 * c, 2 * c, 3, 3), "conv_8": (2 * c, c, 3, 3)}
    if decoder == "full":
        shapes |= {"conv_7": (2 * c, 2 * c, 3, 3), "conv_9": (c, c, 3, 3)}
    norms = {"norm_1": c, "norm_2": 2 * c, "norm_3": 4 * c, "norm_4": 2 * c, "norm_5": c}
    for b in range(blocks):
        shapes |= {f"res.{b}.conv_{i}": (4 * c, 4 * c, 3, 3) for i in (1, 2)}
        norms |= {f"res.{b}.norm_{i}": 4 * c for i in (1, 2)}
    outputs = {k: v[1] if k in ("conv_6", "conv_8") else v[0] for k, v in shapes.items()}
    return batch_norm_weights(shapes, outputs, norms)


def discriminator_weights(channels):
    """Random weights by the names of the notebook's discriminator."""
    c = channels
    widths = [3, c, 2 * c, 4 * c, 4 * c, 8 * c, 8 * c, 1]
    shapes = {f"conv_{i}": (widths[i], widths[i - 1], 3, 3) for i in range(1, 8)}
    outputs = {name: shape[0] for name, shape in shapes.items()}
    norms = {"norm_1": 4 * c, "norm_2": 8 * c, "norm_3": 8 * c}
    return batch_norm_weights(shapes, outputs, norms)


def batch_norm_weights(shapes, outputs, norms):
    weights = {f"{k}.weight": golden.draw(k, v) * 0.1 for k, v in shapes.items()}
    weights |= {f"{k}.bias": golden.draw(f"{k}b", (n,)) * 0.1 for k, n in outputs.items()}
    for k, n in norms.items():
        weights[f"{k}.weight"] = 1 + 0.1 * golden.draw(f"{k}s", (n,))
        weights[f"{k}.bias"] = 0.1 * golden.draw(f"{k}t", (n,))
        weights[f"{k}.running_mean"] = 0.1 * golden.draw(f"{k}m", (n,))
        weights[f"{k}.running_var"] = 0.5 + np.abs(golden.draw(f"{k}v", (n,)))
        weights[f"{k}.num_batches_tracked"] = np.array(7)
    return weights


class BatchNormOracle:
    """Layers of the notebook in torch's functions; running statistics in `w` move when training."""

    def __init__(self, torch, w, train):
        self.functional, self.w, self.train = torch.nn.functional, w, train

    def conv(self, name, x, stride=1):
        kernel, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        return self.functional.conv2d(x, kernel, bias, stride, kernel.shape[-1] // 2)

    def transposed(self, name, x, stride):
        kernel, bias = self.w[f"{name}.weight"], self.w[f"{name}.bias"]
        return self.functional.conv_transpose2d(x, kernel, bias, stride, 1, stride - 1)

    def norm(self, name, x):
        leaves = ("running_mean", "running_var", "weight", "bias")
        arrays = [self.w[f"{name}.{leaf}"] for leaf in leaves]
        return self.functional.batch_norm(x, *arrays, training=self.train)

    def generator(self, x, blocks, decoder):
        x = self.norm("norm_1", self.conv("conv_1", x)).relu()
        x = self.norm("norm_2", self.conv("conv_3", self.conv("conv_2", x, 2))).relu()
        x = self.norm("norm_3", self.conv("conv_5", self.conv("conv_4", x, 2))).relu()
        for b in range(blocks):
            y = self.norm(f"res.{b}.norm_1", self.conv(f"res.{b}.conv_1", x)).relu()
            x = x + self.norm(f"res.{b}.norm_2", self.conv(f"res.{b}.conv_2", y))
        for double, flat, norm in (("conv_6", "conv_7", "norm_4"), ("conv_8", "conv_9", "norm_5")):
            x = self.transposed(double, x, 2)
            x = self.transposed(flat, x, 1) if decoder == "full" else x
            x = self.norm(norm, x).relu()
        return self.conv("conv_10", x).sigmoid()

    def discriminator(self, x):
        leaky = self.functional.leaky_relu
        x = leaky(self.conv("conv_2", leaky(self.conv("conv_1", x), 0.01), 2), 0.01)
        x = leaky(self.norm("norm_1", self.conv("conv_3", x)), 0.2)
        x = leaky(self.conv("conv_4", x, 2), 0.01)
        x = leaky(self.norm("norm_2", self.conv("conv_5", x)), 0.2)
        x = leaky(self.norm("norm_3", self.conv("conv_6", x)), 0.2)
        return self.conv("conv_7", x)


def both_precisions(torch, oracle, weights, x):
    """(output and weights after it in float64, tolerance): ten times torch's own float32 error."""
    results = []
    for dtype in (torch.float64, torch.float32):
        w = {k: torch.tensor(v, dtype=dtype) for k, v in weights.items()}
        y = oracle(w, torch.tensor(x, dtype=dtype)).numpy()
        results.append((y, {k: v.numpy() for k, v in w.items()}))
    (exact, after), (rough, _) = results
    error = np.abs(exact - rough).max()
    return exact, after, 10 * max(error, 1e-6 * np.abs(exact).max())


@compilers
@pytest.mark.parametrize("decoder", ["full", "lean"])
@pytest.mark.parametrize("size", [(16, 20), (21, 15)])
def test_tiny_cartoongan_equals_torch(decoder, size, compiler):
    torch = pytest.importorskip("torch")
    weights = cartoongan_weights(4, 2, decoder)
    net, card = convert.build("cartoongan", weights)
    assert (net.options.channels, net.options.blocks, net.options.decoder) == (4, 2, decoder)
    x = golden.draw("photo", (2, 3, *size))

    def oracle(w, x):
        return cartoongan_oracle(torch, w, x, 2, decoder)

    expected, _, atol = both_precisions(torch, oracle, weights, x)
    np.testing.assert_allclose(nchw(run(net, nhwc(x), compiler)[0]), expected, rtol=0, atol=atol)


@compilers
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("decoder", ["full", "lean"])
def test_tiny_artifygan_equals_torch_with_its_statistics(decoder, train, compiler):
    torch = pytest.importorskip("torch")
    weights = artifygan_weights(4, 3, decoder)
    net, _ = convert.build("artifygan", weights)
    assert (net.options.channels, net.options.blocks, net.options.decoder) == (4, 3, decoder)
    x = np.abs(golden.draw("photo", (2, 3, 20, 16)))

    def oracle(w, x):
        return BatchNormOracle(torch, w, train).generator(x, 3, decoder)

    expected, after, atol = both_precisions(torch, oracle, weights, x)
    y, net = run(net, 2 * nhwc(x) - 1, compiler, train=train)
    np.testing.assert_allclose((nchw(y) + 1) / 2, expected, rtol=0, atol=atol)
    for block in range(3):
        ours, name = net.blocks[block].norm2, f"res.{block}.norm_2"
        check_statistics(ours, after, name)


@compilers
@pytest.mark.parametrize("train", [True, False])
def test_tiny_discriminator_equals_torch_with_its_statistics(train, compiler):
    torch = pytest.importorskip("torch")
    weights = discriminator_weights(4)
    net, _ = convert.build("artifygan", weights)
    x = np.abs(golden.draw("photo", (2, 3, 18, 13)))

    def oracle(w, x):
        return BatchNormOracle(torch, w, train).discriminator(x)

    expected, after, atol = both_precisions(torch, oracle, weights, x)
    y, net = run(net, 2 * nhwc(x) - 1, compiler, train=train)
    np.testing.assert_allclose(nchw(y), expected, rtol=0, atol=atol)
    check_statistics(net.norm3, after, "norm_3")


def check_statistics(ours, after, name):
    # a mean of some hundred float32 products of size 1
    for leaf, found in (("running_mean", ours.mean), ("running_var", ours.variance)):
        np.testing.assert_allclose(found[...], after[f"{name}.{leaf}"], rtol=1e-5, atol=1e-6)


# --- facts about the networks --------------------------------------------------------------------


def abstract(net, **options):
    return nnx.eval_shape(lambda: cartoongan.build(net, options, rngs=nnx.Rngs(0)))


def parameters(net):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(net, nnx.Param)))


ARTIFYGAN = {"blocks": 10, "decoder": "lean"}
AS_RUN = {"blocks": 10, "norm": "batch", "padding": "zero", "output": "sigmoid"}


@pytest.mark.parametrize(
    "options, count, gigamacs",
    [
        pytest.param({}, 11_129_667, 54.38, id="cartoongan"),
        pytest.param(ARTIFYGAN, 13_307_523, 59.22, id="artifygan"),
        pytest.param(AS_RUN, 13_492_035, 64.05, id="artifygan as run"),
        pytest.param({**ARTIFYGAN, "channels": 32}, 3_336_003, None, id="half width"),
    ],
)
def test_generator_has_the_published_parameters_and_macs(options, count, gigamacs):
    net = abstract("generator", **options)
    assert parameters(net) == count
    if gigamacs:
        graph, state = nnx.split(net)
        picture = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
        macs = ops.count_macs(lambda state, x: nnx.merge(graph, state)(x), state, picture)
        assert round(macs / 1e9, 2) == gigamacs


@pytest.mark.parametrize("kind", ["instance", "batch"])
def test_discriminator_has_the_published_parameters(kind):
    assert parameters(abstract("discriminator", norm=kind)) == 1_129_665


def tiny(**options):
    options = {"channels": 4, "blocks": 2, **options}
    return cartoongan.build("generator", options, rngs=nnx.Rngs(3))


@pytest.mark.parametrize("options", [{}, {"padding": "zero"}, {"upsampling": "resize"}])
def test_generator_with_extent_equals_generator_of_the_cropped_picture(options):
    net, x = tiny(blocks=1, **options), nhwc(golden.draw("room", (2, 3, 24, 28)))
    graph, state = nnx.split(net)
    forward = ops.jit(lambda state, x, extent: nnx.merge(graph, state)(x, extent=extent))
    for height, width in ((16, 20), (24, 28)):
        y = forward(state, x, (jnp.int32(height), jnp.int32(width)))
        expected, _ = run(net, x[:, :height, :width])
        # the same numbers summed in another order, through seven norms
        np.testing.assert_allclose(y[:, :height, :width], expected, rtol=0, atol=2e-5)


def test_generator_features_name_every_stage_and_end_in_the_image():
    net, x = tiny(), nhwc(golden.draw("x", (1, 3, 16, 20)))
    features = jax.jit(net.features)(x)
    shapes = {name: y.shape[1:] for name, y in features.items()}
    assert shapes == {
        "stem": (16, 20, 4),
        "down0": (8, 10, 8),
        "down1": (4, 5, 16),
        "block0": (4, 5, 16),
        "block1": (4, 5, 16),
        "up0": (8, 10, 8),
        "up1": (16, 20, 4),
        "image": (16, 20, 3),
    }
    np.testing.assert_array_equal(features["image"], jax.jit(net)(x))


def test_resize_generator_doubles_by_repeating_pixels_then_convolves():
    torch = pytest.importorskip("torch")
    up = tiny(upsampling="resize", decoder="lean").up[1]
    up.conv1.bias[...] = jnp.asarray(golden.draw("b", (4,)))
    x = golden.draw("x", (2, 8, 5, 6))
    y = torch.nn.functional.interpolate(torch.tensor(x), scale_factor=2, mode="nearest")
    kernel = torch.tensor(np.asarray(up.conv1.kernel[...]).transpose(3, 2, 0, 1).copy())
    y = torch.nn.functional.conv2d(y, kernel, torch.tensor(np.array(up.conv1.bias[...])), padding=1)
    expected = torch.nn.functional.instance_norm(y).relu().numpy()
    # float32 of values of size 1, divided by deviations of about 0.2
    found = up(jnp.asarray(nhwc(x)), train=False, extent=None)
    np.testing.assert_allclose(nchw(found), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"norm": "batch", "output": "sigmoid"}])
def test_generator_output_is_within_minus_one_and_one(options):
    y, _ = run(tiny(**options), 50 * nhwc(golden.draw("loud", (1, 3, 16, 16))), train=True)
    assert y.min() >= -1 and y.max() <= 1 and y.min() < 0 < y.max()


@pytest.mark.parametrize(
    "net, options, words",
    [
        ("generater", {}, ["'generater'", "did you mean 'generator'"]),
        ("generator", {"block": 3}, ["'block'", "did you mean 'blocks'"]),
        ("generator", {"norm": "layer"}, ["norm is 'layer'", "instance, batch"]),
        ("generator", {"decoder": "ful"}, ["did you mean 'full'"]),
        ("generator", {"channels": 0}, ["0 channels", "channels >= 1"]),
        ("discriminator", {"channels": 0}, ["0 channels"]),
        ("discriminator", {"norm": "batsh"}, ["did you mean 'batch'"]),
    ],
)
def test_wrong_options_are_named_with_what_is_allowed(net, options, words):
    with pytest.raises(UserError) as raised:
        cartoongan.build(net, options, rngs=nnx.Rngs(0))
    for word in words:
        assert word in str(raised.value)
