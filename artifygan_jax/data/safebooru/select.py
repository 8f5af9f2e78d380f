"""Which posts are taken. Fails closed: a post is refused unless its source calls it fit for all."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from artifygan_jax.data.images import printable
from artifygan_jax.data.safebooru.posts import Post
from artifygan_jax.data.safebooru.tags import DECK_TAGS, denied

# One letter means two things: `s` is "safe" where there are three ratings (Safebooru, and Kaggle's
# copy of it), and "sensitive" where there are four (Danbooru since 2022).
ACCEPTED_RATINGS = {
    "kaggle": frozenset({"s", "safe", "g", "general"}),
    "safebooru": frozenset({"s", "safe", "g", "general"}),
    "danbooru": frozenset({"g", "general"}),
}
EXTENSIONS = ("jpg", "jpeg", "png", "webp")


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is asked for: every one of `tags`, none of `without`, no side shorter than `min_size`.

    With `online` the picture is to be downloaded, and needs an address of a picture.
    """

    tags: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    min_size: int = 0
    online: bool = False


@dataclasses.dataclass
class Tally:
    """What came of the posts that were read; `refused` by the reason's first words."""

    read: int = 0
    unasked: int = 0
    repeated: int = 0
    accepted: int = 0
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    tags: Counter[str] = dataclasses.field(default_factory=Counter)


def refusal(post: Post, rules: Rules) -> str | None:
    """Why this post is not taken (`KIND: DETAIL`), or None where it is."""
    accepted = ACCEPTED_RATINGS.get(post.source, frozenset())
    if post.rating not in accepted:
        allowed = ", ".join(sorted(accepted))
        return f"rating: {_shown(post.rating)} (allowed in {post.source} metadata: {allowed})"
    if post.deleted or post.banned:
        return "deleted: by the site" if post.deleted else "banned: at the artist's request"
    if why := denied(post.tags):
        return f"tag: {_shown(why)}"
    if post.width and post.height and min(post.width, post.height) < rules.min_size:
        return f"size: {post.width}x{post.height}, at least {rules.min_size}"
    if rules.online and not post.url:
        return "address: none"
    if post.extension not in EXTENSIONS and (post.extension or rules.online):
        return f"extension: {_shown(post.extension)} (allowed: {', '.join(EXTENSIONS)})"
    return None


def _shown(text: str) -> str:
    return printable(text[:60]) or "none"


def select(
    posts: Iterable[Post],
    rules: Rules,
    tally: Tally,
    refused: Callable[[Post, str], None] = lambda post, reason: None,
) -> Iterator[Post]:
    """The posts that fit `rules`, each id once; counts into `tally`, tells `refused` the others.

    A post without the tags that were asked for is not refused, only counted as `unasked`.
    """
    wanted, unwanted = set(rules.tags), set(rules.without)
    counted = wanted | set(DECK_TAGS.values())
    seen: set[int] = set()
    for post in posts:
        tally.read += 1
        have = set(post.tags)
        if not wanted <= have or unwanted & have:
            tally.unasked += 1
        elif reason := refusal(post, rules):
            tally.refused[reason.partition(":")[0]] += 1
            refused(post, reason)
        elif post.id in seen:
            tally.repeated += 1
        else:
            seen.add(post.id)
            tally.accepted += 1
            tally.tags.update(have & counted)
            yield post
