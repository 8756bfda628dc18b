"""Section of the report on classes: separation and calibration of probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dnn_reco.evaluation.classification import (
    BACKGROUND_LEVELS,
    Reliability,
    RocCurve,
    area_under_curve,
    average_precision,
    brier_score,
    efficiency_at,
    reliability,
    roc_curve,
)
from dnn_reco.evaluation.formats import MISSING, events_text, format_measured
from dnn_reco.evaluation.metrics import ValueWithError, weights_of
from dnn_reco.evaluation.reconstruction import Evaluation
from dnn_reco.evaluation.report_sections.section import ReportFigure, ReportTable, Section
from dnn_reco.figure_style import (
    GREY,
    color,
    legend_below,
    log_axis,
    marker,
    panel_grid,
    say_too_few,
)

_COLUMNS = 3
_LEAST_SHOWN = 1e-4, 0.1  # share of the background


@dataclass(frozen=True)
class ClassMeasures:
    """How good the probabilities of one class are.

    Attributes
    ----------
    num_events, num_signal
        Number of events, and of those of the class.
    roc, area, precision
        ROC curve, area under it, and average precision.
    efficiencies
        Efficiency at each of :data:`BACKGROUND_LEVELS`.
    reliability, calibration_errors, brier
        Reliability, expected calibration error in bins of equal width and of equal numbers of
        events, and Brier score.
    """

    num_events: int
    num_signal: int
    roc: RocCurve
    area: ValueWithError
    precision: float
    efficiencies: tuple[ValueWithError, ...]
    reliability: Reliability
    calibration_errors: tuple[float, float]
    brier: float


def measure_class(
    probability: NDArray[np.float64],
    truth: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
) -> ClassMeasures:
    """How good predicted probabilities of a class are.

    Parameters
    ----------
    probability
        Predicted probability [n]; events without one (NaN) do not count.
    truth
        The label [n]: above one half for events of the class, as labels may be smoothed; NaN:
        unknown, so that the event does not count.
    weights
        Weights [n]; None: all are equal.
    """
    known = np.isfinite(probability) & np.isfinite(truth)
    score, is_signal = probability[known].clip(0, 1), truth[known] > 0.5
    weight = weights_of(known, weights)
    roc = roc_curve(score, is_signal, weight)
    by_width = reliability(score, is_signal, weight)
    by_count = reliability(score, is_signal, weight, equal_count=True)
    return ClassMeasures(
        len(score),
        int(is_signal.sum()),
        roc,
        area_under_curve(score, is_signal, weight),
        average_precision(score, is_signal, weight),
        tuple(efficiency_at(roc, level) for level in BACKGROUND_LEVELS),
        by_width,
        (by_width.calibration_error, by_count.calibration_error),
        brier_score(score, is_signal, weight),
    )


def classification_section(evaluation: Evaluation) -> Section | None:
    """ROC curves, reliability diagrams and measures of each class; None: there are no classes."""
    events = evaluation.events
    found: dict[str, dict[str, ClassMeasures]] = {}
    for each in evaluation.reconstructions:
        for label in each.keys.pid:
            if label in each.table.label_names and label in events.labels:
                of_label = found.setdefault(label, {})
                probability, truth = each.table[label], events.labels[label].astype(np.float64)
                of_label[each.name] = measure_class(probability, truth, events.weights)
    if not found:
        return None
    number = events_text(events)
    colors = {each.name: i for i, each in enumerate(evaluation.reconstructions)}
    figures = [
        ReportFigure(
            "roc",
            f"Share of the events of a class that is kept against the share of the others that is, "
            f"for cuts on the predicted probability; {number}.",
            _roc_figure(found, colors),
        ),
        ReportFigure(
            "reliability",
            f"Share of {number} that are of a class, against the probability predicted for it, in "
            "15 bins, with binomial errors. Below the diagonal the probabilities are too high.",
            _reliability_figure(found, colors),
        ),
    ]
    text = (
        "Area under the ROC curve: the probability that an event of the class has a higher "
        "predicted probability than another event. Average precision: mean purity over all "
        "cuts. Efficiency: the share of the class that is kept where 1 % or 0.1 % of the other "
        "events are. ECE: mean absolute difference between predicted probability and observed "
        "share, in 15 bins of equal width (and of equal numbers of events). Brier score: mean "
        "squared difference between probability and truth.",
    )
    numbers = {
        f"{model}/{label}": _numbers(measures)
        for label, of_label in found.items()
        for model, measures in of_label.items()
    }
    return Section("Classes", text, [_table(found)], figures, {"classification": numbers})


def _table(found: Mapping[str, Mapping[str, ClassMeasures]]) -> ReportTable:
    columns = ["class", "reconstruction", "events (of the class)", "ROC AUC", "average precision"]
    columns += [f"efficiency at {100 * level:g} % background" for level in BACKGROUND_LEVELS]
    columns += ["ECE (equal numbers)", "Brier score"]
    rows = []
    for label, of_label in found.items():
        for model, each in of_label.items():
            by_width, by_count = map(_short, each.calibration_errors)
            rows.append(
                [
                    label,
                    model,
                    f"{each.num_events:,} ({each.num_signal:,})",
                    format_measured(each.area),
                    _short(each.precision),
                    *map(format_measured, each.efficiencies),
                    f"{by_width} ({by_count})",
                    _short(each.brier),
                ]
            )
    return ReportTable("Separation of classes.", columns, rows)


def _short(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else MISSING


def _roc_figure(
    found: Mapping[str, Mapping[str, ClassMeasures]], colors: Mapping[str, int]
) -> Figure:
    figure, axes = panel_grid(len(found), _COLUMNS, (3.3, 2.8))
    for panel, (label, of_label) in zip(axes, found.items(), strict=True):
        first = next(iter(of_label.values()))
        least = _least_background(first.num_events - first.num_signal)
        x = np.geomspace(least, 1, 400)
        for model, each in of_label.items():
            number, curve = colors[model], each.roc
            kept = curve.signal[np.searchsorted(curve.background, x, side="right") - 1]
            panel.plot(x, kept, color=color(number), lw=1.5, label=model, ds="steps-post")
        if not any(np.isfinite(each.area.value) for each in of_label.values()):
            say_too_few(panel)
        panel.plot(x, x, color=GREY, ls="--", lw=1, label="no separation")
        panel.set_title(f"{label} ({first.num_signal:,} of {first.num_events:,})", fontsize=9)
        log_axis(panel.xaxis)
        panel.set(xlim=(least, 1), ylim=(0, 1.02))
        panel.set(xlabel="background efficiency", ylabel="signal efficiency")
    legend_below(figure, axes, order=list(colors))
    return figure


def _least_background(number: int) -> float:
    """Where the axis of the share of so many background events begins: at one of them."""
    return float(np.clip(1 / max(number, 1), *_LEAST_SHOWN))


def _reliability_figure(
    found: Mapping[str, Mapping[str, ClassMeasures]], colors: Mapping[str, int]
) -> Figure:
    figure, axes = panel_grid(len(found), _COLUMNS, (3.3, 2.9))
    for panel, (label, of_label) in zip(axes, found.items(), strict=True):
        panel.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1, label="correct probabilities")
        if not any(each.num_events for each in of_label.values()):
            say_too_few(panel)
        for model, each in of_label.items():
            number, seen = colors[model], each.reliability
            value, low, high = seen.observed
            panel.errorbar(
                seen.predicted, value, [value - low, high - value], color=color(number),
                marker=marker(number), ms=4, lw=1.2, label=model,
            )  # fmt: skip
        panel.set_title(f"{label} ({next(iter(of_label.values())).num_events:,})", fontsize=9)
        panel.set(xlim=(0, 1), ylim=(0, 1), box_aspect=1)
        panel.set(xlabel="predicted probability", ylabel="observed share of the class")
    legend_below(figure, axes, order=list(colors))
    return figure


def _numbers(each: ClassMeasures) -> dict[str, Any]:
    levels = (f"{level:g}" for level in BACKGROUND_LEVELS)
    efficiencies = zip(levels, each.efficiencies, strict=True)
    seen = each.reliability
    bins = [
        {
            "predicted": float(predicted),
            "observed": type(seen.observed)(*parts),
            "fraction": float(fraction),
        }
        for predicted, fraction, *parts in zip(
            seen.predicted, seen.fraction, *seen.observed, strict=True
        )
    ]
    return {
        "events": each.num_events,
        "of_the_class": each.num_signal,
        "auc": each.area,
        "average_precision": each.precision,
        "efficiency_at": dict(efficiencies),
        "ece": each.calibration_errors[0],
        "ece_equal_count": each.calibration_errors[1],
        "brier": each.brier,
        "reliability": bins,
    }
