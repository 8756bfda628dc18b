"""The Cramér-Rao bound: the smallest errors of unbiased estimates, from the Fisher information."""

from dataclasses import dataclass

import numpy as np
from hypotheses import Local
from likelihood import Likelihood
from numpy.typing import NDArray

_NUM_DRAWS = 400
_SEED = 7


@dataclass(frozen=True)
class Bound:
    """Smallest errors for an event.

    Attributes
    ----------
    direction
        Covariance [2, 2] of the direction in rad², across it.
    log_energy
        Standard deviation of log10 of the energy.
    """

    direction: NDArray[np.float64]
    log_energy: float


def bound(likelihood: Likelihood, local: Local) -> Bound:
    """The bound at a hypothesis, all other parameters being unknown."""
    covariance = inverse(likelihood.fisher(local))
    return Bound(covariance[local.angles, local.angles], float(np.sqrt(covariance[-1, -1])))


def inverse(information: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse [k, k] of a positive matrix whose rows have different units."""
    size = np.sqrt(np.diag(information))
    scale = np.outer(size, size)
    return np.asarray(np.linalg.inv(information / scale) / scale)


def opening_angles(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Opening angles [n, draws] in rad of normal errors with covariances [n, 2, 2], at most π.

    The draws are the same for all events.
    """
    draws = np.random.default_rng(_SEED).standard_normal((_NUM_DRAWS, 2))
    factor = np.linalg.cholesky(covariance)
    return np.linalg.norm(np.einsum("nij,dj->ndi", factor, draws), axis=2).clip(max=np.pi)
