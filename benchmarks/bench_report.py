"""Rows of `bench.py`: their statistics, results.json, and the tables."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from bench_table import (
    BYTES,
    COPY,
    MATRIX,
    QUANTITIES,
    SUMMARY,
    UNITS,
    Line,
    Quantity,
    is_better_if_larger,
)

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
NOTHING = "–"
COLUMNS = 120

Row = dict[str, Any]
Rows = dict[str, Row]


def row_of(quantity: Quantity, values: list[float], reference: float | None) -> Row:
    """Median, 10 % and 90 % quantiles of the values, and how they compare with the reference."""
    low, median, high = (float(value) for value in np.quantile(values, [0.1, 0.5, 0.9]))
    unit = UNITS[quantity.name]
    row: Row = {"unit": unit, "median": median, "low": low, "high": high, "values": values}
    return with_reference(quantity, row, reference)


def with_reference(quantity: Quantity, row: Row, reference: float | None) -> Row:
    """A row with its goal, the reference's figure in the same unit, and their ratio."""
    ratio = None
    if reference is not None and "median" in row:
        better = is_better_if_larger(row["unit"])
        ratio = row["median"] / reference if better else reference / row["median"]
    goal = str(quantity.goal) if quantity.goal else None
    return row | {"goal": goal, "reference": reference, "ratio": ratio}


def rows_of_case(case: str, result: Mapping[str, Any], reference: Mapping[str, float]) -> Rows:
    """Rows of a finished case: with its values, or why there are none (`skipped`, `failed`)."""
    rows, values = {}, result.get("values", {})
    notes = {key: result[key] for key in ("skipped", "failed") if key in result}
    for name, quantity in QUANTITIES.items():
        if quantity.case != case:
            continue
        of_reference = reference.get(name)
        if name in values:
            rows[name] = row_of(quantity, values[name], of_reference)
        else:
            row = {"unit": UNITS[name], **notes}
            rows[name] = with_reference(quantity, row, of_reference)
    return rows


def reference_figures(rows: Mapping[str, Row]) -> dict[str, float]:
    """Figure of the reference for each quantity, from rows of `reference.py`."""
    figures = {}
    for name, quantity in QUANTITIES.items():
        if quantity.reference is not None and quantity.reference in rows:
            row, unit = rows[quantity.reference], UNITS[name]
            factor = BYTES[row["unit"]] / BYTES[unit] if row["unit"] != unit else 1.0
            figures[name] = float(row["median"]) * factor
    return figures


def kept_rows(old: Mapping[str, Any], machine: Mapping[str, Any], events: str) -> Rows:
    """Rows of earlier results that are still measured, if machine and events are the same."""
    if (old.get("machine"), old.get("events")) != (machine, events):
        return {}
    return {name: row for name, row in old["rows"].items() if name in QUANTITIES}


def number(value: float) -> str:
    """Three significant digits, but all of them before the decimal point."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def joined(cells: Iterable[str], unit: str = "") -> str:
    """Cells side by side; one dash if there is nothing in any."""
    cells = list(cells)
    if all(cell == NOTHING for cell in cells):
        return NOTHING
    return f"{' / '.join(cells)} {unit}".strip()


def value_cell(row: Row) -> str:
    if "median" in row:
        return number(row["median"])
    return "failed" if "failed" in row else NOTHING


def goal_cell(quantity: Quantity, row: Row) -> str:
    goal = quantity.goal
    if goal is None:
        return NOTHING
    met = "median" in row and goal.is_met(row["median"], row["ratio"])
    return f"{goal} ✓" if met else str(goal)


def optional_cell(value: float | None) -> str:
    return NOTHING if value is None else number(value)


def summary_line(line: Line, rows: Mapping[str, Row]) -> str | None:
    """A line of the Markdown table; None if nothing of it was measured."""
    pairs = [(quantity, rows.get(quantity.name, {})) for quantity in line.quantities]
    measured = [value_cell(row) for _, row in pairs]
    if all(cell == NOTHING for cell in measured):
        return None
    unit = line.unit if any("median" in row for _, row in pairs) else ""
    cells = [
        line.title,
        joined((optional_cell(row.get("reference")) for _, row in pairs), line.unit),
        joined(measured, unit),
        joined(optional_cell(row.get("ratio")) for _, row in pairs),
        joined(goal_cell(quantity, row) for quantity, row in pairs),
    ]
    return f"| {' | '.join(cells)} |"


def machine_words(results: Mapping[str, Any]) -> str:
    machine, rows = results["machine"], results["rows"]
    words = f"{machine['cpu']}, {machine['cpus']} CPUs, {machine['memory_gb']} GB of memory"
    rates = {"matrix product of 2048² in float32 on two threads": MATRIX, "copy": COPY}
    found = [
        f"{title}: {number(rows[name]['median'])} {UNITS[name]}"
        for title, name in rates.items()
        if "median" in rows.get(name, {})
    ]
    return f"{words} ({'; '.join(found)})" if found else words


def summary(results: Mapping[str, Any]) -> str:
    """The summary in Markdown: what was measured, with medians."""
    software = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    text = (
        f"`make bench`, {results['date'][:10]}: {machine_words(results)}; {software}. "
        f"{results['events']}; tutorial's network with 5 kernels a layer (22,935 weights, 35 "
        "labels), 9 features. Medians; all values, with their spread, are in "
        "`benchmarks/results.json`. The reference is the TensorFlow version "
        "(`benchmarks/reference.py`)."
    )
    lines = [
        textwrap.fill(text, COLUMNS, break_long_words=False, break_on_hyphens=False),
        "",
        "| what | reference | this package | ratio | goal |",
        "|---|---|---|---|---|",
    ]
    found = (summary_line(line, results["rows"]) for line in SUMMARY)
    return "\n".join([*lines, *(line for line in found if line)])


def with_summary(page: str, text: str) -> str:
    """The page with this text between the two marks."""
    marked = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not marked.search(page):
        raise SystemExit(f"{BEGIN} … {END} is missing in the page for the summary")
    return marked.sub(lambda _: f"{BEGIN}\n{text}\n{END}", page, count=1)


def terminal_table(rows: Mapping[str, Row]) -> str:
    """All rows, with the spread of their values."""
    titles = ("median", "10 %", "90 %", "reference", "ratio", "goal")
    lines = [f"{'':34} {'':8} " + " ".join(f"{title:>10}" for title in titles)]
    for name, quantity in QUANTITIES.items():
        if name not in rows:
            continue
        row = rows[name]
        start = f"{name:34} {row['unit']:8} "
        if "median" not in row:
            lines += [start + next((f"{key}: {row[key]}" for key in row if key.endswith("ed")), "")]
            continue
        keys = ("median", "low", "high", "reference", "ratio")
        cells = [*(optional_cell(row[key]) for key in keys), goal_cell(quantity, row)]
        lines.append(start + " ".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)
