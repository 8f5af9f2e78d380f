"""A dataset of twelve pictures, written by tfds as the real ones are."""

import io
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

COUNT = {"train": 9, "test": 3}
CATEGORIES = ["person", "traffic light"]


class TinyFaces(tfds.core.GeneratorBasedBuilder):
    """Picture i is grey level 10 i; even ones smile, each third wears glasses."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="png"),
            "name": tfds.features.Text(),
            "attributes": {"Smiling": np.bool_, "Eyeglasses": np.bool_},
            "tags": tfds.features.Sequence(tfds.features.Text()),
            "objects": tfds.features.Sequence(
                {"category": tfds.features.ClassLabel(names=CATEGORIES)}
            ),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 9), "test": self._generate_examples(9, 3)}

    def _generate_examples(self, start, count):
        for i in range(start, start + count):
            data = io.BytesIO()
            Image.fromarray(picture(i)).save(data, "PNG")
            yield (
                i,
                {
                    "image": data.getvalue(),
                    "name": f"{i:03}.png",
                    "attributes": {"Smiling": i % 2 == 0, "Eyeglasses": i % 3 == 0},
                    "tags": ["1girl", ":d"] if i == 4 else ["1girl"],
                    "objects": [{"category": "traffic light"}] * 2 if i == 5 else [],
                },
            )


def picture(i: int) -> np.ndarray:
    """Grey level 10 i with a grain that does not compress, so that a record is worth a flipped bit."""
    noise = np.random.default_rng(i).integers(0, 8, (40, 40, 3), np.uint8)
    return (10 * i + noise).astype(np.uint8)


def write(folder: pathlib.Path) -> pathlib.Path:
    """The dataset below `folder`; returns the folder of the version."""
    builder = TinyFaces(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=2, try_download_gcs=False)
    )
    return pathlib.Path(builder.data_dir)
