"""A quick check of one event file: its tables, columns, labels and misc data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dnn_reco.config import Config
from dnn_reco.data.from_config import hits_settings, record_settings
from dnn_reco.data.hdf5.events import find_input_tables
from dnn_reco.data.hdf5.tables import event_ids, open_file, read_rows
from dnn_reco.data.records import EVENT_TABLE, ColumnNames, load_column_names


def column_names(path: Path, config: Config) -> ColumnNames:
    """Names of labels and misc data of a file in which all tables of the config were found.

    Only the time offsets, and what the functions of the config read, are read.

    Raises
    ------
    DataError
        If a table or column is missing, or a function of the config fails.
    """
    with open_file(path) as file:
        offsets, _, _ = find_input_tables(file, hits_settings(config).tables)
        rows = read_rows(offsets)
    events = np.zeros(len(rows), dtype=EVENT_TABLE)
    events["id"] = event_ids(rows)
    events["time_offset"], events["exists"] = rows["value"], rows["exists"] != 0
    return load_column_names(path, events, record_settings(config), config.plugin_view())
