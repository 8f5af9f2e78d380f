"""`coco`: COCO 2017 with boxes and categories; config `all`, or `person` for pictures with a person.

Prepare with `prepare_coco`; read with `tfds.builder_from_directory` or `data.records`. The pictures
are streamed from the zips and stored byte for byte; nothing is unpacked.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from artifygan_jax.data import building
from artifygan_jax.data.coco import annotations as coco
from artifygan_jax.data.sources import Contents, Say


class Builder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """COCO 2017. With `contents` from `annotations.read` (as `prepare_coco` has it), or, without, from
    the official zips in `download_config.manual_dir`."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name="all", description="Every picture."),
        tfds.core.BuilderConfig(name="person", description="At least one person, crowds aside."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Put the official zips from {coco.PAGE} here: {', '.join(coco.officials())}."
    )
    name = "coco"

    def __init__(
        self, *, contents: Contents | None = None, say: Say = lambda line: None, **place: Any
    ):
        self._contents, self._say = contents, say
        super().__init__(**{"file_format": building.FILE_FORMAT, **place})

    def _info(self) -> tfds.core.DatasetInfo:
        return building.describe(
            self,
            features(),
            description="COCO 2017. Annotations CC BY 4.0; pictures under the licence each names.",
            homepage=coco.PAGE,
            record=self._contents.record if self._contents else {},
        )

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, list[building.Shard]]:
        contents = self._contents
        if contents is None:
            contents = coco.read(
                coco.find(Path(dl_manager.manual_dir), self._say),
                person_only=self.builder_config_name == "person",
                allow_missing=False,
                say=self._say,
            )
        record: Any = self.info.metadata
        record.update(contents.record)
        return building.plan(contents, record, self._say)


def features() -> dict[str, Any]:
    """The features of an example. `bbox` is (top, left, bottom, right) in shares of the sides."""
    return {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
        "name": tfds.features.Text(),
        "id": np.int64,
        "license": np.int64,
        "objects": tfds.features.Sequence(
            {
                "id": np.int64,
                "category": tfds.features.ClassLabel(names=coco.CATEGORIES),
                "bbox": tfds.features.BBoxFeature(),
                "area": np.float32,
                "is_crowd": np.bool_,
            }
        ),
    }


def prepare_coco(
    source: str | os.PathLike,
    output: str | os.PathLike,
    *,
    person_only: bool = False,
    allow_missing: bool = False,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Builds `output/coco/all/1.0.0`, or `.../person/1.0.0`, from the official zips in `source`.

    Splits `train` and `validation`, each where its zip is there. Zips that are not the official ones,
    and pictures that annotations or zip lack, are errors; with `allow_missing` they are left out and
    counted. A finished set from the same files is kept, with `already`. Returns the summary. Raises
    `UserError`.
    """
    output = Path(output).expanduser()
    files = coco.find(Path(source).expanduser(), say)
    config = "person" if person_only else "all"
    folder = output / Builder.name / config / str(Builder.VERSION)
    before = building.finished(folder, files, allow_missing=allow_missing, say=say)
    if before is not None:
        return before
    contents = coco.read(files, person_only=person_only, allow_missing=allow_missing, say=say)
    builder = Builder(data_dir=output, config=config, contents=contents, say=say)
    return building.build(builder, contents, say)
