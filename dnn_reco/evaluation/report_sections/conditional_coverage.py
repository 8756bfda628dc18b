"""Section of the report: coverage in groups of events.

Uncertainties that are right on average may be too small for some events and too large for others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dnn_reco.evaluation.coverage import (
    COVERAGE_LEVELS,
    CellTest,
    CoverageCell,
    LabelDeviation,
    coverage_cell,
    coverage_test,
    pull_width_test,
)
from dnn_reco.evaluation.event_groups import (
    Groups,
    energy_and_type_cells,
    event_groups,
)
from dnn_reco.evaluation.formats import format_count, format_measured, format_share
from dnn_reco.evaluation.metrics import weights_of
from dnn_reco.evaluation.reconstruction import Evaluation
from dnn_reco.evaluation.report_sections.section import ReportFigure, ReportTable, Section
from dnn_reco.evaluation.residuals import energy_label
from dnn_reco.evaluation.variables import LEAST_EVENTS
from dnn_reco.figure_style import GREY, color, legend_below, marker, panels, say_too_few
from dnn_reco.nn.density_layout import DIRECTION

LEAST_OF_CELL = 300
"""Cells of energy and type with fewer events are not tested: their statistical errors hide all."""

_PERCENT = 68
_SMALLEST_P = 1e-10
_TEXT = (
    "Uncertainties may be correct on average, yet too small for some events and too large for "
    "others. Where a reconstruction is shown with and without calibration, they are compared "
    f"here. Groups of fewer than {LEAST_EVENTS} events are omitted.",
    "The χ² compares the coverage of all cells of reconstructed energy and true event type with "
    "the nominal one, and the widths of the pulls with 1. A p-value below 0.01 means that "
    "coverage or widths deviate in some cells. In bins of true energy, deviations at both ends "
    "are expected: at the lower end events are reconstructed too high, at the upper end too low. "
    "The same holds for true types that are hard to distinguish: given the reconstructed type, "
    "correct uncertainties do not deviate.",
)

Key = tuple[str, str]
"""Name of a reconstruction, and quantity."""
Cells = Mapping[str, CoverageCell]


def conditional_coverage_section(
    evaluation: Evaluation,
    deviations: Mapping[str, Mapping[str, LabelDeviation]],
    levels: Mapping[str, Mapping[str, NDArray[np.float64]]],
) -> Section | None:
    """Coverage of the direction and of the energy in parts of the events; None: there is neither.

    Parameters
    ----------
    evaluation
        The reconstructions and the truth.
    deviations
        Deviations of labels, by reconstruction and label.
    levels
        Credible levels [n], by reconstruction and label or "direction".
    """
    quantities = [name for name in (DIRECTION, energy_label(evaluation)) if name is not None]
    series = {
        (model, quantity): (of_model[quantity], deviations[model].get(quantity))
        for quantity in quantities
        for model, of_model in levels.items()
        if quantity in of_model
    }
    if not series:
        return None
    weights = evaluation.events.weights
    groups = {each.name: event_groups(evaluation, each) for each in evaluation.reconstructions}
    by_variable = {
        variable: _cells(
            series, {name: found.get(variable, {}) for name, found in groups.items()}, weights
        )
        for variable in dict.fromkeys(name for found in groups.values() for name in found)
    }
    cells_of = {
        each.name: energy_and_type_cells(evaluation, each) for each in evaluation.reconstructions
    }
    of_type_and_energy = _cells(series, cells_of, weights)
    tested = {
        key: {name: cell for name, cell in cells.items() if cell.number >= LEAST_OF_CELL}
        for key, cells in of_type_and_energy.items()
    }
    tests = {key: _tests(cells) for key, cells in tested.items() if cells}
    shown = _of_enough_events(by_variable)
    tables = [_table(f"Coverage by {name}.", cells) for name, cells in shown.items()]
    if tests:
        caption = (
            "Coverage by reconstructed energy and event type, in cells of at least "
            f"{LEAST_OF_CELL} events."
        )
        tables += [_table(caption, tested), _test_table(tests)]
    figures = []
    if shown:
        caption = (
            f"Share of {len(evaluation.events):,} events inside of their {_PERCENT} % regions, and "
            "half the central 68 % width of the pulls, in groups of events. Dashed: correct "
            "uncertainties."
        )
        figures.append(ReportFigure("conditional_coverage", caption, _figure(shown, list(levels))))
    numbers = {"conditional_coverage": _numbers(by_variable, tested, tests)}
    return Section("Coverage in groups of events", _TEXT, tables, figures, numbers)


def _cells(
    series: Mapping[Key, tuple[NDArray[np.float64], LabelDeviation | None]],
    groups: Mapping[str, Groups],
    weights: NDArray[np.float64] | None,
) -> dict[Key, Cells]:
    """The cells of each reconstruction and quantity, by part of the events.

    Parameters
    ----------
    series
        Credible levels and deviations by reconstruction and quantity.
    groups
        The parts of the events, by reconstruction.
    weights
        Weights [n]; None: all are equal.
    """
    return {
        key: {
            name: coverage_cell(
                level[mask],
                None if of_label is None else of_label.pull[mask],
                weights_of(mask, weights),
            )
            for name, mask in groups[key[0]].items()
        }
        for key, (level, of_label) in series.items()
    }


def _of_enough_events(
    by_variable: Mapping[str, Mapping[Key, Cells]],
) -> dict[str, dict[Key, Cells]]:
    """The cells of at least 20 events, of the variables that have some."""
    enough: dict[str, dict[Key, Cells]] = {
        variable: {
            key: {name: cell for name, cell in cells.items() if cell.number >= LEAST_EVENTS}
            for key, cells in of_variable.items()
        }
        for variable, of_variable in by_variable.items()
    }
    return {variable: found for variable, found in enough.items() if any(found.values())}


def _tests(cells: Cells) -> dict[str, CellTest]:
    """The χ² of each coverage and of the pull width, by what is tested."""
    of_coverage = {
        f"coverage {percent} %": coverage_test(list(cells.values()), percent)
        for percent in COVERAGE_LEVELS
    }
    width = pull_width_test(list(cells.values()))
    return {**of_coverage, "68 % pull width": width} if width.num_cells else of_coverage


def _table(caption: str, found: Mapping[Key, Cells]) -> ReportTable:
    """A row for each part of the events, quantity and reconstruction."""
    parts = list(dict.fromkeys(name for cells in found.values() for name in cells))
    rows = [
        [
            part,
            quantity,
            model,
            format_count(cells[part].number),
            *map(format_share, cells[part].shares.values()),
            format_measured(cells[part].pull_width),
        ]
        for part in parts
        for (model, quantity), cells in found.items()
        if part in cells
    ]
    columns = ["events", "quantity", "reconstruction", "number"]
    columns += [f"inside of {percent} %" for percent in COVERAGE_LEVELS]
    return ReportTable(caption, [*columns, "68 % pull width"], rows)


def _test_table(tests: Mapping[Key, Mapping[str, CellTest]]) -> ReportTable:
    rows = [
        [quantity, model, what, str(test.num_cells), f"{test.chi_square:.1f}", _format_p(test)]
        for (model, quantity), of_key in tests.items()
        for what, test in of_key.items()
    ]
    columns = ["quantity", "reconstruction", "tested", "cells", "χ²", "p-value"]
    return ReportTable("All cells together.", columns, rows)


def _format_p(test: CellTest) -> str:
    return f"{test.p_value:.2g}" if test.p_value >= _SMALLEST_P else f"< {_SMALLEST_P:g}"


def _figure(by_variable: Mapping[str, Mapping[Key, Cells]], models: Sequence[str]) -> Figure:
    """A column for each variable; rows: coverage of each quantity, and pull widths.

    The models are in the order of their colours, whether or not they give all quantities; those
    without uncertainties are not drawn.
    """
    keys = list(next(iter(by_variable.values())))
    with_uncertainties = {model for model, _ in keys}
    quantities = list(dict.fromkeys(quantity for _, quantity in keys))
    rows = [(quantity, False) for quantity in quantities]
    rows += [(quantity, True) for quantity in quantities if quantity != DIRECTION]
    figure, axes = panels(len(rows), len(by_variable), (2.6, 2.3))
    for i, panel in enumerate(axes):
        quantity, is_width = rows[i // len(by_variable)]
        variable = list(by_variable)[i % len(by_variable)]
        found, expected = by_variable[variable], 1 if is_width else _PERCENT
        panel.axhline(expected, color=GREY, ls="--", lw=1)
        parts = list(dict.fromkeys(name for cells in found.values() for name in cells))
        is_empty = True
        for j, model in enumerate(models):
            if model not in with_uncertainties:
                continue
            cells = found.get((model, quantity), {})
            points = [_point(cells.get(part), is_width) for part in parts]
            is_empty &= not np.isfinite(points).any()
            value, low, high = np.array(points).reshape(-1, 3).T
            x = np.arange(len(parts)) + 0.14 * (j - (len(models) - 1) / 2)
            panel.errorbar(
                x, value, [low, high], color=color(j), marker=marker(j), ms=4, ls="",
                lw=1.3, label=model,
            )  # fmt: skip
        if is_empty:
            say_too_few(panel)
        panel.set_xticks(range(len(parts)))
        is_last = i >= len(axes) - len(by_variable)
        names = parts if is_last else [""] * len(parts)
        panel.set_xticklabels(names, rotation=40, ha="right", fontsize=8)
        panel.set_xlim(-0.6, len(parts) - 0.4)
        panel.grid(axis="x", visible=False)
        if i < len(by_variable):
            panel.set_title(f"by {variable}", fontsize=9.5)
        if i % len(by_variable) == 0:
            what = "68 % pull width" if is_width else f"inside of {_PERCENT} % [%]"
            panel.set_ylabel(f"{quantity}\n{what}", fontsize=8.5)
    legend_below(figure, axes, order=models)
    return figure


def _point(cell: CoverageCell | None, is_width: bool) -> tuple[float, float, float]:
    """Value and lower and upper error of a point; NaN where there is none."""
    if cell is None or (is_width and cell.pull_width is None):
        return (np.nan,) * 3
    if is_width and cell.pull_width is not None:
        return float(cell.pull_width.value), *(float(cell.pull_width.error),) * 2
    value, low, high = (100 * float(part) for part in cell.shares[_PERCENT])
    return value, value - low, high - value


def _numbers(
    by_variable: Mapping[str, Mapping[Key, Cells]],
    tested: Mapping[Key, Cells],
    tests: Mapping[Key, Mapping[str, CellTest]],
) -> dict[str, Any]:
    def of_cells(found: Mapping[Key, Cells]) -> dict[str, Any]:
        return {
            "/".join(key): {name: _cell_numbers(cell) for name, cell in cells.items()}
            for key, cells in found.items()
        }

    numbers: dict[str, Any] = {name: of_cells(found) for name, found in by_variable.items()}
    numbers["energy and type"] = of_cells(tested)
    numbers["tests"] = {
        "/".join(key): {
            what: {
                "chi_square": test.chi_square,
                "cells": test.num_cells,
                "p_value": test.p_value,
            }
            for what, test in of_key.items()
        }
        for key, of_key in tests.items()
    }
    return numbers


def _cell_numbers(cell: CoverageCell) -> dict[str, Any]:
    shares = {str(percent): share for percent, share in cell.shares.items()}
    width = {} if cell.pull_width is None else {"pull_68": cell.pull_width}
    return {"events": cell.number, **shares, **width}
