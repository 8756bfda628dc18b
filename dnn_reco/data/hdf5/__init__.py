"""Event files: the one place that reads and writes HDF5.

IceCube's table writer books one compound table per frame object, with the same five id columns in
each. Two kinds matter here: *per-event* tables (labels, time offsets, event header; one row per
event) and *per-DOM maps* (many rows per event, one for each item of a DOM's list). The table of
time offsets defines the events of a file and their order.
"""

from dnn_reco.data.file_events import InputTables
from dnn_reco.data.hdf5.attributes import (
    MAX_TEXT_BYTES,
    NUM_INPUTS,
    read_attribute,
    read_num_inputs,
    read_stream_names,
)
from dnn_reco.data.hdf5.detect import (
    detect_input_tables,
    detect_num_bins,
    input_prefixes,
    input_tables,
)
from dnn_reco.data.hdf5.events import read_events, read_file
from dnn_reco.data.hdf5.record import read_record
from dnn_reco.data.hdf5.tables import (
    HDF5_SUFFIXES,
    count_events,
    list_tables,
    read_columns,
    read_joined,
    read_table,
)
from dnn_reco.data.hdf5.writer import (
    DomMap,
    dom_maps,
    write_event_file,
    write_input_tables,
)

__all__ = [
    "HDF5_SUFFIXES",
    "MAX_TEXT_BYTES",
    "NUM_INPUTS",
    "DomMap",
    "InputTables",
    "count_events",
    "detect_input_tables",
    "detect_num_bins",
    "dom_maps",
    "input_prefixes",
    "input_tables",
    "list_tables",
    "read_attribute",
    "read_columns",
    "read_events",
    "read_file",
    "read_joined",
    "read_num_inputs",
    "read_record",
    "read_stream_names",
    "read_table",
    "write_event_file",
    "write_input_tables",
]
