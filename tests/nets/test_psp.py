"""The encoders of pSp, e4e and ReStyle: blocks and whole nets are the originals'."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from artifygan_jax import bundle, convert, phases
from artifygan_jax.errors import UserError
from artifygan_jax.nets import psp
from artifygan_jax.weights import exporting, torch_zip
from tests import golden
from tests.stylegan2 import apply, file, nchw, nhwc

NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
RES = {"0": "norm1", "1": "conv1", "2": "prelu", "3": "conv2", "4": "norm2"}


def path_of(key):
    """Our path of a tensor of theirs, written apart from the converter."""
    key = re.sub(r"^body\.", "blocks.", key)
    key = re.sub(r"^styles\.", "heads.", key).replace("linear.", "dense.")
    key = re.sub(r"convs\.(\d+)\.", lambda m: f"convs.{int(m[1]) // 2}.", key)
    key = key.replace("latlayer", "lateral").replace("res_layer.5.fc1", "squeeze")
    key = key.replace("res_layer.5.fc2", "excite")
    key = re.sub(r"res_layer\.(\d)", lambda m: RES[m[1]], key)
    key = key.replace("shortcut_layer.0", "shortcut").replace("shortcut_layer.1", "shortcut_norm")
    key = key.replace("input_layer.0", "conv").replace("input_layer.1", "norm")
    key = key.replace("input_layer.2", "prelu")
    *parts, leaf = key.split(".")
    if "norm" in parts[-1]:
        leaf = NORM.get(leaf, leaf)
    else:
        leaf = {"weight": "slope" if parts[-1] == "prelu" else "kernel"}.get(leaf, leaf)
    return "/".join([*parts, leaf])


def ours(x):
    return x.transpose(2, 3, 1, 0) if x.ndim == 4 else x.T


def fill(net, state):
    """`net` with the tensors `state`, every one of them and no other."""
    graph, params, buffers = phases.take_apart(net)
    have = params | buffers
    given = {path_of(k): x for k, x in state.items() if not k.endswith("num_batches_tracked")}
    assert set(have) - {"latent_avg"} == set(given)
    for path, x in given.items():
        x = jnp.asarray(ours(x))
        assert x.shape == have[path].shape, path
        have[path] = x
    return phases.assemble(graph, have)


def block_of(name, net):
    arrays, meta, path = file("e4e_psp_blocks")
    return arrays, meta, fill(net, golden.recipe(path, name))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("irse_32_32_s1", (32, 32, 1)),
        ("irse_32_32_s2", (32, 32, 2)),
        ("irse_32_64_s2", (32, 64, 2)),
        ("ir_32_64_s2", (32, 64, 2)),
    ],
)
def test_blocks_are_theirs(name, sizes):
    made = psp.Block(*sizes, excite=name.startswith("irse"), rngs=nnx.Rngs(0))
    arrays, meta, block = block_of(name, made)
    for mode in ("eval", "train"):
        if f"out64/{name}/{mode}" in arrays:
            found = block(nhwc(arrays[f"in/{name}"]), train=mode == "train")
            golden.check_out(arrays, meta, f"{name}/{mode}", nchw(found))


@pytest.mark.parametrize(
    ("name", "sizes"), [("gradual_24_48_sp8", (24, 48, 8)), ("gradual_32_32_sp16", (32, 32, 16))]
)
def test_heads_are_theirs(name, sizes):
    arrays, meta, head = block_of(name, psp.Head(*sizes, rngs=nnx.Rngs(0)))
    golden.check_out(arrays, meta, name, head(nhwc(arrays[f"in/{name}"])))


def test_the_enlarged_sum_is_theirs():
    arrays, meta, _ = file("e4e_psp_blocks")
    x, y = (nhwc(arrays[f"in/upsample_add/{k}"]) for k in "xy")
    golden.check_out(arrays, meta, "upsample_add", nchw(psp.enlarged_sum(x, y)))


@pytest.mark.slow
def test_the_whole_encoders_are_theirs():
    arrays, meta, path = file("e4e_full_encoder")
    options = psp.Options("e4e", styles=10)
    net = fill(psp.Encoder(options, rngs=nnx.Rngs(0)), golden.recipe(path, "encoder"))
    x = nhwc(arrays["in/x"])
    steps = apply(net, lambda net, x: dict(net.steps(x)), x)
    golden.check_tap(meta, "input_layer", nchw(steps["input"]), arrays["tap/input_layer"])
    for i in (0, 6, 20, 23):
        golden.check_tap(meta, f"body.{i}", nchw(steps[f"blocks.{i}"]), arrays[f"tap/body.{i}"])
    codes = apply(net, lambda net, x: net(x), x)
    golden.check_out(arrays, meta, "e4e_w", codes)
    # The same weights are those of pSp, whose every head gives its own code.
    own = jnp.concatenate([codes[:, :1], codes[:, 1:] - codes[:, :1]], axis=1)
    error = 2 * golden.tolerance(meta, "psp_w")
    np.testing.assert_allclose(own, arrays["out64/psp_w"], rtol=0, atol=error)


def count(**options):
    made = nnx.eval_shape(lambda: psp.Encoder(psp.Options(**options), rngs=nnx.Rngs(0)))
    params = phases.take_apart(made)[1]
    return sum(x.size for x in params.values())


def test_sizes_are_those_of_the_papers():
    assert count() == 267_136_704
    assert count(styles=14) == 209_450_688
    assert count(pyramid=False, inputs=6) == 205_585_792


def test_a_bundle_of_an_encoder_is_read_and_other_pictures_are_refused(tmp_path):
    options = psp.Options("psp", styles=4, pyramid=False, inputs=6, channels=16, w_size=8)
    net = psp.Encoder(options, rngs=nnx.Rngs(0))
    bundle.save(tmp_path / "encoder", net)
    read, card = bundle.load(tmp_path / "encoder")
    assert (card["architecture"], card["net"]) == ("psp", "encoder")
    assert read.options == options
    with pytest.raises(UserError, match=r"takes \[N, 256, 256, 6\]"):
        read(jnp.zeros((1, 256, 256, 3)))
    with pytest.raises(UserError, match="kind"):
        psp.Options("pspp")


# ---------------------------------------------------------------------------------- the converter


def theirs(kind="e4e", **options):
    """(a small net of ours, its state dict under their names)."""
    options = dict(kind=kind, styles=9, channels=16, w_size=8) | options
    net = psp.Encoder(psp.Options(**options), rngs=nnx.Rngs(0))
    net.latent_avg[...] = jnp.asarray(np.random.RandomState(0).randn(9, 8), jnp.float32)
    card = {"architecture": "psp", "net": "encoder", "options": vars(net.options)}
    arrays = {path: np.asarray(x) for path, x in bundle.variables(net).items()}
    return net, exporting.state_dict(card, arrays, kind)[1]


@pytest.mark.parametrize("kind", ["psp", "e4e"])
@pytest.mark.parametrize("restyle", [False, True])
def test_files_as_the_authors_wrap_them_are_read(kind, restyle, tmp_path):
    net, state = theirs(kind, **(dict(pyramid=False, inputs=6) if restyle else {}))
    named = {path_of(k) for k in state if k != "latent_avg" and "batches" not in k}
    assert named | {"latent_avg"} == set(bundle.variables(net))
    file = exporting.file(kind, "encoder", state)
    assert set(file) == {"state_dict", "latent_avg"}
    file["state_dict"]["decoder.input.input"] = np.zeros((1, 8, 4, 4), np.float32)
    (tmp_path / "encoder.pt").write_bytes(torch_zip.dumps(file))
    card = convert.convert(kind, str(tmp_path / "encoder.pt"), str(tmp_path / "made"))
    assert card["options"]["kind"] == kind and card["options"]["inputs"] == (6 if restyle else 3)
    read, _ = bundle.load(tmp_path / "made")
    assert read.options == net.options
    for path, x in bundle.variables(net).items():
        np.testing.assert_array_equal(x, bundle.variables(read)[path], err_msg=path)


def test_a_state_dict_alone_has_no_mean_and_other_nets_are_refused():
    _, state = theirs()
    del state["latent_avg"]
    net, _ = convert.build("e4e", state)
    assert not np.asarray(net.latent_avg[...]).any()
    with pytest.raises(UserError, match="0 blocks, wanted 24 of IR-SE50"):
        convert.build("psp", {"conv1.weight": np.zeros((3, 3, 3, 3), np.float32)})
    with pytest.raises(UserError, match="heads .*, wanted styles.0"):
        convert.build("psp", {k: x for k, x in state.items() if "styles.0." not in k})
