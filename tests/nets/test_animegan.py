"""AnimeGAN's networks against the recorded originals and oracles written here."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle, convert, inference, optim
from artifygan_jax.errors import UserError
from artifygan_jax.inference import Stylizer
from artifygan_jax.nets import animegan, animegan2, animegan2_lite, animegan3, ops
from artifygan_jax.weights import rules
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


def run(net, x, **flags):
    """(output as NCHW, net with the buffers after it) of one compiled call."""
    graph, state = nnx.split(net)

    def forward(state, x):
        called = nnx.merge(graph, state)
        return called(x, **flags), nnx.state(called)

    y, state = ops.jit(forward)(state, jnp.asarray(x))
    return nchw(y), nnx.merge(graph, state)


def case(name):
    """(arrays, meta, net, rules) of one recorded network."""
    path = shared("golden", "animegan_v1_fork.npz")
    weights = golden.recipe(path, name)
    net, _ = convert.build("animegan1", weights)
    return *golden.load(path), net, convert.plan("animegan1", weights).rules


@pytest.mark.parametrize("name", ["discriminator_upstream_n3_sn", "discriminator_fork_d2_sn"])
def test_spectral_discriminators_equal_the_originals_call_by_call(name):
    arrays, meta, net, table = case(name)
    x = nhwc(arrays["in/x"])
    for call in (1, 2):
        y, net = run(net, x, train=True)
        golden.check_out(arrays, meta, f"{name}/train_call_{call}", y)
        found, prefix = bundle.variables(net), f"{name}/after_call_{call}/"
        keys = [k.removeprefix("out64/") for k in arrays if k.startswith(f"out64/{prefix}")]
        assert len(keys) >= 14
        for key in keys:
            ((path, transform),) = rules.targets(table, key.removeprefix(prefix))
            expected = transform(arrays[f"out64/{key}"])
            atol = golden.tolerance(meta, key)
            np.testing.assert_allclose(found[path], expected, rtol=0, atol=atol, err_msg=key)
    y, after = run(net, x)
    golden.check_out(arrays, meta, f"{name}/eval_after", y)
    for path, before in bundle.variables(net).items():
        np.testing.assert_array_equal(bundle.variables(after)[path], before, err_msg=path)


def test_the_forks_large_discriminator_equals_the_original():
    arrays, meta, net, _ = case("discriminator_fork_d3")
    y, _ = run(net, nhwc(arrays["in/x"]))
    golden.check_out(arrays, meta, "discriminator_fork_d3", y)


def test_the_ports_generator_equals_the_original():
    arrays, meta, net, _ = case("generator")
    graph, state = nnx.split(net)
    run = ops.jit(lambda state, x: nnx.merge(graph, state).features(x))
    out = {k: nchw(y) for k, y in run(state, jnp.asarray(nhwc(arrays["in/x"]))).items()}
    golden.check_out(arrays, meta, "generator", out["image"])
    ours = {"encode_blocks": "encoder", "res_blocks": "blocks", "decode_blocks": "decoder"}
    taps = [name for name in meta["taps"] if name.startswith("generator/")]
    assert len(taps) == 17
    for name in taps[:-1]:  # the last is the picture before the tanh
        group, index = name.removeprefix("generator/").split(".")
        golden.check_tap(meta, name, out[f"{ours[group]}/{index}"], arrays[f"tap/{name}"])


# --- counts, freezing, extents, all versions ------------------------------------------------------

NETS = {
    "original": (animegan, "generator", {}),
    "port": (animegan, "generator", {"variant": "port", "upsampling": "half"}),
    "v2": (animegan2, "generator", {}),
    "lite": (animegan2_lite, "generator", {}),
    "v3": (animegan3, "generator", {}),
    "D of v1": (animegan, "discriminator", {"norm": "instance"}),
    "D of v2": (animegan, "discriminator", {}),
    "D of the port": (animegan, "discriminator", {"norm": "plain"}),
}


def made(name, **options):
    module, net, own = NETS[name]
    return module.build(net, own | options, rngs=nnx.Rngs(0))


def parameters(name, **options):
    """{path: shape holder} of a net that is not computed."""
    net = nnx.eval_shape(lambda: made(name, **options))
    flat = nnx.to_flat_state(nnx.state(net, nnx.Param))
    return {"/".join(map(str, path)): leaf.get_value() for path, leaf in flat}, net


@pytest.mark.parametrize(
    "name, count",
    [
        ("original", 3_956_096),
        ("port", 3_757_184),
        ("v2", 2_143_552),
        ("lite", 698_240),
        ("v3", 1_027_520),
        ("D of v1", 1_128_800),
        ("D of v2", 1_128_800),
    ],
)
def test_parameters_are_as_many_as_published(name, count):
    assert sum(leaf.size for leaf in parameters(name)[0].values()) == count


@pytest.mark.parametrize(
    "name, gmac",
    [("original", 31.06), ("port", 32.81), ("v2", 26.28), ("lite", 7.15), ("v3", 7.39)],
)
def test_multiply_accumulates_are_those_of_the_design(name, gmac, monkeypatch):
    def grouped(self, x, extent=None):  # shifted multiply-adds are no convolutions to count
        return jax.lax.conv_general_dilated(
            x,
            self.kernel[...],
            (self.stride, self.stride),
            [(1, 1), (1, 1)],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1],
        )

    monkeypatch.setattr(ops.Depthwise, "__call__", grouped)
    net = parameters(name)[1]
    graph, state = nnx.split(net)
    x = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
    found = ops.count_macs(lambda state, x: nnx.merge(graph, state)(x), state, x)
    assert found * 1e-9 == pytest.approx(gmac, abs=0.005)


@pytest.mark.parametrize(
    "name, count",
    [
        ("port", 427_584),
        ("v2", 282_016),
        ("D of v1", 93_024),
        ("D of v2", 93_024),
        ("D of the port", 93_024),
    ],
)
def test_the_first_five_layers_hold_what_the_deck_froze(name, count):
    leaves, net = parameters(name)
    patterns = [pattern for _, pattern in net.layer_names()[:5] if pattern]
    frozen = optim.frozen_paths(patterns, leaves, name)
    assert sum(leaves[path].size for path in frozen) == count


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_is_in_one_named_layer(name):
    leaves, net = parameters(name, channels=8)
    names = [layer for layer, _ in net.layer_names()]
    assert len(set(names)) == len(names)
    used = set()
    for path in leaves:
        (layer,) = [n for n, pattern in net.layer_names() if re.fullmatch(pattern, path)]
        used.add(layer)
    assert used == {layer for layer, pattern in net.layer_names() if pattern}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, upsampling",
    [
        ("original", "legacy"),
        ("port", "half"),
        ("v2", "corners"),
        ("v2", "half"),
        ("lite", "legacy"),
        ("v3", "legacy"),
    ],
)
def test_a_picture_in_a_room_gives_what_it_gives_alone(name, upsampling):
    net = made(name, channels=4, upsampling=upsampling)
    x = golden.draw("room", (1, 48, 40, 3))
    graph, state = nnx.split(net)
    forward = ops.jit(lambda state, x, extent: nnx.merge(graph, state)(x, extent=extent))
    extent = jnp.int32(32), jnp.int32(24)
    found = forward(state, jnp.asarray(x), extent)[:, :32, :24]
    alone, _ = run(net, x[:, :32, :24])
    atol = 3e-4 if name == "v3" else 3e-5  # LADE divides by deviations over 12 pixels here
    np.testing.assert_allclose(nchw(found), alone, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["original", "port", "v2", "lite", "v3"])
def test_a_stylizer_takes_pictures_of_any_size(name):
    stylizer = Stylizer(made(name, channels=4), {"net": "generator"})
    x = np.tanh(golden.draw("any", (1, 45, 33, 3)))
    y = stylizer(x)
    assert y.shape == x.shape and np.isfinite(y).all() and y.std() > 0.01


def test_a_picture_too_large_for_memory_is_one_line(monkeypatch):
    stylizer = Stylizer(made("v2", channels=4), {"net": "generator"}, whole_megapixels=1e-4)
    monkeypatch.setattr(inference, "available_memory", lambda: 1e5)
    with pytest.raises(UserError, match="smaller"):
        stylizer(np.zeros((1, 64, 64, 3), np.float32))


def test_the_first_versions_take_multiples_of_four_and_say_so():
    with pytest.raises(UserError, match="multiples of 4"):
        made("port", channels=2)(jnp.zeros((1, 18, 16, 3)))


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("v2", {"upsampling": "corner"}, "corners"),
        ("port", {"variant": "torch"}, "original, port"),
        ("D of v1", {"norm": "layers"}, "layer"),
        ("D of v1", {"growth": 3}, "growth"),
        ("lite", {"channel": 8}, "no option 'channel'"),
        ("v3", {"channels": 0}, "at least 1"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(UserError, match=message):
        made(name, **options)


# --- oracles in torch for what has no recorded output ----------------------------------------------


class Oracle:
    """Layers in torch, on our arrays by path; pictures are NCHW float64."""

    def __init__(self, net, torch):
        self.torch, self.f = torch, torch.nn.functional
        self.values = {k: np.asarray(x, np.float64) for k, x in bundle.variables(net).items()}

    def get(self, path):
        return self.torch.tensor(self.values[path])

    def conv(self, x, path, stride=1, pads=None, groups=1):
        kernel = self.get(f"{path}/kernel").permute(3, 2, 0, 1)
        if pads is None:
            total = kernel.shape[-1] - stride
            pads = [total // 2, total - total // 2] * 2
        x = self.f.pad(x, pads, mode="reflect") if any(pads) else x
        return self.f.conv2d(x, kernel, stride=stride, groups=groups)

    def depthwise(self, x, path, stride=1):
        return self.conv(x, path, stride, groups=x.shape[1])

    def norm(self, x, path, groups=None, epsilon=1e-5):
        scale, bias = self.get(f"{path}/scale"), self.get(f"{path}/bias")
        groups = x.shape[1] if groups is None else groups
        return self.f.group_norm(x, groups, scale, bias, epsilon)

    def leaky(self, x):
        return self.f.leaky_relu(x, 0.2)

    def legacy(self, x):
        """TensorFlow 1: pixel k of the double lies at k / 2."""
        for axis in (2, 3):
            n = x.shape[axis]
            at = self.torch.arange(2 * n)
            low, high = at // 2, self.torch.clamp((at + 1) // 2, max=n - 1)
            x = (x.index_select(axis, low) + x.index_select(axis, high)) / 2
        return x


def differ(torch, name, oracle, **options):
    """Largest difference of a small net, with all its arrays random, from its oracle."""
    net = made(name, **options)
    for path, leaf in nnx.to_flat_state(nnx.state(net, nnx.Param)):
        if path[-1] in ("scale", "bias"):
            value = 0.3 * golden.draw("/".join(map(str, path)), leaf.shape)
            leaf.set_value(jnp.asarray(value + (path[-1] == "scale")))
            nnx.update(net, nnx.from_flat_state([(path, leaf)]))
    x = np.tanh(golden.draw("photo", (2, 32, 24, 3)))
    y, _ = run(net, x)
    expected = oracle(Oracle(net, torch), torch.tensor(nchw(x), dtype=torch.float64))
    assert y.std() > 0.05
    return np.abs(y - expected.numpy()).max()


def test_the_original_equals_an_oracle():
    torch = pytest.importorskip("torch")

    def block(o, x, path):
        return o.leaky(o.norm(o.conv(x, f"{path}/conv"), f"{path}/norm"))

    def separable(o, x, path, stride=1):
        x = o.conv(o.depthwise(x, f"{path}/depthwise", stride), f"{path}/pointwise")
        return o.leaky(o.norm(x, f"{path}/norm", epsilon=1e-6))

    def layer(o, kind, x, path):
        if kind == "down":
            small = separable(o, x[:, :, ::2, ::2], f"{path}/resized")
            return separable(o, x, f"{path}/strided", 2) + small
        if kind == "up":
            return separable(o, o.legacy(x), f"{path}/conv")
        return {"conv": block, "separable": separable}[kind](o, x, path)

    def oracle(o, x):
        for i, kind in enumerate("conv conv down conv separable down conv".split()):
            x = layer(o, kind, x, f"encoder/{i}")
        for i in range(2):
            y = block(o, x, f"blocks/{i}/expand")
            y = o.depthwise(y, f"blocks/{i}/depthwise")
            y = o.leaky(o.norm(y, f"blocks/{i}/depthwise_norm"))
            x = x + o.norm(o.conv(y, f"blocks/{i}/project"), f"blocks/{i}/project_norm")
        for i, kind in enumerate("conv up separable conv up conv conv".split()):
            x = layer(o, kind, x, f"decoder/{i}")
        return torch.tanh(o.conv(x, "out"))

    assert differ(torch, "original", oracle, channels=4, blocks=2) < 1e-4


def test_the_lite_generator_equals_an_oracle():
    torch = pytest.importorskip("torch")

    def block(o, x, path, stride=1):
        return o.leaky(o.norm(o.conv(x, f"{path}/conv", stride), f"{path}/norm", 1))

    def oracle(o, x):
        skips, x = [], block(o, x, "stem")
        for i in range(3):
            skips.append(x)
            x = block(o, block(o, x, f"down/{i}/conv1", 2), f"down/{i}/conv2")
        for i in range(4):
            y = block(o, block(o, x, f"blocks/{i}/squeeze"), f"blocks/{i}/conv")
            x = x + o.conv(y, f"blocks/{i}/expand")
        for i in range(3):
            x = block(o, o.legacy(x), f"up/{i}/conv1") + skips.pop()
            x = block(o, x, f"up/{i}/conv2")
        return torch.tanh(o.conv(x, "out"))

    assert differ(torch, "lite", oracle, channels=4) < 1e-4


def test_the_third_version_equals_an_oracle():
    torch = pytest.importorskip("torch")

    def block(o, x, path, stride=1):
        total = o.values[f"{path}/conv/kernel"].shape[0] - stride
        x = o.conv(x, f"{path}/conv", stride, [total - total // 2, total // 2] * 2)
        t = o.conv(x, f"{path}/adapt")
        (v, m), (w, n) = (torch.var_mean(z, (2, 3), correction=0, keepdim=True) for z in (x, t))
        return o.leaky((x - m) / (v + 1e-5).sqrt() * (w + 1e-5).sqrt() + n)

    def attention(o, x):
        memory = o.get("attention/memory")
        scores = torch.einsum("bcn,cs->bns", o.conv(x, "attention/query").flatten(2), memory)
        shares = scores.softmax(1)
        shares = shares / (1e-9 + shares.sum(2, keepdim=True))
        y = torch.einsum("bns,cs->bcn", shares, memory).reshape(x.shape)
        y = o.conv(y, "attention/project")
        leaves = (o.get(f"attention/norm/{k}") for k in ("mean", "variance", "scale", "bias"))
        return o.leaky(x + o.f.batch_norm(y, *leaves, eps=1e-3))

    def oracle(o, x):
        skips, x = [], block(o, x, "stem")
        for i in range(3):
            skips.append(x)
            x = block(o, block(o, x, f"down/{i}/0", 2), f"down/{i}/1")
        x = attention(o, x)
        for i in range(3):
            x = block(o, block(o, o.legacy(x), f"up/{i}/0") + skips.pop(), f"up/{i}/1")
        return torch.tanh(o.conv(x, "out"))

    assert differ(torch, "v3", oracle, channels=4) < 1e-4
