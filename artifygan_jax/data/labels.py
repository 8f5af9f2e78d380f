"""Labels of pictures (attributes, tags, categories), and filters on them: `Smiling & ~Eyeglasses`."""

import csv
import dataclasses
import io
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from artifygan_jax.errors import UserError, did_you_mean

# A name ends at a blank, an operator or a bracket; in double quotes anything goes.
_TOKEN = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([&|~()])|([^\s&|~()"]+))')
_NO = {"", "0", "-1", "false", "no"}


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """Which of `vocabulary` each of N pictures has, as sparse rows (30 million tags are 120 MB).

    Row i is `ids[start[i]:start[i + 1]]`, numbers into `vocabulary`.
    """

    vocabulary: tuple[str, ...]
    start: np.ndarray  # int64 [N + 1]
    ids: np.ndarray  # int32

    @classmethod
    def of(cls, rows: Iterable[Iterable[str]]) -> "Labels":
        """From the words of each picture."""
        numbers: dict[str, int] = {}
        start, ids = [0], []
        for row in rows:
            ids += [numbers.setdefault(word, len(numbers)) for word in row]
            start.append(len(ids))
        return cls(tuple(numbers), np.array(start, np.int64), np.array(ids, np.int32))

    def __len__(self) -> int:
        return len(self.start) - 1

    def has(self, word: str) -> np.ndarray:
        """Bool [N]; `UserError` for a word that no picture has."""
        if word not in self.vocabulary:
            raise UserError(
                f"no picture is labelled {word!r}{did_you_mean(word, self.vocabulary)};"
                f" there are {len(self.vocabulary)} labels: {', '.join(self.vocabulary[:45])}"
                + (", ..." if len(self.vocabulary) > 45 else "")
            )
        places = np.flatnonzero(self.ids == self.vocabulary.index(word))
        found = np.zeros(len(self), bool)
        found[np.searchsorted(self.start, places, side="right") - 1] = True
        return found

    def take(self, rows: np.ndarray) -> "Labels":
        """The labels of pictures `rows` (int [M]), in that order."""
        lengths = np.diff(self.start)[rows]
        start = np.concatenate([[0], np.cumsum(lengths)])
        places = np.repeat(self.start[rows] - start[:-1], lengths) + np.arange(start[-1])
        return Labels(self.vocabulary, start, self.ids[places])


def select(labels: Labels, where: str) -> np.ndarray:
    """Bool [N]: the pictures for which `where` holds.

    `&` and, `|` or, `~` not, round brackets; `~` binds closest, then `&`. Names with blanks or
    operators in them stand in double quotes: `"6+girls" & ~hat`. Raises `UserError`.
    """
    parser = _Parser(labels, where)
    found = parser.either()
    parser.end()
    return found


class _Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, labels: Labels, where: str):
        self.labels, self.where = labels, where
        self.tokens, place = [], 0
        text = where.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise self._wrong("a quote that does not close")
            quoted, operator, name = match.groups()
            word = quoted if quoted is not None else name
            self.tokens.append((operator, re.sub(r"\\(.)", r"\1", word) if quoted else word))
            place = match.end()

    def either(self) -> np.ndarray:
        """one | other | ..."""
        found = self.both()
        while self._next("|"):
            found = found | self.both()
        return found

    def both(self) -> np.ndarray:
        """one & other & ..."""
        found = self.one()
        while self._next("&"):
            found = found & self.one()
        return found

    def one(self) -> np.ndarray:
        """~one, (either), or a name."""
        if self._next("~"):
            return ~self.one()
        if self._next("("):
            found = self.either()
            if not self._next(")"):
                raise self._wrong("a bracket that does not close")
            return found
        if not self.tokens or self.tokens[0][0]:
            raise self._wrong(f"a name is missing before {self._rest()}")
        return self.labels.has(self.tokens.pop(0)[1])

    def end(self) -> None:
        """Nothing may be left over."""
        if self.tokens:
            raise self._wrong(f"an operator (& or |) is missing before {self._rest()}")

    def _next(self, operator: str) -> bool:
        found = bool(self.tokens) and self.tokens[0][0] == operator
        if found:
            self.tokens.pop(0)
        return found

    def _rest(self) -> str:
        operator, word = self.tokens[0] if self.tokens else ("", "")
        return repr(operator or word) if operator or word else "the end"

    def _wrong(self, what: str) -> UserError:
        return UserError(
            f"where={self.where!r}: {what}; write it like 'Smiling & ~(Eyeglasses | Wearing_Hat)'"
        )


def read_csv(path: str) -> Mapping[str, Sequence[str]]:
    """The labels in a table, `{file name: words}`.

    The first column names the picture. In the others a word is a label by itself ("blonde hair");
    where all values are 1, 0 or -1 the column's name is the label of pictures with a 1, as in
    CelebA's attribute table. Raises `UserError`.
    """
    try:
        text = pathlib.Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"labels {path}: cannot be read ({error})") from error
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if len(rows) < 2 or len(rows[0]) < 2:
        raise UserError(
            f"labels {path}: needs a heading and a row, file name first, split by commas"
        )
    head, *body = rows
    ragged = next((i for i, row in enumerate(body, 2) if len(row) != len(head)), None)
    if ragged is not None:
        raise UserError(
            f"labels {path}: row {ragged} has not the {len(head)} columns of the heading"
        )
    columns = [[value.strip() for value in column] for column in zip(*body)]
    flags = [set(map(str.lower, column)) <= _NO | {"1", "true", "yes"} for column in columns]
    labels: dict[str, list[str]] = {name: [] for name in columns[0]}
    for title, column, flag in zip(head[1:], columns[1:], flags[1:]):
        for name, value in zip(columns[0], column):
            if value.lower() not in _NO:
                labels[name].append(title.strip() if flag else value)
    return labels
