"""Opening angles from the labels of a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.evaluation import metrics
from dnn_reco.nn.interface import LabelKeys


def direction_columns(label_names: Sequence[str], keys: LabelKeys) -> Iterator[list[int]]:
    """Columns of (zenith, azimuth) and of (x, y, z), where there are such labels."""
    for names in ((keys.zenith, keys.azimuth), (keys.dir_x, keys.dir_y, keys.dir_z)):
        if all(name in label_names for name in names):
            yield [label_names.index(name) for name in names if name is not None]


def opening_angle_degrees(
    true: Tensor, predicted: Tensor, columns: Sequence[int]
) -> NDArray[np.float64]:
    """Angle [B] between directions, in degrees.

    Parameters
    ----------
    true, predicted
        Labels [B, L].
    columns
        Where (zenith, azimuth) or (x, y, z) stand among them.
    """
    first, second = (_vectors(labels[:, list(columns)]) for labels in (true, predicted))
    return np.degrees(metrics.opening_angle(first, second))


def credible_level(angle: NDArray[np.float64], kappa: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability [B] that the true direction lies nearer to the predicted one than it does.

    That of a von Mises-Fisher distribution: (1 - exp(-κ (1 - cos ψ))) / (1 - exp(-2κ)). If the
    uncertainties are right, all contents from 0 to 1 are equally frequent: 68 % of the events lie
    inside of their 68 % cone.

    Parameters
    ----------
    angle
        Opening angle ψ [B], in degrees.
    kappa
        Concentration κ of each prediction [B].
    """
    # 1 - cos ψ without loss of digits
    deviation = 2 * np.square(np.sin(np.radians(angle) / 2))
    return np.asarray(np.expm1(-kappa * deviation) / np.expm1(-2 * kappa))


def _vectors(labels: Tensor) -> NDArray[np.float64]:
    """Vectors [B, 3] from labels that are vectors, or zenith and azimuth [B, 2]."""
    values = labels.detach().double().cpu().numpy()
    return values if values.shape[1] == 3 else metrics.direction(values[:, 0], values[:, 1])
