"""What quality is shown against: true energy, zenith, inelasticity, position, hit DOMs; in bins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.hull import detector_hull
from dnn_reco.evaluation.metrics import LOWEST_ENERGY, quantiles, weights_of
from dnn_reco.evaluation.reconstruction import Evaluation
from dnn_reco.evaluation.residuals import energy_label, true_vertex, true_zenith

LEAST_EVENTS = 20
"""Bins of fewer events are left out: their quantiles have no meaning."""

_BINS_A_DECADE = 3
_LINEAR_BINS = 10
_DISTANCE_SHOWN = 0.01, 0.99  # quantiles of the distance to the edge
_INELASTICITY = ("inelasticity", "bjorkeny", "bjorken_y")  # in lower-case names

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Variable:
    """A property of n events, in bins.

    Attributes
    ----------
    name
        Its name, also in names of files.
    axis
        What its axis is called, with the unit.
    values
        Values [n]; NaN where unknown.
    log
        Whether its axis is logarithmic.
    edges
        Edges [E + 1] of the bins; the lower one belongs to the bin.
    """

    name: str
    axis: str
    values: Values
    log: bool
    edges: Values

    @property
    def centers(self) -> Values:
        """Centres of the bins [E]."""
        low, high = self.edges[:-1], self.edges[1:]
        return np.asarray(np.sqrt(low * high) if self.log else (low + high) / 2)


def variables(evaluation: Evaluation) -> tuple[Variable, ...]:
    """All variables that are known of the events and have a bin of enough events."""
    events = evaluation.events
    found = []
    label = energy_label(evaluation)
    if label is not None:
        found.append(energy_variable(events.labels[label], label))
    zenith = true_zenith(evaluation)
    if zenith is not None:
        found.append(_linear("zenith", "cosine of the true zenith", np.cos(zenith), (-1, 1)))
    for name, values in {**events.labels, **events.misc}.items():
        if any(word in name.lower() for word in _INELASTICITY):
            found.append(_linear("inelasticity", f"true {name}", values, (0, 1)))
            break
    vertex = true_vertex(evaluation)
    if vertex is not None:
        distance = -detector_hull().depth(vertex)
        known = distance[np.isfinite(distance)]
        ends = np.quantile(known, _DISTANCE_SHOWN) if len(known) else np.array([-1, 1])
        axis = "distance to the edge [m], inside < 0"
        found.append(_linear("edge_distance", axis, distance, (float(ends[0]), float(ends[1]))))
    hit_doms = events.num_hit_doms.astype(np.float64)
    found.append(_logarithmic("hit_doms", "number of hit DOMs", hit_doms))
    return tuple(each for each in found if len(each.edges) > 1)


def energy_variable(energy: Values, label: str) -> Variable:
    """True energy [n] in GeV, several bins a decade."""
    return _logarithmic("energy", f"true {label} [GeV]", energy)


def decade_edges(values: NDArray[np.floating]) -> Values:
    """Powers of ten that enclose values [n], such as energies in GeV; none below 1 counts."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known) & (known >= LOWEST_ENERGY)]
    if len(known) == 0:
        return np.zeros(0)
    low, high = math.floor(np.log10(known.min())), math.floor(np.log10(known.max())) + 1
    return np.asarray(10.0 ** np.arange(low, high + 1))


def quantiles_in_bins(
    values: Values,
    variable: Values,
    edges: Values,
    percents: Sequence[float],
    weights: Values | None = None,
) -> Values:
    """Quantiles [E, P] of values [n] in each of E bins; NaN where fewer than 20 are known.

    Parameters
    ----------
    values, variable
        Values, and what they are binned in [n]; events without value do not count.
    edges
        Edges [E + 1] of the bins; the lower one belongs to the bin.
    percents
        Which quantiles [P], in percent.
    weights
        Weight [n] of each event; None: all are equal.
    """
    found = np.full((len(edges) - 1, len(percents)), np.nan)
    shares = [percent / 100 for percent in percents]
    for number, (low, high) in enumerate(pairwise(edges)):
        chosen = (variable >= low) & (variable < high) & ~np.isnan(values)
        if chosen.sum() >= LEAST_EVENTS:
            found[number] = quantiles(values[chosen], shares, weights_of(chosen, weights))
    return found


def _logarithmic(name: str, axis: str, values: Values) -> Variable:
    decades = decade_edges(values)
    if len(decades) == 0:
        return Variable(name, axis, values, True, decades)
    num_bins = (len(decades) - 1) * _BINS_A_DECADE
    edges = np.geomspace(decades[0], decades[-1], num_bins + 1)
    return Variable(name, axis, values, True, _filled(edges, values))


def _linear(name: str, axis: str, values: Values, ends: tuple[float, float]) -> Variable:
    edges = np.linspace(*ends, _LINEAR_BINS + 1)
    edges[-1] = np.nextafter(edges[-1], np.inf)  # the upper end, such as cos 0°, belongs to it
    return Variable(name, axis, values, False, _filled(edges, values))


def _filled(edges: Values, values: Values) -> Values:
    """The edges without bins at the ends that have few events; none if there is no other bin."""
    counts, _ = np.histogram(values[np.isfinite(values)], edges)
    filled = np.flatnonzero(counts >= LEAST_EVENTS)
    return edges[filled[0] : filled[-1] + 2] if len(filled) else np.zeros(0)
