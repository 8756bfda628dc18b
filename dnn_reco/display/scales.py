"""Scales of event displays: which features are shown, marker sizes, and the range of times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.features import FIRST_TIME_FEATURE
from dnn_reco.data.hits import Hits, check_hits
from dnn_reco.detector.geometry import NUM_DOMS_PER_STRING, dom_positions
from dnn_reco.errors import DataError

# Quantiles of the times, weighted by the root of the charge; hits beyond have the colour of these.
# Noise hits do not count: those without local coincidence, the detector's own condition (another
# hit DOM on the string, at most so many DOMs and ns away; Aartsen et al., JINST 12 P03012, 2017).
_SHOWN_TIMES = 0.04, 0.96
_COINCIDENT_DOMS, _COINCIDENT_TIME = 2, 1000.0
_AREA, _MIN_AREA, _MAX_AREA = 12.0, 5.0, 600.0  # points²: of 1 PE, and limits


@dataclass(frozen=True)
class ShownHits:
    """The hits of one event, as displays draw them.

    Attributes
    ----------
    dom
        DOM index [k].
    charge
        Charge [k] in PE.
    time
        Time of the first pulse [k] in ns.
    """

    dom: NDArray[np.uint16]
    charge: NDArray[np.floating]
    time: NDArray[np.floating]

    @property
    def position(self) -> NDArray[np.float64]:
        """Positions [k, 3] in m."""
        return np.asarray(dom_positions()[self.dom])

    @property
    def centre(self) -> NDArray[np.float64]:
        """Charge-weighted mean position [3] in m; that of the detector without any charge."""
        weight = np.maximum(self.charge, 0)
        if weight.sum() > 0:
            return np.asarray(np.average(self.position, axis=0, weights=weight))
        return np.asarray(dom_positions().mean(axis=0))

    @property
    def summary(self) -> str:
        """Number of DOMs and charge, as text."""
        doms = "DOM" if len(self.dom) == 1 else "DOMs"
        return f"{len(self.dom)} hit {doms}, {self.charge.sum():,.1f} PE"


def shown_hits(
    hits: Hits, event: int, charge_feature: int = 0, time_feature: int | None = None
) -> ShownHits:
    """The hits of one event.

    Parameters
    ----------
    hits
        Hits of n events.
    event
        Number of the event, 0 … n - 1.
    charge_feature, time_feature
        Features that hold the charge of a DOM [PE], and the time of its first pulse [ns]; None:
        that of the data formats with 9 and with 3 features.

    Raises
    ------
    DataError
        If the hits are invalid, or there is no such event or feature.
    """
    check_hits(hits)
    if not 0 <= event < hits.num_events:
        raise DataError(f"there is no event {event}: there are {hits.num_events}, counted from 0")
    time_feature = _checked_features(hits, charge_feature, time_feature)
    shown = hits.part(event, event + 1)
    return ShownHits(shown.dom, shown.features[:, charge_feature], shown.features[:, time_feature])


def _checked_features(hits: Hits, charge: int, time: int | None) -> int:
    """The feature that holds the time, with both features checked."""
    if time is None:
        time = FIRST_TIME_FEATURE.get(hits.num_features)
    if time is None:
        raise DataError(
            f"it is unknown which of the {hits.num_features} features is the time of the first "
            "pulse: give its number as time_feature"
        )
    for name, feature in (("charge_feature", charge), ("time_feature", time)):
        if not 0 <= feature < hits.num_features:
            raise DataError(
                f"{name} is {feature}, but there are {hits.num_features} features, counted from 0"
            )
    return time


def marker_area(charge: NDArray[np.floating]) -> NDArray[np.floating]:
    """Area of markers [points²]: proportional to the root of the charge, within limits."""
    return np.asarray(np.clip(_AREA * np.sqrt(np.maximum(charge, 0)), _MIN_AREA, _MAX_AREA))


def time_range(hits: ShownHits) -> tuple[float, float]:
    """Times [ns] that have the first and the last colour.

    Noise hits do not change them: see :func:`in_coincidence`.
    """
    weight = np.sqrt(np.maximum(hits.charge, 0))
    coincident = in_coincidence(hits)
    if (weight * coincident).any():
        weight = weight * coincident
    order = np.argsort(hits.time)
    share = np.cumsum(weight[order])
    low, high = 0.0, 1.0
    if len(order) and share[-1] > 0:
        inside = np.searchsorted(share, np.array(_SHOWN_TIMES) * share[-1])
        low, high = (float(time) for time in hits.time[order][inside])
    return low, max(high, low + 1.0)


def in_coincidence(hits: ShownHits) -> NDArray[np.bool_]:
    """Whether another hit DOM is near in space and time [k]: at most 2 DOMs and 1 µs away."""
    string, dom = hits.dom // NUM_DOMS_PER_STRING, hits.dom.astype(np.int64)
    coincident = np.zeros(len(dom), dtype=bool)
    for step in range(1, _COINCIDENT_DOMS + 1):  # in ascending order of the DOMs
        near = (
            (string[step:] == string[:-step])
            & (dom[step:] - dom[:-step] <= _COINCIDENT_DOMS)
            & (np.abs(hits.time[step:] - hits.time[:-step]) <= _COINCIDENT_TIME)
        )
        coincident[step:] |= near
        coincident[:-step] |= near
    return coincident
