"""The figure of reconstructed against true values."""

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from dnn_reco.evaluation.plots import LabelPoints, pixels, reconstructed_against_true


def counts(label: LabelPoints) -> float:
    """Number of events in the panel of a label."""
    panel = reconstructed_against_true([label], "title").axes[0]
    meshes = [child for child in panel.get_children() if isinstance(child, QuadMesh)]
    return float(np.nansum(np.ma.filled(meshes[0].get_array(), 0))) if meshes else 0.0


@pytest.mark.parametrize("log", [False, True])
def test_all_events_but_the_most_extreme_are_shown(log: bool) -> None:
    rng = np.random.default_rng(0)
    true = rng.lognormal(6, 2, 1000)
    label = LabelPoints("energy", true, true * rng.lognormal(0, 0.3, 1000), log)
    assert 980 <= counts(label) <= 1000
    panel = reconstructed_against_true([label], "title").axes[0]
    assert panel.get_xscale() == panel.get_yscale() == ("log" if log else "linear")
    assert panel.get_xlim() == panel.get_ylim()


@pytest.mark.parametrize(
    ("true", "predicted", "log", "shown"),
    [
        ([1.0], [5.0], False, 1),
        ([0.0, 0.0], [0.0, 0.0], False, 2),
        ([3.0, 3.0], [3.0, 3.0], True, 2),
        ([1.0, 2.0, 0.0, 4.0], [1.0, -2.0, 1.0, 3.0], True, 2),
        ([1.0, 2.0], [np.nan, np.inf], False, 0),
        ([-1.0], [1.0], True, 0),
    ],
)
def test_odd_values(true: list[float], predicted: list[float], log: bool, shown: int) -> None:
    label = LabelPoints("a", np.array(true), np.array(predicted), log, "GeV")
    assert counts(label) == shown
    panel = reconstructed_against_true([label], "title").axes[0]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("true [GeV]", "reconstructed [GeV]")
    assert [text.get_text() for text in panel.texts] == ([] if shown else ["too few events"])


@pytest.mark.parametrize(("labels", "panels"), [(1, 1), (2, 2), (4, 6), (6, 6)])
def test_a_panel_for_each_label(labels: int, panels: int) -> None:
    values = np.linspace(1, 2, 50)
    points = [LabelPoints(f"label {i}", values, values, False) for i in range(labels)]
    figure = reconstructed_against_true(points, "after 5 iterations")
    assert len(figure.axes) == panels + labels
    scales = figure.axes[panels:]
    assert {scale.get_ylabel() for scale in scales} == {"events in a bin"}
    assert [panel.get_title() for panel in figure.axes[:labels]] == [p.name for p in points]
    picture = pixels(figure)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    height, width, _ = picture.shape
    for panel in figure.axes[:labels]:  # each shows its line of equal values, and its cells
        x0, y0, x1, y1 = panel.get_position().extents
        part = picture[
            int((1 - y1) * height) : int((1 - y0) * height), int(x0 * width) : int(x1 * width)
        ]
        assert len(np.unique(part.reshape(-1, 3), axis=0)) > 10
