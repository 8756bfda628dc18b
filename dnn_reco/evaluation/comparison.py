"""Models side by side: how well each reconstructs the same events, by event type and energy.

Pure functions over arrays. How errors are computed: see :mod:`dnn_reco.evaluation.metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation import metrics
from dnn_reco.evaluation.coverage import coverage, credible_level
from dnn_reco.evaluation.held_out_events import ModelPredictions
from dnn_reco.evaluation.metrics import LOWEST_ENERGY, Values, ValueWithError, energy_residual
from dnn_reco.inference.cone import vector_concentration

ALL_EVENTS = "all events"
CASCADE, STARTING_TRACK, THROUGH_GOING_TRACK = "cascade", "starting track", "through-going track"

ANGLE_QUANTILES = (20, 50, 80)  # percent
COVERAGE_LEVELS = (50, 68, 90)  # percent
LEAST_EVENTS = 20
"""Decades of fewer events are left out: their quantiles have no meaning."""

# The first is the label of tracks; before there was one, muons from the vertex.
_TRACK_LABELS = ("p_is_track", "p_starting_cc_mu")
# Labels that may hold the energy [GeV], besides that of `label_particle_keys`.
_ENERGY_LABELS = ("EnergyVisible", "PrimaryEnergy")

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ModelResult:
    """What is compared of one model, for n events.

    Attributes
    ----------
    name
        Its name.
    angle
        Opening angle [n] between true and reconstructed direction, in degrees; None: it predicts no
        direction.
    energy_residual
        log10(reconstructed / true energy) [n]; None: it predicts no energy.
    pulls
        Residual over uncertainty [n] of each trained label, in the space of the training.
    credible_level
        Probability [n] that the model gives to smaller opening angles
        (:func:`dnn_reco.evaluation.coverage.credible_level`); None: it gives none.
    """

    name: str
    angle: NDArray[np.float64] | None
    energy_residual: NDArray[np.float64] | None
    pulls: Mapping[str, NDArray[np.float64]]
    credible_level: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class EventSelection:
    """Some of the events, and how well each model reconstructs them.

    Attributes
    ----------
    event_type
        Their type.
    energy_range
        Their least and greatest true energy [GeV]; None: any.
    num_events
        How many there are.
    found
        What was measured, by model and quantity (:func:`measure`).
    """

    event_type: str
    energy_range: tuple[float, float] | None
    num_events: int
    found: Mapping[str, Mapping[str, ValueWithError]]


@dataclass(frozen=True)
class Comparison:
    """Models side by side, on the same n events.

    Attributes
    ----------
    results
        What is compared of each.
    types
        The events of each type [n], by its name.
    energy
        True energy [n] in GeV; None: there is none.
    energy_label
        The label that it is.
    groups
        All events first, then by event type, each at all energies and by decade of true energy.
    angle_differences
        Mean opening angle minus that of the first model [degrees], by model. Its error is that of
        the mean over events of the difference: both have the same events.
    """

    results: tuple[ModelResult, ...]
    types: Mapping[str, Mask]
    energy: NDArray[np.float64] | None
    energy_label: str | None
    groups: tuple[EventSelection, ...]
    angle_differences: Mapping[str, ValueWithError]

    @property
    def num_events(self) -> int:
        """Number n of all events."""
        return len(next(iter(self.types.values())))


def compare_models(predictions: Sequence[ModelPredictions]) -> Comparison:
    """Compare predictions of several models for the same events."""
    label = energy_label(predictions)
    energy = None
    if label is not None:
        truth = (each.true_labels() for each in predictions)
        energy = next(labels[label] for labels in truth if label in labels)
    types = [event_types(each.true_labels(), len(each.true)) for each in predictions]
    results = [model_result(each, label) for each in predictions]
    return compare(results, max(types, key=len), energy, label)


def energy_label(predictions: Sequence[ModelPredictions]) -> str | None:
    """The label of the energy, if possible a trained one; None: there is no such label."""
    keys = [each.model.spec.label_keys.particle for each in predictions]
    candidates = [*(key["energy"] for key in keys if "energy" in key), *_ENERGY_LABELS]
    trained = {name for each in predictions for name in each.model.trained_labels}
    known = {name for each in predictions for name in each.model.label_names}
    ranked = [name for names in (trained, known) for name in candidates if name in names]
    return next(iter(ranked), None)


def model_result(predictions: ModelPredictions, energy_label: str | None) -> ModelResult:
    """What is compared of a model: of trained labels alone."""
    model, table, true = predictions.model, predictions.table, predictions.true
    trained, keys = model.trained_labels, model.spec.label_keys
    names = [label if label in trained else "" for label in model.label_names]
    angle = level = residual = None
    for columns in metrics.direction_columns(names, keys):  # the vector wins over the angles
        angle = metrics.opening_angle_degrees(true, table.labels, columns)
        if len(columns) == 3:
            vectors, sigmas = table.labels[:, columns], table.uncertainty[:, columns]
            level = credible_level(angle, vector_concentration(vectors, sigmas))
    if energy_label is not None and energy_label in trained:
        residual = energy_residual(table[energy_label], predictions.true_labels()[energy_label])
    pulls = dict(zip(model.label_names, predictions.pulls().T, strict=True))
    # a class is right or wrong
    pulls = {label: pulls[label] for label in trained if label not in keys.pid}
    return ModelResult(model.name, angle, residual, pulls, level)


def compare(
    results: Sequence[ModelResult],
    types: Mapping[str, Mask],
    energy: NDArray[np.float64] | None,
    energy_label: str | None,
) -> Comparison:
    """Compare models on the same n events.

    Parameters
    ----------
    results
        What is compared of each model.
    types
        The events of each type [n], by its name.
    energy
        True energy [n] in GeV; None: there is none.
    energy_label
        The label that it is.
    """
    groups = []
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
    return Comparison(tuple(results), types, energy, energy_label, tuple(groups), differences)


def measure(result: ModelResult, chosen: Mask) -> dict[str, ValueWithError]:
    """How well a model reconstructs the chosen events [n].

    Returns
    -------
    dict
        `angle_20`, `angle_50`, `angle_80`
            Quantiles of the opening angle in degrees: 20, 50, 80 % of the events lie below.
        `angle_mean`
            Its mean in degrees.
        `coverage_50`, `coverage_68`, `coverage_90`
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
        angles = metrics.angle_metrics(result.angle[chosen], ANGLE_QUANTILES)
        found |= {f"angle_{name}": value for name, value in angles.items()}
    if result.credible_level is not None:
        shares = coverage(result.credible_level[chosen], COVERAGE_LEVELS)
        found |= {f"coverage_{percent}": share for percent, share in shares.items()}
    if result.energy_residual is not None:
        of_energy = metrics.residual_metrics(result.energy_residual[chosen])
        names = {"energy_bias": "bias", "energy_rms": "rmse", "energy_width_68": "width_68"}
        found |= {key: of_energy[name] for key, name in names.items()}
    for label, pulls in result.pulls.items():
        of_label = metrics.pull_metrics(pulls[chosen])
        found |= {f"{name}/{label}": value for name, value in of_label.items()}
    return found


def event_types(labels: Mapping[str, Values], num_events: int) -> dict[str, Mask]:
    """The events [n] of each type, as far as labels distinguish them; all events come first.

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
