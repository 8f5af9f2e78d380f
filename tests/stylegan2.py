"""The golden StyleGAN2 networks as ours: names of the two original state dicts, and their layouts.

Written apart from `artifygan_jax.weights`, so that the two check each other.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax import bundle, phases
from artifygan_jax.nets import ops, stylegan2
from tests import golden
from tests.conftest import shared

NVIDIA = (
    (r"\.resample_filter$", ""),
    (r"b4\.const$", "const"),
    (r"mapping\.fc(\d+)", r"mapping.layers.\1"),
    (r"\.(torgb|fromrgb)\b", ".rgb"),
    (r"\.fc\b", ".dense"),
    (r"\.weight$", ".kernel"),
    (r"noise_strength$", "strength"),
    (r"noise_const$", "noise"),
)
LAYER = {
    "conv.weight": "kernel",
    "conv.modulation.weight": "affine.kernel",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "strength",
    "activate.bias": "bias",
    "bias": "bias",
}


def nvidia(key):
    """Our path of a tensor of NVIDIA's."""
    for pattern, name in NVIDIA:
        key = re.sub(pattern, name, key)
    return key.replace(".", "/")


def rosinality(key, resolution):
    """Our path of a tensor of rosinality's, whose discriminator counts from `resolution`."""
    head, _, rest = key.partition(".")
    if head == "style":
        index, leaf = rest.split(".")
        return f"mapping/layers/{int(index) - 1}/{'kernel' if leaf == 'weight' else leaf}"
    if head == "input":
        return "synthesis/const"
    if head == "noises":
        n = int(rest.removeprefix("noise_"))
        return f"synthesis/b{2 ** ((n + 5) // 2)}/conv{(n - 1) % 2 if n else 1}/noise"
    if head in ("conv1", "to_rgb1"):
        layer = "conv1" if head == "conv1" else "rgb"
        return f"synthesis/b4/{layer}/{LAYER[rest]}".replace(".", "/")
    index, _, leaf = rest.partition(".")
    if head == "to_rgbs":
        return f"synthesis/b{8 * 2 ** int(index)}/rgb/{LAYER[leaf]}".replace(".", "/")
    if head == "convs" and leaf in LAYER:
        block = 8 * 2 ** (int(index) // 2)
        return f"synthesis/b{block}/conv{int(index) % 2}/{LAYER[leaf]}".replace(".", "/")
    return _discriminator(head, int(index), leaf, resolution)


def _discriminator(head, index, leaf, resolution):
    kind = "kernel" if leaf.endswith("weight") else "bias"
    if head == "convs" and index:
        layer = {"conv1": "conv0", "conv2": "conv1", "skip": "skip"}[leaf.split(".")[0]]
        return f"b{resolution // 2 ** (index - 1)}/{layer}/{kind}"
    if head == "convs":
        return f"b{resolution}/rgb/{kind if leaf != '0.weight' else 'kernel'}"
    if head == "final_conv":
        return f"b4/conv/{'kernel' if index == 0 else 'bias'}"
    return f"b4/{'out' if index else 'dense'}/{leaf.replace('weight', 'kernel')}"


def ours(array, shape, path):
    """A tensor of theirs in our layout."""
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        return array.reshape(outputs, inputs, height, width).transpose(2, 3, 1, 0)
    if path.endswith("const"):
        return array.reshape(shape[2], 4, 4).transpose(1, 2, 0)
    if path.endswith("kernel"):
        return array.T
    return array.reshape(shape)


def theirs(array, shape, path):
    """An array of ours in their layout."""
    array = np.asarray(array)
    if array.ndim == 4:
        array = array.transpose(3, 2, 0, 1)
    elif path.endswith("const"):
        array = array.transpose(2, 0, 1)
    elif path.endswith("kernel"):
        array = array.T
    return array.reshape(shape)


def filled(net, options, state, name, zero="w_avg$"):
    """Our net ("generator" or "discriminator") with the tensors `state`; `name` gives paths of keys.

    What rosinality has not, the mean code, is zero; paths of `zero` are.
    """
    build = lambda: stylegan2.build(net, options, rngs=nnx.Rngs(0))  # noqa: E731
    shapes = {path: x.shape for path, x in phases.values(nnx.eval_shape(build)).items()}
    arrays = {p: np.zeros(shapes[p], np.float32) for p in shapes if re.search(zero, p)}
    for key, array in state.items():
        if not key.endswith((".kernel", "resample_filter")):  # the constant filters
            path = name(key)
            arrays[path] = ours(array, shapes[path], path)
    return bundle.build("stylegan2", net, options, arrays)


def check_gradients(meta, name, grads, path_of, prefix="", rel=1e-3):
    """Fails unless every parameter's gradient has the recorded length, and direction by its probe.

    `grads` is `{path: array}`. A probe is off by about the error's length over the root of the size.
    """
    seen = set()
    for entry in meta["grads"][name]:
        path = path_of(entry["key"].removeprefix(prefix))
        seen.add(path)
        if entry["l2"] is None:
            np.testing.assert_array_equal(np.asarray(grads[path]), 0, err_msg=path)
            continue
        found = theirs(grads[path], entry["shape"], path)
        length = float(np.linalg.norm(found.astype(np.float64)))
        np.testing.assert_allclose(length, entry["l2"], rtol=rel, atol=1e-12, err_msg=path)
        atol = 5 * rel * entry["l2"] / np.sqrt(max(found.size, 1)) + 1e-12
        probe = golden.probe(entry["key"], found)
        np.testing.assert_allclose(probe, entry["probe"], rtol=0, atol=atol, err_msg=path)
    return seen


@functools.cache
def file(name):
    """(arrays, meta, path) of a golden file."""
    path = shared("golden", f"{name}.npz")
    return *golden.load(path), path


def nhwc(x):
    """A picture or map of theirs as ours."""
    return jnp.asarray(np.asarray(x).transpose(0, 2, 3, 1))


def nchw(x):
    """A picture or map of ours as theirs."""
    return np.asarray(x).transpose(0, 3, 1, 2)


def nvidia_net(net, **changes):
    """The generator or discriminator of the NVIDIA case."""
    options = dict(channels=stylegan2.widths(32, 1024)) | changes
    if net == "generator":
        options |= dict(z_size=128, w_size=128)
    key = "G" if net == "generator" else "D"
    key += f"_conditional_c{changes['labels']}" if changes.get("labels") else ""
    return filled(net, options, golden.recipe(file("nvidia_stylegan2_ada")[2], key), nvidia)


def rosinality_net(net, case="rosinality_stylegan2", prefix="", **changes):
    """A net of the rosinality case, 64 px, or of another with its layout."""
    resolution, zero = changes.pop("resolution", 64), changes.pop("zero", "w_avg$")
    options = dict(channels=stylegan2.widths(resolution)) | changes
    state = golden.recipe(
        file(case)[2], {"src.": "source", "tgt.": "target"}.get(prefix, net), prefix
    )
    return filled(net, options, state, lambda key: rosinality(key, resolution), zero)


def gradients(loss, net, *arguments):
    """(`loss(net, *arguments)`, {path: its gradient}, {path: buffer after it}), compiled."""
    graph, params, buffers = phases.take_apart(net)

    @ops.jit
    def run(params, buffers, *arguments):
        def inner(params):
            net = phases.assemble(graph, params | buffers)
            value = loss(net, *arguments)
            after = phases.take_apart(net)[2]
            return value, (value, after)

        grads, (value, after) = jax.grad(inner, has_aux=True)(params)
        return value, grads, after

    return run(params, buffers, *arguments)


def apply(net, function, *arguments):
    """`function(net, *arguments)`, compiled, with the net's arrays as an argument and no constants."""
    graph, params, buffers = phases.take_apart(net)
    run = ops.jit(lambda arrays, *rest: function(phases.assemble(graph, arrays), *rest))
    return run(params | buffers, *arguments)
