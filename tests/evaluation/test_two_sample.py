"""Measures of two samples against scipy, and copies of events for weights."""

import numpy as np
import pytest
from scipy import stats

from dnn_reco.evaluation.two_sample import (
    compare_quantity,
    holm,
    kolmogorov,
    ks_p_value,
    ks_statistic,
    spread,
    wasserstein,
)

RNG = np.random.default_rng(1)
SAMPLES = {
    "normal": (RNG.normal(size=300), RNG.normal(0.2, 1.2, size=400)),
    "ties": (RNG.integers(0, 4, 250).astype(float), RNG.integers(0, 5, 60).astype(float)),
    "apart": (RNG.normal(size=5), RNG.normal(100.0, size=7)),
    "single": (np.array([1.0]), np.array([3.0])),
}


def ones(values: np.ndarray) -> np.ndarray:
    return np.ones(len(values))


@pytest.mark.parametrize("name", SAMPLES)
def test_measures_without_weights(name: str) -> None:
    a, b = SAMPLES[name]
    weights = ones(a), ones(b)
    assert ks_statistic(a, b, *weights) == pytest.approx(stats.ks_2samp(a, b).statistic, abs=1e-12)
    expected = stats.wasserstein_distance(a, b)
    assert wasserstein(a, b, *weights) == pytest.approx(expected, rel=1e-12)


def test_measures_with_weights() -> None:
    a, b = SAMPLES["normal"]
    u, v = RNG.integers(0, 4, len(a)), RNG.integers(1, 3, len(b))
    copies = np.repeat(a, u), np.repeat(b, v)
    weights = u.astype(float), v.astype(float)
    expected = stats.ks_2samp(*copies).statistic
    assert ks_statistic(a, b, *weights) == pytest.approx(expected, abs=1e-12)
    expected = stats.wasserstein_distance(a, b, *weights)
    assert wasserstein(a, b, *weights) == pytest.approx(expected, rel=1e-12)
    assert spread(a, b, *weights) == pytest.approx(spread(*copies, *map(ones, copies)), rel=1e-12)


def test_limit_distribution() -> None:
    for x in (0.0, 0.1, 0.2, 0.3, 0.8, 1.36, 3.0, 6.0):
        assert kolmogorov(x) == pytest.approx(stats.kstwobign.sf(x), rel=1e-9, abs=1e-30)


@pytest.mark.parametrize("sizes", [(20, 30), (300, 400)])
def test_probability_is_near_the_exact_one(sizes: tuple[int, int]) -> None:
    for shift in (0.0, 0.3, 0.6):
        a, b = RNG.normal(size=sizes[0]), RNG.normal(shift, size=sizes[1])
        exact = stats.ks_2samp(a, b, method="exact")
        assert ks_p_value(exact.statistic, *sizes) == pytest.approx(
            exact.pvalue, rel=0.25, abs=0.02
        )


def test_probability_is_uniform_where_nothing_differs() -> None:
    p_values = []
    for _ in range(300):
        a, b = RNG.normal(size=80), RNG.normal(size=120)
        p_values.append(compare_quantity("x", a, b, (ones(a), ones(b))).p_value)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_distance_of_two_shifted_normal_distributions() -> None:
    a = stats.norm.ppf((np.arange(5000) + 0.5) / 5000)
    result = compare_quantity("x", a, a + 0.5, (ones(a), ones(a)))
    assert result.mean == pytest.approx((0.0, 0.5), abs=1e-9)
    assert result.ks == pytest.approx(2 * stats.norm.cdf(0.25) - 1, abs=1e-3)
    assert result.distance == pytest.approx(0.5 / np.sqrt(1 + 0.25**2), rel=1e-3)


def test_constants_missing_values_and_weights_of_zero() -> None:
    same = compare_quantity("x", np.ones(5), np.ones(7), (np.ones(5), np.ones(7)))
    assert (same.ks, same.distance, same.p_value) == (0.0, 0.0, 1.0)
    other = compare_quantity("x", np.zeros(5), np.ones(7), (np.ones(5), np.ones(7)))
    assert other.ks == 1.0
    values = np.array([1.0, np.nan, np.inf, 2.0])
    assert compare_quantity("x", values, values, (np.ones(4), np.ones(4))).num_events == (2, 2)
    for nothing in (
        compare_quantity("x", np.full(3, np.nan), np.ones(3), (np.ones(3), np.ones(3))),
        compare_quantity("x", np.ones(3), np.ones(3), (np.zeros(3), np.ones(3))),
        compare_quantity("x", np.empty(0), np.ones(3), (np.empty(0), np.ones(3))),
    ):
        assert np.isnan([nothing.ks, nothing.p_value, nothing.distance]).all()


def test_correction_for_the_number_of_quantities() -> None:
    p_values = np.array([0.01, np.nan, 0.04, 0.03, 0.005])
    # by hand: 4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04 rises to the one before
    np.testing.assert_allclose(holm(p_values), [0.03, np.nan, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]
    assert len(holm(np.empty(0))) == 0
