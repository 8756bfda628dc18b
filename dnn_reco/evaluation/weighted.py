"""Means, quantiles and widths of weighted events.

Values [n] come with weights [n]; None: all are equal, and the results are those of
:mod:`dnn_reco.evaluation.metrics`. Errors are those of the effective number of events.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation import metrics
from dnn_reco.evaluation.metrics import ValueWithError
from dnn_reco.evaluation.probability import effective_number

Values = NDArray[np.float64]

_TAIL = math.erfc(math.sqrt(0.5)) / 2
_UNKNOWN = ValueWithError(np.array(np.nan), np.array(np.nan))


def mean_and_deviation(
    values: Values, weights: Values | None = None
) -> tuple[ValueWithError, ValueWithError]:
    """Mean and standard deviation of values [n].

    The errors are σ / √(N - 1) and √((μ₄ - σ⁴) / (N - 1)) / (2σ), with the moments of the weighted
    values and the effective number N of events.
    """
    if effective_number(weights, len(values)) == 0:
        return _UNKNOWN, _UNKNOWN
    if weights is None:
        return metrics.mean(values), metrics.standard_deviation(values)
    number = effective_number(weights, len(values)) - 1 or math.nan
    average = np.average(values, weights=weights)
    variance, fourth = (
        np.average((values - average) ** power, weights=weights) for power in (2, 4)
    )
    sigma = np.sqrt(variance)
    error = np.sqrt((fourth - variance**2) / number) / (2 * sigma or 1)
    return (
        ValueWithError(np.asarray(average), np.sqrt(variance / number)),
        ValueWithError(np.asarray(sigma), np.asarray(error)),
    )


def quantile(values: Values, p: float, weights: Values | None = None) -> ValueWithError:
    """The value that a share p (0 < p < 1) of the weight of values [n] lies below.

    With weights it is the least value at which the share is reached. The error is half the distance
    of the quantiles at p ± √(p (1 - p) / N) with the effective number N of events.
    """
    number = effective_number(weights, len(values))
    if number == 0:
        return _UNKNOWN
    if weights is None:
        return metrics.quantile(values, p)
    step = math.sqrt(p * (1 - p) / number)
    low, high = max(p - step, 0.0), min(p + step, 1.0)
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    places = np.searchsorted(share, np.array([low, p, high]) * share[-1] * (1 - 1e-12))
    lower, middle, upper = values[order][places]
    error = (upper - lower) * step / (high - low) if number > 1 else math.nan
    return ValueWithError(np.asarray(middle), np.asarray(error))


def central_width(values: Values, weights: Values | None = None) -> ValueWithError:
    """Half the distance between the quantiles that hold the central 68.3 % of values [n].

    Its error is as in :func:`dnn_reco.evaluation.metrics.central_width`.
    """
    low, high = (quantile(values, p, weights) for p in (_TAIL, 1 - _TAIL))
    correlation = _TAIL / (1 - _TAIL)
    variance = low.error**2 + high.error**2 - 2 * correlation * low.error * high.error
    return ValueWithError((high.value - low.value) / 2, np.sqrt(variance) / 2)
