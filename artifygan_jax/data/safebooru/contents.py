"""What becomes a data set: accepted posts with their pictures, matched by name."""

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from artifygan_jax.data import listing
from artifygan_jax.data.fetch import picture_suffix
from artifygan_jax.data.images import UnreadablePicture, open_picture, picture_size, printable
from artifygan_jax.data.listing import Entry
from artifygan_jax.data.safebooru.posts import Metadata, Post
from artifygan_jax.data.safebooru.select import Rules, Tally, select
from artifygan_jax.data.safebooru.tags import DECK_TAGS
from artifygan_jax.data.sources import Contents, Found, Official, Say, digest
from artifygan_jax.errors import UserError

PICTURES = "safebooru_pictures"
METADATA_FILE, PICTURES_FILE = "metadata", "pictures"


def files(metadata: Metadata, pictures: Path) -> dict[str, Found]:
    """The two inputs: the metadata file, and the folder or zip with the pictures."""
    real = next((path for path in (pictures, *pictures.parents) if path.exists()), pictures)
    return {
        METADATA_FILE: Found(Official(METADATA_FILE), Entry(METADATA_FILE, metadata.path)),
        PICTURES_FILE: Found(Official(PICTURES_FILE), Entry(PICTURES_FILE, real)),
    }


def collect(
    metadata: Metadata, pictures: Path, rules: Rules, count: int | None, say: Say
) -> Contents:
    """The first `count` accepted posts (None: all) whose picture is in folder or zip `pictures`.

    A picture belongs to a post by its stem: the post's id, its md5, or the name in its address (with
    or without `sample_`). Only headers are read. Raises `UserError` where nothing is left.
    """
    stems = {PurePosixPath(entry.name).stem: entry for entry in listing.list_pictures(pictures)}
    tally, left_out, failures = Tally(), Counter(dict(without_picture=0, unreadable=0)), []
    chosen: dict[str, tuple[Post, Entry, int, int]] = {}
    for post in select(metadata, rules, tally):
        entry = next((stems[stem] for stem in _stems(post) if stem in stems), None)
        if entry is None:
            left_out["without_picture"] += 1
            continue
        try:
            width, height = _size(entry, rules.min_size)
        except UnreadablePicture as error:
            say(f"left out: {error}")
            left_out["unreadable"] += 1
            failures.append({"input": entry.name, "reason": error.cause})
            continue
        name = f"{post.id}{PurePosixPath(entry.name).suffix.lower()}"
        chosen[name] = _light(post), dataclasses.replace(entry, name=name), width, height
        if len(chosen) == count:
            break
    if not chosen:
        raise UserError(nothing(metadata, pictures, tally, left_out))
    record = {
        **_record(metadata, tally),
        "features_left_out": [],
        "left_out": dict(left_out),
        "failures": failures,
        "built_tags": dict.fromkeys(_counted(rules), 0),
        "files": {
            key: {"sha256": digest(found), "official": None, "stamp": found.stamp}
            for key, found in files(metadata, pictures).items()
        },
    }
    return Contents(
        splits={"train": [chosen[name][1] for name in sorted(chosen)]},
        labels=lambda split, name: _labels(chosen[name][0], *chosen[name][2:]),
        record=record,
        allow_missing=True,
    )


def examples(
    contents: Contents, entries: list[Entry], say: Say
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, features) of the pictures that decode; the others are said and counted.

    Raises `UserError` where none of them does.
    """
    record, written = contents.record, 0
    for entry in entries:
        try:
            data = entry.read()
            if picture_suffix(data) is None:
                raise UnreadablePicture(entry.name, "not a JPEG, PNG or WebP picture")
            open_picture(data, name=entry.name)
        except UnreadablePicture as error:
            say(f"left out: {error}")
            record["left_out"]["unreadable"] += 1
            record["failures"].append({"input": entry.name, "reason": error.cause})
            continue
        written += 1
        labels = contents.labels("train", entry.name)
        for tag in record["built_tags"].keys() & set(labels["tags"]):
            record["built_tags"][tag] += 1
        yield entry.name, {"image": data, "name": entry.name, **labels}
    if not written:  # tfds cannot read a shard without records
        raise UserError(
            f"none of {len(entries)} pictures in a row can be read, the last: "
            f"{entries[-1].name}: {record['failures'][-1]['reason']}"
        )


def _stems(post: Post) -> Iterator[str]:
    """The stems that a picture of this post may have."""
    yield str(post.id)
    if post.md5:
        yield post.md5
    for url in filter(None, (post.url, post.full_url)):
        try:
            stem = PurePosixPath(unquote(urlsplit(url).path)).stem
        except ValueError:
            continue
        yield stem
        yield stem.removeprefix("sample_").removeprefix("sample-")


def _size(entry: Entry, min_size: int) -> tuple[int, int]:
    """(width, height) by the header; `UnreadablePicture` also where a side is too short."""
    source = entry.path if entry.member is None else entry.read()
    width, height = picture_size(source, name=entry.name)
    if min(width, height) < min_size:
        raise UnreadablePicture(entry.name, f"too small: {width}x{height}, at least {min_size}")
    return width, height


def _light(post: Post) -> Post:
    """The post with each tag's text in memory once for all posts."""
    return dataclasses.replace(post, tags=tuple(map(sys.intern, post.tags)))


def _labels(post: Post, width: int, height: int) -> dict[str, Any]:
    return {
        "id": post.id,
        "rating": post.rating,
        "tags": list(post.tags),
        "width": width,
        "height": height,
        "created": _int64(post.created),
        "score": _int64(post.score),
    }


def _int64(number: int | None) -> int:
    return 0 if number is None or abs(number) >= 2**63 else number


def _counted(rules: Rules) -> list[str]:
    return list(dict.fromkeys([*rules.tags, *DECK_TAGS.values()]))


def _record(metadata: Metadata, tally: Tally) -> dict[str, Any]:
    return {
        "kind": metadata.kind,
        "read": tally.read,
        "malformed": metadata.malformed,
        "malformed_examples": metadata.bad,
        "unasked": tally.unasked,
        "repeated": tally.repeated,
        "refused": dict(tally.refused),
        "accepted": tally.accepted,
        "accepted_tags": dict(tally.tags),
    }


def nothing(metadata: Metadata, pictures: Path, tally: Tally, left_out: Counter[str]) -> str:
    """Why no post is left, for a `UserError`."""
    refused = ", ".join(f"{n} for {why}" for why, n in tally.refused.most_common())
    why = f"{tally.unasked} without the tags asked for, {tally.refused.total()} refused"
    why += f" ({refused})" if refused else ""
    if tally.accepted:
        why += f", {left_out['without_picture']} without a picture in {printable(str(pictures))}"
        why += f", {left_out['unreadable']} with one that is too small or cannot be read"
    return (
        f"{metadata.path}: none of {tally.read} {metadata.kind} posts is left: {why}; pictures are"
        " named by the post's id, its md5, or as in its address"
    )
