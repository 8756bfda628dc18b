"""Reconstructed against true values of each label."""

from __future__ import annotations

from dnn_reco.evaluation.plots import LabelPoints, reconstructed_against_true
from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction
from dnn_reco.evaluation.report_sections.section import ReportFigure, Section, file_name
from dnn_reco.evaluation.residuals import label_keys, regression_labels, shown_log
from dnn_reco.inference.model_info import label_unit

_PANELS = 12  # of a figure at most


def true_vs_reco_section(evaluation: Evaluation) -> Section | None:
    """Two-dimensional histograms of all labels that are not classes."""
    figures = [
        figure for each in evaluation.reconstructions for figure in _figures(evaluation, each)
    ]
    if not figures:
        return None
    text = (
        "Two-dimensional histograms with a logarithmic colour scale. Dashed: reconstructed equals "
        "true value. The 0.5 % lowest and highest values are not shown.",
    )
    return Section("Reconstructed against true values", text, figures=figures)


def _figures(evaluation: Evaluation, reconstruction: Reconstruction) -> list[ReportFigure]:
    """Figures of a reconstruction, of so many labels each."""
    events, table = evaluation.events, reconstruction.table
    points = [
        LabelPoints(
            label,
            events.labels[label],
            table[label],
            shown_log(evaluation, label),
            label_unit(label, label_keys(evaluation, label).particle),
        )
        for label in regression_labels(evaluation)
        if label in table.label_names
    ]
    groups = [points[start : start + _PANELS] for start in range(0, len(points), _PANELS)]
    return [
        ReportFigure(
            f"true_vs_reco_{file_name(reconstruction.name)}",
            f"Reconstructed ({reconstruction.name}) against true values: "
            f"{', '.join(each.name for each in group)}. {len(events):,} events.",
            reconstructed_against_true(
                group, f"{reconstruction.name}, {len(events):,} events", events.weights
            ),
        )
        for group in groups
    ]
