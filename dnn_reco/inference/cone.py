"""Uncertain directions: their concentration κ, and the cones that hold a share of the probability.

The density of a direction is that of von Mises-Fisher, exp(κ cos ψ) times a constant, at the angle
ψ to the predicted one (Mardia & Jupp, Directional Statistics, 2000, section 9.3).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]

MIN_KAPPA, MAX_KAPPA = 1e-3, 1e7
"""Least and greatest concentration: almost uniform, and cones of a hundredth of a degree."""


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


def vector_concentration(uncertainty: NDArray[np.floating]) -> Values:
    """Concentration κ [N] of a direction vector from the uncertainties of its components [N, 3].

    2 / (σx² + σy² + σz²), from 1e-3 to 1e7: the expected squared length of a small deviation is
    2 / κ.
    """
    square = np.square(uncertainty.astype(np.float64)).sum(axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(2 / square, MIN_KAPPA, MAX_KAPPA))


def angle_concentration(
    zenith: Values, zenith_uncertainty: Values, azimuth_uncertainty: Values
) -> Values:
    """Concentration κ [N] of directions by zenith and azimuth, and their uncertainties, in rad.

    2 / (σ_θ² + sin² θ σ_φ²): the expected square of a small angle ψ is 2 / κ.
    """
    across = np.sin(zenith) * azimuth_uncertainty
    return np.asarray(2 / (np.square(zenith_uncertainty) + np.square(across)))
