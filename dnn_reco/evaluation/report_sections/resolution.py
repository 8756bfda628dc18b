"""Resolution and bias of direction, energy and all labels against true energy, zenith and more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation.band_figures import band_figure, rows_with_bands
from dnn_reco.evaluation.comparison_plots import ANGLE_AXIS, positive
from dnn_reco.evaluation.event_types import Mask, event_types
from dnn_reco.evaluation.metrics import weights_of
from dnn_reco.evaluation.reconstruction import Evaluation
from dnn_reco.evaluation.report_sections.section import ReportFigure, Section, file_name
from dnn_reco.evaluation.report_sections.summary import unit_of
from dnn_reco.evaluation.residuals import (
    energy_label,
    label_residual,
    opening_angle,
    regression_labels,
    shown_log,
)
from dnn_reco.evaluation.variables import LEAST_EVENTS, Variable, quantiles_in_bins, variables

PERCENTS = (20.0, 50.0, 80.0)

# More labels than this are shown against two variables only: a page must not be too large.
_MANY_LABELS, _FEW_VARIABLES = 12, 2

Values = NDArray[np.float64]
Shown = Sequence[tuple[str, Values]]


def resolution_sections(evaluation: Evaluation) -> list[Section]:
    """Opening angle; residual of the energy; residuals of the other labels."""
    events = evaluation.events
    types = event_types(events.labels, len(events))
    against = variables(evaluation)
    energy = energy_label(evaluation)
    others = [label for label in regression_labels(evaluation) if label != energy]
    energies = [energy] if energy is not None else []
    sections = [
        _angle_section(evaluation, types, against),
        _label_section("Energy resolution", evaluation, energies, types, against),
        _label_section("Resolution of other labels", evaluation, others, types, against),
    ]
    found = [section for section in sections if section is not None]
    if found or not regression_labels(evaluation):
        return found
    return [Section("Resolution", (f"No bin holds {LEAST_EVENTS} events: nothing is shown.",))]


def _angle_section(
    evaluation: Evaluation, types: dict[str, Mask], against: Sequence[Variable]
) -> Section | None:
    events = evaluation.events
    angles = [(each.name, opening_angle(each, events)) for each in evaluation.reconstructions]
    # where all is 0 or absent, there is no logarithmic axis
    shown = [(name, positive(angle)) for name, angle in angles if angle is not None]
    types, rows = rows_with_bands(shown, types, against)
    if not rows:
        return None
    figure = band_figure(
        shown,
        types,
        rows,
        PERCENTS,
        ANGLE_AXIS,
        "Opening angle: median, and 20 % to 80 % of the events",
        log=True,
        weights=events.weights,
    )
    caption = (
        "Opening angle between true and reconstructed direction: the line is its median, the band "
        f"holds the events from 20 % to 80 %. {_events_text(evaluation, types)}"
    )
    return Section(
        "Angular resolution",
        (_how_to_read(),),
        figures=(ReportFigure("opening_angle", caption, figure),),
        numbers=_numbers(shown, types, rows, events.weights),
    )


def _label_section(
    title: str,
    evaluation: Evaluation,
    labels: Sequence[str],
    types: dict[str, Mask],
    against: Sequence[Variable],
) -> Section | None:
    """A section with a figure for each label that has something to show."""
    weights = evaluation.events.weights
    against = against[:_FEW_VARIABLES] if len(labels) > _MANY_LABELS else against
    figures, numbers = [], {}
    for label in labels:
        shown = _residuals(evaluation, label)
        chosen, rows = rows_with_bands(shown, types, against)
        if not rows:
            continue
        log, unit = shown_log(evaluation, label), unit_of(evaluation, label)
        axis = "log10(reco / true)" if log else f"reco − true{f' [{unit}]' if unit else ''}"
        heading = f"Residual of {label}: median, and 20 % to 80 % of the events"
        figure = band_figure(shown, chosen, rows, PERCENTS, axis, heading, weights=weights)
        caption = (
            f"Residual of {label}: the line is its median, the bias, and the band holds the events "
            f"from 20 % to 80 %. {_events_text(evaluation, chosen)}"
        )
        figures.append(ReportFigure(f"residual_{file_name(label)}", caption, figure))
        numbers[label] = _numbers(shown, chosen, rows, weights)
    if not figures:
        return None
    return Section(title, (_how_to_read(),), figures=figures, numbers=numbers)


def _residuals(evaluation: Evaluation, label: str) -> list[tuple[str, Values]]:
    log = shown_log(evaluation, label)
    found = [
        (each.name, label_residual(each, evaluation.events, label, log))
        for each in evaluation.reconstructions
    ]
    return [(name, residual) for name, residual in found if residual is not None]


def _how_to_read() -> str:
    return (
        f"One column per event type, one row per property. Bins of fewer than {LEAST_EVENTS} "
        "events are omitted. The distance to the edge of the detector is that of the true vertex."
    )


def _events_text(evaluation: Evaluation, types: dict[str, Mask]) -> str:
    shown = int(sum(mask.sum() for mask in types.values()))
    return f"{shown:,} of {len(evaluation.events):,} events."


def _numbers(
    shown: Shown, types: dict[str, Mask], against: Sequence[Variable], weights: Values | None
) -> dict[str, Any]:
    """Quantiles by reconstruction, event type and variable."""
    return {
        variable.name: {
            "axis": variable.axis,
            "edges": variable.edges,
            "percents": PERCENTS,
            "quantiles": {
                name: {
                    event_type: quantiles_in_bins(
                        values[mask],
                        variable.values[mask],
                        variable.edges,
                        PERCENTS,
                        weights_of(mask, weights),
                    )
                    for event_type, mask in types.items()
                }
                for name, values in shown
            },
        }
        for variable in against
    }
