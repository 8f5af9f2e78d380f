"""Optimisers: Adam with a schedule, frozen parameters by pattern, and the lazy correction."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

import optax

from artifygan_jax.errors import UserError


@dataclasses.dataclass
class Adam:
    """Adam (arXiv:1412.6980) for one net.

    After `constant_steps` updates the rate falls linearly to 0 over `decay_steps` (0: never).
    `freeze` holds regular expressions; a parameter whose whole path matches one does not move.
    `freeze_until` = n freezes the first n entries of the net's own list of layers (`layer_names`).
    `lazy_every` = k: the net also has a regulariser that runs every k steps in place of extra ones,
    so rate and betas take the exponent k / (k + 1) (StyleGAN2, arXiv:1912.04958, appendix B).
    """

    lr: float = 2e-4
    b1: float = 0.5
    b2: float = 0.999
    eps: float = 1e-8
    constant_steps: int = 0
    decay_steps: int = 0
    lazy_every: int = 0
    freeze: tuple[str, ...] = ()
    freeze_until: int = 0

    def transform(self) -> optax.GradientTransformation:
        """The optax transformation."""
        c = self.lazy_every / (self.lazy_every + 1) if self.lazy_every else 1.0
        rate = self.lr * c
        if self.decay_steps:
            fall = optax.linear_schedule(rate, 0.0, self.decay_steps)
            rate = optax.join_schedules(
                [optax.constant_schedule(self.lr * c), fall], [self.constant_steps]
            )
        return optax.adam(rate, b1=self.b1**c, b2=self.b2**c, eps=self.eps)


def freeze_patterns(spec: Adam, net: Any, name: str) -> tuple[str, ...]:
    """The patterns of `spec` for `net`, called `name`; `UserError` where it has not so many layers."""
    if not spec.freeze_until:
        return tuple(spec.freeze)
    if not hasattr(net, "layer_names"):
        raise UserError(
            f"optim.{name}.freeze_until={spec.freeze_until}: net {name!r} has no list of layers;"
            " use optim...freeze with patterns of parameter paths"
        )
    layers = net.layer_names()
    if not 0 <= spec.freeze_until <= len(layers):
        raise UserError(
            f"optim.{name}.freeze_until={spec.freeze_until}: net {name!r} has {len(layers)} layers:"
            f" {', '.join(layer for layer, _ in layers)}"
        )
    listed = (pattern for _, pattern in layers[: spec.freeze_until] if pattern)
    return (*spec.freeze, *listed)


def frozen_paths(patterns: Iterable[str], paths: Iterable[str], net: str) -> set[str]:
    """The `paths` that some pattern matches in full.

    Raises `UserError` for a pattern that matches nothing (all of them named), or if all is frozen.
    """
    paths, patterns = list(paths), list(patterns)
    matched = {pattern: [p for p in paths if re.fullmatch(pattern, p)] for pattern in patterns}
    idle = [pattern for pattern, found in matched.items() if not found]
    if idle:
        raise UserError(
            f"freeze patterns of {net!r} that match no parameter: {', '.join(idle)};"
            f" paths look like {', '.join(paths[:3])}"
        )
    frozen = {p for found in matched.values() for p in found}
    if paths and len(frozen) == len(paths):
        raise UserError(
            f"{', '.join(patterns)} freezes every parameter of {net!r}: nothing to train"
        )
    return frozen
