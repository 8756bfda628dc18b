"""Figures of how well a network reconstructs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

_BINS = 40
_COLUMNS = 3
_PANEL_SIZE = 3.4  # inches
# Events beyond these quantiles of the true or predicted values are not shown.
_SHOWN = 0.005, 0.995


@dataclass(frozen=True)
class LabelPoints:
    """True and predicted values of a label.

    Attributes
    ----------
    name
        Name of the label.
    true, predicted
        Values [N], in physical units.
    log
        Whether to show them on logarithmic axes; values that are not positive are left out then.
    """

    name: str
    true: NDArray[np.float64]
    predicted: NDArray[np.float64]
    log: bool


def reconstructed_against_true(labels: Sequence[LabelPoints], title: str) -> Figure:
    """Two-dimensional histograms of predicted against true values, a panel a label.

    The colour is the logarithm of the number of events: the darker, the more.
    """
    columns = min(len(labels), _COLUMNS)
    rows = math.ceil(len(labels) / columns)
    size = (columns * _PANEL_SIZE, rows * _PANEL_SIZE + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, label in zip(panels, labels, strict=False):
        _draw(panel, label)
    for panel in panels[len(labels) :]:
        panel.set_axis_off()
    return figure


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """A figure as a picture [height, width, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]


def _draw(panel: Axes, label: LabelPoints) -> None:
    panel.set_title(label.name, fontsize="medium")
    panel.set_xlabel("true")
    panel.set_ylabel("reconstructed")
    panel.set_box_aspect(1)
    shown = np.isfinite(label.true) & np.isfinite(label.predicted)
    if label.log:
        shown &= (label.true > 0) & (label.predicted > 0)
        panel.set_xscale("log")
        panel.set_yscale("log")
    if not shown.any():
        return
    true, predicted = label.true[shown], label.predicted[shown]
    edges = _edges(np.concatenate([true, predicted]), label.log)
    panel.hist2d(
        true, predicted, bins=[edges, edges], norm=LogNorm(vmin=0.3), cmin=1, cmap="YlGnBu"
    )
    panel.axline((edges[0], edges[0]), (edges[-1], edges[-1]), color="C3", lw=1, ls="--")


def _edges(values: NDArray[np.float64], log: bool) -> NDArray[np.float64]:
    """Edges of bins for values that are finite, and positive if `log`."""
    low = float(np.quantile(values, _SHOWN[0], method="lower"))
    high = float(np.quantile(values, _SHOWN[1], method="higher"))
    if log:
        return np.geomspace(low, max(high, 1.01 * low), _BINS + 1)
    return np.linspace(low, max(high, low + 1e-2), _BINS + 1)
