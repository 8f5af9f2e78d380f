"""Safebooru counted in one pass: tags, ratings, years, scores, sizes."""

import math
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from artifygan_jax.data.eda.counting import percent
from artifygan_jax.data.images import printable
from artifygan_jax.data.safebooru.posts import Post, open_metadata
from artifygan_jax.data.safebooru.tags import DECK_TAGS
from artifygan_jax.data.sources import Say
from artifygan_jax.errors import UserError

TOP = 50
LARGEST = 2**16  # sides and scores are counted up to here
SOURCES = {
    "kaggle": "Kaggle alamson/safebooru",
    "safebooru": "metadata in Safebooru's format",
    "danbooru": "metadata in Danbooru's format",
}
RATINGS = {
    "kaggle": "s or safe, g or general; q questionable, e explicit",
    "safebooru": "s or safe, g or general; q questionable, e explicit",
    "danbooru": "g general, s sensitive, q questionable, e explicit",
}
SIZES = {
    "kaggle": "the reduced pictures, which are at most 850 px wide",
    "safebooru": "the reduced pictures, or the originals of posts without one",
    "danbooru": "the original pictures",
}
TERMS = (
    "The pictures belong to their artists; a booru states no licence for them. Tags and ratings are the"
    " work of its users, with errors.",
    "What a rating means depends on the source: s is safe at Safebooru and sensitive at Danbooru.",
)


def numbers(path: Path, *, say: Say) -> dict[str, Any]:
    """The content of `eda.json` for one file of metadata, in one pass. Raises `UserError`."""
    metadata = open_metadata(path)
    say(f"{path}: Safebooru, {SOURCES[metadata.kind]} ({metadata.layout})")
    counts = Counts()
    for post in metadata:
        counts.add(post)
        if counts.posts % 250_000 == 0:
            say(f"{counts.posts:,} posts")
    if not counts.posts:
        raise UserError(
            f"{path}: no readable post ({metadata.malformed} malformed); download it again"
        )
    result = {
        "kind": "safebooru",
        "source": f"{SOURCES[metadata.kind]}, {printable(path.name)}",
        "files": [path.name],
        "format": metadata.kind,
        "terms": TERMS,
        "malformed": {"rows": metadata.malformed, "first": metadata.bad},
        "ratings_mean": RATINGS[metadata.kind],
        **counts.numbers(),
    }
    if "sizes" in result:
        result["sizes"]["of"] = SIZES[metadata.kind]
    return result


class Counts:
    """What is counted over posts; its memory grows with the tags, never with the posts."""

    def __init__(self) -> None:
        self.posts = self.deleted = 0
        self.tags: Counter[str] = Counter()
        self.ratings: Counter[str] = Counter()
        self.years: Counter[int] = Counter()
        self.scores: Counter[int] = Counter()
        self.cells: Counter[tuple[int, int]] = Counter()  # width and height in quarter octaves
        self.short_sides: Counter[int] = Counter()

    def add(self, post: Post) -> None:
        """Counts one post; what it does not know is not counted."""
        self.posts += 1
        self.deleted += post.deleted or post.banned
        self.tags.update(post.tags)
        self.ratings[post.rating or "none"] += 1
        year = _year(post.created)
        if year is not None:
            self.years[year] += 1
        if post.score is not None:
            self.scores[max(-LARGEST, min(post.score, LARGEST))] += 1
        if post.width and post.height:
            self.cells[_quarter_octave(post.width), _quarter_octave(post.height)] += 1
            self.short_sides[min(post.width, post.height, LARGEST)] += 1

    def numbers(self) -> dict[str, Any]:
        """The part of `eda.json` that comes from the posts; parts without any value are left out."""
        known = {
            "tags": dict(self.tags.most_common(TOP)),
            "ratings": dict(self.ratings.most_common(TOP)),
            "years": {str(year): n for year, n in sorted(self.years.items())},
            "scores": {str(score): n for score, n in sorted(self.scores.items())},
            "sizes": self._sizes(),
        }
        return {
            "posts": self.posts,
            "deleted": self.deleted,
            "distinct_tags": len(self.tags),
            "tags_per_post": round(self.tags.total() / max(self.posts, 1), 2),
            "deck_tags": {
                name: {
                    "tag": tag,
                    "posts": (n := self.tags[tag]),
                    "percent": percent(n, self.posts),
                }
                for name, tag in DECK_TAGS.items()
            },
            **{name: part for name, part in known.items() if part},
        }

    def _sizes(self) -> dict[str, Any]:
        posts = self.short_sides.total()
        if not posts:
            return {}
        under = {
            f"short_side_under_{side}": sum(n for s, n in self.short_sides.items() if s < side)
            for side in (256, 512)
        }
        return {
            "posts_with_size": posts,
            **under,
            **{f"{name}_percent": percent(n, posts) for name, n in under.items()},
            "short_side_median": _median(self.short_sides),
            "cells": [[w, h, n] for (w, h), n in sorted(self.cells.items())],
            "cell": "width and height in quarter octaves: cell k is 2^(k/4) to 2^((k+1)/4) pixels",
        }


def _year(created: int | None) -> int | None:
    """The year (UTC) of a unix time; None for what is no time since 1970."""
    if created is None or not 0 < created < 2**33:
        return None
    return datetime.fromtimestamp(created, UTC).year


def _quarter_octave(side: int) -> int:
    return math.floor(4 * math.log2(min(side, LARGEST)))


def _median(counts: Counter[int]) -> int:
    """The lower median of the counted values."""
    half, seen = (counts.total() + 1) // 2, 0
    for value, n in sorted(counts.items()):
        seen += n
        if seen >= half:
            return value
    raise ValueError("nothing was counted")
