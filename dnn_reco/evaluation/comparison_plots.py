"""Figures of models side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from dnn_reco.evaluation.comparison import (
    ALL_EVENTS,
    ANGLE_QUANTILES,
    LEAST_EVENTS,
    Comparison,
    Mask,
    ModelResult,
    decade_edges,
    quantiles_by_energy,
)

# Colours that are distinct for those with any colour blindness (Okabe & Ito, 2008).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_BINS_A_DECADE = 3
_PANEL = 3.6, 3.4  # inches
_COLUMNS = 3
_CENTRAL_68 = 15.87, 50, 84.13  # percent
_PULLS = np.linspace(-5, 5, 51)

FIGURES = ("opening_angle", "energy", "pulls")
"""Names of the figures that there may be."""

Values = NDArray[np.float64]


def comparison_figures(comparison: Comparison) -> dict[str, Figure]:
    """Those of :data:`FIGURES` that a comparison has something to show in, by name."""
    results, types = comparison.results, comparison.types
    energy, label = comparison.energy, comparison.energy_label
    figures = {}
    if energy is not None and label is not None:
        # where all is 0 or absent, there is no logarithmic axis
        angles = [
            np.where(each.angle > 0, each.angle, np.nan)
            for each in results
            if each.angle is not None
        ]
        if _has_bands(angles, types, energy):
            figures["opening_angle"] = opening_angles(results, types, energy, label)
        shifts = [each.energy_residual for each in results if each.energy_residual is not None]
        if _has_bands(shifts, types, energy):
            figures["energy"] = energy_residuals(results, types, energy, label)
    shown = sorted({name for each in results for name in each.pulls})
    return {**figures, "pulls": pull_distributions(results, shown)}


def opening_angles(
    results: Sequence[ModelResult], types: Mapping[str, Mask], energy: Values, label: str
) -> Figure:
    """Median and band from the 20 % to the 80 % quantile of the opening angle against energy."""
    shown = [(each, each.angle) for each in results if each.angle is not None]
    figure, panels = _bands(shown, types, energy, ANGLE_QUANTILES)
    for panel in panels:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        panel.yaxis.set_minor_formatter(NullFormatter())
    title = "Median opening angle; bands: 20 % to 80 % of the events"
    axes = f"true {label} [GeV]", "opening angle [°]"
    return _finished(figure, panels, len(panels), title, *axes)


def energy_residuals(
    results: Sequence[ModelResult], types: Mapping[str, Mask], energy: Values, label: str
) -> Figure:
    """Median and central 68 % of the residual of log10 of the energy against energy."""
    shown = [(c, c.energy_residual) for c in results if c.energy_residual is not None]
    figure, panels = _bands(shown, types, energy, _CENTRAL_68)
    for panel in panels:
        panel.axhline(0, color="0.5", lw=0.8, zorder=0)
    title = f"Median residual of {label}; bands: central 68 % of the events"
    axes = f"true {label} [GeV]", "log10(reconstructed / true)"
    return _finished(figure, panels, len(panels), title, *axes)


def pull_distributions(results: Sequence[ModelResult], labels: Sequence[str]) -> Figure:
    """Distributions of the pulls of some labels, beside the normal one that they should have."""
    columns = max(min(len(labels), _COLUMNS), 1)
    rows = max(math.ceil(len(labels) / columns), 1)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for panel in panels[len(labels) :]:
        panel.set_axis_off()
    for panel, label in zip(panels, labels, strict=False):
        panel.set_title(label, fontsize="medium")
        panel.plot(_PULLS, np.exp(-(_PULLS**2) / 2) / np.sqrt(2 * np.pi), "k--", lw=1)
        for number, result in enumerate(results):
            if label in result.pulls:
                pulls = result.pulls[label]
                counts, _ = np.histogram(pulls, _PULLS)
                density = counts / (len(pulls) * (_PULLS[1] - _PULLS[0]))
                panel.stairs(density, _PULLS, lw=1.5, label=result.name, color=_colour(number))
    title = "Pulls; dashed: normal distribution"
    return _finished(figure, panels, columns, title, "residual / uncertainty", "density")


def _has_bands(values: Sequence[Values], types: Mapping[str, Mask], energy: Values) -> bool:
    """Whether some model has a median in an energy bin, of enough events with known values."""
    if len(decade_edges(energy)) == 0:
        return False
    medians = (
        quantiles_by_energy(each[mask], energy[mask], _edges(energy), [50])
        for each in values
        for mask in _parts(types).values()
    )
    return any(np.isfinite(each).any() for each in medians)


def _parts(types: Mapping[str, Mask]) -> dict[str, Mask]:
    """The event types; all events if there is none."""
    return {name: mask for name, mask in types.items() if name != ALL_EVENTS} or dict(types)


def _bands(
    shown: Sequence[tuple[ModelResult, Values]],
    types: Mapping[str, Mask],
    energy: Values,
    percents: Sequence[float],
) -> tuple[Figure, list[Axes]]:
    """A panel for each event type, side by side with the same axes; all events if there is none."""
    parts = _parts(types)
    figure = Figure(figsize=(_PANEL[0] * max(len(parts), 2), _PANEL[1] + 0.5), layout="constrained")
    panels = list(figure.subplots(1, len(parts), squeeze=False, sharex=True, sharey=True).ravel())
    for panel, (name, mask) in zip(panels, parts.items(), strict=True):
        panel.set_title(f"{name}, {mask.sum():,} events", fontsize="medium")
        panel.set_xscale("log")
        panel.grid(alpha=0.3, lw=0.5)
        _draw_bands(panel, shown, mask, energy, percents)
    return figure, panels


def _draw_bands(
    panel: Axes,
    shown: Sequence[tuple[ModelResult, Values]],
    mask: Mask,
    energy: Values,
    percents: Sequence[float],
) -> None:
    """A line for the middle quantile and a band between the outer ones, for each model."""
    edges = _edges(energy)
    centres = np.sqrt(edges[:-1] * edges[1:])
    for number, (result, values) in enumerate(shown):
        low, middle, high = quantiles_by_energy(values[mask], energy[mask], edges, percents).T
        colour = _colour(number)
        panel.fill_between(centres, low, high, alpha=0.12, lw=0, color=colour)
        for outer in (low, high):
            panel.plot(centres, outer, lw=0.8, ls=":", color=colour)
        marker = _MARKERS[number % len(_MARKERS)]
        panel.plot(centres, middle, lw=1.6, marker=marker, ms=4, label=result.name, color=colour)


def _edges(energy: Values) -> Values:
    """Edges of the bins, several a decade; those at the ends with few events are left out."""
    decades = decade_edges(energy)
    num_bins = (len(decades) - 1) * _BINS_A_DECADE
    edges = np.geomspace(decades[0], decades[-1], num_bins + 1)
    counts, _ = np.histogram(energy, edges)
    filled = np.flatnonzero(counts >= LEAST_EVENTS)
    return edges[filled[0] : filled[-1] + 2] if len(filled) else edges


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _finished(
    figure: Figure, panels: Sequence[Axes], columns: int, title: str, x: str, y: str
) -> Figure:
    """The figure with a title, names of the axes, and a legend below."""
    figure.suptitle(title, fontsize="medium")
    for panel in panels:
        panel.set_xlabel(x)
    for panel in panels[::columns]:
        panel.set_ylabel(y)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return figure
