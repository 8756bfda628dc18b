"""Rate of reading batches from the event store: events/s of one thread, in random order.

Run as: python benchmarks/batches.py --source FILE

FILE is an event file of the collaboration, whose events are repeated in ten files; without FILE
random events are used. Events are read when they are not in the page cache, and when they are. The
store is built in a temporary folder, or in another one (--store), such as of a network file system.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from hdf5_reading import NUM_BINS, PREFIX, make_file

from dnn_reco.config import PluginConfig
from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.file_events import HitsSettings
from dnn_reco.data.hdf5 import InputTables, read_file
from dnn_reco.data.loader import read_tensors
from dnn_reco.data.records import RecordSettings
from dnn_reco.data.sampling import EventOrder
from dnn_reco.data.store import EventStore

NUM_FILES = 10
MODULES = "dnn_reco.modules.data"


def open_store(folder: Path, files: list[Path]) -> EventDataset:
    """Data set of the events of the files, with the time offset as the only label."""
    config = {
        "data_handler_label_key": InputTables().time_offset,
        "data_handler_time_offset_name": InputTables().time_offset,
    }
    records = RecordSettings(
        label_class=f"{MODULES}.labels.default_labels.simple_label_loader",
        misc_class=f"{MODULES}.misc.default_misc.dummy_misc_loader",
        filter_class=f"{MODULES}.filter.default_filter.dummy_filter",
        label_fill_values=(),
        nan_fill_value=None,
        pid_keys=(),
        pid_smoothing=None,
        relative_time_keys=(),
        relative_time_pattern=None,
        dtype="float32",
    )
    hits = HitsSettings(InputTables(), NUM_BINS, (0.0,) * NUM_BINS, "float32")
    return open_events(EventStore(folder, hits, records, PluginConfig(config), read_file), files, 1)


def events_per_second(events: EventDataset, batch_size: int, seconds: float) -> float:
    """Events/s of reading random batches for about `seconds`."""
    order = EventOrder(events.events_per_shard, seed=1, stream="benchmark")
    read_tensors(events, order, 0, len(events))  # all files are open now, and in the page cache
    start, number = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        read_tensors(events, order, number, batch_size)
        number += 1
    return number * batch_size / (time.perf_counter() - start)


def first_events_per_second(
    folder: Path, events: EventDataset, batch_size: int, seconds: float
) -> float:
    """Events/s of reading random batches, of which nothing is in the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)  # what is not written yet stays
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)
    order = EventOrder(events.events_per_shard, seed=batch_size, stream="benchmark")
    start, number = time.perf_counter(), 0
    while time.perf_counter() < start + seconds and (number + 1) * batch_size <= len(events):
        read_tensors(events, order, number, batch_size)
        number += 1
    return number * batch_size / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--source", type=Path, help="event file whose events are repeated")
    parser.add_argument("--prefix", default=PREFIX, help="name of the input tables in it")
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each batch size")
    parser.add_argument("--store", type=Path, help="folder of the event store, which is kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [folder / f"{i}.hdf5" for i in range(NUM_FILES)]
        for file in files:
            make_file(file, options.source, options.prefix, options.events // NUM_FILES)
        store = options.store or folder / "store"
        events = open_store(store, files)
        num_bytes = sum(path.stat().st_size for path in store.rglob("*.bin"))
        print(f"{len(events)} events, {num_bytes / len(events) / 1e3:.1f} kB an event")
        for batch_size in (32, 1024):
            first = first_events_per_second(store, events, batch_size, options.seconds)
            speed = events_per_second(events, batch_size, options.seconds)
            print(f"batches of {batch_size:5d}: {first:10,.0f} events/s, in memory {speed:10,.0f}")


if __name__ == "__main__":
    main()
