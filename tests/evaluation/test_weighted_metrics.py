"""Statistics of weighted events, and bootstrap errors."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnn_reco.evaluation import metrics
from dnn_reco.evaluation.bootstrap import means, with_bootstrap_errors
from dnn_reco.evaluation.metrics import effective_number, quantile, weighted_quantiles

N = 4000


@pytest.mark.parametrize("name", ["mean", "root_mean_square", "standard_deviation"])
def test_equal_weights_change_nothing(name: str) -> None:
    values = np.random.default_rng(0).normal(3, 2, (N, 2))
    statistic = getattr(metrics, name)
    plain, weighted = statistic(values), statistic(values, np.full(N, 0.3))
    np.testing.assert_allclose(weighted.value, plain.value, rtol=1e-12)
    np.testing.assert_allclose(weighted.error, plain.error, rtol=1e-9)


@pytest.mark.parametrize("name", ["mean", "root_mean_square", "standard_deviation"])
def test_whole_weights_are_events_that_occur_as_often(name: str) -> None:
    rng = np.random.default_rng(1)
    values, counts = rng.normal(3, 2, N), rng.integers(0, 4, N)
    statistic = getattr(metrics, name)
    weighted, repeated = statistic(values, counts), statistic(np.repeat(values, counts))
    assert weighted.value == pytest.approx(repeated.value, rel=1e-12)
    # there are not more independent events, however
    assert weighted.error > 1.1 * repeated.error


def test_errors_of_weighted_means_and_quantiles_are_their_spread() -> None:
    """Of 600 samples of 300 events with weights that are distributed exponentially."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(600):
        values, weights = rng.normal(size=300), rng.exponential(size=300)
        found.append(
            [
                metrics.mean(values, weights),
                quantile(values, 0.8, weights),
                metrics.central_width(values, weights),
            ]
        )
    measured = np.array(found, dtype=np.float64)
    expected = (0.0, NormalDist().inv_cdf(0.8), 1.0)
    for number, value in enumerate(expected):
        spread = measured[:, number, 0].std()
        assert measured[:, number, 0].mean() == pytest.approx(value, abs=0.03)
        assert measured[:, number, 1].mean() == pytest.approx(spread, rel=0.15)
    # the effective number of 300 such events is 150
    assert measured[:, 0, 1].mean() == pytest.approx(1 / math.sqrt(150), rel=0.05)


def test_effective_number_of_events() -> None:
    assert effective_number(np.full(7, 0.2)) == pytest.approx(7)
    assert effective_number(np.array([5.0, 0.0])) == 1
    assert effective_number(np.zeros(3)) == 0
    assert effective_number(np.zeros(0)) == 0


@given(
    st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 3)), min_size=1, max_size=30),
    st.floats(0.01, 0.99),
)
def test_weighted_quantiles_are_those_of_repeated_events(
    events: list[tuple[int, int]], share: float
) -> None:
    values, counts = np.array(events).T
    found = weighted_quantiles(values, counts, [share])[0]
    if counts.sum() == 0:
        assert np.isnan(found)
    else:
        repeated = np.repeat(values, counts)
        assert found == np.quantile(repeated, share, method="inverted_cdf")


def test_quantiles_of_several_sets_of_weights() -> None:
    values = np.array([4.0, 1.0, 3.0, 2.0])
    weights = np.array([[1, 1, 1, 1], [0, 9, 1, 0], [0, 0, 0, 0]])
    found = weighted_quantiles(values, weights, [0.25, 0.5, 1.0])
    np.testing.assert_array_equal(found[:2], [[1, 2, 4], [1, 1, 3]])
    assert np.isnan(found[2]).all()
    small = weighted_quantiles(values, weights / 1024, [0.25, 0.5, 1.0])
    np.testing.assert_array_equal(small, found)
    assert np.isnan(weighted_quantiles(np.array([1.0, np.nan]), np.ones(2), [0.1])).all()
    assert np.isnan(weighted_quantiles(np.zeros(0), np.zeros(0), [0.5])).all()


def test_without_any_weight_nothing_is_known() -> None:
    values, none = np.arange(4.0), np.zeros(4)
    for statistic in (metrics.mean, metrics.standard_deviation, metrics.central_width):
        assert np.isnan(statistic(values, none)).all()
    one = metrics.mean(values, np.array([0.0, 2.0, 0.0, 0.0]))
    assert one.value == 1
    assert np.isnan(one.error)


def test_bootstrap_errors_of_normal_values() -> None:
    values = np.random.default_rng(3).normal(2.0, 3.0, N)
    found = with_bootstrap_errors(
        lambda weights: {
            "mean": means(values, weights),
            "median": weighted_quantiles(values, weights, [0.5])[:, 0],
        },
        N,
    )
    assert found["mean"].value == pytest.approx(values.mean())
    assert found["median"].value == pytest.approx(np.median(values), abs=0.01)
    # known to 5 % with 200 replicas
    assert found["mean"].error == pytest.approx(3 / math.sqrt(N), rel=0.15)
    assert found["median"].error == pytest.approx(3 * math.sqrt(math.pi / 2 / N), rel=0.2)


def test_bootstrap_errors_of_weighted_events() -> None:
    rng = np.random.default_rng(4)
    values, weights = rng.normal(size=N), rng.exponential(size=N)
    found = with_bootstrap_errors(lambda w: {"mean": means(values, w)}, N, weights)["mean"]
    expected = metrics.mean(values, weights)
    assert found.value == pytest.approx(expected.value)
    assert found.error == pytest.approx(expected.error, rel=0.15)


def test_bootstrap_is_the_same_each_time_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(5).normal(size=50)
    sizes = []

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(weights))
        return {"mean": means(values, weights)}

    first = with_bootstrap_errors(statistic, 50)
    assert sizes == [1, 200]
    assert with_bootstrap_errors(statistic, 50) == first
    assert with_bootstrap_errors(statistic, 50, seed=1) != first
    sizes.clear()
    monkeypatch.setattr("dnn_reco.evaluation.bootstrap._CELLS", 50 * 70)
    in_parts = with_bootstrap_errors(statistic, 50)
    assert sizes == [1, 70, 70, 60]
    assert in_parts["mean"].error == pytest.approx(first["mean"].error, rel=0.3)


def test_bootstrap_of_one_event_has_no_error() -> None:
    found = with_bootstrap_errors(lambda w: {"mean": means(np.array([3.0]), w)}, 1)["mean"]
    assert found.value == 3
    assert np.isnan(found.error)
