"""How far two computations of the same predictions are apart. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dnn_reco.inference.backend import NetworkOutput
from dnn_reco.inference.model_info import ModelInfo


def largest_deviation(output: NetworkOutput, expected: NetworkOutput, info: ModelInfo) -> float:
    """Largest deviation of n events, in units of the transformed labels.

    Of labels and uncertainties x above 1 it is relative: |Δx| / max(1, |x|). Azimuths on both sides
    of 0 are close, and their deviations are multiplied by the sine of the zenith, since vertical
    directions have no azimuth. The probabilities of classes also count: a calibration changes them
    alone. Labels that were not trained do not count; shapes of densities do.

    Parameters
    ----------
    output, expected
        Both predictions, arrays [n, L].
    info
        What the model predicts.

    Returns
    -------
    deviation
        inf where only one of both is a number, 0 without events.
    """
    weight = np.ones_like(expected.labels, dtype=np.float64)
    names = info.label_names
    if info.zenith in names and info.azimuth in names:
        zenith, azimuth = names.index(info.zenith), names.index(info.azimuth)
        weight[:, azimuth] = np.abs(np.sin(expected.labels[:, zenith]))
    trained = np.isin(names, info.trained_labels)
    largest = 0.0
    for found, right, wraps in (
        (output.labels_trafo, expected.labels_trafo, _share_left(output, expected, info)),
        (output.uncertainty_trafo, expected.uncertainty_trafo, 1.0),
    ):
        relative = _relative(found, right, wraps * weight)
        largest = max(largest, float(relative[:, trained].max(initial=0)))
    others = (_largest_of_classes(output, expected, info), _largest_of_shapes(output, expected))
    return max(largest, *others)


def _largest_of_shapes(output: NetworkOutput, expected: NetworkOutput) -> float:
    """Largest deviation of the shapes of densities; inf if only one is a number."""
    return float(_relative(output.shapes, expected.shapes).max(initial=0))


def _relative(
    found: NDArray[np.floating],
    right: NDArray[np.floating],
    weight: NDArray[np.float64] | float = 1.0,
) -> NDArray[np.float64]:
    """Weighted |found - right| / max(1, |right|) [n, K]; inf where only one of both is a number."""
    same = (found == right) | (np.isnan(found) & np.isnan(right))
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = np.abs(found.astype(np.float64) - right) * weight
    relative = difference / np.maximum(1, np.abs(right))
    return np.where(same, 0, np.where(np.isnan(relative), np.inf, relative))


def _largest_of_classes(output: NetworkOutput, expected: NetworkOutput, info: ModelInfo) -> float:
    """Largest deviation of the probabilities of trained classes; inf if only one is a number."""
    columns = [i for i, label in enumerate(info.labels) if label.is_class and label.is_trained]
    found, right = (each.labels[:, columns].astype(np.float64) for each in (output, expected))
    difference = np.where(np.isnan(found) & np.isnan(right), 0, np.abs(found - right))
    return float(np.where(np.isnan(difference), np.inf, difference).max(initial=0))


def _share_left(
    output: NetworkOutput, expected: NetworkOutput, info: ModelInfo
) -> NDArray[np.float64]:
    """Factor [n, L] that differences of azimuths across 0 shrink by; 1 for all others."""
    share = np.ones_like(expected.labels, dtype=np.float64)
    if info.azimuth in info.label_names:
        column = info.label_names.index(info.azimuth)
        angle = np.abs(output.labels[:, column].astype(np.float64) - expected.labels[:, column])
        far = angle > np.pi
        share[far, column] = np.abs(2 * np.pi - angle[far]) / angle[far]
    return share
