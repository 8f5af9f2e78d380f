"""StyleGAN2 as rosinality's or NVIDIA's programs save it; names of arrays tell which it is.

Of several nets `g_ema` is taken, else `G_ema`, `g` or `G`; others by `--part`.
"""

import dataclasses
import os
from types import ModuleType

from artifygan_jax.errors import UserError
from artifygan_jax.weights import nvidia, readers, rosinality
from artifygan_jax.weights.pickles import shown
from artifygan_jax.weights.rules import Plan, Source

PARTS = ("g_ema", "G_ema", "g", "G")
# Every net of the layout has one of these.
MARKS = {
    rosinality: ("input.input", "final_conv.0.weight"),
    nvidia: ("synthesis.b4.const", "b4.fc.weight"),
}


def read(path: str | os.PathLike, part: str | None = None) -> Plan:
    """The plan of a file, or of its net `part`; the card names the layout that it has."""
    net = readers.net(path, part=part, prefer=PARTS, beside=(rosinality.MEAN,))
    layout = layout_of(net.arrays)
    made = layout.whole(net)
    name = layout.__name__.rpartition(".")[2]
    return dataclasses.replace(made, card={**made.card, "source_layout": name})


def plan(source: Source) -> Plan:
    """The plan of one of the two layouts."""
    return layout_of(source).plan(source)


def layout_of(source: Source) -> ModuleType:
    """The module of the layout that `source` has; a `UserError` where it has none."""
    for layout, marks in MARKS.items():
        if any(mark in source for mark in marks):
            return layout
    names = ", ".join(map(shown, sorted(source)[:3])) or "no arrays"
    raise UserError(
        f"no weights of StyleGAN2, neither NVIDIA's nor rosinality's: {len(source)} arrays"
        f" ({names}, ...); give another --arch, --part or file"
    )
