"""How fast is each convolution of the nets, and its gradients? Guards against changes of jaxlib.

    python bench/conv_layers.py --model=artifygan --size=256 --batch=1

Every distinct layer of generator and discriminator with its padding and bias: forward, gradient by
the input (dgrad) and by kernel and bias (wgrad), in GFLOP/s of the forward pass's count. `jax` is
`nets.ops.jit`, `jax default` plain `jax.jit` (left out where both are the same), torch is eager,
NCHW and channels_last. `ratio` is time / torch eager's time.
"""

import argparse
from typing import Any

import _common as common
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax import phases
from artifygan_jax.errors import UserError
from artifygan_jax.nets import ops
from artifygan_jax.nets.cartoongan import Discriminator, Generator

LIMIT = (
    1e-3  # of the largest value: sums of up to 2304 products, or of all pixels, in another order
)


def options(parser: argparse.ArgumentParser) -> None:
    """The flags of this script."""
    parser.add_argument("--model", default="artifygan")
    parser.add_argument("--size", type=common.numbers, default=[256])
    parser.add_argument("--batch", type=common.numbers, default=[1])
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--channels", type=int, default=0, help="of the first layer (0: config's)")
    parser.add_argument("--layers", default="", help="names, such as g/stem,d/conv3 (all)")


def measure(args: argparse.Namespace, metric: str) -> dict[str, Any]:
    """All rows of one run."""
    peak = common.peak(args, args.dtype, metric)
    rows, missing = [], common.torch_missing(args)
    for model, size, batch in common.cases(args):
        cfg = common.experiment(common.MODELS[model], size, batch, args.channels)
        wanted = args.layers.split(",") if args.layers else None
        layers = distinct(cfg.method, size)
        if unknown := set(wanted or ()) - set(layers):
            raise UserError(f"--layers={','.join(unknown)}; there are {', '.join(layers)}")
        for name in wanted or layers:
            layer, side = layers[name]
            inputs = layer.kernel.shape[2]
            x = np.random.default_rng(0).normal(size=(batch, side, side, inputs))
            x = np.asarray(x, np.float32)
            macs = ops.count_macs(layer, jnp.asarray(x))
            for what, contenders in directions(args, layer, x).items():
                found = common.interleave(contenders, args.rounds, metric)
                for contender, seconds in found.items():
                    rows.append(
                        {
                            "model": model,
                            "layer": name,
                            "shape": describe(layer, side, batch),
                            "direction": what,
                            "contender": contender,
                            "gflops": 2e-9 * macs / seconds,
                            "peak": 2e-9 * macs / seconds / peak,
                            "ratio": seconds / found["torch eager"]
                            if "torch eager" in found
                            else None,
                        }
                    )
    return {"peak_gflops": peak, "rows": rows, "notes": [missing] if missing else []}


def distinct(method, size: int) -> dict[str, tuple[Any, int]]:
    """{name: (layer, side of its input)} of the layers that differ in shape, stride or padding."""
    g = Generator(method.generator, rngs=nnx.Rngs(0))
    d = Discriminator(method.discriminator, rngs=nnx.Rngs(0))
    half, quarter = size // 2, size // 4
    layers = {
        "g/stem": (g.stem, size),
        "g/down/0/conv1": (g.down[0].conv1, size),
        "g/down/0/conv2": (g.down[0].conv2, half),
        "g/down/1/conv1": (g.down[1].conv1, half),
        "g/down/1/conv2": (g.down[1].conv2, quarter),
        "g/blocks/0/conv1": (g.blocks[0].conv1, quarter) if g.blocks else None,
        "g/up/0/conv1": (g.up[0].conv1, quarter),
        "g/up/0/conv2": (g.up[0].conv2, half),
        "g/up/1/conv1": (g.up[1].conv1, half),
        "g/up/1/conv2": (g.up[1].conv2, size),
        "g/out": (g.out, size),
        **{f"d/conv{i}": (getattr(d, f"conv{i}"), size) for i in (1, 2)},
        **{f"d/conv{i}": (getattr(d, f"conv{i}"), half) for i in (3, 4)},
        **{f"d/conv{i}": (getattr(d, f"conv{i}"), quarter) for i in (5, 6, 7)},
    }
    found, seen = {}, set()
    for name, entry in layers.items():
        if entry is None or entry[0] is None:
            continue
        shape = describe(*entry, batch=1)
        if shape not in seen:
            seen.add(shape)
            found[name] = entry
    return found


def describe(layer, side: int, batch: int) -> str:
    """Such as `3x3 64>128 /2 zero @256 b1`."""
    k, _, inputs, outputs = layer.kernel.shape
    transposed = isinstance(layer, ops.ConvTranspose)
    kind = "x2" if transposed else f"/{layer.stride} {layer.padding}"
    return f"{k}x{k} {inputs}>{outputs} {kind} @{side} b{batch}"


def directions(args, layer, x: np.ndarray) -> dict[str, common.Contenders]:
    """{direction: contenders} of one layer on input `x`, after the results were compared."""
    contenders = {"jax": ours(layer, x, ops.jit, args.dtype)}
    if ops.compiler_options() is not None:
        contenders["jax default"] = ours(layer, x, jax.jit, args.dtype)
    if not common.torch_missing(args):
        import torch_reference as reference

        for layout in reference.LAYOUTS:
            contenders[f"torch {layout}"] = theirs(layer, x, layout, args.dtype)
        plain = args.dtype == "float32"
        check(
            layer,
            contenders["jax"] if plain else ours(layer, x, ops.jit, "float32"),
            contenders["torch eager"] if plain else theirs(layer, x, "eager", "float32"),
        )
    names = ("forward", "dgrad", "wgrad")
    return {what: {k: c[what] for k, c in contenders.items()} for what in names}


def ours(layer, x: np.ndarray, jit, dtype: str) -> common.Contenders:
    """Forward, dgrad and wgrad in jax, each a program of its own."""
    graph, state = nnx.split(layer)
    arrays = jnp.asarray(x, dtype)

    def forward(state, x):
        return nnx.merge(graph, state)(x)

    def dgrad(state, x, dy):
        return jax.vjp(lambda x: forward(state, x), x)[1](dy)[0]

    def wgrad(state, x, dy):
        return jax.vjp(lambda state: forward(state, x), state)[1](dy)[0]

    run, by_input, by_weights = jit(forward), jit(dgrad), jit(wgrad)
    dy = jnp.ones_like(run(state, arrays))
    return {
        "forward": lambda: run(state, arrays),
        "dgrad": lambda: by_input(state, arrays, dy),
        "wgrad": lambda: by_weights(state, arrays, dy),
    }


def theirs(layer, x: np.ndarray, layout: str, dtype: str) -> common.Contenders:
    """The same in torch, with the same weights; the graph is kept, so only backward is timed."""
    import torch
    import torch_reference as reference

    torch.backends.cudnn.benchmark = True
    k, _, inputs, outputs = layer.kernel.shape
    if isinstance(layer, ops.ConvTranspose):
        net = torch.nn.ConvTranspose2d(inputs, outputs, k, 2, 1, output_padding=1)
    else:
        mode = "reflect" if layer.padding == "reflect" else "zeros"
        net = reference.conv(inputs, outputs, k, layer.stride, mode)
    device = common.torch_device()
    net = reference.filled(net, phases.values(layer), device, layout).to(getattr(torch, dtype))
    arrays = reference.pictures(x, device, layout).to(getattr(torch, dtype)).requires_grad_()
    y = net(arrays)
    dy = torch.ones_like(y)

    def forward():
        with torch.no_grad():
            return net(arrays)

    def gradient(of):
        return lambda: torch.autograd.grad(y, of, dy, retain_graph=True)[0]

    return {
        "forward": forward,
        "dgrad": gradient([arrays]),
        "wgrad": gradient([net.weight, net.bias]),
    }


def check(layer, mine: common.Contenders, theirs: common.Contenders) -> None:
    """Refuses to time layers whose results in float32 differ between ours and torch."""
    import torch_reference as reference

    axes = (2, 3, 0, 1) if isinstance(layer, ops.ConvTranspose) else (3, 2, 0, 1)
    with common.exactly(), reference.exact():
        found = {what: (run(), theirs[what]()) for what, run in mine.items()}
    for what, (a, b) in found.items():
        if what == "wgrad":
            a = np.asarray(a["kernel"].get_value()).transpose(axes)
        else:
            a = np.asarray(a).transpose(0, 3, 1, 2)
        b = b.detach().cpu().numpy()
        worst = float(np.abs(a - b).max() / np.abs(b).max())
        if not worst <= LIMIT:
            raise RuntimeError(f"{what} of jax and torch differ by {worst:.2e}: not timed")


if __name__ == "__main__":
    common.main(__doc__, options, measure)
