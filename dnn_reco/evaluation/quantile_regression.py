"""Linear quantile regression: the value that a given share of events lies below, given features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_STEPS = 200
_CONVERGED = 1e-12
_RIDGE = 1e-6
_LEAST_WIDTH = 1e-6
_LEAST_STEP = 1e-9
_SMOOTHING = 0.5, 0.2, 0.1  # of the spread, one after the other


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


def solve_quantile(matrix: Values, instruments: Values, values: Values, share: float) -> Values:
    """Coefficients b [K] for which a share of the values lies below `matrix @ b` in parts of them.

    The share is right in the mean over events weighted by each of the instruments, which need not
    be known where the coefficients are used: the instrumental-variable quantile regression of
    Chernozhukov & Hansen (J. Econometrics 132, 2006), with moments smoothed as by Kaplan & Sun
    (Econometric Theory 33, 2017). Where no coefficients fulfil all moments, the sum of their
    squares is smallest.

    Parameters
    ----------
    matrix
        Terms [n, K] of each event.
    instruments
        Weights [n, K] of each event.
    values
        Values [n].
    share
        Which quantile, 0 … 1.
    """
    num_events = len(values)
    found = fit_quantile(matrix, values, share)
    spread = _spread(values - matrix @ found)

    def moments(coefficients: Values, width: float) -> tuple[Values, Values]:
        below = 1 / (1 + np.exp(np.clip((values - matrix @ coefficients) / width, -50, 50)))
        slope = (instruments * (below * (1 - below) / width)[:, None]).T @ matrix
        return instruments.T @ (below - share) / num_events, slope / num_events

    for width in spread * np.array(_SMOOTHING):
        for _ in range(_STEPS):
            moment, slope = moments(found, width)
            square = slope.T @ slope
            damping = _RIDGE * np.trace(square) / len(square) * np.eye(len(square))
            step = np.linalg.solve(square + damping, slope.T @ moment)
            scale = 1.0
            while (
                np.square(moments(found - scale * step, width)[0]).sum() > np.square(moment).sum()
            ):
                scale /= 2
                if scale < _CONVERGED:
                    break
            found = found - scale * step
            if np.abs(scale * step).max() < _LEAST_STEP:
                break
    found[0] += np.quantile(values - matrix @ found, share)
    return found


def pinball_loss(values: Values, quantile: Values, share: float) -> Values:
    """Loss [n] of predicted quantiles [n], smallest in the mean for the true ones."""
    residual = values - quantile
    return np.asarray(np.maximum(share * residual, (share - 1) * residual))


def _smoothing_width(residual: Values, num_terms: int) -> float:
    """Width over which the loss is smoothed."""
    num_events = len(residual)
    relative = float(((num_terms + np.log(num_events)) / num_events) ** 0.4)
    return max(_spread(residual) * min(relative, 1.0), _LEAST_WIDTH)


def _spread(residual: Values) -> float:
    """Width of the middle half of residuals, as that of a normal distribution."""
    low, high = (float(np.quantile(residual, share)) for share in (0.25, 0.75))
    return max((high - low) / 1.349, _LEAST_WIDTH)
