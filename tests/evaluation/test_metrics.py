"""Metrics and their errors against analytic results, repeated experiments, and the bootstrap."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dnn_reco.detector.directions import opening_angle, vector_of
from dnn_reco.evaluation import metrics
from dnn_reco.evaluation.metrics import ValueWithError

Sample = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]

NORMAL_DENSITY_AT_1 = math.exp(-0.5) / math.sqrt(2 * math.pi)
TAIL = 0.15865525  # of a normal distribution beyond one standard deviation

SAMPLES: dict[str, Sample] = {
    "normal": lambda rng, size: rng.normal(0.3, 2.0, size),
    "exponential": lambda rng, size: rng.exponential(2.0, size),
    "heavy tails": lambda rng, size: rng.standard_t(9, size),
    "uniform": lambda rng, size: rng.uniform(-1, 3, size),
}
METRICS: dict[str, Callable[[NDArray[np.float64]], ValueWithError]] = {
    "mean": metrics.mean,
    "root mean square": metrics.root_mean_square,
    "standard deviation": metrics.standard_deviation,
    "central width": metrics.central_width,
    "median": lambda values: metrics.quantile(values, 0.5),
    "quantile": lambda values: metrics.quantile(values, 0.9),
}
# Value and error times √N of N values from a normal distribution of mean 0 and deviation 1; for
# quantiles from their densities (Cramér, Mathematical Methods of Statistics, 1946, chapter 28).
OF_NORMAL = {
    "mean": (0.0, 1.0),
    "root mean square": (1.0, math.sqrt(0.5)),
    "standard deviation": (1.0, math.sqrt(0.5)),
    "median": (0.0, math.sqrt(math.pi / 2)),
    "quantile": (1.2815516, math.sqrt(0.09) / 0.17549833),
    "central width": (1.0, math.sqrt(TAIL * (1 - 2 * TAIL) / 2) / NORMAL_DENSITY_AT_1),
}


@pytest.mark.parametrize("name", METRICS)
def test_of_a_normal_distribution_as_known_analytically(name: str) -> None:
    """200 experiments (columns) with 10,000 events each."""
    measured = METRICS[name](np.random.default_rng(1).normal(size=(10_000, 200)))
    value, scaled_error = OF_NORMAL[name]
    error = scaled_error / 100
    assert measured.value.mean() == pytest.approx(value, abs=4 * error / math.sqrt(200))
    assert measured.error.mean() == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("sample", SAMPLES)
def test_errors_are_the_scatter_of_repeated_experiments(name: str, sample: str) -> None:
    """2,000 experiments (columns) with 800 events each."""
    measured = METRICS[name](SAMPLES[sample](np.random.default_rng(2), (800, 2000)))
    assert measured.value.shape == measured.error.shape == (2000,)
    rms_error = np.sqrt(np.mean(measured.error**2))
    assert rms_error == pytest.approx(measured.value.std(), rel=0.1)


@pytest.mark.parametrize("name", METRICS)
def test_errors_are_those_of_the_bootstrap(name: str) -> None:
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0, 1, 900), rng.normal(0, 4, 100)])  # with outliers
    resampled = values[rng.integers(0, 1000, (1000, 3000))]
    expected = METRICS[name](resampled).value.std()
    assert METRICS[name](values).error == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("name", METRICS)
def test_columns_are_measured_one_by_one(name: str) -> None:
    values = np.random.default_rng(4).normal(size=(50, 3))
    together = METRICS[name](values)
    for column in range(3):
        alone = METRICS[name](values[:, column])
        assert together.value[column] == pytest.approx(alone.value)
        assert together.error[column] == pytest.approx(alone.error)


def test_small_samples_by_hand() -> None:
    values = np.array([1.0, 2.0, 3.0, 6.0])
    assert metrics.mean(values) == pytest.approx((3.0, math.sqrt(14 / 3 / 4)))
    assert metrics.root_mean_square(values).value == pytest.approx(math.sqrt(12.5))
    assert metrics.standard_deviation(values).value == pytest.approx(math.sqrt(3.5))
    # quartiles at 1.75 and 3.75; p ± √(p (1 - p) / 4) = 0.25, 0.75
    assert metrics.quantile(values, 0.5) == pytest.approx((2.5, 1.0))


@pytest.mark.parametrize("name", METRICS)
def test_no_spread_no_error_and_one_event_no_estimate_of_it(name: str) -> None:
    assert METRICS[name](np.zeros(5)) == (0.0, 0.0)
    single = METRICS[name](np.array([0.0]))
    assert single.value == 0.0
    assert np.isnan(single.error)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_shows_and_does_not_warn(name: str, bad: float) -> None:
    measured = METRICS[name](np.array([0.0, 1.0, bad, bad, 2.0, bad]))
    assert not np.isfinite(measured.error)


def test_the_central_width_does_not_care_for_outliers() -> None:
    values = np.random.default_rng(5).normal(size=10_000)
    values[:20] = 1e6
    assert metrics.standard_deviation(values).value > 1000
    assert metrics.central_width(values).value == pytest.approx(1.0, abs=0.03)


def test_jackknife_over_single_events_is_exact_for_a_mean() -> None:
    values = np.random.default_rng(6).exponential(size=30)
    left_out = (values.sum() - values) / 29
    assert metrics.jackknife_error(left_out) == pytest.approx(metrics.mean(values).error)
    assert np.isnan(metrics.jackknife_error(left_out[:1]))


def test_jackknife_over_groups_of_a_ratio() -> None:
    """Scatter of 500 experiments; the estimate of the error is known to 16 % in each."""
    x, y = np.random.default_rng(7).exponential(size=(2, 500, 400))
    groups = np.arange(400) % 20
    left_out = np.stack(
        [x[:, groups != g].sum(axis=1) / y[:, groups != g].sum(axis=1) for g in range(20)]
    )
    errors = metrics.jackknife_error(left_out)
    ratio = x.sum(axis=1) / y.sum(axis=1)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(ratio.std(), rel=0.1)
    assert errors.std() / errors.mean() == pytest.approx(1 / math.sqrt(2 * 19), rel=0.2)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, math.pi - 1e-7, math.pi])
def test_opening_angle_from_tiny_to_opposite(angle: float) -> None:
    z = np.array([[0.0, 0.0, 2.0]])
    other = np.array([[math.sin(angle), 0.0, math.cos(angle)]])
    assert opening_angle(z, other)[0] == pytest.approx(angle, rel=1e-6, abs=1e-15)


def test_a_vector_without_length_has_no_direction() -> None:
    assert np.isnan(opening_angle(np.ones((1, 3)), np.zeros((1, 3)))[0])


@given(
    st.floats(0, math.pi),
    st.floats(0, math.pi),
    st.floats(0, 2 * math.pi),
    st.floats(0, 2 * math.pi),
)
def test_opening_angle_of_directions_obeys_the_law_of_cosines(
    zenith: float, zenith_2: float, azimuth: float, azimuth_2: float
) -> None:
    first = vector_of(np.array([zenith]), np.array([azimuth]))
    second = vector_of(np.array([zenith_2]), np.array([azimuth_2]))
    cosine = math.cos(zenith) * math.cos(zenith_2) + math.sin(zenith) * math.sin(
        zenith_2
    ) * math.cos(azimuth - azimuth_2)
    assert np.cos(opening_angle(first, second)[0]) == pytest.approx(cosine, abs=1e-12)


def test_residuals_in_the_space_of_the_uncertainty() -> None:
    found, true = np.array([np.e - 1, -1.0, np.nan]), np.array([0.0, 0.0, 1.0])
    with_log = metrics.uncertainty_residual(found, true, True, False)
    np.testing.assert_allclose(with_log, [1.0, np.log(1e-6), np.nan])
    around = metrics.uncertainty_residual(np.array([0.1]), np.array([6.2]), False, True)
    assert around[0] == pytest.approx(0.1 + 2 * np.pi - 6.2)


def test_known_values_keep_their_weights() -> None:
    values, weights = metrics.known_only(np.array([1.0, np.nan, 3.0]), np.array([1.0, 2.0, 4.0]))
    assert (values.tolist(), weights.tolist()) == ([1.0, 3.0], [1.0, 4.0])
    assert metrics.known_only(np.array([np.inf]), None)[1] is None
