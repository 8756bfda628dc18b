"""How well a reconstruction does over all events, label by label, with bootstrap errors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation.bootstrap import means, with_bootstrap_errors
from dnn_reco.evaluation.metrics import ValueWithError, log_energy, weighted_quantiles, weights_of
from dnn_reco.evaluation.reconstruction import Reconstruction, TrueEvents
from dnn_reco.evaluation.residuals import (
    label_pull,
    label_residual,
    opening_angle,
)

ANGLE_PERCENTS = (20, 50, 68, 90)
# Shares of the events below the ends of the central 90 % and 68.27 %.
_ENDS = (0.05, 0.15865525, 0.84134475, 0.95)

Values = NDArray[np.float64]


def angle_summary(reconstruction: Reconstruction, events: TrueEvents) -> dict[str, ValueWithError]:
    """Mean (`mean`) and quantiles (`20`, `50`, `68`, `90`) of the opening angle in degrees.

    Of the events that are reconstructed; empty if there is no direction.
    """
    angle = opening_angle(reconstruction, events)
    if angle is None or not np.isfinite(angle).any():
        return {}
    known = np.isfinite(angle)
    statistics = partial(_angle_statistics, angle[known])
    return with_bootstrap_errors(statistics, int(known.sum()), weights_of(known, events.weights))


def label_summary(
    reconstruction: Reconstruction, events: TrueEvents, label: str, log: bool
) -> dict[str, ValueWithError]:
    """How well a label is reconstructed, of the events that are.

    Parameters
    ----------
    reconstruction, events
        The reconstruction and the truth.
    label
        Name of the label.
    log
        Whether its residual is log10(reconstructed / true) instead of the difference.

    Returns
    -------
    dict
        Empty if it is not reconstructed. `bias`, `rmse`
            Mean and root mean square of the residual.
        `median_absolute`
            Median of its absolute value.
        `width_68`, `width_90`
            Half the widths of its central 68.3 % and 90 %.
        `correlation`
            Pearson's, of reconstructed and true values, or of their logarithms; not of an azimuth.
        `pull_mean`, `pull_width`
            Mean of residual over uncertainty, and half the width of its central 68.3 %; only where
            there are uncertainties.
    """
    residual = label_residual(reconstruction, events, label, log)
    if residual is None or not np.isfinite(residual).any():
        return {}
    known = np.isfinite(residual)
    true, found = events.labels[label][known], reconstruction.table[label][known]
    if log:
        true, found = log_energy(true), log_energy(found)
    pull = label_pull(reconstruction, events, label)
    statistics = partial(
        _label_statistics,
        residual[known],
        None if label == reconstruction.keys.azimuth else (true, found),
        None if pull is None or not np.isfinite(pull[known]).all() else pull[known],
    )
    return with_bootstrap_errors(statistics, int(known.sum()), weights_of(known, events.weights))


def _angle_statistics(angle: Values, weights: Values) -> Mapping[str, Values]:
    shares = [percent / 100 for percent in ANGLE_PERCENTS]
    found = weighted_quantiles(angle, weights, shares)
    quantiles = {str(percent): found[:, i] for i, percent in enumerate(ANGLE_PERCENTS)}
    return {"mean": means(angle, weights), **quantiles}


def _label_statistics(
    residual: Values,
    true_and_found: tuple[Values, Values] | None,
    pull: Values | None,
    weights: Values,
) -> Mapping[str, Values]:
    """Statistics [R] of a label for R sets of weights [R, n] of its events."""
    low_90, low_68, high_68, high_90 = weighted_quantiles(residual, weights, _ENDS).T
    statistics = {
        "bias": means(residual, weights),
        "rmse": np.sqrt(means(residual**2, weights)),
        "median_absolute": weighted_quantiles(np.abs(residual), weights, [0.5])[:, 0],
        "width_68": (high_68 - low_68) / 2,
        "width_90": (high_90 - low_90) / 2,
    }
    if true_and_found is not None:
        statistics["correlation"] = _correlation(*true_and_found, weights)
    if pull is not None:
        statistics["pull_mean"] = means(pull, weights)
        low, high = weighted_quantiles(pull, weights, _ENDS[1:3]).T
        statistics["pull_width"] = (high - low) / 2
    return statistics


@np.errstate(invalid="ignore", divide="ignore")
def _correlation(first: Values, second: Values, weights: Values) -> Values:
    """Pearson's correlation [R] of values [n] for R sets of weights [R, n]."""
    # centred: products of large values, such as positions far away, would lose digits
    a, b = first - first.mean(), second - second.mean()
    mean_a, mean_b = means(a, weights), means(b, weights)
    covariance = means(a * b, weights) - mean_a * mean_b
    variances = (means(a * a, weights) - mean_a**2) * (means(b * b, weights) - mean_b**2)
    return np.asarray(covariance / np.sqrt(np.maximum(variances, 0)))
