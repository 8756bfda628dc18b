"""What the figures of a comparison of data sets show."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.axes import Axes

from dnn_reco.evaluation.classifier_test import ClassifierTest
from dnn_reco.evaluation.data_comparison import DataComparison, Occupancy
from dnn_reco.evaluation.data_comparison_plots import (
    classifier_figure,
    distribution_figure,
    occupancy_figure,
)
from dnn_reco.evaluation.metrics import ValueWithError
from dnn_reco.evaluation.two_sample import TwoSample


def points(axes: Axes) -> list[np.ndarray]:
    """What is drawn with error bars: places, values and half the length of the bars."""
    found = []
    for container in axes.containers:
        line, _, (bars,) = container
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        found.append(np.array([*line.get_data(), (ends[:, 1] - ends[:, 0]) / 2]))
    return found


def test_scores_and_importance_of_a_classifier() -> None:
    score, is_second = np.array([-1.0, 0.5, 0.0, 2.0]), np.array([False, False, True, True])
    area = ValueWithError(np.array(0.75), np.array(0.1))
    test = ClassifierTest(
        score, is_second, np.array([1.0, 3.0, 1.0, 1.0]), area, area, 0.1, {"E": 0.2, "t": 0.1}
    )
    figure = classifier_figure(test)
    curve, scores, importance = figure.axes
    # thresholds from above: 2 of B, 0.5 of A with 3 of its weight 4, 0 of B, -1 of A
    background, signal = curve.lines[1].get_data()
    np.testing.assert_allclose(background, [0, 0, 0.75, 0.75, 1])
    np.testing.assert_allclose(signal, [0, 0.5, 0.5, 1, 1])
    assert curve.get_xlabel() == "share of A classified as B"
    assert curve.get_ylabel() == "share of B classified as B"
    assert "0.75" in curve.get_title()
    of_a, of_b = (patch.get_data() for patch in scores.patches)
    assert len(of_a.values) == 8
    assert (of_a.values[0], of_a.values.sum(), of_b.values[-1]) == (0.25, 1, 0.5)
    assert [bar.get_width() for bar in importance.patches] == [0.2, 0.1]
    assert [tick.get_text() for tick in importance.get_yticklabels()] == ["E", "t"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A", "B"]


def test_occupancy_and_its_ratio() -> None:
    layers = Occupancy(np.full((2, 43), 0.5), np.full((2, 43), 0.05), np.ones(43))
    share = np.array([[0.4, 0.0], [0.2, 0.1]])
    strings = Occupancy(share, share / 10, np.ones(2))
    comparison = cast(DataComparison, SimpleNamespace(strings=strings, layers=layers))
    figure = occupancy_figure(comparison)
    by_string, by_depth, ratio, _ = figure.axes
    of_a, of_b = points(by_string)
    np.testing.assert_allclose(of_a, [[1, 2], [40, 0], [4, 0]])  # number, percent
    np.testing.assert_allclose(of_b, [[1, 2], [20, 10], [2, 1]])
    np.testing.assert_allclose(points(by_depth)[0][0], np.arange(-512.5, 538, 25))
    # of the string that A never hits there is none
    np.testing.assert_allclose(points(ratio)[0], [[1], [0.5], [0.5 * 0.1 * 2**0.5]])
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "string", "z [m]"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A", "B"]


@pytest.mark.parametrize("logarithmic", [False, True])
def test_distributions_of_a_label(logarithmic: bool) -> None:
    rng = np.random.default_rng(1)
    first = rng.uniform(1, 4, 400)
    columns = [first, np.concatenate([first[:100], [np.nan] * 300])]
    if logarithmic:
        columns = [10**each for each in columns]

    def sample(values: np.ndarray, weights: np.ndarray) -> Any:
        labels = {"energy": values}
        return SimpleNamespace(
            summaries={}, hit={}, labels=labels, weights=weights, num_events=len(values)
        )

    weights = np.where(first < 2.5, 1.0, 0.0), np.ones(400)
    samples = tuple(map(sample, columns, weights))
    quantity = TwoSample("energy", (400, 100), (0.0, 0.0), 0.25, 1e-3, 2e-3, 0.0)
    comparison = cast(DataComparison, SimpleNamespace(samples=samples))
    (axes,) = (each for each in distribution_figure(comparison, [quantity]).axes if each.patches)
    of_a, of_b = (patch.get_data() for patch in axes.patches)
    assert len(of_a.values) == 40  # twice the root of the events
    assert of_a.values.sum() == pytest.approx(1)
    assert of_b.values.sum() == pytest.approx(1)
    assert (of_a.values[:19] > 0).all() and (of_a.values[21:] == 0).all()
    assert axes.get_xscale() == ("log" if logarithmic else "linear")
    assert axes.get_xlabel() == "energy [GeV]"
    assert axes.get_title() == "KS 0.250, adjusted p 2.0e-03"
