"""The one split of the project: which pictures are never trained on."""

from collections.abc import Sequence

import numpy as np


def held_out(names: Sequence[str]) -> np.ndarray:
    """Bool [N]: True where the picture is held out, in the order of `names`.

    In the sorted names every eighth is held out: places 7, 15, 23, ... of the sorted order. So the
    split depends on the set of names alone, not on the order in which a disk lists them.
    """
    order = sorted(range(len(names)), key=lambda i: names[i])
    held = np.zeros(len(names), bool)
    held[order[7::8]] = True
    return held
