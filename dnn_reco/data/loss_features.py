"""Input features of simulated energy losses near each DOM: the format `mc_tree_input_data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.features import DomFeatures
from dnn_reco.data.hypothesis_features import listed_features
from dnn_reco.detector.geometry import NUM_DOMS, dom_positions

NUM_LOSS_FEATURES = 10
"""Number of features of a DOM."""

_DISTANCE_EDGES = np.array([0.0, 30.0, 60.0, 150.0])  # m
_ANGLE_EDGES = np.deg2rad([0.0, 45.0, 90.0, 180.0])
_SMALLEST_ENERGY = 1.0  # GeV
_LARGEST_RADIUS = 2000.0  # m from the origin
_LARGEST_DISTANCE = 500.0  # m to the closest DOM
_LOSSES_AT_ONCE = 64  # times 5160 DOMs


@dataclass(frozen=True)
class EnergyLosses:
    """Simulated energy losses of an event.

    Attributes
    ----------
    position
        x, y, z [m] of each loss [m, 3].
    direction
        Directions of flight [m, 3], of length 1.
    energy
        Energies [m] in GeV.
    """

    position: NDArray[np.float64]
    direction: NDArray[np.float64]
    energy: NDArray[np.float64]


def mc_tree_input_data(events: Sequence[EnergyLosses]) -> DomFeatures:
    """Energy that was lost around each DOM.

    Losses below 1 GeV, and those more than 2000 m from the origin, are left out.

    Parameters
    ----------
    events
        The losses of each of n events.

    Returns
    -------
    features
        10 numbers of a DOM. The first nine: energy in GeV of the losses within the distances
        0 … 30, 30 … 60 and 60 … 150 m, and in each with angles 0 … 45, 45 … 90 and 90 … 180 degrees
        between the direction of the loss and that from it to the DOM; bins include their upper
        edge. The last: energy of the losses that are closer to this DOM than to any other, and
        closer than 500 m. The time offset is 0.
    """
    features = [_of_event(losses) for losses in events]
    n = len(events)
    event, dom = np.divmod(np.arange(n * NUM_DOMS), NUM_DOMS)
    values = np.concatenate([np.zeros((0, NUM_LOSS_FEATURES)), *features])
    return listed_features(n, event, dom, values, np.zeros(n))


def _of_event(losses: EnergyLosses) -> NDArray[np.float64]:
    """Features [5160, 10] of all DOMs."""
    far = np.linalg.norm(losses.position, axis=1) > _LARGEST_RADIUS
    kept = np.flatnonzero((losses.energy >= _SMALLEST_ENERGY) & ~far)
    features = np.zeros((NUM_DOMS, NUM_LOSS_FEATURES))
    for start in range(0, len(kept), _LOSSES_AT_ONCE):
        part = kept[start : start + _LOSSES_AT_ONCE]
        _add(features, losses.position[part], losses.direction[part], losses.energy[part])
    return features


def _add(
    features: NDArray[np.float64],
    position: NDArray[np.float64],
    direction: NDArray[np.float64],
    energy: NDArray[np.float64],
) -> None:
    """Add some losses to the features."""
    difference = dom_positions() - position[:, None]
    distance = np.linalg.norm(difference, axis=2)
    near, dom = np.nonzero((distance > 0) & (distance <= _DISTANCE_EDGES[-1]))
    along = (difference[near, dom] * direction[near]).sum(axis=1) / distance[near, dom]
    angle = np.arccos(np.clip(along, -1.0, 1.0))
    distance_bin = np.searchsorted(_DISTANCE_EDGES, distance[near, dom]) - 1
    angle_bin = np.searchsorted(_ANGLE_EDGES, angle) - 1
    inside = (angle_bin >= 0) & (angle_bin < len(_ANGLE_EDGES) - 1)  # 0 is in no bin
    column = distance_bin * (len(_ANGLE_EDGES) - 1) + angle_bin
    np.add.at(features, (dom[inside], column[inside]), energy[near[inside]])

    closest = distance.argmin(axis=1)
    counts = distance.min(axis=1) < _LARGEST_DISTANCE
    counts &= energy > _SMALLEST_ENERGY
    np.add.at(features, (closest[counts], -1), energy[counts])
