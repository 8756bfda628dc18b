"""Events of files in memory, with labels: as a config defines them, or as they are in the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnn_reco.config import Config
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.event_table import EventTable, NamedColumns
from dnn_reco.data.file_events import HitsSettings
from dnn_reco.data.from_config import hits_settings, record_settings
from dnn_reco.data.hdf5 import (
    detect_input_tables,
    detect_num_bins,
    input_tables,
    list_tables,
    read_columns,
    read_record,
)
from dnn_reco.data.records import ColumnNames, ShardEvents, event_table, load_records
from dnn_reco.event_sources import event_file, read_events, reader_of

LABEL_TABLE = "LabelsDeepLearning"
_NO_COLUMNS = "dnn_reco.modules.data.misc.default_misc.dummy_misc_loader"


@dataclass(frozen=True)
class FileContent:
    """What to read of event files; None: what the first file has.

    Attributes
    ----------
    inputs
        Common beginning of the names of the input tables.
    num_bins
        Number of features F of a DOM.
    labels
        Name of the table of labels.
    misc
        Columns of other tables with one row per event, by table; None: all of a table.
    hits
        How to read hits, instead of `inputs` and `num_bins`.
    """

    inputs: str | None = None
    num_bins: int | None = None
    labels: str | None = None
    misc: Mapping[str, Sequence[str] | None] | None = None
    hits: HitsSettings | None = None


def read_as_configured(
    paths: Sequence[Path], config: Config, with_labels: bool = True, with_misc: bool = True
) -> Iterator[EventTable]:
    """The events of each file that a training with a config uses.

    Parameters
    ----------
    paths
        The files.
    config
        The config.
    with_labels, with_misc
        Whether labels and misc data are read, which measured events may not have.

    Raises
    ------
    ConfigError
        If a key that is needed is missing.
    DataError
        If a file cannot be used.
    """
    config.require("data_handler_num_bins")
    settings, of_records = hits_settings(config), record_settings(config)
    if not with_labels:
        of_records = replace(of_records, label_class=_NO_COLUMNS)
    if not with_misc:
        of_records = replace(of_records, misc_class=_NO_COLUMNS)
    names: ColumnNames | None = None
    for path in paths:
        with event_file(path, config) as file:
            events = read_events(file, settings)
            shard = ShardEvents(event_table(events), events.hits, np.array(settings.init_values))
            view = config.plugin_view()
            records = load_records(file, shard, of_records, view, names)
            made = _data_settings(file, settings)
        names, rows = records.names, records.rows
        yield EventTable(
            events.hits.select(rows["row"]),
            NamedColumns(names.labels, np.ascontiguousarray(rows["labels"])),
            NamedColumns(names.misc, np.ascontiguousarray(rows["misc"])),
            np.ascontiguousarray(rows["time_offset"]),
            np.ascontiguousarray(rows["id"]),
            made,
        )


def read_as_written(paths: Sequence[Path], content: FileContent) -> Iterator[EventTable]:
    """All events of each file that have a time offset, with the labels of the file.

    Labels and misc data are NaN where the file has none for an event.

    Raises
    ------
    DataError
        If a table or column is missing, or it is not clear which to read.
    """
    for events, exists in read_all_rows(paths, content):
        yield events[exists]


def read_all_rows(
    paths: Sequence[Path], content: FileContent
) -> Iterator[tuple[EventTable, NDArray[np.bool_]]]:
    """All events of each file, as :func:`read_as_written`, and which have a time offset [n]."""
    first, table = paths[0], content.labels
    reader_of(first)  # raises if the format is unknown
    settings = content.hits or _settings_of(first, content)
    time_offset = settings.tables.time_offset
    if table is None and LABEL_TABLE in list_tables(first):
        table = LABEL_TABLE
    label_names: Sequence[str] | None = None  # of the first file; the others must have the same
    for path in paths:
        events = read_events(path, settings)
        wanted = {} if table is None else {table: label_names}
        labels = _read_columns(path, wanted, time_offset, len(events.ids))
        label_names = labels.names
        misc = _read_columns(path, content.misc or {}, time_offset, len(events.ids), True)
        made = _data_settings(path, settings)
        found = EventTable(events.hits, labels, misc, events.time_offset, events.ids, made)
        yield found, events.exists


def _data_settings(path: Path, settings: HitsSettings) -> tuple[DataSettings, ...]:
    """How the features of a file were made; empty: it has no record."""
    record = read_record(path, settings.tables)
    return () if record is None else (record,)


def _settings_of(path: Path, content: FileContent) -> HitsSettings:
    """How to read hits of a file: as named, or as found in it."""
    prefix = content.inputs
    tables = detect_input_tables(path) if prefix is None else input_tables(prefix)
    num_bins = content.num_bins or detect_num_bins(path, tables)
    return HitsSettings(tables, num_bins, (0.0,) * num_bins, "float32")


def _read_columns(
    path: Path,
    columns: Mapping[str, Sequence[str] | None],
    event_table: str,
    num_events: int,
    with_table: bool = False,
) -> NamedColumns:
    """Columns of per-event tables; their names start with that of the table if `with_table`."""
    names: list[str] = []
    parts = [np.empty((num_events, 0))]
    for table, wanted in columns.items():
        values, found = read_columns(path, table, wanted, event_table)
        names += [f"{table}_{name}" if with_table else name for name in found]
        parts.append(values.filled(np.nan))
    return NamedColumns(tuple(names), np.concatenate(parts, axis=1))
