"""Labels, misc data and filter of one file: which events are used, and their true labels.

Users' own functions run here, with the signatures of the reference. The result is one fixed-size
*record* an event, ready for training: labels with fill values, smoothing and relative times
applied, and where the event's hits lie.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from dnn_reco.config import PluginConfig, call_plugin, check_signature, resolve
from dnn_reco.data.file_events import EVENT_ID, FileEvents
from dnn_reco.data.hits import Hits, dense_cells
from dnn_reco.detector import grid
from dnn_reco.errors import DataError


@dataclass(frozen=True)
class RecordSettings:
    """What labels, misc data and the selection of events depend on.

    Attributes
    ----------
    label_class, misc_class, filter_class
        Dotted names of the functions that load labels and misc data and select events.
    label_fill_values
        Value for a label that is not finite, by label name.
    nan_fill_value
        Value for any label or misc value that is still not finite; None drops the event.
    pid_keys, pid_smoothing
        Classification labels y become y (1 - s) + s / 2.
    relative_time_keys, relative_time_pattern
        Labels and misc values of these names, or with the pattern in their lower-case name, are
        made relative to the event's time offset.
    dtype
        Floating-point type of the records, "float32" or "float64".
    """

    label_class: str
    misc_class: str
    filter_class: str
    label_fill_values: tuple[tuple[str, float], ...]
    nan_fill_value: float | None
    pid_keys: tuple[str, ...]
    pid_smoothing: float | None
    relative_time_keys: tuple[str, ...]
    relative_time_pattern: str | None
    dtype: str


@dataclass(frozen=True)
class ColumnNames:
    """Names of labels and misc values, in order."""

    labels: tuple[str, ...]
    misc: tuple[str, ...]


@dataclass(frozen=True)
class ShardEvents:
    """The events of one file as the store holds them, before any selection.

    Attributes
    ----------
    table
        One row per event, in file order: `id`, `time_offset` [ns], `exists` (the time-offset row
        holds an object), `finite` (all inputs are), `start` and `stop` of its hits and their
        `checksum`.
    hits
        Hits of all events.
    init_values
        What a DOM without hit holds [F].
    """

    table: NDArray[np.void]
    hits: Hits
    init_values: NDArray[np.float64]


EVENT_TABLE = np.dtype(
    [
        ("id", EVENT_ID),
        ("time_offset", "f8"),
        ("exists", "?"),
        ("finite", "?"),
        ("start", "i8"),
        ("stop", "i8"),
        ("checksum", "u4"),
    ]
)


def hits_checksums(hits: Hits, events: NDArray[np.integer]) -> NDArray[np.uint32]:
    """CRC-32 of the bytes of the hits of some events: DOM indices as uint16, then features."""
    dom, features = (
        memoryview(np.ascontiguousarray(array).view(np.uint8).reshape(-1))  # type: ignore[arg-type]
        for array in (hits.dom.astype(np.uint16, copy=False), hits.features)
    )
    row = hits.features.itemsize * hits.num_features
    checksums = [
        zlib.crc32(features[row * start : row * stop], zlib.crc32(dom[2 * start : 2 * stop]))
        for start, stop in zip(
            hits.offsets[events].tolist(), hits.offsets[events + 1].tolist(), strict=True
        )
    ]
    return np.array(checksums, dtype=np.uint32)


def records_checksums(records: NDArray[np.void]) -> NDArray[np.uint32]:
    """CRC-32 of each record, without the checksum that ends it [n]."""
    size = records.itemsize
    content = memoryview(np.ascontiguousarray(records).view(np.uint8).reshape(-1))  # type: ignore[arg-type]
    starts = range(0, size * len(records), size)
    checksums = [zlib.crc32(content[start : start + size - 4]) for start in starts]
    return np.array(checksums, dtype=np.uint32)


def event_table(events: FileEvents) -> NDArray[np.void]:
    """Table of the events of a file: see :class:`ShardEvents`."""
    hits = events.hits
    table = np.zeros(len(events.ids), dtype=EVENT_TABLE)
    table["id"], table["time_offset"] = events.ids, events.time_offset
    table["exists"] = events.exists & np.isfinite(events.time_offset)
    table["start"], table["stop"] = hits.offsets[:-1], hits.offsets[1:]
    table["finite"] = True
    table["finite"][hits.event[~np.isfinite(hits.features).all(axis=1)]] = False
    every_event = np.arange(hits.num_events)
    table["checksum"] = hits_checksums(hits, every_event)
    return table


def record_dtype(names: ColumnNames, dtype: str) -> np.dtype[np.void]:
    """Type of a record: event id, file row, hits, time offset [ns], labels, misc data, checksum."""
    return np.dtype(
        [
            ("id", EVENT_ID),
            ("row", "i8"),
            ("start", "i8"),
            ("stop", "i8"),
            ("hits_checksum", "u4"),
            ("time_offset", "f8"),
            ("labels", dtype, (len(names.labels),)),
            ("misc", dtype, (len(names.misc),)),
            ("checksum", "u4"),
        ]
    )


@dataclass(frozen=True)
class Records:
    """Records of the events that are used, and how many were dropped for which reason."""

    names: ColumnNames
    rows: NDArray[np.void]
    dropped: Mapping[str, int]


def load_records(
    path: Path,
    events: ShardEvents,
    settings: RecordSettings,
    config: PluginConfig,
    names: ColumnNames | None,
) -> Records:
    """Labels and misc data of one file, filtered and prepared for training.

    The order is that of the reference: fill values of labels, smoothing, filter, relative times
    (all in float64), and last the dropping of events that are not finite in the records' type.

    Parameters
    ----------
    path
        The HDF5 file.
    events
        Its events as stored.
    settings
        Settings of the records.
    config
        Configuration as users' functions see it.
    names
        Columns to load; None: this file defines them.

    Raises
    ------
    DataError
        If a user's function fails, or returns something that does not fit the file's events.
    """
    table = events.table
    loaded, label_names = _load_columns("label", settings.label_class, path, config, names, table)
    loaded_misc, misc_names = _load_columns("misc", settings.misc_class, path, config, names, table)
    found = ColumnNames(tuple(label_names), tuple(misc_names))

    has_labels = ~np.ma.getmaskarray(loaded).any(axis=1)
    labels: NDArray[np.float64] = loaded.filled(np.nan)
    misc: NDArray[np.float64] = loaded_misc.filled(np.nan)
    labels = fill_labels(labels, label_names, dict(settings.label_fill_values))
    labels = smooth_labels(labels, label_names, settings.pid_keys, settings.pid_smoothing)
    passes = _apply_filter(path, events, settings, config, found, labels, misc)

    final_labels = _finish(labels, label_names, table["time_offset"], settings)
    final_misc = _finish(misc, misc_names, table["time_offset"], settings)
    reasons = {
        "without object (exists = 0)": ~(table["exists"] & has_labels),
        "rejected by the filter": ~passes,
        "with non-finite inputs": ~table["finite"],
        "with non-finite labels": ~np.isfinite(final_labels).all(axis=1),
    }
    used = np.ones(len(table), dtype=bool)
    dropped = {}
    for reason, bad in reasons.items():
        dropped[reason] = int((used & bad).sum())
        used &= ~bad
    records = np.zeros(int(used.sum()), dtype=record_dtype(found, settings.dtype))
    records["row"] = np.flatnonzero(used)
    for column in ("id", "start", "stop", "time_offset"):
        records[column] = table[column][used]
    records["hits_checksum"] = table["checksum"][used]
    records["labels"] = final_labels[used]
    records["misc"] = final_misc[used]
    records["checksum"] = records_checksums(records)
    return Records(found, records, dropped)


def load_misc(
    path: Path,
    table: NDArray[np.void],
    settings: RecordSettings,
    config: PluginConfig,
    names: ColumnNames,
) -> NDArray[np.floating]:
    """Misc data [n, M] of all events of a file, as in training, without labels or selection.

    Parameters and errors are those of :func:`load_records`; `table` is that of the events.
    """
    misc, found = _load_columns("misc", settings.misc_class, path, config, names, table)
    return _finish(misc.filled(np.nan), found, table["time_offset"], settings)


def load_column_names(
    path: Path, table: NDArray[np.void], settings: RecordSettings, config: PluginConfig
) -> ColumnNames:
    """Names of labels and misc data that the functions of the config load from a file.

    Parameters and errors are those of :func:`load_records`; `table` is that of the events.
    """
    _, labels = _load_columns("label", settings.label_class, path, config, None, table)
    _, misc = _load_columns("misc", settings.misc_class, path, config, None, table)
    return ColumnNames(tuple(labels), tuple(misc))


def fill_labels(
    labels: NDArray[np.float64], names: Sequence[str], fill_values: Mapping[str, float]
) -> NDArray[np.float64]:
    """Labels [n, L] with values that are not finite replaced, by label name."""
    result = labels.copy()
    for name, value in fill_values.items():
        if name in names:
            column = result[:, names.index(name)]
            column[~np.isfinite(column)] = value
    return result


def smooth_labels(
    labels: NDArray[np.float64],
    names: Sequence[str],
    pid_keys: Sequence[str],
    smoothing: float | None,
) -> NDArray[np.float64]:
    """Labels [n, L] with classification labels y smoothed towards one half: y (1 - s) + s / 2."""
    if not smoothing:
        return labels
    is_pid = np.isin(names, pid_keys)
    return np.where(is_pid, labels * (1.0 - smoothing) + 0.5 * smoothing, labels)


def _finish(
    columns: NDArray[np.float64],
    names: Sequence[str],
    time_offset: NDArray[np.float64],
    settings: RecordSettings,
) -> NDArray[np.floating]:
    """Columns [n, C] as stored in the records: relative times, type, fill value."""
    is_time = relative_time_columns(names, settings)
    with np.errstate(over="ignore", invalid="ignore"):
        relative = np.where(is_time, columns - time_offset[:, None], columns)
        result: NDArray[np.floating] = relative.astype(settings.dtype)  # too large becomes inf
    if settings.nan_fill_value is not None:
        result[~np.isfinite(result)] = settings.nan_fill_value
    return result


def relative_time_columns(names: Sequence[str], settings: RecordSettings) -> NDArray[np.bool_]:
    """Which columns hold absolute times that become relative to the event's time offset."""
    pattern = settings.relative_time_pattern
    return np.array(
        [
            name in settings.relative_time_keys or bool(pattern and pattern in name.lower())
            for name in names
        ],
        dtype=bool,
    )


def _load_columns(
    kind: str,
    dotted_name: str,
    path: Path,
    config: PluginConfig,
    names: ColumnNames | None,
    table: NDArray[np.void],
) -> tuple[np.ma.MaskedArray[Any, Any], list[str]]:
    """Run a user's label or misc loader, and check that what it returns fits the file."""
    key = f"data_handler_{kind}_class"
    expected = None if names is None else list(names.labels if kind == "label" else names.misc)
    result = _call(dotted_name, key, path, str(path), config.private_copy(), expected)
    try:
        columns, found = result
        found = [str(name) for name in found]
        columns = np.empty((len(table), 0)) if columns is None else columns
        columns = np.ma.array(columns, dtype=np.float64, copy=True)  # a loader may keep its own
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{dotted_name} ({key}) must return an array of numbers and a list of names, but for "
            f"'{path}' it did not: {error}"
        ) from error
    if columns.shape != (len(table), len(found)):
        raise DataError(
            f"{dotted_name} ({key}) returned an array of shape {columns.shape} with {len(found)} "
            f"names for '{path}', which has {len(table)} events: it must return one row for each "
            "row of the time-offset table and one column for each name"
        )
    if expected is not None and found != expected:
        raise DataError(
            f"{dotted_name} ({key}) found {found} in '{path}', but the files before had "
            f"{expected}: all files must offer the same {kind} columns"
        )
    return columns, found


def _apply_filter(
    path: Path,
    events: ShardEvents,
    settings: RecordSettings,
    config: PluginConfig,
    names: ColumnNames,
    labels: NDArray[np.float64],
    misc: NDArray[np.float64],
) -> NDArray[np.bool_]:
    key = "data_handler_filter_class"
    cells = cache(lambda: dense_cells(events.hits, events.init_values))
    mask = _call(
        settings.filter_class,
        key,
        path,
        DataHandlerView(names),
        str(path),
        config.private_copy(),
        LazyCells(events.hits, cells, grid.main_array),
        LazyCells(events.hits, cells, grid.deepcore),
        labels,
        misc if names.misc else None,
        np.ascontiguousarray(events.table["time_offset"]),
    )
    found = np.asarray(mask)
    mask = found.astype(bool)
    if mask.shape == (len(labels),) and np.any(mask != found):
        raise DataError(
            f"{settings.filter_class} ({key}) returned other values than True and False for "
            f"'{path}': it must return whether each event is kept, not the numbers of the kept ones"
        )
    if mask.shape != (len(labels),):
        raise DataError(
            f"{settings.filter_class} ({key}) returned a mask of shape {mask.shape} for the "
            f"{len(labels)} events of '{path}': it must return one truth value for each"
        )
    return mask


def _call(dotted_name: str, key: str, path: Path, *arguments: object) -> Any:
    """Call a user's function for a file."""
    function = resolve(dotted_name, key)
    check_signature(function, dotted_name, key)
    return call_plugin(function, dotted_name, key, f"for '{path}'", *arguments)


@dataclass(frozen=True)
class DataHandlerView:
    """`data_handler` of users' filters: names and columns of labels and misc values."""

    names: ColumnNames

    @property
    def label_names(self) -> list[str]:
        """Names of the labels, in order."""
        return list(self.names.labels)

    @property
    def misc_names(self) -> list[str]:
        """Names of the misc values, in order."""
        return list(self.names.misc)

    @property
    def label_name_dict(self) -> dict[str, int]:
        """Column of each label."""
        return {name: column for column, name in enumerate(self.names.labels)}

    @property
    def misc_name_dict(self) -> dict[str, int]:
        """Column of each misc value."""
        return {name: column for column, name in enumerate(self.names.misc)}

    def get_label_index(self, key: str) -> int:
        """Column of a label."""
        return self.label_name_dict[key]

    def get_misc_index(self, key: str) -> int:
        """Column of a misc value."""
        return self.misc_name_dict[key]


class LazyCells(NDArrayOperatorsMixin):
    """Dense input tensor of all events of a file, made only when a filter touches it.

    Most filters never use the inputs, which are a quarter of a megabyte an event when dense. It
    behaves like an array.

    Parameters
    ----------
    hits
        Their hits.
    cells
        Returns their inputs in all cells [n, 6480, F].
    part
        Selects the main array or DeepCore from the cells.
    """

    def __init__(
        self,
        hits: Hits,
        cells: Callable[[], NDArray[np.floating]],
        part: Callable[[NDArray[Any]], NDArray[Any]],
    ) -> None:
        self._hits = hits
        self._cells = cells
        self._part = part

    def __len__(self) -> int:
        return self._hits.num_events

    def __getitem__(self, index: Any) -> Any:
        return self.__array__()[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.__array__(), name)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        dense = np.asarray(self._part(self._cells()), dtype=dtype)
        return dense.copy() if copy else dense

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        arrays = [np.asarray(value) if isinstance(value, LazyCells) else value for value in inputs]
        return getattr(ufunc, method)(*arrays, **kwargs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor: [n, 10, 10, 60, F] or [n, 8, 60, F]."""
        one_event = np.empty((grid.NUM_CELLS, self._hits.num_features))
        return (len(self), *self._part(one_event).shape)
