"""Credible levels and pulls of what reconstructions give, event by event.

What they mean: see :mod:`dnn_reco.evaluation.coverage`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation import residuals
from dnn_reco.evaluation.coverage import LabelDeviation, elliptical_level
from dnn_reco.evaluation.reconstruction import Reconstruction, TrueEvents


def direction_level(
    reconstruction: Reconstruction, events: TrueEvents
) -> NDArray[np.float64] | None:
    """Credible level [n] of the true direction; None: there is no density of directions.

    That of the von Mises-Fisher distribution of the direction vector or, where there is none with
    uncertainties, that of Gaussian zenith and azimuth.
    """
    level = residuals.direction_level(reconstruction, events)
    if level is None or np.isnan(level).all():
        level = _level_of_angles(reconstruction, events)
    return None if level is None or np.isnan(level).all() else level


def _level_of_angles(
    reconstruction: Reconstruction, events: TrueEvents
) -> NDArray[np.float64] | None:
    table, keys = reconstruction.table, reconstruction.keys
    names = [
        n for n in (keys.zenith, keys.azimuth) if n in table.label_names and n in events.labels
    ]
    if len(names) < 2:
        return None
    columns = [table.label_names.index(name) for name in names if name is not None]
    true = np.stack([events.labels[name] for name in names if name is not None], axis=1)
    return elliptical_level(table.labels[:, columns], table.uncertainty[:, columns], true)


def label_deviations(
    reconstruction: Reconstruction, events: TrueEvents
) -> dict[str, LabelDeviation]:
    """Pulls and uncertainties of all labels with uncertainties that are no classes, by label."""
    table, keys = reconstruction.table, reconstruction.keys
    found = {}
    for column, name in enumerate(table.label_names):
        pull = residuals.label_pull(reconstruction, events, name)
        if name not in keys.pid and pull is not None and not np.isnan(pull).all():
            found[name] = LabelDeviation(pull, table.uncertainty[:, column], name == keys.azimuth)
    return found
