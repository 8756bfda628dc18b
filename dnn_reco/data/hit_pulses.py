"""Pulses by hit, a DOM of an event with at least one pulse, and numbers computed for each hit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.pulses import Pulses
from dnn_reco.data.segments import accumulate, segment_of
from dnn_reco.detector.geometry import NUM_DOMS

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class HitPulses:
    """The pulses [p] of k hits: DOMs with at least one pulse.

    The pulses of hit i are `offsets[i]:offsets[i + 1]`, `offsets` [k + 1]; `time` is relative to
    `time_offset` [k], the sum of the event's and the DOM's own offset.
    """

    event: NDArray[np.int64]
    dom: NDArray[np.int64]
    offsets: NDArray[np.int64]
    time: NDArray[np.float64]
    charge: NDArray[np.float64]
    time_offset: NDArray[np.float64]

    @property
    def num_pulses(self) -> NDArray[np.int64]:
        """Number of pulses of each hit [k]."""
        return np.diff(self.offsets)

    @property
    def first_time(self) -> NDArray[np.float64]:
        """Time of the first pulse of each hit [k]."""
        return self.time[self.offsets[:-1]]

    @property
    def last_time(self) -> NDArray[np.float64]:
        """Time of the last pulse of each hit [k]."""
        return self.time[self.offsets[1:] - 1]


def event_offsets(pulses: Pulses) -> NDArray[np.int64]:
    """[n + 1] the pulses of event i are `offsets[i]:offsets[i + 1]`."""
    return np.searchsorted(pulses.event, np.arange(pulses.num_events + 1))


def hit_pulses(pulses: Pulses) -> HitPulses:
    """The hits of all events, with absolute times."""
    in_ice = pulses.dom >= 0
    event, dom = pulses.event[in_ice], pulses.dom[in_ice]
    is_first = np.ones(len(dom), dtype=bool)
    is_first[1:] = np.diff(event * NUM_DOMS + dom) != 0
    return HitPulses(
        event[is_first],
        dom[is_first],
        np.append(np.flatnonzero(is_first), len(dom)),
        pulses.time[in_ice],
        pulses.charge[in_ice],
        np.zeros(np.count_nonzero(is_first)),
    )


def sums(offsets: NDArray[np.int64], values: Numbers) -> Numbers:
    """Sum [k] of each segment, added up in order."""
    sums = np.bincount(segment_of(offsets), values, minlength=len(offsets) - 1)
    return np.asarray(sums, dtype=np.float64)


def mean_and_std(
    offsets: NDArray[np.int64], time: Numbers, charge: Numbers
) -> tuple[Numbers, Numbers]:
    """Charge-weighted mean and standard deviation [k] of times; no segment may be empty.

    Times are taken relative to the first of the segment and deviations to the mean, so that
    nothing is lost in spreads of ns at times of many µs.
    """
    n = np.diff(offsets)
    first_time = time[offsets[:-1]]
    total = sums(offsets, charge)
    with np.errstate(invalid="ignore", divide="ignore"):
        delay = time - np.repeat(first_time, n)
        mean = sums(offsets, charge * delay) / total
        squares = sums(offsets, charge * (delay - np.repeat(mean, n)) ** 2)
        std = np.sqrt(n * squares / ((n - 1) * total))
    return first_time + mean, np.where(n > 1, std, 0.0)


def times_at_fractions(hits: HitPulses, fractions: Sequence[float], without: float) -> Numbers:
    """Times [k, len(fractions)] of the first pulses with which fractions of the charge are reached.

    `without` stands where none is reached, as in hits without charge.
    """
    hit = segment_of(hits.offsets)
    total = sums(hits.offsets, hits.charge)
    with np.errstate(invalid="ignore", divide="ignore"):
        reached = accumulate(np.add, hits.charge, hits.offsets) / total[hit]
    times = np.full((len(total), len(fractions)), without)
    for column, fraction in enumerate(fractions):
        late_enough = np.flatnonzero(reached >= fraction)[::-1]
        times[hit[late_enough], column] = hits.time[late_enough]  # the earliest is written last
    return times
