"""Which event types and variables have bands, and what is drawn with weights."""

import numpy as np

from dnn_reco.evaluation.band_figures import band_figure, rows_with_bands
from dnn_reco.evaluation.event_types import ALL_EVENTS
from dnn_reco.evaluation.variables import Variable

EDGES = np.array([1.0, 10.0, 100.0])


def variable(values: np.ndarray) -> Variable:
    return Variable("x", "x [m]", values, True, EDGES)


def types(*sizes: int) -> dict[str, np.ndarray]:
    """All events, and types of so many of them."""
    kinds = np.repeat(np.arange(len(sizes)), sizes)
    return {ALL_EVENTS: kinds >= 0, **{f"type {i}": kinds == i for i in range(len(sizes))}}


def test_all_events_are_shown_where_no_type_has_enough() -> None:
    values, x = np.arange(57.0), np.full(57, 5.0)
    found = rows_with_bands([("one", values)], types(19, 19, 19), [variable(x)])
    assert list(found[0]) == [ALL_EVENTS]
    assert len(found[1]) == 1
    found = rows_with_bands([("one", values)], types(20, 37), [variable(x)])
    assert list(found[0]) == ["type 0", "type 1"]
    found = rows_with_bands([("one", values)], types(20, 18, 19), [variable(x)])
    assert list(found[0]) == ["type 0"]
    # what is not known does not count
    unknown = np.where(np.arange(57) < 40, np.nan, 1.0)
    assert rows_with_bands([("one", unknown)], types(30, 27), [variable(x)]) == ({}, [])
    assert rows_with_bands([("one", values)], types(57), [variable(200 * x)]) == ({}, [])


def test_weights_count_in_the_bands() -> None:
    values = np.arange(100.0)
    weights = np.where(values < 25, 1.0, 0.0)
    figure = band_figure(
        [("one", values)],
        types(100),
        [variable(np.full(100, 5.0))],
        (20.0, 50.0, 80.0),
        "y",
        "title",
        weights=weights,
    )
    low, high, middle = (line.get_ydata()[0] for line in figure.axes[0].lines[:3])
    assert (low, middle, high) == (4.0, 12.0, 19.0)
    (band,) = figure.axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (4.0, 19.0)
    assert figure.axes[0].get_xlabel() == "x [m]"
