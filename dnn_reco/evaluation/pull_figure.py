"""Distributions of the pulls of labels, beside the normal one that they should have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dnn_reco.evaluation.metrics import event_number, known_only
from dnn_reco.figure_style import (
    GREY,
    color,
    first_column,
    legend_below,
    panel_grid,
    say_too_few,
    title_above,
)

Values = NDArray[np.float64]

_COLUMNS = 4
_PANEL = (2.7, 2.3)
_RANGE = -5.0, 5.0
_BINS = (10, 50)
"""Fewest and most bins of the histograms."""


def pull_figure(
    pulls: Mapping[str, Mapping[str, Values]],
    labels: Sequence[str],
    weights: Values | None = None,
    title: str = "",
) -> Figure:
    """A panel with the distributions of all reconstructions for each label.

    Parameters
    ----------
    pulls
        Pulls [n] by reconstruction and label.
    labels
        The labels that are shown.
    weights
        Weights [n]; None: all are equal.
    title
        Title of the figure; empty: none.
    """
    figure, axes = panel_grid(len(labels), _COLUMNS, _PANEL)
    if title:
        title_above(figure, title)
    shown = [of[label] for of in pulls.values() for label in labels if label in of]
    edges = np.linspace(*_RANGE, num_bins(shown, weights, 2, _BINS) + 1)
    fine = np.linspace(*_RANGE, 201)
    normal = np.exp(-np.square(fine) / 2) / np.sqrt(2 * np.pi)
    for panel, label in zip(axes, labels, strict=True):
        for number, (name, of_labels) in enumerate(pulls.items()):
            if label in of_labels:
                density = density_in_bins(of_labels[label], edges, weights)
                panel.stairs(density, edges, color=color(number), label=name, lw=1.4)
        if not any(label in of and np.isfinite(of[label]).any() for of in pulls.values()):
            say_too_few(panel)
        panel.plot(fine, normal, color=GREY, ls="--", lw=1.2, label="normal distribution")
        panel.set_title(label, fontsize=9)
        panel.set(xlabel="pull (residual / uncertainty)", xlim=_RANGE)
    for panel in first_column(axes):
        panel.set_ylabel("density")
    legend_below(figure, axes, order=list(pulls))
    return figure


def density_in_bins(values: Values, edges: Values, weights: Values | None) -> Values:
    """Density of values [n] in bins; those outside and unknown ones are counted, but not shown."""
    known, of_known = known_only(values, weights)
    heights, _ = np.histogram(known, edges, weights=of_known)
    total = len(known) if of_known is None else of_known.sum()
    return np.asarray(heights / (total if total > 0 else 1) / np.diff(edges))


def num_bins(
    samples: Sequence[Values], weights: Values | None, factor: float, limits: tuple[int, int]
) -> int:
    """Bins of a histogram: `factor` times the root of the number of events, within limits.

    Parameters
    ----------
    samples
        Values [n] of each sample; those that are NaN do not count.
    weights
        Weights [n]; None: all are equal.
    factor, limits
        The factor; the fewest and the most bins.
    """
    numbers = []
    for values in samples:
        known, of_known = known_only(values, weights)
        numbers.append(event_number(of_known, len(known)))
    return int(np.clip(factor * np.sqrt(max(numbers, default=0)), *limits))
