"""Closed forms of the normal, χ² and binomial distributions, over arrays."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from dnn_reco.evaluation.metrics import event_number

ONE_SIGMA = 1.0
"""Intervals of one standard deviation hold 68.3 %."""

_GAUSS_NODES = 64


class Share(NamedTuple):
    """A share of events, or an array of them, with the ends of its interval."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def normal_cdf(x: ArrayLike) -> NDArray[np.float64]:
    """Share of a unit Gaussian below x [...]; NaN stays NaN."""
    # exact in the lower tail, too, where ndtr is not
    return np.asarray((torch.special.erfc(_tensor(x) / -math.sqrt(2)) / 2).numpy())


def student_cdf(x: ArrayLike, freedom: ArrayLike) -> NDArray[np.float64]:
    """Share of a Student's t distribution of unit scale below x [...]; NaN stays NaN.

    With x = √ν tan θ it is the integral of cos^(ν-1) θ, here by Gauss's rule; exact to 1e-7.

    Parameters
    ----------
    x
        The values.
    freedom
        Degrees of freedom ν of each, 2 to 100.
    """
    value, nu = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(freedom, np.float64))
    nodes, weights = np.polynomial.legendre.leggauss(_GAUSS_NODES)
    half = np.arctan(value / np.sqrt(nu)) / 2
    inside = half * (np.cos(half[..., None] * (1 + nodes)) ** (nu[..., None] - 1) @ weights)
    log_norm = torch.lgamma(_tensor((nu + 1) / 2)) - torch.lgamma(_tensor(nu / 2))
    return np.asarray(0.5 + inside * np.exp(log_norm.numpy()) / math.sqrt(math.pi))


def chi_square_p_value(chi_square: float, degrees_of_freedom: int) -> float:
    """Probability of a χ² that is at least this large; NaN without degrees of freedom.

    The regularised upper incomplete gamma function Q(k/2, χ²/2).
    """
    if degrees_of_freedom < 1:
        return math.nan
    shape, half = _tensor(degrees_of_freedom / 2), _tensor(chi_square / 2)
    return float(torch.special.gammaincc(shape, half))


def wilson_interval(share: ArrayLike, number: ArrayLike, sigmas: float = ONE_SIGMA) -> Share:
    """Measured shares [...] of a number of events with their score intervals.

    All true shares p for which the measured one deviates by at most `sigmas` √(p (1 - p) / N)
    (Wilson, J. Am. Stat. Assoc. 22, 1927). It stays inside of 0 … 1 and has a width at 0 and 1,
    too. NaN for no events.

    Parameters
    ----------
    share
        Measured shares [...].
    number
        Number N of events of each [...], with weights the effective one.
    sigmas
        Half the width of the interval in standard deviations.
    """
    p, n = np.asarray(share, dtype=np.float64), np.asarray(number, dtype=np.float64)
    square = sigmas**2
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (p + square / (2 * n)) / (1 + square / n)
        half = sigmas / (1 + square / n) * np.sqrt(p * (1 - p) / n + square / (4 * n**2))
        low, high = np.minimum(middle - half, p), np.maximum(middle + half, p)
    return Share(p, np.clip(low, 0, 1), np.clip(high, 0, 1))


def share_of(inside: NDArray[np.bool_], weights: NDArray[np.float64] | None = None) -> Share:
    """Share of events [n] that are inside, with its Wilson interval; NaN for no events."""
    number = event_number(weights, len(inside))
    if number == 0:
        return wilson_interval(np.nan, 0)
    return wilson_interval(np.average(inside, weights=weights), number)


def _tensor(values: ArrayLike) -> torch.Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64))
