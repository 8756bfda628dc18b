"""Event stores for tests, and what they should hold, computed the slow way."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from event_files import LABEL_TABLE, PRIMARY_TABLE, Events
from numpy.typing import NDArray

from dnn_reco.config import PluginConfig
from dnn_reco.data.event_dataset import EventBatch, EventDataset
from dnn_reco.data.file_events import HitsSettings
from dnn_reco.data.hdf5 import InputTables, read_file
from dnn_reco.data.records import RecordSettings
from dnn_reco.data.store import EventStore

MODULES = "dnn_reco.modules.data"
CONFIG: Mapping[str, Any] = {
    "data_handler_label_key": LABEL_TABLE,
    "data_handler_time_offset_name": "dnn_data_global_time_offset",
    "misc_load_dict": {PRIMARY_TABLE: ["energy", "pdg_encoding"]},
}


def make_store(
    folder: Path,
    config: Mapping[str, Any] = CONFIG,
    *,
    tables: InputTables = InputTables(),  # noqa: B008 - frozen
    num_bins: int = 9,
    init_values: Sequence[float] | None = None,
    dtype: str = "float32",
    **records: Any,
) -> EventStore:
    """A store with the built-in functions and relative VertexTime, unless `records` says else."""
    settings: dict[str, Any] = {
        "label_class": f"{MODULES}.labels.default_labels.simple_label_loader",
        "misc_class": f"{MODULES}.misc.default_misc.general_misc_loader",
        "filter_class": f"{MODULES}.filter.default_filter.general_filter",
        "label_fill_values": (),
        "nan_fill_value": None,
        "pid_keys": (),
        "pid_smoothing": None,
        "relative_time_keys": ("VertexTime",),
        "relative_time_pattern": None,
        "dtype": dtype,
    }
    return EventStore(
        folder,
        HitsSettings(tables, num_bins, tuple(init_values or [0.0] * num_bins), dtype),
        RecordSettings(**(settings | records)),
        PluginConfig(config),
        read_file,
    )


def read_all(events: EventDataset) -> EventBatch:
    return events.read(np.arange(len(events)))


def assert_holds(events: EventDataset, sources: Sequence[Events], dtype: str = "float32") -> None:
    """Check that a set holds the events of the files one after the other, all of them."""
    read = read_all(events)
    number = 0
    for source in sources:
        for i in range(len(source)):
            assert_is_event(read, number, source, i, dtype)
            number += 1
    assert len(events) == number


def assert_is_event(
    read: EventBatch, number: int, source: Events, i: int, dtype: str = "float32"
) -> None:
    """Check that event `number` of those read is event i of a file."""
    hits = slice(read.hits.offsets[number], read.hits.offsets[number + 1])
    hits_there = slice(source.offsets[i], source.offsets[i + 1])
    assert read.ids[number] == source.ids[i]
    assert read.time_offset[number] == source.time_offset[i]
    assert read.hits.dom[hits].tolist() == source.dom[hits_there].tolist()
    assert read.hits.features[hits].tolist() == source.features[hits_there].astype(dtype).tolist()
    labels = {name: column[i] for name, column in source.labels.items()}
    labels["VertexTime"] -= source.time_offset[i]
    assert read.labels[number].tolist() == np.array(list(labels.values()), dtype).tolist()
    misc = [source.primary["energy"][i], source.primary["pdg_encoding"][i]]
    assert read.misc[number].tolist() == np.array(misc, dtype).tolist()


def assert_same(one: EventDataset, other: EventDataset) -> None:
    """Check that two sets hold the same events in the same order."""
    assert one.names == other.names
    a, b = read_all(one), read_all(other)
    for name in ("offsets", "dom", "features"):
        np.testing.assert_array_equal(getattr(a.hits, name), getattr(b.hits, name), err_msg=name)
    for name in ("labels", "misc", "time_offset", "ids"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def column(events: EventDataset, name: str) -> NDArray[np.floating]:
    """All values of a label or misc value."""
    read = read_all(events)
    if name in events.names.labels:
        return read.labels[:, events.names.labels.index(name)]
    return read.misc[:, events.names.misc.index(name)]
