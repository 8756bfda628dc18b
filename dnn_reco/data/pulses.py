"""Pulses of many events, as flat arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOCAL_COINCIDENCE, ATWD, FADC = 1, 2, 4


@dataclass(frozen=True)
class Pulses:
    """p pulses of n events, sorted by event, DOM and time.

    Attributes
    ----------
    num_events
        Number of events n, those without pulses included.
    event
        Event of each pulse [p], 0 … n - 1.
    dom
        DOM index of each pulse [p]; -1 for surface tanks (om > 60), which count in time offsets
        only.
    time
        Times [p] in ns, since the start of the event's readout.
    charge
        Charges [p] in PE.
    flags
        Bits [p] of `LOCAL_COINCIDENCE`, `ATWD` and `FADC`.
    """

    num_events: int
    event: NDArray[np.int64]
    dom: NDArray[np.int64]
    time: NDArray[np.float64]
    charge: NDArray[np.float64]
    flags: NDArray[np.uint8]

    def first(self, num_events: int) -> "Pulses":
        """The first events alone."""
        stop = int(np.searchsorted(self.event, num_events))
        return Pulses(
            min(num_events, self.num_events),
            self.event[:stop],
            self.dom[:stop],
            self.time[:stop],
            self.charge[:stop],
            self.flags[:stop],
        )

    def select(self, keep: NDArray[np.bool_]) -> "Pulses":
        """The pulses with `keep` [p], of the same events."""
        return Pulses(
            self.num_events,
            self.event[keep],
            self.dom[keep],
            self.time[keep],
            self.charge[keep],
            self.flags[keep],
        )


def join(parts: Sequence[Pulses]) -> Pulses:
    """The events of all parts, one after the other."""
    starts = np.cumsum([0, *(part.num_events for part in parts)])
    return Pulses(
        int(starts[-1]),
        np.concatenate([p.event + start for p, start in zip(parts, starts, strict=False)]),
        np.concatenate([part.dom for part in parts]),
        np.concatenate([part.time for part in parts]),
        np.concatenate([part.charge for part in parts]),
        np.concatenate([part.flags for part in parts]),
    )


def no_pulses() -> Pulses:
    """No event at all."""
    whole, real = np.zeros(0, dtype=np.int64), np.zeros(0)
    return Pulses(0, whole, whole, real, real, np.zeros(0, dtype=np.uint8))
