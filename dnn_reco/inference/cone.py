"""Uncertain directions: their concentration κ, and the cones that hold a share of the probability.

The density of a direction is that of von Mises-Fisher, exp(κ cos ψ) times a constant, at the angle
ψ to the predicted one (Mardia & Jupp, Directional Statistics, 2000, section 9.3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]


def cone_angle(kappa: ArrayLike, share: float) -> Values:
    """Opening angle ψ, from the axis, of the cone that holds a share of the probability, in rad.

    1 - cos ψ = -ln(1 - p (1 - exp(-2κ))) / κ: the inverse of the probability within ψ.

    Parameters
    ----------
    kappa
        Concentration κ > 0, of any shape.
    share
        Probability p within the cone, 0 … 1.
    """
    kappa = np.asarray(kappa, np.float64)
    deviation = -np.log1p(share * np.expm1(-2 * kappa)) / kappa
    # exact for small angles; rounding may exceed the whole sphere
    return np.asarray(2 * np.arcsin(np.sqrt(np.clip(deviation / 2, 0, 1))))


def vector_concentration(vectors: Values, uncertainty: Values) -> Values:
    """Concentration κ [N] of predicted direction vectors [N, 3] and their uncertainties [N, 3].

    See :func:`dnn_reco.nn.ensemble.mean_direction`.
    """
    import torch

    from dnn_reco.nn.ensemble import mean_direction

    _, kappa = mean_direction(torch.from_numpy(vectors)[None], torch.from_numpy(uncertainty)[None])
    return kappa.numpy()


def angle_concentration(
    zenith: Values, zenith_uncertainty: Values, azimuth_uncertainty: Values
) -> Values:
    """Concentration κ [N] of directions by zenith and azimuth, and their uncertainties, in rad.

    2 / (σ_θ² + sin² θ σ_φ²): the expected square of a small angle ψ is 2 / κ.
    """
    across = np.sin(zenith) * azimuth_uncertainty
    return np.asarray(2 / (np.square(zenith_uncertainty) + np.square(across)))
