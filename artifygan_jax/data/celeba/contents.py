"""What is in CelebA's official files: five tables of numbers by picture, and the pictures.

Z. Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015. Non-commercial research only.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifygan_jax.data import sources
from artifygan_jax.data.images import printable
from artifygan_jax.data.sources import Contents, Found, Official, Say
from artifygan_jax.errors import UserError

PAGE = "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
PICTURES = "img_align_celeba.zip"

ATTRIBUTES = tuple(
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose"
    " Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee"
    " Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard"
    " Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair"
    " Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie"
    " Young".split()
)
LANDMARKS = tuple(
    "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y"
    " leftmouth_x leftmouth_y rightmouth_x rightmouth_y".split()
)
BBOX = ("x_1", "y_1", "width", "height")  # in the uncropped picture, which the zip does not hold
SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Layout:
    """One table: its file, its columns, the values that are allowed (None: any), its first line."""

    file: str
    columns: tuple[str, ...]
    allowed: frozenset[int] | None = None
    heading: bool = True  # a line with the number of rows, then one with the columns


TABLES = {
    "attributes": Layout("list_attr_celeba.txt", ATTRIBUTES, frozenset((-1, 1))),
    "landmarks": Layout("list_landmarks_align_celeba.txt", LANDMARKS),
    "bbox": Layout("list_bbox_celeba.txt", BBOX),
    "identity": Layout("identity_CelebA.txt", ("identity",), heading=False),
    "partition": Layout(
        "list_eval_partition.txt", ("partition",), frozenset((0, 1, 2)), heading=False
    ),
}

# Of this file no sha256 is published, and its md5 only by torchvision, in `CelebA.file_list`.
_OFFICIAL_BBOX = Official("list_bbox_celeba.txt", None, "00566efa6fedff7a56946cd1c10f1c16")

Table = Mapping[str, tuple[int, ...]]  # numbers by picture, in the order of the columns

_PICTURE = re.compile(r"[\w-]+\.jpg", re.ASCII)


def officials() -> dict[str, Official]:
    """The six files, pictures first, with what is published of each."""
    known = sources.official_files(Path(__file__).with_name("checksums.tsv"))
    known[_OFFICIAL_BBOX.name] = _OFFICIAL_BBOX
    return {name: known[name] for name in (PICTURES, *(t.file for t in TABLES.values()))}


def find(source: Path, say: Say) -> dict[str, Found]:
    """The files that are there: loose, in `Anno`, `Eval`, `Img`, or inside `Anno.zip`, `Eval.zip`.

    The pictures may be unpacked, as a folder `img_align_celeba`. Says which tables are missing.
    Raises `UserError` with where to get what, where there are no pictures.
    """
    files = sources.find(
        source,
        officials().values(),
        folders=("Anno", "Eval", "Img"),
        archives=("Anno*.zip", "Eval*.zip"),
    )
    folder = source / PICTURES.removesuffix(".zip")
    if PICTURES not in files and folder.is_dir():
        files[PICTURES] = sources.unpacked(folder)
    if PICTURES not in files:
        raise sources.where_to_get(source, PICTURES, PAGE, officials().values())
    for kind, layout in TABLES.items():
        if layout.file not in files:
            left = "all pictures are in train" if kind == "partition" else f"no feature {kind!r}"
            say(f"{source} has no {layout.file}: {left}")
    return files


def read(files: Mapping[str, Found], *, allow_missing: bool, say: Say) -> Contents:
    """Checks the files against the official ones and reads all but the pictures.

    Raises `UserError`: files that are not official, pictures that only the tables or only the archive
    know; with `allow_missing` those are left out, said and counted.
    """
    record: dict[str, Any] = {
        "files": {
            name: sources.verify(found, allow_missing=allow_missing, say=say)
            for name, found in files.items()
        },
        "features_left_out": [kind for kind, t in TABLES.items() if t.file not in files],
        "failures": [],
    }
    tables = {
        kind: parse(layout, files[layout.file].entry.read())
        for kind, layout in TABLES.items()
        if layout.file in files
    }
    entries = sources.pictures(files[PICTURES])
    named = set().union(*tables.values())
    usable = sorted(name for name in entries if all(name in rows for rows in tables.values()))
    record["left_out"] = sources.left_out(
        PICTURES, entries.keys(), named or entries.keys(), usable, allow_missing, say
    )
    splits = {split: [] for split in SPLITS}
    for name in usable:
        number = tables["partition"][name][0] if "partition" in tables else 0
        splits[SPLITS[number]].append(entries[name])
    return Contents(
        {split: found for split, found in splits.items() if found},
        lambda split, name: _labels(tables, name),
        record,
        allow_missing,
    )


def parse(layout: Layout, data: bytes) -> dict[str, tuple[int, ...]]:
    """The rows of a table by picture. Columns are split by one or more blanks.

    Raises `UserError` with file and line: not text, other columns, a row with too few or many numbers,
    a value that is not allowed, a name twice, or another number of rows than the first line says.
    """
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    rows: dict[str, tuple[int, ...]] = {}
    first = _heading(layout, lines) if layout.heading else 0
    for number, line in enumerate(lines[first:], first + 1):
        try:
            name, *values = line.decode("ascii").split()
            row = tuple(map(int, values))
        except ValueError as error:  # a blank line, bytes that are no ASCII, a word for a number
            if not line.strip() and number == len(lines):
                break
            raise _wrong(
                layout, number, f"{line[:60]!r} is no row of a name and numbers"
            ) from error
        if len(row) != len(layout.columns):
            raise _wrong(layout, number, f"{len(row)} numbers, {len(layout.columns)} expected")
        if not _PICTURE.fullmatch(name):
            raise _wrong(layout, number, f"{printable(name)!r} is no name like 000001.jpg")
        if name in rows:
            raise _wrong(layout, number, f"{name} for the second time")
        if layout.allowed and not layout.allowed.issuperset(row):
            odd = next(value for value in row if value not in layout.allowed)
            raise _wrong(layout, number, f"{odd} is none of {sorted(layout.allowed)}")
        if any(abs(value) > 2**31 for value in row):
            raise _wrong(layout, number, "a number too large")
        rows[name] = row
    said = int(lines[0]) if layout.heading else len(rows)
    if said != len(rows):
        raise _wrong(layout, 1, f"says {said} rows, there are {len(rows)}: a cut file?")
    if not rows:
        raise _wrong(layout, 1, "an empty table")
    return rows


def _heading(layout: Layout, lines: list[bytes]) -> int:
    """The number of lines before the rows, which are checked."""
    if not lines or not lines[0].strip().isdigit() or len(lines[0]) > 12:
        raise _wrong(layout, 1, "the number of rows was expected")
    columns = lines[1].decode("ascii", "replace").split() if len(lines) > 1 else []
    if columns[:1] == ["image_id"]:  # only the table of boxes has a title over the names
        columns = columns[1:]
    if tuple(columns) != layout.columns:
        odd = next((c for c in columns if c not in layout.columns), f"{len(columns)} columns")
        raise _wrong(layout, 2, f"not the official columns ({printable(odd)})")
    return 2


def _wrong(layout: Layout, line: int, what: str) -> UserError:
    return UserError(f"{layout.file}, line {line}: {what}")


def _labels(tables: Mapping[str, Table], name: str) -> dict[str, Any]:
    labels: dict[str, Any] = {}
    for kind, rows in tables.items():
        row = dict(zip(TABLES[kind].columns, rows[name]))
        if kind == "attributes":
            labels[kind] = {column: value > 0 for column, value in row.items()}
        elif kind == "identity":
            labels[kind] = row["identity"]
        elif kind != "partition":
            labels[kind] = row
    return labels
