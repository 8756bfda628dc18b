"""Linear quantile regression: the value that a given share of events lies below, given features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_STEPS = 200
_CONVERGED = 1e-12
_RIDGE = 1e-6
_LEAST_WIDTH = 1e-6


def fit_quantile(matrix: Values, values: Values, share: float) -> Values:
    """Coefficients b [K] for which a share of the values lies below `matrix @ b`.

    They minimise the mean pinball loss (Koenker & Bassett, Econometrica 46, 1978), smoothed at 0
    over the width that Fernandes, Guerre & Horta (J. Bus. Econ. Stat. 39, 2021) find to lose
    nothing, so that Newton's method converges. A tiny ridge penalty keeps terms that the events do
    not determine at 0.

    Parameters
    ----------
    matrix
        Terms [n, K] of each event.
    values
        Values [n].
    share
        Which quantile, 0 … 1.
    """
    num_events, num_terms = matrix.shape
    found = np.zeros(num_terms)
    found[0] = np.quantile(values, share)  # the first term is constant
    width = _smoothing_width(values - found[0], num_terms)

    def objective(coefficients: Values) -> float:
        residual = values - matrix @ coefficients
        smoothed = share * residual + width * np.logaddexp(0, -residual / width)
        return float(smoothed.mean() + _RIDGE * coefficients @ coefficients / 2)

    lowest = objective(found)
    for _ in range(_STEPS):
        below = 1 / (1 + np.exp(np.clip((values - matrix @ found) / width, -50, 50)))
        gradient = matrix.T @ (below - share) / num_events + _RIDGE * found
        curvature = np.maximum(below * (1 - below) / width, _RIDGE)
        hessian = (matrix * curvature[:, None]).T @ matrix / num_events
        step = np.linalg.solve(hessian + _RIDGE * np.eye(num_terms), gradient)
        descent = float(gradient @ step)
        scale = 1.0
        while (reached := objective(found - scale * step)) > lowest - 1e-4 * scale * descent:
            scale /= 2
            if scale < _CONVERGED:
                break
        if scale * descent < _CONVERGED:
            break
        found, lowest = found - scale * step, reached
    # smoothing shifts the share a little: the constant term makes it exact
    found[0] += np.quantile(values - matrix @ found, share)
    return found


def pinball_loss(values: Values, quantile: Values, share: float) -> Values:
    """Loss [n] of predicted quantiles [n], smallest in the mean for the true ones."""
    residual = values - quantile
    return np.asarray(np.maximum(share * residual, (share - 1) * residual))


def _smoothing_width(residual: Values, num_terms: int) -> float:
    """Width over which the loss is smoothed."""
    low, high = np.quantile(residual, (0.25, 0.75))
    spread = (high - low) / 1.349
    relative = ((num_terms + np.log(len(residual))) / len(residual)) ** 0.4
    return max(float(spread * min(relative, 1.0)), _LEAST_WIDTH)
