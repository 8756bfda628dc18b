"""Closed forms of distributions against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from dnn_reco.evaluation.metrics import event_number
from dnn_reco.evaluation.probability import (
    chi_square_p_value,
    normal_cdf,
    share_of,
    wilson_interval,
)


def test_normal_distribution() -> None:
    x = np.concatenate([np.linspace(-30, 8, 77), [np.nan, np.inf, -np.inf]])
    np.testing.assert_allclose(normal_cdf(x), stats.norm.cdf(x), rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("degrees", [1, 2, 7, 40])
@pytest.mark.parametrize("chi_square", [0.0, 0.5, 7.0, 60.0])
def test_p_value_of_chi_square(chi_square: float, degrees: int) -> None:
    expected = stats.chi2.sf(chi_square, degrees)
    assert chi_square_p_value(chi_square, degrees) == pytest.approx(expected, rel=1e-9)


def test_no_degrees_of_freedom() -> None:
    assert math.isnan(chi_square_p_value(0.0, 0))


@pytest.mark.parametrize(("inside", "number"), [(0, 5), (3, 7), (50, 1000), (9, 9), (1, 1)])
def test_wilson_interval(inside: int, number: int) -> None:
    level = stats.norm.cdf(1) - stats.norm.cdf(-1)
    expected = stats.binomtest(inside, number).proportion_ci(level, method="wilson")
    found = wilson_interval(inside / number, number)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_interval_holds_the_true_share_as_often_as_it_should() -> None:
    measured = np.random.default_rng(1).binomial(200, 0.9, 20_000) / 200
    found = wilson_interval(measured, 200)
    assert ((found.low <= 0.9) & (found.high >= 0.9)).mean() == pytest.approx(0.683, abs=0.03)


def test_weighted_share() -> None:
    inside, weights = np.array([True, True, False]), np.array([1.0, 2.0, 5.0])
    assert share_of(inside, weights).value == pytest.approx(3 / 8)
    # equal weights change nothing
    np.testing.assert_allclose(share_of(inside, np.full(3, 4.0)), share_of(inside))
    assert event_number(weights, 3) == pytest.approx(64 / 30)


@pytest.mark.parametrize("weights", [None, np.zeros(0)])
def test_share_of_no_events_is_unknown(weights: np.ndarray | None) -> None:
    assert np.isnan(share_of(np.zeros(0, dtype=bool), weights)).all()


def test_share_of_events_without_weight_is_unknown() -> None:
    assert np.isnan(share_of(np.ones(4, dtype=bool), np.zeros(4))).all()
