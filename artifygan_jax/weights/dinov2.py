"""DINOv2 as facebookresearch/dinov2 releases it: `blocks.0.attn.qkv.weight`, and on.

The plain ViT-S, -B and -L; the giant one has another perceptron, and those with registers other
positions. `mask_token` is of use at training only and left out.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from artifygan_jax.errors import UserError
from artifygan_jax.weights.rules import Plan, Rules, Source, conv, linear, same, size

IGNORE = ("mask_token",)


def plan(source: Source) -> Plan:
    """`width`, `depth` and `grid` are read off names and shapes."""
    width = size("DINOv2", source, "patch_embed.proj.weight", 0)
    other = "register_tokens" in source or any(".mlp.w12." in key for key in source)
    if other or "pos_embed" not in source or source["pos_embed"].ndim != 3:
        raise UserError(
            "no weights of a plain DINOv2 ViT-S, -B or -L (those with registers and the giant one are"
            " not read); give another file"
        )
    blocks = {match[1] for key in source if (match := re.match(r"blocks\.(\d+)\.", key))}
    grid = math.isqrt(max(source["pos_embed"].shape[1] - 1, 0))
    options = {"width": width, "depth": len(blocks), "grid": grid}
    return Plan("dinov2", "dinov2", options, layout("dinov2", options), source, IGNORE)


def layout(net: str, options: Mapping[str, Any]) -> Rules:
    """The names of the source, which are the same for every size."""
    del net, options
    block = r"blocks\.(\d+)"
    rules: Rules = {
        "cls_token": ("cls", same),
        "pos_embed": ("positions", same),
        **conv(r"patch_embed\.proj", "embed"),
        **_norm("norm", "norm"),
        **_norm(rf"{block}\.norm([12])", r"blocks/\1/norm\2"),
        rf"{block}\.ls([12])\.gamma": (r"blocks/\1/scale\2", same),
    }
    for theirs, ours in (
        (r"attn\.qkv", "attention/qkv"),
        (r"attn\.proj", "attention/project"),
        (r"mlp\.fc1", "inner"),
        (r"mlp\.fc2", "outer"),
    ):
        rules |= conv(rf"{block}\.{theirs}", rf"blocks/\1/{ours}", linear)
    return rules


def _norm(source: str, target: str) -> Rules:
    return {
        rf"{source}\.weight": (f"{target}/scale", same),
        rf"{source}\.bias": (f"{target}/bias", same),
    }
