"""Does this machine's device compute what its CPU computes?

One forward pass of an ArtifyGAN generator and the losses and gradients of one training step of both
nets, from the same seeds, on the default device and on the CPU backend of the same process, float32
with the highest matrix precision. Prints the differences and, last, one JSON object; exit code 1
where one is above the limit. Where the default device is the CPU the answer is 0, and it says so.

    python bench/parity.py
"""

import argparse
import json
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from artifygan_jax.nets import cartoongan

# Sums in another order should differ by 1e-6 to 1e-4; TF32 has a rounding error of 5e-4 a product.
# Not yet measured on a GPU.
LIMIT = 1e-3


def difference(a, b) -> float:
    """Largest |a - b| over two trees of arrays, relative to the largest |b|; inf if not finite."""
    pairs = [
        (np.asarray(x), np.asarray(y))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    ]
    if not all(np.isfinite(x).all() and np.isfinite(y).all() for x, y in pairs):
        return float("inf")
    worst = max(float(np.abs(x - y).max()) for x, y in pairs)
    return worst / max(float(np.abs(y).max()) for _, y in pairs)


def compute(device: Any, size: int) -> dict:
    """Pictures, losses and gradients on `device`, as numpy arrays."""
    with jax.default_device(jax.devices("cpu")[0]):  # one place makes the weights for both
        rngs = nnx.Rngs(0)
        nets = (
            cartoongan.build("generator", {"channels": 32, "blocks": 2}, rngs=rngs),
            cartoongan.build("discriminator", {"channels": 16}, rngs=rngs),
        )
        graph, weights = nnx.split(nets)
        photo, cartoon = jax.random.uniform(jax.random.key(1), (2, 2, size, size, 3)) * 2 - 1
    weights, photo, cartoon = jax.device_put((weights, photo, cartoon), device)

    def losses(weights):
        generator, discriminator = nnx.merge(graph, weights)
        fake = generator(photo)
        g = jnp.square(discriminator(fake) - 1).mean() + jnp.square(fake - photo).mean()
        d = jnp.square(discriminator(cartoon) - 1).mean() + jnp.square(discriminator(fake)).mean()
        return g + d, {"pictures": fake, "losses": jnp.stack([g, d])}

    with jax.default_matmul_precision("highest"):
        gradients, out = jax.jit(jax.grad(losses, has_aux=True))(weights)
    return jax.device_get({**out, "gradients": gradients})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, default=64, help="side of the pictures (64)")
    size = parser.parse_args().size
    device = jax.devices()[0]
    if device.platform == "cpu":
        print("the default device is the CPU: nothing is compared with it", file=sys.stderr)
    ours, cpu = compute(device, size), compute(jax.devices("cpu")[0], size)
    differences = {name: difference(ours[name], cpu[name]) for name in cpu}
    for name, value in differences.items():
        print(f"{name:10s} {value:.2e}", file=sys.stderr)
    worst = max(differences.values())
    device_name = f"{device.platform} {device.device_kind}"
    print(json.dumps({"device": device_name, "difference": worst, "limit": LIMIT, **differences}))
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
