"""The true and the reconstructed particle of an event, as displays draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector import directions
from dnn_reco.errors import DataError
from dnn_reco.inference.cone import angle_concentration, cone_angle, vector_concentration
from dnn_reco.inference.model_info import label_unit
from dnn_reco.inference.particle import particle_columns, usual_particle_keys
from dnn_reco.inference.prediction_table import PredictionTable

Vector = NDArray[np.float64]
Columns = Mapping[str, NDArray[np.floating]]

CONE_PERCENTS = (68, 90)

_VECTOR = ("dir_x", "dir_y", "dir_z")
_ANGLES = ("zenith", "azimuth")


@dataclass(frozen=True)
class Label:
    """A label of one event.

    Attributes
    ----------
    value
        Its value.
    low, high
        Value minus and plus its uncertainty; NaN: it has none.
    unit
        Its unit, such as "GeV".
    """

    value: float
    low: float
    high: float
    unit: str


@dataclass(frozen=True)
class Particle:
    """A particle in the detector, true or reconstructed.

    Attributes
    ----------
    vertex
        Position [3] in m; NaN where unknown.
    direction
        Unit vector [3] along the motion; NaN where unknown.
    cones
        Opening angle in rad of the cone that holds so many percent of the probability; empty: the
        direction is exact, or its uncertainty unknown.
    labels
        All finite labels by name, those of the particle first.
    """

    vertex: Vector
    direction: Vector
    cones: Mapping[int, float]
    labels: Mapping[str, Label]

    @property
    def has_vertex(self) -> bool:
        """Whether the vertex is known."""
        return bool(np.isfinite(self.vertex).all())

    @property
    def has_direction(self) -> bool:
        """Whether the direction is known."""
        return bool(np.isfinite(self.direction).all())


def true_particle(labels: Columns, event: int, num_events: int) -> Particle:
    """The true particle of an event.

    Parameters
    ----------
    labels
        Labels [n] by name, with the names of IceCube's files.
    event
        Number of the event.
    num_events
        Number of events n.

    Raises
    ------
    DataError
        If a label does not have n values.
    """
    rows = {}
    for name, values in labels.items():
        if np.shape(values) != (num_events,):
            raise DataError(
                f"the true label '{name}' has shape {np.shape(values)}, but there are "
                f"{num_events} events"
            )
        rows[name] = np.asarray(values, np.float64)[event : event + 1]
    return _particle(rows, {}, frozenset(), usual_particle_keys(rows))


def reconstructed_particle(table: PredictionTable, event: int, num_events: int) -> Particle:
    """The reconstructed particle of an event.

    Parameters
    ----------
    table
        Predictions of n events.
    event
        Number of the event.
    num_events
        Number of events n.

    Raises
    ------
    DataError
        If the table does not have n rows.
    """
    if len(table) != num_events:
        raise DataError(f"there are predictions of {len(table)} events, but {num_events} events")
    rows = {name: table.labels[event : event + 1, i] for i, name in enumerate(table.label_names)}
    sigmas = {
        name: table.uncertainty[event : event + 1, i] for i, name in enumerate(table.label_names)
    }
    log = frozenset(
        name for name, has_log in zip(table.label_names, table.has_log, strict=True) if has_log
    )
    keys = {**usual_particle_keys(rows), **table.particle_labels}
    return _particle(rows, sigmas, log, keys)


def _particle(
    labels: Mapping[str, Vector],
    sigmas: Mapping[str, Vector],
    log: frozenset[str],
    keys: Mapping[str, str],
) -> Particle:
    """The particle of labels [1] and their uncertainties [1] by name."""
    columns = particle_columns(labels, keys, 1)
    x, y, z, zenith, azimuth = (
        float(columns[name][0]) for name in ("x", "y", "z", "zenith", "azimuth")
    )
    kappa = _concentration(labels, sigmas, keys)
    known = kappa is not None and np.isfinite(kappa) and kappa > 0
    return Particle(
        np.array([x, y, z]),
        directions.vector_of(zenith, azimuth),
        {p: float(cone_angle(kappa, p / 100)) for p in CONE_PERCENTS} if known and kappa else {},
        _labels(labels, sigmas, log, keys),
    )


def _concentration(
    labels: Mapping[str, Vector], sigmas: Mapping[str, Vector], keys: Mapping[str, str]
) -> float | None:
    """Concentration κ of the direction; None: unknown."""

    def has(parts: Sequence[str]) -> bool:
        names = [keys.get(part, "") for part in parts]
        return all(name in sigmas and np.isfinite(sigmas[name][0]) for name in names)

    if has(_VECTOR):
        sigma = np.stack([sigmas[keys[part]] for part in _VECTOR], axis=1)
        return float(vector_concentration(sigma)[0])
    if has(_ANGLES):
        zenith, azimuth = (keys[part] for part in _ANGLES)
        return float(angle_concentration(labels[zenith], sigmas[zenith], sigmas[azimuth])[0])
    return None


def _labels(
    labels: Mapping[str, Vector],
    sigmas: Mapping[str, Vector],
    log: frozenset[str],
    keys: Mapping[str, str],
) -> dict[str, Label]:
    of_particle = [name for part, name in keys.items() if part not in _VECTOR and name in labels]
    found = {}
    for name in dict.fromkeys([*of_particle, *labels]):
        value = float(labels[name][0])
        sigma = float(sigmas[name][0]) if name in sigmas else np.nan
        if name in log:
            low, high = (float(np.expm1(np.log1p(value) + s)) for s in (-sigma, sigma))
        else:
            low, high = value - sigma, value + sigma
        if np.isfinite(value):
            found[name] = Label(value, low, high, label_unit(name, keys))
    return found


def opening_angle(one: Particle, other: Particle) -> float:
    """Angle in rad between the directions of two particles; NaN where one is unknown."""
    return float(directions.opening_angle(one.direction, other.direction))
