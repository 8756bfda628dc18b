"""Lines and cones in the detector, as points."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.geometry import dom_positions
from dnn_reco.display.particle import Particle

Points = NDArray[np.float64]

ARROW_LENGTH, CONE_LENGTH = 300.0, 450.0
"""Length of arrows, and of cones along their surface, in m."""
_MARGIN = 90.0  # around the DOMs [m]


@cache
def drawn_box() -> tuple[Points, Points]:
    """Lowest and highest corner [3] of what is drawn, in m: all DOMs with a margin."""
    places = dom_positions()
    return places.min(axis=0) - _MARGIN, places.max(axis=0) + _MARGIN


def is_drawn(point: Points) -> bool:
    """Whether a point [3] is known and lies in the drawn box."""
    low, high = drawn_box()
    return bool(((point >= low) & (point <= high)).all())


def chord(point: Points, direction: Points) -> Points | None:
    """Where the line through a point [3] enters and leaves the drawn box [2, 3]; None: it misses.

    The second one is further along the direction [3].
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = (np.array(drawn_box()) - point) / direction  # parallel to a face: infinite
    enter, leave = np.fmin(*steps).max(), np.fmax(*steps).min()
    return point + np.array([[enter], [leave]]) * direction if enter < leave else None


def start(particle: Particle, centre: Points) -> Points:
    """Where the direction of a particle is drawn [3]: at its vertex.

    If the vertex is outside of the drawn box: at the point of the particle's line that is nearest
    to `centre`, the centre of the charge; if it is unknown, there itself.
    """
    if is_drawn(particle.vertex):
        return particle.vertex
    if not particle.has_vertex:
        return centre
    along = (centre - particle.vertex) @ particle.direction
    return np.asarray(particle.vertex + along * particle.direction)


def cone_rim(apex: Points, direction: Points, angle: float, num_points: int = 72) -> Points:
    """Points [n, 3] of a cone's surface at CONE_LENGTH from its apex [3], in a circle.

    Parameters
    ----------
    apex
        Its apex.
    direction
        Its axis, a unit vector.
    angle
        Its opening angle, from the axis, in rad.
    num_points
        Number of points n.
    """
    least = np.eye(3)[np.argmin(np.abs(direction))]  # far from parallel
    one = np.cross(direction, least)
    one /= np.linalg.norm(one)
    other = np.cross(direction, one)
    turn = np.linspace(0, 2 * np.pi, num_points, endpoint=False)[:, None]
    around = np.cos(turn) * one + np.sin(turn) * other
    return np.asarray(apex + CONE_LENGTH * (np.cos(angle) * direction + np.sin(angle) * around))


def outline(points: Points) -> Points:
    """Corners [m, 2] of the smallest convex shape around points [k, 2], counter-clockwise."""
    turn = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    furthest = np.argmax(points @ np.array([np.cos(turn), np.sin(turn)]), axis=0)
    return np.asarray(points[furthest[np.diff(furthest, prepend=furthest[-1]) != 0]])
