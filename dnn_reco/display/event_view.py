"""Event display: the hit DOMs of an event in the detector, from the top and from the side."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dnn_reco.data.features import FIRST_TIME_FEATURE
from dnn_reco.data.hits import Hits, check_hits
from dnn_reco.detector.geometry import NUM_DOMS_PER_STRING, NUM_STRINGS, dom_positions
from dnn_reco.errors import DataError

_SIZE = (11.0, 5.3)  # inches
_STRING_COLOR = "0.75"
_COLORS = "turbo_r"  # red is early, blue is late, as in IceCube's own event displays
# Quantiles of the times, weighted by the root of the charge; hits beyond have the colour of these.
_SHOWN_TIMES = 0.04, 0.96
_AREA, _MIN_AREA, _MAX_AREA = 12.0, 5.0, 600.0  # points²: of 1 PE, and limits
_LEGEND_CHARGES = (1, 10, 100, 1000)


class NotebookFigure(Figure):
    """A figure that notebooks show as a picture, without pyplot."""

    def _repr_png_(self) -> bytes:
        png = BytesIO()
        self.savefig(png, format="png", dpi=100)
        return png.getvalue()


def plot_event(
    hits: Hits, event: int = 0, charge_feature: int = 0, time_feature: int | None = None
) -> Figure:
    """Draw the hit strings of an event from the top, and its hit DOMs from the side.

    The area of a marker is proportional to the square root of the charge, its colour is the time of
    the first pulse; that of a string is the one of its DOM with the highest charge.

    Parameters
    ----------
    hits
        Hits of n events.
    event
        Number of the event, 0 … n - 1.
    charge_feature
        Feature that holds the charge of a DOM [PE].
    time_feature
        Feature that holds the time of its first pulse [ns]; None: that of the data formats with 9
        and with 3 features.

    Raises
    ------
    DataError
        If the hits are invalid, or there is no such event or feature.

    Examples
    --------
    >>> from dnn_reco import plot_event, simulate_events
    >>> events = simulate_events(1, flavor="numu", energy=(1e5, 1e6))
    >>> plot_event(events.hits).savefig("event.png")
    """
    check_hits(hits)
    _check_event(hits, event)
    time_feature = _checked_features(hits, charge_feature, time_feature)
    shown = hits.part(event, event + 1)
    charge, time = shown.features[:, charge_feature], shown.features[:, time_feature]
    colors = _time_colors(time, charge)

    figure = NotebookFigure(figsize=_SIZE, layout="constrained")
    figure.suptitle(f"{len(charge)} hit DOMs, {charge.sum():,.1f} PE", fontsize="medium")
    top, side = figure.subplots(1, 2)
    _draw_detector(top, side)
    position = dom_positions()[shown.dom]
    _draw_markers(side, position[:, [0, 2]], charge, time, colors)
    brightest, string_charge = _strings(shown.dom, charge)
    _draw_markers(top, position[brightest, :2], string_charge, time[brightest], colors)
    figure.colorbar(
        colors, ax=side, extend="both", shrink=0.85, label="time of the first pulse [ns]"
    )
    _add_legend(figure, side, string_charge)
    return figure


def _check_event(hits: Hits, event: int) -> None:
    if not 0 <= event < hits.num_events:
        raise DataError(f"there is no event {event}: there are {hits.num_events}, counted from 0")


def _checked_features(hits: Hits, charge: int, time: int | None) -> int:
    """The feature that holds the time, with both features checked."""
    if time is None:
        time = FIRST_TIME_FEATURE.get(hits.num_features)
    if time is None:
        raise DataError(
            f"it is not known which of {hits.num_features} features is the time of the first "
            "pulse: give its number as time_feature"
        )
    for name, feature in (("charge_feature", charge), ("time_feature", time)):
        if not 0 <= feature < hits.num_features:
            raise DataError(
                f"{name} is {feature}, but there are {hits.num_features} features, counted from 0"
            )
    return time


def _area(charge: NDArray[np.floating]) -> NDArray[np.floating]:
    """Area of markers [points²]."""
    return np.asarray(np.clip(_AREA * np.sqrt(np.maximum(charge, 0)), _MIN_AREA, _MAX_AREA))


def _time_colors(time: NDArray[np.floating], charge: NDArray[np.floating]) -> ScalarMappable:
    """Colours of times [ns]; noise hits, which are faint, hardly change their range."""
    order = np.argsort(time)
    share = np.cumsum(np.sqrt(np.maximum(charge[order], 0)))
    low, high = 0.0, 1.0
    if len(time) and share[-1] > 0:
        inside = np.searchsorted(share, np.array(_SHOWN_TIMES) * share[-1])
        low, high = time[order][inside]
    return ScalarMappable(Normalize(low, max(high, low + 1.0)), _COLORS)


def _strings(
    dom: NDArray[np.integer], charge: NDArray[np.floating]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The hit of the highest charge of each hit string [s], and the charge of the string [s]."""
    string = dom // NUM_DOMS_PER_STRING
    order = np.lexsort((charge, string))
    is_last = np.diff(string[order], append=-1) != 0
    total = np.bincount(string, charge, NUM_STRINGS)
    return order[is_last], total[string[order[is_last]]]


def _draw_detector(top: Axes, side: Axes) -> None:
    """All strings in grey."""
    strings = dom_positions().reshape(NUM_STRINGS, NUM_DOMS_PER_STRING, 3)
    top.scatter(strings[:, 0, 0], strings[:, 0, 1], 8, color=_STRING_COLOR, zorder=1)
    top.set(title="Top view: strings", xlabel="x [m]", ylabel="y [m]", aspect="equal")
    lines = strings[:, [0, -1]][:, :, [0, 2]]
    side.add_collection(LineCollection(list(lines), colors=_STRING_COLOR, linewidths=0.6))
    side.autoscale_view()
    side.set(title="Side view: DOMs", xlabel="x [m]", ylabel="z [m]", aspect="equal")


def _draw_markers(
    panel: Axes,
    place: NDArray[np.floating],
    charge: NDArray[np.floating],
    time: NDArray[np.floating],
    colors: ScalarMappable,
) -> None:
    """Markers at places [k, 2], the faint ones on top of the bright ones."""
    order = np.argsort(-charge, kind="stable")
    x, y = place[order].T
    panel.scatter(
        x,
        y,
        _area(charge[order]),
        c=colors.to_rgba(time[order]),
        edgecolors="black",
        linewidths=0.25,
        zorder=3,
    )


def _add_legend(figure: Figure, panel: Axes, charge: NDArray[np.floating]) -> None:
    """Sizes of some charges up to the largest one."""
    for value in _LEGEND_CHARGES:
        if value <= charge.max(initial=1.0):
            area = float(_area(np.array([value]))[0])
            panel.scatter([], [], area, color="0.5", label=f"{value:,} PE")
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
