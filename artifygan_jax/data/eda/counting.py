"""Two small things that both explorations count with."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def percent(part: float, whole: float) -> float:
    """100 part / whole, rounded to two decimals; 0 of nothing."""
    return round(100 * float(part) / whole, 2) if whole else 0.0


def spread(values: Sequence[float], *, bins: int, end: float) -> dict[str, Any]:
    """Mean, 5 %, 50 % and 95 % quantiles, and a histogram of `bins` from 0 to `end`; {} of nothing."""
    if not len(values):
        return {}
    quantiles = np.quantile(values, (0.05, 0.5, 0.95))
    return {
        "mean": round(float(np.mean(values)), 2),
        **{f"p{q}": round(float(v), 2) for q, v in zip((5, 50, 95), quantiles)},
        "histogram": np.histogram(values, bins=bins, range=(0, end))[0].tolist(),
        "bin_width": end / bins,
    }
