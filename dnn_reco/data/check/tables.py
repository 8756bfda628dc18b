"""Checks of per-event tables: each event needs one row, and each row an event."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.check.finding import Finding, of_events
from dnn_reco.data.file_events import InputTables
from dnn_reco.data.hdf5.tables import (
    HEADER_COLUMNS,
    Rows,
    event_ids,
    find_table,
    list_tables,
    open_file,
    read_rows,
    read_table,
)

_OF_LISTS = {"vector_index"}  # columns of tables with several rows an event


def check_tables(path: Path, inputs: InputTables, label_table: str | None) -> list[Finding]:
    """Findings on the rows of all per-event tables of a file.

    Raises
    ------
    DataError
        If the file or a table cannot be read.
    """
    offsets = read_table(path, inputs.time_offset, "data_handler_time_offset_name")
    ids = event_ids(offsets)
    place = (str(path), inputs.time_offset)
    findings = of_events(
        "error",
        place,
        "several events have the same id",
        "labels cannot be joined to them: give each event unique Run, Event, SubEvent and stream",
        ids,
        _repeated(ids),
    )
    findings += of_events(
        "warning",
        place,
        "events without time offset (exists = 0)",
        "they are dropped: if there are many, check the module that should have made it",
        ids,
        offsets["exists"] == 0,
    )
    findings += of_events(
        "warning",
        place,
        "the time offset is not finite",
        "these events are dropped: create the data again",
        ids,
        (offsets["exists"] != 0) & ~np.isfinite(offsets["value"]),
    )
    for name in list_tables(path):
        rows = _event_rows(path, name)
        if rows is not None and name != inputs.time_offset:
            findings += _check_rows((str(path), name), ids, rows, name == label_table)
    return findings


def _event_rows(path: Path, name: str) -> Rows | None:
    """Rows of a per-event table; None if a table is another."""
    with open_file(path) as file:
        table = find_table(file, name)
        columns = set(table.dtype.names)
        if not columns.issuperset(HEADER_COLUMNS) or columns & _OF_LISTS:
            return None
        return read_rows(table)


def _check_rows(
    place: tuple[str, str], ids: NDArray[np.void], rows: Rows, is_labels: bool
) -> list[Finding]:
    """Findings on one table of rows beside the events of a file."""
    ids_of_rows = event_ids(rows)
    return [
        *of_events(
            "error" if is_labels else "warning",
            place,
            "several rows for one event",
            "columns of this table cannot be joined to the events: write the file again",
            ids_of_rows,
            _repeated(ids_of_rows),
        ),
        *of_events(
            "warning",
            place,
            "rows of events that are not in the time-offset table",
            "they are not used: was the table made from the same frames as the inputs?",
            ids_of_rows,
            ~np.isin(ids_of_rows, ids),
        ),
        *of_events(
            "warning",
            place,
            "events without a row in this table",
            "their columns are missing, and events without labels are dropped: was the table made "
            "from the same frames as the inputs?",
            ids,
            ~np.isin(ids, ids_of_rows),
        ),
        *of_events(
            "warning" if is_labels else "info",
            place,
            "rows without object (exists = 0)",
            "events without labels are dropped: if there are many, check the module that should "
            "have made them"
            if is_labels
            else "their columns count as missing",
            ids_of_rows,
            rows["exists"] == 0,
        ),
    ]


def _repeated(ids: NDArray[np.void]) -> NDArray[np.bool_]:
    """Which ids occur more than once."""
    _, place, counts = np.unique(ids, return_inverse=True, return_counts=True)
    repeated: NDArray[np.bool_] = counts[place.reshape(-1)] > 1
    return repeated
