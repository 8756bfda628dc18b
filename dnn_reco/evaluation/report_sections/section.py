"""What the report of an evaluation is made of: sections with text, tables and figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from matplotlib.figure import Figure


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    Attributes
    ----------
    name
        Name of its files, without suffix (:func:`file_name`).
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
    links
        Name of the picture that each row opens; empty: none.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    links: Sequence[str | None] = ()


@dataclass(frozen=True)
class ReportPicture:
    """A picture that a click opens.

    Attributes
    ----------
    name
        Its name in the page.
    title
        What is always shown of it.
    png
        The picture.
    """

    name: str
    title: str
    png: bytes


@dataclass(frozen=True)
class ReportListing:
    """A text, such as a config, that a click opens."""

    title: str
    text: str


@dataclass(frozen=True)
class Section:
    """A section of the report.

    Attributes
    ----------
    title
        Its title; also the anchor in the page.
    text
        Paragraphs on how to read it.
    tables, figures, pictures, listings
        What it shows.
    numbers
        The same as plain numbers, for ``metrics.json``.
    """

    title: str
    text: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    figures: Sequence[ReportFigure] = ()
    numbers: dict[str, Any] = field(default_factory=dict)
    pictures: Sequence[ReportPicture] = ()
    listings: Sequence[ReportListing] = ()


def file_name(text: str) -> str:
    """A text, such as the name of a label, as part of a name of a file."""
    return re.sub(r"[^\w-]+", "_", text, flags=re.ASCII).strip("_") or "_"


def without_column(table: ReportTable, title: str) -> ReportTable:
    """A table without a column, such as the name of the reconstruction where there is only one."""
    kept = [i for i, column in enumerate(table.columns) if column != title]
    rows = [[row[i] for i in kept] for row in table.rows]
    return replace(table, columns=[table.columns[i] for i in kept], rows=rows)
