"""The classifier two-sample test where the best possible answer is known."""

import math

import numpy as np
import pytest
from scipy import stats

from dnn_reco.evaluation.classifier_test import FEWEST_EVENTS, classifier_test, normal_scores

NAMES = ("a", "b", "c")


def run(first: np.ndarray, second: np.ndarray, seed: int = 1):
    return classifier_test(NAMES, first, second, (np.ones(len(first)), np.ones(len(second))), seed)


def test_samples_of_one_distribution_are_not_separated() -> None:
    accuracies, areas, p_values = [], [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        result = run(rng.normal(size=(300, 3)), rng.normal(size=(200, 3)), seed)
        accuracies.append(result.accuracy)
        areas.append(result.area)
        p_values.append(result.p_value)
    for found in (accuracies, areas):
        values = np.array([each.value for each in found])
        errors = np.array([each.error for each in found])
        assert abs(values.mean() - 0.5) < 4 * errors.mean() / math.sqrt(len(values))
        assert (abs(values - 0.5) < 4 * errors).all()
    assert min(p_values) > 0.01


def test_a_shift_is_found_as_well_as_is_possible() -> None:
    """Two normal distributions at a distance d: accuracy Φ(d / 2), area Φ(d / √2)."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(3000, 3)), rng.normal(size=(2000, 3))
    second[:, 1] += 1.0
    result = run(first, second)
    assert abs(result.accuracy.value - stats.norm.cdf(0.5)) < 4 * result.accuracy.error
    assert abs(result.area.value - stats.norm.cdf(math.sqrt(0.5))) < 4 * result.area.error
    assert result.p_value < 1e-30
    assert next(iter(result.importance)) == "b"
    assert result.importance["b"] > 10 * abs(result.importance["a"])
    means = [result.score[result.is_second == kind].mean() for kind in (False, True)]
    assert means[0] < 0 < means[1]


def test_a_difference_in_width_and_one_in_correlation_are_found() -> None:
    """No feature has another mean, which a linear classifier would need."""
    rng = np.random.default_rng(2)
    first = rng.normal(size=(1500, 3))
    wide = 2 * rng.normal(size=(1500, 3))
    assert run(first, wide).area.value > 0.75
    correlated = rng.normal(size=(1500, 3))
    correlated[:, 1] = 0.8 * correlated[:, 0] + 0.6 * correlated[:, 1]
    assert stats.ks_2samp(first[:, 1], correlated[:, 1]).pvalue > 1e-3
    assert run(first, correlated).p_value < 1e-6


def test_weights_undo_a_difference() -> None:
    """A normal density at 1 times exp(-x) is that at 0."""
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=(2000, 3)), rng.normal(size=(2000, 3))
    second[:, 0] += 1.0
    weights = np.ones(2000), np.exp(-second[:, 0])
    assert run(first, second).area.value > 0.7
    assert abs(classifier_test(NAMES, first, second, weights).area.value - 0.5) < 0.06


def test_same_seed_same_answer() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(60, 3)), rng.normal(size=(50, 3))
    assert np.array_equal(run(first, second).score, run(first, second).score)
    assert not np.array_equal(run(first, second).score, run(first, second, 2).score)


def test_too_few_events_and_missing_values() -> None:
    rng = np.random.default_rng(5)
    few, many = rng.normal(size=(FEWEST_EVENTS - 1, 3)), rng.normal(size=(100, 3))
    assert run(few, many) is None
    assert classifier_test(NAMES, many, many, (np.zeros(100), np.ones(100))) is None
    many[:50, 0] = np.nan
    many[:, 2] = 7.0
    assert np.isfinite(run(many, rng.normal(size=(80, 3))).score).all()


def test_scores_by_rank() -> None:
    values = np.array([[3.0], [1.0], [np.nan], [1.0], [50.0]])
    expected = stats.norm.ppf([5 / 8, 1 / 4, 1 / 2, 1 / 4, 7 / 8])
    assert normal_scores(values)[:, 0] == pytest.approx(expected, abs=1e-6)
