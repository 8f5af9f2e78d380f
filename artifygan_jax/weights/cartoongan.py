"""CartoonGAN as the authors released it: names of the PyTorch test network, layout OIHW.

A state dict or a folder of `NAME.npy`, such as `conv01_1.weight`, `in01_1.scale`. The networks work
on BGR; their norms were tested with epsilon 1e-9.
"""

import re
from collections.abc import Mapping
from typing import Any

from artifygan_jax.errors import UserError
from artifygan_jax.weights.rules import Plan, Rules, Source, conv, iohw, same, size


def plan(source: Source) -> Plan:
    """The generator; `channels`, `blocks` and `decoder` are read off the arrays."""
    blocks = sum(re.fullmatch(r"in\d+_2\.scale", key) is not None for key in source)
    options = {
        "channels": size("CartoonGAN", source, "conv01_1.weight", 0),
        "blocks": blocks,
        "decoder": "full" if "deconv01_2.weight" in source else "lean",
        "norm": "instance",
        "padding": "mixed",
        "output": "tanh",
        "norm_epsilon": 1e-9,
    }
    return Plan("cartoongan", "generator", options, _rules(blocks), source, channels="BGR")


def layout(net: str, options: Mapping[str, Any]) -> Rules:
    """The authors' names for a net of ours; `UserError` where they have no such layers."""
    if net != "generator" or options["norm"] != "instance":
        raise UserError("the authors released generators with instance norm only")
    if options["upsampling"] == "resize":
        raise UserError("it resizes and convolves where the authors have transposed convolutions")
    return _rules(options["blocks"])


def _rules(blocks: int) -> Rules:
    rules = {
        **conv("conv01_1", "stem"),
        **_norm("in01_1", "stem_norm"),
        **conv("deconv03_1", "out"),
    }
    for i in (0, 1):
        rules |= conv(rf"conv0{i + 2}_([12])", rf"down/{i}/conv\1")
        rules |= _norm(f"in0{i + 2}_1", f"down/{i}/norm")
        rules |= conv(f"deconv0{i + 1}_1", f"up/{i}/conv1", iohw)
        rules |= conv(f"deconv0{i + 1}_2", f"up/{i}/conv2")  # an ordinary one, despite its name
        rules |= _norm(f"in{blocks + 4 + i:02}_1", f"up/{i}/norm")
    for i in range(blocks):
        rules |= conv(rf"conv{i + 4:02}_([12])", rf"blocks/{i}/conv\1")
        rules |= _norm(rf"in{i + 4:02}_([12])", rf"blocks/{i}/norm\1")
    return rules


def _norm(source: str, target: str) -> Rules:
    return {
        rf"{source}\.scale": (f"{target}/scale", same),
        rf"{source}\.shift": (f"{target}/bias", same),
    }
