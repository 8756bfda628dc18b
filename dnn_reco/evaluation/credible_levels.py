"""Credible levels and pulls of what reconstructions give, event by event.

What they mean: see :mod:`dnn_reco.evaluation.coverage`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation.coverage import LabelDeviation, credible_level, elliptical_level
from dnn_reco.evaluation.metrics import direction_columns, opening_angle_degrees
from dnn_reco.evaluation.mixture_levels import mixture_level
from dnn_reco.evaluation.reconstruction import Reconstruction, TrueEvents
from dnn_reco.evaluation.residuals import label_pull
from dnn_reco.inference.cone import vector_concentration
from dnn_reco.nn.density_layout import DIRECTION

Values = NDArray[np.float64]


def direction_level(reconstruction: Reconstruction, events: TrueEvents) -> Values | None:
    """Credible level [n] of the true direction; None: there is no density of directions.

    That of the density that the network predicts for the direction, if it predicts one; else that
    of the von Mises-Fisher distribution of the direction vector or, where there is none with
    uncertainties, of Gaussian zenith and azimuth.
    """
    table = reconstruction.table
    names = [name for name in table.label_names if name in events.labels]
    shapes = table.shapes
    components = None if shapes is None else shapes.of(DIRECTION)
    vector = next((c for c in direction_columns(names, reconstruction.keys) if len(c) == 3), None)
    if shapes is not None and components is not None and vector is not None:
        true = np.stack([events.labels[names[column]] for column in vector], axis=1)
        return mixture_level(components, true, is_flow=shapes.kind(DIRECTION) == "flow")
    # the vector comes last
    for columns in reversed(list(direction_columns(names, reconstruction.keys))):
        level = _level(reconstruction, events, [names[column] for column in columns])
        if not np.isnan(level).all():
            return level
    return None


def _level(reconstruction: Reconstruction, events: TrueEvents, names: Sequence[str]) -> Values:
    """Credible level [n] by x, y, z of the vector, or by zenith and azimuth; NaN: unknown."""
    table = reconstruction.table
    columns = [table.label_names.index(name) for name in names]
    predicted, sigma = table.labels[:, columns], table.uncertainty[:, columns]
    true = np.stack([events.labels[name] for name in names], axis=1)
    known = np.isfinite(predicted).all(axis=1) & np.isfinite(sigma).all(axis=1)
    level = np.full(len(events), np.nan)
    predicted, sigma, true = predicted[known], sigma[known], true[known]
    if len(names) == 2:
        level[known] = elliptical_level(predicted, sigma, true)
    else:
        angle = opening_angle_degrees(true, predicted, range(3))
        level[known] = credible_level(angle, vector_concentration(sigma))
    return level


def label_deviations(
    reconstruction: Reconstruction, events: TrueEvents
) -> dict[str, LabelDeviation]:
    """Pulls and uncertainties of all labels with uncertainties that are not classes, by label."""
    table, keys = reconstruction.table, reconstruction.keys
    found = {}
    for column, name in enumerate(table.label_names):
        pull = label_pull(reconstruction, events, name)
        if name not in keys.pid and pull is not None and not np.isnan(pull).all():
            components = None if table.shapes is None else table.shapes.of(name)
            sigma = table.uncertainty[:, column]
            found[name] = LabelDeviation(pull, sigma, name == keys.azimuth, components)
    return found
