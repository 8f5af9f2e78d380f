"""LPIPS' linear heads as the authors release them: `lin0.model.1.weight`, `[1, C, 1, 1]`, and on.

The backbone that a head is for is told by how many layers it has and how wide they are.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from artifygan_jax.errors import UserError
from artifygan_jax.nets.lpips import BACKBONES
from artifygan_jax.weights.rules import Plan, Rules, Source, size


def plan(source: Source) -> Plan:
    """The head of the backbone whose widths the file has."""
    size("LPIPS", source, "lin0.model.1.weight", 1)
    count = sum(re.fullmatch(r"lin\d\.model\.1\.weight", key) is not None for key in source)
    keys = [f"lin{n}.model.1.weight" for n in range(count)]
    widths = tuple(size("LPIPS", source, key, 1) for key in keys)
    for backbone, layers in BACKBONES.items():
        if tuple(layers.values()) == widths:
            options = {"backbone": backbone}
            return Plan("lpips", "lpips", options, layout("lpips", options), source)
    known = "; ".join(f"{name} {tuple(layers.values())}" for name, layers in BACKBONES.items())
    raise UserError(f"no weights of LPIPS: layers of widths {widths}, wanted {known}")


def layout(net: str, options: Mapping[str, Any]) -> Rules:
    """The authors' names, which are the same for every backbone."""
    del net, options
    return {r"lin(\d)\.model\.1\.weight": (r"lin\1", flat)}


def flat(x: np.ndarray) -> np.ndarray:
    """`[1, C, 1, 1]` to `[C]`."""
    return x.reshape(x.shape[1:2])
