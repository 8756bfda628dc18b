"""Labels, misc data and filter of one file: which events are used, and with which truth.

Users' own functions run here, with the signatures of the reference. The result is one fixed-size
*record* an event, ready for training: labels with fill values, smoothing and relative times
applied, and where the event's hits lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.config import PluginConfig, resolve
from dnn_reco.data.hdf5 import EVENT_ID
from dnn_reco.detector import grid
from dnn_reco.errors import DataError


@dataclass(frozen=True)
class RecordSettings:
    """What labels, misc data and the choice of events depend on.

    Attributes
    ----------
    label_class, misc_class, filter_class
        Dotted names of the functions that load labels and misc data and choose events.
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
    """The events of one file as the store holds them, before any choice.

    Attributes
    ----------
    table
        One row an event, in file order: `id`, `time_offset` [ns], `exists` (the time-offset row
        holds an object), `finite` (all inputs are), `start` and `stop` of its hits.
    dom, features
        Hits of all events: DOM index [k] and input features [k, F].
    init_values
        What a DOM without hit holds [F].
    """

    table: NDArray[np.void]
    dom: NDArray[np.uint16]
    features: NDArray[np.floating]
    init_values: NDArray[np.float64]


EVENT_TABLE = np.dtype(
    [
        ("id", EVENT_ID),
        ("time_offset", "f8"),
        ("exists", "?"),
        ("finite", "?"),
        ("start", "i8"),
        ("stop", "i8"),
    ]
)


def record_dtype(names: ColumnNames, dtype: str) -> np.dtype[np.void]:
    """Type of a record: event id, file row, hits' place, time offset [ns], labels, misc data."""
    return np.dtype(
        [
            ("id", EVENT_ID),
            ("row", "i8"),
            ("start", "i8"),
            ("stop", "i8"),
            ("time_offset", "f8"),
            ("labels", dtype, (len(names.labels),)),
            ("misc", dtype, (len(names.misc),)),
        ]
    )


@dataclass(frozen=True)
class Records:
    """Records of the events that are used, and why the others are not."""

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
    (all in float64), and last the dropping of events that are not finite.

    Parameters
    ----------
    path
        The HDF5 file.
    events
        Its events as stored.
    settings
        What to do.
    config
        What users' functions see of the configuration.
    names
        Columns to load; None for the first file, which then defines them.

    Raises
    ------
    DataError
        If a user's function returns something that does not fit the file's events.
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

    for columns, column_names in ((labels, label_names), (misc, misc_names)):
        is_time = relative_time_columns(column_names, settings)
        columns[:, is_time] -= table["time_offset"][:, None]
    if settings.nan_fill_value is not None:
        labels[~np.isfinite(labels)] = settings.nan_fill_value
        misc[~np.isfinite(misc)] = settings.nan_fill_value

    reasons = {
        "without object (exists = 0)": ~(table["exists"] & has_labels),
        "rejected by the filter": ~passes,
        "with non-finite inputs": ~table["finite"],
        "with non-finite labels": ~np.isfinite(labels).all(axis=1),
    }
    used = np.ones(len(table), dtype=bool)
    dropped = {}
    for reason, bad in reasons.items():
        dropped[reason] = int((used & bad).sum())
        used &= ~bad
    return Records(found, _fill_records(table, used, labels, misc, found, settings), dropped)


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
    """Labels [n, L] with classification labels y drawn towards one half: y (1 - s) + s / 2."""
    if not smoothing:
        return labels
    is_pid = np.isin(names, pid_keys)
    return np.where(is_pid, labels * (1.0 - smoothing) + 0.5 * smoothing, labels)


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
    loader = resolve(dotted_name, f"data_handler_{kind}_class")
    wanted = None if names is None else list(names.labels if kind == "label" else names.misc)
    columns, found = loader(str(path), config, wanted)
    found = [str(name) for name in found]
    if columns is None:
        columns = np.empty((len(table), 0))
    columns = np.ma.array(columns, dtype=np.float64)
    if columns.shape != (len(table), len(found)):
        raise DataError(
            f"{dotted_name} (data_handler_{kind}_class) returned an array of shape {columns.shape} "
            f"with {len(found)} names for '{path}', which has {len(table)} events: it must return "
            f"one row an event of the time-offset table and one column a name"
        )
    if wanted is not None and found != wanted:
        raise DataError(
            f"{dotted_name} (data_handler_{kind}_class) found {found} in '{path}', but the files "
            f"before had {wanted}: all files must offer the same {kind} columns"
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
    choose = resolve(settings.filter_class, "data_handler_filter_class")
    mask = choose(
        DataHandlerView(names),
        str(path),
        config,
        LazyCells(events, grid.main_array),
        LazyCells(events, grid.deepcore),
        labels,
        misc,
        events.table["time_offset"][:, None],
    )
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != (len(labels),):
        raise DataError(
            f"{settings.filter_class} (data_handler_filter_class) returned a mask of shape "
            f"{mask.shape} for the {len(labels)} events of '{path}'"
        )
    return mask


def _fill_records(
    table: NDArray[np.void],
    used: NDArray[np.bool_],
    labels: NDArray[np.float64],
    misc: NDArray[np.float64],
    names: ColumnNames,
    settings: RecordSettings,
) -> NDArray[np.void]:
    records = np.zeros(int(used.sum()), dtype=record_dtype(names, settings.dtype))
    records["row"] = np.flatnonzero(used)
    for column in ("id", "start", "stop", "time_offset"):
        records[column] = table[column][used]
    records["labels"] = labels[used]
    records["misc"] = misc[used]
    return records


@dataclass(frozen=True)
class DataHandlerView:
    """What filters of users may ask about the data: names and places of labels and misc values."""

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


class LazyCells:
    """Dense input tensor of all events of a file, made only when a filter touches it.

    Most filters never look at the inputs, which are a quarter of a megabyte an event when dense.
    """

    def __init__(self, events: ShardEvents, part: Any) -> None:
        self._events = events
        self._part = part
        self._dense: NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self._events.table)

    def __getitem__(self, index: Any) -> Any:
        return self.__array__()[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self._dense is None:
            self._dense = self._part(dense_cells(self._events))
        dense = np.asarray(self._dense, dtype=dtype)
        return dense.copy() if copy else dense

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor: [n, 10, 10, 60, F] or [n, 8, 60, F]."""
        one_event = np.empty((grid.NUM_CELLS, len(self._events.init_values)))
        return (len(self), *self._part(one_event).shape)


def dense_cells(events: ShardEvents) -> NDArray[np.floating]:
    """Inputs of all events in all cells [n, 6480, F], unlisted bins holding their initial value."""
    num_events = len(events.table)
    cells = np.empty((num_events, grid.NUM_CELLS, len(events.init_values)), events.features.dtype)
    cells[:] = events.init_values
    event = np.repeat(np.arange(num_events), events.table["stop"] - events.table["start"])
    cells[event, grid.DOM_CELL[events.dom]] = events.features
    return cells
