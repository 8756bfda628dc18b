"""Sections of the report on uncertainties: pulls, coverage, and coverage in parts of the events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dnn_reco.evaluation.coverage import (
    COVERAGE_LEVELS,
    PERCENTS,
    LabelDeviation,
    coverage_cell,
    coverage_curve,
    pull_moments,
)
from dnn_reco.evaluation.credible_levels import direction_level, label_deviations
from dnn_reco.evaluation.event_types import event_types
from dnn_reco.evaluation.formats import events_text, format_measured, format_share
from dnn_reco.evaluation.metrics import event_number, known_only, weights_of
from dnn_reco.evaluation.pull_figure import density_in_bins, num_bins, pull_figure
from dnn_reco.evaluation.reconstruction import Evaluation
from dnn_reco.evaluation.report_sections.conditional_coverage import conditional_coverage_section
from dnn_reco.evaluation.report_sections.section import ReportFigure, ReportTable, Section
from dnn_reco.evaluation.residuals import energy_label
from dnn_reco.evaluation.variables import LEAST_EVENTS, decade_edges
from dnn_reco.figure_style import (
    GREY,
    color,
    legend_below,
    marker,
    panel_grid,
    panels,
    say_too_few,
)
from dnn_reco.nn.density_layout import DIRECTION

Deviations = Mapping[str, Mapping[str, LabelDeviation]]
Levels = Mapping[str, Mapping[str, NDArray[np.float64]]]

MOST_LABELS = 12
"""Figures show so many labels; tables and ``metrics.json`` hold all."""

_PIT_BINS = (5, 20)
"""Fewest and most bins of the histogram."""
_COLUMNS = 4
_PANEL = (2.7, 2.3)


def uncertainty_sections(evaluation: Evaluation) -> list[Section]:
    """Pulls, coverage and coverage in parts of the events; empty if nothing has an uncertainty."""
    events = evaluation.events
    deviations = {each.name: label_deviations(each, events) for each in evaluation.reconstructions}
    levels: dict[str, dict[str, NDArray[np.float64]]] = {}
    for each in evaluation.reconstructions:
        of_direction = direction_level(each, events)
        first = {} if of_direction is None else {DIRECTION: of_direction}
        of_labels = {name: found.level() for name, found in deviations[each.name].items()}
        levels[each.name] = {**first, **of_labels}
    sections = []
    if any(deviations.values()):
        sections.append(_pull_section(evaluation, deviations))
    if any(levels.values()):
        sections.append(_coverage_section(evaluation, deviations, levels))
    conditional = conditional_coverage_section(evaluation, deviations, levels)
    return sections if conditional is None else [*sections, conditional]


def _pull_section(evaluation: Evaluation, deviations: Deviations) -> Section:
    weights, number = evaluation.events.weights, events_text(evaluation.events)
    rows, numbers = [], {}
    for label in _names(deviations):
        for model, of_model in deviations.items():
            if label not in of_model:
                continue
            moments = pull_moments(of_model[label].pull, weights)
            rows.append([label, model, *map(format_measured, moments)])
            measures = ("mean", "deviation", "width_68")
            numbers[f"{model}/{label}"] = dict(zip(measures, moments, strict=True))
    columns = ["label", "reconstruction", "mean", "standard deviation", "68 % width"]
    figures = [
        ReportFigure(
            "pulls",
            f"Pulls of {number}: predicted minus true value over its uncertainty. Dashed: the unit "
            f"Gaussian, which all follow if the uncertainties are correct.{_left_out(deviations)}",
            pull_figure(
                {
                    name: {label: each.pull for label, each in of.items()}
                    for name, of in deviations.items()
                },
                _names(deviations)[:MOST_LABELS],
                weights,
            ),
        )
    ]
    energy = energy_label(evaluation)
    against_energy = energy and _pull_energy_figure(evaluation, deviations, energy)
    if against_energy:
        figures.append(
            ReportFigure(
                "pulls_energy",
                "Half the central 68 % width (filled, should be 1) and mean (open, should be 0) of "
                f"the pulls of {number} against the true {energy}, by type of event; points of "
                f"fewer than {LEAST_EVENTS} events are omitted.{_left_out(deviations)}",
                against_energy,
            )
        )
    return Section(
        "Pulls",
        (
            "The pull is the residual over its predicted uncertainty, in the space of the "
            "uncertainty: that of ln(1 + x) for labels with logarithm. A width above 1 means that "
            "uncertainties are too small, a nonzero mean is a bias.",
        ),
        [ReportTable(f"Pulls of {number}.", columns, rows)],
        figures,
        {"pulls": numbers},
    )


def _pull_energy_figure(
    evaluation: Evaluation, deviations: Deviations, energy: str
) -> Figure | None:
    """A row for each label, a column for each type of event; None: too few events for any."""
    events = evaluation.events
    true_energy, types = events.labels[energy], event_types(events.labels, len(events))
    edges = decade_edges(true_energy)
    found: dict[tuple[str, str], dict[str, NDArray[np.float64]]] = {}
    for label in _names(deviations)[:MOST_LABELS]:
        for event_type, mask in types.items():
            of_models = {
                model: _by_energy(
                    np.where(mask, of[label].pull, np.nan), true_energy, edges, events.weights
                )
                for model, of in deviations.items()
                if label in of
            }
            if any(np.isfinite(each).any() for each in of_models.values()):
                found[label, event_type] = of_models
    if not found:
        return None
    labels = list(dict.fromkeys(label for label, _ in found))
    shown = [name for name in types if any(name == event_type for _, event_type in found)]
    figure, axes = panels(len(labels), len(shown), (2.5, 1.9))
    models = list(deviations)
    for i, panel in enumerate(axes):
        label, event_type = labels[i // len(shown)], shown[i % len(shown)]
        for expected in (0, 1):
            panel.axhline(expected, color=GREY, lw=0.9, ls="--")
        of_models = found.get((label, event_type), {})
        for model, values in of_models.items():
            _draw_width_and_mean(panel, values, edges, models.index(model), model)
        if i == 0:
            panel.plot([], [], "o-", color=GREY, ms=4, lw=1.1, label="68 % width")
            panel.plot([], [], "o:", color=GREY, ms=4, lw=1.1, mfc="white", label="mean")
        if not of_models:
            say_too_few(panel)
        low, high = panel.get_ylim()
        panel.set(xscale="log", ylim=(np.clip(low, -3, -0.6), np.clip(high, 1.6, 4)))
        panel.set_xlim(edges[0], edges[-1])
        if i < len(shown):
            panel.set_title(f"{event_type} ({types[event_type].sum():,})", fontsize=9)
        if i % len(shown) == 0:
            panel.set_ylabel(f"pull of\n{label}", fontsize=8)
        if i >= len(shown) * (len(labels) - 1):
            panel.set_xlabel(f"true {energy} [GeV]", fontsize=8.5)
    legend_below(figure, axes, order=models)
    return figure


def _draw_width_and_mean(
    panel: Axes,
    found: NDArray[np.float64],
    edges: NDArray[np.float64],
    number: int,
    model: str,
) -> None:
    """Width (filled) and mean (open) of pulls, shifted a bit for each reconstruction."""
    center = np.sqrt(edges[1:] * edges[:-1]) * 10 ** (0.05 * number)
    style: Any = {"color": color(number), "marker": marker(number), "ms": 4, "lw": 1.1}
    panel.errorbar(center, found[:, 0], found[:, 1], ls="-", label=model, **style)
    panel.errorbar(center, found[:, 2], found[:, 3], ls=":", mfc="white", **style)


def _by_energy(
    pull: NDArray[np.float64],
    energy: NDArray[np.float64],
    edges: NDArray[np.float64],
    weights: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Central width, its error, mean and its error of pulls [n] in each bin of energy [E, 4]."""
    found = np.full((max(len(edges) - 1, 0), 4), np.nan)
    for number in range(len(found)):
        chosen = (energy >= edges[number]) & (energy < edges[number + 1]) & np.isfinite(pull)
        of_chosen = weights_of(chosen, weights)
        if event_number(of_chosen, int(chosen.sum())) >= LEAST_EVENTS:
            average, _, width = pull_moments(pull[chosen], of_chosen)
            found[number] = [*map(float, width), *map(float, average)]
    return found


def _coverage_section(evaluation: Evaluation, deviations: Deviations, levels: Levels) -> Section:
    weights, number = evaluation.events.weights, events_text(evaluation.events)
    rows, numbers = [], {}
    for quantity in _names(levels):
        for model, of_model in levels.items():
            if quantity not in of_model:
                continue
            shares = coverage_cell(of_model[quantity], weights=weights).shares
            rows.append([quantity, model, *map(format_share, shares.values())])
            curve = coverage_curve(of_model[quantity], weights)
            numbers[f"{model}/{quantity}"] = {
                **{str(percent): share for percent, share in shares.items()},
                "curve": curve.value.tolist(),
            }
    columns = ["quantity", "reconstruction", *(f"{p} %" for p in COVERAGE_LEVELS)]
    figures = [
        ReportFigure(
            "coverage",
            f"Share of {number} inside of intervals (labels) and regions on the sphere (direction) "
            "that should hold a share of 1 to 99 % of them, minus that share. Grey: one and two "
            "binomial standard deviations. Above 0 the uncertainties are too large, below 0 too "
            f"small.{_left_out(levels)}",
            _coverage_figure(levels, weights),
        )
    ]
    if any(deviations.values()):
        figures.append(
            ReportFigure(
                "pit",
                "Probability that the prediction gives to values below the true one, for "
                f"{number}: uniform if the uncertainties are correct. U shape: uncertainties too "
                "small; peak in the middle: too large; slope: bias. Grey: one and two "
                f"binomial standard deviations.{_left_out(deviations)}",
                _pit_figure(deviations, weights),
            )
        )
    return Section(
        "Coverage",
        (
            "If the uncertainties are correct, 68 % of the events lie inside of their 68 % "
            "intervals, and the same holds for any other share. The regions of the direction are "
            "those of its density, by geodesic credible level: cones of a von Mises-Fisher "
            "distribution, or ellipses of Gaussian zenith and azimuth.",
        ),
        [ReportTable(f"Share of {number} inside of intervals.", columns, rows)],
        figures,
        {"coverage": numbers},
    )


def _coverage_figure(levels: Levels, weights: NDArray[np.float64] | None) -> Figure:
    quantities = _names(levels)[: MOST_LABELS + 1]
    figure, axes = panel_grid(len(quantities), _COLUMNS, _PANEL)
    nominal = np.array(PERCENTS)
    for panel, quantity in zip(axes, quantities, strict=True):
        shown = {model: of[quantity] for model, of in levels.items() if quantity in of}
        least = min(_number(level, weights) for level in shown.values())
        if not least:
            say_too_few(panel)
        binomial = np.sqrt(nominal * (100 - nominal) / max(least, 1))
        for sigmas in (2, 1):
            band = sigmas * binomial
            panel.fill_between(nominal, -band, band, color=GREY, alpha=0.3, lw=0)
        panel.axhline(0, color=GREY, lw=0.9)
        for i, model in enumerate(levels):
            if model in shown:
                observed = 100 * coverage_curve(shown[model], weights).value
                panel.plot(nominal, observed - nominal, color=color(i), lw=1.5, label=model)
        panel.set_title(quantity, fontsize=9)
        panel.set(xlabel="nominal coverage [%]", xlim=(0, 100))
        panel.set_ylabel("observed − nominal [%]", fontsize=8.5)
    legend_below(figure, axes, order=list(levels))
    return figure


def _pit_figure(deviations: Deviations, weights: NDArray[np.float64] | None) -> Figure:
    labels = _names(deviations)[:MOST_LABELS]
    figure, axes = panel_grid(len(labels), _COLUMNS, _PANEL)
    pulls = [of[label].pull for of in deviations.values() for label in of]
    bins = num_bins(pulls, weights, 1, _PIT_BINS)
    edges = np.linspace(0, 1, bins + 1)
    for panel, label in zip(axes, labels, strict=True):
        shown = {model: of[label].pit() for model, of in deviations.items() if label in of}
        least = min(_number(pit, weights) for pit in shown.values())
        if not least:
            say_too_few(panel)
        step = np.sqrt((bins - 1) / max(least, 1))
        for sigmas in (2, 1):
            panel.axhspan(1 - sigmas * step, 1 + sigmas * step, color=GREY, alpha=0.3, lw=0)
        for i, model in enumerate(deviations):
            if model in shown:
                heights = density_in_bins(shown[model], edges, weights)
                panel.stairs(heights, edges, color=color(i), label=model, lw=1.4)
        panel.set_title(label, fontsize=9)
        panel.set(xlabel="probability integral transform", xlim=(0, 1))
        panel.set_ylabel("density")
        panel.set_ylim(bottom=0)
    legend_below(figure, axes, order=list(deviations))
    return figure


def _number(values: NDArray[np.float64], weights: NDArray[np.float64] | None) -> float:
    """Effective number of events with a known value."""
    known, of_known = known_only(values, weights)
    return event_number(of_known, len(known))


def _names(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of all quantities, the direction first, each once."""
    names = list(dict.fromkeys(name for of_model in found.values() for name in of_model))
    return sorted(names, key=lambda name: name != DIRECTION)


def _left_out(found: Mapping[str, Mapping[str, Any]]) -> str:
    """A sentence on labels that figures do not show."""
    number = len([name for name in _names(found) if name != DIRECTION]) - MOST_LABELS
    return f" {number} further labels are in the table." if number > 0 else ""
