"""`celeba`: CelebA's aligned faces with attributes, landmarks, boxes and identities.

Prepare with `prepare_celeba`; read with `tfds.builder_from_directory` or `data.records`. The stored
pictures are the original JPEG files, byte for byte.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from artifygan_jax.data import building
from artifygan_jax.data.celeba import contents as celeba
from artifygan_jax.data.sources import Contents, Say
from artifygan_jax.errors import UserError


class Builder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """CelebA. With `contents` from `contents.read` (as `prepare_celeba` has it), or, without, from the
    complete official files in `download_config.manual_dir`."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put the official files from {celeba.PAGE} here: {', '.join(celeba.officials())}."
    )
    name = "celeba"

    def __init__(
        self, *, contents: Contents | None = None, say: Say = lambda line: None, **place: Any
    ):
        self._contents, self._say = contents, say
        super().__init__(**{"file_format": building.FILE_FORMAT, **place})

    def _info(self) -> tfds.core.DatasetInfo:
        record = self._contents.record if self._contents else {"features_left_out": []}
        return building.describe(
            self,
            features(set(celeba.TABLES) - set(record["features_left_out"])),
            description="CelebA, aligned and cropped faces (178x218). Non-commercial research only.",
            homepage=celeba.PAGE,
            record=record,
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[building.Shard]]:
        contents = self._contents
        if contents is None:
            files = celeba.find(Path(dl_manager.manual_dir), self._say)
            contents = celeba.read(files, allow_missing=False, say=self._say)
            if contents.record["features_left_out"]:
                raise UserError("some official files are missing; prepare_celeba does without them")
        record: Any = self.info.metadata
        record.update(contents.record)
        return building.plan(contents, record, self._say)


def features(tables: set[str]) -> dict[str, Any]:
    """The features of an example, of those `tables` (keys of `contents.TABLES`) that are there.

    `bbox` is in pixels of the uncropped pictures, `landmarks` in pixels of these.
    """
    of = {
        "attributes": dict.fromkeys(celeba.ATTRIBUTES, np.bool_),
        "landmarks": dict.fromkeys(celeba.LANDMARKS, np.int64),
        "bbox": dict.fromkeys(celeba.BBOX, np.int64),
        "identity": np.int64,
    }
    return {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
        "name": tfds.features.Text(),
        **{table: feature for table, feature in of.items() if table in tables},
    }


def prepare_celeba(
    source: str | os.PathLike,
    output: str | os.PathLike,
    *,
    allow_missing: bool = False,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Builds `output/celeba/1.0.0` from the official files in folder `source`; the summary.

    Splits `train`, `validation`, `test` as in the partition file. Files that are not the official
    ones, and pictures that tables or archive lack, are errors; with `allow_missing` they are left out
    and counted. A finished set from the same files is kept, with `already`. Raises `UserError`.
    """
    output = Path(output).expanduser()
    files = celeba.find(Path(source).expanduser(), say)
    folder = output / Builder.name / str(Builder.VERSION)
    before = building.finished(folder, files, allow_missing=allow_missing, say=say)
    if before is not None:
        return before
    contents = celeba.read(files, allow_missing=allow_missing, say=say)
    return building.build(Builder(data_dir=output, contents=contents, say=say), contents, say)
