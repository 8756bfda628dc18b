"""Levels of the truth in mixtures, against SciPy, samples, and the general density of the sky."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_spec import made_up_spec
from scipy import stats

from dnn_reco.evaluation.coverage import LabelDeviation
from dnn_reco.evaluation.credible_levels import direction_level, label_deviations
from dnn_reco.evaluation.held_out_events import mix
from dnn_reco.evaluation.mixture_levels import mixture_cdf, mixture_level, needed_factor
from dnn_reco.evaluation.probability import student_cdf
from dnn_reco.evaluation.reconstruction import Reconstruction, TrueEvents
from dnn_reco.inference.cone import needed_concentration, with_concentration_scaled
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.inference.sky_densities import predicted_density
from dnn_reco.nn.density_layout import DensityShape, PredictedShapes
from dnn_reco.nn.interface import LabelKeys


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
    density = predicted_density(parts, "von_mises_fisher")
    true = density.sample_dir(200, np.random.default_rng(3))
    found = mixture_level(np.repeat(parts[None], 200, axis=0), true)
    np.testing.assert_allclose(found, density.cdf_dir(true), atol=4e-3)


def test_levels_of_directions_that_follow_the_density_are_uniform() -> None:
    parts = direction_components([200.0, 3.0, 30.0], 2000, seed=5)
    rng = np.random.default_rng(6)
    true = np.concatenate(
        [predicted_density(each, "von_mises_fisher").sample_dir(1, rng) for each in parts]
    )
    level = mixture_level(parts, true)
    assert stats.kstest(level, "uniform").pvalue > 0.01
    parts[7] = np.nan
    true[9] = np.nan
    unknown = np.flatnonzero(np.isnan(mixture_level(parts[:20], true[:20])))
    assert unknown.tolist() == [7, 9]


def test_samples_follow_the_density() -> None:
    """Share of samples in rings about an axis, against the integral of the density."""
    (parts,) = direction_components([50.0, 4.0, 800.0], seed=9)
    density = predicted_density(parts, "von_mises_fisher")
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
    assert len(predicted_density(parts, "von_mises_fisher").members) == 1


# --------------------------------------------------------------------------------------------------
# Tables
# --------------------------------------------------------------------------------------------------
NAMES = ("energy", "x", "y", "z")
KEYS = LabelKeys(dir_x="x", dir_y="y", dir_z="z")
LAYOUT = (
    DensityShape("direction", "von_mises_fisher", 2),
    DensityShape("energy", "student", 3),
)


def predictions(num_events: int, seed: int) -> PredictionTable:
    rng = np.random.default_rng(seed)
    direction = direction_components([60.0, 3.0], num_events, seed)
    energy = label_components("student", num_events, seed)
    labels = np.column_stack([rng.uniform(10, 1e4, num_events), direction[:, 0, 1:]])
    sigma = np.full((num_events, 4), 0.4)
    parts = [direction.reshape(num_events, -1), energy.reshape(num_events, -1)]
    shapes = PredictedShapes(LAYOUT, np.concatenate(parts, axis=1))
    has_log = tuple(name == "energy" for name in NAMES)
    return PredictionTable(NAMES, has_log, labels, sigma, shapes=shapes)


def test_evaluations_use_the_predicted_densities() -> None:
    table = predictions(50, 4)
    true = dict(zip(NAMES, predictions(50, 5).labels.T, strict=True))
    ids = np.zeros(50, dtype=[("Run", "u4")])
    events = TrueEvents(ids, true, {}, np.full(50, 30))
    model = Reconstruction("model", table, KEYS)
    vectors = np.stack([true[name] for name in "xyz"], axis=1)
    expected = mixture_level(direction_components([60.0, 3.0], 50, 4), vectors)
    np.testing.assert_array_equal(direction_level(model, events), expected)
    found = label_deviations(model, events)["energy"]
    deviation = (np.log1p(true["energy"]) - np.log1p(table.labels[:, 0])) / 0.4
    expected = mixture_cdf(label_components("student", 50, 4), deviation)
    np.testing.assert_allclose(found.pit(), expected)
    without = replace(model, table=replace(table, shapes=None))
    assert not np.allclose(direction_level(without, events), direction_level(model, events))
    np.testing.assert_allclose(
        label_deviations(without, events)["energy"].pit(), stats.norm.cdf(deviation)
    )


def test_mixed_tables_have_the_mean_density() -> None:
    tables = [predictions(30, seed) for seed in (1, 2, 3)]
    spec = made_up_spec(NAMES, KEYS, [5.0, 0, 0, 0], [2.0, 0.6, 0.6, 0.6])
    mixed = mix(tables, spec, NAMES)
    value = np.full(30, 6.5)  # ln(1 + E)

    def cdf(table: PredictionTable) -> np.ndarray:
        assert table.shapes is not None
        components = table.shapes.of("energy")
        assert components is not None
        deviation = (value - np.log1p(table.labels[:, 0])) / table.uncertainty[:, 0]
        return mixture_cdf(components, deviation)

    np.testing.assert_allclose(cdf(mixed), np.mean([cdf(table) for table in tables], axis=0))
    assert mixed.shapes is not None
    directions = mixed.shapes.of("direction")
    assert directions is not None
    np.testing.assert_allclose(np.exp(directions[..., 0]).sum(axis=1), 1)
    assert directions.shape == (30, 6, 4)
    plain = mix([*tables[:2], replace(tables[2], shapes=None)], spec, NAMES)
    assert plain.shapes is None
    np.testing.assert_allclose(plain.labels, mixed.labels)


def test_factor_that_brings_directions_to_a_level() -> None:
    """One von Mises-Fisher distribution has a formula; a mixture is at the level afterwards."""
    rng = np.random.default_rng(5)
    angle, kappa = rng.uniform(0.02, 1.0, 200), np.exp(rng.uniform(1, 6, 200))
    natural = np.stack([np.zeros(200), np.zeros(200), kappa], axis=1)
    single = np.concatenate([np.zeros((200, 1)), natural], axis=1)[:, None]
    true = np.stack([np.sin(angle), np.zeros(200), np.cos(angle)], axis=1)
    expected = np.clip(needed_concentration(angle, 0.683) / kappa, np.exp(-4), np.exp(4))
    np.testing.assert_allclose(needed_factor(single, true, 0.683), expected, rtol=2e-2)
    mixture = np.concatenate([single, single * [1, 0.1, 0.1, 0.1]], axis=1)
    mixture[:, :, 0] = np.log([0.7, 0.3])
    factor = needed_factor(mixture, true, 0.683)
    inside = np.abs(np.log(factor)) < 3.9
    scaled = with_concentration_scaled(mixture, factor)
    level = mixture_level(scaled, true)[inside]
    np.testing.assert_allclose(level, 0.683, atol=1e-2)
    assert inside.mean() > 0.8
    mixture[0] = np.nan
    assert np.isnan(needed_factor(mixture[:1], true[:1], 0.683)).all()
