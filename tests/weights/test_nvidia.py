"""StyleGAN2 in NVIDIA's layout: pictures of the original's weights, snapshots and what they say of nets."""

import jax
import numpy as np
import pytest

from artifygan_jax import bundle, convert
from artifygan_jax.errors import UserError
from artifygan_jax.weights import checkpoints, exporting, nvidia, torch_zip
from tests import golden
from tests.conftest import shared
from tests.golden import draw
from tests.weights.test_rosinality import (
    WIDTHS,
    arrays_of,
    card,
    logits,
    nchw,
    nhwc,
    pictures,
    weights,
)


def state_dict(net="generator", **options):
    return weights(net, "nvidia", **options)


def recipe(name):
    path = shared("golden", "nvidia_stylegan2_ada.npz")
    return *golden.load(path), golden.recipe(path, name)


def pictures_of(net, z, **how):
    return nchw(pictures(net, z, **how))


# --- the original's numbers ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def generator():
    arrays, meta, source = recipe("G")
    return arrays, meta, convert.build("nvidia", source)[0]


def test_the_generator_gives_the_originals_codes(generator):
    arrays, meta, net = generator
    assert net.options.mapping_layers == 8 and net.options.channels == (256, 128, 64, 32)
    z = arrays["in/z"]
    with jax.default_matmul_precision("highest"):
        golden.check_out(arrays, meta, "ws", net.mapping(z)[:, 0])
        golden.check_out(arrays, meta, "ws_trunc0.5", net.mapping(z, truncation=0.5))
        some = net.mapping(z, truncation=0.7, cutoff=3)
    golden.check_out(arrays, meta, "ws_trunc0.7_cutoff3", some)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, how",
    [
        ("image", {}),
        ("image_trunc0.7_cutoff3", dict(truncation=0.7, cutoff=3)),
        ("image_noise_none", dict(noise="none")),
    ],
)
def test_the_generator_gives_the_originals_pictures(generator, name, how):
    arrays, meta, net = generator
    golden.check_out(arrays, meta, name, pictures_of(net, arrays["in/z"], **how))


@pytest.mark.slow
def test_the_bound_of_activations_is_the_originals(generator):
    arrays, meta, net = generator
    told = {"synthesis_kwargs": {"conv_clamp": 1.0}}
    options = {**vars(net.options), **nvidia.settings("generator", told)}
    bounded = bundle.build("stylegan2", "generator", options, arrays_of(net))
    found = pictures_of(bounded, arrays["in/z"])
    golden.check_out(arrays, meta, "image_conv_clamp_1.0", found)


@pytest.mark.slow
def test_the_discriminator_gives_the_originals_logits():
    arrays, meta, source = recipe("D")
    net, _ = convert.build("nvidia", source)
    for count in (1, 2, 4, 8):
        found = logits(net, nhwc(arrays["in/x8"][:count]))
        golden.check_out(arrays, meta, f"d_logits_batch{count}", found[:, None])


@pytest.mark.slow
def test_nets_with_classes_give_the_originals_pictures_and_logits():
    arrays, meta, source = recipe("G_conditional_c5")
    net, _ = convert.build("nvidia", source)
    assert (net.options.labels, net.options.mapping_layers, net.options.z_size) == (5, 2, 128)
    found = pictures_of(net, arrays["in/z"], labels=arrays["in/labels"])
    golden.check_out(arrays, meta, "G_conditional_c5/image", found)
    net, _ = convert.build("nvidia", recipe("D_conditional_c5")[2])
    assert (net.options.labels, net.options.mapping_layers) == (5, 2)
    found = logits(net, nhwc(arrays["in/x8"]), arrays["in/labels8"])
    golden.check_out(arrays, meta, "D_conditional_c5/logits", found[:, None])


@pytest.mark.parametrize("name", ["G", "D", "G_conditional_c5", "D_conditional_c5"])
def test_every_name_and_number_of_the_original_comes_back(name):
    source = recipe(name)[2]
    plan = nvidia.plan(source)
    assert plan.net == ("generator" if name[0] == "G" else "discriminator")
    net, _ = convert.build("nvidia", source)
    found = exporting.state_dict(card(net), arrays_of(net), "nvidia")[1]
    assert set(found) == set(source)
    for key, x in source.items():
        assert found[key].shape == x.shape
        np.testing.assert_array_equal(found[key], x, err_msg=key)


# --- snapshots -------------------------------------------------------------------------------------


def near(found, expected):
    """The snapshot's cases were run in float32 only: see the README of the golden files."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("part", [None, "G"])
def test_a_snapshots_generators_give_its_pictures(tmp_path, part):
    source = shared("golden", "nvidia_tiny_snapshot.pkl")
    expected, _ = golden.load(shared("golden", "nvidia_tiny_snapshot_expected.npz"))
    made = convert.convert("nvidia", str(source), str(tmp_path / "m"), part=part)
    name = part or "G_ema"
    assert made["source_part"] == name and made["options"]["clamp"] == 256
    assert (made["options"]["mapping_layers"], made["options"]["channels"]) == (2, [64, 32, 16, 8])
    net, z = bundle.load(tmp_path / "m")[0], expected["in/z"]
    np.testing.assert_array_equal(net.mapping.w_avg[...], expected[f"tensor/{name}/mapping.w_avg"])
    near(net.mapping(z)[:, 0], expected[f"out/{name}/ws"])
    near(pictures_of(net, z), expected[f"out/{name}/image_force_fp32"])
    near(pictures_of(net, z, truncation=0.7), expected[f"out/{name}/image_trunc0.7_force_fp32"])


def test_a_snapshots_discriminator_gives_its_logits(tmp_path):
    source = shared("golden", "nvidia_tiny_snapshot.pkl")
    expected, _ = golden.load(shared("golden", "nvidia_tiny_snapshot_expected.npz"))
    made = convert.convert("nvidia", str(source), str(tmp_path / "m"), part="D")
    assert (made["options"]["clamp"], made["options"]["group"]) == (256, 4)
    found = logits(bundle.load(tmp_path / "m")[0], nhwc(expected["in/x"]))
    near(found[:, None], expected["out/D/logits_force_fp32"])


def test_parts_of_a_snapshot_that_are_not_there_or_no_nets_are_refused(tmp_path):
    source = str(shared("golden", "nvidia_tiny_snapshot.pkl"))
    with pytest.raises(UserError, match=r"no part 'E'.*it has G \(.*D \(.*G_ema \("):
        convert.convert("nvidia", source, str(tmp_path / "m"), part="E")
    with pytest.raises(UserError, match="no weights of NVIDIA's StyleGAN2: blocks of no px"):
        convert.convert("nvidia", source, str(tmp_path / "m"), part="augment_pipe")


# --- what constructors were told -------------------------------------------------------------------


@pytest.mark.parametrize(
    "net, told, expected",
    [
        ("generator", {"synthesis_kwargs": {"conv_clamp": 256}}, {"clamp": 256}),
        ("generator", {"z_dim": 512, "synthesis_kwargs": {"conv_clamp": None}}, {"clamp": 0}),
        ("discriminator", {"conv_clamp": 256}, {"clamp": 256, "group": 4}),
        ("discriminator", {"epilogue_kwargs": {"mbstd_group_size": 8}}, {"clamp": 0, "group": 8}),
        ("discriminator", {"epilogue_kwargs": {"mbstd_group_size": None}}, {"clamp": 0, "group": 0}),
    ],
)  # fmt: skip
def test_bounds_and_groups_are_those_that_constructors_were_told(net, told, expected):
    assert nvidia.settings(net, told) == expected


def test_of_arrays_alone_bounds_and_groups_are_those_of_the_training_program():
    assert nvidia.plan(state_dict()).options["clamp"] == 256
    options = nvidia.plan(state_dict("discriminator")).options
    assert (options["clamp"], options["group"]) == (256, 4)


def test_what_a_snapshot_says_goes_over_that():
    told = {"synthesis_kwargs": {"conv_clamp": 2}}
    plan = nvidia.whole(checkpoints.Net(state_dict(), "G", options=told))
    assert plan.options["clamp"] == 2 and plan.card == {"source_part": "G"}


@pytest.mark.parametrize(
    "net, told, words",
    [
        ("discriminator", {"architecture": "orig"}, "has architecture orig, .* wanted resnet"),
        ("generator", {"synthesis_kwargs": {"architecture": "resnet"}}, "wanted skip"),
        ("generator", {"img_channels": 1}, "img_channels 1, which is not read; wanted 3"),
        ("generator", {"mapping_kwargs": {"lr_multiplier": 1}}, "lr_multiplier 1"),
        ("discriminator", {"epilogue_kwargs": {"mbstd_num_channels": 0}}, "mbstd_num_channels 0"),
        ("discriminator", {"conv_clamp": [1]}, "wanted a number of at least 0"),
        ("discriminator", {"conv_clamp": -1}, "wanted a number of at least 0"),
    ],
)
def test_what_this_net_does_not_compute_is_refused(net, told, words):
    with pytest.raises(UserError, match=words):
        nvidia.settings(net, told)


# --- what is read off the shapes -------------------------------------------------------------------


@pytest.mark.parametrize("depth, labels", [(2, 0), (8, 0), (2, 3)])
def test_depth_widths_sizes_and_classes_are_read_off_the_shapes(depth, labels):
    options = dict(channels=(5, 6, 7, 8), mapping_layers=depth, labels=labels)
    found = nvidia.plan(state_dict(z_size=9, w_size=7, **options)).options
    assert found == options | dict(z_size=9, w_size=7, clamp=256.0)
    found = nvidia.plan(state_dict("discriminator", **options)).options
    assert found == dict(channels=(5, 6, 7, 8), clamp=256.0, group=4) | (
        dict(mapping_layers=depth, labels=labels) if labels else {}
    )


def without(*names):
    return {name: x for name, x in state_dict().items() if name not in names}


MISFITS = {
    "a layer of the mapping": (
        lambda: without("mapping.fc1.weight"),
        "mapping.fc2.weight goes to|nothing in the file is for mapping/layers/1/kernel",
    ),
    "a width": (
        lambda: state_dict() | {"synthesis.b8.conv0.weight": draw("x", (5, 9, 3, 3))},
        r"synthesis.b8.conv0.weight .* gives shape \(3, 3, 9, 5\), wanted \(3, 3, 6, 5\)",
    ),
    "a block": (lambda: without("synthesis.b8.conv1.weight"), r"blocks of \[4, 16\] px"),
    "the mean": (lambda: without("mapping.w_avg"), "nothing in the file is for mapping/w_avg"),
    "a filter": (
        lambda: state_dict() | {"synthesis.b8.resample_filter": np.ones((4, 4)) / 16},
        r"synthesis.b8.resample_filter is not the filter \[1, 3, 3, 1\] of sum 1",
    ),
    "no skips": (
        lambda: {k: x for k, x in state_dict("discriminator").items() if "skip" not in k},
        "nothing in the file is for b16/skip/kernel",
    ),
    "grey": (
        lambda: state_dict("discriminator") | {"b16.fromrgb.weight": draw("x", (4, 1, 1, 1))},
        r"gives shape \(1, 1, 1, 4\), wanted \(1, 1, 3, 4\)",
    ),
    "stylegan3": (lambda: {"synthesis.L0_36_8.weight": draw("x", (8, 8, 3, 3))}, "blocks of no px"),
    "anything": (lambda: {}, "no weights of NVIDIA's StyleGAN2: .*no arrays"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_named_in_one_line(case):
    source, words = MISFITS[case]
    with pytest.raises(UserError, match=words) as raised:
        convert.build("nvidia", source())
    assert "\n" not in str(raised.value)


# --- and written -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_torch_loads_a_state_dict_of_the_authors_names(tmp_path, name):
    torch = pytest.importorskip("torch")
    source = state_dict(name, labels=3)
    (tmp_path / "w.pt").write_bytes(torch_zip.dumps(source))
    convert.convert("nvidia", str(tmp_path / "w.pt"), str(tmp_path / "m"))
    summary = convert.export(str(tmp_path / "m"), str(tmp_path / "out.pt"))
    assert summary["layout"] == "nvidia" and summary["tensors"] == len(source)
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    assert found.keys() == source.keys()
    for key, x in source.items():
        np.testing.assert_array_equal(found[key].numpy(), x, err_msg=key)


def test_filters_are_exact_in_halves_too(tmp_path):
    np.savez(tmp_path / "w.npz", **state_dict())
    convert.convert("nvidia", str(tmp_path / "w.npz"), str(tmp_path / "m"))
    for arch in ("nvidia", "rosinality"):
        file = str(tmp_path / f"{arch}.pt")
        convert.export(str(tmp_path / "m"), file, arch=arch, dtype="float16")
        assert convert.read("stylegan2", file).options["channels"] == WIDTHS
