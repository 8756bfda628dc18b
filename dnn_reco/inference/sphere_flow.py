"""Flows on the sphere (:mod:`dnn_reco.nn.sphere_flow`) as densities of the sky: NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnn_reco.detector.directions import Vectors, unit_vectors
from dnn_reco.inference.cone import deviation_holding, probability_within
from dnn_reco.inference.sky import Nodes, SkyDensity, Values, lattice
from dnn_reco.nn.density_layout import NUM_BINS

_TINY = 1e-12
_EDGES = np.cumsum([NUM_BINS, NUM_BINS, NUM_BINS + 1, NUM_BINS, NUM_BINS])


@dataclass(frozen=True, eq=False)
class SphereFlow(SkyDensity):
    """The density of one component of a flow.

    Attributes
    ----------
    parameters
        Its parameters without the weight [parameters - 1].
    """

    parameters: Values

    def log_prob_dir(self, vector: ArrayLike) -> Values:
        """Log density [...] of vectors [..., 3]."""
        vectors = unit_vectors(vector)
        found = flow_log_density(self.parameters[None], vectors.reshape(1, -1, 3))
        return np.asarray(found.reshape(vectors.shape[:-1]))

    def sample_dir(self, n: int, rng: np.random.Generator) -> Vectors:
        """Unit vectors [n, 3] that are drawn from the density."""
        return np.asarray(flow_points(self.parameters[None], *rng.random((2, n)))[0])

    def nodes(self, n: int) -> Nodes:
        """Points of equal probability."""
        points = flow_points(self.parameters[None], *lattice(n))[0]
        return Nodes(np.asarray(points), np.full(n, 1 / n))


def flow_log_density(parameters: Values, vectors: Vectors) -> Values:
    """Log densities [n, m] of flows [n, parameters - 1] at unit vectors [n, m, 3]."""
    kappa, first, second, mean = _frame(parameters[:, :3])
    deviation = np.square(vectors - mean[:, None]).sum(axis=2) / 2
    kappa = kappa[:, None]
    share = probability_within(kappa, deviation)
    x, y = ((axis[:, None] * vectors).sum(axis=2) for axis in (first, second))
    turn = np.where(x**2 + y**2 > _TINY, np.arctan2(y, x) / (2 * np.pi) % 1, 0)
    of_share, of_turn = _splines(parameters[:, 3:])
    log_norm = np.log(-kappa / (2 * np.pi * np.expm1(-2 * kappa)))
    slopes = _slope(of_share, share) * _slope(of_turn, turn)
    return np.asarray(log_norm - kappa * deviation + np.log(slopes))


def flow_points(parameters: Values, level: Values, turn: Values) -> Vectors:
    """Unit vectors [n, m, 3] of flows [n, parameters - 1] at uniform numbers [m], 0 … 1."""
    kappa, first, second, mean = _frame(parameters[:, :3])
    of_share, of_turn = _splines(parameters[:, 3:])
    deviation = deviation_holding(kappa[:, None], _inverse(of_share, level))
    around = 2 * np.pi * _inverse(of_turn, turn)
    across = np.sqrt(np.clip(deviation * (2 - deviation), 0, 1))
    parts = (
        (across * np.cos(around), first),
        (across * np.sin(around), second),
        (1 - deviation, mean),
    )
    return np.asarray(sum(length[..., None] * axis[:, None] for length, axis in parts))


def _frame(natural: Values) -> tuple[Values, Vectors, Vectors, Vectors]:
    """Concentrations [n], and axes [n, 3]: along the azimuth, across it, and the mean."""
    kappa = np.linalg.norm(natural, axis=1)
    mean = natural / kappa[:, None]
    length = np.hypot(mean[:, 0], mean[:, 1])
    has_azimuth = length**2 > _TINY
    length = np.where(has_azimuth, length, 1)
    x = np.where(has_azimuth, mean[:, 0] / length, 1)
    y = np.where(has_azimuth, mean[:, 1] / length, 0)
    first = np.stack([-y, x, np.zeros_like(x)], axis=1)
    return kappa, first, np.cross(mean, first), mean


def _splines(parameters: Values) -> tuple[list[Values], list[Values]]:
    """Widths, heights and slopes at the edges of the bins, of both splines."""
    parts = np.split(parameters, _EDGES, axis=1)
    return parts[:3], [*parts[3:5], np.concatenate([parts[5], parts[5][:, :1]], axis=1)]


def _slope(spline: list[Values], value: Values) -> Values:
    """Derivative [n, m] of splines at values [n, m]."""
    widths, heights, slopes = spline
    number, start = _bins(widths, value)
    width, height, first, last = _of_bins(number, widths, heights, slopes[:, :-1], slopes[:, 1:])
    place, mean = np.clip((value - start) / width, 0, 1), height / width
    both = place * (1 - place)
    above = last * place**2 + 2 * mean * both + first * (1 - place) ** 2
    return np.asarray(mean**2 * above / (mean + (first + last - 2 * mean) * both) ** 2)


def _inverse(spline: list[Values], level: Values) -> Values:
    """Values [n, m] that splines map to levels [m] (Durkan et al., eq. 6 to 8)."""
    widths, heights, slopes = spline
    levels = np.broadcast_to(level, (len(widths), len(level)))
    number, start = _bins(heights, levels)
    width, height, first, last = _of_bins(number, widths, heights, slopes[:, :-1], slopes[:, 1:])
    mean, rise = height / width, levels - start
    excess = first + last - 2 * mean
    a = height * (mean - first) + rise * excess
    b = height * first - rise * excess
    c = -mean * rise
    place = 2 * c / (-b - np.sqrt(np.maximum(b**2 - 4 * a * c, 0)))
    before = np.cumsum(widths, axis=1) - widths
    (low,) = _of_bins(number, before)
    return np.asarray(low + np.clip(place, 0, 1) * width)


def _bins(sizes: Values, values: Values) -> tuple[NDArray[np.int64], Values]:
    """Number of the bin [n, m] of each value, and where it starts, by sizes of bins [n, bins]."""
    ends = np.cumsum(sizes, axis=1)
    number = (values[..., None] >= ends[:, None, :-1]).sum(axis=2)
    (start,) = _of_bins(number, ends - sizes)
    return number, start


def _of_bins(number: NDArray[np.int64], *values: Values) -> list[Values]:
    """Values of bins [n, bins] at numbers of bins [n, m]."""
    return [np.take_along_axis(each, number, axis=1) for each in values]
