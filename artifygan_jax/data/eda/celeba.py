"""CelebA counted: attributes and what goes with what, persons, splits, brightness."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from artifygan_jax.data import sources
from artifygan_jax.data.celeba import contents
from artifygan_jax.data.eda.counting import percent, spread
from artifygan_jax.data.images import UnreadablePicture, open_picture
from artifygan_jax.data.listing import Entry, zip_directory
from artifygan_jax.data.sources import Found, Say

SAMPLE = 5000  # pictures that are decoded: a mean over them is within 2 of 255 of that over all
STRONGEST = 20  # pairs of attributes that are listed
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in JPEG
TERMS = (
    "CelebA is for non-commercial research only; its pictures belong to others and show real people.",
    "The attributes are the judgement of annotators, one mark each, from a picture alone: they say how a"
    " face was seen, not who the person is. Some (Attractive, Young, Male) are matters of opinion or"
    " cannot be seen at all. Do not use them to judge anyone.",
)

_ATTRIBUTES, _IDENTITY, _PARTITION = (
    contents.TABLES[kind] for kind in ("attributes", "identity", "partition")
)


def find(source: Path) -> dict[str, Found]:
    """The official files in a folder, or in a zip, by name; none where the attributes are not there.

    Raises `UserError` for a broken zip.
    """
    officials = contents.officials()
    if source.suffix.lower() == ".zip" and source.is_file():
        inside = {PurePosixPath(name).name: member for name, member in zip_directory(source)}
        files = {
            name: Found(official, Entry(name, source, inside[name]))
            for name, official in officials.items()
            if name in inside and name != contents.PICTURES  # a zip in a zip is not read
        }
    else:
        files = sources.find(
            source,
            officials.values(),
            folders=("Anno", "Eval", "Img"),
            archives=("Anno*.zip", "Eval*.zip"),
        )
        folder = source / contents.PICTURES.removesuffix(".zip")
        if contents.PICTURES not in files and folder.is_dir():
            files[contents.PICTURES] = sources.unpacked(folder)
    return files if _ATTRIBUTES.file in files else {}


def numbers(files: Mapping[str, Found], *, say: Say) -> dict[str, Any]:
    """The content of `eda.json`, from what `find` gives. Raises `UserError` for a table that is damaged.

    Tables that are not the official ones are said, and explored.
    """
    tables = {t.file: t for t in contents.TABLES.values()}
    checked = {
        name: sources.verify(found, allow_missing=True, say=say)["official"]
        for name, found in files.items()
        if name in tables
    }
    say(f"CelebA: {', '.join(sorted(files))}")
    missing = [name for name in contents.officials() if name not in files]
    for name in missing:
        say(f"not available: {name}")
    attributes = contents.parse(_ATTRIBUTES, files[_ATTRIBUTES.file].entry.read())
    names, values = _ATTRIBUTES.columns, np.array(list(attributes.values()), np.int8) > 0
    result = {
        "kind": "celeba",
        "source": "CelebA (Liu et al., ICCV 2015), "
        + (
            "official annotation files" if all(checked.values()) else "tables that are not official"
        ),
        "files": sorted(files),
        "official": checked,
        "not_available": missing,
        "terms": TERMS,
        "pictures_listed": len(attributes),
        **attribute_numbers(names, values),
        "correlations": correlation_numbers(names, values),
    }
    if _IDENTITY.file in files:
        rows = contents.parse(_IDENTITY, files[_IDENTITY.file].entry.read())
        result["identities"] = identity_numbers(np.array(list(rows.values()))[:, 0])
    if _PARTITION.file in files:
        rows = contents.parse(_PARTITION, files[_PARTITION.file].entry.read())
        split_of = np.array([rows.get(picture, (-1,))[0] for picture in attributes])
        masks = {name: split_of == i for i, name in enumerate(contents.SPLITS)}
        result["splits"] = split_numbers(names, values, {s: m for s, m in masks.items() if m.any()})
    if contents.PICTURES in files:
        entries = sources.pictures(files[contents.PICTURES])
        result |= picture_numbers([entries[name] for name in sorted(entries)], say=say)
    return result


def attribute_numbers(names: Sequence[str], values: np.ndarray) -> dict[str, Any]:
    """`attributes` (% of the pictures, by name) and `attribute_counts` of bool `[pictures, attributes]`."""
    counts = values.sum(0).tolist()
    return {
        "attributes": {name: percent(n, len(values)) for name, n in zip(names, counts)},
        "attribute_counts": dict(zip(names, counts)),
    }


def phi(values: np.ndarray) -> np.ndarray:
    """Phi coefficients `[attributes, attributes]` of bool `[pictures, attributes]`.

    Phi is Pearson's correlation of two yes/no values. NaN where an attribute never varies.
    """
    centred = values - values.mean(0)
    spread = np.sqrt((centred**2).sum(0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(centred.T @ centred / np.outer(spread, spread), -1, 1)


def angular_order(correlations: np.ndarray) -> np.ndarray:
    """An order of the rows in which alike ones are neighbours, as indices.

    By the angle of each variable in the plane of the first two eigenvectors, cut at the widest gap
    (M. Friendly, "Corrgrams", The American Statistician 56(4), 2002).
    """
    vectors = np.linalg.eigh(np.nan_to_num(correlations)).eigenvectors[:, :-3:-1]
    vectors *= np.sign(vectors[np.abs(vectors).argmax(0), range(vectors.shape[1])])
    angles = np.arctan2(vectors[:, -1], vectors[:, 0])
    order = angles.argsort(kind="stable")
    gaps = np.diff(angles[order], append=angles[order[0]] + 2 * np.pi)
    return np.roll(order, -1 - int(gaps.argmax()))


def correlation_numbers(names: Sequence[str], values: np.ndarray) -> dict[str, Any]:
    """`order` (names), `phi` (rows and columns in that order, null where undefined), `strongest` pairs."""
    table = phi(values)
    order = angular_order(table)
    rows, columns = (i.tolist() for i in np.triu_indices(len(names), 1))
    upper = np.nan_to_num(table[rows, columns])
    strongest = np.abs(upper).argsort(kind="stable")[::-1][:STRONGEST]
    return {
        "order": [names[i] for i in order],
        "phi": [
            [None if np.isnan(v) else round(float(v), 4) for v in row]
            for row in table[np.ix_(order, order)]
        ],
        "strongest": [
            {"a": names[rows[i]], "b": names[columns[i]], "phi": round(float(upper[i]), 4)}
            for i in strongest.tolist()
        ],
    }


def identity_numbers(identities: np.ndarray) -> dict[str, Any]:
    """How many persons int `[pictures]` names, and how many pictures each has."""
    each = np.unique(identities, return_counts=True)[1]
    sizes, persons = np.unique(each, return_counts=True)
    return {
        "count": len(each),
        "pictures_each": {
            "mean": round(float(each.mean()), 2),
            "median": float(np.median(each)),
            "min": int(each.min()),
            "max": int(each.max()),
        },
        "persons_by_pictures": dict(zip(map(str, sizes.tolist()), persons.tolist())),
    }


def split_numbers(
    names: Sequence[str], values: np.ndarray, splits: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Size and attribute percentages of each split, which is a bool mask `[pictures]`."""
    return {
        split: {
            "pictures": int(mask.sum()),
            "percent": percent(mask.sum(), len(mask)),
            "attributes": attribute_numbers(names, values[mask])["attributes"],
        }
        for split, mask in splits.items()
    }


def picture_numbers(entries: Sequence[Entry], *, say: Say) -> dict[str, Any]:
    """`pictures` (which and what sizes), `brightness` (mean luma) and `contrast` (its standard deviation).

    Luma is 0..255. At most `SAMPLE` pictures are decoded, evenly spaced in `entries`; the field `which`
    says so. Those that cannot be read are counted and named under `failures`.
    """
    step = -(-len(entries) // SAMPLE) or 1
    chosen = entries[::step]
    say(f"measuring {len(chosen)} of {len(entries)} pictures")
    sizes: Counter[str] = Counter()
    means, contrasts, failures = [], [], []
    for entry in chosen:
        try:
            rgb = open_picture(entry.read(), name=entry.name).rgb
        except UnreadablePicture as error:
            failures.append({"input": error.name, "reason": error.cause})
            continue
        luma = rgb @ LUMA
        sizes[f"{rgb.shape[1]}x{rgb.shape[0]}"] += 1
        means.append(luma.mean())
        contrasts.append(luma.std())
    pictures = {
        "present": len(entries),
        "measured": len(means),
        "which": "all that are here"
        if step == 1
        else f"one in {step} of {len(entries):,}, by name",
        "sizes": dict(sizes.most_common(20)),
        "failures": failures,
    }
    return {
        "pictures": pictures,
        "brightness": spread(means, bins=32, end=256),
        "contrast": spread(contrasts, bins=32, end=256),
    }
