"""Coverage of directions: how many events lie inside of the cones that should hold so many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dnn_reco.evaluation.metrics import Values, ValueWithError, mean
from dnn_reco.nn.ensemble import mean_direction


def credible_level(angle: Values, kappa: Values) -> NDArray[np.float64]:
    """Probability [N] that the true direction is nearer to the predicted one than it is.

    That of a von Mises-Fisher distribution: (1 - exp(-κ (1 - cos ψ))) / (1 - exp(-2κ)). If the
    uncertainties are right, all levels from 0 to 1 are equally frequent: 68 % of the events lie
    inside of their 68 % cone.

    Parameters
    ----------
    angle
        Opening angle ψ [N], in degrees.
    kappa
        Concentration κ of each prediction [N].
    """
    # 1 - cos ψ without loss of digits
    deviation = 2 * np.square(np.sin(np.radians(angle) / 2))
    return np.asarray(np.expm1(-kappa * deviation) / np.expm1(-2 * kappa))


def vector_concentration(
    vectors: NDArray[np.float64], uncertainty: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Concentration κ [N] of predicted direction vectors [N, 3] and their uncertainties [N, 3].

    See :func:`dnn_reco.nn.ensemble.mean_direction`.
    """
    _, kappa = mean_direction(torch.from_numpy(vectors)[None], torch.from_numpy(uncertainty)[None])
    return kappa.numpy()


def coverage(
    level: Values, percents: Sequence[int], weights: Values | None = None
) -> dict[int, ValueWithError]:
    """Share of the events with a credible level [N] below each of some percentages."""
    return {
        percent: mean((level < percent / 100).astype(np.float64), weights) for percent in percents
    }
