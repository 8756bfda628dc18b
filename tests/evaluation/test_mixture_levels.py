"""Levels of the truth in mixtures, against SciPy, samples, and the general density of the sky."""

import numpy as np
import pytest
from scipy import stats

from dnn_reco.evaluation.coverage import LabelDeviation
from dnn_reco.evaluation.mixture_levels import mixture_cdf, mixture_level
from dnn_reco.evaluation.probability import student_cdf
from dnn_reco.inference.sky_densities import fisher_mixture


@pytest.mark.parametrize("freedom", [2.0, 2.3, 5.0, 17.5, 100.0])
def test_student(freedom: float) -> None:
    x = np.concatenate([-np.logspace(6, -6, 50), [0.0], np.logspace(-6, 6, 50)])
    expected = stats.t(freedom).cdf(x)
    np.testing.assert_allclose(student_cdf(x, freedom), expected, atol=1e-7, rtol=0)
    assert np.isnan(student_cdf(np.nan, freedom))


def label_components(kind: str, num_events: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (num_events, 3)
    columns = [np.log(rng.dirichlet(np.ones(3), num_events)), rng.normal(0, 2, shape)]
    columns.append(rng.uniform(0.3, 2, shape))
    if kind == "student":
        columns.append(rng.uniform(2, 50, shape))
    return np.stack(columns, axis=2)


@pytest.mark.parametrize("kind", ["normal", "student"])
def test_levels_of_labels_that_follow_the_density_are_uniform(kind: str) -> None:
    """The true values are drawn by SciPy, each from the density of its event."""
    parts, rng = label_components(kind, 5000, 1), np.random.default_rng(2)
    rows = np.arange(5000)
    chosen = (rng.random((5000, 1)) > np.cumsum(np.exp(parts[..., 0]), axis=1)[:, :-1]).sum(axis=1)
    _, offset, scale, *freedom = parts[rows, chosen].T
    of = stats.t(freedom[0], offset, scale) if freedom else stats.norm(offset, scale)
    true = of.rvs(random_state=rng)
    assert stats.kstest(mixture_cdf(parts, true), "uniform").pvalue > 0.01
    # the pull is predicted minus true value
    deviation = LabelDeviation(-true, np.ones(5000), components=parts)
    np.testing.assert_array_equal(deviation.pit(), mixture_cdf(parts, true))
    assert stats.kstest(deviation.level(), "uniform").pvalue > 0.01
    # taken for a Gaussian, they would not be
    assert stats.kstest(LabelDeviation(-true, np.ones(5000)).pit(), "uniform").pvalue < 1e-9


def test_one_unknown_event_is_unknown() -> None:
    parts = label_components("student", 2, 3)
    parts[1] = np.nan
    found = mixture_cdf(parts, np.array([0.3, 0.3]))
    assert np.isnan(found).tolist() == [False, True]


def direction_components(kappas: list[float], num_events: int = 1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(num_events, len(kappas), 3))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    log_weight = np.log(rng.dirichlet(np.ones(len(kappas)), num_events))
    return np.concatenate([log_weight[..., None], vectors * np.array(kappas)[:, None]], axis=2)


@pytest.mark.parametrize(
    "kappas", [[1e-3], [5.0], [0.5, 20.0], [1e3, 2.0, 40.0], [1e6, 1e-3, 300.0, 10.0]]
)
def test_levels_of_directions(kappas: list[float]) -> None:
    """The general density of the sky, whose integrals have 65,536 nodes."""
    (parts,) = direction_components(kappas)
    density = fisher_mixture(parts)
    true = density.sample_dir(200, np.random.default_rng(3))
    found = mixture_level(np.repeat(parts[None], 200, axis=0), true)
    np.testing.assert_allclose(found, density.cdf_dir(true), atol=4e-3)


def test_levels_of_directions_that_follow_the_density_are_uniform() -> None:
    parts = direction_components([200.0, 3.0, 30.0], 2000, seed=5)
    rng = np.random.default_rng(6)
    true = np.concatenate([fisher_mixture(each).sample_dir(1, rng) for each in parts])
    level = mixture_level(parts, true)
    assert stats.kstest(level, "uniform").pvalue > 0.01
    parts[7] = np.nan
    true[9] = np.nan
    unknown = np.flatnonzero(np.isnan(mixture_level(parts[:20], true[:20])))
    assert unknown.tolist() == [7, 9]


def test_samples_follow_the_density() -> None:
    """Share of samples in rings about an axis, against the integral of the density."""
    (parts,) = direction_components([50.0, 4.0, 800.0], seed=9)
    density = fisher_mixture(parts)
    samples = density.sample_dir(100_000, np.random.default_rng(1))
    edges = np.linspace(-1, 1, 21)
    counts = np.histogram(samples[:, 2], edges)[0]
    z = np.linspace(-1, 1, 4001)
    phi = np.linspace(0, 2 * np.pi, 361)[:-1]
    across = np.sqrt(1 - z**2)
    vectors = np.stack(
        [np.outer(across, np.cos(phi)), np.outer(across, np.sin(phi)), np.outer(z, np.ones(360))],
        axis=-1,
    )
    of_z = np.exp(density.log_prob_dir(vectors)).mean(axis=1) * 2 * np.pi
    assert np.trapezoid(of_z, z) == pytest.approx(1, abs=1e-4)
    inside = np.concatenate([[0], np.cumsum((of_z[1:] + of_z[:-1]) / 2 * np.diff(z))])
    expected = np.diff(np.interp(edges, z, inside))
    kept = expected > 1e-4
    counts, expected = counts[kept], expected[kept]
    expected *= counts.sum() / expected.sum()
    assert stats.chisquare(counts, expected).pvalue > 0.01


def test_components_without_weight_are_left_out() -> None:
    parts = np.array([[0.0, 0, 0, 30.0], [-60.0, 10.0, 0, 0]])
    assert len(fisher_mixture(parts).members) == 1
