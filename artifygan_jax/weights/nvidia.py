"""StyleGAN2 as NVIDIA's StyleGAN2-ADA and StyleGAN3 repositories save it in PyTorch.

A snapshot (.pkl) has `G`, `D` and `G_ema`; their program text is never read. Of several nets `G_ema`
is taken, else `G`; `--part=D` is the discriminator. State dicts have the same names. Names as of
stylegan2-ada-pytorch d72cc7d.

Of what the arrays do not tell, a snapshot has the bound of activations and the group of pictures that
share a standard deviation; what this net cannot compute is refused. For a state dict both are those of
the authors' training program: 256, which a sound net never reaches, and 4.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from artifygan_jax.errors import UserError
from artifygan_jax.weights import readers
from artifygan_jax.weights.pickles import shown
from artifygan_jax.weights.readers import Net
from artifygan_jax.weights.rules import Plan, Rules, Source, conv, linear, oihw, same, size

WHAT = "NVIDIA's StyleGAN2"
PARTS = ("G_ema", "G")
CLAMP, GROUP = 256.0, 4
FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]).astype(np.float32) / 64
FILTERS = r".*resample_filter"
# What constructors may be told that the net here has no choice of.
FIXED = {
    "img_channels": (3,),
    "activation": ("lrelu",),
    "lr_multiplier": (0.01,),
    "resample_filter": ([1, 3, 3, 1],),
    "mbstd_num_channels": (1,),
    "use_noise": (True,),
}
ARCHITECTURES = {"generator": "skip", "discriminator": "resnet"}


def read(path: str | os.PathLike, part: str | None = None) -> Plan:
    """The plan of a file, or of its net `part`."""
    return whole(readers.net(path, part=part, prefer=PARTS))


def whole(net: Net) -> Plan:
    """The plan of a net with what its constructor was told."""
    made = plan(net.arrays)
    options = settings(made.net, net.options) if net.options else {}
    card = {"source_part": net.part} if net.part else {}
    return dataclasses.replace(made, options={**made.options, **options}, card=card)


def settings(net: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """`clamp` and `group` of what a constructor was told; a `UserError` for what is not computed."""
    flat = dict(_leaves(told))
    for name, known in (FIXED | {"architecture": (ARCHITECTURES[net],)}).items():
        if name in flat and flat[name] not in known:
            raise UserError(
                f"this {net} has {name} {shown(str(flat[name]))}, which is not read; wanted {known[0]}"
            )
    found = {"clamp": _number(flat, "conv_clamp", 0)}
    if net == "discriminator":
        found["group"] = int(_number(flat, "mbstd_group_size", GROUP))
    return found


def _number(told: Mapping[str, Any], name: str, default: float) -> float:
    """What was told of `name`; 0 for None, which is no bound and the whole batch."""
    value = told.get(name, default) or 0
    if not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise UserError(f"this net has {name} {shown(str(value))}; wanted a number of at least 0")
    return float(value)


def _leaves(told: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield name, value


def plan(source: Source) -> Plan:
    """Generator or discriminator; widths, resolution, depth, sizes and classes from the shapes."""
    for key, x in source.items():
        if re.fullmatch(FILTERS, key):
            check_filter(key, x)
    if any(key.startswith("synthesis.") for key in source):
        net, options = "generator", _generator(source)
    else:
        net, options = "discriminator", _discriminator(source)
    return Plan("stylegan2", net, options, layout(net, options), source, (FILTERS,))


def _generator(source: Source) -> dict[str, Any]:
    blocks = _blocks(r"synthesis\.b(\d+)\.conv1\.weight", source)
    widths = [size(WHAT, source, f"synthesis.b{r}.conv1.weight", 0) for r in blocks]
    depth, labels, outputs = _mapping(source)
    return {
        "channels": tuple(widths),
        "z_size": size(WHAT, source, "mapping.fc0.weight", 1, 2) - (outputs if labels else 0),
        "w_size": outputs,
        "mapping_layers": depth,
        "labels": labels,
        "clamp": CLAMP,
    }


def _discriminator(source: Source) -> dict[str, Any]:
    blocks = _blocks(r"b(\d+)\.conv1?\.weight", source)
    names = [f"b{r}.conv{'0' if r > 4 else ''}.weight" for r in blocks]
    options: dict[str, Any] = {
        "channels": tuple(size(WHAT, source, name, 0) for name in names),
        "clamp": CLAMP,
        "group": GROUP,
    }
    if "mapping.fc0.weight" in source:
        options["mapping_layers"], options["labels"], _ = _mapping(source)
    return options


def _blocks(pattern: str, source: Source) -> list[int]:
    """The resolutions 4, 8, ... of the blocks whose kernels match `pattern`; all must be there."""
    found = sorted(int(m[1]) for key in source if (m := re.fullmatch(pattern, key)))
    if len(found) < 2 or found != [4 * 2**i for i in range(len(found))]:
        names = ", ".join(map(shown, sorted(source)[:3])) or "no arrays"
        raise UserError(
            f"no weights of {WHAT}: blocks of {found or 'no'} px among {len(source)} arrays"
            f" ({names}, ...), wanted 4, 8, ...; give another --arch, --part or file"
        )
    return found


def _mapping(source: Source) -> tuple[int, int, int]:
    """Layers, classes (0 without) and size of the codes of a mapping network."""
    depth = sum(re.fullmatch(r"mapping\.fc\d+\.weight", key) is not None for key in source)
    labels = 0
    if "mapping.embed.weight" in source:
        labels = size(WHAT, source, "mapping.embed.weight", 1, 2)
    return depth, labels, size(WHAT, source, "mapping.fc0.weight", 0, 2)


def layout(net: str, options: Mapping[str, Any]) -> Rules:
    """The authors' names, which are the same for every size."""
    del options
    mapping: Rules = {
        **conv(r"mapping\.fc(\d+)", r"mapping/layers/\1", linear),
        **conv(r"mapping\.embed", "mapping/embed", linear),
    }
    if net == "discriminator":
        return mapping | {
            **conv(r"b(\d+)\.fromrgb", r"b\1/rgb"),
            **conv(r"b(\d+)\.conv(0|1)", r"b\1/conv\2"),
            r"b(\d+)\.skip\.weight": (r"b\1/skip/kernel", oihw),
            **conv(r"b4\.conv", "b4/conv"),
            **conv(r"b4\.fc", "b4/dense", map4),
            **conv(r"b4\.out", "b4/out", linear),
        }
    theirs, ours = r"synthesis\.b(\d+)", r"synthesis/b\1"
    return mapping | {
        r"mapping\.w_avg": ("mapping/w_avg", same),
        r"synthesis\.b4\.const": ("synthesis/const", chw),
        **conv(rf"{theirs}\.conv(0|1)", rf"{ours}/conv\2"),
        **conv(rf"{theirs}\.conv(0|1)\.affine", rf"{ours}/conv\2/affine", linear),
        rf"{theirs}\.conv(0|1)\.noise_strength": (rf"{ours}/conv\2/strength", same),
        rf"{theirs}\.conv(0|1)\.noise_const": (rf"{ours}/conv\2/noise", same),
        **conv(rf"{theirs}\.torgb", rf"{ours}/rgb"),
        **conv(rf"{theirs}\.torgb\.affine", rf"{ours}/rgb/affine", linear),
    }


def chw(x: np.ndarray) -> np.ndarray:
    """`[C, H, W]` to `[H, W, C]`."""
    return x.transpose(1, 2, 0)


def map4(x: np.ndarray) -> np.ndarray:
    """torch linear layer behind a flattened map, `[O, C * 4 * 4]`, to the HWIO convolution it is."""
    return oihw(x.reshape(len(x), -1, 4, 4))


def check_filter(key: str, x: np.ndarray, gain: int = 1) -> None:
    """A `UserError` unless `x` is the filter [1, 3, 3, 1] in both axes, of sum `gain`."""
    if x.shape != FILTER.shape or not np.allclose(x, FILTER * gain, rtol=1e-3, atol=0):
        raise UserError(
            f"{key} is not the filter [1, 3, 3, 1] of sum {gain}: this net was trained with another"
            " one, which is not read"
        )


def constants(net: str, options: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The filters, which are no weights, under the authors' names."""
    blocks = [f"b{8 * 2**n}" for n in range(len(options["channels"]) - 1)]
    if net == "generator":
        layers = itertools.product(blocks, ("", ".conv0", ".conv1"))
        names = ["b4", "b4.conv1", *map("".join, layers)]
        names = [f"synthesis.{name}" for name in names]
    else:
        layers = itertools.product(blocks, ("", ".conv0", ".conv1", ".skip"))
        names = [f"{blocks[-1]}.fromrgb", "b4.conv", *map("".join, layers)]
    return {f"{name}.resample_filter": FILTER for name in names}
