"""StyleGAN2 in rosinality's layout: pictures of the original's weights, files as three programs wrap them."""

import argparse
import json

import jax
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle, convert
from artifygan_jax.errors import UserError
from artifygan_jax.weights import exporting, readers, rosinality, torch_zip
from tests import golden
from tests.conftest import shared
from tests.golden import draw

WIDTHS = (6, 5, 4)


def card(net):
    return {
        "architecture": "stylegan2",
        "net": type(net).__name__.lower(),
        "options": vars(net.options),
    }


def arrays_of(net):
    return {path: np.asarray(x) for path, x in bundle.variables(net).items()}


def weights(net="generator", arch="rosinality", **options):
    """A small state dict in which no two numbers are the same."""
    options = {"channels": WIDTHS} | options
    if net == "generator":
        options = {"z_size": 7, "w_size": 7, "mapping_layers": 3} | options
    shapes = convert.target_shapes("stylegan2", net, options)
    drawn = {path: draw(path, shape) for path, shape in shapes.items()}
    known = {"architecture": "stylegan2", "net": net, "options": options}
    return exporting.state_dict(known, drawn, arch)[1]


def generator(drop=(rosinality.MEAN,), **options):
    """The state dict alone, as `g_ema` has it."""
    return {name: x for name, x in weights(**options).items() if name not in drop}


def nchw(x):
    return np.asarray(x).transpose(0, 3, 1, 2)


def nhwc(x):
    return np.asarray(x).transpose(0, 2, 3, 1)


@nnx.jit(static_argnames=("truncation", "cutoff", "noise"))
def pictures(net, z, truncation=1.0, cutoff=None, noise="const", labels=None):
    with jax.default_matmul_precision("highest"):
        return net(z, labels, truncation=truncation, cutoff=cutoff, noise=noise)


@nnx.jit
def logits(net, x, labels=None):
    with jax.default_matmul_precision("highest"):
        return net(x, labels)


# --- the original's numbers ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """(golden arrays, meta, generator, discriminator) by one file as the training program writes it."""
    path, folder = shared("golden", "rosinality_stylegan2.npz"), tmp_path_factory.mktemp("golden")
    arrays, meta = golden.load(path)
    nets = {"g_ema": golden.recipe(path, "generator"), "d": golden.recipe(path, "discriminator")}
    tree = {**nets, "latent_avg": arrays["out64/mean_latent"]}
    (folder / "550000.pt").write_bytes(torch_zip.dumps(tree))
    convert.convert("rosinality", str(folder / "550000.pt"), str(folder / "g"))
    convert.convert("rosinality", str(folder / "550000.pt"), str(folder / "d"), part="d")
    return arrays, meta, bundle.load(folder / "g")[0], bundle.load(folder / "d")[0], nets


@pytest.mark.slow
def test_the_generator_gives_the_originals_codes_and_pictures(converted):
    arrays, meta, net, _, _ = converted
    ws = net.mapping(arrays["in/z"])
    golden.check_out(arrays, meta, "w", ws[:, 0])
    golden.check_out(arrays, meta, "image", nchw(pictures(net, arrays["in/z"])))
    truncated = pictures(net, arrays["in/z"], truncation=0.5)
    golden.check_out(arrays, meta, "image_trunc0.5", nchw(truncated))


@pytest.mark.slow
def test_the_discriminator_gives_the_originals_logits(converted):
    arrays, meta, _, net, _ = converted
    for count in (1, 2, 4, 8):
        found = logits(net, nhwc(arrays["in/x8"][:count]))
        golden.check_out(arrays, meta, f"d_logits_batch{count}", found[:, None])


@pytest.mark.slow
def test_every_name_and_number_of_the_original_comes_back(converted):
    for net, name in ((converted[2], "g_ema"), (converted[3], "d")):
        source = converted[4][name]
        found = exporting.state_dict(card(net), arrays_of(net), "rosinality")[1]
        found.pop(rosinality.MEAN, None)
        assert set(found) == set(source)
        for key, x in source.items():
            assert found[key].shape == x.shape
            np.testing.assert_array_equal(found[key], x, err_msg=key)


@pytest.mark.slow
@pytest.mark.parametrize("name, prefix", [("source", "src"), ("target", "tgt")])
def test_generators_of_cartoon_stylegan_give_its_pictures(name, prefix):
    path = shared("golden", "cartoon_stylegan.npz")
    arrays, meta = golden.load(path)
    net, _ = convert.build("rosinality", golden.recipe(path, name, f"{prefix}."))
    assert net.options.mapping_layers == 2 and net.options.channels == (512,) * 4
    golden.check_out(arrays, meta, f"{name}_image", nchw(pictures(net, arrays["in/z"])))


def test_names_are_those_of_the_original():
    meta = golden.load(shared("golden", "rosinality_stylegan2.npz"))[1]
    for name in ("generator", "discriminator"):
        options = {"channels": (4, 5, 6, 7, 8)} | ({"mapping_layers": 8} if name[0] == "g" else {})
        found = weights(name, **options)
        found.pop(rosinality.MEAN, None)
        entries = meta["nets"][name]["state_dict"]
        assert {k: x.ndim for k, x in found.items()} == {e["key"]: len(e["shape"]) for e in entries}
        for entry in entries:
            if entry["kind"] == "fir_kept":
                np.testing.assert_array_equal(found[entry["key"]], golden._tensor(entry))


# --- what is read off the shapes -------------------------------------------------------------------


@pytest.mark.parametrize("depth, channels", [(2, (8, 6)), (8, (5, 6, 7, 8))])
def test_depth_widths_and_sizes_are_read_off_the_shapes(depth, channels):
    plan = rosinality.plan(generator(mapping_layers=depth, channels=channels))
    assert (plan.architecture, plan.net) == ("stylegan2", "generator")
    assert plan.options == dict(channels=channels, z_size=7, w_size=7, mapping_layers=depth)
    plan = rosinality.plan(weights("discriminator", channels=channels))
    assert (plan.net, plan.options) == ("discriminator", {"channels": channels})


def without(*names):
    return {name: x for name, x in generator().items() if name not in names}


MISFITS = {
    "a layer of the mapping": (
        lambda: without("style.2.weight"),
        "style.3.weight goes to|nothing in the file is for mapping/layers/1/kernel",
    ),
    "a width": (
        lambda: generator() | {"convs.1.conv.weight": draw("x", (1, 9, 5, 3, 3))},
        r"convs.1.conv.weight .* gives shape \(3, 3, 5, 9\), wanted \(3, 3, 5, 5\)",
    ),
    "a block": (lambda: without("convs.3.conv.weight"), "3 layers convs.N, wanted two for each"),
    "an axis": (lambda: generator() | {"convs.0.conv.weight": draw("x", (5, 6, 3, 3))}, "5 axes"),
    "more samples": (
        lambda: generator() | {"conv1.conv.weight": draw("x", (2, 6, 6, 3, 3))},
        "conv1.conv.weight .* cannot become",
    ),
    "a name": (lambda: generator() | {"style.1.scale": draw("x", (1,))}, "style.1.scale matches no"),
    "a filter": (
        lambda: generator() | {"convs.0.conv.blur.kernel": np.full((4, 4), 0.25)},
        r"convs.0.conv.blur.kernel is not the filter \[1, 3, 3, 1\] of sum 4",
    ),
    "its gain": (
        lambda: weights("discriminator") | {"convs.1.skip.0.kernel": 4 * rosinality.FILTER},
        "convs.1.skip.0.kernel is not the filter .* of sum 1",
    ),
    "an encoder": (
        lambda: {"convs.0.0.weight": draw("x", (4, 3, 1, 1)), "convs.1.weight": draw("y", (2, 4, 4, 4))},
        "no weights of rosinality's StyleGAN2: final_conv.0.weight is not among",
    ),
    "anything": (lambda: {"a": draw("a", (1,))}, "no weights of rosinality's StyleGAN2"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_named_in_one_line(case):
    source, words = MISFITS[case]
    with pytest.raises(UserError, match=words) as raised:
        convert.build("rosinality", source())
    assert "\n" not in str(raised.value)


# --- the mean of codes -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(7,), (1, 7), (6, 7)])
def test_the_mean_of_codes_comes_in_three_shapes(shape):
    mean = draw("mean", (7,))
    net, known = convert.build(
        "rosinality", generator() | {"latent_avg": np.broadcast_to(mean, shape)}
    )
    np.testing.assert_array_equal(net.mapping.w_avg[...], mean)
    assert "w_avg" not in known


def test_means_that_differ_by_layer_are_refused():
    with pytest.raises(UserError, match=r"\(6, 7\) has rows that differ"):
        convert.build("rosinality", generator() | {"latent_avg": draw("means", (6, 7))})


def test_without_a_mean_one_is_made_of_seeded_codes_and_the_card_says_so(tmp_path):
    (tmp_path / "g.pt").write_bytes(torch_zip.dumps({"g": generator()}))
    made = convert.convert("rosinality", str(tmp_path / "g.pt"), str(tmp_path / "g"))
    assert "10000 codes made of seed 0" in made["w_avg"] and made["source_part"] == "g"
    net = bundle.load(tmp_path / "g")[0]
    z = np.random.default_rng(0).standard_normal((10_000, 7)).astype(np.float32)
    codes = net.mapping(z)[:, 0]
    np.testing.assert_allclose(net.mapping.w_avg[...], codes.mean(0), rtol=1e-4, atol=1e-6)


# --- files as they are wrapped ---------------------------------------------------------------------


def scaled(source, factor):
    return {k: x if k.endswith(".kernel") else factor * x for k, x in source.items()}


@pytest.fixture
def checkpoint(tmp_path):
    """What Cartoon-StyleGAN's and rosinality's training programs save, by torch itself."""
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimiser.step()
    tensors = lambda arrays: {k: torch.tensor(x) for k, x in arrays.items()}  # noqa: E731
    torch.save(
        {
            "g": tensors(scaled(generator(), 2)),
            "d": tensors(weights("discriminator")),
            "g_ema": tensors(generator()),
            "g_optim": optimiser.state_dict(),
            "d_optim": optimiser.state_dict(),
            "args": argparse.Namespace(size=16, latent=7, n_mlp=3),
            "ada_aug_p": torch.tensor(0.25),
            "latent_avg": torch.full((7,), 3.0),
        },
        tmp_path / "ckpt.pt",
    )
    return str(tmp_path / "ckpt.pt")


@pytest.mark.parametrize("part, scale", [(None, 1), ("g_ema", 1), ("g", 2)])
def test_the_average_is_taken_of_a_training_programs_file_or_what_is_chosen(
    checkpoint, tmp_path, part, scale
):
    made = convert.convert("rosinality", checkpoint, str(tmp_path / "m"), part=part)
    net = bundle.load(tmp_path / "m")[0]
    assert made["source_part"] == (part or "g_ema") and made["net"] == "generator"
    np.testing.assert_array_equal(
        net.synthesis.const[...], scale * generator()["input.input"][0].transpose(1, 2, 0)
    )
    np.testing.assert_array_equal(net.mapping.w_avg[...], np.full(7, 3))
    assert "w_avg" not in made


def test_the_discriminator_is_a_part_of_its_own(checkpoint, tmp_path):
    made = convert.convert("rosinality", checkpoint, str(tmp_path / "m"), part="d")
    assert (made["net"], made["options"]["channels"]) == ("discriminator", list(WIDTHS))
    assert made["options"]["group"] == 4 and made["options"]["clamp"] == 0


def test_a_part_that_is_not_there_is_one_line_with_those_that_are(checkpoint, tmp_path):
    with pytest.raises(UserError) as raised:
        convert.convert("rosinality", checkpoint, str(tmp_path / "m"), part="gema")
    message = str(raised.value)
    assert "no part 'gema' (did you mean 'g_ema'?)" in message
    assert "d (" in message and "g (" in message and "\n" not in message


def test_files_of_encoders_hold_a_generator_by_the_name_decoder(tmp_path):
    decoder = {f"decoder.{k}": x for k, x in generator().items()}
    tree = {
        "state_dict": {"encoder.input_layer.0.weight": draw("e", (4, 3, 3, 3)), **decoder},
        "latent_avg": np.tile(draw("mean", (1, 7)), (6, 1)),
    }
    (tmp_path / "e4e.pt").write_bytes(torch_zip.dumps(tree))
    plan = rosinality.read(tmp_path / "e4e.pt", "state_dict.decoder")
    assert plan.options["channels"] == WIDTHS and not plan.card.keys() & {"w_avg"}


def test_other_kinds_of_files_are_read_too(tmp_path):
    flat = {f"g_ema/{name}": x for name, x in generator().items()}
    np.savez(tmp_path / "w.npz", **flat, latent_avg=np.ones(7, np.float32))
    plan = rosinality.read(tmp_path / "w.npz", "g_ema")
    assert plan.net == "generator" and plan.source["latent_avg"].sum() == 7


# --- and written -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["generator", "discriminator"])
def test_a_file_is_written_as_the_repositorys_programs_read_it(tmp_path, name):
    torch = pytest.importorskip("torch")
    np.savez(tmp_path / "w.npz", **weights(name))
    convert.convert("rosinality", str(tmp_path / "w.npz"), str(tmp_path / "m"))
    summary = convert.export(str(tmp_path / "m"), str(tmp_path / "w.pt"))
    assert summary["layout"] == "rosinality" and json.dumps(summary)
    found = torch.load(tmp_path / "w.pt", weights_only=True)
    assert list(found) == (["g_ema", "latent_avg"] if name == "generator" else ["d"])
    state = found.pop("latent_avg", None), *found.values()
    expected = weights(name)
    mean = expected.pop(rosinality.MEAN, None)
    assert state[1].keys() == expected.keys()
    for key, x in expected.items():
        np.testing.assert_array_equal(state[1][key].numpy(), x, err_msg=key)
    if mean is not None:
        np.testing.assert_array_equal(state[0].numpy(), mean)
    again = convert.convert("rosinality", str(tmp_path / "w.pt"), str(tmp_path / "again"))
    first = arrays_of(bundle.load(tmp_path / "m")[0])
    jax.tree.map(
        np.testing.assert_array_equal, arrays_of(bundle.load(tmp_path / "again")[0]), first
    )
    assert "w_avg" not in again


@pytest.mark.parametrize(
    "options, words", [(dict(labels=3), "no classes"), (dict(z_size=9), "size of")]
)
def test_nets_that_the_repository_has_not_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        weights(**options)


def test_dicts_of_dicts_of_tensors_are_read_back(tmp_path):
    tree = {"a": {"x": draw("x", (2,)), "y": np.array(3)}, "b": {"x": draw("z", (1, 2))}}
    (tmp_path / "t.pt").write_bytes(torch_zip.dumps(tree))
    for name, arrays in tree.items():
        found = readers.read(tmp_path / "t.pt", part=name)
        assert list(found) == list(arrays)
        for key, x in arrays.items():
            np.testing.assert_array_equal(found[key], x)
