"""Quantile regression: against linear programming, and against known quantiles."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog
from scipy.stats import norm

from dnn_reco.evaluation.quantile_regression import fit_quantile, pinball_loss


def exact(matrix, values, share):
    """Coefficients with the smallest pinball loss, as the solution of a linear program."""
    n, k = matrix.shape
    cost = np.concatenate([np.zeros(k), np.full(n, share), np.full(n, 1 - share)])
    equal = np.hstack([matrix, np.eye(n), -np.eye(n)])
    bounds = [(None, None)] * k + [(0, None)] * (2 * n)
    return linprog(cost, A_eq=equal, b_eq=values, bounds=bounds).x[:k]


@pytest.mark.parametrize("share", [0.1, 0.317, 0.683])
def test_loss_is_almost_that_of_the_exact_solution(share):
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, 400)
    matrix = np.stack([np.ones(400), x, x**2], axis=1)
    values = 1 + 2 * x + np.exp(0.5 * x) * rng.standard_t(3, 400)
    best = pinball_loss(values, matrix @ exact(matrix, values, share), share).mean()
    found = pinball_loss(values, matrix @ fit_quantile(matrix, values, share), share).mean()
    assert best <= found <= 1.005 * best


def test_quantiles_of_a_normal_distribution_whose_width_grows():
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, 100_000)
    values = 3 - x + (1 + 2 * x) * rng.standard_normal(len(x))
    found = fit_quantile(np.stack([np.ones_like(x), x], axis=1), values, 0.683)
    # the quantile is 3 - x + (1 + 2x) z
    z = norm.ppf(0.683)
    assert_allclose(found, [3 + z, 2 * z - 1], atol=0.03)


def test_share_below_is_exact():
    rng = np.random.default_rng(3)
    x = rng.normal(size=1000)
    values = rng.exponential(size=1000)
    matrix = np.stack([np.ones(1000), x], axis=1)
    found = fit_quantile(matrix, values, 0.683)
    assert abs((values < matrix @ found).mean() - 0.683) <= 1 / 1000


def test_terms_that_events_do_not_determine_stay_small():
    values = np.random.default_rng(4).normal(size=500)
    matrix = np.stack([np.ones(500), np.zeros(500), np.ones(500)], axis=1)
    found = fit_quantile(matrix, values, 0.5)
    assert_allclose(matrix @ found, np.median(values), atol=1e-6)
    assert abs(found[1]) < 1e-6


def test_values_that_are_all_the_same():
    matrix = np.stack([np.ones(300), np.linspace(-1, 1, 300)], axis=1)
    assert_allclose(matrix @ fit_quantile(matrix, np.full(300, 2.5), 0.683), 2.5, atol=1e-4)
