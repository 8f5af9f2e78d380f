"""The mesh: who holds what, and which batches fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from artifygan_jax import sharding
from artifygan_jax.errors import UserError


@pytest.mark.parametrize(("devices", "size"), [(1, 1), (4, 4), (8, 8), (None, 8)])
def test_a_mesh_has_the_devices_asked_on_one_axis(devices, size):
    mesh = sharding.make_mesh(devices)
    assert mesh.size == size and mesh.axis_names == ("data",)


@pytest.mark.parametrize(("devices", "batch", "accumulate"), [(8, 8, 1), (8, 32, 4), (1, 3, 3)])
def test_batches_that_divide_are_taken(devices, batch, accumulate):
    sharding.check_batch(sharding.make_mesh(devices), batch, accumulate)


@pytest.mark.parametrize(
    ("devices", "batch", "accumulate", "multiple"), [(8, 12, 1, 8), (8, 8, 2, 16), (1, 0, 1, 1)]
)
def test_batches_that_do_not_divide_are_refused_with_the_multiple(
    devices, batch, accumulate, multiple
):
    with pytest.raises(UserError, match=f"batch_size {batch} .* multiple of {multiple}$"):
        sharding.check_batch(sharding.make_mesh(devices), batch, accumulate)


def test_a_batch_lies_split_over_the_devices_in_order():
    x = np.arange(16 * 2, dtype=np.uint8).reshape(16, 2)
    found = sharding.put_batch(sharding.make_mesh(8), {"x": x})["x"]
    np.testing.assert_array_equal(found, x)
    for shard in found.addressable_shards:
        start = 2 * shard.device.id
        np.testing.assert_array_equal(shard.data, x[start : start + 2])


def test_a_replica_is_whole_on_every_device_and_outlives_a_donation():
    first = {"a": jnp.arange(5.0), "b": {}}
    copy = sharding.replicate(sharding.make_mesh(8), first)
    assert len(copy["a"].addressable_shards) == 8
    assert all(shard.data.shape == (5,) for shard in copy["a"].addressable_shards)
    jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)(copy)
    assert copy["a"].is_deleted() and not first["a"].is_deleted()
    np.testing.assert_array_equal(first["a"], np.arange(5.0))


def test_a_replica_on_one_device_is_another_buffer():
    first = {"a": jnp.arange(5.0)}
    copy = sharding.replicate(sharding.make_mesh(1), first)
    copy["a"].delete()
    np.testing.assert_array_equal(first["a"], np.arange(5.0))


def test_nothing_is_replicated_as_nothing():
    assert sharding.replicate(sharding.make_mesh(8), {}) == {}


def test_reshaping_a_split_array_is_no_error():
    """Under jax's newer default (explicit axes) this would not trace."""
    x = sharding.put_batch(sharding.make_mesh(8), {"x": np.arange(32.0, dtype=np.float32)})["x"]
    assert float(jax.jit(lambda x: x.reshape(4, 8).sum())(x)) == 496
