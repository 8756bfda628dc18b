"""Parts of the events, by what may change how right a reconstruction is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation.event_types import ALL_EVENTS, event_types, reconstructed_types
from dnn_reco.evaluation.formats import format_energy
from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction
from dnn_reco.evaluation.residuals import energy_label, true_zenith
from dnn_reco.evaluation.variables import decade_edges

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Groups = Mapping[str, Mask]

_COS_ZENITH = np.linspace(-1, 1, 6)
_NUM_HITS = (0, 20, 50, 100, 200, 500, math.inf)
ENERGY, TRUE_ENERGY = "reconstructed energy", "true energy"
ZENITH, NUM_HITS = "cos zenith", "hit DOMs"
EVENT_TYPE, RECONSTRUCTED_TYPE = "event type", "reconstructed type"


def event_groups(evaluation: Evaluation, reconstruction: Reconstruction) -> dict[str, Groups]:
    """Masks [n] of parts of the events, by variable and part; those without events are left out.

    By decade of the reconstructed and of the true energy, five bins of the cosine of the true
    zenith, the number of hit DOMs, and the true and the reconstructed type of the event. Variables
    that are unknown are left out.
    """
    events = evaluation.events
    label, zenith = energy_label(evaluation), true_zenith(evaluation)
    groups: dict[str, Groups] = {}
    if label is not None and label in reconstruction.table.label_names:
        groups[ENERGY] = by_energy(reconstruction.table[label])
    if label is not None:
        groups[TRUE_ENERGY] = by_energy(events.labels[label])
    if zenith is not None:
        names = [
            f"{low:.1f} to {high:.1f}".replace("-", "−") for low, high in pairwise(_COS_ZENITH)
        ]
        edges = [*_COS_ZENITH[:-1], math.inf]  # straight down and up belong to the outer bins
        edges[0] = -math.inf
        groups[ZENITH] = _binned(np.cos(zenith), edges, names)
    names = [f"{low} to {high - 1}" for low, high in pairwise(_NUM_HITS[:-1])]
    names.append(f"from {_NUM_HITS[-2]}")
    groups[NUM_HITS] = _binned(events.num_hit_doms.astype(np.float64), _NUM_HITS, names)
    groups[EVENT_TYPE] = by_type(evaluation)
    groups[RECONSTRUCTED_TYPE] = reconstructed_types(reconstruction.table.columns())
    return {name: group for name, group in groups.items() if group}


def by_energy(energy: Values) -> Groups:
    """Masks [n] of the events in each decade of energy [n] in GeV."""
    edges = decade_edges(energy)
    names = [f"{format_energy(low)} to {format_energy(high)}" for low, high in pairwise(edges)]
    return _binned(energy, edges, names)


def by_type(evaluation: Evaluation) -> Groups:
    """Masks [n] of the events of each type; empty where labels do not distinguish types."""
    types = event_types(evaluation.events.labels, len(evaluation.events))
    return {name: mask for name, mask in types.items() if name != ALL_EVENTS}


def energy_and_type_cells(evaluation: Evaluation, reconstruction: Reconstruction) -> Groups:
    """Masks [n] of the events in each cell of decade of reconstructed energy and true event type.

    Given the true energy, uncertainties cannot be right in each decade: at its lower end events are
    reconstructed too high, at its upper end too low, as the spectrum demands.
    """
    label = energy_label(evaluation)
    if label is None or label not in reconstruction.table.label_names:
        return {}
    decades = by_energy(reconstruction.table[label])
    types = by_type(evaluation) or {ALL_EVENTS: np.ones(len(evaluation.events), dtype=bool)}
    cells = {
        f"{event_type}, {decade}": of_type & in_decade
        for event_type, of_type in types.items()
        for decade, in_decade in decades.items()
    }
    return {name: mask for name, mask in cells.items() if mask.any()}


def _binned(
    values: Values, edges: NDArray[np.float64] | list[float] | tuple[float, ...], names: list[str]
) -> Groups:
    """Masks [n] of values [n] between edges [B + 1], by the names of the bins [B]."""
    masks = ((values >= low) & (values < high) for low, high in pairwise(edges))
    return {name: mask for name, mask in zip(names, masks, strict=True) if mask.any()}
