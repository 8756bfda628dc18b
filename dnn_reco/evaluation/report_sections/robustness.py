"""Section of the report: how reconstructions change when noise, DOMs, times and charges do."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from dnn_reco.evaluation.formats import format_measured
from dnn_reco.evaluation.metrics import ValueWithError
from dnn_reco.evaluation.report_sections.section import ReportFigure, ReportTable, Section
from dnn_reco.evaluation.robustness import UNCHANGED, Matrix
from dnn_reco.figure_style import panels

_DIFFERENCES = ("coverage 68 %", "energy bias")
"""Figures of merit of which the difference is shown, as 0 may be their value or their best one."""
_MOST_SHOWN = 0.5


def robustness_section(matrices: Mapping[str, Matrix], num_events: int) -> Section | None:
    """Figures of merit with changed hits; None if nothing was changed.

    Parameters
    ----------
    matrices
        Figures of merit by perturbation, the unchanged ones among them, of each reconstruction.
    num_events
        Number of events.
    """
    matrices = {name: matrix for name, matrix in matrices.items() if len(matrix) > 1}
    if not matrices:
        return None
    merits = list(dict.fromkeys(n for m in matrices.values() for of in m.values() for n in of))
    rows = [
        [change, model, *(format_measured(of_change.get(merit)) for merit in merits)]
        for change in dict.fromkeys(name for matrix in matrices.values() for name in matrix)
        for model, matrix in matrices.items()
        if (of_change := matrix.get(change)) is not None
    ]
    titles = [_title(merit) for merit in merits]
    table = ReportTable(
        f"Figures of merit of {num_events:,} events with changed hits.",
        ["change", "reconstruction", *titles],
        rows,
    )
    figure = ReportFigure(
        "robustness",
        f"Change of figures of merit of {num_events:,} events when hits are changed, relative to "
        "those of unchanged hits; of coverage and bias the difference. Red is larger, blue is "
        "smaller.",
        _figure(matrices, merits),
    )
    text = (
        "The same events with hits as systematic effects may change them: noise hits of one "
        "photon, dead DOMs, times and charges of DOMs or of whole events. If the figures of merit "
        "depend on one of them, train the model with this effect (model_kwargs.augmentation), or "
        "on data simulated with it.",
    )
    return Section("Robustness", text, [table], [figure], {"robustness": matrices})


def relative_changes(matrix: Matrix, merit: str) -> dict[str, float]:
    """Change of a figure of merit relative to that of unchanged hits, by perturbation.

    NaN where it is unknown; of coverage (percent) and bias the difference.
    """
    before = _value(matrix[UNCHANGED], merit)
    found = {}
    for name, of_change in matrix.items():
        if name == UNCHANGED:
            continue
        difference = _value(of_change, merit) - before
        if merit in _DIFFERENCES:
            found[name] = difference
        else:
            found[name] = difference / before if before else math.nan
    return found


def _value(of_change: Mapping[str, ValueWithError], merit: str) -> float:
    return float(of_change[merit].value) if merit in of_change else math.nan


def _title(merit: str) -> str:
    units = {"median opening angle": " [°]", "coverage 68 %": " [%]"}
    return merit + units.get(merit, "")


def _figure(matrices: Mapping[str, Matrix], merits: list[str]) -> Figure:
    """A heat map for each reconstruction: a row for each change, a column for each merit."""
    changes = [
        name
        for name in dict.fromkeys(name for matrix in matrices.values() for name in matrix)
        if name != UNCHANGED
    ]
    height = 0.25 * len(changes) + 1.3
    figure, axes = panels(1, len(matrices), (max(0.75 * len(merits), 3) + 1.2, height))
    for number, (panel, (model, matrix)) in enumerate(zip(axes, matrices.items(), strict=True)):
        by_merit = [relative_changes(matrix, merit) for merit in merits]
        values = np.array([[of.get(c, math.nan) for of in by_merit] for c in changes])
        shade = [0.01 if merit == "coverage 68 %" else 1 for merit in merits]
        norm = TwoSlopeNorm(0, -_MOST_SHOWN, _MOST_SHOWN)
        image = panel.imshow(values * shade, cmap="RdBu_r", norm=norm, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if math.isfinite(value):
                is_dark = abs(value * shade[column]) > 0.6 * _MOST_SHOWN
                panel.text(
                    column, row, _change_text(merits[column], value), ha="center", va="center",
                    fontsize=7.5, color="white" if is_dark else "black",
                )  # fmt: skip
        panel.grid(visible=False)
        panel.set_xticks(range(len(merits)), merits, rotation=30, ha="right", fontsize=8)
        panel.set_yticks(range(len(changes)), changes if number == 0 else [], fontsize=8)
        panel.set_title(model, fontsize=9)
    scale = "relative change (coverage, bias: difference)"
    figure.colorbar(image, ax=axes, label=scale, shrink=0.8, extend="both")
    return figure


def _change_text(merit: str, value: float) -> str:
    if merit == "coverage 68 %":
        return _signed(value, 1)
    return _signed(value, 2) if merit in _DIFFERENCES else f"{_signed(100 * value, 0)} %"


def _signed(value: float, decimals: int) -> str:
    """A number with its sign; zero has none."""
    text = f"{value:+.{decimals}f}"
    return text if float(text) else text[1:]
