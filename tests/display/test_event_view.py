"""The event display: which markers are drawn where, how large, and in which colour."""

import numpy as np
import pytest
from event_files import random_events
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import dom_positions
from dnn_reco.display.event_view import plot_event
from dnn_reco.errors import DataError

# Two DOMs of string 1, the second one brighter, and one of string 86; charge, time
DOMS = np.array([0, 30, 85 * 60 + 5], dtype=np.uint16)
FEATURES = np.array([[1.0, 300.0, 5.0], [100.0, 100.0, 5.0], [4.0, 200.0, 5.0]])
HITS = Hits(np.array([0, 0, 3, 3]), DOMS, FEATURES)


def markers(figure: Figure, panel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, areas and colours of the hits in a panel: the drawing with the highest z-order."""
    collections = figure.axes[panel].collections
    drawn = max((c for c in collections if isinstance(c, PathCollection)), key=lambda c: c.zorder)
    return np.asarray(drawn.get_offsets()), drawn.get_sizes(), drawn.get_facecolors()


def test_doms_from_the_side() -> None:
    figure = plot_event(HITS, 1)
    places, areas, colors = markers(figure, 1)
    order = [1, 2, 0]  # the brightest is drawn first
    np.testing.assert_allclose(places, dom_positions()[DOMS[order]][:, [0, 2]])
    assert areas[0] == pytest.approx(5 * areas[1]) == pytest.approx(10 * areas[2])
    assert len(np.unique(colors, axis=0)) == 3
    early, late = colors[0], colors[2]
    assert early[0] > early[2]  # red
    assert late[2] > late[0]  # blue
    assert figure.axes[1].get_xlabel() == "x [m]"
    assert figure.axes[1].get_ylabel() == "z [m]"
    assert figure.axes[2].get_ylabel() == "time of the first pulse [ns]"


def test_strings_from_the_top() -> None:
    """A string has the charge of its DOMs and the colour of the brightest."""
    figure = plot_event(HITS, 1)
    places, areas, colors = markers(figure, 0)
    np.testing.assert_allclose(places, dom_positions()[[30, 85 * 60 + 5], :2])
    assert areas[0] / areas[1] == pytest.approx((101 / 4) ** 0.5)
    np.testing.assert_array_equal(colors, markers(figure, 1)[2][:2])
    assert figure.get_suptitle() == "3 hit DOMs, 105.0 PE"


def test_event_without_hits_shows_the_detector() -> None:
    figure = plot_event(HITS, 2)
    assert figure.get_suptitle() == "0 hit DOMs, 0.0 PE"
    drawn = [len(c.get_offsets()) for c in figure.axes[0].collections if len(c.get_offsets())]
    assert drawn == [86]  # strings, and no hits


def test_mistakes() -> None:
    with pytest.raises(DataError, match=r"no event 3: there are 3, counted from 0"):
        plot_event(HITS, 3)
    with pytest.raises(DataError, match="charge_feature is 3, but there are 3 features"):
        plot_event(HITS, 1, charge_feature=3)
    hits = random_events(1, 1, num_bins=5).hits
    with pytest.raises(DataError, match=r"of the 5 features is the time .* as time_feature"):
        plot_event(hits)
    low, high = plot_event(hits, time_feature=4).axes[2].get_ylim()
    assert low < np.median(hits.features[:, 4]) < high


def test_the_detector_and_the_scales() -> None:
    """All 86 strings, at the same scale in both directions."""
    figure = plot_event(HITS, 1)
    top, side, _ = figure.axes
    places = dom_positions().reshape(86, 60, 3)
    for panel, title, axes in (
        (top, "Top view: strings", ("x [m]", "y [m]")),
        (side, "Side view: DOMs", ("x [m]", "z [m]")),
    ):
        assert panel.get_title() == title
        assert (panel.get_xlabel(), panel.get_ylabel()) == axes
        assert panel.get_aspect() == 1.0
    strings = min((c for c in top.collections), key=lambda c: c.zorder)
    np.testing.assert_allclose(strings.get_offsets(), places[:, 0, :2])
    (lines,) = (c for c in side.collections if isinstance(c, LineCollection))
    segments = np.array(lines.get_segments())
    np.testing.assert_allclose(segments, places[:, [0, -1]][:, :, [0, 2]])
    low, high = side.get_ylim()
    assert low < places[..., 2].min() and high > places[..., 2].max()


def legend(charge: float) -> list[str]:
    hits = Hits(np.array([0, 1]), DOMS[:1], np.array([[charge, 100.0, 0.0]]))
    (found,) = plot_event(hits).legends
    return [text.get_text() for text in found.get_texts()]


def test_legend_up_to_the_largest_charge() -> None:
    assert legend(0.5) == ["1 PE"]
    assert legend(9.9) == ["1 PE"]
    assert legend(10.0) == ["1 PE", "10 PE"]
    assert legend(1e6) == ["1 PE", "10 PE", "100 PE", "1,000 PE"]


def test_areas_have_limits() -> None:
    """12 points² of 1 PE, by the root of the charge, from 5 to 600."""
    features = np.array([[0.0, 1.0, 0.0], [1.0, 2.0, 0.0], [100.0, 3.0, 0.0], [1e7, 4.0, 0.0]])
    hits = Hits(np.array([0, 4]), np.arange(4, dtype=np.uint16), features)
    _, areas, _ = markers(plot_event(hits), 1)
    assert areas.tolist() == pytest.approx([600, 120, 12, 5])


def test_truth_and_reconstruction() -> None:
    """Vertex and direction of the truth; cones around the reconstructed direction, which is -y."""
    from test_particle import TRUTH, predictions

    truth = {name: values[[0, 0, 1]] for name, values in TRUTH.items()}
    table = predictions().rows(np.array([0, 0, 0]))
    figure = plot_event(HITS, 1, truth=truth, reconstruction=table, title="a $_b")
    top = figure.axes[0]
    lines = {line.get_label(): line for line in top.lines}
    np.testing.assert_array_equal(lines["true vertex"].get_xydata(), [[1, 2]])
    cones = {patch.get_label(): patch for patch in top.patches}
    charge = FEATURES[:, 0]
    apex = charge @ dom_positions()[DOMS][:, :2] / charge.sum()
    for label, degrees in (("68 % cone", 10.61), ("90 % cone", 15.09)):
        corners = cones[label].get_xy() - apex
        widest = np.abs(corners[:, 0]).max() / -corners[:, 1].min()
        assert np.degrees(np.arctan(widest)) == pytest.approx(degrees, abs=0.05)
    assert "90° between true and reconstructed direction" in figure.get_suptitle()
    (names,) = figure.legends
    texts = [text.get_text() for text in names.get_texts()]
    assert len(texts) == len(set(texts)) and "reconstructed direction" in texts
    assert len(figure._repr_png_()) > 1000  # type: ignore[attr-defined]


def test_noise_does_not_change_the_colours() -> None:
    """Hits of a string in coincidence from 1000 to 1009 ns, and 30 lone hits from 0 to 29,000."""
    signal = np.arange(10, dtype=np.uint16)
    noise = (60 * np.arange(1, 31)).astype(np.uint16)
    times = np.concatenate([1000 + np.arange(10), 1000 * np.arange(30)])
    features = np.column_stack([np.ones(40), times, np.zeros(40)])
    hits = Hits(np.array([0, 40]), np.concatenate([signal, noise]), features)
    colorbar = plot_event(hits).axes[2]
    low, high = colorbar.get_ylim()
    assert 1000 <= low < high <= 1009
