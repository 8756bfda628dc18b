"""All checks of one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnn_reco.config import PluginConfig
from dnn_reco.data.check.finding import Finding, of_events
from dnn_reco.data.check.inputs import check_inputs
from dnn_reco.data.check.tables import check_tables
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.event_summary import event_summaries
from dnn_reco.data.event_table import NamedColumns
from dnn_reco.data.file_events import EVENT_ID, FileEvents, HitsSettings
from dnn_reco.data.hdf5 import list_tables, read_columns, read_file, read_record
from dnn_reco.data.records import (
    ColumnNames,
    RecordSettings,
    ShardEvents,
    event_table,
    load_records,
)
from dnn_reco.errors import DataError

SAMPLE = 20_000
"""Events whose labels are compared with each other and with the inputs."""

_NOTHING = NamedColumns((), np.empty((0, 0)))


@dataclass(frozen=True)
class CheckSettings:
    """What the files should be.

    Attributes
    ----------
    hits
        Tables and number of features; `verify_all` is on.
    label_table
        Table of the labels; None: the files have none.
    label_names
        Labels that are loaded; None: all columns.
    records, config
        Settings of the records and the config as functions of users see it, to load labels, misc
        data and filter as a training does; None without a config.
    """

    hits: HitsSettings
    label_table: str | None
    label_names: tuple[str, ...] | None = None
    records: RecordSettings | None = None
    config: PluginConfig | None = None


@dataclass(frozen=True)
class FileCheck:
    """What was found in a file, and what is compared with other files.

    Attributes
    ----------
    path
        The file.
    findings
        What was found.
    ids
        Ids of its events [n].
    content
        A number [n] that is equal for events with equal hits; 0 for events with few of them.
    settings
        The record of how its features were made, if there is one.
    label_columns
        Columns of its table of labels.
    labels, misc, inputs
        Labels, misc data and summaries of the inputs of up to `SAMPLE` events.
    """

    path: Path
    findings: list[Finding]
    ids: NDArray[np.void]
    content: NDArray[np.uint64]
    settings: DataSettings | None = None
    label_columns: tuple[str, ...] | None = None
    labels: NamedColumns = _NOTHING
    misc: NamedColumns = _NOTHING
    inputs: NamedColumns = _NOTHING


def check_file(settings: CheckSettings, path: Path) -> FileCheck:
    """Check a file; an unreadable part is also a finding."""
    tables = settings.hits.tables
    findings: list[Finding] = []
    try:
        findings += check_tables(path, tables, settings.label_table)
        record = read_record(path, tables)
        events = read_file(path, settings.hits)
    except DataError as error:
        text = str(error).replace(f"'{path}'", "the file")
        finding = Finding("error", str(path), "", text, "the rest of the file was not checked")
        return nothing_checked(path, *findings, finding)
    if not len(events.ids):
        text = "the file holds no event"
        findings.append(Finding("warning", str(path), "", text, "remove it, or write it again"))
    findings += check_inputs(path, tables, events)
    content = contents(events)
    labels, misc, rows = _NOTHING, _NOTHING, np.arange(0)
    columns: tuple[str, ...] | None = None
    try:
        if settings.label_table is not None:
            columns, found = _check_label_table(path, settings, events)
            findings += found
        labels, misc, rows = _columns(path, settings, events)
    except DataError as error:
        text = str(error).replace(f"'{path}'", "the file")
        findings.append(
            Finding("error", str(path), "", text, "its labels were not checked any further")
        )
    rows = rows[:SAMPLE]
    inputs = event_summaries(events.hits.select(rows))
    return FileCheck(
        path,
        findings,
        events.ids,
        content,
        record,
        columns,
        _first(labels, len(rows)),
        _first(misc, len(rows)),
        inputs,
    )


def nothing_checked(path: Path, *findings: Finding) -> FileCheck:
    """The check of a file that cannot be read."""
    return FileCheck(path, list(findings), np.empty(0, EVENT_ID), np.empty(0, np.uint64))


def contents(events: FileEvents) -> NDArray[np.uint64]:
    """A number [n] for the hits of each event: their checksum, and the bits of their sum.

    Events with fewer than 3 hits have 0: they may be equal by chance.
    """
    hits = events.hits
    checksum = event_table(events)["checksum"].astype(np.uint64)
    total = np.bincount(hits.event, hits.features.sum(axis=1, dtype=np.float64), hits.num_events)
    with np.errstate(over="ignore", invalid="ignore"):
        bits = total.astype(np.float32).view(np.uint32).astype(np.uint64)
    return np.where(np.diff(hits.offsets) >= 3, checksum << np.uint64(32) | bits, np.uint64(0))


def _check_label_table(
    path: Path, settings: CheckSettings, events: FileEvents
) -> tuple[tuple[str, ...], list[Finding]]:
    """Columns of the table of labels, and those of its values that are not finite."""
    table = settings.label_table
    assert table is not None
    if table not in list_tables(path):
        raise DataError(f"'{path}' has no table '{table}' of labels")
    offsets = settings.hits.tables.time_offset
    values, names = read_columns(path, table, None, offsets, "data_handler_label_key")
    present = ~np.ma.getmaskarray(values)
    findings: list[Finding] = []
    for column, name in enumerate(names):
        if settings.label_names is None or name in settings.label_names:
            findings += of_events(
                "warning",
                (str(path), table),
                f"label '{name}' is not finite",
                "these events are dropped, unless label_nan_fill_value or "
                "data_handler_nan_fill_value is set",
                events.ids,
                present[:, column] & ~np.isfinite(values.data[:, column]),
            )
    return tuple(names), findings


def _columns(
    path: Path, settings: CheckSettings, events: FileEvents
) -> tuple[NamedColumns, NamedColumns, NDArray[np.int64]]:
    """Labels and misc data of the events that are used, times relative, and their numbers."""
    if settings.records is not None and settings.config is not None:
        shard = ShardEvents(event_table(events), events.hits, np.array(settings.hits.init_values))
        records = load_records(path, shard, settings.records, settings.config, None)
        names, rows = records.names, records.rows
        return (
            NamedColumns(names.labels, rows["labels"].astype(np.float64)),
            NamedColumns(names.misc, rows["misc"].astype(np.float64)),
            rows["row"],
        )
    if settings.label_table is None:
        return _NOTHING, _NOTHING, np.arange(0)
    names = ColumnNames((), ())
    values, found = read_columns(path, settings.label_table, None, settings.hits.tables.time_offset)
    labels = values.filled(np.nan)
    is_time = np.array(["time" in name.lower() for name in found], dtype=bool)
    labels = np.where(is_time, labels - events.time_offset[:, None], labels)
    nothing = NamedColumns((), np.empty((len(labels), 0)))
    return NamedColumns(tuple(found), labels), nothing, np.arange(len(labels))


def _first(columns: NamedColumns, number: int) -> NamedColumns:
    return NamedColumns(columns.names, columns.array[:number])
