"""What the benchmarks of formulations share: layers, directions, comparison, rows.

A form is a function `(x, weights) -> y`; all forms of a layer give the same numbers. Directions:
`forward`; `gradient`, forward and all gradients; `r1`, the gradient by the weights of half the
squared length of the gradient by `x` behind a leaky ReLU, reverse over a directional derivative;
`r1 reverse`, the same by differentiating twice in reverse.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import _common as common
import jax
import jax.numpy as jnp
import numpy as np

from artifygan_jax.errors import UserError
from artifygan_jax.nets import ops

# Relative, of the lengths of differences: float32 sums in another order, and units at the kink.
LIMIT = 1e-3
Form = Callable[[jax.Array, Any], jax.Array]
Layer = tuple[int, int, int]  # side of the input, inputs, outputs


def options(parser: argparse.ArgumentParser, layers: str) -> None:
    """The flags of these scripts."""
    parser.add_argument("--sizes", default=layers, help=f"SIDExINPUTSxOUTPUTS,... ({layers})")
    parser.add_argument("--batch", type=common.numbers, default=[16])
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--directions", default="forward,gradient,r1,r1 reverse")
    parser.add_argument("--forms", default="", help="substrings of their names (all)")


def layers(args: argparse.Namespace) -> Iterator[tuple[Layer, int]]:
    """Every (layer, batch) that the flags ask for."""
    for text in args.sizes.split(","):
        try:
            side, inputs, outputs = (int(part) for part in text.split("x"))
        except ValueError:
            raise UserError(
                f"--sizes={text}; write SIDExINPUTSxOUTPUTS, such as 32x64x32"
            ) from None
        yield from (((side, inputs, outputs), batch) for batch in args.batch)


def measure(
    args: argparse.Namespace,
    metric: str,
    what: str,
    forms: Mapping[str, Form],
    arrays: tuple[np.ndarray, Any],
) -> list[dict[str, Any]]:
    """Rows of one layer: every form in every direction, after their results were compared."""
    wanted = args.forms.split(",")
    chosen = {k: f for k, f in forms.items() if any(w in k for w in wanted)}
    x, weights = jax.tree.map(lambda a: jnp.asarray(a, args.dtype), arrays)
    macs = {k: ops.count_macs(f, x, weights) for k, f in chosen.items()}
    rows = []
    for direction in args.directions.split(","):
        if direction not in DIRECTIONS:
            raise UserError(f"--directions={direction}; allowed are {', '.join(DIRECTIONS)}")
        if direction != "forward" and not jax.tree.leaves(weights) and direction != "gradient":
            continue  # what has no weights has no gradient by them
        programs = {k: ops.jit(DIRECTIONS[direction](f)) for k, f in chosen.items()}
        check(direction, programs, jax.tree.map(jnp.asarray, arrays))
        runs = {k: lambda p=p: p(x, weights) for k, p in programs.items()}
        found = common.interleave(runs, args.rounds, metric)
        base = next(iter(found.values()))
        for name, seconds in found.items():
            rows.append(
                {
                    "what": what,
                    "direction": direction,
                    "form": name,
                    "ms": 1e3 * seconds,
                    "gmac_forward": 1e-9 * macs[name],
                    "ratio": seconds / base,
                }
            )
    return rows


def check(direction: str, programs: Mapping[str, Callable], arrays) -> None:
    """Refuses to time forms of which one gives something else than the first, in float32."""
    results = {}
    with common.exactly():
        for name, run in programs.items():
            results[name] = jax.device_get(jax.tree.leaves(run(*arrays)))
    wanted = next(iter(results.values()))
    for name, found in results.items():
        for a, b in zip(found, wanted, strict=True):
            worst = float(np.linalg.norm(a - b) / np.linalg.norm(b))
            if not worst <= LIMIT:
                raise RuntimeError(f"{direction}: {name} differs by {worst:.1e}: not timed")


def _gradient(form: Form):
    def run(x, weights):
        y, back = jax.vjp(form, x, weights)
        return y, back(_weights_of_outputs(y))

    return run


def _value(form: Form, x, weights) -> jax.Array:
    y = form(x, weights)
    y = jnp.where(y > 0, y, 0.2 * y)
    return jnp.sum((y * _weights_of_outputs(y)).astype(jnp.float32))


def _weights_of_outputs(y: jax.Array) -> jax.Array:
    """Some numbers that are not all the same, so that no sum over pixels is simplified away."""
    return jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape).astype(y.dtype)


def _r1(form: Form):
    def run(x, weights):
        along = jax.grad(lambda x: _value(form, x, weights))(x)

        def slope(weights):
            return jax.jvp(lambda x: _value(form, x, weights), (x,), (along,))[1]

        return jax.grad(slope)(weights)

    return run


def _r1_reverse(form: Form):
    def run(x, weights):
        def penalty(weights):
            slopes = jax.grad(lambda x: _value(form, x, weights))(x)
            return jnp.square(slopes.astype(jnp.float32)).sum() / 2

        return jax.grad(penalty)(weights)

    return run


DIRECTIONS: Mapping[str, Callable[[Form], Callable]] = {
    "forward": lambda form: form,
    "gradient": _gradient,
    "r1": _r1,
    "r1 reverse": _r1_reverse,
}
