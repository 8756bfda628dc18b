"""How well classes are separated, and whether their probabilities are calibrated.

Scores are probabilities [n] of a class, `is_signal` [n] whether an event is of the class. Weights
[n] may be absent: all events are equal then. With whole-number weights the values (not the errors)
are those of as many copies of each event.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation.metrics import ValueWithError, event_number, weights_of
from dnn_reco.evaluation.probability import Share, wilson_interval

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

NUM_BINS = 15
"""Number of bins of the expected calibration error (Guo et al., arXiv:1706.04599)."""
BACKGROUND_LEVELS = (1e-2, 1e-3)
"""Shares of the background at which the efficiency for signal is given."""


@dataclass(frozen=True)
class RocCurve:
    """The receiver operating characteristic, from the strictest cut to none.

    Attributes
    ----------
    threshold
        Least score [k + 1] of the events that are kept, descending; infinity: none is.
    background, signal
        Share [k + 1] of background and signal that is kept; NaN if there is none at all.
    num_background, num_signal
        Effective number of events of each.
    """

    threshold: Values
    background: Values
    signal: Values
    num_background: float
    num_signal: float


@dataclass(frozen=True)
class Reliability:
    """How often events are of a class, by the probability predicted for it.

    Attributes
    ----------
    edges
        Edges [B + 1] of the bins of the predicted probability.
    predicted
        Mean of the predicted probability in each bin [B]; NaN: the bin is empty.
    observed
        Share of the class in each bin [B], with its Wilson interval.
    fraction
        Share of all events in each bin [B].
    """

    edges: Values
    predicted: Values
    observed: Share
    fraction: Values

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean over events of |observed - predicted| of their bin."""
        filled = self.fraction > 0
        if not filled.any():
            return math.nan
        difference = np.abs(self.observed.value - self.predicted)
        return float((self.fraction * difference)[filled].sum())


def roc_curve(score: Values, is_signal: Mask, weights: Values | None = None) -> RocCurve:
    """The receiver operating characteristic; events of equal scores are kept together."""
    threshold, signal, background = _kept_weights(score, is_signal, weights)
    numbers = (_number(weights, kind) for kind in (~is_signal, is_signal))
    with np.errstate(invalid="ignore"):
        return RocCurve(threshold, background / background[-1], signal / signal[-1], *numbers)


def area_under_curve(
    score: Values, is_signal: Mask, weights: Values | None = None
) -> ValueWithError:
    """Probability that signal has a higher score than background; equal scores count half.

    Its error follows from the variances over signal and over background events of the share of the
    other kind that they are right against (DeLong, DeLong & Clarke-Pearson, Biometrics 44, 1988).
    NaN if one kind is missing.
    """
    if 0 in (_number(weights, is_signal), _number(weights, ~is_signal)):
        return ValueWithError(np.array(np.nan), np.array(np.nan))
    of_signal, of_background = weights_of(is_signal, weights), weights_of(~is_signal, weights)
    signal, background = score[is_signal], score[~is_signal]
    right_of_signal = _share_below(signal, background, of_background)
    right_of_background = 1 - _share_below(background, signal, of_signal)
    area = np.average(right_of_signal, weights=of_signal)
    variance = sum(
        _variance_of_mean(each, of_kind)
        for each, of_kind in ((right_of_signal, of_signal), (right_of_background, of_background))
    )
    return ValueWithError(np.asarray(area), np.sqrt(variance))


def average_precision(score: Values, is_signal: Mask, weights: Values | None = None) -> float:
    """Mean purity at the cuts that just keep each signal event: Σ (Rₖ - Rₖ₋₁) Pₖ; NaN: no signal.

    R is the share of signal that is kept and P that of signal in what is kept.
    """
    _, signal, background = _kept_weights(score, is_signal, weights)
    if signal[-1] == 0:
        return math.nan
    kept = signal[1:] + background[1:]
    purity = signal[1:] / np.where(kept > 0, kept, 1)
    return float((np.diff(signal) * purity).sum() / signal[-1])


def efficiency_at(curve: RocCurve, background: float) -> ValueWithError:
    """Share of signal kept by the loosest cut that keeps at most a share of the background.

    Its error is the binomial one, and that of the cut: half the difference of the efficiencies at
    the share plus and minus its own binomial error. NaN where fewer than one background event
    would be kept, so that the cut cannot be known.
    """
    if not curve.num_background * background >= 1 or curve.num_signal == 0:
        return ValueWithError(np.array(np.nan), np.array(np.nan))
    step = math.sqrt(background * (1 - background) / curve.num_background)
    low, middle, high = (
        curve.signal[np.searchsorted(curve.background, share * (1 + 1e-12), side="right") - 1]
        for share in (max(background - step, 0.0), background, min(background + step, 1.0))
    )
    binomial = middle * (1 - middle) / curve.num_signal
    return ValueWithError(np.asarray(middle), np.sqrt(binomial + ((high - low) / 2) ** 2))


def reliability(
    probability: Values,
    is_signal: Mask,
    weights: Values | None = None,
    num_bins: int = NUM_BINS,
    equal_count: bool = False,
) -> Reliability:
    """How often events are of a class, in bins of the predicted probability.

    Parameters
    ----------
    probability, is_signal, weights
        Predicted probability, whether it is of the class, and weight of each event [n].
    num_bins
        Number of bins B.
    equal_count
        Whether the bins hold equal numbers of events instead of having equal widths; those that
        would be empty, because many events have the same probability, are left out.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    if equal_count and len(probability):
        inner = np.quantile(probability, edges[1:-1], method="inverted_cdf")
        edges = np.unique(np.concatenate([[0.0], inner, [1.0]]))
    # as usual for this measure, a value on an edge belongs to the bin below it
    bins = np.clip(np.searchsorted(edges, probability, side="left") - 1, 0, len(edges) - 2)
    weight = np.ones(len(probability)) if weights is None else weights
    total, square, of_signal, sum_of_predicted = (
        np.bincount(bins, values, minlength=len(edges) - 1)
        for values in (weight, weight**2, weight * is_signal, weight * probability)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = wilson_interval(of_signal / total, total**2 / square)
        return Reliability(edges, sum_of_predicted / total, observed, total / total.sum())


def brier_score(probability: Values, is_signal: Mask, weights: Values | None = None) -> float:
    """Mean square of probability minus truth (Brier, Monthly Weather Review 78, 1950)."""
    if event_number(weights, len(probability)) == 0:
        return math.nan
    return float(np.average(np.square(probability - is_signal), weights=weights))


def _kept_weights(
    score: Values, is_signal: Mask, weights: Values | None
) -> tuple[Values, Values, Values]:
    """Thresholds [k + 1], and the weight of signal and of background kept by each."""
    order = np.argsort(-score, kind="stable")
    weight = (np.ones(len(score)) if weights is None else weights)[order]
    ordered, signal = score[order], is_signal[order]
    last_of_equal = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    last_of_equal = last_of_equal[last_of_equal >= 0]
    of_signal, of_background = (
        np.concatenate([[0.0], np.cumsum(weight * kind)[last_of_equal]])
        for kind in (signal, ~signal)
    )
    return np.concatenate([[np.inf], ordered[last_of_equal]]), of_signal, of_background


def _share_below(values: Values, others: Values, weights: Values | None) -> Values:
    """Share of the weight of others [m] that is below each value [n]; equal ones count half."""
    order = np.argsort(others)
    weight = np.ones(len(others)) if weights is None else weights[order]
    below = np.concatenate([[0.0], np.cumsum(weight)])
    low, high = (np.searchsorted(others[order], values, side=side) for side in ("left", "right"))
    with np.errstate(invalid="ignore"):
        return np.asarray((below[low] + below[high]) / 2 / below[-1])


def _variance_of_mean(values: Values, weights: Values | None) -> Values:
    """Variance of the weighted mean of independent values [n]; NaN for fewer than two."""
    weight = np.ones(len(values)) if weights is None else weights
    number = event_number(weight, len(values))
    if number <= 1:
        return np.array(np.nan)
    deviation = values - np.average(values, weights=weight)
    variance = np.square(weight * deviation).sum() / weight.sum() ** 2
    return np.asarray(variance * number / (number - 1))


def _number(weights: Values | None, chosen: Mask) -> float:
    """Effective number of the chosen events."""
    return event_number(weights_of(chosen, weights), int(chosen.sum()))
