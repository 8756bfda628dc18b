"""The picture of the density of a direction: what is drawn where."""

import numpy as np
import pytest

from dnn_reco.detector.directions import vector_of
from dnn_reco.display.sky_view import plot_sky
from dnn_reco.figure_style import figure_bytes
from dnn_reco.inference.sky_densities import Mixture, VonMisesFisher
from dnn_reco.inference.sky_frame import Frame

DENSITY = VonMisesFisher(vector_of(1.0, 6.2), 400.0)


def test_contours_and_directions_are_where_they_should_be() -> None:
    truth = vector_of(1.0, 6.2 + np.radians(5) / np.sin(1.0))  # 5° along the azimuth
    figure = plot_sky(DENSITY, [0.9, 0.5], Frame(), "event 1", truth)
    part, whole = figure.axes[:2]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    expected = ("predicted: zenith 57.30°", "true: ", "50 %: ", "90 %: ")
    assert [sum(name.startswith(start) for name in names) for start in expected] == [1, 1, 1, 1]
    half, most, best, true = part.lines[:4]
    for line, level in ((half, 0.5), (most, 0.9)):
        radius = np.degrees(np.arccos(1 + np.log(1 - level) / 400))
        np.testing.assert_allclose(np.hypot(*line.get_data()), radius, rtol=2e-3)
    np.testing.assert_allclose(np.ravel(best.get_data()), [0, 0], atol=1e-9)
    np.testing.assert_allclose(np.ravel(true.get_data()), [5, 0], atol=0.15)
    longitude, latitude = np.ravel(whole.lines[2].get_data())
    assert longitude == pytest.approx(6.2 - np.pi) and latitude == pytest.approx(np.pi / 2 - 1.0)
    assert "zenith" in whole.get_ylabel() and "zenith" in part.get_ylabel()
    assert figure_bytes(figure, "png").startswith(b"\x89PNG")


def test_a_far_truth_is_not_in_the_right_picture() -> None:
    figure = plot_sky(DENSITY, [0.5], Frame(), "event 1", -DENSITY.best)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[1].endswith("(outside of the right picture)")
    assert max(figure.axes[0].get_xlim()) < 10


def test_two_peaks_are_both_in_the_picture() -> None:
    other = VonMisesFisher(vector_of(2.0, 3.0), 400.0)
    figure = plot_sky(Mixture([DENSITY, other]), [0.9], Frame(), "event 1")
    assert max(figure.axes[0].get_xlim()) > 90
    assert figure_bytes(figure, "png").startswith(b"\x89PNG")


def test_east_is_on_the_left() -> None:
    pytest.importorskip("astropy", reason="the extra 'sky' is not installed")
    figure = plot_sky(DENSITY, [0.5], Frame(58_000.0), "event 1")
    low, high = figure.axes[0].get_xlim()
    assert low > high
    assert figure.axes[0].get_xlabel() == "east [°]"
