"""Options of a command that have no effect on what it is given."""

from collections.abc import Mapping


def first_given(options: Mapping[str, object]) -> str | None:
    """Name of the first option that is given; None if none is: all are None, False or empty."""
    return next((name for name, value in options.items() if value), None)
