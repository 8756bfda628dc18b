"""The direction of an event as a probability density on the sphere.

What all densities offer, whatever their shape: log density, samples, credible levels, contours and
areas of regions of highest density. `sky_densities` has the shapes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnn_reco.detector.directions import SQUARE_DEGREE, Plane, Vectors, angles_of, vector_of
from dnn_reco.errors import DataError

Values = NDArray[np.float64]

NUM_NODES = 2**16
"""Nodes of integrals: credible levels are exact to some 1e-4."""

_GRID = 301  # points across a contour's window
_MARGIN = 1.15  # of the window, in units of the largest angle inside of the contour
_LARGE = 2.5  # radian: such a window comes near its edge
_GOLDEN = (np.sqrt(5) - 1) / 2


@dataclass(frozen=True, eq=False)
class Nodes:
    """A density as points with probabilities, for integrals of it.

    Attributes
    ----------
    vectors
        Direction vectors [n, 3].
    probability
        Probability of each [n]; their sum is 1.
    """

    vectors: Vectors
    probability: Values


@dataclass(frozen=True, eq=False)
class _Levels:
    """Regions of highest density: values [n] at their boundaries, from the smallest to the largest.

    Attributes
    ----------
    level
        Probability inside.
    log_density
        Log density on the boundary.
    area
        Area in steradian.
    """

    level: Values
    log_density: Values
    area: Values


class SkyDensity(ABC):
    """Probability density of a direction, per steradian.

    Directions are given as zenith and azimuth of the source in radian, or, by the methods that end
    in `_dir`, as vectors [..., 3] of any length along the motion.
    """

    @abstractmethod
    def log_prob_dir(self, vector: ArrayLike) -> Values:
        """Log density [...] of vectors [..., 3]."""

    @abstractmethod
    def sample_dir(self, n: int, rng: np.random.Generator) -> Vectors:
        """Unit vectors [n, 3] that are drawn from the density."""

    @abstractmethod
    def nodes(self, n: int) -> Nodes:
        """The density as n points, always the same."""

    def log_prob(self, zenith: ArrayLike, azimuth: ArrayLike) -> Values:
        """Log density [...] of angles [...]."""
        return self.log_prob_dir(vector_of(zenith, azimuth))

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Values, Values]:
        """Zenith and azimuth [n] that are drawn from the density."""
        return angles_of(self.sample_dir(n, rng))

    @property
    def best(self) -> Vectors:
        """The most probable direction, a unit vector [3]."""
        nodes = self._nodes.vectors
        return np.asarray(nodes[np.argmax(self.log_prob_dir(nodes))])

    def cdf_dir(self, vector: ArrayLike) -> Values:
        """Credible level [...] of vectors [..., 3]: the probability of all that is denser.

        If uncertainties are right, the levels of true directions are uniform between 0 and 1.
        """
        levels = self._levels
        found = np.interp(
            -self.log_prob_dir(vector), -levels.log_density, levels.level, left=0.0, right=1.0
        )
        return np.asarray(found)

    def cdf(self, zenith: ArrayLike, azimuth: ArrayLike) -> Values:
        """Credible level [...] of angles [...]; see :meth:`cdf_dir`."""
        return self.cdf_dir(vector_of(zenith, azimuth))

    def contour_area(self, level: ArrayLike) -> Values:
        """Area in square degrees of the smallest regions that hold probabilities [...].

        Raises
        ------
        DataError
            If a level is not between 0 and 1.
        """
        levels = self._levels
        return np.asarray(np.interp(checked(level), levels.level, levels.area) / SQUARE_DEGREE)

    def contour_dir(self, level: float) -> list[Vectors]:
        """The boundary of the smallest region that holds a probability: lines of vectors [k, 3].

        A line is closed: its last point is its first one. A density with several peaks can have
        several lines.

        Raises
        ------
        DataError
            If the level is not between 0 and 1.
        """
        limit = np.interp(checked(level), self._levels.level, self._levels.log_density)
        inside = self._nodes.vectors[self._node_log_density >= limit]
        plane = Plane.at(self.best)
        radius = _MARGIN * float(np.hypot(*plane.points(inside)).max(initial=0.0))
        if radius > _LARGE:  # the edge of the plane, a single point of the sphere, lies outside
            plane = Plane.at(-self._nodes.vectors[np.argmin(self._node_log_density)])
            radius = np.pi
        return _lines(self, plane, float(limit), radius)

    def contour(self, level: float) -> list[tuple[Values, Values]]:
        """The same as zenith and azimuth [k] of the points of each line."""
        return [angles_of(line) for line in self.contour_dir(level)]

    def check_coverage(
        self, vector: ArrayLike, levels: ArrayLike | None = None
    ) -> tuple[Values, Values]:
        """Levels [k], by default 1000 up to 1, and the share of vectors [n, 3] within each."""
        wanted = np.linspace(0.001, 1, 1000) if levels is None else checked(levels)
        of_vectors = np.sort(self.cdf_dir(vector), axis=None)
        inside = np.searchsorted(of_vectors, wanted, side="right")
        return wanted, inside / max(len(of_vectors), 1)

    @cached_property
    def _nodes(self) -> Nodes:
        return self.nodes(NUM_NODES)

    @cached_property
    def _node_log_density(self) -> Values:
        return self.log_prob_dir(self._nodes.vectors)

    @cached_property
    def _levels(self) -> _Levels:
        """The region that ends at each node; half of the node lies inside of it."""
        order = np.argsort(-self._node_log_density)
        log_density = self._node_log_density[order]
        probability = self._nodes.probability[order]
        area = probability * np.exp(-log_density)
        return _Levels(_to_middle(probability), log_density, _to_middle(area))


def checked(level: ArrayLike) -> Values:
    """Probabilities [...] as an array.

    Raises
    ------
    DataError
        If one is not between 0 and 1.
    """
    values = np.asarray(level, dtype=np.float64)
    if not np.all((values > 0) & (values <= 1)):
        raise DataError(f"credible levels must be between 0 and 1 (0.9 for 90 %), not {values}")
    return values


def lattice(n: int) -> tuple[Values, Values]:
    """Points of the unit square [n], evenly spread: i / n and the golden ratio's multiples."""
    number = np.arange(n)
    return (number + 0.5) / n, (number * _GOLDEN + 0.5) % 1.0


def _to_middle(parts: Values) -> Values:
    """Sum of all parts before each [n] and half of itself."""
    return np.asarray(np.cumsum(parts) - parts / 2)


def _lines(density: SkyDensity, plane: Plane, limit: float, radius: float) -> list[Vectors]:
    """Lines of vectors [k, 3] where the log density has a value, up to an angle from the centre."""
    from contourpy import contour_generator

    side = np.linspace(-1, 1, _GRID) * min(radius, np.pi)
    x, y = np.meshgrid(side, side)
    values = density.log_prob_dir(plane.vectors(x, y))
    on_sphere = np.ma.masked_array(values, mask=np.hypot(x, y) > np.pi)
    lines = contour_generator(x, y, on_sphere).lines(limit)
    return [plane.vectors(*np.asarray(line).T) for line in lines]
