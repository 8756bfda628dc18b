"""A comparison of data sets as text, as numbers, and as sections of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dnn_reco.evaluation.data_comparison import DEPTH_EDGES, DataComparison, Occupancy
from dnn_reco.evaluation.data_comparison_plots import (
    classifier_figure,
    distribution_figure,
    measure_figure,
    occupancy_figure,
)
from dnn_reco.evaluation.formats import format_measured
from dnn_reco.evaluation.report_page import write_numbers, write_page
from dnn_reco.evaluation.report_sections.section import ReportFigure, ReportTable, Section
from dnn_reco.evaluation.two_sample import TwoSample
from dnn_reco.files import OTHER_FOLDER, writing

MOST_SHOWN = 12
"""Quantities in a figure of distributions."""

SMALL_P = 0.01
"""Adjusted probabilities below it are called a difference."""

_COLUMNS = ("quantity", "KS", "distance / spread", "p", "adjusted p", "mean of A", "mean of B")
_MEASURES = [
    "KS is the Kolmogorov-Smirnov statistic: the largest difference of the two cumulative "
    "distributions, from 0 to 1. The distance is the Wasserstein distance in units of the spread "
    "of both together: how far the values of one must be moved to become those of the other.",
    "p is the probability of this or a larger KS if both came from the same distribution. "
    "Many quantities are compared, so that some p are small by chance: the adjusted p (Holm) "
    "takes their number into account. With many events even a harmless difference has a small p: "
    "then KS and the distance matter.",
]
_OF_A_HIT = (
    "“… of a hit DOM” is one hit DOM of each event, drawn at random: the hits of an event are "
    "correlated, so using all of them would overestimate the statistics."
)
_CLASSIFIER = [
    "A small network is trained to separate the events of A and B by the summaries of their "
    "inputs. Five networks each judge a fifth of the events, which they were not trained on "
    "(Lopez-Paz & Oquab, arXiv:1610.06545). If the two have the same distribution, it performs as "
    "by chance: AUC and accuracy are 0.5. It also finds differences in correlations between "
    "features.",
    "Correlated features can replace each other: the AUC then decreases little for either.",
]


def text_report(comparison: DataComparison) -> str:
    """What `compare-data` prints."""
    lines = []
    for letter, name, sample in zip("AB", comparison.names, comparison.samples, strict=True):
        lines.append(f"{letter}: {sample.num_events:,} events of {name}")
    lines += ["", *_text_table("Inputs", comparison.inputs)]
    if comparison.labels:
        lines += ["", *_text_table("Labels", comparison.labels)]
    places = [*_places("string", comparison.strings), *_places("layer", comparison.layers)]
    lines += [
        "",
        f"Share of hit DOMs: {'; '.join(places) or 'no difference on any string or depth'}",
    ]
    return "\n".join([*lines, "", *_verdict(comparison)])


def _text_table(title: str, quantities: Sequence[TwoSample]) -> list[str]:
    width = max(len(title), *(len(quantity.name) for quantity in quantities))
    widths = [width, 6, 17, 8, 10, 10, 10]
    rows = [(title, *_COLUMNS[1:]), *(_cells(quantity) for quantity in quantities)]
    return [
        "  ".join(
            cell.ljust(size) if column == 0 else cell.rjust(size)
            for column, (cell, size) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _cells(quantity: TwoSample) -> tuple[str, ...]:
    return (
        quantity.name,
        f"{quantity.ks:.3f}",
        f"{quantity.distance:.3f}",
        f"{quantity.p_value:.1e}",
        f"{quantity.adjusted_p:.1e}",
        *(f"{mean:.4g}" for mean in quantity.mean),
    )


def _places(kind: str, occupancy: Occupancy) -> list[str]:
    """The places of a kind where the shares differ most, in words."""
    differ = np.flatnonzero(occupancy.p_value < SMALL_P)
    worst = differ[np.argsort(occupancy.p_value[differ])][:3]
    names = [
        f"{_place(kind, number)} ({100 * occupancy.share[0, number]:.2f} % and "
        f"{100 * occupancy.share[1, number]:.2f} %)"
        for number in worst
    ]
    return [f"{len(differ)} {kind}s differ, most {', '.join(names)}"] if names else []


def _place(kind: str, number: int) -> str:
    if kind == "string":
        return f"string {number + 1}"
    return f"z {DEPTH_EDGES[number]:g} to {DEPTH_EDGES[number + 1]:g} m"


def _verdict(comparison: DataComparison) -> list[str]:
    """What the classifier found, and which features separate most."""
    test = comparison.classifier
    if test is None:
        return ["Classifier: too few events"]
    features = [
        f"{name} ({drop:.3f})" for name, drop in list(test.importance.items())[:3] if drop > 0
    ]
    return [
        f"Classifier: area under the ROC curve {format_measured(test.area)}, "
        f"accuracy {format_measured(test.accuracy)} (0.5: no difference), "
        f"p {test.p_value:.1e}",
        f"Most important features: {', '.join(features) or 'no feature'}",
        "The two data sets differ."
        if test.p_value < SMALL_P
        else "The classifier finds no difference.",
    ]


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------
def write_data_comparison(comparison: DataComparison, folder: Path) -> Path:
    """Write ``data_comparison.html``, ``.json`` and the figures; returns the path of the page.

    Raises
    ------
    DataError
        If they cannot be written, such as on a full disk.
    """
    page = folder / "data_comparison.html"
    names = " and ".join(comparison.names)
    with writing("the comparison", folder, OTHER_FOLDER):
        write_numbers(page.with_suffix(".json"), comparison_numbers(comparison))
        write_page(page, f"Comparison of {names}", [], comparison_sections(comparison))
    return page


def comparison_numbers(comparison: DataComparison) -> dict[str, Any]:
    """The comparison as numbers."""
    test = comparison.classifier
    return {
        "data_sets": [
            {"name": name, "events": sample.num_events}
            for name, sample in zip(comparison.names, comparison.samples, strict=True)
        ],
        "inputs": [asdict(quantity) for quantity in comparison.inputs],
        "labels": [asdict(quantity) for quantity in comparison.labels],
        "strings": asdict(comparison.strings),
        "layers": {"z_edges": DEPTH_EDGES, **asdict(comparison.layers)},
        "classifier": test
        and {
            "area": test.area,
            "accuracy": test.accuracy,
            "p_value": test.p_value,
            "importance": test.importance,
        },
    }


# --------------------------------------------------------------------------------------------------
# Sections
# --------------------------------------------------------------------------------------------------
def comparison_sections(comparison: DataComparison) -> list[Section]:
    """Sections of the report, with their figures."""
    sections = [
        Section("Verdict", _verdict(comparison), [_sets_table(comparison)]),
        _quantity_section("Inputs", comparison, comparison.inputs),
    ]
    if comparison.labels:
        sections.append(_quantity_section("Labels", comparison, comparison.labels))
    sections.append(_occupancy_section(comparison))
    if comparison.classifier is not None:
        sections.append(_classifier_section(comparison))
    return sections


def _sets_table(comparison: DataComparison) -> ReportTable:
    rows = [
        [letter, name, f"{sample.num_events:,}"]
        for letter, name, sample in zip("AB", comparison.names, comparison.samples, strict=True)
    ]
    return ReportTable("The data sets", ("", "files", "events compared"), rows)


def _events(comparison: DataComparison) -> str:
    a, b = (f"{sample.num_events:,}" for sample in comparison.samples)
    return f"{a} events of A, {b} of B"


def _quantity_section(
    title: str, comparison: DataComparison, quantities: Sequence[TwoSample]
) -> Section:
    shown = quantities[:MOST_SHOWN]
    figures = [
        ReportFigure(
            f"{title.lower()}_measures",
            f"KS of each quantity; filled where the adjusted p is below {SMALL_P:g}. "
            f"{_events(comparison)}.",
            measure_figure(quantities, SMALL_P),
        ),
        ReportFigure(
            f"{title.lower()}_distributions",
            f"The {len(shown)} quantities that differ most: share of events; the outer bins "
            f"include overflow. {_events(comparison)}.",
            distribution_figure(comparison, shown),
        ),
    ]
    table = ReportTable(
        f"{title}, largest difference first", _COLUMNS, [_cells(each) for each in quantities]
    )
    text = (
        [*_MEASURES, _OF_A_HIT]
        if title == "Inputs"
        else ["They are read in the same way as the inputs."]
    )
    return Section(title, text, [table], figures)


def _occupancy_section(comparison: DataComparison) -> Section:
    figure = ReportFigure(
        "occupancy",
        "Mean share of an event's hit DOMs on each string and in each layer of 25 m, with "
        f"statistical errors, and their ratio. {_events(comparison)}.",
        occupancy_figure(comparison),
    )
    rows = [
        (
            _place(kind, number),
            *(f"{100 * occupancy.share[each, number]:.3f} %" for each in (0, 1)),
            f"{occupancy.p_value[number]:.1e}",
        )
        for kind, occupancy in (("string", comparison.strings), ("layer", comparison.layers))
        for number in np.argsort(occupancy.p_value)[:MOST_SHOWN]
        if occupancy.p_value[number] < SMALL_P
    ]
    tables = [ReportTable("Where they differ", ("place", "A", "B", "adjusted p"), rows)]
    return Section(
        "Strings and depths",
        [
            "Dead DOMs and differences in noise or ice are visible here. Each event has equal "
            "weight, whatever its brightness; DOMs without hits in both data sets are excluded."
        ],
        tables if rows else (),
        [figure],
    )


def _classifier_section(comparison: DataComparison) -> Section:
    test = comparison.classifier
    assert test is not None
    figure = ReportFigure(
        "classifier",
        "ROC curve, scores (the higher, the more like B), and the decrease of the AUC when the "
        f"values of a feature are shuffled. {_events(comparison)}.",
        classifier_figure(test),
    )
    rows = [[name, f"{drop:.4f}"] for name, drop in test.importance.items()]
    return Section(
        "Classifier two-sample test",
        _CLASSIFIER,
        [ReportTable("Decrease of the AUC without a feature", ("feature", "area"), rows)],
        [figure],
    )
