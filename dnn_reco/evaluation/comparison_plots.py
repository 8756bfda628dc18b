"""Figures of models side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dnn_reco.evaluation.band_figures import band_figure, rows_with_bands
from dnn_reco.evaluation.comparison import ANGLE_QUANTILES, Comparison, ModelResult
from dnn_reco.evaluation.event_types import Mask, parts
from dnn_reco.evaluation.variables import energy_variable
from dnn_reco.figure_style import color, legend_below, panels

_COLUMNS = 3
_CENTRAL_68 = 15.87, 50.0, 84.13  # percent
_PULLS = np.linspace(-5, 5, 51)

FIGURES = ("opening_angle", "energy", "pulls")
"""Names of the figures that there may be."""

ANGLE_AXIS = "opening angle [°]"

Values = NDArray[np.float64]


def comparison_figures(comparison: Comparison) -> dict[str, Figure]:
    """Those of :data:`FIGURES` that a comparison has something to show in, by name."""
    results, types = comparison.results, comparison.types
    energy, label = comparison.energy, comparison.energy_label
    figures = {}
    if energy is not None and label is not None:
        variable = [energy_variable(energy, label)]
        # where all is 0 or absent, there is no logarithmic axis
        angles = [(name, positive(angle)) for name, angle in _angles(results)]
        shown_types, rows = rows_with_bands(angles, types, variable)
        if rows:
            figures["opening_angle"] = opening_angles(results, shown_types, energy, label)
        shown_types, rows = rows_with_bands(_energy_residuals(results), types, variable)
        if rows:
            figures["energy"] = energy_residuals(results, shown_types, energy, label)
    shown = sorted({name for each in results for name in each.pulls})
    return {**figures, "pulls": pull_distributions(results, shown)}


def opening_angles(
    results: Sequence[ModelResult], types: Mapping[str, Mask], energy: Values, label: str
) -> Figure:
    """Median and band from the 20 % to the 80 % quantile of the opening angle against energy."""
    title = "Median opening angle; bands: 20 % to 80 % of the events"
    variable, percents = energy_variable(energy, label), ANGLE_QUANTILES
    shown = _angles(results)
    return band_figure(shown, parts(types), [variable], percents, ANGLE_AXIS, title, log=True)


def energy_residuals(
    results: Sequence[ModelResult], types: Mapping[str, Mask], energy: Values, label: str
) -> Figure:
    """Median and central 68 % of the residual of log10 of the energy against energy."""
    title = f"Median residual of {label}; bands: central 68 % of the events"
    axis, variable = "log10(reconstructed / true)", energy_variable(energy, label)
    shown = _energy_residuals(results)
    return band_figure(shown, parts(types), [variable], _CENTRAL_68, axis, title)


def pull_distributions(results: Sequence[ModelResult], labels: Sequence[str]) -> Figure:
    """Distributions of the pulls of some labels, beside the normal one that they should have."""
    columns = max(min(len(labels), _COLUMNS), 1)
    figure, axes = panels(max(math.ceil(len(labels) / columns), 1), columns)
    figure.suptitle("Pulls; dashed: normal distribution", fontsize="medium")
    for panel in axes[len(labels) :]:
        panel.set_axis_off()
    for panel, label in zip(axes, labels, strict=False):
        panel.set_title(label, fontsize="medium")
        panel.plot(_PULLS, np.exp(-(_PULLS**2) / 2) / np.sqrt(2 * np.pi), "k--", lw=1)
        for number, result in enumerate(results):
            if label in result.pulls:
                pulls = result.pulls[label]
                counts, _ = np.histogram(pulls, _PULLS)
                density = counts / (np.isfinite(pulls).sum() * (_PULLS[1] - _PULLS[0]))
                panel.stairs(density, _PULLS, lw=1.5, label=result.name, color=color(number))
    for panel in axes:
        panel.set_xlabel("residual / uncertainty")
    for panel in axes[::columns]:
        panel.set_ylabel("density")
    legend_below(figure, axes)
    return figure


def positive(values: Values) -> Values:
    """Values [n] that a logarithmic axis can show: those that are not positive become NaN."""
    return np.where(values > 0, values, np.nan)


def _angles(results: Sequence[ModelResult]) -> list[tuple[str, Values]]:
    return [(each.name, each.angle) for each in results if each.angle is not None]


def _energy_residuals(results: Sequence[ModelResult]) -> list[tuple[str, Values]]:
    return [
        (each.name, each.energy_residual) for each in results if each.energy_residual is not None
    ]
