"""From pulses to the input features of the network, one list of numbers for each hit DOM.

A *format* defines these numbers; a *relative time method* the time that they are relative to. Names
are those of the configuration of IceCube's own tools, spelling included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hits import Hits
from dnn_reco.data.pulses import Pulses, no_pulses
from dnn_reco.data.segments import accumulate, offsets_after, segment_of
from dnn_reco.data.time_window import WindowSearch, window_starts
from dnn_reco.detector.constants import SPEED_OF_FIRST_LIGHT
from dnn_reco.detector.geometry import NUM_DOMS, dom_positions
from dnn_reco.errors import ConfigError

FIRST_TIME_FEATURE = {9: 3, 3: 1}
"""Feature that holds the time of the first pulse, by the number of features of the formats
`pulse_summmary_clipped` and `reduced_summary_statistics_data`; feature 0 is their charge."""

Numbers = NDArray[np.float64]

_VERTEX_METHODS = ("cascade_vertex", "first_light_at_dom")
_LOCAL_METHODS = ("none", "wf_quantile")
_LOCAL_TIME_RANGE = "local_dom_time_range"
_CLIP = (-5000.0, 14000.0)  # ns, pulse_summmary_clipped
_EPSILON = 1e-6  # slack of charge fractions, except in pulse_summmary_clipped


@dataclass(frozen=True)
class DomFeatures:
    """Features of n events, made of their pulses.

    Attributes
    ----------
    hits
        The DOMs with any feature. Features [k, F] are float64, in PE and ns, NaN where a mean,
        width or quantile does not exist because the DOM's charge is zero.
    time_offset
        Time of each event [n] in ns that its times are relative to; in methods with an offset for
        each DOM the part that is common to all.
    sparse
        Whether event files list only the values that are not zero, as they do for formats with a
        charge histogram.
    """

    hits: Hits
    time_offset: NDArray[np.float64]
    sparse: bool


@dataclass(frozen=True)
class _HitPulses:
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
        return np.diff(self.offsets)

    @property
    def first_time(self) -> NDArray[np.float64]:
        return self.time[self.offsets[:-1]]

    @property
    def last_time(self) -> NDArray[np.float64]:
        return self.time[self.offsets[1:] - 1]


@dataclass(frozen=True)
class _Format:
    """A format: `compute` takes hits and the numbers given as `setting`, returns features [k, F].

    `is_clipped`: pulses far from the time offset are dropped; `counts_from_mean`: it has its own
    time offset; `is_sparse`: see `DomFeatures`.
    """

    compute: Callable[[_HitPulses, Numbers], Numbers]
    setting: Literal["time_bins", "time_quantiles"] | None = None
    is_clipped: bool = False
    counts_from_mean: bool = False
    is_sparse: bool = False


def dom_features(
    pulses: Pulses,
    data_format: str = "pulse_summmary_clipped",
    relative_time_method: str | None = "time_range",
    *,
    time_bins: Sequence[float] | None = None,
    time_quantiles: Sequence[float] | None = None,
    vertex: NDArray[np.floating] | None = None,
) -> DomFeatures:
    """Features of all hit DOMs of n events.

    Parameters
    ----------
    pulses
        Pulses with finite times. About a hundred events at a time go fastest.
    data_format
        With charges q, times t relative to the time offset, and n pulses of a DOM in time order:

        pulse_summmary_clipped
            9 values from the pulses with -5000 <= t <= 14000: total charge; charge with
            t - t_first < 500, and < 100; first time; times at which 20 % and 50 % of the charge
            have arrived (0 if there is no charge); last time; charge-weighted mean; weighted
            standard deviation.
        reduced_summary_statistics_data
            3 values: total charge, first time, weighted standard deviation. Times are relative to
            the charge-weighted mean time of the event, whatever `relative_time_method`.
        charge_bins
            Histogram of charge in `time_bins`, each including its lower edge, the last both.
        charge_bins_and_dom_time_offset
            The time offset, then the histogram.
        charge_bins_and_times
            The absolute time of the first pulse, the time offset, then the histogram.
        charge_weighted_time_quantiles
            Total charge, then the times at which the `time_quantiles` of it have arrived.
        total_dom_charge
            Total charge.

        DOMs whose pulses are all clipped, or all outside of the bins of `charge_bins`, have no hit.
        The weighted variance is n sum q (t - mean)² / ((n - 1) sum q), 0 for n = 1.
    relative_time_method
        Time that the times are relative to:

        None, "none" or "null"
            0.
        time_range
            Start of the 6000 ns with most charge in the event (see `time_window`).
        cascade_vertex
            Time of the vertex.
        first_light_at_dom
            For each DOM, when unscattered light from the vertex reaches it.
        wf_quantile
            For each DOM, when 10 % of its charge have arrived.
        local_dom_time_range, local_dom_time_range_W[_step[_charge[_noise]]]
            For each DOM, start of the window of W ns (1500) with most charge; the numbers are the
            fields of `WindowSearch`, by default 1500, 1, 0.02, -1.
    time_bins
        Edges [B + 1] in ns, ascending; the outer ones may be infinite.
    time_quantiles
        Fractions of the charge.
    vertex
        x, y, z [m] and time [ns] of each event [n, 4], for methods relative to a vertex.

    Raises
    ------
    ConfigError
        Unknown format or method, or one whose bins, quantiles or vertices are missing or unusable.
    """
    if data_format not in _FORMATS:
        raise ConfigError(f"unknown data format '{data_format}': choose from {', '.join(_FORMATS)}")
    chosen = _FORMATS[data_format]
    numbers = _numbers(data_format, chosen.setting, time_bins, time_quantiles)

    if chosen.counts_from_mean:
        method, time_offset = "none", _mean_time(pulses)
    else:
        method = method_name(relative_time_method)
        time_offset = _event_time_offset(pulses, method, vertex)
    hits = _relative_to(_hits(pulses), time_offset, method, vertex)
    if chosen.is_clipped:
        hits = _clip(hits)
    features = chosen.compute(hits, numbers)
    event, dom = hits.event, hits.dom
    if chosen.is_sparse:
        has_content = (features != 0).any(axis=1)
        event, dom, features = event[has_content], dom[has_content], features[has_content]
    offsets = np.searchsorted(event, np.arange(pulses.num_events + 1))
    found = Hits(offsets, dom.astype(np.uint16), features)
    return DomFeatures(found, time_offset, chosen.is_sparse)


def method_name(relative_time_method: str | None) -> str:
    """The one name of a relative time method: lower case, `none` for no method."""
    name = (relative_time_method or "none").lower()
    return "none" if name == "null" else name


def num_features(
    data_format: str,
    time_bins: Sequence[float] | None = None,
    time_quantiles: Sequence[float] | None = None,
) -> int:
    """Number of features F of a format; errors are those of :func:`dom_features`."""
    none = dom_features(
        no_pulses(), data_format, None, time_bins=time_bins, time_quantiles=time_quantiles
    )
    return int(none.hits.features.shape[1])


def features_depend_on(data_format: str, relative_time_method: str | None) -> frozenset[str]:
    """Which settings beside the format make a difference to the features or the time offset.

    Of `relative_time_method`, `time_bins`, `time_quantiles` and `vertex`; all of them for a format
    that is not known here.
    """
    if data_format not in _FORMATS:
        return frozenset({"relative_time_method", "time_bins", "time_quantiles", "vertex"})
    chosen = _FORMATS[data_format]
    needed = {chosen.setting} if chosen.setting else set()
    if chosen.counts_from_mean:
        return frozenset(needed)
    uses_vertex = method_name(relative_time_method).startswith(_VERTEX_METHODS)
    return frozenset({*needed, "relative_time_method", *(["vertex"] if uses_vertex else [])})


def _numbers(
    data_format: str,
    setting: Literal["time_bins", "time_quantiles"] | None,
    time_bins: Sequence[float] | None,
    time_quantiles: Sequence[float] | None,
) -> Numbers:
    """The numbers that a format needs, checked; none for formats without a setting."""
    if setting is None:
        return np.zeros(0)
    given = time_bins if setting == "time_bins" else time_quantiles
    if given is None:
        raise ConfigError(f"data format '{data_format}' needs '{setting}'")
    numbers = np.asarray(given, dtype=np.float64)
    if setting == "time_bins" and not (len(numbers) >= 2 and (np.diff(numbers) > 0).all()):
        raise ConfigError(f"'time_bins' must be ascending edges, at least two, not {list(given)}")
    if setting == "time_quantiles" and not ((numbers >= 0) & (numbers <= 1)).all():
        raise ConfigError(f"'time_quantiles' must be fractions from 0 to 1, not {list(given)}")
    return numbers


# Time offsets


def _event_time_offset(pulses: Pulses, method: str, vertex: NDArray[np.floating] | None) -> Numbers:
    """Time offset [n] that all DOMs of an event have in common."""
    if method == "time_range":
        event_offsets = _event_offsets(pulses)
        order = _time_order(pulses.time, event_offsets)
        return window_starts(event_offsets, pulses.time[order], pulses.charge[order])
    if method in _VERTEX_METHODS:
        return _vertex(method, vertex, pulses.num_events)[:, 3]
    if method in _LOCAL_METHODS or method.startswith(_LOCAL_TIME_RANGE):
        return np.zeros(pulses.num_events)
    raise ConfigError(
        f"unknown relative time method '{method}': choose from time_range, "
        f"{', '.join((*_VERTEX_METHODS, *_LOCAL_METHODS))}, {_LOCAL_TIME_RANGE}"
    )


def _event_offsets(pulses: Pulses) -> NDArray[np.int64]:
    """[n + 1] the pulses of event i are `offsets[i]:offsets[i + 1]`."""
    return np.searchsorted(pulses.event, np.arange(pulses.num_events + 1))


def _time_order(time: Numbers, event_offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order [p] of pulses by time inside each event."""
    order = np.empty(len(time), dtype=np.int64)
    # Events one by one: twice as fast as one sort of all pulses by event and time.
    for start, stop in pairwise(event_offsets):
        order[start:stop] = start + np.argsort(time[start:stop], kind="stable")
    return order


def _mean_time(pulses: Pulses) -> Numbers:
    """Charge-weighted mean time [n] of all pulses of each event, 0 without pulses."""
    event_offsets = _event_offsets(pulses)
    filled = np.diff(event_offsets) > 0
    mean, _ = _mean_and_std(event_offsets[np.append(filled, True)], pulses.time, pulses.charge)
    means = np.zeros(pulses.num_events)
    means[filled] = mean
    return means


def _vertex(method: str, vertex: NDArray[np.floating] | None, num_events: int) -> Numbers:
    """The vertices [n, 4], which must have been given."""
    if vertex is None or vertex.shape != (num_events, 4):
        found = "none are given" if vertex is None else f"they have shape {vertex.shape}"
        raise ConfigError(
            f"relative time method '{method}' needs the vertices of all {num_events} events, "
            f"shape ({num_events}, 4), but {found}"
        )
    return np.asarray(vertex, dtype=np.float64)


def _relative_to(
    hits: _HitPulses, time_offset: Numbers, method: str, vertex: NDArray[np.floating] | None
) -> _HitPulses:
    """Hits with times relative to the event's offset [n] and to the DOM's own."""
    of_event = time_offset[hits.event]
    hits = replace(hits, time=hits.time - np.repeat(of_event, hits.num_pulses))
    if method == "first_light_at_dom":
        position = _vertex(method, vertex, len(time_offset))[hits.event, :3]
        distance = np.linalg.norm(dom_positions()[hits.dom] - position, axis=1)
        of_dom = distance / SPEED_OF_FIRST_LIGHT
    elif method == "wf_quantile":
        of_dom = _times_at_fractions(hits, [0.1 - _EPSILON], without=np.nan)[:, 0]
    elif method.startswith(_LOCAL_TIME_RANGE):
        of_dom = window_starts(hits.offsets, hits.time, hits.charge, _local_search(method))
    else:
        return replace(hits, time_offset=of_event)
    time = hits.time - np.repeat(of_dom, hits.num_pulses)
    return replace(hits, time=time, time_offset=of_event + of_dom)


def _local_search(method: str) -> WindowSearch:
    """The window search that is spelled out in the name of the method."""
    values = [1500.0, 1.0, 0.02, -1.0]
    given = [part for part in method.removeprefix(_LOCAL_TIME_RANGE).split("_") if part]
    try:
        values[: len(given)] = [float(part) for part in given]
        width, step, charge_threshold, noise_threshold = values
    except ValueError as error:
        raise ConfigError(
            f"relative time method '{method}': up to four numbers may follow "
            f"'{_LOCAL_TIME_RANGE}', separated by underscores: width, step, charge threshold, "
            "noise threshold"
        ) from error
    return WindowSearch(width, step, charge_threshold, noise_threshold)


# Hits and what is computed from them


def _hits(pulses: Pulses) -> _HitPulses:
    """The hits of all events, with absolute times."""
    in_ice = pulses.dom >= 0
    event, dom = pulses.event[in_ice], pulses.dom[in_ice]
    is_first = np.ones(len(dom), dtype=bool)
    is_first[1:] = np.diff(event * NUM_DOMS + dom) != 0
    return _HitPulses(
        event[is_first],
        dom[is_first],
        np.append(np.flatnonzero(is_first), len(dom)),
        pulses.time[in_ice],
        pulses.charge[in_ice],
        np.zeros(np.count_nonzero(is_first)),
    )


def _clip(hits: _HitPulses) -> _HitPulses:
    """Without the pulses far from the time offset, and without the hits that then have none."""
    inside = (hits.time >= _CLIP[0]) & (hits.time <= _CLIP[1])
    offsets = offsets_after(inside, hits.offsets)
    has_pulses = np.diff(offsets) > 0
    return _HitPulses(
        hits.event[has_pulses],
        hits.dom[has_pulses],
        offsets[np.append(has_pulses, True)],
        hits.time[inside],
        hits.charge[inside],
        hits.time_offset[has_pulses],
    )


def _sums(offsets: NDArray[np.int64], values: Numbers) -> Numbers:
    """Sum [k] of each segment, added up in order."""
    sums = np.bincount(segment_of(offsets), values, minlength=len(offsets) - 1)
    return np.asarray(sums, dtype=np.float64)


def _mean_and_std(
    offsets: NDArray[np.int64], time: Numbers, charge: Numbers
) -> tuple[Numbers, Numbers]:
    """Charge-weighted mean and standard deviation [k] of times; no segment may be empty.

    Times are taken relative to the first of the segment and deviations to the mean, so that
    nothing is lost in spreads of ns at times of many µs.
    """
    n = np.diff(offsets)
    first_time = time[offsets[:-1]]
    delay = time - np.repeat(first_time, n)
    total = _sums(offsets, charge)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = _sums(offsets, charge * delay) / total
        squares = _sums(offsets, charge * (delay - np.repeat(mean, n)) ** 2)
        std = np.sqrt(n * squares / ((n - 1) * total))
    return first_time + mean, np.where(n > 1, std, 0.0)


def _times_at_fractions(hits: _HitPulses, fractions: Sequence[float], without: float) -> Numbers:
    """Times [k, len(fractions)] of the first pulses with which fractions of the charge are reached.

    `without` stands where none is reached, as in hits without charge.
    """
    hit = segment_of(hits.offsets)
    total = _sums(hits.offsets, hits.charge)
    with np.errstate(invalid="ignore", divide="ignore"):
        reached = accumulate(np.add, hits.charge, hits.offsets) / total[hit]
    times = np.full((len(total), len(fractions)), without)
    for column, fraction in enumerate(fractions):
        late_enough = np.flatnonzero(reached >= fraction)[::-1]
        times[hit[late_enough], column] = hits.time[late_enough]  # the earliest is written last
    return times


def _charge_bins(hits: _HitPulses, edges: Numbers) -> Numbers:
    """Histogram [k, B] of the charge of each hit."""
    k, B = len(hits.dom), len(edges) - 1
    time_bin = np.searchsorted(edges, hits.time, side="right") - 1
    time_bin[hits.time == edges[-1]] = B - 1
    inside = (time_bin >= 0) & (time_bin < B)
    cell = segment_of(hits.offsets)[inside] * B + time_bin[inside]
    histogram = np.bincount(cell, hits.charge[inside], minlength=k * B)
    return np.asarray(histogram, dtype=np.float64).reshape(k, B)


# Formats


def _pulse_summary(hits: _HitPulses, _: Numbers) -> Numbers:
    delay = hits.time - np.repeat(hits.first_time, hits.num_pulses)
    return np.column_stack(
        [
            _sums(hits.offsets, hits.charge),
            _sums(hits.offsets, np.where(delay < 500, hits.charge, 0.0)),
            _sums(hits.offsets, np.where(delay < 100, hits.charge, 0.0)),
            hits.first_time,
            _times_at_fractions(hits, [0.2, 0.5], without=0.0),
            hits.last_time,
            *_mean_and_std(hits.offsets, hits.time, hits.charge),
        ]
    )


def _reduced_summary(hits: _HitPulses, _: Numbers) -> Numbers:
    _, std = _mean_and_std(hits.offsets, hits.time, hits.charge)
    return np.column_stack([_sums(hits.offsets, hits.charge), hits.first_time, std])


def _charge_bins_and_time_offset(hits: _HitPulses, edges: Numbers) -> Numbers:
    return np.column_stack([hits.time_offset, _charge_bins(hits, edges)])


def _charge_bins_and_times(hits: _HitPulses, edges: Numbers) -> Numbers:
    first_time = hits.first_time + hits.time_offset
    return np.column_stack([first_time, hits.time_offset, _charge_bins(hits, edges)])


def _time_quantiles(hits: _HitPulses, quantiles: Numbers) -> Numbers:
    total = _sums(hits.offsets, hits.charge)
    times = _times_at_fractions(hits, list(quantiles - _EPSILON), without=np.nan)
    return np.column_stack([total, times])


def _total_charge(hits: _HitPulses, _: Numbers) -> Numbers:
    return _sums(hits.offsets, hits.charge)[:, None]


_FORMATS = {
    "pulse_summmary_clipped": _Format(_pulse_summary, is_clipped=True),
    "reduced_summary_statistics_data": _Format(_reduced_summary, counts_from_mean=True),
    "charge_bins": _Format(_charge_bins, "time_bins", is_sparse=True),
    "charge_bins_and_dom_time_offset": _Format(
        _charge_bins_and_time_offset, "time_bins", is_sparse=True
    ),
    "charge_bins_and_times": _Format(_charge_bins_and_times, "time_bins", is_sparse=True),
    "charge_weighted_time_quantiles": _Format(_time_quantiles, "time_quantiles"),
    "total_dom_charge": _Format(_total_charge),
}
