"""Measures of classes against slow obvious versions, closed forms and repeated experiments."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from dnn_reco.evaluation.classification import (
    area_under_curve,
    average_precision,
    brier_score,
    efficiency_at,
    reliability,
    roc_curve,
)

# Few different scores, so that many are equal.
EVENTS = st.lists(
    st.tuples(st.integers(0, 6), st.booleans(), st.integers(0, 4)), min_size=1, max_size=30
)
Arrays = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]


def arrays(events: list[tuple[int, bool, int]]) -> Arrays:
    score, is_signal, number = zip(*events, strict=True)
    return np.array(score) / 6, np.array(is_signal), np.array(number)


def slow_area(score: NDArray[np.float64], is_signal: NDArray[np.bool_]) -> float:
    pairs = [
        1.0 if s > b else 0.5 if s == b else 0.0
        for s in score[is_signal]
        for b in score[~is_signal]
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


def slow_average_precision(score: NDArray[np.float64], is_signal: NDArray[np.bool_]) -> float:
    """Mean over signal events of the purity of all events that are at least as high."""
    purities = [is_signal[score >= cut].mean() for cut in score[is_signal]]
    return sum(purities) / len(purities) if purities else math.nan


@given(EVENTS)
def test_area_and_precision_of_repeated_and_weighted_events(
    events: list[tuple[int, bool, int]],
) -> None:
    score, is_signal, number = arrays(events)
    repeated = np.repeat(score, number), np.repeat(is_signal, number)
    weights = number.astype(np.float64)
    expected = slow_area(*repeated)
    assert area_under_curve(*repeated).value == pytest.approx(expected, nan_ok=True)
    assert area_under_curve(score, is_signal, weights).value == pytest.approx(expected, nan_ok=True)
    expected = slow_average_precision(*repeated)
    assert average_precision(score, is_signal, weights) == pytest.approx(expected, nan_ok=True)


@given(EVENTS)
def test_roc_curve_counts_events_above_the_threshold(events: list[tuple[int, bool, int]]) -> None:
    score, is_signal, _ = arrays(events)
    curve = roc_curve(score, is_signal)
    for threshold, background, signal in zip(
        curve.threshold, curve.background, curve.signal, strict=True
    ):
        if is_signal.any():
            assert signal == pytest.approx((score[is_signal] >= threshold).mean())
        if not is_signal.all():
            assert background == pytest.approx((score[~is_signal] >= threshold).mean())


def binormal(
    distance: float, size: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores of signal and background, normal with unit width and so far apart."""
    rng = np.random.default_rng(seed)
    is_signal = rng.random(size) < 0.4
    return rng.normal(np.where(is_signal, distance, 0.0)), is_signal


def test_binormal_scores_as_known_analytically() -> None:
    score, is_signal = binormal(2.0, 200_000, 1)
    area = area_under_curve(score, is_signal)
    assert area.value == pytest.approx(stats.norm.cdf(2 / math.sqrt(2)), abs=4 * area.error)
    curve = roc_curve(score, is_signal)
    for level in (1e-2, 1e-3):
        efficiency = efficiency_at(curve, level)
        expected = stats.norm.sf(stats.norm.isf(level) - 2)
        assert efficiency.value == pytest.approx(expected, abs=4 * efficiency.error)


def test_errors_are_the_scatter_of_repeated_experiments() -> None:
    areas, efficiencies = [], []
    for seed in range(300):
        score, is_signal = binormal(1.0, 3000, seed)
        areas.append(area_under_curve(score, is_signal))
        efficiencies.append(efficiency_at(roc_curve(score, is_signal), 1e-2))
    for found, precision in ((np.array(areas), 0.12), (np.array(efficiencies), 0.25)):
        assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=precision)


def test_efficiency_needs_enough_background() -> None:
    score, is_signal = binormal(2.0, 300, 1)
    curve = roc_curve(score, is_signal)
    assert np.isfinite(efficiency_at(curve, 1e-2).value)
    assert np.isnan(efficiency_at(curve, 1e-3).value)


@pytest.mark.parametrize("equal_count", [False, True])
def test_right_probabilities_have_no_calibration_error(equal_count: bool) -> None:
    rng = np.random.default_rng(3)
    probability = rng.beta(0.5, 0.8, 100_000)
    found = reliability(probability, rng.random(100_000) < probability, equal_count=equal_count)
    assert found.calibration_error < 0.006
    error = (found.observed.high - found.observed.low) / 2
    deviation = (found.observed.value - found.predicted) / error
    assert np.abs(deviation).max() < 4
    if equal_count:
        np.testing.assert_allclose(found.fraction, 1 / 15, atol=1e-4)


def test_wrong_probabilities_as_known_analytically() -> None:
    """Events of the class are p² frequent: |p - p²| integrates to 1/6, the Brier score too."""
    rng = np.random.default_rng(4)
    probability = rng.random(400_000)
    is_signal = rng.random(400_000) < probability**2
    assert reliability(probability, is_signal).calibration_error == pytest.approx(1 / 6, abs=3e-3)
    # ⟨p² - 2 p p² + p²⟩ = 1/3 - 1/2 + 1/3
    assert brier_score(probability, is_signal) == pytest.approx(1 / 6, abs=2e-3)


@given(EVENTS)
def test_reliability_of_weighted_events_is_that_of_repeated_ones(
    events: list[tuple[int, bool, int]],
) -> None:
    score, is_signal, number = arrays(events)
    repeated = np.repeat(score, number), np.repeat(is_signal, number)
    weighted = reliability(score, is_signal, number.astype(np.float64))
    expected = reliability(*repeated)
    assert weighted.calibration_error == pytest.approx(expected.calibration_error, nan_ok=True)
    np.testing.assert_allclose(weighted.predicted, expected.predicted)
    np.testing.assert_allclose(weighted.observed.value, expected.observed.value)
    found = brier_score(score, is_signal, number.astype(np.float64))
    assert found == pytest.approx(brier_score(*repeated), nan_ok=True)


@pytest.mark.parametrize("num_events", [0, 1])
@pytest.mark.parametrize("weight", [None, 0.0])
def test_without_both_kinds_measures_are_unknown(num_events: int, weight: float | None) -> None:
    score, is_signal = np.full(num_events, 0.3), np.ones(num_events, dtype=bool)
    weights = None if weight is None else np.full(num_events, weight)
    assert np.isnan(area_under_curve(score, is_signal, weights)).all()
    curve = roc_curve(score, is_signal, weights)
    assert np.isnan(curve.background).all()
    assert np.isnan(efficiency_at(curve, 0.01).value)
    known = num_events == 1 and weight is None
    assert math.isnan(average_precision(score, is_signal, weights)) != known
    assert math.isnan(brier_score(score, is_signal, weights)) != known
    assert math.isnan(reliability(score, is_signal, weights).calibration_error) != known
    assert reliability(score, is_signal, weights, equal_count=True).edges[-1] == 1
