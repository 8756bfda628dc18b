"""Predictions that are stored in tables of an event file, as those of any reconstruction."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dnn_reco.inference.particle import usual_particle_keys
from dnn_reco.inference.prediction_table import UNCERTAINTY, PredictionTable

# Codes and constants of particles, run times: no labels.
_NO_LABELS = {"pdg_encoding", "type", "shape", "location", "fit_status", "speed", "status"}


def stored_predictions(
    columns: Mapping[str, NDArray[np.floating]], num_events: int
) -> PredictionTable:
    """Predictions from the columns of a stored table; what it does not hold is NaN.

    Parameters
    ----------
    columns
        Columns [n] by name: each label, and `<label>_uncertainty` or `<label>_log_uncertainty`
        where there is one.
    num_events
        Number of events n.
    """
    names = tuple(name for name in columns if _is_label(name, columns))
    has_log = tuple(f"{name}{UNCERTAINTY[True]}" in columns for name in names)
    unknown = np.full(num_events, np.nan)
    uncertainty = [
        columns.get(f"{name}{UNCERTAINTY[log]}", unknown)
        for name, log in zip(names, has_log, strict=True)
    ]
    return PredictionTable(
        names,
        has_log,
        _matrix([columns[name] for name in names], num_events),
        _matrix(uncertainty, num_events),
        particle_labels=usual_particle_keys(names),
    )


def _is_label(name: str, columns: Mapping[str, object]) -> bool:
    if name in _NO_LABELS or name.startswith("runtime_"):
        return False
    return not any(
        name.endswith(suffix) and name.removesuffix(suffix) in columns
        for suffix in UNCERTAINTY.values()
    )


def _matrix(columns: list[NDArray[np.floating]], num_events: int) -> NDArray[np.float64]:
    """Columns [n] side by side [n, C]."""
    return np.array(columns, np.float64).reshape(len(columns), num_events).T
