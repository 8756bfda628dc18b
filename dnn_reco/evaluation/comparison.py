"""Networks side by side: how well each reconstructs the same events, by event type and energy.

Pure functions over arrays. How errors are found: see :mod:`dnn_reco.evaluation.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation import metrics
from dnn_reco.evaluation.metrics import Values, ValueWithError

ALL_EVENTS = "all events"
CASCADE, STARTING_TRACK, THROUGH_GOING_TRACK = "cascade", "starting track", "through-going track"

ANGLE_QUANTILES = (20, 50, 80)  # percent
COVERAGE_LEVELS = (50, 68, 90)  # percent
LEAST_EVENTS = 20
"""Decades of fewer events are left out: quantiles of them say nothing."""
LOWEST_ENERGY = 1.0
"""Energies below, in GeV, count as this: a logarithm must be taken."""

# The first is the label of tracks; before there was one, muons from the vertex.
_TRACK_LABELS = ("p_is_track", "p_starting_cc_mu")

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ModelResult:
    """What one network says of n events.

    Attributes
    ----------
    name
        How to call it.
    angle
        Opening angle [n] between true and reconstructed direction, in degrees; None: there is no
        direction.
    energy_residual
        log10(reconstructed / true energy) [n]; None: there is no energy.
    pulls
        Residual over uncertainty [n] of each trained label, as the network was trained.
    cone_content
        Probability [n] that the network gives to smaller opening angles
        (:func:`dnn_reco.evaluation.directions.credible_level`); None: it gives none.
    """

    name: str
    angle: NDArray[np.float64] | None
    energy_residual: NDArray[np.float64] | None
    pulls: Mapping[str, NDArray[np.float64]]
    credible_level: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class EventSelection:
    """Some of the events, and how well each network reconstructs them.

    Attributes
    ----------
    event_type
        Their type.
    energy_range
        Their least and greatest true energy [GeV]; None: any.
    num_events
        How many there are.
    found
        What was measured, by network and quantity (:func:`measure`).
    """

    event_type: str
    energy_range: tuple[float, float] | None
    num_events: int
    found: Mapping[str, Mapping[str, ValueWithError]]


@dataclass(frozen=True)
class Comparison:
    """Networks side by side.

    Attributes
    ----------
    num_events
        Number of all events.
    energy_label
        The label of which the true energy is taken; None: there is no energy.
    groups
        All events first, then by event type, each at all energies and by decade of true energy.
    angle_differences
        Mean opening angle minus that of the first network [degrees], by network. Its error is that
        of the mean over events of the difference: both saw the same events.
    """

    num_events: int
    energy_label: str | None
    groups: tuple[EventSelection, ...]
    angle_differences: Mapping[str, ValueWithError]


def compare(
    results: Sequence[ModelResult],
    types: Mapping[str, Mask],
    energy: Values | None,
    energy_label: str | None,
) -> Comparison:
    """Compare networks on the same n events.

    Parameters
    ----------
    contenders
        What each network says.
    types
        The events of each type [n], by its name.
    energy
        True energy [n] in GeV; None: there is none.
    energy_label
        The label that it is.
    """
    groups = []
    num_events = len(next(iter(types.values())))
    for event_type, of_type in types.items():
        for energy_range, in_range in _energy_ranges(energy, of_type):
            chosen = of_type & in_range
            if energy_range is not None and chosen.sum() < LEAST_EVENTS:
                continue
            found = {each.name: measure(each, chosen) for each in results}
            groups.append(EventSelection(event_type, energy_range, int(chosen.sum()), found))
    first = results[0].angle
    differences = {
        each.name: metrics.mean(each.angle - first)
        for each in results[1:]
        if each.angle is not None and first is not None
    }
    return Comparison(num_events, energy_label, tuple(groups), differences)


def measure(result: ModelResult, chosen: Mask) -> dict[str, ValueWithError]:
    """How well a network reconstructs the chosen events [n].

    Returns
    -------
    dict
        `angle_20`, `angle_50`, `angle_80`
            Quantiles of the opening angle in degrees: 20, 50, 80 % of the events lie below.
        `angle_mean`
            Its mean in degrees.
        `cone_50`, `cone_68`, `cone_90`
            Share of the events inside of the cone that should hold 50, 68, 90 % of them.
        `energy_bias`, `energy_rms`, `energy_width_68`
            Mean, root mean square, and half the width of the central 68 % of log10 of
            reconstructed over true energy.
        `pull/<label>`, `pull_68/<label>`
            Standard deviation, and half the width of the central 68 %, of the residual over its
            uncertainty.
    """
    found: dict[str, ValueWithError] = {}
    if result.angle is not None:
        angle = result.angle[chosen]
        for percent in ANGLE_QUANTILES:
            found[f"angle_{percent}"] = metrics.quantile(angle, percent / 100)
        found["angle_mean"] = metrics.mean(angle)
    if result.credible_level is not None:
        for percent in COVERAGE_LEVELS:
            inside = result.credible_level[chosen] < percent / 100
            found[f"cone_{percent}"] = metrics.mean(inside.astype(np.float64))
    if result.energy_residual is not None:
        residual = result.energy_residual[chosen]
        found["energy_bias"] = metrics.mean(residual)
        found["energy_rms"] = metrics.root_mean_square(residual)
        found["energy_width_68"] = metrics.central_width(residual)
    for label, pulls in result.pulls.items():
        found[f"pull/{label}"] = metrics.standard_deviation(pulls[chosen])
        found[f"pull_68/{label}"] = metrics.central_width(pulls[chosen])
    return found


def event_types(labels: Mapping[str, Values], num_events: int) -> dict[str, Mask]:
    """The events [n] of each type, as far as the labels tell; all events come first.

    Through-going tracks come in from outside (`p_entering`). Starting tracks begin inside
    (`p_starting`) and have a track (`p_is_track`, or `p_starting_cc_mu` where there is no such
    label). All others are cascades, those beside the detector included.

    Parameters
    ----------
    labels
        True labels [n], by name.
    num_events
        Number of events n.
    """
    types = {ALL_EVENTS: np.ones(num_events, dtype=bool)}
    track_label = next((name for name in _TRACK_LABELS if name in labels), None)
    if track_label is None or not {"p_entering", "p_starting"} <= labels.keys():
        return types
    entering, starting, is_track = (
        np.asarray(labels[name]) > 0.5 for name in ("p_entering", "p_starting", track_label)
    )
    types[CASCADE] = ~entering & ~(starting & is_track)
    types[STARTING_TRACK] = ~entering & starting & is_track
    types[THROUGH_GOING_TRACK] = entering
    return {name: mask for name, mask in types.items() if mask.any()}


def energy_residual(reconstructed: Values, true: Values) -> NDArray[np.float64]:
    """log10(reconstructed / true) [n] of energies [n] in GeV.

    Those below 1 GeV count as 1 GeV; what is no number stays none.
    """
    first, second = (
        np.log10(np.maximum(np.asarray(values, dtype=np.float64), LOWEST_ENERGY))
        for values in (reconstructed, true)
    )
    return np.asarray(first - second)


def decade_edges(energy: Values) -> NDArray[np.float64]:
    """Powers of ten, in GeV, that enclose all energies [n]; those below 1 GeV do not count."""
    known = np.asarray(energy, dtype=np.float64)
    known = known[np.isfinite(known) & (known >= LOWEST_ENERGY)]
    if len(known) == 0:
        return np.zeros(0)
    low, high = math.floor(np.log10(known.min())), math.floor(np.log10(known.max())) + 1
    return np.asarray(10.0 ** np.arange(low, high + 1))


def quantiles_by_energy(
    values: Values, energy: Values, edges: Values, percents: Sequence[float]
) -> NDArray[np.float64]:
    """Quantiles [E, P] of values [n] in each of E bins of energy; NaN where there are few events.

    Parameters
    ----------
    values, energy
        Values and energies [n].
    edges
        Edges [E + 1] of the bins; the lower one belongs to the bin.
    percents
        Which quantiles [P], in percent.
    """
    found = np.full((len(edges) - 1, len(percents)), np.nan)
    for number, (low, high) in enumerate(pairwise(edges)):
        chosen = values[(energy >= low) & (energy < high)]
        if len(chosen) >= LEAST_EVENTS:
            found[number] = np.percentile(chosen, percents)
    return found


def _energy_ranges(
    energy: Values | None, of_type: Mask
) -> Iterator[tuple[tuple[float, float] | None, Mask]]:
    """Any energy, then the decades in which events of a type lie."""
    yield None, np.ones(len(of_type), dtype=bool)
    if energy is None:
        return
    edges = decade_edges(energy[of_type])
    for low, high in pairwise(edges.tolist()):
        yield (low, high), (energy >= low) & (energy < high)
