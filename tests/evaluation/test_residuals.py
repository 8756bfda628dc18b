"""Residuals, pulls, summaries and variables of made-up reconstructions."""

import math
from dataclasses import replace

import numpy as np
import pytest
from made_up_evaluation import BIAS, SIGMA, WIDTH, evaluation, reconstruction, true_events

from dnn_reco.detector.hull import detector_hull
from dnn_reco.evaluation.comparison import compare_models
from dnn_reco.evaluation.credible_levels import direction_level
from dnn_reco.evaluation.reconstruction import Evaluation
from dnn_reco.evaluation.residuals import (
    direction_labels,
    energy_label,
    label_pull,
    label_residual,
    opening_angle,
    regression_labels,
    shown_log,
    true_zenith,
)
from dnn_reco.evaluation.summary import angle_summary, label_summary
from dnn_reco.evaluation.variables import variables

N = 6000
LN10 = math.log(10)


def test_summary_of_a_known_bias_and_width() -> None:
    made = evaluation(N, not_reconstructed=50)
    (one,) = made.reconstructions
    found = label_summary(one, made.events, "EnergyVisible", log=True)
    root = math.sqrt(N - 50)
    # ln(1 + E) is ln E to 10 % at the lowest energies
    assert found["bias"].value == pytest.approx(BIAS / LN10, abs=0.01)
    assert found["bias"].error == pytest.approx(WIDTH / LN10 / root, rel=0.2)
    assert found["width_68"].value == pytest.approx(WIDTH / LN10, rel=0.05)
    assert found["width_90"].value == pytest.approx(1.645 * WIDTH / LN10, rel=0.05)
    assert found["rmse"].value == pytest.approx(math.hypot(BIAS, WIDTH) / LN10, rel=0.05)
    assert found["pull_mean"].value == pytest.approx(BIAS / SIGMA, abs=0.05)
    assert found["pull_mean"].error == pytest.approx(WIDTH / SIGMA / root, rel=0.2)
    assert found["pull_width"].value == pytest.approx(WIDTH / SIGMA, rel=0.05)
    variance = 25 / 12  # of log10 E, uniform in 1 … 6
    expected = math.sqrt(variance / (variance + (WIDTH / LN10) ** 2))
    assert found["correlation"].value == pytest.approx(expected, abs=0.005)
    assert found["correlation"].error == pytest.approx((1 - expected**2) / root, rel=0.3)


def test_summary_against_numpy() -> None:
    made = evaluation(801)
    (one,) = made.reconstructions
    label = "PrimaryDirectionX"
    found = label_summary(one, made.events, label, log=False)
    true, reco = made.events.labels[label], one.table[label]
    residual = reco - true
    assert found["bias"].value == pytest.approx(residual.mean())
    assert found["rmse"].value == pytest.approx(np.sqrt(np.mean(residual**2)))
    assert found["median_absolute"].value == pytest.approx(np.median(np.abs(residual)))
    low, high = np.quantile(residual, [0.05, 0.95], method="inverted_cdf")
    assert found["width_90"].value == pytest.approx((high - low) / 2)
    assert found["correlation"].value == pytest.approx(np.corrcoef(true, reco)[0, 1])
    assert "correlation" not in label_summary(one, made.events, "PrimaryAzimuth", log=False)


def test_residuals_of_an_azimuth_go_the_short_way() -> None:
    events = true_events(3)
    events.labels["PrimaryAzimuth"][:] = (6.2, 0.1, 3.0)
    one = reconstruction(events, "one", 1)
    one.table["PrimaryAzimuth"][:] = (0.1, 6.2, 2.0)
    one.table["PrimaryAzimuth_uncertainty"][:] = 0.5
    expected = np.array([0.1 - 6.2 + 2 * np.pi, 6.2 - 0.1 - 2 * np.pi, -1.0])
    residual = label_residual(one, events, "PrimaryAzimuth", log=False)
    np.testing.assert_allclose(residual, expected)
    np.testing.assert_allclose(label_pull(one, events, "PrimaryAzimuth"), expected / 0.5)


def test_what_is_not_reconstructed_or_not_known() -> None:
    made = evaluation(40, not_reconstructed=3)
    (one,) = made.reconstructions
    events = made.events
    assert label_residual(one, events, "VertexX", log=False) is None
    assert label_pull(one, events, "VertexX") is None
    assert label_summary(one, events, "VertexX", log=False) == {}
    angle = opening_angle(one, events)
    assert angle is not None
    assert np.isnan(angle).tolist() == [True] * 3 + [False] * 37
    level = direction_level(one, events)
    assert level is not None
    assert np.isnan(level).tolist() == [True] * 3 + [False] * 37
    assert energy_label(made) == "EnergyVisible"
    assert regression_labels(made)[0] == "EnergyVisible"
    assert "p_starting" not in regression_labels(made)
    assert shown_log(made, "EnergyVisible")
    assert not shown_log(made, "PrimaryAzimuth")
    lost = evaluation(5, not_reconstructed=5)
    assert angle_summary(lost.reconstructions[0], lost.events) == {}
    groups = compare_models(lost).groups
    assert np.isnan(groups[0].found["one"]["angle_50"].value)
    assert np.isnan(groups[0].found["one"]["energy_rms"].value)


def test_a_reconstruction_without_uncertainties() -> None:
    made = evaluation(300)
    (one,) = made.reconstructions
    table = replace(one.table, uncertainty=np.full_like(one.table.uncertainty, np.nan))
    bare = Evaluation(made.events, (replace(one, table=table),))
    found = compare_models(bare).groups[0].found["one"]
    assert not [key for key in found if key.startswith(("pull", "coverage"))]
    assert "pull_width" not in label_summary(
        bare.reconstructions[0], made.events, "EnergyVisible", log=True
    )


def test_directions_from_angles() -> None:
    events = true_events(50)
    one = reconstruction(events, "one", 1)
    names = ("PrimaryZenith", "PrimaryAzimuth")
    assert direction_labels(one, events) == tuple(f"PrimaryDirection{axis}" for axis in "XYZ")
    angles = np.stack([events.labels[name] for name in names], axis=1)
    angles[:, 0] = np.where(angles[:, 0] < 1.5, angles[:, 0] + 0.2, angles[:, 0] - 0.2)
    table = replace(
        one.table, label_names=names, has_log=(False, False), labels=angles, uncertainty=angles
    )
    of_angles = replace(one, table=table)
    assert direction_labels(of_angles, events) == names
    np.testing.assert_allclose(opening_angle(of_angles, events), np.degrees(0.2))
    level = direction_level(of_angles, events)
    assert level is not None
    np.testing.assert_allclose(level, -np.expm1(-np.square(0.2 / angles[:, 0]) / 2), rtol=1e-6)


def test_zenith_from_the_direction_where_there_is_no_label() -> None:
    made = evaluation(30)
    labels = {name: v for name, v in made.events.labels.items() if name != "PrimaryZenith"}
    bare = replace(made, events=replace(made.events, labels=labels))
    np.testing.assert_allclose(true_zenith(bare), made.events.labels["PrimaryZenith"], atol=1e-9)


def test_weights_count_in_the_comparison() -> None:
    """Events of weight 0 might as well not be there."""
    made = evaluation(400)
    events = made.events
    weights = np.where(np.arange(400) < 250, 2.0, 0.0)
    weighted = compare_models(replace(made, events=replace(events, weights=weights)))
    (one,) = made.reconstructions
    angle = opening_angle(one, events)
    assert angle is not None
    found = weighted.groups[0].found["one"]
    assert found["angle_mean"].value == pytest.approx(angle[:250].mean())
    assert found["angle_mean"].error == pytest.approx(angle[:250].std(ddof=1) / math.sqrt(250))
    assert found["angle_50"].value == np.quantile(angle[:250], 0.5, method="inverted_cdf")


def test_variables() -> None:
    made = evaluation(4000)
    found = {each.name: each for each in variables(made)}
    assert list(found) == ["energy", "zenith", "inelasticity", "edge_distance", "hit_doms"]
    assert found["energy"].axis == "true EnergyVisible [GeV]"
    assert found["energy"].edges[[0, -1]] == pytest.approx([10, 1e6])
    assert len(found["energy"].edges) == 3 * 5 + 1
    assert found["zenith"].edges[[0, -1]] == pytest.approx([-1, 1])
    assert found["inelasticity"].axis == "true BjorkenY"
    vertex = np.stack([made.events.labels[f"Vertex{axis}"] for axis in "XYZ"], axis=1)
    inside = detector_hull().contains(vertex)
    assert 0 < inside.sum() < 4000
    assert ((found["edge_distance"].values <= 0) == inside).all()
    # a point 100 m above the top, and the centre of the bottom plane
    made.events.labels["VertexX"][:2] = made.events.labels["VertexY"][:2] = 0.0
    made.events.labels["VertexZ"][:2] = (600.0, -400.0)
    again = {each.name: each for each in variables(made)}["edge_distance"]
    np.testing.assert_allclose(again.values[:2], [100.0, -100.0])


def test_variables_need_a_bin_of_twenty_events() -> None:
    assert [each.name for each in variables(evaluation(19))] == []
