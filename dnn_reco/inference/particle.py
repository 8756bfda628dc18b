"""The particle that a model reconstructs, with the columns that IceCube's files have for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.detector.directions import angles_of, vector_of

_NOT_SET = -1  # fit status

_POSITION = {"x": "pos_x", "y": "pos_y", "z": "pos_z"}
_DIRECTION = ("dir_x", "dir_y", "dir_z")
_ANGLES = ("zenith", "azimuth")

USUAL_LABELS = {
    "energy": ("EnergyVisible", "cascade_energy", "PrimaryEnergy", "energy"),
    "zenith": ("PrimaryZenith", "cascade_zenith", "zenith"),
    "azimuth": ("PrimaryAzimuth", "cascade_azimuth", "azimuth"),
    "pos_x": ("VertexX", "cascade_x", "x"),
    "pos_y": ("VertexY", "cascade_y", "y"),
    "pos_z": ("VertexZ", "cascade_z", "z"),
    "time": ("VertexTime", "cascade_t", "time"),
    "length": ("Length", "length"),
    "dir_x": ("PrimaryDirectionX",),
    "dir_y": ("PrimaryDirectionY",),
    "dir_z": ("PrimaryDirectionZ",),
}
"""Labels of IceCube's labelling tools and columns of its particles, by the property they hold."""


def usual_particle_keys(names: Collection[str]) -> dict[str, str]:
    """Label by property of the particle, for labels with the names that IceCube's files have."""
    found = {
        part: [label for label in labels if label in names] for part, labels in USUAL_LABELS.items()
    }
    return {part: labels[0] for part, labels in found.items() if labels}


def particle_columns(
    labels: Mapping[str, NDArray[np.float64]], keys: Mapping[str, str], num_events: int
) -> dict[str, NDArray[np.generic]]:
    """Columns [n] of the particle of each of n events, in the order of IceCube's tables.

    What no label gives is NaN. The direction is that of the labels of its vector, of any length,
    and else that of zenith and azimuth; zenith and azimuth point to where the particle comes from.

    Parameters
    ----------
    labels
        Predicted labels [n] by name: those that mean something.
    keys
        Label by property of the particle (`label_particle_keys`); those that are not among the
        labels are skipped.
    num_events
        Number of events n.
    """
    unknown = np.full(num_events, np.nan)
    found = {part: labels[name] for part, name in keys.items() if name in labels}
    zenith, azimuth = _direction(found, unknown)
    whole = np.zeros(num_events, dtype=np.int32)
    position = {axis: found.get(part, unknown) for axis, part in _POSITION.items()}
    return {
        **position,
        "time": found.get("time", unknown),
        "zenith": zenith,
        "azimuth": azimuth,
        "energy": found.get("energy", unknown),
        "speed": np.full(num_events, SPEED_OF_LIGHT),
        "length": found.get("length", unknown),
        "pdg_encoding": whole,
        "type": whole,
        "shape": whole,
        "location": whole,
        "fit_status": whole + np.int32(_NOT_SET),
    }


def _direction(
    found: Mapping[str, NDArray[np.float64]], unknown: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Zenith in 0 … π and azimuth in 0 … 2π."""
    if all(part in found for part in _DIRECTION):
        return angles_of(np.stack([found[part] for part in _DIRECTION], axis=-1))
    if all(part in found for part in _ANGLES):
        # by way of the vector, so that the angles are in their ranges
        return angles_of(vector_of(*(found[part] for part in _ANGLES)))
    return unknown, unknown
