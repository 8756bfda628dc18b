"""From the tables of an event file to hits: which DOMs of which event have which features."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike

import h5py
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dnn_reco.amounts import counted
from dnn_reco.data.file_events import FileEvents, HitsSettings, InputTables
from dnn_reco.data.hdf5.columns import (
    NO_OBJECT,
    SURFACE_TANK,
    UNKNOWN_DOM,
    DomRows,
    read_dom_rows,
)
from dnn_reco.data.hdf5.layout import check_layout
from dnn_reco.data.hdf5.tables import (
    HEADER_COLUMNS,
    ID_COLUMNS,
    INDEX_GROUP,
    Rows,
    describe,
    event_ids,
    find_table,
    match_ids,
    open_file,
    read_rows,
    require_columns,
)
from dnn_reco.data.hits import Hits
from dnn_reco.detector.geometry import NUM_DOMS
from dnn_reco.errors import ConfigError, DataError

_NUM_SAMPLES, _SAMPLE_ROWS = 8, 1024
_FAIR_NUMBER = 100  # DOMs: fewer may have the same bins filled by chance
_NUM_BORDERS, _BORDER_ROWS = 12, 64  # a chunk has some 1500 rows, which are inflated together

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Runs:
    """Which event the rows of a table belong to: consecutive runs of rows of one event each.

    Attributes
    ----------
    start
        First row of each run [r], ascending, the first one 0.
    event
        Number of the event of each run [r]; -1 where it is none of the file's events.
    num_rows
        Number of rows of the table.
    """

    start: NDArray[np.int64]
    event: NDArray[np.int64]
    num_rows: int

    def event_of_rows(self) -> NDArray[np.int32]:
        lengths = np.diff(self.start, append=self.num_rows)
        return np.repeat(self.event.astype(np.int32), lengths)


def read_events(
    path: str | PathLike[str],
    tables: InputTables,
    num_bins: int,
    init_values: ArrayLike = 0.0,
    dtype: DTypeLike = np.float32,
    threads: int = 1,
    verify_all: bool = False,
) -> FileEvents:
    """Read all events of a file.

    Parameters
    ----------
    path
        The file.
    tables
        Names of its tables.
    num_bins
        Number of bins F of a DOM (`data_handler_num_bins`).
    init_values
        Value of bins that are not listed: one number, or one for each bin (`DOM_init_values`).
    dtype
        float32 or float64.
    threads
        Number of threads that inflate and decode.
    verify_all
        Whether to compare all rows of the tables of values and indices, also where samples are
        enough to find out which bins are listed (`data_handler_verify: full`).

    Notes
    -----
    The event ids of all rows are compared with the index table. Where the two contradict each
    other, the ids are used, with a warning.
    If a DOM lists a bin twice, the last one counts. Values that are not finite are kept.

    Raises
    ------
    ConfigError
        `init_values` has the wrong length.
    DataError
        The file or a table is missing or damaged, the tables of values and indices do not run in
        parallel, or a bin number is larger than `num_bins` allows.
    """
    init = _init_values(init_values, num_bins, dtype)
    with open_file(path) as file:
        offsets_table, values, indices = find_input_tables(file, tables)
        events = read_rows(offsets_table)
        ids = event_ids(events)
        rows = read_dom_rows(values, dtype, threads)
        runs = _runs_by_index(values, rows, ids)
        stale_index = runs is None and _index_of(values) is not None
        if runs is None:
            events_of_runs = match_ids(rows.run_ids, ids, describe(offsets_table))
            runs = _Runs(rows.run_start, events_of_runs, len(rows))
        bins = _bins(values, indices, rows, runs, num_bins, threads, verify_all)
    skipped = _count_skipped(rows, runs, bins)
    return FileEvents(
        ids=ids,
        time_offset=events["value"].astype(np.float64),
        exists=events["exists"] != 0,
        hits=_hits(rows, runs, bins, init, len(ids)),
        skipped=skipped,
        stale_index=stale_index,
    )


def read_file(path: str | PathLike[str], settings: HitsSettings) -> FileEvents:
    """Read all events of a file as an event store holds them: see :func:`read_events`."""
    dtype, init_values = np.dtype(settings.dtype), np.array(settings.init_values)
    return read_events(
        path,
        settings.tables,
        settings.num_bins,
        init_values,
        dtype,
        verify_all=settings.verify_all,
    )


def find_input_tables(
    file: h5py.File, tables: InputTables
) -> tuple[h5py.Dataset, h5py.Dataset, h5py.Dataset]:
    """The tables of time offsets, values and indices.

    Raises
    ------
    DataError
        If a table or column is missing, or values and indices differ in length.
    """
    time_offset = find_table(file, tables.time_offset, "data_handler_time_offset_name")
    values = find_table(file, tables.values, "data_handler_bin_values_name")
    indices = find_table(file, tables.indices, "data_handler_bin_indices_name")
    require_columns(time_offset, (*HEADER_COLUMNS, "value"))
    for table in (values, indices):
        require_columns(table, (*HEADER_COLUMNS, "string", "om", "vector_index", "item"))
    if len(values) != len(indices):
        raise DataError(
            f"{describe(values)} has {len(values)} rows, but '{tables.indices}' has "
            f"{len(indices)}: the two must have equal lengths. The file is incomplete or "
            "inconsistent"
        )
    return time_offset, values, indices


def _init_values(init_values: ArrayLike, num_bins: int, dtype: DTypeLike) -> NDArray[np.floating]:
    init = np.asarray(init_values, dtype=dtype)
    if init.shape not in ((), (1,), (num_bins,)):
        raise ConfigError(
            f"DOM_init_values must be one number or one for each of the {num_bins} bins "
            f"(data_handler_num_bins), but has shape {list(init.shape)}"
        )
    return np.broadcast_to(init, (num_bins,))


# --------------------------------------------------------------------------------------------------
# Rows of which event
# --------------------------------------------------------------------------------------------------
def _runs_by_index(values: h5py.Dataset, rows: DomRows, ids: Rows) -> _Runs | None:
    """Runs from the index table; None if there is none, or one that contradicts the event ids.

    Only the index tells events with equal ids apart. Tools that merge or cut files leave no or a
    stale index behind.
    """
    index = _index_of(values)
    if index is None:
        return None
    runs = _listed_runs(index, len(rows), ids) if isinstance(index, h5py.Dataset) else None
    if runs is not None and _has_ids(runs, rows, ids):
        return runs
    _log.warning(
        "%s: its index (group %s) does not match the event ids of the rows; the ids are used.",
        describe(values),
        INDEX_GROUP,
    )
    return None


def _index_of(table: h5py.Dataset) -> h5py.HLObject | None:
    """What stands in the place of a table's index."""
    return table.file.get(f"{INDEX_GROUP}/{table.name.lstrip('/')}")


def _listed_runs(index: h5py.Dataset, num_rows: int, ids: Rows) -> _Runs | None:
    """Runs that an index table lists if it lists the file's events, without gap or overlap."""
    check_layout(index)
    # SubEventStream is always 0 in index tables.
    columns = ID_COLUMNS[:3]
    if len(index) != len(ids) or not {*columns, "start", "stop"} <= set(index.dtype.names or ()):
        return None
    rows = read_rows(index)
    if not all(np.array_equal(rows[name], ids[name]) for name in columns):
        return None
    start, stop = rows["start"].astype(np.int64), rows["stop"].astype(np.int64)
    event = np.flatnonzero(start != stop)
    edges = np.append(start[event], num_rows)
    covers = edges[0] == 0 and np.array_equal(edges[1:], stop[event]) and (np.diff(edges) > 0).all()
    return _Runs(start[event], event, num_rows) if covers else None


def _has_ids(runs: _Runs, rows: DomRows, ids: Rows) -> bool:
    """Whether all rows of each run have the event id of its event."""
    at_start = np.searchsorted(rows.run_start, runs.start, side="right") - 1
    return bool(
        np.isin(rows.run_start, runs.start).all()
        and (rows.run_ids[at_start] == ids[runs.event]).all()
    )


# --------------------------------------------------------------------------------------------------
# Which bin
# --------------------------------------------------------------------------------------------------
def _bins(
    values: h5py.Dataset,
    indices: h5py.Dataset,
    rows: DomRows,
    runs: _Runs,
    num_bins: int,
    threads: int,
    verify_all: bool,
) -> NDArray[np.int32] | None:
    """Bin of each row; None if all rows simply list bins 0 … F-1 of one DOM after the other.

    In that case the table of indices is redundant, and only samples of it are read. Formats
    list the bins of a DOM in ascending order and without repetition, so a list of F bins out of F
    can only be 0 … F-1. A format with more bins than `num_bins`, all of whose DOMs happen to have
    exactly F bins filled, shows in the samples; for F = 1, where this could really happen, the
    indices are always read.
    """
    if (
        not verify_all
        and num_bins > 1
        and _lists_all_bins(rows, runs, num_bins)
        and all(_sample_is_regular(values, indices, part) for part in _samples(runs))
    ):
        return None
    other = read_dom_rows(indices, np.int32, threads)
    differs = (other.dom != rows.dom) | (other.vector_index != rows.vector_index)
    differs[_differing_ids(rows, other)] = True
    if differs.any():
        raise _not_parallel(values, indices, int(np.flatnonzero(differs)[0]))
    bins: NDArray[np.int32] = other.item  # type: ignore[assignment]
    ours = rows.dom >= 0
    largest = int(bins.max(where=ours, initial=-1))
    if largest >= num_bins:
        raise DataError(
            f"{describe(indices)} lists bin {largest}, but data_handler_num_bins is {num_bins}: it "
            f"must be at least {largest + 1} for this file, and fit the data format of the tables"
        )
    if largest + 1 < num_bins and _lists_first_bins(rows, runs, bins, largest + 1):
        _log.warning(
            f"each DOM of {describe(indices)} lists {counted(largest + 1, 'feature')}, but the "
            f"network reads {num_bins} (data_handler_num_bins): the others are taken as not listed "
            "(DOM_init_values). Are these tables of the data format that it is trained on?"
        )
    return bins


def _lists_first_bins(rows: DomRows, runs: _Runs, bins: NDArray[np.int32], num_listed: int) -> bool:
    """Whether every DOM, of a fair number of them, lists bins 0 … num_listed - 1."""
    return (
        num_listed > 0
        and len(rows) >= _FAIR_NUMBER * num_listed
        and _lists_all_bins(rows, runs, num_listed)
        and bool((bins.reshape(-1, num_listed) == np.arange(num_listed)).all())
    )


def _lists_all_bins(rows: DomRows, runs: _Runs, num_bins: int) -> bool:
    """Whether every DOM of every event lists F items."""
    if len(rows) == 0 or len(rows) % num_bins or (runs.start % num_bins).any():
        return False
    dom = rows.dom.reshape(-1, num_bins)
    index = rows.vector_index.reshape(-1, num_bins)
    return bool((index == np.arange(num_bins)).all() and (dom == dom[:, :1]).all())


def _samples(runs: _Runs) -> Iterator[slice]:
    """Samples of a table: its ends, evenly between, and on both sides of borders of runs."""
    last = max(0, runs.num_rows - _SAMPLE_ROWS)
    for start in np.linspace(0, last, _NUM_SAMPLES).astype(int).tolist():
        yield slice(start, start + _SAMPLE_ROWS)
    chosen = np.linspace(0, len(runs.start) - 1, _NUM_BORDERS).astype(int)
    for border in np.unique(runs.start[chosen]).tolist():
        yield slice(max(0, border - _BORDER_ROWS), border + _BORDER_ROWS)


def _sample_is_regular(values: h5py.Dataset, indices: h5py.Dataset, part: slice) -> bool:
    """Compare some rows of the two tables; True if the bins there are the list positions."""
    ours = read_rows(values, part.start, part.stop)
    other = read_rows(indices, part.start, part.stop)
    for name in (*ID_COLUMNS, "string", "om", "vector_index"):
        differs = ours[name] != other[name]
        if differs.any():
            raise _not_parallel(values, indices, part.start + int(np.flatnonzero(differs)[0]))
    return bool((other["item"] == other["vector_index"]).all())


def _differing_ids(rows: DomRows, other: DomRows) -> NDArray[np.int64]:
    """First rows of the runs in which the event ids of two tables of equal length differ."""
    start = np.union1d(rows.run_start, other.run_start)
    ids, ids_there = (
        table.run_ids[np.searchsorted(table.run_start, start, side="right") - 1]
        for table in (rows, other)
    )
    differing: NDArray[np.int64] = start[ids != ids_there]
    return differing


def _not_parallel(values: h5py.Dataset, indices: h5py.Dataset, row: int) -> DataError:
    def content_of(table: h5py.Dataset) -> str:
        (content,) = read_rows(table, row, row + 1)
        return ", ".join(f"{name} {content[name]}" for name in ("Event", "string", "om"))

    return DataError(
        f"{describe(values)} and '{indices.name.lstrip('/')}' are not parallel: row {row} "
        f"is {content_of(values)} in the first, {content_of(indices)} in the second. The file is "
        "inconsistent"
    )


# --------------------------------------------------------------------------------------------------
# Hits
# --------------------------------------------------------------------------------------------------
def _count_skipped(rows: DomRows, runs: _Runs, bins: NDArray[np.int32] | None) -> dict[str, int]:
    lengths = np.diff(runs.start, append=runs.num_rows)
    counts = {
        "rows of surface tanks": np.count_nonzero(rows.dom == SURFACE_TANK),
        "rows of unknown DOMs": np.count_nonzero(rows.dom == UNKNOWN_DOM),
        "rows without object": np.count_nonzero(rows.dom == NO_OBJECT),
        "rows of negative bins": 0
        if bins is None
        else np.count_nonzero((bins < 0) & (rows.dom >= 0)),
        "rows of events not in the time-offset table": int(lengths[runs.event < 0].sum()),
    }
    return {kind: int(count) for kind, count in counts.items() if count}


def _hits(
    rows: DomRows,
    runs: _Runs,
    bins: NDArray[np.int32] | None,
    init: NDArray[np.floating],
    num_events: int,
) -> Hits:
    F = len(init)
    event = runs.event_of_rows()
    hits = None
    if bins is None:
        hits = _hits_of_full_lists(rows, event, F)
        bins = np.tile(np.arange(F, dtype=np.int32), len(rows) // F) if hits is None else None
    if hits is None:
        assert bins is not None
        hits = _hits_of_rows(rows, event, bins, init)
    event_and_dom, features = hits
    event_of_hit, dom = np.divmod(event_and_dom, NUM_DOMS)
    offsets = np.searchsorted(event_of_hit, np.arange(num_events + 1)).astype(np.int64)
    return Hits(offsets, dom.astype(np.uint16), features)


def _hits_of_full_lists(
    rows: DomRows, event: NDArray[np.int32], num_bins: int
) -> tuple[NDArray[np.int64], NDArray[np.floating]] | None:
    """Hits where each DOM has F rows; None if DOMs are out of order or occur twice in an event."""
    dom, event = rows.dom[::num_bins], event[::num_bins]
    keep = (dom >= 0) & (event >= 0)
    event_and_dom = (event.astype(np.int64) * NUM_DOMS + dom)[keep]
    if (np.diff(event_and_dom) <= 0).any():
        return None
    features = rows.item.reshape(-1, num_bins)
    return event_and_dom, features if keep.all() else features[keep]  # type: ignore[return-value]


def _hits_of_rows(
    rows: DomRows,
    event: NDArray[np.int32],
    bins: NDArray[np.int32],
    init: NDArray[np.floating],
) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
    """Hits from rows in any order: one scatter of the listed bins onto the initial values."""
    keep = (rows.dom >= 0) & (event >= 0) & (bins >= 0)
    event_and_dom = (event.astype(np.int64) * NUM_DOMS + rows.dom)[keep]
    bins, item = bins[keep], rows.item[keep]
    if (np.diff(event_and_dom) < 0).any():
        # Stable, so that of two rows of one bin the later one stays the later.
        order = np.argsort(event_and_dom, kind="stable")
        event_and_dom, bins, item = event_and_dom[order], bins[order], item[order]
    is_first = np.ones(len(event_and_dom), dtype=bool)
    is_first[1:] = np.diff(event_and_dom) != 0
    hit = np.cumsum(is_first) - 1
    event_and_dom = event_and_dom[is_first]
    features = np.tile(init, (len(event_and_dom), 1))
    features[hit, bins] = item
    return event_and_dom, features
