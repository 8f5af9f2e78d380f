"""Checkpoints of a run: Orbax underneath, a SHA-256 manifest on top, and the lock of a workdir.

Orbax survives kills and full disks, but restores a file with a flipped bit without a word; so every
finished step gets a manifest, a step that does not match it is put aside, and the one before is used.
"""

import fcntl
import hashlib
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from artifygan_jax.errors import UserError

MANIFEST = "manifest.json"


def lock(workdir: pathlib.Path):
    """An open file that holds `workdir` for this process; `UserError` where another has it.

    The system lets go of it when the process ends, however it ends.
    """
    file = open(workdir / ".lock", "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        raise UserError(
            f"{workdir} is in use by process {file.read().strip() or '?'}:"
            " wait for it, stop it, or use another --workdir"
        ) from error
    file.truncate(0)
    file.write(f"{os.getpid()} on {os.uname().nodename}")
    file.flush()
    return file


class Checkpoints:
    """The checkpoints in `directory`: the last `keep`, and the one with the lowest metric `best`."""

    def __init__(self, directory: pathlib.Path, *, keep: int = 2, best: str = ""):
        self.directory, self.best = directory.absolute(), best
        policies: list[Any] = [checkpoint_managers.LatestN(keep)]
        tracked: dict[str, Any] = {}
        if best:
            metric = lambda m: m.get(best, float("inf"))  # noqa: E731
            lowest = checkpoint_managers.BestN(
                get_metric_fn=metric, reverse=True, n=1, keep_checkpoints_without_metrics=False
            )
            policies.append(lowest)
            # The policy decides; but only with these does Orbax write the metrics down, without
            # which a run that resumes has forgotten its best and removes it.
            tracked = {"best_fn": metric, "best_mode": "min"}
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
            **tracked,
        )
        self.manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, state: Any, meta: Mapping[str, Any], metrics: Mapping[str, float]):
        """Starts to save `state` (any pytree) and `meta` (JSON) as `step`; returns before the disk has it.

        Metrics decide which step is the best.
        """
        self.wait()
        self.manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(_plain(state)), meta=ocp.args.JsonSave(dict(meta))
            ),
            metrics=dict(metrics) if self.best in metrics else None,
        )

    def wait(self) -> None:
        """Waits for a save under way and writes the manifest of what it wrote."""
        self.manager.wait_until_finished()
        for step in self.manager.all_steps():
            folder = self.directory / str(step)
            if folder.is_dir() and not (folder / MANIFEST).exists():
                _write_manifest(folder)

    def restore(self, state: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest intact (state, meta) with the structure and shardings of `state`, or None.

        A damaged step is renamed to `STEP.damaged` and the one before it taken. Raises `UserError`
        when every step is damaged.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        for step in steps:
            folder = self.directory / str(step)
            fault = _fault(folder)
            if fault is None:
                return self._read(step, state)
            logging.warning("checkpoint %d is damaged (%s); put aside", step, fault)
            aside = folder.with_name(f"{step}.damaged")
            shutil.rmtree(aside, ignore_errors=True)  # the same step, damaged once before
            os.rename(folder, aside)
            self.manager.reload()
        if steps or list(self.directory.glob("*.damaged")):
            raise UserError(
                f"every checkpoint in {self.directory} is damaged;"
                " add --restart to begin anew in this workdir (the damaged ones are removed)"
            )
        return None

    def _read(self, step: int, state: Any) -> tuple[Any, dict[str, Any]]:
        plain = _plain(state)
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, plain)
        args = ocp.args.Composite(
            state=ocp.args.PyTreeRestore(
                target, restore_args=ocp.checkpoint_utils.construct_restore_args(target)
            ),
            meta=ocp.args.JsonRestore(),
        )
        found = self.manager.restore(step, args=args)
        restored = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(found["state"]))
        # A copy of our own: the step donates its state, and restored buffers may be shared.
        return jax.tree.map(lambda x: x.copy(), restored), dict(found["meta"])

    def close(self) -> None:
        """Finishes what is under way."""
        self.wait()
        self.manager.close()


def _plain(state: Any) -> dict[str, Any]:
    """A pytree as a flat dictionary of arrays, in the order of its leaves: what is on disk.

    Positions are part of the names so that flattening the dictionary gives the leaves in order.
    """
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        f"{i:05d}{jax.tree_util.keystr(p)}".replace("/", "."): x for i, (p, x) in enumerate(leaves)
    }


def _write_manifest(folder: pathlib.Path) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    listing = {str(p.relative_to(folder)): _sha256(p) for p in files}
    fresh = folder / (MANIFEST + ".tmp")
    with open(fresh, "w") as out:
        json.dump(listing, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    os.replace(fresh, folder / MANIFEST)


def _fault(folder: pathlib.Path) -> str | None:
    """What is wrong with a checkpoint, or None. One without a manifest was just committed by Orbax."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        listing = json.loads((folder / MANIFEST).read_text())
    except ValueError:
        return "its manifest is not JSON"
    for name, digest in listing.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _sha256(path) != digest:
            return f"{name} has changed"
    return None


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
