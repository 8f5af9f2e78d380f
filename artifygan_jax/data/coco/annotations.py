"""What is in COCO 2017's official zips: pictures, and who or what is where in them.

T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014. Annotations CC BY 4.0; each
picture has a licence of its own, 1 to 8.
"""

import dataclasses
import json
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from artifygan_jax.data import sources
from artifygan_jax.data.images import printable
from artifygan_jax.data.listing import Entry
from artifygan_jax.data.sources import Contents, Found, Official, Say
from artifygan_jax.errors import UserError

PAGE = "https://cocodataset.org/#download"
ANNOTATIONS = "annotations_trainval2017.zip"
PICTURES = {"train": "train2017.zip", "validation": "val2017.zip"}
INSTANCES = {"train": "instances_train2017.json", "validation": "instances_val2017.json"}
PERSON = 0

# In the order of the official ids, which run from 1 to 90 with ten gaps.
CATEGORIES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Box:
    """One object. `bbox` is (top, left, bottom, right) in shares of the picture's sides, 0 to 1.

    `area` is that of the outline, in pixels; `category` an index of `CATEGORIES`.
    """

    id: int
    category: int
    bbox: tuple[float, float, float, float]
    area: float
    is_crowd: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Photo:
    """What the annotations say of one picture."""

    id: int
    license: int
    objects: list[Box]

    @property
    def has_person(self) -> bool:
        """True where a person is boxed alone; a crowd does not count."""
        return any(box.category == PERSON and not box.is_crowd for box in self.objects)


def officials() -> dict[str, Official]:
    """The three zips with what is published of each."""
    return sources.official_files(Path(__file__).with_name("checksums.tsv"))


def find(source: Path, say: Say) -> dict[str, Found]:
    """The zips that are there, in `source` or its `annotations`; says which split is left out.

    Raises `UserError` with where to get what, without annotations or without any pictures.
    """
    files = sources.find(source, officials().values(), folders=("annotations",), archives=())
    archives = list(PICTURES.values())
    if ANNOTATIONS not in files or not any(name in files for name in archives):
        lacks = ANNOTATIONS if ANNOTATIONS not in files else " or ".join(archives)
        raise sources.where_to_get(source, lacks, PAGE, officials().values())
    for split, name in PICTURES.items():
        if name not in files:
            say(f"{source} has no {name}: no split {split!r}")
    return files


def read(
    files: Mapping[str, Found], *, person_only: bool, allow_missing: bool, say: Say
) -> Contents:
    """Checks the zips against the official ones, and reads all but the pictures.

    `person_only` keeps pictures with at least one person that is no crowd. Raises `UserError` as
    `celeba.contents.read` does. The official annotations take about 1.1 GiB while they are read.
    """
    record: dict[str, Any] = {
        "files": {
            name: sources.verify(found, allow_missing=allow_missing, say=say)
            for name, found in files.items()
        },
        "features_left_out": [],
        "left_out": defaultdict(int),
        "failures": [],
    }
    members = sources.members(files[ANNOTATIONS].entry.path)
    splits, photos = {}, {}
    for split, archive in PICTURES.items():
        if archive not in files:
            continue
        if INSTANCES[split] not in members:
            raise UserError(f"{ANNOTATIONS}: has no {INSTANCES[split]}; download it again")
        say(f"reading {INSTANCES[split]}")
        photos[split] = parse(members[INSTANCES[split]])
        entries = sources.pictures(files[archive])
        usable = sorted(photos[split].keys() & entries.keys())
        counts = sources.left_out(archive, entries, photos[split], usable, allow_missing, say)
        for what, count in counts.items():
            record["left_out"][what] += count
        if person_only:
            kept = [name for name in usable if photos[split][name].has_person]
            say(f"{split}: {len(kept)} of {len(usable)} pictures have a person")
            usable = kept
        if usable:
            splits[split] = [entries[name] for name in usable]
    if not splits:
        raise UserError(f"{', '.join(PICTURES.values())}: no picture with a person")
    return Contents(splits, lambda split, name: _labels(photos[split][name]), record, allow_missing)


def parse(entry: Entry) -> dict[str, Photo]:
    """What an `instances_*.json` says, by name of picture. Outlines are dropped while it is parsed.

    Raises `UserError`: no JSON of this layout, other categories, two pictures of one name, a box of a
    picture that is not listed.
    """
    try:
        content = json.loads(entry.read(), object_hook=_without_outline)
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{entry.name}: no JSON ({str(error)[:100]}); download it again") from error
    try:
        categories = _categories(entry.name, content["categories"])
        photos, sizes = {}, {}
        for image in content["images"]:
            photo = Photo(_integer(image["id"]), _integer(image["license"]), [])
            if photo.id in sizes or image["file_name"] in photos:
                raise UserError(f"{entry.name}: picture {photo.id} is listed twice")
            photos[str(image["file_name"])] = photo
            sizes[photo.id] = (photo, _positive(image["width"]), _positive(image["height"]))
        for annotation in content["annotations"]:
            photo, width, height = sizes[annotation["image_id"]]
            photo.objects.append(_box(annotation, categories, width, height))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        what = f"{type(error).__name__}: {printable(str(error)[:100])}"
        raise UserError(f"{entry.name}: not the layout of COCO 2017 ({what})") from error
    return photos


def _without_outline(record: dict[str, Any]) -> dict[str, Any]:
    record.pop("segmentation", None)
    return record


def _categories(name: str, records: list[dict[str, Any]]) -> dict[int, int]:
    """Index of `CATEGORIES` by official id."""
    found = [str(record["name"]) for record in sorted(records, key=lambda record: record["id"])]
    if tuple(found) != CATEGORIES:
        odd = [category for category in found if category not in CATEGORIES]
        what = printable(odd[0]) if odd else f"{len(found)} of them"
        raise UserError(f"{name}: not the 80 categories of COCO 2017 ({what})")
    ids = sorted(record["id"] for record in records)
    return {number: index for index, number in enumerate(ids)}


def _box(
    annotation: dict[str, Any], categories: dict[int, int], width: float, height: float
) -> Box:
    left, top, across, down = map(float, annotation["bbox"])
    if not (math.isfinite(left + top) and across >= 0 and down >= 0):
        raise ValueError(f"bbox {annotation['bbox']} of annotation {annotation['id']}")
    return Box(
        _integer(annotation["id"]),
        categories[annotation["category_id"]],
        (
            _share(top, height),
            _share(left, width),
            _share(top + down, height),
            _share(left + across, width),
        ),
        float(annotation["area"]),
        bool(_integer(annotation["iscrowd"])),
    )


def _share(value: float, whole: float) -> float:
    """In 0 to 1; a few official boxes reach some hundredths of a pixel over the border."""
    return min(max(value / whole, 0.0), 1.0)


def _positive(value: Any) -> float:
    if not 0 < float(value) < 2**31:
        raise ValueError(f"a side of {value}")
    return float(value)


def _integer(value: Any) -> int:
    if int(value) != value or abs(value) >= 2**63:
        raise ValueError(f"{value!r} for a number")
    return int(value)


def _labels(photo: Photo) -> dict[str, Any]:
    return {
        "id": photo.id,
        "license": photo.license,
        "objects": [
            {
                "id": box.id,
                "category": box.category,
                "bbox": np.array(box.bbox),  # of a tuple tfds expects names
                "area": box.area,
                "is_crowd": box.is_crowd,
            }
            for box in photo.objects
        ],
    }
