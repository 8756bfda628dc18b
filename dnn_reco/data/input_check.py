"""A quick check of one event file: its tables, columns, labels and misc data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dnn_reco.config import Config
from dnn_reco.data.from_config import hits_settings, record_settings
from dnn_reco.data.hdf5.tables import (
    HEADER_COLUMNS,
    find_table,
    open_file,
    read_rows,
    require_columns,
)
from dnn_reco.data.records import EVENT_TABLE, ColumnNames, load_column_names

_DOM_COLUMNS = (*HEADER_COLUMNS, "string", "om", "vector_index", "item")


def column_names(path: Path, config: Config) -> ColumnNames:
    """Names of labels and misc data of a file in which all tables of the config were found.

    Only the time offsets, and what the functions of the config read, are read.

    Raises
    ------
    DataError
        If a table or column is missing, or a function of the config fails.
    """
    tables = hits_settings(config).tables
    with open_file(path) as file:
        offsets = find_table(file, tables.time_offset, "data_handler_time_offset_name")
        values = find_table(file, tables.values, "data_handler_bin_values_name")
        indices = find_table(file, tables.indices, "data_handler_bin_indices_name")
        require_columns(offsets, (*HEADER_COLUMNS, "value"))
        for table in (values, indices):
            require_columns(table, _DOM_COLUMNS)
        rows = read_rows(offsets)
    events = np.zeros(len(rows), dtype=EVENT_TABLE)
    for name in events["id"].dtype.names or ():
        events["id"][name] = rows[name]
    events["time_offset"], events["exists"] = rows["value"], rows["exists"] != 0
    return load_column_names(path, events, record_settings(config), config.plugin_view())
