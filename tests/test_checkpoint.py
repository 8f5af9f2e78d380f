"""Checkpoints of a toy engine's state: whole, partly lost, on other devices; and the lock."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from artifygan_jax import sharding
from artifygan_jax.checkpoint import MANIFEST, Checkpoints, lock
from artifygan_jax.errors import UserError
from artifygan_jax.optim import Adam
from artifygan_jax.phases import Ema
from tests.test_phases import batch_of, engine_of, fresh, host


def engine():
    optim = dict(g=Adam(0.1, constant_steps=1, decay_steps=9), d=Adam(0.1))
    return engine_of(optim=optim, ema=dict(g=Ema()))


@pytest.fixture(scope="module")
def states():
    """The states after 0, 1, ... 4 steps, on one device: moments, counters, buffers, averages."""
    toy, found = engine(), []
    state = fresh(toy, devices=1)
    for step in range(5):
        found.append(host(state))
        state, _ = toy.step(state, {}, batch_of(seed=step), step)
    return found


def save(folder, states, steps=(1, 2), **kwargs):
    metrics = kwargs.pop("metrics", {})
    store = Checkpoints(folder, **kwargs)
    for step in steps:
        store.save(step, put(states[step]), {"next_index": step}, metrics.get(step, {}))
    store.close()


def put(state):
    return sharding.replicate(sharding.make_mesh(1), state)


def restore(folder, template, **kwargs):
    store = Checkpoints(folder, **kwargs)
    try:
        return store.restore(template)
    finally:
        store.close()


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, host(a), host(b))
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert [x.dtype for x in jax.tree.leaves(a)] == [x.dtype for x in jax.tree.leaves(b)]


def steps_of(folder):
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit())


def largest(folder):
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST]
    return max(files, key=lambda p: p.stat().st_size)


def test_every_leaf_comes_back_bit_equal_with_the_optimisers_too(states, tmp_path):
    save(tmp_path, states, (3,))
    found, meta = restore(tmp_path, put(states[0]))
    same(found, states[3])
    assert meta == {"next_index": 3}
    names = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(found.opt)]
    assert any("mu" in n for n in names) and any("count" in n for n in names)


def test_values_that_are_not_finite_or_tiny_or_of_other_dtypes_come_back_too(tmp_path):
    state = {
        "odd": jnp.asarray([jnp.nan, -jnp.inf, -0.0, 1e-45], jnp.float32),
        "half": jnp.asarray([1.0, 3.3], jnp.bfloat16),
        "sixteen": jnp.asarray([[0.1, 6e-8]], jnp.float16),
        "a/b.c d": {"count": jnp.asarray(2**31 - 1, jnp.int32)},
    }
    store = Checkpoints(tmp_path)
    store.save(7, state, {}, {})
    store.close()
    found, _ = restore(tmp_path, jax.tree.map(jnp.zeros_like, state))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_run_goes_on_from_it_as_if_it_had_not_stopped(states, tmp_path):
    save(tmp_path, states, (2,))
    state, _ = restore(tmp_path, put(states[0]))
    toy = engine()
    for step in (2, 3):
        state, _ = toy.step(state, {}, batch_of(seed=step), step)
    same(state, states[4])


def test_an_empty_folder_has_nothing_to_restore(states, tmp_path):
    assert restore(tmp_path / "new", put(states[0])) is None


def test_the_last_two_are_kept_and_others_removed(states, tmp_path):
    save(tmp_path, states, (1, 2, 3, 4), keep=2)
    assert steps_of(tmp_path) == [3, 4]
    assert int(restore(tmp_path, put(states[0]))[0].step) == 4


def test_the_lowest_metric_is_kept_beside_the_last_one(states, tmp_path):
    metrics = {1: {"d": 3.0}, 2: {"d": 1.0}, 3: {"d": 2.0}, 4: {"e": 0.0}}
    save(tmp_path, states, (1, 2, 3), keep=1, best="d", metrics=metrics)
    assert steps_of(tmp_path) == [2, 3]
    # a later process remembers, and a step without the metric does not win
    save(tmp_path, states, (4,), keep=1, best="d", metrics=metrics)
    assert steps_of(tmp_path) == [2, 4]


@pytest.mark.parametrize(("saved", "restored"), [(1, 8), (8, 1)])
def test_a_state_comes_back_onto_another_number_of_devices(saved, restored, states, tmp_path):
    store = Checkpoints(tmp_path)
    store.save(2, sharding.replicate(sharding.make_mesh(saved), states[2]), {}, {})
    store.close()
    template = sharding.replicate(sharding.make_mesh(restored), states[0])
    found, _ = restore(tmp_path, template)
    same(found, states[2])
    assert all(len(x.sharding.device_set) == restored for x in jax.tree.leaves(found))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(template), strict=True):
        assert a.sharding == b.sharding


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


DAMAGE = {"bit": flip, "truncated": truncate, "deleted": os.remove}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_step_is_put_aside_and_the_one_before_used(kind, states, tmp_path, caplog):
    save(tmp_path, states, (1, 2))
    DAMAGE[kind](largest(tmp_path / "2"))
    found, meta = restore(tmp_path, put(states[0]))
    same(found, states[1])
    assert meta["next_index"] == 1
    assert steps_of(tmp_path) == [1] and (tmp_path / "2.damaged").is_dir()
    assert "checkpoint 2 is damaged" in caplog.text


def test_every_file_of_a_step_is_watched(states, tmp_path):
    save(tmp_path, states, (1,))
    listing = json.loads((tmp_path / "1" / MANIFEST).read_text())
    files = {str(p.relative_to(tmp_path / "1")) for p in (tmp_path / "1").rglob("*") if p.is_file()}
    assert set(listing) == files - {MANIFEST} and len(listing) >= 3


def test_a_manifest_that_is_no_json_is_damage(states, tmp_path):
    save(tmp_path, states, (1, 2))
    truncate(tmp_path / "2" / MANIFEST)
    assert int(restore(tmp_path, put(states[0]))[0].step) == 1


def test_a_step_damaged_twice_is_put_aside_again(states, tmp_path):
    for _ in range(2):
        save(tmp_path, states, (2,) if (tmp_path / "1").exists() else (1, 2))
        flip(largest(tmp_path / "2"))
        assert int(restore(tmp_path, put(states[0]))[0].step) == 1


def test_all_damaged_is_an_error_that_says_what_to_do_and_stays_one(states, tmp_path):
    save(tmp_path, states, (1, 2))
    for step in ("1", "2"):
        flip(largest(tmp_path / step))
    for _ in range(2):  # the second time nothing but the damaged ones is there
        with pytest.raises(UserError, match="every checkpoint .* is damaged; add --restart"):
            restore(tmp_path, put(states[0]))
    assert steps_of(tmp_path) == []


def test_a_save_that_was_killed_before_its_manifest_is_taken(states, tmp_path):
    save(tmp_path, states, (1, 2))
    os.remove(tmp_path / "2" / MANIFEST)
    assert int(restore(tmp_path, put(states[0]))[0].step) == 2
    assert (tmp_path / "2" / MANIFEST).exists()  # and has one from now on


def test_the_folder_of_a_killed_save_is_ignored_and_removed(states, tmp_path):
    save(tmp_path, states, (1,))
    left = tmp_path / "2.orbax-checkpoint-tmp-1234567890"
    (left / "state").mkdir(parents=True)
    (left / "state" / "half").write_bytes(b"x")
    found, _ = restore(tmp_path, put(states[0]))
    same(found, states[1])
    assert not left.exists()


def test_a_restored_state_may_be_donated(states, tmp_path):
    save(tmp_path, states, (1,))
    found, _ = restore(tmp_path, put(states[0]))
    step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    assert int(step(found).step) == 2


def test_a_held_workdir_is_refused_with_the_process_that_holds_it(tmp_path):
    holder = lock(tmp_path)
    with pytest.raises(UserError, match=f"in use by process {os.getpid()} on .*--workdir"):
        lock(tmp_path)
    holder.close()
    lock(tmp_path).close()


def test_the_lock_goes_when_its_process_is_killed(tmp_path):
    code = (
        "import sys, time, pathlib; from artifygan_jax.checkpoint import lock;"
        "f = lock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"process {process.pid} "):
            lock(tmp_path)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    lock(tmp_path).close()
