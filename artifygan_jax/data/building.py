"""Building a data set with tensorflow-datasets, without TensorFlow.

tfds's `GeneratorBasedBuilder` sorts what it is given, and from 1000 MiB a split on does so through
TensorFlow's files. `ShardBasedBuilder` writes in the given order and needs none, so ours are of that
kind: records lie in the order of the pictures' names, and shards are planned from their sizes.
"""

import contextlib
import functools
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
import tqdm

from artifygan_jax.data.images import UnreadablePicture
from artifygan_jax.data.listing import Entry, writable_folder
from artifygan_jax.data.saving import sole
from artifygan_jax.data.sources import Contents, Found, Say, digest, read_jpeg, size_of
from artifygan_jax.errors import UserError

FILE_FORMAT = "array_record"
SHARD_BYTES = 128 * 2**20  # of pictures; tfds holds the pictures of the shard it writes in memory
LABEL_BYTES = 4096  # what labels and framing add to a picture, generously
# As much is counted for a larger picture: a zip that lies must not make thousands of small shards.
LARGE = 2 * 2**20

# What a shard of ours is to tfds: a function that starts its examples, as (name, features).
Shard = Callable[[], Iterator[tuple[str, dict[str, Any]]]]


class LocalInfo(tfds.core.DatasetInfo):
    """tfds's description of a data set, without the look into Google's bucket for a ready one."""

    def initialize_from_bucket(self) -> None:
        """Does nothing: ours are not there, and the look leaves an empty folder in /tmp."""


def describe(
    builder: tfds.core.DatasetBuilder,
    features: dict[str, Any],
    *,
    description: str,
    homepage: str,
    record: dict[str, Any],
) -> LocalInfo:
    """The `DatasetInfo`: features as they are on disk where the set is finished, else those given."""
    finished = (builder.data_path / "features.json").exists()
    return LocalInfo(
        builder=builder,
        description=description,
        homepage=homepage,
        disable_shuffling=True,
        features=tfds.features.FeatureConnector.from_config(builder.data_dir)  # pyright: ignore[reportArgumentType]
        if finished
        else tfds.features.FeaturesDict(features),
        metadata=tfds.core.MetadataDict(record),
    )


def plan(contents: Contents, record: dict[str, Any], say: Say) -> dict[str, list[Shard]]:
    """The shards of every split, about `SHARD_BYTES` each; nothing is read before one is started.

    A picture that cannot be read ends the build, or with `contents.allow_missing` is left out, said,
    and written to `record`. Raises `UserError`.
    """
    total = sum(map(len, contents.splits.values()))
    tick = _progress(total, say)
    shards = {}
    for split, entries in contents.splits.items():
        planned = sum(min(size_of(entry), LARGE) for entry in entries)
        count = min(len(entries), -(-planned // SHARD_BYTES)) or 1
        edges = [round(len(entries) * i / count) for i in range(count + 1)]
        shards[split] = [
            functools.partial(_examples, contents, record, split, entries[a:b], tick, say)
            for a, b in zip(edges, edges[1:])
        ]
    return shards


def build(builder: tfds.core.DatasetBuilder, contents: Contents, say: Say) -> dict[str, Any]:
    """Writes the data set below the builder's `data_dir`; its summary. Raises `UserError`.

    It appears whole under its name or not at all. What killed runs left is removed first.
    """
    root = writable_folder(builder.data_dir_root)
    target = Path(builder.data_dir)
    with sole(root / f".{builder.name}.lock"):
        for stale in target.parent.glob("incomplete.*"):
            say(f"removing {stale.name}, left by a run that was stopped")
            shutil.rmtree(stale)
        _check_space(root, contents)
        say(f"writing {target}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            contextlib.redirect_stdout(sys.stderr),  # tfds prints there; ours is for the summary
            tempfile.TemporaryDirectory(dir=target.parent, prefix="incomplete.") as downloads,
        ):
            try:
                builder.download_and_prepare(
                    file_format=FILE_FORMAT,
                    download_dir=downloads,  # tfds wants one, and it stays empty
                    download_config=tfds.download.DownloadConfig(try_download_gcs=False),
                )
            except (OSError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and "write() failed" not in str(error):
                    raise  # only array_record's word for a full disk is not a fault of ours
                raise UserError(f"{target}: cannot be written: {error}") from error
    return summary(target)


def finished(
    folder: Path, files: Mapping[str, Found], *, allow_missing: bool, say: Say
) -> dict[str, Any] | None:
    """The summary of a data set that these files gave before, with `already`; None where there is none.

    Files that were not touched since are not read. Raises `UserError` where other files gave it, or
    where it lacks pictures and `allow_missing` is not given.
    """
    if not folder.exists():
        return None
    mend = f"give another --output, or remove {folder}"
    try:
        record = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        before, left_out = dict(record["files"]), sum(record["left_out"].values())
        official = all(file["official"] is not False for file in before.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: has no readable metadata.json ({error}); {mend}") from error
    changed = [name for name in {**before, **files} if not _same(before.get(name), files.get(name))]
    if changed:
        raise UserError(f"{folder} was made from other files ({', '.join(changed)}); {mend}")
    if not allow_missing and (left_out or not official):
        raise UserError(f"{folder} was made with --allow_missing: add that too, or {mend}")
    say(f"{folder}: finished before, from the same files")
    return {**summary(folder), "already": True}


def summary(folder: Path) -> dict[str, Any]:
    """What a finished data set is, for the last line of a command."""
    info = tfds.builder_from_directory(folder).info
    record = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    splits = {name: split.num_examples for name, split in info.splits.items()}
    return {
        "path": str(folder),
        "pictures": sum(splits.values()),
        "splits": splits,
        "shards": {name: split.num_shards for name, split in info.splits.items()},
        "features_left_out": record["features_left_out"],
        "left_out": record["left_out"],
        "files": {
            name: {"sha256": file["sha256"], "official": file["official"]}
            for name, file in record["files"].items()
        },
        "already": False,
        "failed": len(record["failures"]),
        "failures": record["failures"],
    }


def _examples(
    contents: Contents,
    record: dict[str, Any],
    split: str,
    entries: list[Entry],
    tick: Callable[[], None],
    say: Say,
) -> Iterator[tuple[str, dict[str, Any]]]:
    written = 0
    for entry in entries:
        tick()
        try:
            image = read_jpeg(entry)
        except UnreadablePicture as error:
            if not contents.allow_missing:
                raise UserError(
                    f"{error}; add --allow_missing to leave such pictures out"
                ) from error
            say(f"left out: {error}")
            record["left_out"]["unreadable"] += 1
            record["failures"].append({"input": entry.name, "reason": error.cause})
            continue
        written += 1
        yield entry.name, {"image": image, "name": entry.name, **contents.labels(split, entry.name)}
    if not written:  # tfds cannot read a shard without records
        raise UserError(
            f"none of {len(entries)} pictures in a row can be read ({entries[0].name} to"
            f" {entries[-1].name} of {split}); {record['failures'][-1]['reason']}"
        )


def _progress(total: int, say: Say) -> Callable[[], None]:
    """Called once a picture: a bar on a terminal, else a line at every tenth."""
    bar = tqdm.tqdm(total=total, unit="picture", disable=None)
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        bar.update()
        if bar.disable and count * 10 // total > (count - 1) * 10 // total:
            say(f"{count} of {total} pictures")
        if count == total:
            bar.close()

    return tick


def _same(before: dict[str, Any] | None, found: Found | None) -> bool:
    if before is None or found is None:
        return False
    untouched = not found.is_folder and before.get("stamp") == found.stamp
    return untouched or before.get("sha256") == digest(found)


def _check_space(root: Path, contents: Contents) -> None:
    entries = [entry for split in contents.splits.values() for entry in split]
    needed = sum(size_of(entry) + LABEL_BYTES for entry in entries)
    free = shutil.disk_usage(root).free
    if free < needed:
        raise UserError(
            f"{root}: {free / 2**20:,.0f} MiB free, {needed / 2**20:,.0f} MiB needed;"
            " make room, or give another --output"
        )
