"""Tables read backwards: the variables of a net as the state dict that its original has."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from artifygan_jax.errors import UserError, did_you_mean
from artifygan_jax.weights import (
    alexnet,
    animegan1,
    animegan2,
    arcface,
    artifygan,
    cartoongan,
    dinov2,
    e4e,
    lpips,
    mobilefacenet,
    nvidia,
    psp,
    rosinality,
    rules,
    squeezenet,
    vgg16,
    vgg19,
)
from artifygan_jax.weights.rules import Rules, Transform

BACK: dict[Transform, Transform] = {
    rules.same: rules.same,
    rules.oihw: lambda y: y.transpose(3, 2, 0, 1),
    rules.iohw: lambda y: y.transpose(2, 3, 0, 1),
    rules.iohw_stride1: lambda y: y[::-1, ::-1].transpose(2, 3, 0, 1),
    animegan1.right_vector: lambda y: y.transpose(2, 0, 1).reshape(-1),
    lpips.flat: lambda y: y.reshape(1, -1, 1, 1),
    arcface.whole_map: lambda y: y.transpose(3, 2, 0, 1).reshape(y.shape[3], -1),
    rules.linear: lambda y: y.T,
    nvidia.chw: lambda y: y.transpose(2, 0, 1),
    nvidia.map4: lambda y: y.transpose(3, 2, 0, 1).reshape(y.shape[3], -1),
    rosinality.first_oihw: lambda y: y.transpose(3, 2, 0, 1)[None],
    rosinality.first_chw: lambda y: y.transpose(2, 0, 1)[None],
    rosinality.first_map: lambda y: y[None, None],
    rosinality.channels: lambda y: y.reshape(1, -1, 1, 1),
    rosinality.scalar: lambda y: y.reshape(1),
    rosinality.row: rules.same,
}
# Architectures whose bundles are not, or no longer, what a PyTorch file held.
NONE = {
    "inception": "its batch norms are folded into the convolutions",
    "mtcnn": "its linear layers have become convolutions",
    "animegan2_lite": "its original is a TensorFlow program",
    "animegan3": "its original is a TensorFlow program",
}


def state_dict(
    card: Mapping[str, Any], arrays: Mapping[str, np.ndarray], arch: str | None = None
) -> tuple[str, dict[str, np.ndarray]]:
    """(layout, `{the original's name: array}`) of a bundle's card and its `{path: array}`.

    `arch` chooses one of several layouts; else it is that of the source that was converted, or for
    a net trained here that of its architecture. Batch norms get a counter `num_batches_tracked` of
    0, as torch has it; filters that the original keeps beside its weights are there too. A
    `UserError` where there is no such layout or the net does not fit it.
    """
    arch = _layout(card, arch)
    try:
        table = LAYOUTS[arch][1](card["net"], card["options"])
    except UserError as error:
        what = f"{card['architecture']} {card['net']}"
        raise UserError(f"this {what} has no {arch} layout: {error}") from error
    out = {}
    for path, y in arrays.items():
        found = rules.writers(table, path)
        if len(found) != 1:
            names = " and ".join(name for name, _ in found) or "no name"
            raise UserError(f"the {arch} layout has {names} for {path}; give another --arch")
        name, transform = found[0]
        out[name] = np.asarray(BACK[transform](y), order="C")
        if name.endswith(".running_var"):
            counter = name.removesuffix("running_var") + "num_batches_tracked"
            out[counter] = np.zeros((), np.int64)
    if arch in CONSTANTS:
        out |= CONSTANTS[arch](card["net"], card["options"])
    return arch, out


def file(
    arch: str, net: str, tensors: Mapping[str, np.ndarray]
) -> Mapping[str, np.ndarray | Mapping[str, np.ndarray]]:
    """What the original's programs load: the state dict, or a dict with it."""
    return WRAPPED[arch](net, tensors) if arch in WRAPPED else tensors


def _layout(card: Mapping[str, Any], arch: str | None) -> str:
    """The layout that is asked for, or else the one that the bundle has."""
    architecture = card["architecture"]
    fitting = [name for name, (of, _) in LAYOUTS.items() if of == architecture]
    if not fitting:
        why = NONE.get(architecture, "no table can be read backwards")
        raise UserError(f"a bundle of {architecture} cannot be written as a PyTorch file: {why}")
    if arch is not None and arch not in fitting:
        raise UserError(
            f"a bundle of {architecture} has no layout {arch!r}{did_you_mean(arch, fitting)};"
            f" --arch is {' or '.join(fitting)}"
        )
    if architecture == "vgg":
        return arch or f"vgg{card['options']['depth']}"
    source = card.get("source_layout")
    return arch or (source if source in fitting else fitting[0])


def _animegan1(net: str, options: Mapping[str, Any]) -> Rules:
    """The plan's rules; it reads sizes off names and shapes alone, so empty arrays will do."""
    if net == "generator":
        if options["variant"] != "port":
            raise UserError("its variant is the original's, a TensorFlow program's")
        return animegan1.plan({"encode_blocks.0.conv.weight": _EMPTY}).rules
    if options["norm"] != "plain":
        raise UserError(f"its norm is {options['norm']}, where the port's has no weights")
    stages = options["stages"]
    indices = [0, *(5 * i + k for i in range(stages) for k in (2, 4))]
    indices += [5 * stages + 2, 5 * stages + 5]
    leaf = "weight_orig" if options["spectral"] else "weight"
    names = (f"discriminate.{i}.{leaf}" for i in indices)
    return animegan1.plan(dict.fromkeys(names, _EMPTY)).rules


def _animegan2(net: str, options: Mapping[str, Any]) -> Rules:
    del net, options
    return animegan2.plan({"block_a.0.1.weight": _EMPTY}).rules


_EMPTY = np.empty((1, 1, 1, 1), np.float32)

# Layout: (architecture, its rules for a net and its options). The first of several is the default.
LAYOUTS: dict[str, tuple[str, Callable[[str, Mapping[str, Any]], Rules]]] = {
    "artifygan": ("cartoongan", artifygan.layout),
    "cartoongan": ("cartoongan", cartoongan.layout),
    "animegan1": ("animegan", _animegan1),
    "animegan2": ("animegan2", _animegan2),
    "alexnet": ("alexnet", alexnet.layout),
    "squeezenet": ("squeezenet", squeezenet.layout),
    "vgg16": ("vgg", vgg16.layout),
    "vgg19": ("vgg", vgg19.layout),
    "lpips": ("lpips", lpips.layout),
    "mobilefacenet": ("mobilefacenet", mobilefacenet.layout),
    "arcface": ("iresnet", arcface.layout),
    "dinov2": ("dinov2", dinov2.layout),
    "psp": ("psp", psp.layout),
    "e4e": ("psp", e4e.layout),
    "rosinality": ("stylegan2", rosinality.layout),
    "nvidia": ("stylegan2", nvidia.layout),
}
CONSTANTS = {"rosinality": rosinality.constants, "nvidia": nvidia.constants}
WRAPPED = {"rosinality": rosinality.wrapped, "psp": psp.wrapped, "e4e": psp.wrapped}
