"""Which events of which files are evaluated, and rows of further tables of these files for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.hdf5.tables import HEADER_COLUMNS, event_ids, match_ids, read_table
from dnn_reco.errors import DataError
from dnn_reco.suggestions import did_you_mean


@dataclass(frozen=True)
class EventsOfFile:
    """The events of one file that are evaluated.

    Ids are unique only within a file: different simulations may count alike.

    Attributes
    ----------
    path
        The event file (HDF5).
    ids
        Event ids [n], structured.
    time_offset
        Time that predicted and true times are relative to [n], ns.
    """

    path: Path
    ids: NDArray[np.void]
    time_offset: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)


def events_of_files(events: EventDataset) -> list[EventsOfFile]:
    """The events of each file of a data set, in their order."""
    read = events.read_without_hits()
    stops = np.cumsum(events.events_per_shard)
    return [
        EventsOfFile(shard.event_file, read.ids[start:stop], read.time_offset[start:stop])
        for shard, start, stop in zip(
            events.shards, stops - events.events_per_shard, stops, strict=True
        )
    ]


def files_without_events(events: EventDataset) -> list[EventsOfFile]:
    """The files of a data set of which no event is used: filters may keep none."""
    return [
        EventsOfFile(shard.event_file, np.zeros(0, EVENT_ID), np.zeros(0))
        for shard in events.empty_shards
    ]


def rows_of_events(file: EventsOfFile, table: str) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """All rows of a table of a file, and the row of each event [n]; -1: it has none.

    Raises
    ------
    DataError
        If there is no such table, it has no event ids, or several rows for one event.
    """
    rows = read_table(file.path, table)
    if not set(HEADER_COLUMNS) <= set(rows.dtype.names or ()):
        raise DataError(
            f"table '{table}' of '{file.path}' cannot be joined to events: it needs the columns "
            f"{', '.join(HEADER_COLUMNS)}"
        )
    position = match_ids(file.ids, event_ids(rows), f"table '{table}' of '{file.path}'")
    has_object = np.append(rows["exists"] != 0, False)
    return rows, np.where(has_object[position], position, -1)


def read_column(files: Sequence[EventsOfFile], table: str, column: str) -> NDArray[np.float64]:
    """A column of a table of all files [n]; NaN for events that have no row.

    Raises
    ------
    DataError
        If a file has no such table or column, or the column does not hold numbers.
    """
    return np.concatenate([np.empty(0), *(_column(file, table, column) for file in files)])


def _column(file: EventsOfFile, table: str, column: str) -> NDArray[np.float64]:
    rows, position = rows_of_events(file, table)
    names = [name for name in rows.dtype.names or () if name not in HEADER_COLUMNS]
    if column not in names:
        raise DataError(
            f"table '{table}' of '{file.path}' has no column '{column}'."
            f"{did_you_mean(column, names)} Its columns: {', '.join(names)}"
        )
    return values_at(rows, column, position)


def values_at(
    rows: NDArray[np.void], column: str, position: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Values [n] of a column at the rows of events [n]; NaN where the row is -1.

    Raises
    ------
    DataError
        If the column does not hold one number a row.
    """
    dtype = rows.dtype[column]
    if dtype.shape or dtype.kind not in "fiub":
        raise DataError(f"column '{column}' does not hold one number a row, but {dtype}")
    return np.append(rows[column].astype(np.float64), np.nan)[position]
