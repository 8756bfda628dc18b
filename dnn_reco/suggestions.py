"""Suggestions for misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The text `` Did you mean '…'?`` for a message; empty if no known name is close."""
    close = get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def nearest(name: object, known: Iterable[str]) -> str:
    """The known name that is most similar to `name`, however different."""
    return get_close_matches(str(name), list(known), n=1, cutoff=0.0)[0]
