"""Pulses of many events, as flat arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.geometry import NUM_DOMS
from dnn_reco.errors import DataError

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


def check_pulses(pulses: Pulses) -> None:
    """Check pulses that a user made: readers of files only make valid ones.

    Raises
    ------
    DataError
        If arrays have other shapes than [p], an event or DOM does not exist, a time is not finite,
        a charge is not finite or negative, or pulses are not sorted.
    """
    event, dom, time, charge = pulses.event, pulses.dom, pulses.time, pulses.charge
    shapes = [np.shape(each) for each in (event, dom, time, charge, pulses.flags)]
    if shapes != [(len(event),)] * len(shapes):
        raise DataError(
            "event, dom, time, charge and flags of pulses must have equal lengths [p], but have "
            f"the shapes {', '.join(map(str, shapes))}"
        )
    if ((event < 0) | (event >= pulses.num_events)).any():
        raise DataError(f"pulses have an event outside 0 … {pulses.num_events - 1}")
    if ((dom < -1) | (dom >= NUM_DOMS)).any():
        raise DataError(f"pulses have a DOM index outside -1 … {NUM_DOMS - 1}")
    if not np.isfinite(time).all():
        raise DataError("pulses have times that are not finite")
    if not (np.isfinite(charge) & (charge >= 0)).all():
        raise DataError("pulses have charges that are negative or not finite")
    if (np.lexsort((time, dom, event)) != np.arange(len(event))).any():
        raise DataError(
            "pulses must be sorted by event, DOM and time: put all arrays into the order "
            "numpy.lexsort((time, dom, event))"
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
