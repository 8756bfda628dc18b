"""The held-out events: files, what was dropped and why, event types and energies."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dnn_reco.evaluation.event_types import ALL_EVENTS, Mask, event_types, parts
from dnn_reco.evaluation.formats import format_energy
from dnn_reco.evaluation.held_out_events import HeldOutFiles
from dnn_reco.evaluation.metrics import effective_number, weights_of
from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction
from dnn_reco.evaluation.report_sections.section import ReportFigure, ReportTable, Section
from dnn_reco.evaluation.residuals import energy_label
from dnn_reco.evaluation.variables import Variable, decade_edges, variables
from dnn_reco.figure_style import color, first_column, legend_below, log_axis, panel_grid
from dnn_reco.inference.prediction_table import REASONS

_COLUMNS = 3


def data_section(evaluation: Evaluation, files: HeldOutFiles) -> Section:
    """What the events are."""
    events = evaluation.events
    types = event_types(events.labels, len(events))
    shown = variables(evaluation)
    figures = []
    if shown:
        caption = f"Distributions of the {len(events):,} events, by type."
        figure = _distributions(shown, types, events.weights)
        figures.append(ReportFigure("events", caption, figure))
    tables = [_file_table(evaluation, files), _type_table(evaluation, types)]
    lost = {each.name: not_reconstructed(each) for each in evaluation.reconstructions}
    if any(lost.values()):
        tables.insert(1, _lost_table(evaluation, lost))
    return Section(
        "Data",
        tables=tables,
        figures=figures,
        numbers={
            "files": len(files.paths) + files.num_empty,
            "events_in_files": files.num_events_in_files,
            "events": len(events),
            "dropped": dict(files.dropped),
            "not_reconstructed": lost,
            "event_types": {name: int(mask.sum()) for name, mask in types.items()},
        },
    )


def not_reconstructed(reconstruction: Reconstruction) -> dict[str, int]:
    """Number of events that are not reconstructed, by reason; those without a status as a whole."""
    table = reconstruction.table
    if table.status is None:
        missing = int(np.isnan(table.labels).all(axis=1).sum())
        return {"not reconstructed": missing} if missing else {}
    counts = {reason: int((table.status == status).sum()) for status, reason in REASONS.items()}
    return {reason: count for reason, count in counts.items() if count}


def _file_table(evaluation: Evaluation, files: HeldOutFiles) -> ReportTable:
    num_files = len(files.paths) + files.num_empty
    rows = [
        ("files", f"{num_files:,}"),
        ("files without used events", f"{files.num_empty:,}"),
        ("events in the files", f"{files.num_events_in_files:,}"),
        *((f"dropped: {reason}", f"{count:,}") for reason, count in files.dropped.items()),
        ("evaluated events", f"{len(evaluation.events):,}"),
    ]
    weights = evaluation.events.weights
    if weights is not None:
        rows.append(
            ("effective number of events with weights", f"{effective_number(weights):,.0f}")
        )
    return ReportTable("Files and events.", ("what", "number"), rows)


def _lost_table(evaluation: Evaluation, lost: Mapping[str, Mapping[str, int]]) -> ReportTable:
    return ReportTable(
        f"Events that are not reconstructed, of {len(evaluation.events):,}: excluded from the "
        "results of that reconstruction.",
        ("reconstruction", "why", "events"),
        [
            (name, reason, f"{count:,}")
            for name, counts in lost.items()
            for reason, count in counts.items()
        ],
    )


def _type_table(evaluation: Evaluation, types: Mapping[str, Mask]) -> ReportTable:
    """Number of events of each type, in all and by decade of the energy."""
    label = energy_label(evaluation)
    energy = np.zeros(0) if label is None else evaluation.events.labels[label]
    edges = decade_edges(energy)
    ranges = list(pairwise(edges.tolist()))
    rows = [
        (
            name,
            f"{mask.sum():,}",
            *(f"{(mask & (energy >= low) & (energy < high)).sum():,}" for low, high in ranges),
        )
        for name, mask in types.items()
    ]
    decades = [f"{format_energy(low)} to {format_energy(high)}" for low, high in ranges]
    caption = "Events by type" + (f" and true {label}." if ranges else ".")
    return ReportTable(caption, ("event type", "all", *decades), rows)


def _distributions(
    shown: tuple[Variable, ...],
    types: Mapping[str, Mask],
    weights: NDArray[np.float64] | None,
) -> Figure:
    figure, axes = panel_grid(len(shown), _COLUMNS, (3.6, 2.7))
    figure.suptitle(f"{len(types[ALL_EVENTS]):,} events", fontsize="medium")
    for panel, variable in zip(axes, shown, strict=True):
        for number, (name, mask) in enumerate(parts(types).items()):
            edges = _fine(variable)
            counts, _ = np.histogram(
                variable.values[mask], edges, weights=weights_of(mask, weights)
            )
            panel.stairs(counts, edges, lw=1.5, label=name, color=color(number))
        panel.set_xlabel(variable.axis)
        if variable.log:
            log_axis(panel.xaxis, few_decades=variable.edges[-1] < 200 * variable.edges[0])
    for panel in first_column(axes):
        panel.set_ylabel("events in a bin" if weights is None else "sum of weights in a bin")
    legend_below(figure, axes[0])
    return figure


def _fine(variable: Variable) -> NDArray[np.float64]:
    """Edges of twice as many bins."""
    edges = variable.edges
    return np.sort(np.concatenate([edges, variable.centers]))
