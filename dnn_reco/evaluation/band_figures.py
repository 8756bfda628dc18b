"""Figures of quantiles against a variable: a line for the median and a band around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dnn_reco.evaluation.event_types import ALL_EVENTS, Mask, parts
from dnn_reco.evaluation.metrics import weights_of
from dnn_reco.evaluation.variables import LEAST_EVENTS, Variable, quantiles_in_bins
from dnn_reco.figure_style import (
    GREY,
    color,
    legend_below,
    log_axis,
    marker,
    panels,
    say_too_few,
    title_above,
)

Values = NDArray[np.float64]

_PANEL = 2.9, 2.5  # inches


def rows_with_bands(
    shown: Sequence[tuple[str, Values]],
    types: Mapping[str, Mask],
    against: Sequence[Variable],
) -> tuple[dict[str, Mask], list[Variable]]:
    """Event types and variables that have a bin of enough events with known values.

    All events together where no type has enough; nothing if they have not either.

    Parameters
    ----------
    shown
        Name and values [n] of each reconstruction.
    types
        The events of each type [n], by its name.
    against
        The variables.
    """
    divided = {name: mask for name, mask in parts(types).items() if mask.sum() >= LEAST_EVENTS}
    whole = {name: mask for name, mask in types.items() if name == ALL_EVENTS}
    for chosen in (divided, whole):
        rows = [each for each in against if _has_bands(shown, chosen, each)]
        if rows:
            return chosen, rows
    return {}, []


def _has_bands(
    shown: Sequence[tuple[str, Values]], types: Mapping[str, Mask], variable: Variable
) -> bool:
    """Whether there is a median in a bin."""
    if len(variable.edges) < 2:
        return False
    medians = (
        quantiles_in_bins(values[mask], variable.values[mask], variable.edges, [50])
        for _, values in shown
        for mask in types.values()
    )
    return any(np.isfinite(each).any() for each in medians)


def band_figure(
    shown: Sequence[tuple[str, Values]],
    types: Mapping[str, Mask],
    against: Sequence[Variable],
    percents: tuple[float, float, float],
    axis: str,
    title: str,
    log: bool = False,
    weights: Values | None = None,
) -> Figure:
    """Quantiles of values against variables: a column for each event type, a row for each variable.

    Parameters
    ----------
    shown
        Name and values [n] of each reconstruction.
    types
        The events of each type [n], by its name.
    against
        The variables.
    percents
        The lower end of the band, the line, and the upper end, in percent.
    axis
        What the vertical axis is called, with the unit.
    title
        Title of the figure.
    log
        Whether the vertical axis is logarithmic; otherwise there is a line at 0.
    weights
        Weight [n] of each event; None: all are equal.
    """
    figure, axes = panels(len(against), len(types), _PANEL)
    title_above(figure, title)
    rows = np.array(axes, dtype=object).reshape(len(against), len(types))
    for row, variable in zip(rows, against, strict=True):
        for panel, mask in zip(row, types.values(), strict=True):
            panel.set_xlabel(variable.axis)
            if panel is not row[0]:
                panel.sharex(row[0])
                panel.tick_params(labelleft=False)
            if panel is not axes[0]:
                panel.sharey(axes[0])
            if variable.log:
                log_axis(panel.xaxis, few_decades=variable.edges[-1] < 200 * variable.edges[0])
            _draw_bands(panel, shown, mask, variable, percents, weights)
            if log:
                log_axis(panel.yaxis, few_decades=True)
            else:
                panel.axhline(0, color=GREY, lw=0.8, zorder=0)
        row[0].set_ylabel(axis)
    for panel, (name, mask) in zip(rows[0], types.items(), strict=True):
        panel.set_title(f"{name}, {mask.sum():,} events", fontsize="medium")
    legend_below(figure, axes, order=[name for name, _ in shown])
    return figure


def _draw_bands(
    panel: Axes,
    shown: Sequence[tuple[str, Values]],
    mask: Mask,
    variable: Variable,
    percents: Sequence[float],
    weights: Values | None,
) -> None:
    """A line for the middle quantile and a band between the outer ones, for each model."""
    centers, edges = variable.centers, variable.edges
    weight = weights_of(mask, weights)
    is_empty = True
    for number, (name, values) in enumerate(shown):
        found = quantiles_in_bins(values[mask], variable.values[mask], edges, percents, weight)
        low, middle, high = found.T
        is_empty &= not np.isfinite(middle).any()
        style: Any = {"color": color(number)}
        panel.fill_between(centers, low, high, alpha=0.12, lw=0, **style)
        for outer in (low, high):
            panel.plot(centers, outer, lw=0.8, ls=":", **style)
        panel.plot(centers, middle, lw=1.6, marker=marker(number), ms=4, label=name, **style)
    if is_empty:
        say_too_few(panel)
