"""The largest deviation of two computations of the same predictions."""

from dataclasses import replace

import numpy as np
import pytest

from dnn_reco.inference.backend import NetworkOutput
from dnn_reco.inference.deviation import largest_deviation
from dnn_reco.inference.model_info import LabelInfo, ModelInfo

LABELS = (
    LabelInfo("energy"),
    LabelInfo("zenith"),
    LabelInfo("azimuth"),
    LabelInfo("other", is_trained=False),
)
INFO = ModelInfo("a", LABELS, 3, (0.0,) * 3, zenith="zenith", azimuth="azimuth")
SCALE = np.array([10.0, 0.5, 2.0, 1.0])


def output(*labels: float, sigma: float = 1.0) -> NetworkOutput:
    """One event whose transformed labels are those divided by their scale."""
    values = np.array([labels])
    uncertainty = np.full((1, 4), sigma)
    return NetworkOutput(values / SCALE, uncertainty, values, uncertainty)


def test_what_counts() -> None:
    first = output(5.0, np.pi / 2, 1.0, 7.0)
    assert largest_deviation(first, first, INFO) == 0
    assert largest_deviation(output(5.1, np.pi / 2, 1.0, 7.0), first, INFO) == pytest.approx(0.01)
    assert largest_deviation(output(5.0, np.pi / 2, 1.0, 9.0), first, INFO) == 0, "not trained"
    large = output(500.0, np.pi / 2, 1.0, 7.0)
    assert largest_deviation(output(550.0, np.pi / 2, 1.0, 7.0), large, INFO) == pytest.approx(0.1)
    wider = output(5.0, np.pi / 2, 1.0, 7.0, sigma=1.25)
    assert largest_deviation(wider, first, INFO) == pytest.approx(0.25)


def test_azimuths() -> None:
    below, above = (output(5.0, np.pi / 2, a, 7.0) for a in (0.01, 2 * np.pi - 0.03))
    assert largest_deviation(below, above, INFO) == pytest.approx(0.02 / (2 * np.pi - 0.03) * 2)
    assert largest_deviation(above, below, INFO) == pytest.approx(0.02)
    without = replace(INFO, azimuth=None)
    assert largest_deviation(above, below, without) > 3
    vertical = [output(5.0, 1e-6, azimuth, 7.0) for azimuth in (3.0, 1.0)]
    assert largest_deviation(*vertical, INFO) == pytest.approx(1e-6)


def test_numbers_that_are_not_finite() -> None:
    first, broken = output(5.0, 1.0, 1.0, 7.0), output(np.nan, 1.0, 1.0, 7.0)
    assert largest_deviation(broken, first, INFO) == np.inf
    assert largest_deviation(first, broken, INFO) == np.inf
    assert largest_deviation(broken, broken, INFO) == 0
    nothing = NetworkOutput(*np.zeros((4, 0, 4)))
    assert largest_deviation(nothing, nothing, INFO) == 0
