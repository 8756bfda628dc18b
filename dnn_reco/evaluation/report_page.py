"""The report of an evaluation: a self-contained HTML page, its figures and its numbers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dnn_reco.evaluation.comparison_report import as_plain
from dnn_reco.evaluation.formats import plain
from dnn_reco.evaluation.report_facts import ReportFacts
from dnn_reco.evaluation.report_sections.classification import classification_section
from dnn_reco.evaluation.report_sections.data_summary import data_section
from dnn_reco.evaluation.report_sections.provenance import provenance_section
from dnn_reco.evaluation.report_sections.resolution import resolution_sections
from dnn_reco.evaluation.report_sections.robustness import robustness_section
from dnn_reco.evaluation.report_sections.section import (
    ReportFigure,
    ReportTable,
    Section,
    file_name,
)
from dnn_reco.evaluation.report_sections.summary import summary_section
from dnn_reco.evaluation.report_sections.training import training_section
from dnn_reco.evaluation.report_sections.true_vs_reco import true_vs_reco_section
from dnn_reco.evaluation.report_sections.uncertainty import uncertainty_sections
from dnn_reco.evaluation.report_sections.worst_events import worst_events_section
from dnn_reco.figure_style import figure_bytes, fix_layout, with_few_colors
from dnn_reco.files import OTHER_FOLDER, write_atomically, writing

REPORT_FILE, NUMBERS_FILE, FIGURES_FOLDER = "report.html", "metrics.json", "figures"

_TEMPLATE = "report_template.html.j2"
_LONG = 40  # characters
_NUMBER = re.compile(r"[-−+]?[\d.]|–|nan|$")  # at the beginning of a cell
_WIDTH = 96  # CSS pixels an inch
_MOST_WIDTH = 1150  # CSS pixels
_WIDE = 500  # CSS pixels: wider figures scroll on a phone


@dataclass(frozen=True)
class _PageFigure:
    """A figure as it is in the page: `source` is a data URI, `width` in CSS pixels."""

    name: str
    caption: str
    source: str
    width: int

    @property
    def wide(self) -> bool:
        """Whether it would be unreadable on a phone without scrolling."""
        return self.width > _WIDE


def report_sections(facts: ReportFacts) -> list[Section]:
    """All sections of the report, in their order, without those that have nothing to show."""
    evaluation = facts.evaluation
    models = evaluation.without_raw()
    stored = [each.name for each in models.reconstructions if each.name not in facts.origins]
    sections = [
        summary_section(evaluation, facts.comparison),
        data_section(evaluation, facts.files),
        *resolution_sections(models),
        true_vs_reco_section(models),
        *uncertainty_sections(evaluation),
        classification_section(evaluation),
        robustness_section(facts.robustness, len(evaluation.events)),
        worst_events_section(models, facts.files, facts.pictures),
        training_section(facts.origins),
        provenance_section(facts.origins, facts.software, stored),
    ]
    return [section for section in sections if section is not None]


def write_report_page(facts: ReportFacts, folder: Path) -> Path:
    """Write ``report.html``, ``metrics.json`` and the figures; returns the path of the page.

    Figures of an earlier report in the folder ``figures`` are removed.

    Parameters
    ----------
    facts
        What the report is made of.
    folder
        The folder to write to.

    Raises
    ------
    DataError
        If they cannot be written, such as on a full disk.
    """
    sections = report_sections(facts)
    title = f"Evaluation of {', '.join(facts.origins)}"
    introduction = [
        f"{len(facts.evaluation.events):,} held-out events. Made by dnn_reco "
        f"{facts.software.get('dnn_reco_version', '')}."
    ]
    costs = {name: origin.cost for name, origin in facts.origins.items()}
    numbers = {
        "comparison": as_plain(facts.comparison, costs),
        "sections": {section.title: section.numbers for section in sections if section.numbers},
    }
    with writing("the report", folder, OTHER_FOLDER):
        write_numbers(folder / NUMBERS_FILE, numbers)
        write_page(folder / REPORT_FILE, title, introduction, sections)
    return folder / REPORT_FILE


def write_numbers(path: Path, numbers: Mapping[str, Any]) -> None:
    """Write numbers as JSON; those that are not finite are null."""
    write_atomically(path, json.dumps(plain(numbers), indent=1, allow_nan=False).encode())


def write_page(
    path: Path, title: str, introduction: Sequence[str], sections: Sequence[Section]
) -> None:
    """Write a page of sections, and their figures to the folder ``figures`` beside it.

    Parameters are those of :func:`render_page`.
    """
    shown = list(_write_figures(sections, path.parent / FIGURES_FOLDER))
    write_atomically(path, render_page(title, introduction, sections, shown).encode())


def render_page(
    title: str,
    introduction: Sequence[str],
    sections: Sequence[Section],
    figures: Sequence[_PageFigure],
) -> str:
    """The page as HTML; all text in it is escaped.

    Parameters
    ----------
    title, introduction
        Title, and the paragraphs below it.
    sections
        The sections.
    figures
        Their figures, in their order.
    """
    environment = Environment(
        loader=PackageLoader("dnn_reco.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    waiting = iter(figures)
    shown = [
        {
            "title": section.title,
            "anchor": f"section-{number}-{file_name(section.title)}",
            "text": section.text,
            "tables": [_page_table(table) for table in section.tables],
            "figures": [next(waiting) for _ in section.figures],
            "pictures": [
                {"name": each.name, "title": each.title, "source": _data_uri("png", each.png)}
                for each in section.pictures
            ],
            "listings": section.listings,
        }
        for number, section in enumerate(sections, start=1)
    ]
    template = environment.get_template(_TEMPLATE)
    return template.render(title=title, introduction=introduction, sections=shown)


def _write_figures(sections: Sequence[Section], folder: Path) -> Iterator[_PageFigure]:
    """Write all figures as PNG and PDF; gives them as they are in the page."""
    figures = [figure for section in sections for figure in section.figures]
    names = _unique_names(figures)
    for path in folder.glob("*.*"):
        if path.suffix in (".png", ".pdf"):
            path.unlink()
    for name, each in zip(names, figures, strict=True):
        fix_layout(each.figure)
        content = {suffix: figure_bytes(each.figure, suffix) for suffix in ("png", "pdf", "svg")}
        for suffix in ("png", "pdf"):
            write_atomically(folder / f"{name}.{suffix}", content[suffix])
        small = {"png": with_few_colors(content["png"]), "svg+xml": content["svg"]}
        kind = min(small, key=lambda kind: len(small[kind]))
        width = min(round(_WIDTH * each.figure.get_size_inches()[0]), _MOST_WIDTH)
        yield _PageFigure(name, each.caption, _data_uri(kind, small[kind]), width)


def _unique_names(figures: Sequence[ReportFigure]) -> list[str]:
    """Names of the files of figures: those that occur again get a number."""
    names: list[str] = []
    for figure in figures:
        name, number = file_name(figure.name), 2
        while name in names:
            name, number = f"{file_name(figure.name)}_{number}", number + 1
        names.append(name)
    return names


def _page_table(table: ReportTable) -> dict[str, Any]:
    links = table.links or [None] * len(table.rows)
    rows = [{"cells": row, "link": link} for row, link in zip(table.rows, links, strict=True)]
    kinds = [_kind([row[column] for row in table.rows]) for column in range(len(table.columns))]
    heads = [
        {"title": title, "kind": kind} for title, kind in zip(table.columns, kinds, strict=True)
    ]
    return {"caption": table.caption, "heads": heads, "kinds": kinds, "rows": rows}


def _kind(cells: Sequence[str]) -> str:
    """Class of a column: numbers have none, "long" texts are wrapped."""
    if all(_NUMBER.match(cell) for cell in cells):
        return ""
    return "long" if max(map(len, cells)) > _LONG else "text"


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
