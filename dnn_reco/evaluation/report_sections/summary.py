"""Summary: each label over all events, and by event type and energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dnn_reco.evaluation.comparison import Comparison
from dnn_reco.evaluation.comparison_report import format_range, table_columns
from dnn_reco.evaluation.formats import MISSING, format_measured
from dnn_reco.evaluation.metrics import ValueWithError
from dnn_reco.evaluation.reconstruction import Evaluation
from dnn_reco.evaluation.report_sections.section import ReportTable, Section, without_column
from dnn_reco.evaluation.residuals import label_keys, regression_labels, shown_log
from dnn_reco.evaluation.summary import ANGLE_PERCENTS, angle_summary, label_summary
from dnn_reco.inference.model_info import label_unit

_NAME = "reconstruction"
_COLUMNS = {
    "bias": "bias",
    "rmse": "RMSE",
    "median_absolute": "median |residual|",
    "width_68": "68 % interval",
    "width_90": "90 % interval",
    "correlation": "correlation",
    "pull_mean": "pull mean",
    "pull_width": "pull width",
}


def summary_section(evaluation: Evaluation, comparison: Comparison) -> Section:
    """How well each reconstruction does, label by label, with bootstrap errors."""
    labels = _label_summaries(evaluation)
    angles = _angle_summaries(evaluation)
    tables = [_label_table(evaluation, labels)] if labels else []
    tables.append(_type_table(comparison))
    if len(evaluation.reconstructions) == 1:
        tables = [without_column(each, _NAME) for each in tables]
    if angles:
        tables.insert(0, _angle_table(evaluation, angles))
    weighted = "" if evaluation.events.weights is None else " Events count with their weights."
    return Section(
        "Summary",
        (
            "Residual: reconstructed minus true value, or log10(reconstructed / true) where the "
            "unit is log10. Intervals are half the width of the central 68 and 90 % of the "
            "residuals. Pull: residual over the uncertainty that the reconstruction gives; its "
            "mean should be 0 and its width, half of the central 68 %, 1.",
            "Errors are statistical, in the first tables from 200 bootstrap samples of the "
            f"events. Events that are not reconstructed are excluded.{weighted}",
        ),
        tables,
        numbers={"direction": angles, "labels": labels},
    )


def unit_of(evaluation: Evaluation, label: str) -> str:
    """Unit of the residuals of a label."""
    if shown_log(evaluation, label):
        return "log10"
    return label_unit(label, label_keys(evaluation, label).particle)


def _label_summaries(evaluation: Evaluation) -> dict[str, dict[str, dict[str, ValueWithError]]]:
    """What is measured, by label and reconstruction."""
    events = evaluation.events
    found: dict[str, dict[str, dict[str, ValueWithError]]] = {}
    for label in regression_labels(evaluation):
        log = shown_log(evaluation, label)
        for each in evaluation.reconstructions:
            if values := label_summary(each, events, label, log):
                found.setdefault(label, {})[each.name] = values
    return found


def _angle_summaries(evaluation: Evaluation) -> dict[str, dict[str, ValueWithError]]:
    found = {
        each.name: angle_summary(each, evaluation.events) for each in evaluation.reconstructions
    }
    return {name: values for name, values in found.items() if values}


def _angle_table(
    evaluation: Evaluation, angles: Mapping[str, Mapping[str, ValueWithError]]
) -> ReportTable:
    keys = [str(percent) for percent in ANGLE_PERCENTS]
    return ReportTable(
        f"Opening angle between true and reconstructed direction [°], {len(evaluation.events):,} "
        "events: the given share of them lies below.",
        (_NAME, *(f"{key} %" for key in keys), "mean"),
        [
            (name, *(format_measured(values.get(key)) for key in (*keys, "mean")))
            for name, values in angles.items()
        ],
    )


def _label_table(evaluation: Evaluation, labels: Mapping[str, Mapping[str, Any]]) -> ReportTable:
    rows = [
        (label, name, unit_of(evaluation, label) or MISSING, *_cells(values))
        for label, of_label in labels.items()
        for name, values in of_label.items()
    ]
    return ReportTable(
        f"Labels, {len(evaluation.events):,} events.",
        ("label", _NAME, "unit", *_COLUMNS.values()),
        rows,
    )


def _cells(values: Mapping[str, ValueWithError]) -> list[str]:
    return [format_measured(values.get(key)) for key in _COLUMNS]


def _type_table(comparison: Comparison) -> ReportTable:
    columns = table_columns(comparison)
    titles = {"energy_rms": "rms [log10]", "energy_width_68": "68 % width [log10]"}
    rows = [
        (
            group.event_type,
            format_range(group),
            f"{group.num_events:,}",
            name,
            *(format_measured(found.get(key)) for _, key in columns),
        )
        for group in comparison.groups
        for name, found in group.found.items()
    ]
    label = comparison.energy_label or "energy"
    heads = [
        f"angle {title} [°]" if key.startswith("angle") else titles.get(key, title)
        for title, key in columns
    ]
    return ReportTable(
        f"By event type and decade of the true energy: quantiles of the opening angle, rms and "
        f"width of the residual of {label}, and width of its pulls.",
        ("event type", "energy", "events", _NAME, *heads),
        rows,
    )
