"""A few numbers that describe the inputs of an event: size, charge, place, times."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.event_table import NamedColumns
from dnn_reco.data.features import FIRST_TIME_FEATURE
from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import dom_positions

Numbers = NDArray[np.float64]

# By the number of features: those of pulse_summmary_clipped, reduced_summary_statistics_data and
# total_dom_charge. Feature 0 of each is the charge.
_NAMES = {
    9: (
        "charge [PE]",
        "charge in 500 ns [PE]",
        "charge in 100 ns [PE]",
        "first time [ns]",
        "time of 20 % of charge [ns]",
        "time of 50 % of charge [ns]",
        "last time [ns]",
        "mean time [ns]",
        "width in time [ns]",
    ),
    3: ("charge [PE]", "first time [ns]", "width in time [ns]"),
    1: ("charge [PE]",),
}


def feature_names(num_features: int) -> tuple[str, ...]:
    """Names of the F features of a DOM, with units where their number determines the format."""
    numbered = tuple(f"feature {number}" for number in range(num_features))
    return _NAMES.get(num_features, numbered)


def has_charge(num_features: int) -> bool:
    """Whether feature 0 of a DOM is its charge."""
    return num_features in _NAMES


def event_summaries(hits: Hits) -> NamedColumns:
    """Number of hit DOMs, charge, centre of gravity, times and mean features of n events.

    The centre of gravity and the spread of first times are weighted with the charges where they are
    known. Values of events without hit or charge are NaN, but for the number of hit DOMs.
    """
    size, features = np.diff(hits.offsets), hits.features.astype(np.float64)
    charged = has_charge(hits.num_features)
    weight = np.maximum(features[:, 0], 0.0) if charged else np.ones(len(features))
    columns: dict[str, Numbers] = {"number of hit DOMs": size.astype(np.float64)}
    if charged:
        charge = _event_sums(hits, features[:, 0])
        columns["total charge [PE]"] = np.where(size > 0, charge, np.nan)
    place = _means(hits, dom_positions()[hits.dom], weight)
    for axis, name in enumerate("xyz"):
        columns[f"centre of gravity {name} [m]"] = place[:, axis]
    first = FIRST_TIME_FEATURE.get(hits.num_features)
    if first is not None:
        time = features[:, first]
        mean = _means(hits, time[:, None], weight)[:, 0]
        square = _means(hits, (time - mean[hits.event])[:, None] ** 2, weight)[:, 0]
        columns["spread of first times [ns]"] = np.sqrt(square)
    unweighted = _means(hits, features, np.ones(len(features)))
    for number, name in enumerate(feature_names(hits.num_features)):
        columns[f"mean of {name}"] = unweighted[:, number]
    return NamedColumns(tuple(columns), np.stack(list(columns.values()), axis=1))


@np.errstate(invalid="ignore", divide="ignore")
def _means(hits: Hits, values: Numbers, weight: Numbers) -> Numbers:
    """Weighted means [n, C] of the values [k, C] of the hits of each event."""
    total = _event_sums(hits, weight)
    sums = [_event_sums(hits, weight * column) for column in values.T]
    return np.stack([each / total for each in sums], axis=1)


def _event_sums(hits: Hits, values: Numbers) -> Numbers:
    sums: Numbers = np.bincount(hits.event, values, hits.num_events).astype(np.float64)
    return sums
