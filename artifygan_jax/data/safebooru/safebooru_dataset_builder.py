"""`safebooru`: drawn pictures with tags, from a booru's metadata and pictures on disk or downloaded.

Prepare with `prepare_safebooru`; read with `tfds.builder_from_directory` or `data.records`. The
stored pictures are the files as they came, byte for byte: JPEG, PNG or WebP.
"""

import functools
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from artifygan_jax.data import building
from artifygan_jax.data.fetch import Fetcher, Manners
from artifygan_jax.data.safebooru import contents as safebooru
from artifygan_jax.data.safebooru.download import HOSTS, Downloaded, download_pictures
from artifygan_jax.data.safebooru.posts import Metadata, find_metadata, open_metadata
from artifygan_jax.data.safebooru.select import Rules, Tally
from artifygan_jax.data.safebooru.tags import parse_tags
from artifygan_jax.data.sources import Contents, Say, size_of
from artifygan_jax.errors import UserError

PAGE = "https://www.kaggle.com/datasets/alamson/safebooru"


class Builder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Safebooru. With `contents` from `contents.collect` (as `prepare_safebooru` has it), or, without,
    from `download_config.manual_dir`: one metadata file, and the pictures in `safebooru_pictures`."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put all_data.csv from {PAGE} (or posts as JSON) here,"
        f" and the pictures, named by their posts' ids, into {safebooru.PICTURES}/."
    )
    name = "safebooru"

    def __init__(
        self, *, contents: Contents | None = None, say: Say = lambda line: None, **place: Any
    ):
        self._contents, self._say = contents, say
        super().__init__(**{"file_format": building.FILE_FORMAT, **place})

    def _info(self) -> tfds.core.DatasetInfo:
        return building.describe(
            self,
            {
                # no encoding: tfds stores the bytes, and JPEG, PNG and WebP are mixed
                "image": tfds.features.Image(shape=(None, None, 3)),
                "name": tfds.features.Text(),
                "id": np.int64,
                "rating": tfds.features.Text(),
                "tags": tfds.features.Sequence(tfds.features.Text()),
                "width": np.int64,
                "height": np.int64,
                "created": np.int64,  # unix time; 0 where it is not known
                "score": np.int64,
            },
            description="Drawn pictures with tags. The copyright is the artists'.",
            homepage=PAGE,
            record=self._contents.record if self._contents else {},
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[building.Shard]]:
        contents = self._contents
        if contents is None:
            folder = Path(dl_manager.manual_dir)
            metadata = open_metadata(find_metadata(folder))
            pictures = folder / safebooru.PICTURES
            contents = safebooru.collect(metadata, pictures, Rules(), None, self._say)
        record: Any = self.info.metadata
        record.update(contents.record)
        contents.record = record  # what is left out while writing is counted there
        entries = contents.splits["train"]
        size = sum(min(size_of(entry), building.LARGE) for entry in entries)
        count = min(len(entries), -(-size // building.SHARD_BYTES)) or 1
        edges = [round(len(entries) * i / count) for i in range(count + 1)]
        shards = zip(edges, edges[1:])
        return {
            "train": [
                functools.partial(safebooru.examples, contents, entries[a:b], self._say)
                for a, b in shards
            ]
        }


def prepare_safebooru(
    source: str | os.PathLike,
    output: str | os.PathLike,
    *,
    pictures: str | os.PathLike | None = None,
    download: bool = False,
    tags: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    min_size: int = 0,
    count: int | None = None,
    workers: int = 4,
    rate: float = 2.0,
    hosts: Sequence[str] = HOSTS,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Builds `output/safebooru/1.0.0`, split `train`, from posts in file or folder `source`; the summary.

    The pictures are those of `pictures` (a folder, a zip), or with `download` those that are
    downloaded to `output/safebooru_pictures` first, from `hosts` alone, with `workers` threads and
    `rate` requests per second; without either, those that lie there. Of posts rated for everyone the
    first `count` are taken that have all of `tags` and none of `without` (names with blanks are
    fine, `tags.DECK_TAGS` says how some are translated) and no side under `min_size` pixels.
    A download that gave up has `stopped` in the summary, and builds nothing.
    A finished set from the same files and options is kept, with `already`. Raises `UserError`.
    """
    _check(pictures, download, count, workers, rate, min_size)
    rules = Rules(parse_tags(tags), parse_tags(without), min_size)
    if both := set(rules.tags) & set(rules.without):
        raise UserError(f"tag {sorted(both)[0]} is asked for and ruled out; drop one of them")
    metadata = open_metadata(find_metadata(Path(source).expanduser()))
    say(f"{metadata.path}: {metadata.kind} metadata, {metadata.layout}")
    output = Path(output).expanduser()
    folder = Path(pictures).expanduser() if pictures else output / safebooru.PICTURES
    downloads: dict[str, Any] = {}
    if download:
        fetcher = Fetcher(Manners(hosts=tuple(hosts), rate=rate))
        run, tally = download_pictures(
            metadata, folder, fetcher, rules, count=count, workers=workers, say=say
        )
        downloads = _downloads(run, tally)
        if run.stopped:
            return {**downloads, "failed": run.failed, "failures": run.failures}
        if not tally.accepted:
            raise UserError(safebooru.nothing(metadata, folder, tally, Counter()))
    elif not folder.exists():
        raise UserError(
            f"{folder}: no pictures there; give their folder as --pictures, or add --download"
        )
    summary = _build(metadata, folder, output, rules, count, say)
    failures = [*downloads.pop("failures", []), *summary["failures"]]
    failed = downloads.pop("failed", 0) + summary["failed"]
    return {**summary, **downloads, "failed": failed, "failures": failures}


def _build(
    metadata: Metadata, pictures: Path, output: Path, rules: Rules, count: int | None, say: Say
) -> dict[str, Any]:
    options = {
        "tags": list(rules.tags),
        "without": list(rules.without),
        "min_size": rules.min_size,
        "count": count,
    }
    folder = output / Builder.name / str(Builder.VERSION)
    _check_options(folder, options)
    files = safebooru.files(metadata, pictures)
    summary = building.finished(folder, files, allow_missing=True, say=say)
    if summary is None:
        contents = safebooru.collect(metadata, pictures, rules, count, say)
        contents.record["options"] = options
        builder = Builder(data_dir=output, contents=contents, say=say)
        summary = building.build(builder, contents, say)
    record = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    facts = ("kind", "options", "read", "malformed", "malformed_examples", "unasked", "repeated")
    counts = ("refused", "accepted", "accepted_tags", "built_tags")
    return {**summary, **{key: record.get(key) for key in (*facts, *counts)}}


def _check_options(folder: Path, options: dict[str, Any]) -> None:
    """`UserError` where a finished data set was made with other options."""
    if not (folder / "metadata.json").exists():
        return
    try:
        before = dict(json.loads((folder / "metadata.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return  # `building.finished` says it
    old = before.get("options")
    if old is not None and old != options:
        raise UserError(
            f"{folder} was made with other options ({json.dumps(old)}); give another --output,"
            f" or remove {folder}"
        )


def _check(
    pictures: Any, download: bool, count: int | None, workers: int, rate: float, size: int
) -> None:
    if pictures and download:
        raise UserError("pictures from a folder or downloaded: give --pictures or --download")
    if count is not None and count < 1:
        raise UserError(f"--count={count}; give 1 or more, or leave it out for all")
    if not 1 <= workers <= 32:
        raise UserError(f"--workers={workers}; give 1 to 32")
    if not 0 < rate <= 20:
        raise UserError(f"--rate={rate}; give requests per second, above 0 and at most 20")
    if size < 0:
        raise UserError(f"--min_size={size}; give pixels, 0 or more")


def _downloads(run: Downloaded, tally: Tally) -> dict[str, Any]:
    return {
        "downloaded": run.kept,
        "downloaded_before": run.already,
        "given_up_before": run.given_up,
        "stopped": run.stopped,
        "failed": run.failed,
        "failures": run.failures,
        "download_refused": dict(tally.refused),
    }
