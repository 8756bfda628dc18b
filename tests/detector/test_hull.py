"""The detector's convex volume, against the definition, slow obvious versions and real labels."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dnn_reco.detector.geometry import dom_positions
from dnn_reco.detector.hull import Sphere, convex_hull, detector_hull, label_hull

Array = NDArray[np.float64]

# Corners of the published definition, counter-clockwise; (101.04, 412.79) of string 72 is omitted,
# since it lies inside the line between its neighbours.
CORNERS = np.array(
    [
        (-570.900, -125.140),
        (-256.140, -521.080),
        (361.000, -422.830),
        (576.370, 170.920),
        (338.440, 463.720),
        (22.110, 509.500),
        (-347.880, 451.520),
    ]
)


def moved_corners(distance: float) -> Array:
    """Corner = p + (u_prev - u_next) d / cross(u_prev, u_next), in words of the definition."""
    towards = np.roll(CORNERS, -1, axis=0) - CORNERS
    after = towards / np.linalg.norm(towards, axis=1)[:, None]
    before = np.roll(after, 1, axis=0)
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return CORNERS + (before - after) * distance / cross[:, None]


def sorted_rows(points: Array) -> Array:
    return points[np.lexsort(points.T)]


@pytest.mark.parametrize("distance", [0.0, 300.0, -60.0])
def test_corners_move_as_in_the_definition(distance: float) -> None:
    corners = detector_hull().extended(distance).corners()
    top = corners[corners[:, 2] > 0]
    assert len(corners) == 14
    assert np.unique(corners[:, 2]) == pytest.approx([-500 - distance, 500 + distance])
    np.testing.assert_allclose(
        sorted_rows(top[:, :2]), sorted_rows(moved_corners(distance)), atol=1e-5
    )


def test_label_hull_reaches_from_the_lowest_to_the_highest_end_dom() -> None:
    corners = label_hull().corners()
    assert np.unique(corners[:, 2]) == pytest.approx([-510.18, 505.72])


def test_inside_and_outside() -> None:
    points = np.array([[0.0, 0, 0], [0, 0, 499.9], [0, 0, 500.1], [101.04, 412.79, 0], [600, 0, 0]])
    assert detector_hull().contains(points).tolist() == [True, True, False, True, False]
    assert detector_hull().depth(np.array([[0.0, 0, 450]])) == pytest.approx([50])
    in_ice = dom_positions()[np.abs(dom_positions()[:, 2]) < 500]
    assert detector_hull().extended(50).contains(in_ice).all()


def test_a_cube_from_its_corners() -> None:
    corners = np.stack(np.meshgrid([-1.0, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
    cube = convex_hull(np.concatenate([corners, np.zeros((1, 3))]))
    assert len(cube.offsets) == 6
    np.testing.assert_allclose(sorted_rows(cube.corners()), sorted_rows(corners))
    enter, leave = cube.crossing(
        # the last two: in a face, and through one point of an edge; the surface is inside
        np.array([[-3.0, 0, 0], [-3, 2, 0], [0, 0, 5], [-3, 1, 0], [2, 0, 0]]),
        np.array([[1.0, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0], [-(0.5**0.5), 0.5**0.5, 0]]),
    )
    np.testing.assert_allclose(enter, [2, np.nan, -6, 2, 2**0.5])
    np.testing.assert_allclose(leave, [4, np.nan, -4, 4, 2**0.5])


coordinate = st.floats(-900, 900)


@settings(max_examples=60)
@given(st.tuples(coordinate, coordinate, coordinate), st.floats(-1, 1), st.floats(0, 6.28))
def test_crossing_agrees_with_steps_along_the_line(
    start: tuple[float, float, float], cosine: float, phi: float
) -> None:
    sine = np.sqrt(1 - cosine**2)
    direction = np.array([[sine * np.cos(phi), sine * np.sin(phi), cosine]])
    point = np.array([start])
    steps = np.arange(-4000, 4000, 0.5)
    inside = steps[label_hull().contains(point + steps[:, None] * direction)]
    enter, leave = label_hull().crossing(point, direction)
    if np.isnan(enter[0]):
        assert inside.size == 0
    elif leave[0] - enter[0] > 1:
        assert inside.min() - 0.5 <= enter[0] <= inside.min() + 1e-6
        assert inside.max() - 1e-6 <= leave[0] <= inside.max() + 0.5


def test_overlap_and_contact_against_points_along_the_track() -> None:
    rng = np.random.default_rng(5)
    start = rng.uniform(-900, 900, (200, 3))
    direction = rng.normal(size=(200, 3))
    direction /= np.linalg.norm(direction, axis=1)[:, None]
    length = rng.uniform(1, 2000, 200)
    part = (np.arange(5_000) + 0.5) / 5_000
    hull = detector_hull()
    overlap = hull.overlap(start, direction, length)
    contact = hull.first_contact(start, direction, length)
    for i in range(200):
        points = start[i] + (part * length[i])[:, None] * direction[i]
        inside = hull.contains(points)
        assert overlap[i] == pytest.approx(inside.mean() * length[i], abs=0.5)
        distance = part * length[i]
        closest = distance[np.argmin(np.linalg.norm(points, axis=1))]
        expected = distance[inside].min() if inside.any() else closest
        assert contact[i] == pytest.approx(expected, abs=0.5)


@pytest.fixture
def real_labels(shared_data: Path) -> dict[str, Array]:
    tables = []
    for path in sorted((shared_data / "real_nugen").glob("*.hdf5")):
        with h5py.File(path, locking=False) as file:
            tables.append((file["LabelsDeepLearning"][:], file["MCCascade"][:]))
    labels = {
        name: np.concatenate([table[name] for table, _ in tables])
        for name in tables[0][0].dtype.names[5:]
    }
    for name in ("x", "y", "z"):
        labels[f"cascade_{name}"] = np.concatenate([cascade[name] for _, cascade in tables])
    return labels


def stack(labels: dict[str, Array], *names: str) -> Array:
    return np.stack([labels[name] for name in names], axis=1)


def test_real_events_start_60_m_inside_or_300_m_around(real_labels: dict[str, Array]) -> None:
    interaction = stack(real_labels, "cascade_x", "cascade_y", "cascade_z")
    # Where a muon comes from far away, the table holds its entry, not the interaction.
    far = (real_labels["p_entering"] == 1) & (real_labels["p_starting_300m"] == 0)
    assert 30 < np.count_nonzero(~far) < len(far)
    starting = detector_hull().extended(-60).contains(interaction)
    around = detector_hull().extended(300).contains(interaction)
    np.testing.assert_array_equal(starting[~far], real_labels["p_starting"][~far] == 1)
    np.testing.assert_array_equal(around[~far], real_labels["p_starting_300m"][~far] == 1)


def test_real_length_in_detector(real_labels: dict[str, Array]) -> None:
    starting = real_labels["p_starting"] == 1
    overlap = label_hull().overlap(
        stack(real_labels, "VertexX", "VertexY", "VertexZ"),
        stack(real_labels, "PrimaryDirectionX", "PrimaryDirectionY", "PrimaryDirectionZ"),
        real_labels["Length"],
    )
    assert np.count_nonzero(starting) == 32
    np.testing.assert_allclose(
        overlap[starting], real_labels["LengthInDetector"][starting], atol=1e-4
    )


def test_sphere_is_entered_and_left_where_pythagoras_says() -> None:
    sphere = Sphere(5.0)
    points = np.array([[-10.0, 3.0, 0.0], [0.0, 0.0, 1.0], [0.0, 6.0, 0.0]])
    enter, leave = sphere.crossing(points, np.tile([1.0, 0.0, 0.0], (3, 1)))
    np.testing.assert_allclose(enter, [6.0, -np.sqrt(24), np.nan])
    np.testing.assert_allclose(leave, [14.0, np.sqrt(24), np.nan])
    lengths = np.array([8.0, 1.0, 9.0])
    np.testing.assert_allclose(
        sphere.overlap(points, np.tile([1.0, 0.0, 0.0], (3, 1)), lengths), [2.0, 1.0, 0.0]
    )
