"""Angles between directions, and planes at many directions at once."""

import numpy as np
import pytest

from dnn_reco.detector.directions import Plane, angles_of, opening_angle, smaller_turn, vector_of

ANGLES = np.array([[0.1, 0.2], [1.5, 3.0], [3.0, 6.2]])


def test_smaller_way_round() -> None:
    turns = smaller_turn([0.1, 6.2, -6.2, 3.0, -3.0, np.nan])
    expected = [0.1, 6.2 - 2 * np.pi, 2 * np.pi - 6.2, 3.0, -3.0, np.nan]
    np.testing.assert_allclose(turns, expected)


@pytest.mark.parametrize("angle", [1e-9, 0.3, np.pi - 1e-9])
def test_opening_angle_of_vectors_of_any_length_and_shape(angle: float) -> None:
    first = np.array([[[0.0, 0.0, 2.0]]])
    second = np.array([[[np.sin(angle), 0.0, np.cos(angle)]]]) * 1e-3
    found = opening_angle(first, second)
    assert found.shape == (1, 1)
    np.testing.assert_allclose(found, angle, rtol=1e-7)


def test_planes_at_many_directions_are_those_at_each() -> None:
    vectors = vector_of(*ANGLES.T)
    np.testing.assert_allclose(np.stack(angles_of(vectors), axis=1), ANGLES, rtol=1e-12)
    x, y = np.array([0.1, -0.2, 0.3]), np.array([0.0, 0.4, -0.1])
    planes = Plane.at(vectors)
    found = planes.vectors(x, y)
    for number, vector in enumerate(vectors):
        plane = Plane.at(vector)
        np.testing.assert_allclose(found[number], plane.vectors(x[number], y[number]), rtol=1e-12)
    np.testing.assert_allclose(opening_angle(found, vectors), np.hypot(x, y))
    np.testing.assert_allclose(planes.points(found), (x, y), atol=1e-12)
