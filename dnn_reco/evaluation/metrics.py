"""How good predictions are: residuals, pulls and opening angles, and their summaries with errors.

All that is measured of predictions is defined here and in :mod:`dnn_reco.evaluation.coverage`.

Values of N independent events lie along the first axis; further axes, such as labels, stay. Errors
are standard errors to first order in 1/N. They hold for any distribution with finite moments, not
for normal ones alone, and are NaN for fewer than two events. Events may have weights [N]: then the
effective number of events (Σw)² / Σw² (Kish, Survey Sampling, 1965, section 8.2) is that of errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.directions import opening_angle, smaller_turn, vector_of
from dnn_reco.nn.interface import LabelKeys

Values = NDArray[np.floating]
Float = TypeVar("Float", bound=np.floating)

LOWEST_ENERGY = 1.0
"""Energies below, in GeV, count as this: a logarithm must be taken."""

_LEAST_LABEL = 1e-6 - 1  # of labels with logarithm

# Share of a normal distribution below -1 standard deviation
_TAIL = math.erfc(math.sqrt(0.5)) / 2


class ValueWithError(NamedTuple):
    """A number, or an array of them, with its statistical error."""

    value: NDArray[np.float64]
    error: NDArray[np.float64]


def effective_number(weights: Values) -> float:
    """Effective number of events (Σw)² / Σw² of weights [N]; 0 without any weight."""
    squares = float(np.sum(np.square(weights, dtype=np.float64)))
    return float(np.sum(weights, dtype=np.float64)) ** 2 / squares if squares > 0 else 0.0


def event_number(weights: Values | None, num_events: int) -> float:
    """Number n of events; if they have weights [n], the effective one."""
    return float(num_events) if weights is None else effective_number(weights)


def weights_of(
    chosen: NDArray[np.generic], weights: NDArray[Float] | None
) -> NDArray[Float] | None:
    """Weights of chosen events, by mask or by numbers, of weights [n]; None: all are equal."""
    return None if weights is None else weights[chosen]


def known_only(
    values: NDArray[np.float64], weights: NDArray[Float] | None
) -> tuple[NDArray[np.float64], NDArray[Float] | None]:
    """The values, of values [n], that are finite, and their weights."""
    known = np.isfinite(values)
    return values[known], weights_of(known, weights)


@np.errstate(invalid="ignore", divide="ignore")
def mean(values: Values, weights: Values | None = None) -> ValueWithError:
    """Mean of values [N, ...] with weights [N]; its error is s / √N of the sample deviation s.

    With weights the error is √(Σ w² (x - ⟨x⟩)²) / Σw, times √(n / (n - 1)) with the effective
    number of events n.
    """
    if weights is None:
        average, variance = _moments(values)
        return ValueWithError(average, np.sqrt(variance / (len(values) - 1 or np.nan)))
    number = effective_number(weights)
    if number == 0:
        missing = np.full(np.shape(values)[1:], np.nan)
        return ValueWithError(missing, missing)
    share = np.asarray(weights, np.float64) / np.sum(weights, dtype=np.float64)
    average = np.tensordot(share, np.asarray(values, np.float64), axes=1)
    variance = np.tensordot(share**2, np.square(values - average), axes=1)
    spare = number - 1 if number > 1 + 1e-9 else np.nan
    return ValueWithError(np.asarray(average), np.sqrt(variance * number / spare))


def root_mean_square(values: Values, weights: Values | None = None) -> ValueWithError:
    """√⟨x²⟩ of values [N, ...]; its error follows from that of ⟨x²⟩: σ(⟨x²⟩) / (2 √⟨x²⟩)."""
    square = mean(np.square(np.asarray(values, dtype=np.float64)), weights)
    root = np.sqrt(square.value)
    return ValueWithError(root, _ratio(square.error, 2 * root))


@np.errstate(invalid="ignore")
def standard_deviation(values: Values, weights: Values | None = None) -> ValueWithError:
    """Population standard deviation σ of values [N, ...].

    Its error is √((μ₄ - σ⁴) / (N - 1)) / (2σ) with the fourth central moment μ₄ (Cramér,
    Mathematical Methods of Statistics, 1946, chapter 27).
    """
    return root_mean_square(values - mean(values, weights).value, weights)


@np.errstate(invalid="ignore")
def quantile(values: Values, p: float, weights: Values | None = None) -> ValueWithError:
    """The value that a share p (0 < p < 1) of values [N, ...] lies below.

    The number of values below a fixed point follows a binomial distribution, so that the error is
    half the distance of the quantiles at p ± √(p (1 - p) / N).
    """
    number = event_number(weights, len(values))
    step = math.sqrt(p * (1 - p) / max(number, 1))
    low, high = max(p - step, 0.0), min(p + step, 1.0)
    lower, middle, upper = quantiles(values, [low, p, high], weights)
    error = (upper - lower) * step / (high - low)  # at the ends of the range one side is shorter
    return ValueWithError(middle, error if number > 1 else np.full_like(error, np.nan))


def quantiles(
    values: Values, shares: Sequence[float], weights: Values | None = None
) -> NDArray[np.float64]:
    """Quantiles [P, ...] of values [N, ...], for each share (0 … 1) of the events below.

    Without weights they are interpolated between two values; with weights they are those of
    :func:`weighted_quantiles`.
    """
    values = np.asarray(values, dtype=np.float64)
    if weights is None:
        return np.asarray(np.quantile(values, shares, axis=0))
    found = np.apply_along_axis(
        lambda column: weighted_quantiles(column, weights, shares), 0, values
    )
    return np.asarray(found)


def weighted_quantiles(
    values: Values, weights: Values, shares: Sequence[float]
) -> NDArray[np.float64]:
    """The least values [..., P] that have a share (0 … 1) of the weight at or below them.

    Parameters
    ----------
    values
        Values [N]; where one is NaN, so are the quantiles.
    weights
        Weights [..., N], not negative.
    shares
        Which quantiles [P].
    """
    order = np.argsort(values)
    ascending = np.asarray(values, dtype=np.float64)[order]
    below = np.cumsum(np.asarray(weights)[..., order], axis=-1, dtype=np.float64)
    if len(ascending) == 0 or np.isnan(ascending[-1]):
        return np.full((*below.shape[:-1], len(shares)), np.nan)
    total = below[..., -1:]
    # sums of weights are not exact
    numbers = [(below < share * total * (1 - 1e-12)).sum(axis=-1) for share in shares]
    found = ascending[np.stack(numbers, axis=-1)]
    return np.where(total > 0, found, np.nan)


@np.errstate(invalid="ignore")
def central_width(values: Values, weights: Values | None = None) -> ValueWithError:
    """Half the distance between the quantiles that hold the central 68.3 % of values [N, ...].

    It equals the standard deviation of a normal distribution, and outliers do not change it. Its
    error comes from those of the quantiles at p and 1 - p, which are correlated by p / (1 - p)
    (David & Nagaraja, Order Statistics, 2003, chapter 10).
    """
    low, high = (quantile(values, p, weights) for p in (_TAIL, 1 - _TAIL))
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


# --------------------------------------------------------------------------------------------------
# Residuals and pulls
# --------------------------------------------------------------------------------------------------
def residual_metrics(residual: Values, weights: Values | None = None) -> dict[str, ValueWithError]:
    """Of residuals [N, ...]: `rmse`, `width_68` (:func:`central_width`), `bias` (the mean)."""
    return {
        "rmse": root_mean_square(residual, weights),
        "width_68": central_width(residual, weights),
        "bias": mean(residual, weights),
    }


def pull_metrics(pull: Values, weights: Values | None = None) -> dict[str, ValueWithError]:
    """Standard deviation (`pull`) and central width (`pull_68`) of pulls [N, ...].

    Both are 1 if the uncertainties are right and the pulls normal.
    """
    return {"pull": standard_deviation(pull, weights), "pull_68": central_width(pull, weights)}


def log_energy(energy: Values) -> NDArray[np.float64]:
    """log10 of energies [N] in GeV; those below 1 GeV count as 1 GeV, NaN stays NaN."""
    return np.asarray(np.log10(np.maximum(np.asarray(energy, np.float64), LOWEST_ENERGY)))


def energy_residual(reconstructed: Values, true: Values) -> NDArray[np.float64]:
    """log10(reconstructed / true) [N] of energies [N] in GeV, as of :func:`log_energy`."""
    return log_energy(reconstructed) - log_energy(true)


@np.errstate(invalid="ignore")
def uncertainty_residual(
    predicted: Values, true: Values, has_log: bool, is_azimuth: bool
) -> NDArray[np.float64]:
    """Predicted minus true value [N] of a label in the space of its uncertainty.

    That is ln(1 + x) for labels that are predicted with logarithm. Differences of azimuths are the
    smaller way round.
    """
    values = [np.asarray(each, np.float64) for each in (predicted, true)]
    if has_log:
        values = [np.log1p(np.maximum(each, _LEAST_LABEL)) for each in values]
    residual = values[0] - values[1]
    return smaller_turn(residual) if is_azimuth else np.asarray(residual)


# --------------------------------------------------------------------------------------------------
# Directions
# --------------------------------------------------------------------------------------------------
def direction_columns(label_names: Sequence[str], keys: LabelKeys) -> Iterator[list[int]]:
    """Columns of (zenith, azimuth) and of (x, y, z), where there are such labels."""
    for names in ((keys.zenith, keys.azimuth), (keys.dir_x, keys.dir_y, keys.dir_z)):
        if all(name in label_names for name in names):
            yield [label_names.index(name) for name in names if name is not None]


def opening_angle_degrees(
    true: Values, predicted: Values, columns: Sequence[int]
) -> NDArray[np.float64]:
    """Angle [N] between true and predicted direction, in degrees.

    Parameters
    ----------
    true, predicted
        Labels [N, L].
    columns
        Where (zenith, azimuth) or (x, y, z) stand among them.
    """
    first, second = (_vectors(labels[:, list(columns)]) for labels in (true, predicted))
    return np.degrees(opening_angle(first, second))


def angle_metrics(
    angle: Values, percents: Sequence[int] = (50,), weights: Values | None = None
) -> dict[str, ValueWithError]:
    """Mean of opening angles [N] as `mean`; `50`, … are quantiles: 50 % of the events lie below."""
    found = {str(percent): quantile(angle, percent / 100, weights) for percent in percents}
    return {**found, "mean": mean(angle, weights)}


def _vectors(labels: Values) -> NDArray[np.float64]:
    """Vectors [N, 3] from labels that are vectors, or zenith and azimuth [N, 2]."""
    return labels.astype(np.float64) if labels.shape[1] == 3 else vector_of(*labels.T)


@np.errstate(invalid="ignore")
def _moments(values: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and population variance of values [N, ...]."""
    average = np.asarray(np.mean(values, axis=0, dtype=np.float64))
    return average, np.asarray(np.mean(np.square(values - average), axis=0))


def _ratio(numerator: NDArray[np.float64], positive: NDArray[np.float64]) -> NDArray[np.float64]:
    """A ratio that is 0 where both parts are."""
    return numerator / np.where(positive == 0, 1, positive)
