"""Figures of a comparison of data sets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dnn_reco.data.event_table import NamedColumns
from dnn_reco.evaluation.classification import roc_curve
from dnn_reco.evaluation.classifier_test import ClassifierTest
from dnn_reco.evaluation.data_comparison import (
    DEPTH_EDGES,
    DataComparison,
    EventSample,
    Occupancy,
)
from dnn_reco.evaluation.formats import format_measured
from dnn_reco.evaluation.two_sample import TwoSample
from dnn_reco.figure_style import GREY, color, legend_below, panel_grid, panels, say_too_few
from dnn_reco.inference.model_info import label_unit

Numbers = NDArray[np.float64]

_FEWEST_BINS, _MOST_BINS = 8, 40
_OUTSIDE = 0.5  # percent of the events on either side that the range of a histogram leaves out
_MOST_BARS = 12


def measure_figure(quantities: Sequence[TwoSample], small_p: float) -> Figure:
    """KS statistic of each quantity as bars."""
    figure, (axes,) = panels(1, 1, (7.0, 0.8 + 0.2 * len(quantities)))
    names = [quantity.name for quantity in quantities]
    filled = [quantity.adjusted_p < small_p for quantity in quantities]
    axes.barh(
        range(len(names)),
        [quantity.ks for quantity in quantities],
        color=[color(0) if fill else "white" for fill in filled],
        edgecolor=color(0),
    )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("Kolmogorov-Smirnov statistic")
    return figure


def distribution_figure(comparison: DataComparison, quantities: Sequence[TwoSample]) -> Figure:
    """Histograms of quantities in both data sets."""
    figure, axes = panel_grid(len(quantities), 3)
    for panel, quantity in zip(axes, quantities, strict=True):
        _draw_histograms(panel, comparison, quantity)
    legend_below(figure, axes[0])
    return figure


def _draw_histograms(axes: Axes, comparison: DataComparison, quantity: TwoSample) -> None:
    values = [_column(sample, quantity.name) for sample in comparison.samples]
    weights = [sample.weights for sample in comparison.samples]
    fewest = min(sample.num_events for sample in comparison.samples)
    edges, is_log = _edges(np.concatenate(values), _num_bins(fewest))
    for number, (each, weight) in enumerate(zip(values, weights, strict=True)):
        finite = np.isfinite(each)
        inside = np.clip(each[finite], edges[0], edges[-1])
        counts, _ = np.histogram(inside, edges, weights=weight[finite])
        squares, _ = np.histogram(inside, edges, weights=weight[finite] ** 2)
        total = counts.sum() or 1.0
        share, error = counts / total, np.sqrt(squares) / total
        axes.stairs(share, edges, color=color(number), label="AB"[number], linewidth=1.4)
        lower, upper = np.maximum(share - error, 0.0), share + error
        axes.fill_between(
            edges,
            np.append(lower, lower[-1]),
            np.append(upper, upper[-1]),
            step="post",
            color=color(number),
            alpha=0.25,
            linewidth=0,
        )
    if not all(np.isfinite(each).any() for each in values):
        say_too_few(axes)
    if is_log:
        axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    is_label = quantity.name in comparison.samples[0].labels
    unit = label_unit(quantity.name, {}) if is_label else ""  # inputs name theirs
    axes.set_xlabel(f"{quantity.name} [{unit}]" if unit else quantity.name)
    axes.set_ylabel("share of events")
    axes.set_title(f"KS {quantity.ks:.3f}, adjusted p {quantity.adjusted_p:.1e}", fontsize="small")


def _column(sample: EventSample, name: str) -> Numbers:
    groups: tuple[NamedColumns, ...] = (sample.summaries, sample.hit, sample.labels)
    group = next(group for group in groups if name in group)
    return group[name].astype(np.float64)


def _num_bins(fewest: int) -> int:
    """Bins for samples of so many events, or more."""
    return min(_MOST_BINS, max(_FEWEST_BINS, round(2 * math.sqrt(fewest))))


def _edges(values: Numbers, num_bins: int) -> tuple[Numbers, bool]:
    """Edges of bins, and whether they are logarithmic: where positive values span decades."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return np.linspace(0.0, 1.0, num_bins + 1), False
    low, high = np.percentile(finite, [_OUTSIDE, 100 - _OUTSIDE])
    if low > 0 and high > 100 * low:
        return np.geomspace(low, high, num_bins + 1), True
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, num_bins + 1), False


def occupancy_figure(comparison: DataComparison) -> Figure:
    """Shares of hit DOMs by string and by depth, and their ratios."""
    figure, axes = panels(2, 2, (4.8, 2.4))
    strings = np.arange(comparison.strings.share.shape[1]) + 1.0
    depths = (DEPTH_EDGES[1:] + DEPTH_EDGES[:-1]) / 2
    for column, (places, occupancy, name) in enumerate(
        (
            (strings, comparison.strings, "string"),
            (depths, comparison.layers, "z [m]"),
        )
    ):
        _draw_occupancy(axes[column], axes[2 + column], places, occupancy)
        axes[2 + column].set_xlabel(name)
    legend_below(figure, axes[0])
    return figure


def _draw_occupancy(
    upper: Axes, lower: Axes, places: NDArray[np.floating], occupancy: Occupancy
) -> None:
    for number in (0, 1):
        upper.errorbar(
            places,
            100 * occupancy.share[number],
            100 * occupancy.error[number],
            fmt="os"[number],
            markersize=3,
            linewidth=1,
            color=color(number),
            label="AB"[number],
        )
    upper.set_ylabel("share of hit DOMs [%]")
    upper.set_ylim(bottom=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = occupancy.share[1] / occupancy.share[0]
        error = ratio * np.sqrt(np.square(occupancy.error / occupancy.share).sum(axis=0))
    known = np.isfinite(ratio) & np.isfinite(error)
    lower.axhline(1.0, color=GREY, linewidth=1)
    lower.errorbar(
        places[known], ratio[known], error[known], fmt="o", markersize=3, linewidth=1, color="0.2"
    )
    if known.any():
        lower.set_ylim(0, min(4.0, max(2.0, 1.1 * float(ratio[known].max()))))
    lower.set_ylabel("B / A")


def classifier_figure(test: ClassifierTest) -> Figure:
    """ROC curve, scores and importance of features."""
    figure, (curve, scores, importance) = panels(1, 3, (3.9, 3.4))
    roc = roc_curve(test.score, test.is_second, test.weight)
    curve.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    curve.plot(roc.background, roc.signal, color=color(0))
    curve.set_xlabel("share of A classified as B")
    curve.set_ylabel("share of B classified as B")
    curve.set_title(f"AUC {format_measured(test.area)}")
    low, high = np.percentile(test.score, [_OUTSIDE, 100 - _OUTSIDE]).tolist()
    fewest = int(min(np.count_nonzero(test.is_second), np.count_nonzero(~test.is_second)))
    edges = np.linspace(low, high, _num_bins(fewest) + 1)
    for number, kind in enumerate((~test.is_second, test.is_second)):
        inside = np.clip(test.score[kind], edges[0], edges[-1])
        counts, _ = np.histogram(inside, edges, weights=test.weight[kind])
        scores.stairs(counts / counts.sum(), edges, color=color(number), label="AB"[number])
    scores.set_xlabel("score (logarithm of the odds of B)")
    scores.set_ylabel("share of events")
    scores.set_ylim(bottom=0)
    top = list(test.importance.items())[:_MOST_BARS]
    importance.barh(range(len(top)), [drop for _, drop in top], color=color(0))
    importance.set_yticks(range(len(top)), [name for name, _ in top], fontsize="x-small")
    importance.set_ylim(len(top) - 0.4, -0.6)
    importance.set_xlabel("decrease of the AUC")
    legend_below(figure, scores)
    return figure
