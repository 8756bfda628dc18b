"""What a check of event files finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""The worst first."""

ALL_FILES = "all files"


@dataclass(frozen=True)
class Finding:
    """A remark on event files for the user.

    Attributes
    ----------
    severity
        `error`: a training stops there, or learns what is wrong; `warning`: events are lost or
        doubtful; `info`: good to know.
    file
        The file; `ALL_FILES` for what concerns all together.
    table
        The table; empty for the whole file.
    text
        What is wrong, without numbers, so that findings of many files can be put together.
    remedy
        What to do.
    count
        Number of events, rows or columns that it concerns.
    example
        An event that it concerns: see :func:`event_name`; empty if it concerns none alone.
    """

    severity: Severity
    file: str
    table: str
    text: str
    remedy: str
    count: int = 1
    example: str = ""


def event_name(event_id: np.void) -> str:
    """An event id as text."""
    run, event, sub_event, stream = event_id.tolist()
    return f"Run {run}, Event {event}, SubEvent {sub_event}, stream {stream}"


def of_events(
    severity: Severity,
    place: tuple[str, str],
    text: str,
    remedy: str,
    ids: NDArray[np.void],
    bad: NDArray[np.bool_],
) -> list[Finding]:
    """The finding that some events are bad; none if no event is.

    Parameters
    ----------
    severity, text, remedy
        See `Finding`.
    place
        File and table.
    ids, bad
        Event ids [n], and which of them are concerned.
    """
    count = int(np.count_nonzero(bad))
    if count == 0:
        return []
    example = event_name(ids[np.argmax(bad)])
    return [Finding(severity, *place, text, remedy, count, example)]
