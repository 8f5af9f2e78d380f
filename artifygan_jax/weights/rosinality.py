"""StyleGAN2 as rosinality/stylegan2-pytorch saves it, and JoJoGAN and Cartoon-StyleGAN with it.

A file is a dict: `g_ema`, `g` and `d` are nets, `latent_avg` beside them is the mean of the
generator's codes, which only converted files have. Of several nets `g_ema` is taken, else `g`;
`--part=d` is the discriminator. Every net has 512 latents and codes of one size, and no classes.

Without `latent_avg` the mean that truncation needs is made here: see `mean_code`.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from artifygan_jax.errors import UserError
from artifygan_jax.weights import readers
from artifygan_jax.weights.nvidia import FILTER, check_filter, map4
from artifygan_jax.weights.readers import Net
from artifygan_jax.weights.rules import Plan, Rules, Source, conv, linear, oihw, same, size

WHAT = "rosinality's StyleGAN2"
PARTS = ("g_ema", "g")
MEAN = "latent_avg"
CODES = 10_000  # of which the mean is taken where a file has none
KERNEL = r".*\.kernel"


def read(path: str | os.PathLike, part: str | None = None) -> Plan:
    """The plan of a file, or of its net `part`."""
    return whole(readers.net(path, part=part, prefer=PARTS, beside=(MEAN,)))


def whole(net: Net) -> Plan:
    """The plan of a net with the mean that lies beside it."""
    made = plan({**net.beside, **net.arrays})
    part = {"source_part": net.part} if net.part else {}
    return dataclasses.replace(made, card={**made.card, **part})


def plan(source: Source) -> Plan:
    """Generator or discriminator; widths, resolution, depth and sizes are read off the shapes.

    Activations have no bound, and four pictures share a standard deviation, as in the repository.
    """
    for key, x in source.items():
        if re.fullmatch(KERNEL, key):
            check_filter(key, x, 4 if _doubles(key) else 1)
    return _generator(source) if "input.input" in source else _discriminator(source)


def _generator(source: Source) -> Plan:
    count = len(_numbers(r"convs\.(\d+)\.conv\.weight", source))
    if count < 2 or count % 2:
        raise UserError(
            f"no weights of {WHAT}: {count} layers convs.N, wanted two for each of 8, 16, ... px"
        )
    widths = [size(WHAT, source, "input.input", 1)]
    widths += [size(WHAT, source, f"convs.{n}.conv.weight", 1, 5) for n in range(0, count, 2)]
    w_size, z_size = (size(WHAT, source, "style.1.weight", axis, 2) for axis in (0, 1))
    options = {
        "channels": tuple(widths),
        "z_size": z_size,
        "w_size": w_size,
        "mapping_layers": len(_numbers(r"style\.(\d+)\.weight", source)),
    }
    card = {}
    if MEAN not in source:
        source = {**source, MEAN: mean_code(source, options["mapping_layers"])}
        card = {"w_avg": f"mean of {CODES} codes made of seed 0: the file has no {MEAN}"}
    elif source[MEAN].ndim > 1 and (source[MEAN] != source[MEAN][:1]).any():
        raise UserError(
            f"{MEAN} {source[MEAN].shape} has rows that differ: a net has one mean of its codes"
        )
    rules = layout("generator", options)
    return Plan("stylegan2", "generator", options, rules, source, (KERNEL,), card=card)


def _discriminator(source: Source) -> Plan:
    widths = [size(WHAT, source, "convs.0.0.weight", 0)]
    count = len(_numbers(r"convs\.(\d+)\.conv2\.1\.weight", source))
    widths += [size(WHAT, source, f"convs.{n}.conv2.1.weight", 0) for n in range(1, count + 1)]
    size(WHAT, source, "final_conv.0.weight", 0)
    options = {"channels": tuple(widths[::-1])}
    rules = layout("discriminator", options)
    return Plan("stylegan2", "discriminator", options, rules, source, (KERNEL, MEAN))


def _numbers(pattern: str, source: Source) -> set[str]:
    return {match[1] for key in source if (match := re.fullmatch(pattern, key))}


def layout(net: str, options: Mapping[str, Any]) -> Rules:
    """The repository's names; a `UserError` for nets that it has not."""
    count = len(options["channels"])
    if options.get("labels"):
        raise UserError("its nets have no classes")
    if net == "discriminator":
        return _discriminator_rules(count)
    if options.get("z_size") != options.get("w_size"):
        raise UserError("its latents have the size of its codes")
    return _generator_rules(count, options["mapping_layers"])


def _generator_rules(count: int, depth: int) -> Rules:
    rules: Rules = {
        "input.input": ("synthesis/const", first_chw),
        MEAN: ("mapping/w_avg", row),
        **_layer(r"conv1", "b4/conv1"),
        **_to_rgb("to_rgb1", "b4"),
        r"noises\.noise_0": ("synthesis/b4/conv1/noise", first_map),
    }
    for i in range(depth):
        rules |= conv(rf"style\.{i + 1}", f"mapping/layers/{i}", linear)
    for n in range(count - 1):
        block = f"b{8 * 2**n}"
        rules |= _to_rgb(rf"to_rgbs\.{n}", block)
        for k in (0, 1):
            rules |= _layer(rf"convs\.{2 * n + k}", f"{block}/conv{k}")
            noise = f"synthesis/{block}/conv{k}/noise"
            rules[rf"noises\.noise_{2 * n + k + 1}"] = (noise, first_map)
    return rules


def _layer(theirs: str, ours: str) -> Rules:
    return {
        **_modulated(theirs, f"synthesis/{ours}"),
        rf"{theirs}\.noise\.weight": (f"synthesis/{ours}/strength", scalar),
        rf"{theirs}\.activate\.bias": (f"synthesis/{ours}/bias", same),
    }


def _to_rgb(theirs: str, block: str) -> Rules:
    return {
        **_modulated(theirs, f"synthesis/{block}/rgb"),
        rf"{theirs}\.bias": (f"synthesis/{block}/rgb/bias", channels),
    }


def _modulated(theirs: str, ours: str) -> Rules:
    affine = conv(rf"{theirs}\.conv\.modulation", f"{ours}/affine", linear)
    return {rf"{theirs}\.conv\.weight": (f"{ours}/kernel", first_oihw), **affine}


def _discriminator_rules(count: int) -> Rules:
    top = f"b{2 * 2**count}"
    rules: Rules = {
        r"convs\.0\.0\.weight": (f"{top}/rgb/kernel", oihw),
        r"convs\.0\.1\.bias": (f"{top}/rgb/bias", same),
        r"final_conv\.0\.weight": ("b4/conv/kernel", oihw),
        r"final_conv\.1\.bias": ("b4/conv/bias", same),
        **conv(r"final_linear\.0", "b4/dense", map4),
        **conv(r"final_linear\.1", "b4/out", linear),
    }
    for n in range(1, count):
        theirs, ours = rf"convs\.{n}", f"b{2 * 2 ** (count - n + 1)}"
        rules |= {
            rf"{theirs}\.conv1\.0\.weight": (f"{ours}/conv0/kernel", oihw),
            rf"{theirs}\.conv1\.1\.bias": (f"{ours}/conv0/bias", same),
            rf"{theirs}\.conv2\.1\.weight": (f"{ours}/conv1/kernel", oihw),
            rf"{theirs}\.conv2\.2\.bias": (f"{ours}/conv1/bias", same),
            rf"{theirs}\.skip\.1\.weight": (f"{ours}/skip/kernel", oihw),
        }
    return rules


# ------------------------------------------------------------------------- shapes and constants


def first_oihw(x: np.ndarray) -> np.ndarray:
    """Modulated convolution `[1, O, I, h, w]` to HWIO."""
    return oihw(x.reshape(x.shape[1:]))


def first_chw(x: np.ndarray) -> np.ndarray:
    """`[1, C, H, W]` to `[H, W, C]`."""
    return x.reshape(x.shape[1:]).transpose(1, 2, 0)


def first_map(x: np.ndarray) -> np.ndarray:
    """`[1, 1, H, W]` to `[H, W]`."""
    return x.reshape(x.shape[2:])


def channels(x: np.ndarray) -> np.ndarray:
    """`[1, C, 1, 1]` to `[C]`."""
    return x.reshape(x.shape[1:2])


def scalar(x: np.ndarray) -> np.ndarray:
    """`[1]` to `[]`."""
    return x.reshape(())


def row(x: np.ndarray) -> np.ndarray:
    """The mean code `[512]`, which may stand once for each layer."""
    return np.atleast_2d(x)[0]


def _doubles(key: str) -> bool:
    return key.endswith((".conv.blur.kernel", ".upsample.kernel"))


def constants(net: str, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The filters, which are no weights, under the repository's names."""
    blocks = range(len(options["channels"]) - 1)
    if net == "discriminator":
        names = [f"convs.{n + 1}.{k}.0.kernel" for n in blocks for k in ("conv2", "skip")]
    else:
        names = [f"convs.{2 * n}.conv.blur.kernel" for n in blocks]
        names += [f"to_rgbs.{n}.upsample.kernel" for n in blocks]
    return {name: FILTER * np.float32(4 if _doubles(name) else 1) for name in names}


def wrapped(net: str, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The dict that the repository's programs load a net of."""
    if net == "discriminator":
        return {"d": dict(tensors)}
    inner = {name: x for name, x in tensors.items() if name != MEAN}
    return {"g_ema": inner, MEAN: tensors[MEAN]}


def mean_code(source: Source, depth: int) -> np.ndarray:
    """The mean of the codes of `CODES` normal latents, drawn by numpy's default generator of seed 0.

    The mapping as `nets.stylegan2` has it: normalised, then dense layers at a rate of 0.01.
    """
    kernels = [source.get(f"style.{i + 1}.weight") for i in range(depth)]
    biases = [source.get(f"style.{i + 1}.bias") for i in range(depth)]
    x = np.random.default_rng(0).standard_normal(
        (CODES, size(WHAT, source, "style.1.weight", 1, 2))
    )
    x = (x / np.sqrt(np.square(x).mean(1, keepdims=True) + 1e-8)).astype(np.float32)
    for kernel, bias in zip(kernels, biases, strict=True):
        if kernel is None or bias is None or kernel.shape != (bias.size, x.shape[1]):
            return np.zeros(x.shape[1])  # `rules.apply` says what is wrong
        x = x @ (kernel.T * np.float32(0.01 / np.sqrt(x.shape[1]))) + bias * np.float32(0.01)
        x = np.maximum(x, 0.2 * x) * np.float32(np.sqrt(2))
    return x.mean(0)
