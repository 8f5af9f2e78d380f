"""e4e's encoder as its authors save it: pSp's layout, with heads that add to the first one's code."""

import os

from artifygan_jax.weights import psp
from artifygan_jax.weights.psp import layout
from artifygan_jax.weights.rules import Plan, Source

__all__ = ["layout", "plan", "read"]


def read(path: str | os.PathLike, part: str | None = None) -> Plan:
    """The plan of a file, or of its part."""
    return plan(psp.with_mean(path, part))


def plan(source: Source) -> Plan:
    """As pSp's."""
    return psp.plan(source, "e4e")
