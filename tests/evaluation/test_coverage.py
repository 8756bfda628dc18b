"""Coverage of synthetic predictions with known bias, width and density."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dnn_reco.evaluation.coverage import (
    PERCENTS,
    CoverageCell,
    LabelDeviation,
    coverage_cell,
    coverage_curve,
    coverage_test,
    credible_level,
    elliptical_level,
    pull_moments,
    pull_width_test,
)
from dnn_reco.evaluation.credible_levels import direction_level, label_deviations
from dnn_reco.evaluation.reconstruction import Reconstruction, TrueEvents
from dnn_reco.inference.cone import vector_concentration
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.nn.interface import LabelKeys

N = 20_000
KEYS = LabelKeys(zenith="zenith", azimuth="azimuth", dir_x="x", dir_y="y", dir_z="z", pid=("p",))


def is_uniform(values: NDArray[np.float64]) -> bool:
    """From 0 to 1, by the test of Kolmogorov and Smirnov."""
    return bool(stats.kstest(values, "uniform").pvalue > 0.01)


def deviation(bias: float, width: float, size: int = N, seed: int = 1) -> LabelDeviation:
    """Residuals of this bias and width, in units of the predicted uncertainty."""
    return LabelDeviation(np.random.default_rng(seed).normal(bias, width, size), np.ones(size))


def truth(labels: dict[str, NDArray[np.float64]], size: int = N) -> TrueEvents:
    return TrueEvents(np.zeros(size, dtype=[("Run", "u4")]), labels, {}, np.full(size, 30))


def reconstruction(
    labels: dict[str, NDArray[np.float64]],
    sigmas: dict[str, NDArray[np.float64]],
    log: tuple[str, ...] = (),
) -> Reconstruction:
    table = PredictionTable(
        tuple(labels),
        tuple(name in log for name in labels),
        np.stack(list(labels.values()), axis=1),
        np.stack([sigmas[name] for name in labels], axis=1),
    )
    return Reconstruction("model", table, KEYS)


# --------------------------------------------------------------------------------------------------
# Labels
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("bias", "width"), [(0.0, 1.0), (0.5, 1.0), (0.0, 1.3), (-0.2, 0.7)])
def test_pit_and_level_of_a_known_bias_and_width(bias: float, width: float) -> None:
    found = deviation(bias, width)
    normal = stats.norm(bias, width)
    # P(PIT < u) = P(-pull < Φ⁻¹(u)) and P(level < p) = P(|pull| < Φ⁻¹((1 + p) / 2))
    for share in (0.1, 0.5, 0.9):
        expected = normal.sf(-stats.norm.ppf(share))
        assert (found.pit() < share).mean() == pytest.approx(expected, abs=0.015)
        edge = stats.norm.ppf((1 + share) / 2)
        expected = normal.cdf(edge) - normal.cdf(-edge)
        assert (found.level() < share).mean() == pytest.approx(expected, abs=0.015)
    assert is_uniform(found.pit()) == (bias == 0 and width == 1)


@pytest.mark.parametrize("sigma", [0.05, 0.8, 2.0, 5.0, 40.0])
def test_azimuths_wrapped_around_the_circle(sigma: float) -> None:
    rng = np.random.default_rng(2)
    predicted = rng.uniform(0, 2 * math.pi, N)
    true = (predicted + rng.normal(0, sigma, N)) % (2 * math.pi)
    model = reconstruction({"azimuth": predicted}, {"azimuth": np.full(N, sigma)})
    found = label_deviations(model, truth({"azimuth": true}))["azimuth"]
    assert is_uniform(found.pit())
    assert is_uniform(found.level())


def test_labels_with_logarithm_are_compared_in_their_own_space() -> None:
    rng = np.random.default_rng(3)
    true = 10 ** rng.uniform(1, 6, N)
    sigma = rng.uniform(0.1, 0.9, N)
    predicted = np.expm1(np.log1p(true) + sigma * rng.normal(0.3, 1.2, N))
    model = reconstruction({"energy": predicted}, {"energy": sigma}, log=("energy",))
    moments = pull_moments(label_deviations(model, truth({"energy": true}))["energy"].pull)
    for found, expected in zip(moments, (0.3, 1.2, 1.2), strict=True):
        assert found.value == pytest.approx(expected, abs=4 * found.error)


def test_classes_and_labels_without_uncertainty_or_truth_have_no_pulls() -> None:
    ones = np.ones(N)
    labels = {"energy": ones, "p": ones, "length": ones, "unknown": ones}
    sigmas = {**labels, "length": np.full(N, np.nan)}
    known = {"energy": ones, "p": ones, "length": ones}
    assert list(label_deviations(reconstruction(labels, sigmas), truth(known))) == ["energy"]


# --------------------------------------------------------------------------------------------------
# Directions
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kappa", [0.5, 8.0, 3000.0])
def test_expected_coverage_of_von_mises_fisher_samples(kappa: float) -> None:
    rng = np.random.default_rng(4)
    mean = np.array([0.3, -0.5, 0.8]) / np.linalg.norm([0.3, -0.5, 0.8])
    true = stats.vonmises_fisher(mean, kappa).rvs(N, random_state=rng)
    names, sigma = ("x", "y", "z"), math.sqrt(2 / (3 * kappa))
    model = reconstruction(
        {name: np.full(N, part) for name, part in zip(names, mean, strict=True)},
        dict.fromkeys(names, np.full(N, sigma)),
    )
    level = direction_level(model, truth(dict(zip(names, true.T, strict=True))))
    assert level is not None
    # the concentration of wide densities is limited by the length 1 of the vector
    if kappa > 1:
        assert is_uniform(level)
    kappas = vector_concentration(np.full((1, 3), sigma))
    assert kappas[0] == pytest.approx(kappa, rel=1e-3)


@pytest.mark.parametrize("zenith", [0.3, 1.4, 3.0])
def test_expected_coverage_of_gaussian_angles(zenith: float) -> None:
    """Points of an elliptical Gaussian in the tangent plane, carried onto the sphere."""
    rng = np.random.default_rng(5)
    widths = np.array([0.04, 0.11])  # along zenith, and along azimuth on the sphere
    steps = rng.normal(size=(N, 2)) * widths
    azimuth = 6.2
    sine, cosine = math.sin(zenith), math.cos(zenith)
    x, y = math.cos(azimuth), math.sin(azimuth)
    axes = [[cosine * x, cosine * y, -sine], [-y, x, 0.0]]
    center = np.array([sine * x, sine * y, cosine])
    length = np.hypot(*steps.T)[:, None]
    points = np.cos(length) * center + np.sin(length) / length * (steps @ np.array(axes))
    true_azimuth = np.arctan2(points[:, 1], points[:, 0]) % (2 * math.pi)
    labels = {"zenith": np.full(N, zenith), "azimuth": np.full(N, azimuth)}
    sigmas = {
        "zenith": np.full(N, widths[0]),
        "azimuth": np.full(N, widths[1] / math.sin(zenith)),
    }
    true = {"zenith": np.arccos(points[:, 2]), "azimuth": true_azimuth}
    level = direction_level(reconstruction(labels, sigmas), truth(true))
    assert level is not None
    np.testing.assert_allclose(level, stats.chi2.cdf(np.square(steps / widths).sum(axis=1), 2))
    assert is_uniform(level)


def test_round_narrow_gaussian_is_a_von_mises_fisher_density() -> None:
    sigma, zenith = 1e-3, 1.0
    predicted = np.array([[zenith, 2.0]])
    sigmas = np.array([[sigma, sigma / math.sin(zenith)]])
    for step in (3e-4, 2e-3):
        found = elliptical_level(predicted, sigmas, predicted + np.array([[step, 0.0]]))
        expected = credible_level(np.array([math.degrees(step)]), np.array([sigma**-2]))
        assert found == pytest.approx(expected, rel=1e-4)


def test_true_direction_as_predicted() -> None:
    angles = np.array([[1.0, 2.0], [np.nan, 1.0]])
    level = elliptical_level(angles, np.full((2, 2), 0.1), angles)
    assert level[0] == pytest.approx(0, abs=1e-20)
    assert np.isnan(level[1])


def test_no_density_of_directions() -> None:
    unknown = dict.fromkeys(("zenith", "azimuth"), np.full(N, np.nan))
    angles = dict.fromkeys(("zenith", "azimuth"), np.ones(N))
    assert direction_level(reconstruction(angles, unknown), truth(angles)) is None
    assert direction_level(reconstruction({"zenith": np.ones(N)}, angles), truth(angles)) is None


# --------------------------------------------------------------------------------------------------
# Coverage
# --------------------------------------------------------------------------------------------------
def test_coverage_curve_of_too_small_uncertainties() -> None:
    found = coverage_curve(deviation(0.0, 1.25).level())
    nominal = np.array(PERCENTS) / 100
    expected = 2 * stats.norm.cdf(stats.norm.ppf((1 + nominal) / 2) / 1.25) - 1
    assert np.abs(found.value - expected).max() < 0.012
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()


def test_weighted_coverage_is_that_of_repeated_events() -> None:
    level = deviation(0.0, 1.1, 300).level()
    number = np.random.default_rng(6).integers(0, 4, 300)
    found = coverage_curve(level, number.astype(np.float64))
    np.testing.assert_allclose(found.value, coverage_curve(np.repeat(level, number)).value)


@pytest.mark.parametrize("weighted", [False, True])
def test_cell_of_events_without_reconstruction(weighted: bool) -> None:
    level, pull = np.array([np.nan, 0.3, 0.6]), np.array([np.nan, 0.4, -0.9])
    cell = coverage_cell(level, pull, np.ones(3) if weighted else None)
    assert cell.number == 2
    assert cell.shares[50].value == 0.5
    assert cell.pull_width is not None
    assert np.isfinite(cell.pull_width.value)


@pytest.mark.parametrize("weights", [None, np.zeros(0)])
def test_cell_of_no_events(weights: NDArray[np.float64] | None) -> None:
    cell = coverage_cell(np.zeros(0), np.zeros(0), weights)
    assert cell.number == 0
    assert np.isnan(cell.shares[68]).all()
    assert cell.pull_width is not None
    assert np.isnan(cell.pull_width.value)
    assert math.isnan(coverage_test([cell], 68).p_value)


def cells(width: float, number: int, seed: int) -> list[CoverageCell]:
    found = [deviation(0.0, width, 800, seed * number + i) for i in range(number)]
    return [coverage_cell(each.level(), each.pull) for each in found]


def test_p_values_of_right_uncertainties_are_uniform() -> None:
    tested = [cells(1.0, 6, seed) for seed in range(150)]
    assert is_uniform(np.array([coverage_test(each, 68).p_value for each in tested]))
    assert is_uniform(np.array([pull_width_test(each).p_value for each in tested]))


def test_wrong_uncertainties_fail() -> None:
    tested = cells(1.15, 6, 1)
    assert coverage_test(tested, 68).p_value < 1e-6
    assert pull_width_test(tested).p_value < 1e-6
    assert coverage_test(tested, 68).num_cells == 6


def test_compensating_cells_fail_together() -> None:
    """Uncertainties that are right on average alone: one cell too wide, another too narrow."""
    wide, narrow = deviation(0.0, 0.8, 3000, 1), deviation(0.0, 1.25, 3000, 2)
    together = coverage_cell(np.concatenate([wide.level(), narrow.level()]))
    assert coverage_test([together], 68).p_value > 0.01
    apart = [coverage_cell(each.level(), each.pull) for each in (wide, narrow)]
    assert coverage_test(apart, 68).p_value < 1e-6
