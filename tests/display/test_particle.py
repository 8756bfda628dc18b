"""Particles of event displays: what is drawn where, and the cones of the direction."""

import numpy as np
import pytest

from dnn_reco.detector.directions import vector_of
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.display.label_table import label_rows
from dnn_reco.display.particle import (
    opening_angle,
    reconstructed_particle,
    true_particle,
)
from dnn_reco.display.shapes import CONE_LENGTH, chord, cone_rim, drawn_box, outline, start
from dnn_reco.errors import DataError
from dnn_reco.inference.cone import cone_angle
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.inference.stored_predictions import stored_predictions

VECTOR = ("PrimaryDirectionX", "PrimaryDirectionY", "PrimaryDirectionZ")
TRUTH = {
    "EnergyVisible": np.array([1e3, 2e4]),
    "PrimaryZenith": np.array([0.0, np.pi / 2]),
    "PrimaryAzimuth": np.array([0.0, np.pi / 2]),
    "VertexX": np.array([1.0, np.nan]),
    "VertexY": np.array([2.0, np.nan]),
    "VertexZ": np.array([3.0, np.nan]),
}


def predictions(sigma: float = 0.1) -> PredictionTable:
    """Both events go to -y; the energy is 999 and its logarithm uncertain by ln 2."""
    labels = np.array([[0.0, -1.0, 0.0, 999.0]] * 2)
    uncertainty = np.array([[sigma] * 3 + [np.log(2)]] * 2)
    names = (*VECTOR, "EnergyVisible")
    return PredictionTable(names, (False,) * 3 + (True,), labels, uncertainty)


def test_true_particle() -> None:
    down, level = (true_particle(TRUTH, event, 2) for event in (0, 1))
    np.testing.assert_allclose(down.direction, [0, 0, -1], atol=1e-15)
    np.testing.assert_allclose(level.direction, [0, -1, 0], atol=1e-15)
    np.testing.assert_array_equal(down.vertex, [1, 2, 3])
    assert down.has_vertex and not level.has_vertex
    assert not down.cones
    assert list(level.labels) == ["EnergyVisible", "PrimaryZenith", "PrimaryAzimuth"]
    assert opening_angle(down, level) == pytest.approx(np.pi / 2)


def test_unknown_direction() -> None:
    nothing = true_particle({"EnergyVisible": np.array([1.0])}, 0, 1)
    assert not nothing.has_direction
    assert np.isnan(opening_angle(nothing, nothing))


@pytest.mark.parametrize("kappa", [0.01, 3.0, 1e3, 1e8])
@pytest.mark.parametrize("share", [0.68, 0.9])
def test_cone_holds_its_share(kappa: float, share: float) -> None:
    """The numerical integral of the density within the cone."""
    edge = float(cone_angle(kappa, share))
    within, all_angles = (
        np.linspace(0, stop, 200_001) for stop in (edge, min(np.pi, 12 / np.sqrt(kappa)))
    )

    def integral(angle: np.ndarray) -> float:
        density = np.exp(-2 * kappa * np.sin(angle / 2) ** 2) * np.sin(angle)
        return float(np.trapezoid(density, angle))

    assert integral(within) / integral(all_angles) == pytest.approx(share, rel=1e-6)


def test_cone_of_a_prediction() -> None:
    """κ = 2 / (3 σ²) = 66.7: 1 - cos ψ = -ln(1 - p) / κ."""
    cones = reconstructed_particle(predictions(), 0, 2).cones
    for percent, share in ((68, 0.68), (90, 0.9)):
        expected = np.arccos(1 + np.log(1 - share) * 3 * 0.1**2 / 2)
        assert cones[percent] == pytest.approx(expected, rel=1e-6)
    assert not reconstructed_particle(predictions(np.nan), 0, 2).cones


def test_cone_of_angles() -> None:
    """At the zenith π/6 an azimuth uncertain by 0.2 is 0.1 across."""
    columns = {"zenith": np.array([np.pi / 6]), "azimuth": np.array([1.0])}
    columns |= {"zenith_uncertainty": np.array([0.1]), "azimuth_uncertainty": np.array([0.2])}
    cones = reconstructed_particle(stored_predictions(columns, 1), 0, 1).cones
    assert np.cos(cones[68]) == pytest.approx(1 + np.log(0.32) * 0.1**2, rel=1e-9)


@pytest.mark.parametrize("angle", [0.01, 0.5, 2.5])
def test_rim_of_a_cone(angle: float) -> None:
    apex, axis = np.array([10.0, -20.0, 30.0]), vector_of(0.7, 2.0)
    rim = cone_rim(apex, axis, angle) - apex
    along = rim @ axis
    np.testing.assert_allclose(along, CONE_LENGTH * np.cos(angle))
    np.testing.assert_allclose(
        np.linalg.norm(rim - along[:, None] * axis, axis=1), CONE_LENGTH * np.sin(angle)
    )
    np.testing.assert_allclose(rim.mean(axis=0), CONE_LENGTH * np.cos(angle) * axis, atol=1e-9)


def test_chord_through_the_box() -> None:
    low, high = drawn_box()
    line = chord(np.zeros(3), np.array([0.0, 0.0, -1.0]))
    np.testing.assert_allclose(line, [[0, 0, high[2]], [0, 0, low[2]]])
    assert chord(np.array([0.0, 0.0, 5000.0]), np.array([1.0, 0.0, 0.0])) is None


def test_start_of_the_direction() -> None:
    centre = np.array([0.0, 100.0, 0.0])
    inside = true_particle(TRUTH, 0, 2)
    np.testing.assert_array_equal(start(inside, centre), [1, 2, 3])
    unknown = true_particle(TRUTH, 1, 2)
    np.testing.assert_array_equal(start(unknown, centre), centre)
    far = {**TRUTH, "VertexZ": np.array([9000.0, 0.0])}
    np.testing.assert_allclose(start(true_particle(far, 0, 2), centre), [1, 2, 0], atol=1e-9)


def test_outline() -> None:
    square = np.array([[0.0, 0], [4, 0], [2, 1], [4, 4], [1, 3], [0, 4]])
    corners = outline(square)
    assert {tuple(corner) for corner in corners} == {(0, 0), (4, 0), (4, 4), (0, 4)}


def test_label_rows() -> None:
    truth = true_particle(TRUTH, 1, 2)
    rows = {row.name: row for row in label_rows(truth, reconstructed_particle(predictions(), 1, 2))}
    energy = rows["EnergyVisible"]  # 1000 · 2 - 1 and 1000 / 2 - 1
    assert (energy.truth, energy.reconstruction, energy.unit) == (
        "20,000",
        "999 +1,000 −500",
        "GeV",
    )
    zenith = rows["PrimaryZenith"]
    assert (zenith.truth, zenith.reconstruction, zenith.unit) == ("90", "", "°")
    assert rows["PrimaryDirectionY"].reconstruction == "-1 ± 0.1"
    assert float(rows["angle to the truth"].reconstruction) == pytest.approx(0, abs=1e-6)
    assert float(rows["68 % cone of direction"].reconstruction) == pytest.approx(10.61, abs=0.01)
    assert label_rows(None, None) == []


def test_other_numbers_of_events() -> None:
    with pytest.raises(DataError, match=r"'EnergyVisible' has shape \(2,\), but there are 3"):
        true_particle(TRUTH, 0, 3)
    with pytest.raises(DataError, match="predictions of 2 events, but 3 events"):
        reconstructed_particle(predictions(), 0, 3)


def test_stored_columns() -> None:
    """Uncertainties belong to their labels; codes and run times are no labels."""
    columns = {
        name: np.array([value])
        for name, value in (
            ("E", 10.0),
            ("E_log_uncertainty", 0.5),
            ("t", 4.0),
            ("t_uncertainty", 2.0),
            ("x", -3.0),
            ("pdg_encoding", 13.0),
            ("runtime_prediction", 0.1),
        )
    }
    table = stored_predictions(columns, 1)
    assert table.label_names == ("E", "t", "x")
    assert table.has_log == (True, False, False)
    np.testing.assert_array_equal(table.labels, [[10, 4, -3]])
    np.testing.assert_array_equal(table.uncertainty, [[0.5, 2, np.nan]])
    assert stored_predictions({}, 3).labels.shape == (3, 0)


def test_the_box_holds_all_doms() -> None:
    low, high = drawn_box()
    assert (dom_positions() > low).all() and (dom_positions() < high).all()
