"""Suggestions for misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches

_MOST_EDITS = 2  # letters that differ in a misspelling


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The text `` Did you mean '…'?`` for a message; empty if no known name is close."""
    close = get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def nearest(name: object, known: Iterable[str]) -> str:
    """The known name that is most similar to `name`, however different."""
    return get_close_matches(str(name), list(known), n=1, cutoff=0.0)[0]


def misspelling_of(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs from `name` in at most two letters; None if there is none."""
    close = [each for each in known if abs(len(each) - len(name)) <= _MOST_EDITS]
    distance, found = min(((edit_distance(name, each), each) for each in close), default=(9, ""))
    return found if distance <= _MOST_EDITS else None


def edit_distance(first: str, second: str) -> int:
    """Number of letters to insert, remove or replace to turn one text into the other."""
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (letter != other))
    return row[-1]
