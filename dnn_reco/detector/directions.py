"""Directions as vectors and as angles, angles between them, and planes that touch the sphere.

A direction vector points along the motion; zenith θ and azimuth φ are those of the source:
x = -sin θ cos φ, y = -sin θ sin φ, z = -cos θ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vectors = NDArray[np.float64]

SQUARE_DEGREE = (np.pi / 180) ** 2
"""In steradian."""


def vector_of(zenith: ArrayLike, azimuth: ArrayLike) -> Vectors:
    """Direction vectors [..., 3] of angles [...] in radian."""
    theta, phi = np.broadcast_arrays(zenith, azimuth)
    sine = np.sin(theta)
    vectors = np.stack([sine * np.cos(phi), sine * np.sin(phi), np.cos(theta)], axis=-1)
    return -vectors.astype(np.float64, copy=False)


def angles_of(vector: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Zenith 0 … π and azimuth 0 … 2π [...] of vectors [..., 3] of any length but 0, else NaN."""
    x, y, z = np.moveaxis(np.asarray(vector, dtype=np.float64), -1, 0)
    across = np.hypot(x, y)
    has_length = np.hypot(across, z) > 0  # False for NaN
    zenith = np.where(has_length, np.arctan2(across, -z), np.nan)
    return zenith, np.where(has_length, np.arctan2(-y, -x) % (2 * np.pi), np.nan)


def unit_vectors(vector: ArrayLike) -> Vectors:
    """Vectors [..., 3] divided by their length; NaN where it is 0."""
    values = np.asarray(vector, dtype=np.float64)
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return np.asarray(values / np.where(length > 0, length, np.nan))


@np.errstate(invalid="ignore", divide="ignore")
def opening_angle(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Angle [...] between vectors [..., 3] of any length, in radian; NaN for a length of 0."""
    one, other = unit_vectors(first), unit_vectors(second)
    # exact at small angles, where the cosine is not
    sine = np.linalg.norm(np.cross(one, other), axis=-1)
    return np.asarray(np.arctan2(sine, (one * other).sum(axis=-1)))


def smaller_turn(angle: ArrayLike) -> NDArray[np.float64]:
    """Differences of azimuths [...] the smaller way round, from -π to π, in radian."""
    return np.asarray(np.remainder(np.asarray(angle) + np.pi, 2 * np.pi) - np.pi)


@dataclass(frozen=True, eq=False)
class Plane:
    """Azimuthal equidistant projection: the distance to its centre is the angle, in radian.

    Attributes
    ----------
    centre
        Unit vectors [..., 3] where planes touch the sphere.
    along_azimuth, along_zenith
        Unit vectors [..., 3] in which azimuth and zenith of the source grow there.
    """

    centre: Vectors
    along_azimuth: Vectors
    along_zenith: Vectors

    @classmethod
    def at(cls, vector: ArrayLike) -> Plane:
        """The planes around direction vectors [..., 3]."""
        centre = unit_vectors(vector)
        zenith, azimuth = angles_of(centre)
        flat = np.zeros_like(azimuth)
        along_azimuth = np.stack([np.sin(azimuth), -np.cos(azimuth), flat], axis=-1)
        along_zenith = vector_of(zenith + np.pi / 2, azimuth)
        return cls(centre, along_azimuth, along_zenith)

    def vectors(self, x: ArrayLike, y: ArrayLike) -> Vectors:
        """Unit vectors [..., 3] of points [...]: x along the azimuth, y along the zenith."""
        across, along = np.asarray(x, np.float64)[..., None], np.asarray(y, np.float64)[..., None]
        angle = np.hypot(across, along)
        side = np.sinc(angle / np.pi) * (across * self.along_azimuth + along * self.along_zenith)
        return np.asarray(np.cos(angle) * self.centre + side)

    def points(self, vector: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Points x, y [...] of unit vectors [..., 3]."""
        values = np.asarray(vector, dtype=np.float64)
        axes = (self.along_azimuth, self.along_zenith, self.centre)
        x, y, along = ((values * axis).sum(axis=-1) for axis in axes)
        sine = np.hypot(x, y)
        angle = np.arctan2(sine, along)
        scale = np.where(sine > 0, angle / np.where(sine > 0, sine, 1), 1.0)
        return x * scale, y * scale
