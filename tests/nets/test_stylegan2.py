"""StyleGAN2's nets against golden outputs of NVIDIA's and rosinality's, and what they promise."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import phases, sharding
from artifygan_jax.errors import UserError
from artifygan_jax.methods import stylegan2_ada
from artifygan_jax.nets import ops, resample, stylegan2
from tests import golden
from tests.stylegan2 import (
    apply,
    check_gradients,
    file,
    gradients,
    nchw,
    nhwc,
    nvidia,
    nvidia_net,
    rosinality,
    rosinality_net,
)

TINY = dict(channels=(8, 8, 4, 4), z_size=16, w_size=16, mapping_layers=2)


def tiny(net="generator", **changes):
    """A net of 32 px; noise and biases are drawn, so that they count."""
    options = TINY if net == "generator" else dict(channels=TINY["channels"], mapping_layers=2)
    built = stylegan2.build(net, options | changes, rngs=nnx.Rngs(0))
    for path, leaf in nnx.to_flat_state(nnx.state(built)):
        if path[-1] in ("strength", "bias"):
            drawn = golden.draw("/".join(map(str, path)), leaf.shape)
            leaf.set_value(leaf.get_value() + 0.3 * drawn)
    return built


def close(arrays, meta, name, found):
    golden.check_out(arrays, meta, name, np.asarray(found))


def latents(n=3, size=16):
    return jnp.asarray(golden.draw("z", (n, size)))


# --- NVIDIA -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nvidia_g():
    return nvidia_net("generator")


@pytest.fixture(scope="module")
def nvidia_file():
    return file("nvidia_stylegan2_ada")[:2]


def test_mapping_and_truncation_are_nvidias(nvidia_g, nvidia_file):
    arrays, meta = nvidia_file
    z, mapping = jnp.asarray(arrays["in/z"]), nvidia_g.mapping
    ws = mapping(z)
    assert ws.shape == (3, 8, 128) and nvidia_g.num_ws == 8
    close(arrays, meta, "ws", ws[:, 0])
    np.testing.assert_array_equal(ws, jnp.repeat(ws[:, :1], 8, axis=1))
    close(arrays, meta, "ws_trunc0.5", mapping(z, truncation=0.5))
    close(arrays, meta, "ws_trunc0.7_cutoff3", mapping(z, truncation=0.7, cutoff=3))
    traced = ops.jit(lambda truncation: mapping(z, truncation=truncation, cutoff=3))(0.7)
    close(arrays, meta, "ws_trunc0.7_cutoff3", traced)
    x = stylegan2.second_moment(z)
    for i, layer in enumerate(mapping.layers):
        x = stylegan2.lrelu(layer(x))
        golden.check_tap(meta, f"mapping.fc{i}", x, arrays[f"tap/mapping.fc{i}"])


def test_images_are_nvidias(nvidia_g, nvidia_file):
    arrays, meta = nvidia_file
    z = jnp.asarray(arrays["in/z"])
    ws = nvidia_g.mapping(z)
    drawn = lambda ws, **how: nchw(apply(nvidia_g, lambda g, ws: g.synthesis(ws, **how), ws))  # noqa: E731
    image = drawn(ws)
    assert image.dtype == np.float32
    for name in ("image", "image_unfused_modconv"):
        close(arrays, meta, name, image)
    close(arrays, meta, "image", nchw(apply(nvidia_g, lambda g, z: g(z), z)))
    close(arrays, meta, "image_noise_none", drawn(ws, noise="none"))
    truncated = apply(nvidia_g, lambda g, z: g(z, truncation=0.7, cutoff=3), z)
    close(arrays, meta, "image_trunc0.7_cutoff3", nchw(truncated))
    each = ws * jnp.linspace(0.5, 1.5, 8)[None, :, None]
    close(arrays, meta, "image_wplus(ws*linspace(.5,1.5,num_ws))", drawn(each))


def test_every_layer_of_the_generator_is_nvidias(nvidia_g, nvidia_file):
    arrays, meta = nvidia_file
    ws = nvidia_g.mapping(jnp.asarray(arrays["in/z"]))
    steps = apply(nvidia_g, lambda g, ws: dict(g.synthesis.steps(ws)), ws)
    names = [f"b{r}/conv{i}" for r in (4, 8, 16, 32) for i in (0, 1) if (r, i) != (4, 0)]
    for name in names:
        tap = f"synthesis.{name.replace('/', '.')}"
        golden.check_tap(meta, tap, nchw(steps[name]), arrays[f"tap/{tap}"])
    before = 0.0
    for r in (4, 8, 16, 32):
        tap = f"synthesis.b{r}.torgb"
        rgb = steps[f"b{r}/image"] - before
        before = resample.up(steps[f"b{r}/image"])
        if r == 4:  # the others are differences of what may be larger
            golden.check_tap(meta, tap, nchw(rgb), arrays[f"tap/{tap}"])
        samples = arrays[f"tap/{tap}"]
        picked = nchw(rgb).ravel()[:: meta["taps"][tap]["step"]]
        np.testing.assert_allclose(picked, samples, atol=2e-5 * np.abs(samples).max())
    styles = nvidia_g.synthesis.styles(ws)
    golden.check_tap(meta, "synthesis.b8.conv0.affine", styles["b8/conv0"])
    # NVIDIA's step to RGB multiplies its styles later
    golden.check_tap(meta, "synthesis.b4.torgb.affine", styles["b4/rgb"])


def test_clamped_and_conditional_generators_are_nvidias(nvidia_file):
    arrays, meta = nvidia_file
    z, labels = jnp.asarray(arrays["in/z"]), jnp.asarray(arrays["in/labels"])
    clamped = apply(nvidia_net("generator", clamp=1.0), lambda g, z: g(z), z)
    close(arrays, meta, "image_conv_clamp_1.0", nchw(clamped))
    g = nvidia_net("generator", labels=5, mapping_layers=2)
    close(arrays, meta, "G_conditional_c5/w", g.mapping(z, labels)[:, 0])
    close(arrays, meta, "G_conditional_c5/image", nchw(apply(g, lambda g, *zl: g(*zl), z, labels)))


def test_mean_code_moves_at_training_alone(nvidia_file):
    arrays, meta = nvidia_file
    g, z = nvidia_net("generator"), jnp.asarray(arrays["in/z"])
    before = np.asarray(g.mapping.w_avg[...])
    g.mapping(z, truncation=0.5)
    np.testing.assert_array_equal(g.mapping.w_avg[...], before)
    g.mapping(z, train=True)
    close(arrays, meta, "w_avg_after_one_training_call", g.mapping.w_avg[...])


def test_logits_are_nvidias_for_every_batch_and_group(nvidia_file):
    arrays, meta = nvidia_file
    x = nhwc(arrays["in/x8"])

    def logits(x, classes=None, **options):
        found = apply(nvidia_net("discriminator", **options), lambda d, *xl: d(*xl), x, classes)
        assert found.shape == (len(x),) and found.dtype == jnp.float32
        return found[:, None]

    for n in (1, 2, 4, 8):
        close(arrays, meta, f"d_logits_batch{n}", logits(x[:n]))
    for group in (2, 8, 0):
        close(arrays, meta, f"d_logits_batch8_mbstd_group_{group or None}", logits(x, group=group))
    close(arrays, meta, "d_logits_batch8_conv_clamp_0.5", logits(x, clamp=0.5))
    found = logits(x, jnp.asarray(arrays["in/labels8"]), labels=5, mapping_layers=2)
    close(arrays, meta, "D_conditional_c5/logits", found)


def test_every_layer_of_the_discriminator_is_nvidias(nvidia_file):
    arrays, meta = nvidia_file
    d, x = nvidia_net("discriminator"), nhwc(arrays["in/x8"])
    names = {"b32/rgb": "b32.fromrgb", "b4/std": "b4.mbstd", "b4/dense": "b4.fc"}
    names |= {f"b{r}": f"b{r}" for r in (32, 16, 8)} | {"b4/conv": "b4.conv"}

    def layers(d, x):
        found = d.features(x, names)
        first = found["b32/rgb"]
        inside = d.b32.conv0(first)
        more = {"conv0": inside, "conv1": d.b32.conv1(inside, 0.5**0.5)}
        more["skip"] = d.b32.skip(first, 0.5**0.5)
        return {names[k]: x for k, x in found.items()} | {f"b32.{k}": x for k, x in more.items()}

    taps = apply(d, layers, x)
    assert len(taps) == 10
    for tap, value in taps.items():
        value = nchw(value) if value.ndim == 4 else value
        golden.check_tap(meta, f"D8/{tap}", value, arrays[f"tap/D8/{tap}"])


# --- rosinality ---------------------------------------------------------------------------------


@functools.cache
def rosinality_g():
    """The 64 px generator of rosinality's case, its mean code that of the case."""
    arrays, meta, _ = file("rosinality_stylegan2")
    g = rosinality_net("generator")
    z = jnp.asarray(golden.draw("input:z_mean", (64, 512)))
    mean = g.mapping(z)[:, 0].mean(0)
    close(arrays, meta, "mean_latent", mean[None])
    g.mapping.w_avg[...] = mean
    return g


@pytest.mark.slow
def test_images_and_layers_are_rosinalitys():
    arrays, meta, _ = file("rosinality_stylegan2")
    g, z, z2 = rosinality_g(), *(jnp.asarray(arrays[f"in/{name}"]) for name in ("z", "z2"))
    run = lambda ws: apply(g, lambda g, ws: dict(g.synthesis.steps(ws)), ws)  # noqa: E731
    first, second = g.mapping(z), g.mapping(z2)
    close(arrays, meta, "w", first[:, 0])
    golden.check_tap(meta, "style.0", stylegan2.second_moment(z), arrays["tap/style.0"])
    golden.check_tap(meta, "style.8", first[:, 0], arrays["tap/style.8"])
    steps = run(first)
    close(arrays, meta, "image", nchw(steps["b64/image"]))
    taps = {"conv1": "b4/conv1", "to_rgb1": "b4/image"}
    taps |= {f"convs.{j}": f"b{8 * 2 ** (j // 2)}/conv{j % 2}" for j in range(8)}
    taps |= {f"to_rgbs.{j}": f"b{8 * 2**j}/image" for j in range(4)}
    for tap, name in taps.items():
        golden.check_tap(meta, tap, nchw(steps[name]), arrays[f"tap/{tap}"])

    def mixed(first, second, layers):
        return nchw(run(jnp.concatenate([first[:, :layers], second[:, layers:]], 1))["b64/image"])

    close(arrays, meta, "image_mix_inject3", mixed(first, second, 3))
    half, most, other = (
        g.mapping(z, truncation=0.5),
        *(g.mapping(x, truncation=0.7) for x in (z, z2)),
    )
    close(arrays, meta, "image_trunc0.5", mixed(half, half, 3))
    close(arrays, meta, "image_trunc0.7_mix_inject5", mixed(most, other, 5))
    each = first * jnp.linspace(0.5, 1.5, 10)[None, :, None]
    close(arrays, meta, "image_wplus(w*linspace(.5,1.5,n_latent))", mixed(each, each, 3))


@pytest.mark.slow
def test_logits_and_layers_of_the_discriminator_are_rosinalitys():
    arrays, meta, _ = file("rosinality_stylegan2")
    d, x = rosinality_net("discriminator"), nhwc(arrays["in/x8"])
    names = {"b64/rgb": "convs.0", "b4/conv": "final_conv", "b4/dense": "final_linear.0"}
    names |= {f"b{64 // 2**i}": f"convs.{i + 1}" for i in range(4)}
    found = apply(d, lambda d, x: d.features(x, [*names, "b4/out"]), x)
    close(arrays, meta, "d_logits_batch8", found.pop("b4/out"))
    for name, value in found.items():
        tap = f"D8/{names[name]}"
        value = nchw(value) if value.ndim == 4 else value
        golden.check_tap(meta, tap, value, arrays[f"tap/{tap}"])
    for n in (1, 2, 4):
        close(arrays, meta, f"d_logits_batch{n}", apply(d, lambda d, x: d(x), x[:n])[:, None])


@pytest.mark.slow
def test_r1_and_its_gradients_are_rosinalitys():
    arrays, meta, _ = file("rosinality_stylegan2")
    d, x = rosinality_net("discriminator"), nhwc(arrays["in/x4_r1"])
    # Not compiled: that rounds otherwise, and of the 1.5 million activations one lies so near zero
    # (1e-8) that it falls on the other side of the leaky ReLU, which moves the slopes of a patch.
    slope = jax.grad(lambda x: d(x).sum())(x)
    golden.check_tap(meta, "d_input_gradient", nchw(slope), arrays["tap/d_input_gradient"])
    value, grads, _ = gradients(lambda d, x: stylegan2_ada.r1(d, x)[1], d, x)
    np.testing.assert_allclose(value, arrays["out64/r1_penalty"][0], rtol=1e-5)
    path = functools.partial(rosinality, resolution=64)
    assert check_gradients(meta, "r1", grads, path) == grads.keys()


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.0, 1.3])
def test_path_lengths_and_their_gradients_are_rosinalitys(mean):
    arrays, meta, _ = file("rosinality_stylegan2")
    y = nhwc(arrays["in/pl_noise_unit_normal(before /sqrt(HW))"]) / 64

    def loss(g, z):
        ws = g.mapping(z)
        along = lambda ws: (g.synthesis(ws) * y).sum()  # noqa: E731
        lengths, moved, penalty, moves = stylegan2_ada.path_lengths(along, ws, mean, 0.01)
        found.update(lengths=lengths, new_mean=moved, penalty=penalty)
        return moves

    found = {}
    g, z = rosinality_g(), jnp.asarray(arrays["in/z"])
    graph, params, buffers = phases.take_apart(g)

    @ops.jit
    def run(params, buffers, z):
        def inner(params):
            found.clear()
            value = loss(phases.assemble(graph, params | buffers), z)
            return value, dict(found)

        return jax.grad(inner, has_aux=True)(params)

    grads, values = run(params, buffers, z)
    for name, value in values.items():  # the original's own runs differ by 3e-5
        wanted = arrays[f"out64/path(mean={mean})/{name}"]
        np.testing.assert_allclose(np.ravel(value), wanted, rtol=3e-4, err_msg=name)
    check_gradients(meta, f"path(mean={mean})", grads, functools.partial(rosinality, resolution=64))


@pytest.mark.slow
def test_gradients_of_a_step_of_g_are_rosinalitys():
    arrays, meta, _ = file("rosinality_stylegan2")
    d = rosinality_net("discriminator")
    loss = lambda g, z: jax.nn.softplus(-d(g(z))).mean()  # noqa: E731
    value, grads, _ = gradients(loss, rosinality_g(), jnp.asarray(arrays["in/z"]))
    np.testing.assert_allclose(value, arrays["out64/g_step_loss"][0], rtol=1e-5)
    check_gradients(meta, "g_step", grads, functools.partial(rosinality, resolution=64))


@pytest.mark.slow
def test_cartoon_stylegans_pair_and_its_structures():
    arrays, meta, _ = file("cartoon_stylegan")
    options = dict(channels=stylegan2.widths(32, 32768), mapping_layers=2, resolution=32)
    pair = [
        rosinality_net("generator", "cartoon_stylegan", prefix, **options)
        for prefix in ("src.", "tgt.")
    ]
    z = jnp.asarray(arrays["in/z"])
    codes = [g.mapping(z) for g in pair]
    names = ["b8/conv1", "b16/conv1", "b32/conv1", "b32/image"]
    source, target = (
        apply(g, lambda g, ws: g.synthesis.features(ws, names), ws) for g, ws in zip(pair, codes)
    )
    close(arrays, meta, "source_image", nchw(source["b32/image"]))
    close(arrays, meta, "target_image", nchw(target["b32/image"]))
    for i, name in enumerate(names[:3], start=1):
        tap = f"feat_source{i}"
        golden.check_tap(meta, tap, nchw(source[name]), arrays[f"tap/{tap}"])
        distance = jnp.square(source[name] - target[name]).mean()
        np.testing.assert_allclose(distance, arrays[f"out64/structure_mse_layer{i}"][0], rtol=1e-5)
    for k in (2, 4):
        ws = jnp.concatenate([codes[0][:, :k], codes[1][:, k:]], axis=1)
        close(arrays, meta, f"freeze_style{k}_image", nchw(draw(pair[1], ws)))


def draw(g, ws, dtype=jnp.float32, noise="const", key=None):
    """The picture of codes, compiled."""
    arguments = (ws,) if key is None else (ws, key)
    how = dict(noise=noise, dtype=dtype)
    return apply(g, lambda g, ws, key=None: g.synthesis(ws, key=key, **how), *arguments)


# --- what the nets promise ----------------------------------------------------------------------


def count(net, **options):
    """Parameters of a net that is never made."""
    empty = nnx.eval_shape(lambda: stylegan2.build(net, options, rngs=nnx.Rngs(0)))
    return sum(x.size for x in jax.tree.leaves(nnx.state(empty, nnx.Param)))


@pytest.mark.parametrize(
    ("resolution", "base", "g", "d"),
    [
        (1024, 32768, 30_370_060, 29_012_513),
        (512, 32768, 30_276_583, 28_982_849),
        (256, 32768, 30_034_338, 28_864_129),
        (256, 16384, 24_767_458, 24_001_089),
    ],
)
def test_parameters_are_those_of_the_published_configs(resolution, base, g, d):
    channels = stylegan2.widths(resolution, base)
    assert count("generator", channels=channels) == g
    assert count("discriminator", channels=channels) == d


def test_buffers_and_the_shallow_mapping_count_as_published():
    channels = stylegan2.widths(256)
    assert count("generator", channels=channels, mapping_layers=2) == 23_191_522
    empty = nnx.eval_shape(
        lambda: stylegan2.Generator(stylegan2.GeneratorOptions(channels), rngs=nnx.Rngs(0))
    )
    buffers = nnx.state(empty, ops.Buffer)
    assert sum(x.size for x in jax.tree.leaves(buffers)) == 174_736 + 512
    assert (empty.num_ws, empty.resolution) == (14, 256)
    assert (
        sum(x.size for x in jax.tree.leaves(nnx.state(empty.mapping, nnx.Param))) == 8 * 513 * 512
    )


def test_widths_are_the_base_over_the_resolution():
    assert stylegan2.widths(256) == (512, 512, 512, 512, 256, 128, 64)
    assert stylegan2.widths(64, 2048, 256) == (256, 256, 128, 64, 32)
    for resolution in (4, 48, 0):
        with pytest.raises(UserError, match=f"a resolution of {resolution} px; needs a power of 2"):
            stylegan2.widths(resolution)


def test_nets_have_the_paths_that_bundles_promise():
    g = {path: x.shape for path, x in phases.values(tiny(labels=3)).items()}
    assert g["mapping/embed/kernel"] == (3, 16) and g["mapping/layers/0/kernel"] == (32, 16)
    assert g["mapping/w_avg"] == (16,) and g["synthesis/const"] == (4, 4, 8)
    assert g["synthesis/b16/conv0/kernel"] == (3, 3, 8, 4)
    assert g["synthesis/b16/conv0/affine/kernel"] == (16, 8)
    assert g["synthesis/b16/conv0/noise"] == (16, 16)
    assert g["synthesis/b16/conv0/strength"] == ()
    assert g["synthesis/b16/rgb/kernel"] == (1, 1, 4, 3)
    assert not any(path.startswith("synthesis/b4/conv0") for path in g)
    d = {path: x.shape for path, x in phases.values(tiny("discriminator", labels=3)).items()}
    assert d["b32/rgb/kernel"] == (1, 1, 3, 4) and d["b16/conv1/kernel"] == (3, 3, 4, 8)
    assert d["b16/skip/kernel"] == (1, 1, 4, 8) and "b16/skip/bias" not in d
    assert d["b4/conv/kernel"] == (3, 3, 9, 8) and d["b4/dense/kernel"] == (4, 4, 8, 8)
    assert d["b4/out/kernel"] == (8, 8) and d["mapping/embed/kernel"] == (3, 8)


def test_layers_of_d_count_as_nvidias_freezing():
    arrays, meta, _ = file("nvidia_stylegan2_ada")
    names = nvidia_net("discriminator").layer_names()
    paths = phases.values(nvidia_net("discriminator"))
    for n, frozen in meta["freezed_frozen_keys"].items():
        patterns = [pattern for _, pattern in names[: int(n)]]
        found = {path for path in paths if any(re.fullmatch(p, path) for p in patterns)}
        assert found == {nvidia(key) for key in frozen}


def test_layers_of_g_hold_each_parameter_once():
    g = tiny()
    names = g.layer_names()
    assert [name for name, _ in names] == ["mapping", "b4", "b8", "b16", "b32"]
    for path in phases.values(g):
        assert sum(bool(re.fullmatch(pattern, path)) for _, pattern in names) == 1, path


def test_features_are_those_of_the_call():
    g, d = tiny(), tiny("discriminator")
    ws = g.mapping(latents())
    found = apply(g, lambda g, ws: g.synthesis.features(ws, ("b8/conv1", "b32/image")), ws)
    assert found.keys() == {"b8/conv1", "b32/image"} and found["b8/conv1"].shape == (3, 8, 8, 8)
    np.testing.assert_allclose(found["b32/image"], draw(g, ws), atol=1e-6)
    found = apply(d, lambda d, x: d.features(x, ("b32/rgb", "b8")), found["b32/image"])
    assert found["b32/rgb"].shape == (3, 32, 32, 4) and found["b8"].shape == (3, 4, 4, 8)


def test_random_noise_is_the_keys_and_differs_between_layers_and_pictures():
    g = tiny()
    ws = g.mapping(jnp.repeat(latents(1), 2, axis=0))
    one, two = (draw(g, ws, noise="random", key=jax.random.key(i)) for i in (1, 2))
    np.testing.assert_array_equal(one, draw(g, ws, noise="random", key=jax.random.key(1)))
    assert float(jnp.abs(one - two).max()) > 0.01
    assert float(jnp.abs(one[0] - one[1]).max()) > 0.01
    const = draw(g, ws)
    np.testing.assert_allclose(const[0], const[1], atol=1e-5)
    for path, leaf in nnx.to_flat_state(nnx.state(g)):
        if path[-1] == "strength":
            leaf.set_value(jnp.zeros(()))
    silent = draw(g, ws, noise="random", key=jax.random.key(1))
    np.testing.assert_allclose(silent, draw(g, ws, noise="none"), atol=1e-5)


def test_bfloat16_stays_near_float32():
    g, d = tiny(), tiny("discriminator")
    ws = g.mapping(latents())
    image, half = draw(g, ws), draw(g, ws, jnp.bfloat16)
    assert half.dtype == jnp.float32  # the picture is summed in float32
    scale = float(jnp.abs(image).max())
    assert 0 < float(jnp.abs(half - image).max()) < 0.05 * scale
    logits, halved = (apply(d, lambda d, x: d(x), x) for x in (image, image.astype(jnp.bfloat16)))
    assert halved.dtype == jnp.float32
    np.testing.assert_allclose(halved, logits, atol=0.05 * float(jnp.abs(logits).max()) + 0.05)
    steps = jax.eval_shape(lambda ws: dict(g.synthesis.steps(ws, dtype=jnp.bfloat16)), ws)
    assert {x.dtype for name, x in steps.items() if "conv" in name} == {jnp.dtype(jnp.bfloat16)}


def test_deviation_is_the_same_on_one_and_eight_devices():
    x = golden.draw("x", (16, 4, 4, 6))
    run = ops.jit(lambda x: stylegan2.minibatch_deviation(x, 4))
    sharded = sharding.put_batch(sharding.make_mesh(8), {"x": x})["x"]
    assert len(sharded.sharding.device_set) == 8
    np.testing.assert_allclose(run(sharded), run(x), rtol=1e-6)


def test_deviation_groups_pictures_that_lie_apart():
    x = np.zeros((8, 4, 4, 2), np.float32)
    x[0], x[2] = 1, -1  # groups of four out of eight: 0 2 4 6 and 1 3 5 7
    y = stylegan2.minibatch_deviation(jnp.asarray(x), 4)
    assert y.shape == (8, 4, 4, 3)
    np.testing.assert_array_equal(y[..., :2], x)
    found = np.asarray(y[:, 0, 0, 2])
    np.testing.assert_allclose(found[::2], np.sqrt(0.5 + 1e-8), rtol=1e-6)
    np.testing.assert_allclose(found[1::2], 1e-4, rtol=1e-6)
    # 6 pictures in groups of at most 4: two of three
    assert stylegan2.minibatch_deviation(jnp.asarray(x[:6]), 4).shape == (6, 4, 4, 3)


# --- the program --------------------------------------------------------------------------------


def programs(function, *arguments):
    """The program as written and as compiled."""
    lowered = ops.jit(function).lower(*arguments)
    return lowered.as_text(), lowered.compile().as_text()


def grouped(texts):
    """Every group count above one of the convolutions in programs, in either dialect."""
    counts = r"(?:feature|batch)_group_count ?= ?(\d+)"
    return [n for text in texts for n in re.findall(counts, text) if n != "1"]


def test_search_for_grouped_convolutions_finds_them():
    x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 1, 4))

    def depthwise(x, kernel):
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=4
        )

    assert grouped(programs(depthwise, x, kernel)).count("4") == 2
    by_kernel = jax.grad(lambda kernel: depthwise(x, kernel).sum())
    assert "4" in grouped(programs(by_kernel, kernel))


def test_no_convolution_is_grouped_forward_and_backward():
    g, d = tiny(), tiny("discriminator")
    ws = g.mapping(latents(4))
    for net, x in ((g.synthesis, ws), (d, jnp.zeros((4, 32, 32, 3)))):
        graph, params, buffers = phases.take_apart(net)

        def total(params, x, graph=graph, buffers=buffers):
            return phases.assemble(graph, params | buffers)(x).sum()

        for function in (total, jax.grad(total, argnums=(0, 1))):
            texts = programs(function, params, x)
            assert "stablehlo.convolution" in texts[0]
            assert grouped(texts) == []


# --- wrong input --------------------------------------------------------------------------------


def test_wrong_shapes_are_one_line_that_says_what_is_taken():
    g, d = tiny(), tiny("discriminator")
    ws = g.mapping(latents())
    wrong = {
        "latents of shape (3, 8); this net takes [N, 16]": lambda: g(latents(3, 8)),
        "latents of shape (16,); this net takes [N, 16]": lambda: g(latents()[0]),
        "codes of shape (3, 6, 16); this net takes [N, 8, 16]": lambda: g.synthesis(ws[:, :6]),
        "codes of shape (3, 16); this net takes [N, 8, 16]": lambda: g.synthesis(ws[:, 0]),
        "labels for a net without classes": lambda: g(latents(), jnp.ones((3, 2))),
        "labels for a discriminator without classes": lambda: d(g(latents()), jnp.ones((3, 2))),
        "pictures of shape (1, 16, 16, 3); this net takes [N, 32, 32, 3]": lambda: d(
            jnp.ones((1, 16, 16, 3))
        ),
        "labels of shape None; this net takes [N, 3] one-hot": lambda: tiny(labels=3)(latents()),
    }
    for message, call in wrong.items():
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value) == message


def test_unknown_names_are_one_line_that_lists_the_known():
    g, d = tiny(), tiny("discriminator")
    ws = g.mapping(latents())
    with pytest.raises(UserError, match="noise.*gaussian.*const"):
        g.synthesis(ws, noise="gaussian")
    with pytest.raises(UserError, match="b64/conv1.*b32/conv1"):
        g.synthesis.features(ws, ["b64/conv1"])
    with pytest.raises(UserError, match="b64.*b32"):
        d.features(g(latents()), ["b64"])
    with pytest.raises(UserError, match="net.*encoder.*generator"):
        stylegan2.build("encoder", {}, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="channels .8,.: needs at least two"):
        tiny(channels=(8,))
