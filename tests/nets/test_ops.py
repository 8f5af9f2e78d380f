"""The shared layers: against torch, and with an extent against the cropped array."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import phases
from artifygan_jax.nets import ops
from tests.golden import draw

# Sums of about a hundred float32 products of size 1 in another order than torch's.
ATOL = 2e-5


@pytest.fixture(autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def nhwc(x):
    return jnp.asarray(np.ascontiguousarray(np.transpose(x, (0, 2, 3, 1))))


def nchw(x):
    return np.ascontiguousarray(np.transpose(np.asarray(x), (0, 3, 1, 2)))


def value_and_gradients(layer, x, weight):
    """`layer(x)` and the gradients of `sum(layer(x) * weight)`: by x and by the layer's arrays."""
    graph, state = nnx.split(layer)

    def loss(state, x):
        y = nnx.merge(graph, state)(x)
        return (y * weight).sum(), y

    gradients = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (_, y), (by_state, by_x) = jax.jit(gradients)(state, x)
    return y, by_x, by_state


# --- padding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8, 2), (2, 7, 5, 3), (1, 4, 9, 1)])
@pytest.mark.parametrize("amount", [1, 3])
def test_reflect_pad_is_that_of_numpy(shape, amount):
    x = draw("x", shape)
    expected = np.pad(x, ((0, 0), (amount, amount), (amount, amount), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(ops.pad(jnp.asarray(x), amount, "reflect"), expected)


@pytest.mark.parametrize("mode", ["reflect", "zero"])
@pytest.mark.parametrize("amount", [1, 3])
@pytest.mark.parametrize("extent", [(4, 5), (7, 9), (8, 4)])
def test_pad_with_extent_is_that_of_the_cropped_array(mode, amount, extent):
    x = draw("x", (2, 8, 9, 3))
    h, w = extent
    padded = jax.jit(lambda x, e: ops.pad(x, amount, mode, e))(x, tuple(map(jnp.int32, extent)))
    assert padded.shape == (2, 8 + 2 * amount, 9 + 2 * amount, 3)
    expected = ops.pad(jnp.asarray(x[:, :h, :w]), amount, mode)
    found = padded[:, : h + 2 * amount, : w + 2 * amount]
    np.testing.assert_array_equal(found, expected)


def test_inside_zeroes_all_but_the_extent():
    x = ops.inside(jnp.full((1, 4, 5, 2), jnp.nan), (0, 3))  # NaN outside must not survive either
    np.testing.assert_array_equal(x, np.zeros((1, 4, 5, 2)))
    x = np.asarray(ops.inside(jnp.ones((1, 4, 5, 2)), (2, 3)))
    assert x[:, :2, :3].all() and x.sum() == 2 * 3 * 2


@pytest.mark.parametrize(
    "extent, factor, expected",
    [((8, 6), 2, (16, 12)), ((8, 6), -2, (4, 3)), ((7, 5), -2, (4, 3)), (None, -2, None)],
)
def test_scaled_extent_rounds_up(extent, factor, expected):
    assert ops.scaled(extent, factor) == expected


# --- convolutions --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 10), (9, 7)])
@pytest.mark.parametrize(
    "kernel, stride, padding",
    [
        (3, 1, "zero"),
        (3, 2, "zero"),
        (7, 1, "zero"),
        (3, 1, "reflect"),
        (7, 1, "reflect"),
    ],
)
def test_convolution_equals_torch_in_value_and_gradients(torch, size, kernel, stride, padding):
    layer = ops.Conv(3, 5, kernel, stride=stride, padding=padding, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.asarray(draw("bias", (5,)))
    x, amount = draw("x", (2, 3, *size)), kernel // 2
    tx, tk, tb = (
        torch.tensor(np.array(a), requires_grad=True)
        for a in (x, np.transpose(layer.kernel[...], (3, 2, 0, 1)), layer.bias[...])
    )
    mode = "reflect" if padding == "reflect" else "constant"
    padded = torch.nn.functional.pad(tx, (amount,) * 4, mode=mode)
    expected = torch.nn.functional.conv2d(padded, tk, tb, stride)
    check_against_torch(torch, layer, x, expected, tx, tk, tb, (2, 3, 1, 0))


@pytest.mark.parametrize("size", [(4, 6), (5, 3), (1, 1)])
def test_transposed_convolution_equals_torch_in_value_and_gradients(torch, size):
    layer = ops.ConvTranspose(4, 3, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.asarray(draw("bias", (3,)))
    x = draw("x", (2, 4, *size))
    tx, tk, tb = (
        torch.tensor(np.array(a), requires_grad=True)
        for a in (x, np.transpose(layer.kernel[...], (2, 3, 0, 1)), layer.bias[...])
    )
    expected = torch.nn.functional.conv_transpose2d(tx, tk, tb, 2, 1, output_padding=1)
    assert expected.shape[2:] == (2 * size[0], 2 * size[1])
    check_against_torch(torch, layer, x, expected, tx, tk, tb, (2, 3, 0, 1))


def check_against_torch(torch, layer, x, expected, tx, tk, tb, to_hwio):
    weight = draw("weight", tuple(expected.shape))
    (expected * torch.tensor(weight)).sum().backward()
    y, by_x, by_state = value_and_gradients(layer, nhwc(x), nhwc(weight))
    np.testing.assert_allclose(nchw(y), expected.detach().numpy(), rtol=0, atol=ATOL)
    np.testing.assert_allclose(nchw(by_x), tx.grad.numpy(), rtol=0, atol=ATOL)
    kernel = np.transpose(tk.grad.numpy(), to_hwio)
    np.testing.assert_allclose(by_state["kernel"][...], kernel, rtol=0, atol=ATOL)
    np.testing.assert_allclose(by_state["bias"][...], tb.grad.numpy(), rtol=0, atol=ATOL)


def test_convolution_without_bias_has_only_a_kernel():
    layer = ops.Conv(3, 5, 3, bias=False, rngs=nnx.Rngs(0))
    assert list(nnx.state(layer)) == ["kernel"]
    np.testing.assert_array_equal(layer(jnp.zeros((1, 4, 4, 3))), np.zeros((1, 4, 4, 5)))


def test_kernels_start_as_normal_numbers_of_deviation_two_hundredths():
    for layer in (
        ops.Conv(32, 64, 3, rngs=nnx.Rngs(0)),
        ops.ConvTranspose(32, 64, rngs=nnx.Rngs(0)),
    ):
        kernel = np.asarray(layer.kernel[...])
        # 18,432 draws: the mean is known to 1.5e-4 and the deviation to 1e-4; five times that
        assert abs(kernel.mean()) < 7.5e-4 and abs(kernel.std() - 0.02) < 5e-4
        assert not np.asarray(layer.bias[...]).any()


def test_upsampling_repeats_each_pixel():
    x = draw("x", (2, 3, 4, 5))
    expected = np.repeat(np.repeat(x, 2, axis=1), 2, axis=2)
    np.testing.assert_array_equal(ops.upsample_nearest(jnp.asarray(x)), expected)


# --- normalisations ------------------------------------------------------------------------------


def with_affine(layer):
    n = layer.scale.shape[0]
    layer.scale[...] = jnp.asarray(1 + 0.3 * draw("scale", (n,)))
    layer.bias[...] = jnp.asarray(draw("bias", (n,)))
    return layer


def test_instance_norm_equals_torch_in_value_and_gradient(torch):
    layer = with_affine(ops.InstanceNorm(4, epsilon=1e-3))
    x = 3 + 2 * draw("x", (2, 4, 7, 5))
    weight = draw("weight", x.shape)
    tx = torch.tensor(x, requires_grad=True)
    scale, bias = (torch.tensor(np.array(a[...])) for a in (layer.scale, layer.bias))
    expected = torch.nn.functional.instance_norm(tx, weight=scale, bias=bias, eps=1e-3)
    (expected * torch.tensor(weight)).sum().backward()
    y, by_x, _ = value_and_gradients(layer, nhwc(x), nhwc(weight))
    np.testing.assert_allclose(nchw(y), expected.detach().numpy(), rtol=0, atol=ATOL)
    np.testing.assert_allclose(nchw(by_x), tx.grad.numpy(), rtol=0, atol=ATOL)


def test_instance_norm_of_a_constant_channel_is_its_bias():
    layer = with_affine(ops.InstanceNorm(3, epsilon=1e-9))
    y = layer(jnp.full((1, 8, 8, 3), 0.5))
    # x * factor + (bias - mean * factor): two products of 0.5 * 1.6 / sqrt(1e-9) = 25,000 cancel
    atol = 25_000 * 2**-23
    np.testing.assert_allclose(y, jnp.broadcast_to(layer.bias[...], y.shape), rtol=0, atol=atol)


def test_batch_norm_equals_torch_with_running_statistics(torch):
    layer, oracle = with_affine(ops.BatchNorm(4)), torch.nn.BatchNorm2d(4)
    with torch.no_grad():
        oracle.weight.copy_(torch.tensor(np.array(layer.scale[...])))
        oracle.bias.copy_(torch.tensor(np.array(layer.bias[...])))
    for call in range(2):
        x = call + 2 * draw(f"x{call}", (3, 4, 6, 5))
        y = layer(nhwc(x), train=True)
        expected = oracle(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(nchw(y), expected, rtol=0, atol=ATOL)
    np.testing.assert_allclose(layer.mean[...], oracle.running_mean, rtol=0, atol=ATOL)
    np.testing.assert_allclose(layer.variance[...], oracle.running_var, rtol=0, atol=ATOL)
    before = np.array(layer.mean[...])
    expected = oracle.eval()(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(nchw(layer(nhwc(x))), expected, rtol=0, atol=ATOL)
    np.testing.assert_array_equal(layer.mean[...], before)


def test_batch_norm_of_a_padded_picture_cannot_train():
    with pytest.raises(ValueError, match="padded"):
        ops.BatchNorm(2)(jnp.ones((1, 4, 4, 2)), train=True, extent=(2, 2))


def test_batch_norm_statistics_are_those_of_the_batch_over_all_devices():
    assert jax.device_count() == 8
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = np.arange(8, dtype=np.float32).reshape(8, 1, 1, 1) + draw("x", (8, 3, 3, 2))
    spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    results = []
    for batch in (jnp.asarray(x), spread):
        graph, state = nnx.split(ops.BatchNorm(2))

        def train(state, batch, graph=graph):
            layer = nnx.merge(graph, state)
            return layer(batch, train=True), layer.mean[...], layer.variance[...]

        results.append(ops.jit(train)(state, batch))
    for one, eight in zip(*results, strict=True):
        np.testing.assert_allclose(eight, one, rtol=0, atol=ATOL)
    np.testing.assert_allclose(results[1][1], 0.1 * x.mean((0, 1, 2)), rtol=0, atol=ATOL)


@pytest.mark.parametrize("make", [ops.InstanceNorm, ops.BatchNorm])
def test_bfloat16_activations_keep_float32_statistics(make):
    x = jnp.asarray(30 + 0.5 * draw("x", (2, 32, 32, 3)), jnp.bfloat16)
    y = make(3)(x, train=True)
    assert y.dtype == jnp.bfloat16
    exact = np.asarray(x, np.float64)
    axes = (1, 2) if make is ops.InstanceNorm else (0, 1, 2)
    expected = (exact - exact.mean(axes, keepdims=True)) / np.sqrt(
        exact.var(axes, keepdims=True) + 1e-5
    )
    # One rounding of the result to bfloat16 (2^-8 of at most 4); a mean summed in bfloat16 is off
    # by more than 0.1, which is 0.2 deviations.
    np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=2**-8, atol=1e-3)


def test_bfloat16_moments_and_running_statistics_are_float32():
    x = jnp.asarray(30 + draw("x", (2, 16, 16, 3)), jnp.bfloat16)
    exact = np.asarray(x, np.float64)
    mean, variance = ops.moments(x)
    assert mean.dtype == variance.dtype == jnp.float32
    np.testing.assert_allclose(mean, exact.mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var((1, 2)), rtol=1e-5)
    layer = ops.BatchNorm(3)
    layer(x, train=True)
    assert layer.mean[...].dtype == layer.variance[...].dtype == jnp.float32
    np.testing.assert_allclose(layer.mean[...], 0.1 * exact.mean((0, 1, 2)), rtol=1e-5)


def test_bfloat16_convolutions_give_bfloat16_of_float32_parameters():
    for layer in (ops.Conv(3, 4, 3, rngs=nnx.Rngs(0)), ops.ConvTranspose(3, 4, rngs=nnx.Rngs(0))):
        x = jnp.asarray(draw("x", (1, 6, 6, 3)))
        compiled = jax.jit(layer)
        y = compiled(x.astype(jnp.bfloat16))
        assert y.dtype == jnp.bfloat16 and layer.kernel[...].dtype == jnp.float32
        # 27 products of numbers rounded to 2^-9, of size 0.02
        np.testing.assert_allclose(y.astype(jnp.float32), compiled(x), rtol=0.02, atol=4e-3)


# --- extents -------------------------------------------------------------------------------------

LAYERS = {
    "zero 3x3": lambda: ops.Conv(3, 4, 3, rngs=nnx.Rngs(1)),
    "zero 3x3 stride 2": lambda: ops.Conv(3, 4, 3, stride=2, rngs=nnx.Rngs(1)),
    "zero 7x7": lambda: ops.Conv(3, 4, 7, rngs=nnx.Rngs(1)),
    "reflect 3x3": lambda: ops.Conv(3, 4, 3, padding="reflect", rngs=nnx.Rngs(1)),
    "reflect 7x7": lambda: ops.Conv(3, 4, 7, padding="reflect", rngs=nnx.Rngs(1)),
    "transposed": lambda: ops.ConvTranspose(3, 4, rngs=nnx.Rngs(1)),
    "instance norm": lambda: with_affine(ops.InstanceNorm(3)),
    "batch norm": lambda: with_affine(ops.BatchNorm(3)),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_layer_with_extent_equals_layer_of_the_cropped_array(make):
    layer, x = make(), 2 + draw("x", (2, 12, 14, 3))
    graph, state = nnx.split(layer)
    run = jax.jit(lambda state, x, extent=None: nnx.merge(graph, state)(x, extent=extent))
    for h, w in ((8, 9), (9, 6), (12, 14)):
        expected = run(state, jnp.asarray(x[:, :h, :w]))
        found = run(state, x, (jnp.int32(h), jnp.int32(w)))
        found = found[:, : expected.shape[1], : expected.shape[2]]
        np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


def test_moments_with_extent_are_those_of_the_cropped_array():
    x = jnp.asarray(5 + draw("x", (2, 6, 8, 3)))
    for found, expected in zip(ops.moments(x, (4, 7)), ops.moments(x[:, :4, :7]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


# --- programs ------------------------------------------------------------------------------------


def test_macs_of_convolutions_and_products_are_counted_also_inside_jit():
    kernel = jnp.zeros((3, 3, 4, 5))

    def convolution(x):
        return ops.convolve(x, kernel, 2, ((1, 1), (1, 1)))

    x = jax.ShapeDtypeStruct((2, 8, 6, 4), jnp.float32)
    macs = 2 * 4 * 3 * 5 * 9 * 4
    assert ops.count_macs(convolution, x) == macs
    assert ops.count_macs(lambda x: jax.jit(convolution)(x).sum(), x) == macs
    a, b = jnp.zeros((2, 3, 7)), jnp.zeros((2, 7, 5))
    assert ops.count_macs(lambda a, b: a @ b, a, b) == 2 * 3 * 7 * 5


def test_jit_with_our_compiler_options_computes_the_same():
    layer = ops.Conv(3, 4, 3, padding="reflect", rngs=nnx.Rngs(0))
    x = jnp.asarray(draw("x", (2, 9, 8, 3)))
    np.testing.assert_allclose(ops.jit(layer)(x), jax.jit(layer)(x), rtol=0, atol=ATOL)
    doubled = ops.jit(lambda x, times: x * times, static_argnames="times")(x, times=2)
    np.testing.assert_array_equal(doubled, 2 * x)


# --- what AnimeGAN adds --------------------------------------------------------------------------


def gradients_equal(torch, layer, x, expected, pairs):
    """Value and gradients of `layer` against `expected`; `pairs` are (torch's, ours as torch's)."""
    weight = draw("weight", tuple(expected.shape))
    y, by_x, by_state = value_and_gradients(layer, nhwc(x.detach().numpy()), nhwc(weight))
    (expected * torch.tensor(weight)).sum().backward()
    np.testing.assert_allclose(nchw(y), expected.detach(), rtol=0, atol=ATOL)
    np.testing.assert_allclose(nchw(by_x), x.grad, rtol=0, atol=ATOL)
    for theirs, name, axes in pairs:
        ours = np.transpose(by_state[name][...], axes)
        np.testing.assert_allclose(ours, theirs.grad, rtol=0, atol=5 * ATOL, err_msg=name)


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["zero", "reflect"])
def test_depthwise_equals_torchs_grouped_convolution(torch, size, stride, padding):
    layer = ops.Depthwise(5, stride=stride, padding=padding, deviation=1.0, rngs=nnx.Rngs(0))
    x = torch.tensor(draw("x", (2, 5, *size)), requires_grad=True)
    kernel = torch.tensor(np.transpose(layer.kernel[...], (3, 2, 0, 1)).copy(), requires_grad=True)
    low = 1 if padding == "zero" or stride == 1 else 0
    mode = "constant" if padding == "zero" else "reflect"
    padded = torch.nn.functional.pad(x, (low, 1, low, 1), mode=mode)
    expected = torch.nn.functional.conv2d(padded, kernel, stride=stride, groups=5)
    gradients_equal(torch, layer, x, expected, [(kernel, "kernel", (3, 2, 0, 1))])


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
def test_reflected_convolution_of_stride_two_pads_right_and_bottom(torch, size):
    layer = ops.Conv(3, 4, 3, stride=2, padding="reflect", bias=False, rngs=nnx.Rngs(0))
    x = torch.tensor(draw("x", (2, 3, *size)), requires_grad=True)
    kernel = torch.tensor(np.transpose(layer.kernel[...], (3, 2, 0, 1)).copy(), requires_grad=True)
    padded = torch.nn.functional.pad(x, (0, 1, 0, 1), mode="reflect")
    expected = torch.nn.functional.conv2d(padded, kernel, stride=2)
    gradients_equal(torch, layer, x, expected, [(kernel, "kernel", (3, 2, 0, 1))])


def test_layer_norm_is_torchs_group_norm_of_one_group(torch):
    layer = ops.LayerNorm(4)
    layer.scale[...], layer.bias[...] = jnp.asarray(draw("s", (4,))), jnp.asarray(draw("b", (4,)))
    x = torch.tensor(3 + draw("x", (2, 4, 5, 6)), requires_grad=True)
    scale, bias = (
        torch.tensor(np.array(v[...]), requires_grad=True) for v in (layer.scale, layer.bias)
    )
    expected = torch.nn.functional.group_norm(x, 1, scale, bias)
    gradients_equal(torch, layer, x, expected, [(scale, "scale", (0,)), (bias, "bias", (0,))])


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 4)])
def test_upsampling_equals_torchs_interpolation(torch, corners, size):
    x = draw("x", (2, 3, *size))
    double = [2 * s for s in size]
    expected = torch.nn.functional.interpolate(
        torch.tensor(x), size=double, mode="bilinear", align_corners=corners
    )
    found = ops.upsample_bilinear(nhwc(x), "corners" if corners else "half")
    np.testing.assert_allclose(nchw(found), expected, rtol=0, atol=2e-6)


def test_legacy_upsampling_takes_pixels_and_the_means_of_two():
    x = draw("x", (2, 5, 4, 3))
    rows = np.zeros((2, 10, 4, 3), np.float32)
    rows[:, ::2], rows[:, 1::2] = x, (x + x[:, [1, 2, 3, 4, 4]]) / 2
    expected = np.zeros((2, 10, 8, 3), np.float32)
    expected[:, :, ::2], expected[:, :, 1::2] = rows, (rows + rows[:, :, [1, 2, 3, 3]]) / 2
    found = ops.upsample_bilinear(jnp.asarray(x), "legacy")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("target", [(9, 7), (11, 8), (4, 3), (1, 2)])
def test_resizing_to_corners_equals_torch(torch, target):
    x = draw("x", (1, 2, 5, 4))
    expected = torch.nn.functional.interpolate(
        torch.tensor(x), size=target, mode="bilinear", align_corners=True
    )
    found = ops.resize_corners(nhwc(x), *target)
    np.testing.assert_allclose(nchw(found), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("convention", ["legacy", "half", "corners"])
def test_upsampling_with_extent_is_that_of_the_cropped_array(convention):
    x = jnp.asarray(draw("x", (1, 8, 9, 2)))
    double = jax.jit(lambda x, e: ops.upsample_bilinear(x, convention, e))
    found = double(x, (jnp.int32(5), jnp.int32(4)))[:, :10, :8]
    expected = ops.upsample_bilinear(x[:, :5, :4], convention)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_spectral_norm_equals_torchs_in_value_gradient_and_vectors(torch):
    layer = ops.SpectralConv(3, 4, 3, bias=False, rngs=nnx.Rngs(0))
    rival = torch.nn.utils.spectral_norm(torch.nn.Conv2d(3, 4, 3, padding=1, bias=False))
    with torch.no_grad():
        rival.weight_orig.copy_(torch.tensor(np.transpose(layer.kernel[...], (3, 2, 0, 1)).copy()))
        rival.weight_u.copy_(torch.tensor(np.array(layer.u[...])))
        v = np.transpose(layer.v[...], (2, 0, 1)).ravel().copy()
        rival.weight_v.copy_(torch.tensor(v))
    x, weight = draw("x", (2, 3, 6, 5)), draw("weight", (2, 4, 6, 5))
    graph, params, buffers = phases.take_apart(layer)

    def loss(params, buffers, x):
        net = phases.assemble(graph, params | buffers)
        y = net(x, train=True)
        after = phases.values(net)
        return (y * nhwc(weight)).sum(), (y, {k: after[k] for k in buffers})

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    for _ in range(2):
        (_, (y, buffers)), gradient = run(params, buffers, nhwc(x))
        expected = rival(torch.tensor(x))
        rival.zero_grad()
        (expected * torch.tensor(weight)).sum().backward()
        np.testing.assert_allclose(nchw(y), expected.detach(), rtol=1e-5, atol=ATOL)
        ours, theirs = (
            np.transpose(gradient["kernel"], (3, 2, 0, 1)),
            rival.weight_orig.grad.numpy(),
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
        np.testing.assert_allclose(buffers["u"], rival.weight_u, rtol=0, atol=1e-5)


def test_the_gradient_of_reflect_padding_is_no_scatter():
    def loss(x):
        return jnp.square(ops.pad(x, 2, "reflect")).sum()

    x = jnp.asarray(draw("x", (1, 5, 6, 2)))
    expected = jax.grad(
        lambda x: jnp.square(jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")).sum()
    )(x)
    np.testing.assert_allclose(jax.grad(loss)(x), expected, rtol=1e-6)
    assert "scatter" not in str(jax.make_jaxpr(jax.grad(loss))(x))
