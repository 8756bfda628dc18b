"""Figures of reconstructed against true values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from dnn_reco.evaluation.metrics import weights_of
from dnn_reco.figure_style import COLORS, COUNTS, panel_grid, say_too_few, title_above

_BINS = 40
_COLUMNS = 3
_PANEL = 3.7, 3.0  # inches
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
    unit
        Their unit; "": none.
    """

    name: str
    true: NDArray[np.float64]
    predicted: NDArray[np.float64]
    log: bool
    unit: str = ""


def reconstructed_against_true(
    labels: Sequence[LabelPoints], title: str, weights: NDArray[np.float64] | None = None
) -> Figure:
    """Two-dimensional histograms of predicted against true values, one panel per label.

    The colour is the logarithm of the number of events: the darker, the more.

    Parameters
    ----------
    labels
        The labels.
    title
        Title of the figure.
    weights
        Weight [N] of each event; None: all are equal.
    """
    figure, axes = panel_grid(len(labels), _COLUMNS, _PANEL)
    title_above(figure, title)
    for panel, label in zip(axes, labels, strict=True):
        _draw(figure, panel, label, weights)
    return figure


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """A figure as a picture [height, width, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]


def _draw(
    figure: Figure, panel: Axes, label: LabelPoints, weights: NDArray[np.float64] | None
) -> None:
    unit = f" [{label.unit}]" if label.unit else ""
    panel.set_title(label.name, fontsize="medium")
    panel.set_xlabel(f"true{unit}")
    panel.set_ylabel(f"reconstructed{unit}")
    panel.set_box_aspect(1)
    shown = np.isfinite(label.true) & np.isfinite(label.predicted)
    if label.log:
        shown &= (label.true > 0) & (label.predicted > 0)
        panel.set_xscale("log")
        panel.set_yscale("log")
    if not shown.any():
        say_too_few(panel)
        return
    true, predicted = label.true[shown], label.predicted[shown]
    edges = _edges(np.concatenate([true, predicted]), label.log)
    counts, _, _ = np.histogram2d(
        true, predicted, [edges, edges], weights=weights_of(shown, weights)
    )
    filled = np.ma.masked_less_equal(counts.T, 0)
    if filled.count():
        least = float(filled.min())
        norm = LogNorm(0.3 * least, max(float(filled.max()), least))
        mesh = panel.pcolormesh(edges, edges, filled, norm=norm, cmap=COUNTS, rasterized=True)
        scale = figure.colorbar(
            mesh,
            ax=panel,
            label="events in a bin" if weights is None else "sum of weights in a bin",
            shrink=0.8,
            ticks=LogLocator(subs=(1, 2, 5)),
            format="%g",
        )
        scale.ax.set_ylim(bottom=0.9 * least)
        scale.minorticks_off()
    panel.axline((edges[0], edges[0]), (edges[-1], edges[-1]), color=COLORS[1], lw=1.5, ls="--")


def _edges(values: NDArray[np.float64], log: bool) -> NDArray[np.float64]:
    """Edges of bins for values that are finite, and positive if `log`."""
    low = float(np.quantile(values, _SHOWN[0], method="lower"))
    high = float(np.quantile(values, _SHOWN[1], method="higher"))
    if log:
        return np.geomspace(low, max(high, 1.01 * low), _BINS + 1)
    return np.linspace(low, max(high, low + 1e-2), _BINS + 1)
