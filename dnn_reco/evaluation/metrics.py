"""How good predictions are: numbers with their statistical errors, as pure functions over arrays.

Values of N independent events lie along the first axis; further axes, such as labels, stay. Errors
are standard errors to first order in 1/N. They hold for any distribution with finite moments, not
for normal ones alone, and are NaN for fewer than two events.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]

# Share of a normal distribution below -1 standard deviation
_TAIL = math.erfc(math.sqrt(0.5)) / 2


class ValueWithError(NamedTuple):
    """A number, or an array of them, with its statistical error."""

    value: NDArray[np.float64]
    error: NDArray[np.float64]


def mean(values: Values) -> ValueWithError:
    """Mean of values [N, ...]; its error is s / √N with the sample standard deviation s."""
    average, variance = _moments(values)
    return ValueWithError(average, np.sqrt(variance / (len(values) - 1 or np.nan)))


def root_mean_square(values: Values) -> ValueWithError:
    """√⟨x²⟩ of values [N, ...]; its error follows from that of ⟨x²⟩: σ(⟨x²⟩) / (2 √⟨x²⟩)."""
    square = mean(np.square(np.asarray(values, dtype=np.float64)))
    root = np.sqrt(square.value)
    return ValueWithError(root, _ratio(square.error, 2 * root))


@np.errstate(invalid="ignore")
def standard_deviation(values: Values) -> ValueWithError:
    """Population standard deviation σ of values [N, ...].

    Its error is √((μ₄ - σ⁴) / (N - 1)) / (2σ) with the fourth central moment μ₄ (Cramér,
    Mathematical Methods of Statistics, 1946, chapter 27).
    """
    return root_mean_square(values - np.mean(values, axis=0, dtype=np.float64))


@np.errstate(invalid="ignore")
def quantile(values: Values, p: float) -> ValueWithError:
    """The value that a share p (0 < p < 1) of values [N, ...] lies below.

    The number of values below a fixed point follows a binomial distribution, so that the error is
    half the distance of the quantiles at p ± √(p (1 - p) / N).
    """
    step = math.sqrt(p * (1 - p) / max(len(values), 1))
    low, high = max(p - step, 0.0), min(p + step, 1.0)
    lower, middle, upper = np.quantile(np.asarray(values, dtype=np.float64), [low, p, high], axis=0)
    error = (upper - lower) * step / (high - low)  # at the ends of the range one side is shorter
    return ValueWithError(middle, error if len(values) > 1 else np.full_like(error, np.nan))


@np.errstate(invalid="ignore")
def central_width(values: Values) -> ValueWithError:
    """Half the distance between the quantiles that hold the central 68.3 % of values [N, ...].

    It equals the standard deviation of a normal distribution, and does not care for outliers. Its
    error comes from those of the quantiles at p and 1 - p, which are correlated by p / (1 - p)
    (David & Nagaraja, Order Statistics, 2003, chapter 10).
    """
    low, high = quantile(values, _TAIL), quantile(values, 1 - _TAIL)
    correlation = _TAIL / (1 - _TAIL)
    variance = low.error**2 + high.error**2 - 2 * correlation * low.error * high.error
    return ValueWithError((high.value - low.value) / 2, np.sqrt(variance) / 2)


def jackknife_error(left_out: Values) -> NDArray[np.float64]:
    """Error of any quantity, from its values [K, ...] without the events of one of K groups each.

    √((K - 1) / K · Σ (θₖ - ⟨θ⟩)²), the delete-a-group jackknife (Shao & Tu, The Jackknife and
    Bootstrap, 1995, chapter 2). The groups must be random and of about the same size; the error
    itself is known to 1 / √(2 (K - 1)), relatively.
    """
    if len(left_out) < 2:
        return np.full(left_out.shape[1:], np.nan)
    return np.sqrt(_moments(left_out)[1] * (len(left_out) - 1))


def direction(zenith: Values, azimuth: Values) -> NDArray[np.float64]:
    """Unit vectors [N, 3] that point to zenith and azimuth [N], in radian."""
    zenith, azimuth = zenith.astype(np.float64), azimuth.astype(np.float64)
    sine = np.sin(zenith)
    return np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), np.cos(zenith)], axis=1)


@np.errstate(invalid="ignore", divide="ignore")
def opening_angle(first: Values, second: Values) -> NDArray[np.float64]:
    """Angle [N] between vectors [N, 3] of any length, in radian; NaN for a vector of length 0."""
    first, second = (
        v / np.linalg.norm(v, axis=1, keepdims=True)
        for v in (first.astype(np.float64), second.astype(np.float64))
    )
    # exact at small angles, where the cosine is not
    sine = np.linalg.norm(np.cross(first, second), axis=1)
    return np.asarray(np.arctan2(sine, (first * second).sum(axis=1)))


@np.errstate(invalid="ignore")
def _moments(values: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and population variance of values [N, ...]."""
    average = np.asarray(np.mean(values, axis=0, dtype=np.float64))
    return average, np.asarray(np.mean(np.square(values - average), axis=0))


def _ratio(numerator: NDArray[np.float64], positive: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ratio that is 0 where both parts are."""
    return numerator / np.where(positive == 0, 1, positive)
