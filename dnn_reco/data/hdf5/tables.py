"""Opening event files, and the tables that hold one row per event."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.hdf5.layout import check_layout
from dnn_reco.errors import DataError, DnnRecoError
from dnn_reco.suggestions import did_you_mean

Rows = NDArray[np.void]

HDF5_SUFFIXES = (".hdf5", ".h5", ".hdf")
"""Endings of names of event files; others are recognised by their content."""

ID_COLUMNS = EVENT_ID.names or ()
HEADER_COLUMNS = (*ID_COLUMNS, "exists")

SUB_EVENT_STREAMS = ("in_ice", "InIceSplit", "Final", "topological_split")
INDEX_GROUP = "__I3Index__"


# --------------------------------------------------------------------------------------------------
# Files and tables
# --------------------------------------------------------------------------------------------------
@contextmanager
def open_file(path: str | PathLike[str]) -> Iterator[h5py.File]:
    """Open an event file for reading, without file locking (which cluster file systems lack).

    Raises
    ------
    DataError
        The file is missing, empty, truncated, or not HDF5.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"'{path}' is a folder: name the files in it, such as '{path}/*.hdf5'")
    if not path.is_file():
        raise DataError(f"'{path}': there is no such file")
    if path.stat().st_size == 0:
        raise DataError(
            f"'{path}' is empty (0 bytes): the job that wrote it probably failed; remove the file "
            "or write it again"
        )
    try:
        file = _open_without_locking(path)
    except OSError as error:
        raise DataError(_why_not_opened(path, error)) from error
    try:
        with file:
            yield file
    except (DnnRecoError, MemoryError):
        raise
    except Exception as error:  # h5py raises errors of many types where a file is damaged
        raise DataError(
            f"'{path}' cannot be read: the file is damaged ({type(error).__name__}: {error})"
        ) from error


def _open_without_locking(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        # This process has opened the file elsewhere, with locking: both must be opened alike.
        return h5py.File(path, "r")


def _why_not_opened(path: Path, error: OSError) -> str:
    if "truncated" in str(error):
        return (
            f"'{path}' is truncated: only {path.stat().st_size} bytes of it are there; copy or "
            f"write it again ({error})"
        )
    with suppress(OSError):
        if not h5py.is_hdf5(path):
            if ".i3" in path.suffixes:
                return f"'{path}' holds frames: convert it to event files with dnn-reco create-data"
            return f"'{path}' is not an HDF5 file"
    return f"'{path}' cannot be opened: {error}"


def find_table(file: h5py.File, name: str, setting: str | None = None) -> h5py.Dataset:
    """The table `name` of an open file, its compression checked to be readable.

    Parameters
    ----------
    setting
        Configuration key that gave the name, for the error message.

    Raises
    ------
    DataError
        No such table, one compressed by a filter that is not installed, or one whose declared
        sizes do not fit the file.
    """
    table = file.get(name)
    if not _is_table(table):
        asked_by = f" (given by '{setting}')" if setting else ""
        there = _table_names(file)
        raise DataError(
            f"'{file.filename}' has no table '{name}'{asked_by}.{did_you_mean(name, there)} "
            f"Tables in the file: {', '.join(there) or 'none'}"
        )
    _require_filters(table)
    check_layout(table)
    return table


def _is_table(node: object) -> bool:
    return isinstance(node, h5py.Dataset) and node.dtype.names is not None and node.ndim == 1


def _table_names(file: h5py.File) -> list[str]:
    return [name for name, node in file.items() if _is_table(node)]


def _require_filters(table: h5py.Dataset) -> None:
    """Make sure that the table's compression filters are there, from hdf5plugin if need be."""
    settings = table.id.get_create_plist()
    filters = [settings.get_filter(i) for i in range(settings.get_nfilters())]
    names = {number: name.decode() or f"number {number}" for number, _, _, name in filters}
    if not all(map(h5py.h5z.filter_avail, names)):
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")
    missing = [name for number, name in names.items() if not h5py.h5z.filter_avail(number)]
    if missing:
        raise DataError(
            f"{describe(table)} is compressed with the filter {', '.join(missing)}, which is not "
            "installed. Install hdf5plugin: pip install 'dnn_reco[fastread]'"
        )


def describe(table: h5py.Dataset) -> str:
    """A table named together with its file, for messages."""
    return f"table '{table.name.lstrip('/')}' of '{table.file.filename}'"


def require_columns(table: h5py.Dataset, columns: Sequence[str]) -> None:
    """Raise DataError unless the table has all the columns."""
    there = table.dtype.names
    missing = [name for name in columns if name not in there]
    if missing:
        raise DataError(
            f"{describe(table)} has no column {', '.join(map(repr, missing))}."
            f"{did_you_mean(missing[0], there)} Its columns: {', '.join(there)}"
        )


def read_rows(table: h5py.Dataset, start: int = 0, stop: int | None = None) -> Rows:
    """Rows start…stop of a table as h5py reads them; DataError where the data are damaged."""
    try:
        rows: Rows = table[start:stop]
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{describe(table)} cannot be read: the file is damaged ({error})"
        ) from error
    return rows


# --------------------------------------------------------------------------------------------------
# Whole tables
# --------------------------------------------------------------------------------------------------
def list_tables(path: str | PathLike[str]) -> list[str]:
    """Names of all tables of a file, without the index group."""
    with open_file(path) as file:
        return _table_names(file)


def count_events(
    path: str | PathLike[str],
    time_offset_table: str,
    setting: str = "data_handler_time_offset_name",
) -> int:
    """Number of events of a file: the length of the time-offset table, no data are read."""
    with open_file(path) as file:
        return len(find_table(file, time_offset_table, setting))


def read_table(path: str | PathLike[str], name: str, setting: str | None = None) -> Rows:
    """All rows of a per-event table as a structured array, ids and `exists` included."""
    with open_file(path) as file:
        return read_rows(find_table(file, name, setting))


def read_columns(
    path: str | PathLike[str],
    table: str,
    columns: Sequence[str] | None,
    event_table: str,
    setting: str | None = None,
) -> "tuple[np.ma.MaskedArray[tuple[int, int], np.dtype[np.float64]], list[str]]":
    """Columns of a per-event table, joined to the events of a file.

    Parameters
    ----------
    table
        Name of the per-event table.
    columns
        Names of the columns, in the order of the result; None: all but ids and `exists`, in file
        order.
    event_table
        Name of the time-offset table, which defines the events and their order.
    setting
        Configuration key that gave the table's name, for error messages.

    Returns
    -------
    values
        [n, C] float64; masked, and NaN below the mask, where the table has no object for the event.
    columns
        The C names.

    Raises
    ------
    DataError
        Table or column missing, a column that is not one number a row, several rows for one event.
    """
    with open_file(path) as file:
        source = find_table(file, table, setting)
        names = list(columns) if columns is not None else _value_columns(source)
        require_columns(source, names)
        for name in names:
            _require_number(source, name)
        rows, row_of_event = _join(file, source, event_table)
    absent = row_of_event < 0
    values = np.full((len(row_of_event), len(names)), np.nan)
    for column, name in enumerate(names):
        values[~absent, column] = rows[name][row_of_event[~absent]]
    mask = np.repeat(absent[:, None], len(names), axis=1)
    return np.ma.MaskedArray(values, mask=mask), names


def read_joined(
    path: str | PathLike[str], table: str, event_table: str, setting: str | None = None
) -> tuple[Rows, NDArray[np.int64]]:
    """A whole per-event table, and for each event the row that belongs to it.

    For tables whose columns are not single numbers, such as filter results.

    Returns
    -------
    rows
        All rows of the table.
    row_of_event
        [n] row of each event of `event_table`; -1 where the table has no object for the event.
    """
    with open_file(path) as file:
        return _join(file, find_table(file, table, setting), event_table)


def _value_columns(table: h5py.Dataset) -> list[str]:
    return [name for name in table.dtype.names if name not in HEADER_COLUMNS]


def _require_number(table: h5py.Dataset, column: str) -> None:
    dtype = table.dtype[column]
    if dtype.shape or dtype.kind not in "fiub":
        raise DataError(
            f"column '{column}' of {describe(table)} does not hold one number a row, but {dtype}"
        )


# --------------------------------------------------------------------------------------------------
# Joining by event id
# --------------------------------------------------------------------------------------------------
def event_ids(rows: Rows | Mapping[str, NDArray[np.generic]]) -> Rows:
    """The id columns of `rows` as an array of EVENT_ID."""
    ids = np.empty(len(rows[ID_COLUMNS[0]]), dtype=EVENT_ID)
    for name in ID_COLUMNS:
        ids[name] = rows[name]
    return ids


def _join(file: h5py.File, table: h5py.Dataset, event_table: str) -> tuple[Rows, NDArray[np.int64]]:
    """All rows of `table`, and the row of each event (-1: no object)."""
    events = find_table(file, event_table, "data_handler_time_offset_name")
    for one in (table, events):
        require_columns(one, HEADER_COLUMNS)
    rows = read_rows(table)
    ids = event_ids(rows)
    ids_of_events = ids if table == events else event_ids(read_rows(events))
    if np.array_equal(ids, ids_of_events):
        row_of_event = np.arange(len(ids))
    else:
        row_of_event = match_ids(ids_of_events, ids, describe(table))
    has_object = np.append(rows["exists"] != 0, False)
    return rows, np.where(has_object[row_of_event], row_of_event, -1)


def match_ids(ids: Rows, there: Rows, place: str) -> NDArray[np.int64]:
    """Position in `there` of each event id; -1 for those that are not in it.

    Parameters
    ----------
    ids, there
        Arrays of EVENT_ID.
    place
        Where `there` comes from, for the error message.

    Raises
    ------
    DataError
        An id occurs twice in `there`.
    """
    both = np.concatenate([there, ids])
    high = both["Run"].astype(np.uint64) << np.uint64(32) | both["Event"]
    low = both["SubEvent"].astype(np.uint64) << np.uint64(32) | both["SubEventStream"].view("u4")
    order = np.lexsort((low, high))
    is_new = np.ones(len(both), dtype=bool)
    is_new[1:] = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    number = np.empty(len(both), dtype=np.int64)
    number[order] = np.cumsum(is_new) - 1

    count = np.bincount(number[: len(there)])
    if (count > 1).any():
        twice = there[np.flatnonzero(count[number[: len(there)]] > 1)[0]]
        raise DataError(
            f"{place} has several rows for one event, the first: "
            + ", ".join(f"{name} {twice[name]}" for name in ID_COLUMNS)
            + ". Rows can only be joined to events whose ids occur once"
        )
    position = np.full(len(both), -1)
    position[number[: len(there)]] = np.arange(len(there))
    return position[number[len(there) :]]
