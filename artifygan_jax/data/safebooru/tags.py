"""Tags: the deck's names for them, and those that are never taken."""

from collections.abc import Iterable

from artifygan_jax.errors import UserError

# The deck filters Safebooru by five looks and names them in plain words; right are the boorus' names.
# They know no golden eyes: those are tagged yellow.
DECK_TAGS = {
    "golden eyes": "yellow_eyes",
    "brown eyes": "brown_eyes",
    "blonde hair": "blonde_hair",
    "smile": "smile",
    "red hair": "red_hair",
}

# Posts with one of these are refused, whatever they are rated. Left: why.
DENIED_TAGS = {
    "a comic or text": frozenset(
        "comic 2koma 3koma 4koma 5koma multiple_4koma silent_comic text-only_page".split()
        + "text_focus wall_of_text".split()
    ),
    "a photo or real people": frozenset(
        "photo_(medium) cosplay_photo real_life real_life_insert real_person".split()
        + "unconventional_media".split()
    ),
    "a third party's edit": frozenset("third-party_edit md5_mismatch upscaled".split()),
    "not a still": frozenset("animated animated_gif animated_png video flash ugoira".split()),
    # `safe` was a wider word before 2022, when the boorus split it in general and sensitive.
    "not for everyone": frozenset(
        "nude completely_nude topless bottomless nipples areola_slip pussy penis sex".split()
        + "underwear_only lingerie guro loli shota bondage".split()
    ),
}

# Boorus have no category for living people, but tell them from characters by such endings.
DENIED_ENDINGS = (
    "_(person)", "_(real_person)", "_(real_life)", "_(actor)", "_(actress)", "_(singer)",
    "_(voice_actor)", "_(seiyuu)", "_(politician)",
)  # fmt: skip


def normalise(word: str) -> str:
    """A user's word as a booru writes it: `Golden Eyes` is `yellow_eyes`. Raises `UserError`."""
    words = " ".join(word.lower().replace("_", " ").split())
    tag = DECK_TAGS.get(words) or "_".join(word.lower().split())
    if not tag or "," in tag or "*" in tag or not tag.isprintable():
        raise UserError(f"tag {word!r}; a tag is one name such as yellow_eyes, without , or *")
    return tag


def parse_tags(given: str | Iterable[str]) -> tuple[str, ...]:
    """`blonde hair,smile` (or the words themselves) as tags, each once. Raises `UserError`."""
    words = [w for w in given.split(",") if w.strip()] if isinstance(given, str) else given
    return tuple(dict.fromkeys(map(normalise, words)))


def denied(tags: Iterable[str]) -> str | None:
    """Why a post with these tags is refused, or None."""
    tags = list(tags)
    for why, group in DENIED_TAGS.items():
        if found := group.intersection(tags):
            return f"{why}: {min(found)}"
    people = (tag for tag in tags if tag.endswith(")") and tag.endswith(DENIED_ENDINGS))
    return next((f"real people: {tag}" for tag in people), None)
