"""Models side by side: how well each reconstructs the same events, by event type and energy.

Pure functions over arrays. How errors are computed: see :mod:`dnn_reco.evaluation.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation import metrics
from dnn_reco.evaluation.coverage import COVERAGE_LEVELS, coverage
from dnn_reco.evaluation.credible_levels import direction_level, label_deviations
from dnn_reco.evaluation.event_types import Mask, event_types
from dnn_reco.evaluation.metrics import Values, ValueWithError
from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction, TrueEvents
from dnn_reco.evaluation.residuals import (
    energy_label,
    label_residual,
    opening_angle,
)
from dnn_reco.evaluation.variables import LEAST_EVENTS, decade_edges

ANGLE_QUANTILES = (20, 50, 80)  # percent

Statistic = TypeVar("Statistic")


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
        Credible level [n] of the true direction
        (:func:`dnn_reco.evaluation.credible_levels.direction_level`); None: it gives none.
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


def compare_models(evaluation: Evaluation) -> Comparison:
    """Compare reconstructions of the same events."""
    events = evaluation.events
    label = energy_label(evaluation)
    energy = None if label is None else events.labels[label]
    results = [model_result(each, events, label) for each in evaluation.reconstructions]
    types = event_types(events.labels, len(events))
    return compare(results, types, energy, label, events.weights)


def model_result(
    reconstruction: Reconstruction, events: TrueEvents, energy_label: str | None
) -> ModelResult:
    """What is compared of a reconstruction."""
    residual = None
    if energy_label is not None:
        residual = label_residual(reconstruction, events, energy_label, log=True)
    deviations = label_deviations(reconstruction, events)
    return ModelResult(
        reconstruction.name,
        opening_angle(reconstruction, events),
        residual,
        {label: each.pull for label, each in deviations.items()},
        direction_level(reconstruction, events),
    )


def compare(
    results: Sequence[ModelResult],
    types: Mapping[str, Mask],
    energy: NDArray[np.float64] | None,
    energy_label: str | None,
    weights: NDArray[np.float64] | None = None,
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
    weights
        Weight [n] of each event; None: all are equal.
    """
    groups = []
    for event_type, of_type in types.items():
        for energy_range, in_range in _energy_ranges(energy, of_type):
            chosen = of_type & in_range
            if energy_range is not None and chosen.sum() < LEAST_EVENTS:
                continue
            found = {each.name: measure(each, chosen, weights) for each in results}
            groups.append(EventSelection(event_type, energy_range, int(chosen.sum()), found))
    first = results[0].angle
    differences = {
        each.name: _of_known(metrics.mean, each.angle - first, weights)
        for each in results[1:]
        if each.angle is not None and first is not None
    }
    return Comparison(tuple(results), types, energy, energy_label, tuple(groups), differences)


def measure(
    result: ModelResult, chosen: Mask, weights: NDArray[np.float64] | None = None
) -> dict[str, ValueWithError]:
    """How well a model reconstructs the chosen events [n], of those that it reconstructs.

    Parameters
    ----------
    result
        What is compared of the model.
    chosen
        The events [n].
    weights
        Weight [n] of each event; None: all are equal.

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
    weight = metrics.weights_of(chosen, weights)
    found: dict[str, ValueWithError] = {}
    if result.angle is not None:
        angles = _of_known(
            partial(metrics.angle_metrics, percents=ANGLE_QUANTILES), result.angle[chosen], weight
        )
        found |= {f"angle_{name}": value for name, value in angles.items()}
    if result.credible_level is not None:
        shares = _of_known(
            partial(coverage, percents=COVERAGE_LEVELS), result.credible_level[chosen], weight
        )
        found |= {f"coverage_{percent}": share for percent, share in shares.items()}
    if result.energy_residual is not None:
        of_energy = _of_known(metrics.residual_metrics, result.energy_residual[chosen], weight)
        names = {"energy_bias": "bias", "energy_rms": "rmse", "energy_width_68": "width_68"}
        found |= {key: of_energy[name] for key, name in names.items()}
    for label, pulls in result.pulls.items():
        of_label = _of_known(metrics.pull_metrics, pulls[chosen], weight)
        found |= {f"{name}/{label}": value for name, value in of_label.items()}
    return found


def _of_known(
    statistic: Callable[..., Statistic], values: Values, weights: Values | None
) -> Statistic:
    """A statistic of the values [n] that are known, with their weights [n]; NaN if none is."""
    known = ~np.isnan(values)
    if not known.any():
        return statistic(np.full(1, np.nan), weights=None)
    return statistic(values[known], weights=metrics.weights_of(known, weights))


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
