"""Data parallelism: one mesh axis `data`; batches are split over it, the state is on every device."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from artifygan_jax.errors import UserError


def make_mesh(devices: int | None = None) -> Mesh:
    """A mesh over the first `devices` devices of all processes, or over all."""
    chosen = jax.devices()[:devices]
    # Auto: with jax's newer default (Explicit) a reshape of a sharded axis is an error.
    return jax.make_mesh((len(chosen),), ("data",), axis_types=(AxisType.Auto,), devices=chosen)


def check_batch(mesh: Mesh, batch_size: int, accumulate: int = 1) -> None:
    """`UserError` unless the devices and the accumulation divide the batch."""
    parts = mesh.size * accumulate
    if batch_size < 1 or batch_size % parts:
        raise UserError(
            f"batch_size {batch_size} does not divide over {mesh.size} devices x {accumulate}"
            f" accumulated parts; use a multiple of {parts}"
        )


def replicate(mesh: Mesh, tree):
    """A copy of `tree` on every device of `mesh`, which no donation of the original can touch."""
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.jit(lambda t: jax.tree.map(lambda x: x.copy(), t), out_shardings=sharding)(tree)


def put_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's part of a batch, as global arrays split over `data`. Returns at once."""
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    return {k: jax.make_array_from_process_local_data(sharding, x) for k, x in batch.items()}
