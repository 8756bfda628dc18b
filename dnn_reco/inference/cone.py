"""Uncertain directions: their concentration κ, and the cones that hold a share of the probability.

The density of a direction is that of von Mises-Fisher, exp(κ cos ψ) times a constant, at the angle
ψ to the predicted one (Mardia & Jupp, Directional Statistics, 2000, section 9.3). Within ψ lies the
probability p = (1 - exp(-κ d)) / (1 - exp(-2κ)) with d = 1 - cos ψ.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnn_reco.nn.density_layout import MAX_KAPPA, MIN_KAPPA

Values = NDArray[np.float64]

_BISECTIONS = 60


def deviation_of(angle: ArrayLike) -> Values:
    """1 - cos ψ [...] of angles ψ [...] in radian, without loss of digits."""
    return np.asarray(2 * np.square(np.sin(np.asarray(angle, np.float64) / 2)))


def probability_within(kappa: ArrayLike, deviation: ArrayLike) -> Values:
    """Probability p [...] within 1 - cos ψ [...] for the concentration κ [...]."""
    kappa, deviation = np.asarray(kappa, np.float64), np.asarray(deviation, np.float64)
    return np.asarray(np.expm1(-kappa * deviation) / np.expm1(-2 * kappa))


def deviation_holding(kappa: ArrayLike, share: ArrayLike) -> Values:
    """1 - cos ψ [...] within which lies a share [...] of the probability.

    -ln(1 - p (1 - exp(-2κ))) / κ, the inverse of :func:`probability_within`.
    """
    kappa, share = np.asarray(kappa, np.float64), np.asarray(share, np.float64)
    return np.asarray(-np.log1p(share * np.expm1(-2 * kappa)) / kappa)


def cone_angle(kappa: ArrayLike, share: ArrayLike) -> Values:
    """Opening angle ψ, from the axis, of the cone that holds a share of the probability, in rad.

    Parameters
    ----------
    kappa
        Concentration κ > 0, of any shape.
    share
        Probability p within the cone, 0 … 1.
    """
    # exact for small angles; rounding may exceed the whole sphere
    half = np.clip(deviation_holding(kappa, share) / 2, 0, 1)
    return np.asarray(2 * np.arcsin(np.sqrt(half)))


def needed_concentration(angle: ArrayLike, share: float) -> Values:
    """The concentration κ [...] whose cone that holds a share has an opening angle [...] in radian.

    By bisection of ln κ; the smallest κ where the angle is so large that there is none.
    """
    deviation = deviation_of(angle)
    low = np.full_like(deviation, math.log(MIN_KAPPA))
    high = np.full_like(deviation, math.log(MAX_KAPPA))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_inside = probability_within(np.exp(middle), deviation) < share
        low, high = np.where(is_inside, middle, low), np.where(is_inside, high, middle)
    return np.asarray(np.exp((low + high) / 2))


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


def with_concentration_scaled(components: Values, factor: Values) -> Values:
    """Components of densities of directions, whose concentrations κ are multiplied by factors.

    Parameters
    ----------
    components
        Components [n, K, parameters] of von Mises-Fisher distributions or flows
        (:class:`dnn_reco.nn.density_layout.DensityShape`); κ stays between 1e-3 and 1e7.
    factor
        Factor on all κ of each event [n].
    """
    kappa = np.linalg.norm(components[..., 1:4], axis=2)
    scaled = np.clip(kappa * factor[:, None], MIN_KAPPA, MAX_KAPPA)
    result = components.copy()
    result[..., 1:4] *= (scaled / kappa)[..., None]
    return result
