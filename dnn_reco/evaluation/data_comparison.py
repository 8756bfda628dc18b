"""Two data sets side by side: inputs and labels, before a model of one is applied to the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.event_summary import event_summaries, feature_names
from dnn_reco.data.event_table import EventTable, NamedColumns
from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import NUM_STRINGS, dom_positions, string_and_om
from dnn_reco.evaluation.classifier_test import ClassifierTest, classifier_test
from dnn_reco.evaluation.metrics import effective_number
from dnn_reco.evaluation.two_sample import (
    TwoSample,
    compare_quantity,
    holm,
)

Numbers = NDArray[np.float64]

DEPTH_EDGES = np.arange(-525.0, 551.0, 25.0)
"""Edges of the layers in which hit DOMs are counted: z [m] in detector coordinates."""


@dataclass(frozen=True)
class EventSample:
    """What is compared of n events of a data set.

    Attributes
    ----------
    summaries
        Numbers that describe an event's inputs: :func:`event_summaries`.
    hit
        Features of one hit DOM of each event, drawn at random: the hits of an event depend on each
        other, those of different events do not. NaN for events without hit.
    labels
        Labels; no columns if the files have none.
    string_share, layer_share
        Share of an event's hit DOMs on each string [n, 86], and in each layer of `DEPTH_EDGES`.
    weights
        Weights of the events [n].
    """

    summaries: NamedColumns
    hit: NamedColumns
    labels: NamedColumns
    string_share: NDArray[np.float32]
    layer_share: NDArray[np.float32]
    weights: Numbers

    @property
    def num_events(self) -> int:
        """Number of events n."""
        return len(self.weights)


@dataclass(frozen=True)
class Occupancy:
    """Mean share of an event's hit DOMs at places of the detector, in both samples.

    Attributes
    ----------
    share, error
        Mean shares [2, places], and their statistical errors.
    p_value
        Probability of the difference at each place [places], corrected for their number; NaN where
        no event has a hit.
    """

    share: Numbers
    error: Numbers
    p_value: Numbers


@dataclass(frozen=True)
class DataComparison:
    """Result of comparing two data sets.

    Attributes
    ----------
    names
        Names of the two.
    samples
        Their events.
    inputs, labels
        Each quantity, those that differ most (`ks`) first.
    strings, layers
        Where the hit DOMs are.
    classifier
        The classifier two-sample test of the summaries; None if there are too few events.
    """

    names: tuple[str, str]
    samples: tuple[EventSample, EventSample]
    inputs: Sequence[TwoSample]
    labels: Sequence[TwoSample]
    strings: Occupancy
    layers: Occupancy
    classifier: ClassifierTest | None


def sample_events(events: EventTable, weights: Numbers, rng: np.random.Generator) -> EventSample:
    """What is compared of the events of a table; `weights` [n] are theirs."""
    hits = events.hits
    place = dom_positions()[:, 2]
    string = string_and_om(hits.dom)[0] - 1
    layer = np.digitize(place[hits.dom], DEPTH_EDGES) - 1
    return EventSample(
        event_summaries(hits),
        NamedColumns(
            tuple(f"{name} of a hit DOM" for name in feature_names(hits.num_features)),
            _drawn_hits(hits, rng),
        ),
        NamedColumns(events.labels.names, events.labels.array.astype(np.float64)),
        _shares(hits, string, NUM_STRINGS),
        _shares(hits, layer, len(DEPTH_EDGES) - 1),
        weights,
    )


def _drawn_hits(hits: Hits, rng: np.random.Generator) -> Numbers:
    """Features [n, F] of one hit of each event."""
    size = np.diff(hits.offsets)
    drawn = np.full((hits.num_events, hits.num_features), np.nan)
    row = hits.offsets[:-1] + (rng.random(hits.num_events) * size).astype(np.int64)
    drawn[size > 0] = hits.features[row[size > 0]]
    return drawn


@np.errstate(invalid="ignore")
def _shares(hits: Hits, place: NDArray[np.integer], num_places: int) -> NDArray[np.float32]:
    """Share [n, places] of the hits of each event at each place; NaN without hit."""
    counts = np.bincount(hits.event * num_places + place, minlength=hits.num_events * num_places)
    counts = counts.reshape(-1, num_places)
    shares: NDArray[np.float32] = (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def join_samples(parts: Sequence[EventSample]) -> EventSample:
    """The events of several samples with the same columns, one after the other."""
    first = parts[0]

    def joined(name: str) -> NamedColumns:
        columns: NamedColumns = getattr(first, name)
        return replace(columns, array=np.concatenate([getattr(p, name).array for p in parts]))

    return EventSample(
        joined("summaries"),
        joined("hit"),
        joined("labels"),
        np.concatenate([part.string_share for part in parts]),
        np.concatenate([part.layer_share for part in parts]),
        np.concatenate([part.weights for part in parts]),
    )


def compare_samples(
    names: tuple[str, str], first: EventSample, second: EventSample, seed: int = 1
) -> DataComparison:
    """Compare two samples with the same features; labels are compared where both have them."""
    weights = (first.weights, second.weights)
    inputs = [
        *_quantities(first.summaries, second.summaries, weights),
        *_quantities(first.hit, second.hit, weights),
    ]
    classifier = classifier_test(
        first.summaries.names,
        first.summaries.array.astype(np.float64),
        second.summaries.array.astype(np.float64),
        weights,
        seed,
    )
    return DataComparison(
        names,
        (first, second),
        _sorted(inputs),
        _sorted(_quantities(first.labels, second.labels, weights)),
        _occupancy(first.string_share, second.string_share, weights),
        _occupancy(first.layer_share, second.layer_share, weights),
        classifier,
    )


def _quantities(
    first: NamedColumns, second: NamedColumns, weights: tuple[Numbers, Numbers]
) -> list[TwoSample]:
    """All columns that both have."""
    return [
        compare_quantity(name, first[name].astype(float), second[name].astype(float), weights)
        for name in first
        if name in second
    ]


def _sorted(quantities: Sequence[TwoSample]) -> list[TwoSample]:
    """With adjusted probabilities, largest difference first and those without one last."""
    adjusted = holm(np.array([quantity.p_value for quantity in quantities]))
    result = [replace(q, adjusted_p=float(p)) for q, p in zip(quantities, adjusted, strict=True)]
    return sorted(result, key=lambda q: -q.ks if math.isfinite(q.ks) else math.inf)


def _occupancy(
    first: NDArray[np.float32], second: NDArray[np.float32], weights: tuple[Numbers, Numbers]
) -> Occupancy:
    (mean_a, var_a, n), (mean_b, var_b, m) = (
        _share_moments(s, w) for s, w in zip((first, second), weights, strict=True)
    )
    share, error = np.stack([mean_a, mean_b]), np.sqrt(np.stack([var_a / n, var_b / m]))
    with np.errstate(invalid="ignore", divide="ignore"):
        # If nothing differs, both have the variance of all events: that of a few events is not
        # known where they have hardly a hit.
        together = (n * var_a + m * var_b) / (n + m)
        deviation = np.abs(mean_a - mean_b) / np.sqrt(together * (1 / n + 1 / m))
    p_value = np.array([math.erfc(value / math.sqrt(2)) for value in deviation])
    return Occupancy(share, error, holm(p_value))


def _share_moments(share: NDArray[np.float32], weights: Numbers) -> tuple[Numbers, Numbers, float]:
    """Weighted mean and variance [places] of shares [n, places], and effective number of events."""
    keep = np.isfinite(share).all(axis=1) & (weights > 0)
    share, weights = share[keep], weights[keep]
    number = effective_number(weights)
    if len(weights) < 2:
        missing = np.full(share.shape[1], np.nan)
        return missing, missing, math.nan
    mean = weights @ share / weights.sum()
    variance = weights @ np.square(share - mean) / weights.sum()
    return mean, variance * number / (number - 1), number
