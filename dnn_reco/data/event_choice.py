"""How users name an event: by its number in a file, or by its id."""

from __future__ import annotations

from dnn_reco.errors import ConfigError

_MOST_PARTS = 3


def parse_event(wanted: str) -> int | tuple[int, ...]:
    """The number of an event, from 0, or its id: run, event and, if it is given, sub-event.

    Parameters
    ----------
    wanted
        "first", a number, `Run:Event` or `Run:Event:SubEvent`.

    Raises
    ------
    ConfigError
        If it is none of these.
    """
    parts = wanted.split(":")
    if wanted == "first":
        return 0
    if len(parts) > _MOST_PARTS or not all(part.isdecimal() for part in parts):
        raise ConfigError(
            f"--event '{wanted}' is not an event: give its number (from 0), 'first', or its id as "
            "Run:Event"
        )
    return int(wanted) if len(parts) == 1 else tuple(map(int, parts))
