"""The simple multiplicity trigger."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TriggerSettings:
    """When an event is kept, and how much of it (SMT8 of Aartsen et al., JINST 12 (2017) P03012).

    Attributes
    ----------
    multiplicity
        Number of launches with local coincidence that trigger.
    window
        Time in ns in which they must be.
    readout_before, readout_after
        Launches so many ns before the trigger begins and after it ends are kept.
    time
        When the trigger begins, in ns since the start of the event's readout.
    """

    multiplicity: int = 8
    window: float = 5_000.0
    readout_before: float = 10_000.0
    readout_after: float = 10_000.0
    time: float = 10_000.0


@dataclass(frozen=True)
class Triggers:
    """Triggers of k events, in their order.

    Attributes
    ----------
    event
        Event [k].
    start, stop
        Times [k] in ns of the first and of the last launch of the trigger.
    """

    event: NDArray[np.int64]
    start: NDArray[np.float64]
    stop: NDArray[np.float64]


def multiplicity_trigger(
    event: NDArray[np.int64], time: NDArray[np.float64], settings: TriggerSettings
) -> Triggers:
    """Triggers of all events with enough launches [l] close in time.

    The trigger begins with the first launch of the first window that holds enough, and ends with
    the last launch of the last such window.
    """
    order = np.lexsort((time, event))
    event, time = event[order], time[order]
    reach = settings.multiplicity - 1
    head = np.arange(max(len(time) - reach, 0))
    tail = head + reach
    enough = (event[head] == event[tail]) & (time[tail] - time[head] <= settings.window)
    head, tail = head[enough], tail[enough]
    new = np.diff(event[head], prepend=-1) != 0
    last = np.diff(event[head], append=-1) != 0
    return Triggers(event[head[new]], time[head[new]], time[tail[last]])
