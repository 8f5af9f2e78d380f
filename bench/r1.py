"""How should gradients of gradients be taken? R1 and path lengths, forward over reverse or twice reverse.

    python bench/r1.py --size=64 --batch=16 --base=2048

Rows are the gradients by all parameters of: the discriminator's logits ("no penalty", a scale for
the rest), R1, and path lengths. `library` is the gradient of a directional derivative
(`methods.stylegan2_ada.r1`, `path_lengths`), `reverse twice` jax's gradient of a gradient, torch its
double backward on the same weights. `ratio` is the time of a row / that of `library`.
"""

import argparse
from collections.abc import Callable
from typing import Any

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax import phases
from artifygan_jax.methods import stylegan2_ada
from artifygan_jax.nets import ops, stylegan2

LIMIT = 1e-3  # relative, of the length of all gradients: second derivatives at kinks
MEAN, DECAY = 0.3, 0.01


def options(parser: argparse.ArgumentParser) -> None:
    """The flags of this script."""
    parser.add_argument("--size", type=common.numbers, default=[64])
    parser.add_argument("--batch", type=common.numbers, default=[16])
    parser.add_argument("--base", type=int, default=2048, help="of the widths: base / resolution")
    parser.add_argument("--what", default="no penalty,r1,path")


def measure(args: argparse.Namespace, metric: str) -> dict[str, Any]:
    """All rows of one run."""
    rows, missing = [], common.torch_missing(args)
    for size in args.size:
        for batch in args.batch:
            for what in args.what.split(","):
                found = case(args, metric, what, size, batch)
                for name, seconds in found.items():
                    rows.append(
                        {
                            "what": what,
                            "size": size,
                            "batch": batch,
                            "contender": name,
                            "ms": 1e3 * seconds,
                            "ratio": seconds / found["library"],
                        }
                    )
    return {"rows": rows, "notes": [missing] if missing else []}


def case(args, metric: str, what: str, size: int, batch: int) -> dict[str, float]:
    """Seconds by contender, after their gradients were compared."""
    channels = stylegan2.widths(size, args.base, 256)
    rng = np.random.default_rng(0)
    if what == "path":
        made = stylegan2.GeneratorOptions(channels, z_size=256, w_size=256, mapping_layers=2)
        net: Any = stylegan2.Generator(made, rngs=nnx.Rngs(0))
        inputs = [rng.normal(size=(batch, 256)), rng.normal(size=(batch, size, size, 3))]
    else:
        made = stylegan2.DiscriminatorOptions(channels)
        net = stylegan2.Discriminator(made, rngs=nnx.Rngs(0))
        inputs = [rng.normal(size=(batch, size, size, 3))]
    arrays = [np.asarray(x, np.float32) for x in inputs]
    contenders = {name: ours(net, loss, arrays) for name, loss in LOSSES[what].items()}
    results = {name: flat(run()) for name, run in contenders.items()}
    if not common.torch_missing(args):
        contenders["torch eager"] = theirs(net, what, arrays)
        results["torch eager"] = flat(contenders["torch eager"]())
    compare(results)
    return common.interleave(contenders, args.rounds, metric)


def ours(net: nnx.Module, loss: Callable, arrays: list[np.ndarray]):
    """All gradients `{path: array}` of `loss(net, *arrays)`, as one program."""
    graph, params, buffers = phases.take_apart(net)

    def total(params, buffers, *arrays):
        return loss(phases.assemble(graph, params | buffers), *arrays)

    run, given = ops.jit(jax.grad(total)), [jnp.asarray(x) for x in arrays]
    return lambda: run(params, buffers, *given)


def theirs(net: Any, what: str, arrays: list[np.ndarray]):
    """The same in torch; gradients in our layout."""
    import torch
    import torch_stylegan2 as rival

    device = common.torch_device()
    values = {k: np.asarray(x) for k, x in phases.values(net).items()}
    made = rival.Generator if what == "path" else rival.Discriminator
    other = made(net.options, values, device=device)
    given = [torch.from_numpy(np.ascontiguousarray(x)).to(device) for x in arrays]
    given = [x.permute(0, 3, 1, 2).contiguous() if x.ndim == 4 else x for x in given]

    def run():
        other.zero_grad(set_to_none=True)
        if what == "no penalty":
            other(*given).sum().backward()
        elif what == "r1":
            rival.r1(other, *given).backward()
        else:
            rival.path_penalty(other, *given, mean=MEAN, decay=DECAY).backward()
        return other.gradients

    return lambda: run()


def flat(grads: Any) -> np.ndarray:
    """All gradients as one vector, by path."""
    found = grads() if callable(grads) else grads
    return np.concatenate([np.ravel(np.asarray(found[k], np.float64)) for k in sorted(found)])


def compare(results: dict[str, np.ndarray]) -> None:
    """Refuses to time gradients that are not those of the library."""
    wanted = results["library"]
    for name, found in results.items():
        worst = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
        if not worst <= LIMIT:
            raise RuntimeError(f"gradients of {name} differ by {worst:.1e}: not timed")


def r1_twice(d, x) -> jax.Array:
    """The mean squared gradient, plainly."""
    return jnp.square(jax.grad(lambda x: d(x).sum())(x)).sum() / len(x)


def path_library(g, z, y) -> jax.Array:
    """Path lengths as the method has them."""
    along = lambda ws: (g.synthesis(ws) * y).sum() / y.shape[1]  # noqa: E731
    return stylegan2_ada.path_lengths(along, g.mapping(z), jnp.float32(MEAN), DECAY)[3]


def path_twice(g, z, y) -> jax.Array:
    """Path lengths, plainly."""
    slope = jax.grad(lambda ws: (g.synthesis(ws) * y).sum() / y.shape[1])(g.mapping(z))
    lengths = jnp.sqrt(jnp.square(slope).sum(2).mean(1))
    return jnp.square(lengths - (MEAN + DECAY * (lengths.mean() - MEAN))).mean()


LOSSES: dict[str, dict[str, Callable]] = {
    "no penalty": {"library": lambda d, x: d(x).sum()},
    "r1": {"library": lambda d, x: stylegan2_ada.r1(d, x)[1], "reverse twice": r1_twice},
    "path": {"library": path_library, "reverse twice": path_twice},
}

if __name__ == "__main__":
    common.main(__doc__, options, measure)
