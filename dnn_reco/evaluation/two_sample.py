"""How much the distributions of one quantity in two samples differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation.metrics import effective_number

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class TwoSample:
    """One quantity in two samples.

    Attributes
    ----------
    name
        The quantity, with its unit.
    num_events
        Numbers of events in which it is finite.
    mean
        Its means.
    ks
        Kolmogorov-Smirnov statistic: the largest difference of the two cumulative distributions.
    p_value
        Probability of such a difference, or a larger one, of samples of the same distribution.
    adjusted_p
        The same, corrected for the number of quantities (:func:`holm`).
    distance
        Wasserstein distance in units of the spread (:func:`spread`).
    """

    name: str
    num_events: tuple[int, int]
    mean: tuple[float, float]
    ks: float
    p_value: float
    adjusted_p: float
    distance: float


def compare_quantity(
    name: str, first: Numbers, second: Numbers, weights: tuple[Numbers, Numbers]
) -> TwoSample:
    """Compare a quantity [n] and [m] in two samples; values that are not finite are left out.

    Measures of a sample without finite values, or without weight, are NaN.

    Parameters
    ----------
    name
        Its name.
    first, second
        Its values.
    weights
        Weights of the events of both samples, at least 0.
    """
    kept = [np.isfinite(values) for values in (first, second)]
    (a, b), (u, v) = (
        [values[keep] for values, keep in zip(both, kept, strict=True)]
        for both in ((first, second), weights)
    )
    num_events = (len(a), len(b))
    if u.sum() <= 0 or v.sum() <= 0:
        return TwoSample(name, num_events, (math.nan, math.nan), *(math.nan,) * 4)
    mean = (float(np.average(a, weights=u)), float(np.average(b, weights=v)))
    ks = ks_statistic(a, b, u, v)
    p_value = ks_p_value(ks, effective_number(u), effective_number(v))
    width = spread(a, b, u, v)
    distance = wasserstein(a, b, u, v) / width if width > 0 else 0.0
    return TwoSample(name, num_events, mean, ks, p_value, p_value, distance)


def ks_statistic(a: Numbers, b: Numbers, u: Numbers, v: Numbers) -> float:
    """Largest difference of the cumulative distributions of values a [n], b [m], weighted u, v."""
    points = np.unique(np.concatenate([a, b]))
    difference = _cumulative(a, u, points) - _cumulative(b, v, points)
    return float(np.abs(difference).max())


def ks_p_value(ks: float, n: float, m: float) -> float:
    """Probability of a Kolmogorov-Smirnov statistic at least as large, for the same distribution.

    The asymptotic distribution, with Stephens' correction for finite samples (J. Roy. Stat. Soc. B
    32 (1970) 115). Discrete quantities have a smaller probability than this.

    Parameters
    ----------
    ks
        The statistic.
    n, m
        (Effective) numbers of events.
    """
    root = math.sqrt(n * m / (n + m))
    return kolmogorov((root + 0.12 + 0.11 / root) * ks)


def kolmogorov(x: float) -> float:
    """Probability 2 Σ (-1)ᵏ⁻¹ exp(-2 k² x²) that Kolmogorov's limit distribution exceeds x."""
    if x < 0.2:  # the series converges slowly; the probability differs from 1 by less than 1e-12
        return 1.0
    terms = [(-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 30)]
    return min(1.0, max(0.0, 2 * math.fsum(terms)))


def wasserstein(a: Numbers, b: Numbers, u: Numbers, v: Numbers) -> float:
    """Area between the cumulative distributions of values a [n], b [m], weighted u, v.

    It is the mean distance by which one distribution must be moved to become the other.
    """
    points = np.unique(np.concatenate([a, b]))
    difference = _cumulative(a, u, points) - _cumulative(b, v, points)
    return float(np.sum(np.abs(difference[:-1]) * np.diff(points)))


def _cumulative(values: Numbers, weights: Numbers, points: Numbers) -> Numbers:
    """Share of the weight of values at or below each point."""
    order = np.argsort(values)
    total = np.concatenate([[0.0], np.cumsum(weights[order])])
    share: Numbers = total[np.searchsorted(values[order], points, side="right")] / total[-1]
    return share


def spread(a: Numbers, b: Numbers, u: Numbers, v: Numbers) -> float:
    """Standard deviation of values a [n] and b [m] together, each sample with half the weight."""
    mean_a, var_a = _moments(a, u)
    mean_b, var_b = _moments(b, v)
    return math.sqrt((var_a + var_b) / 2 + (mean_a - mean_b) ** 2 / 4)


def _moments(values: Numbers, weights: Numbers) -> tuple[float, float]:
    mean = float(np.average(values, weights=weights))
    return mean, float(np.average((values - mean) ** 2, weights=weights))


def holm(p_values: Numbers) -> Numbers:
    """Probabilities corrected for their number (Holm, Scand. J. Stat. 6 (1979) 65).

    If nothing differs, the least of them is below p with probability p at most, whether or not the
    quantities are correlated. NaN stays, and does not count.
    """
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: np.isfinite(p_values).sum()]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted
