"""From pulses to the input features of the network, one list of numbers for each hit DOM.

A *format* defines these numbers; a *relative time method* the time that they are relative to. Names
are those of the configuration of IceCube's own tools, spelling included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.first_pulses import FIRST_PULSES_FORMAT, first_pulses, num_first_pulses
from dnn_reco.data.hit_pulses import (
    HitPulses,
    Numbers,
    mean_and_std,
    sums,
    times_at_fractions,
)
from dnn_reco.data.hits import Hits
from dnn_reco.data.pulses import Pulses, no_pulses
from dnn_reco.data.segments import offsets_after, segment_of
from dnn_reco.data.time_offsets import (
    TimeReference,
    hits_relative_to,
    mean_time,
    method_name,
    relative_hits,
    uses_vertex,
)
from dnn_reco.errors import ConfigError

FIRST_TIME_FEATURE = {9: 3, 3: 1}
"""Feature that holds the time of the first pulse, by the number of features of the formats
`pulse_summmary_clipped` and `reduced_summary_statistics_data`; feature 0 is their charge."""

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
    num_listed
        Number of first features that they list in any case.
    """

    hits: Hits
    time_offset: NDArray[np.float64]
    sparse: bool
    num_listed: int = 0


@dataclass(frozen=True)
class _Format:
    """A format: `compute` takes hits and the numbers given as `setting`, returns features [k, F].

    `is_clipped`: pulses far from the time offset are dropped; `counts_from`: time offset of formats
    that have their own, instead of that of the relative time method; `is_sparse` and
    `num_listed`: see `DomFeatures`.
    """

    compute: Callable[[HitPulses, Numbers], Numbers]
    setting: Literal["time_bins", "time_quantiles"] | None = None
    is_clipped: bool = False
    counts_from: Literal["method", "mean", "zero"] = "method"
    is_sparse: bool = False
    num_listed: int = 0


def dom_features(
    pulses: Pulses,
    data_format: str = "pulse_summmary_clipped",
    relative_time_method: str | None = "time_range",
    *,
    time_bins: Sequence[float] | None = None,
    time_quantiles: Sequence[float] | None = None,
    vertex: NDArray[np.floating] | None = None,
    random: NDArray[np.floating] | None = None,
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
        pulse_summary_and_first_pulses_N
            These 9 values, then the times of the first N pulses (1 to 100), then their charges.
            Pulses that the DOM does not have, have the time of its first and charge 0.
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
            Total charge. The time offset is 0, whatever `relative_time_method`.

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
        cascade_vertex_random_uniform_minus_plus_A_B
            A time from A ns before the vertex to B ns after it: the fraction `random` of the way.
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
    random
        Numbers in 0 … 1 of each event [n], for the method with a random offset; see
        :func:`dnn_reco.data.time_offsets.event_randoms`.

    Raises
    ------
    ConfigError
        Unknown format or method, or one whose bins, quantiles or vertices are missing or unusable.
    """
    chosen = _format_of(data_format)
    if chosen is None:
        raise ConfigError(
            f"unknown data format '{data_format}': choose from {', '.join(DATA_FORMATS)}"
        )
    numbers = _numbers(data_format, chosen.setting, time_bins, time_quantiles)

    if chosen.counts_from == "method":
        reference = TimeReference(method_name(relative_time_method), vertex, random)
        hits, time_offset = relative_hits(pulses, reference)
    else:
        is_mean = chosen.counts_from == "mean"
        time_offset = mean_time(pulses) if is_mean else np.zeros(pulses.num_events)
        hits = hits_relative_to(pulses, time_offset)
    if chosen.is_clipped:
        hits = _clip(hits)
    features = chosen.compute(hits, numbers)
    event, dom = hits.event, hits.dom
    if chosen.is_sparse and not chosen.num_listed:
        has_content = (features != 0).any(axis=1)
        event, dom, features = event[has_content], dom[has_content], features[has_content]
    offsets = np.searchsorted(event, np.arange(pulses.num_events + 1))
    found = Hits(offsets, dom.astype(np.uint16), features)
    return DomFeatures(found, time_offset, chosen.is_sparse, chosen.num_listed)


def listed_bins(features: NDArray[np.floating], sparse: bool, num_listed: int) -> NDArray[np.bool_]:
    """Which features [k, F] event files list; see `DomFeatures`."""
    listed = features != 0 if sparse else np.ones(features.shape, dtype=bool)
    listed[:, :num_listed] = True
    return listed


def hits_as_read(hits: Hits, data_format: str, init_values: Sequence[float]) -> Hits:
    """Hits as they are read from an event file, with initial values of what it does not list.

    Parameters
    ----------
    hits
        Hits with features [k, F]. In formats of which event files do not list zeros, 0 stands for
        a bin that is not listed.
    data_format
        Their format.
    init_values
        F values (`DOM_init_values`).
    """
    known = _format_of(data_format)
    sparse, num_listed = (known.is_sparse, known.num_listed) if known else (True, 0)
    is_unknown = data_format == "autoencoder"  # what its files list depends on the encoder
    if not sparse or is_unknown or not any(init_values):
        return hits
    listed = listed_bins(hits.features, sparse, num_listed)
    init = np.asarray(init_values, dtype=hits.features.dtype)
    return replace(hits, features=np.where(listed, hits.features, init))


def is_known_format(data_format: str) -> bool:
    """Whether there is such a format that pulses alone decide."""
    return _format_of(data_format) is not None


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
    chosen = _format_of(data_format)
    if chosen is None:
        return frozenset({"relative_time_method", "time_bins", "time_quantiles", "vertex"})
    needed = {chosen.setting} if chosen.setting else set()
    if chosen.counts_from != "method":
        return frozenset(needed)
    vertex = ["vertex"] if uses_vertex(relative_time_method) else []
    return frozenset({*needed, "relative_time_method", *vertex})


def refuse_unused_numbers(
    data_format: str,
    time_bins: Sequence[float] | None,
    time_quantiles: Sequence[float] | None,
) -> None:
    """Check that bins and quantiles are only given where the format uses them.

    Raises
    ------
    ConfigError
        Naming those without effect.
    """
    used = features_depend_on(data_format, None)
    for setting, given in (("time_bins", time_bins), ("time_quantiles", time_quantiles)):
        if given is not None and setting not in used:
            users = [name for name, each in _FORMATS.items() if each.setting == setting]
            raise ConfigError(
                f"'{setting}' has no effect on the data format '{data_format}': leave it out, or "
                f"choose a format that uses it ({', '.join(users)})"
            )


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
    are_fractions = numbers.ndim == 1 and bool(((numbers >= 0) & (numbers <= 1)).all())
    if setting == "time_quantiles" and not are_fractions:
        raise ConfigError(f"'time_quantiles' must be fractions from 0 to 1, not {list(given)}")
    return numbers


# Hits and what is computed from them


def _clip(hits: HitPulses) -> HitPulses:
    """Without the pulses far from the time offset, and without the hits that then have none."""
    inside = (hits.time >= _CLIP[0]) & (hits.time <= _CLIP[1])
    offsets = offsets_after(inside, hits.offsets)
    has_pulses = np.diff(offsets) > 0
    return HitPulses(
        hits.event[has_pulses],
        hits.dom[has_pulses],
        offsets[np.append(has_pulses, True)],
        hits.time[inside],
        hits.charge[inside],
        hits.time_offset[has_pulses],
    )


def _charge_bins(hits: HitPulses, edges: Numbers) -> Numbers:
    """Histogram [k, B] of the charge of each hit."""
    k, B = len(hits.dom), len(edges) - 1
    time_bin = np.searchsorted(edges, hits.time, side="right") - 1
    time_bin[hits.time == edges[-1]] = B - 1
    inside = (time_bin >= 0) & (time_bin < B)
    cell = segment_of(hits.offsets)[inside] * B + time_bin[inside]
    histogram = np.bincount(cell, hits.charge[inside], minlength=k * B)
    return np.asarray(histogram, dtype=np.float64).reshape(k, B)


# Formats


def _pulse_summary(hits: HitPulses, _: Numbers) -> Numbers:
    delay = hits.time - np.repeat(hits.first_time, hits.num_pulses)
    return np.column_stack(
        [
            sums(hits.offsets, hits.charge),
            sums(hits.offsets, np.where(delay < 500, hits.charge, 0.0)),
            sums(hits.offsets, np.where(delay < 100, hits.charge, 0.0)),
            hits.first_time,
            times_at_fractions(hits, [0.2, 0.5], without=0.0),
            hits.last_time,
            *mean_and_std(hits.offsets, hits.time, hits.charge),
        ]
    )


def _summary_and_first_pulses(num_pulses: int, hits: HitPulses, none: Numbers) -> Numbers:
    return np.hstack([_pulse_summary(hits, none), first_pulses(hits, num_pulses)])


def _reduced_summary(hits: HitPulses, _: Numbers) -> Numbers:
    _, std = mean_and_std(hits.offsets, hits.time, hits.charge)
    return np.column_stack([sums(hits.offsets, hits.charge), hits.first_time, std])


def _charge_bins_and_time_offset(hits: HitPulses, edges: Numbers) -> Numbers:
    return np.column_stack([hits.time_offset, _charge_bins(hits, edges)])


def _charge_bins_and_times(hits: HitPulses, edges: Numbers) -> Numbers:
    first_time = hits.first_time + hits.time_offset
    return np.column_stack([first_time, hits.time_offset, _charge_bins(hits, edges)])


def _time_quantiles(hits: HitPulses, quantiles: Numbers) -> Numbers:
    total = sums(hits.offsets, hits.charge)
    times = times_at_fractions(hits, list(quantiles - _EPSILON), without=np.nan)
    return np.column_stack([total, times])


def _total_charge(hits: HitPulses, _: Numbers) -> Numbers:
    return sums(hits.offsets, hits.charge)[:, None]


_FORMATS = {
    "pulse_summmary_clipped": _Format(_pulse_summary, is_clipped=True),
    "reduced_summary_statistics_data": _Format(_reduced_summary, counts_from="mean"),
    "charge_bins": _Format(_charge_bins, "time_bins", is_sparse=True),
    "charge_bins_and_dom_time_offset": _Format(
        _charge_bins_and_time_offset, "time_bins", is_sparse=True, num_listed=1
    ),
    "charge_bins_and_times": _Format(
        _charge_bins_and_times, "time_bins", is_sparse=True, num_listed=2
    ),
    "charge_weighted_time_quantiles": _Format(_time_quantiles, "time_quantiles"),
    "total_dom_charge": _Format(_total_charge, counts_from="zero"),
}

DATA_FORMATS = (*_FORMATS, FIRST_PULSES_FORMAT)
"""Names of the formats that pulses alone decide; N in one stands for a number."""


def _format_of(data_format: str) -> _Format | None:
    """The format of a name; None if there is none."""
    num_pulses = num_first_pulses(data_format)
    if num_pulses is None:
        return _FORMATS.get(data_format)
    return _Format(partial(_summary_and_first_pulses, num_pulses), is_clipped=True)
