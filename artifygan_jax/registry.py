"""Public weights that a user may fetch, as `registry.json` lists them; none of them is ours.

`found` of an entry says where its address, hash and size were read. A hash is never a guess: where
nobody publishes one, it is empty, and a download of it is said to be unverified.
"""

import dataclasses
import functools
import json
import pathlib

from artifygan_jax.downloads import Wanted
from artifygan_jax.errors import UserError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of weights.

    `arch`: the layout that `convert` makes a bundle `name` of, or "" for a file that is used as it
    is. `file`: its name in the cache. `sha256` (hex digits, maybe the first ones only) and `size` are
    "" and 0 where they are not known. `terms`: what else applies beside the `licence`.
    """

    name: str
    what: str
    arch: str
    file: str
    urls: tuple[str, ...]
    sha256: str
    size: int
    licence: str
    terms: str
    source: str
    found: str

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.urls, self.sha256, self.size)

    @property
    def conditions(self) -> str:
        """Licence and terms in one line."""
        return "; ".join(filter(None, (self.licence, self.terms)))


@functools.cache
def entries() -> dict[str, Entry]:
    """Every entry by its name."""
    rows = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return {row["name"]: Entry(**row | {"urls": tuple(row["urls"])}) for row in rows}


def find(name: str) -> Entry:
    """The entry called `name`; `UserError` where there is none."""
    known = entries()
    if name not in known:
        raise UserError(
            f"no weights called {name!r} to get{did_you_mean(name, known)};"
            f" there are {', '.join(known)}"
        )
    return known[name]
