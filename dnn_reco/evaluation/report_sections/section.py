"""What the report of an evaluation is made of: sections with text, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    Attributes
    ----------
    name
        Name of its files, without suffix.
    caption
        What it shows, in a sentence or two, with the number of events.
    figure
        The figure.
    """

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class ReportTable:
    """A table of the report.

    Attributes
    ----------
    caption
        What it shows.
    columns
        Titles of the columns.
    rows
        Cells, as text; the first one names the row.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes
    ----------
    title
        Its title; also the anchor in the page.
    text
        Paragraphs that say how to read it.
    tables, figures
        What it shows.
    numbers
        The same as plain numbers, for ``metrics.json``.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    figures: Sequence[ReportFigure] = ()
    numbers: dict[str, Any] = field(default_factory=dict)
