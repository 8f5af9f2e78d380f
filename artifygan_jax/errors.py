"""The exceptions a user can cause, and the words for them. Imports nothing of ours."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the caller can mend: one line that says what came, what is allowed and what to do.

    Commands print the line and end with exit code 1, without a traceback.
    """


class StoppedEarly(UserError):
    """Something outside failed for now; the same command goes on from there. Exit code 75."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the closest of `allowed`, or an empty string."""
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
