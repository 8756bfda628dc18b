"""The convex hull of the detector: containment of points, and intersections with tracks."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.geometry import NUM_DOMS_PER_STRING, dom_index, dom_positions

CORNER_STRINGS = (31, 1, 6, 50, 74, 72, 78, 75)
"""Strings whose convex hull is the detector; 72 is inside the line from 74 to 78."""

HALF_HEIGHT = 500.0
"""The detector volume reaches from -500 m to 500 m in z."""

_TOLERANCE = 1e-6  # m


class Volume(ABC):
    """A convex volume that straight lines enter and leave at most once."""

    @abstractmethod
    def crossing(
        self, points: NDArray[np.float64], directions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distances at which straight lines enter and leave the volume.

        Parameters
        ----------
        points, directions
            A point [n, 3] of each line in m, and its unit vectors [n, 3].

        Returns
        -------
        enter, leave
            Signed distances [n] in m along the line from its point; NaN for a line that misses.
        """

    def overlap(
        self,
        points: NDArray[np.float64],
        directions: NDArray[np.float64],
        lengths: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Lengths [n] in m of the parts of straight tracks that are inside the volume.

        Parameters
        ----------
        points, directions, lengths
            Starts [n, 3] in m, unit vectors [n, 3] and lengths [n] in m of the tracks.
        """
        enter, leave = self.crossing(points, directions)
        inside = np.clip(leave, 0, lengths) - np.clip(enter, 0, lengths)
        return np.where(np.isnan(enter), 0.0, inside)

    def first_contact(
        self,
        points: NDArray[np.float64],
        directions: NDArray[np.float64],
        lengths: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Distances [n] in m along tracks at which they enter the volume; 0 if they start inside.

        For a track that is never inside: the distance of its closest approach to the origin.

        Parameters
        ----------
        points, directions, lengths
            Starts [n, 3] in m, unit vectors [n, 3] and lengths [n] in m of the tracks.
        """
        enter, leave = self.crossing(points, directions)
        closest = np.clip(-np.sum(points * directions, axis=1), 0, lengths)
        is_inside = (leave >= 0) & (enter <= lengths)
        return np.where(is_inside, np.maximum(enter, 0.0), closest)


@dataclass(frozen=True)
class Hull(Volume):
    """A convex polyhedron: the points p with normals · p <= offsets for every face.

    Attributes
    ----------
    normals
        Outward unit vectors [faces, 3].
    offsets
        Distances [faces] of the faces from the origin in m.
    """

    normals: NDArray[np.float64]
    offsets: NDArray[np.float64]

    def extended(self, distance: float) -> "Hull":
        """The hull with every face moved outwards by `distance` [m]; inwards where negative."""
        return Hull(self.normals, self.offsets + distance)

    def is_empty(self) -> bool:
        """Whether no point of a grid of 10 m around the detector is inside."""
        steps = np.arange(-600.0, 601.0, 10.0)
        points = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
        return not self.contains(points).any()

    def depth(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance [n] in m of each point [n, 3] to the nearest face plane, negative outside."""
        depth: NDArray[np.float64] = np.min(self.offsets - points @ self.normals.T, axis=-1)
        return depth

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each point [n, 3] is inside; the surface counts as inside."""
        return self.depth(points) >= 0

    def crossing(
        self, points: NDArray[np.float64], directions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distances at which straight lines enter and leave; see :class:`Volume`."""
        above = points @ self.normals.T - self.offsets
        speed = directions @ self.normals.T
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            distance = -above / speed
        enter = np.max(np.where(speed < 0, distance, -np.inf), axis=1)
        leave = np.min(np.where(speed > 0, distance, np.inf), axis=1)
        misses = (enter > leave) | np.any((speed == 0) & (above > 0), axis=1)
        return np.where(misses, np.nan, enter), np.where(misses, np.nan, leave)

    def corners(self) -> NDArray[np.float64]:
        """Positions [corners, 3] in m where at least three faces meet, in no order."""
        meetings = np.array(list(combinations(range(len(self.offsets)), 3)))
        matrices = self.normals[meetings]
        meet = np.abs(np.linalg.det(matrices)) > 1e-9
        points = np.linalg.solve(matrices[meet], self.offsets[meetings[meet], None])[..., 0]
        on_hull = points[self.depth(points) > -_TOLERANCE]
        return np.unique(on_hull.round(6), axis=0)


@dataclass(frozen=True)
class Sphere(Volume):
    """A sphere around the origin, of some radius in m."""

    radius: float

    def is_empty(self) -> bool:
        """Whether the radius is not positive."""
        return not self.radius > 0

    def crossing(
        self, points: NDArray[np.float64], directions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distances at which straight lines enter and leave; see :class:`Volume`."""
        closest = -np.sum(points * directions, axis=1)
        half2 = self.radius**2 - np.sum(points**2, axis=1) + closest**2
        half = np.sqrt(np.where(half2 < 0, np.nan, half2))
        return closest - half, closest + half


def convex_hull(points: NDArray[np.float64]) -> Hull:
    """The smallest convex polyhedron around a few points [n, 3].

    Tests the plane through each triple of points, which is fast for a few tens of points.
    """
    triples = points[np.array(list(combinations(range(len(points)), 3)))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    area = np.linalg.norm(normals, axis=1)
    triples, normals = triples[area > _TOLERANCE], normals[area > _TOLERANCE]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    planes = np.concatenate([normals, np.sum(normals * triples[:, 0], axis=1)[:, None]], axis=1)
    planes = np.concatenate([planes, -planes])
    is_face = np.all(points @ planes[:, :3].T - planes[:, 3] < _TOLERANCE, axis=0)
    # Many triples are in one face; 9 digits separate faces and ignore rounding differences.
    _, first = np.unique(planes[is_face].round(9) + 0.0, axis=0, return_index=True)
    faces = planes[is_face][first]
    return Hull(faces[:, :3], faces[:, 3])


@cache
def detector_hull() -> Hull:
    """The prism |z| <= 500 m, inside of which an interaction is contained."""
    return prism(-HALF_HEIGHT, HALF_HEIGHT)


@cache
def label_hull() -> Hull:
    """The prism of the labels of tracks: from the lowest to the highest DOM at the ends of strings.

    That is from z = -510.18 m to 505.72 m; with it the labels `LengthInDetector` of the
    collaboration's files are reproduced to a tenth of a millimetre.
    """
    heights = dom_positions()[_corner_doms(1, NUM_DOMS_PER_STRING), 2]
    return prism(float(heights.min()), float(heights.max()))


def prism(bottom: float, top: float, strings: tuple[int, ...] = CORNER_STRINGS) -> Hull:
    """The volume between two heights in m, with the convex hull of strings as its base."""
    first_doms = dom_index(np.array(strings), np.ones(len(strings), dtype=np.int64))
    corners = np.repeat(dom_positions()[first_doms], 2, axis=0)
    corners[:, 2] = np.tile([bottom, top], len(strings))
    return convex_hull(corners)


def _corner_doms(*oms: int) -> NDArray[np.int64]:
    strings, numbers = np.meshgrid(CORNER_STRINGS, oms)
    return dom_index(strings.ravel(), numbers.ravel())
