"""Convert simulated pulses to event files for training and test.

    python benchmarks/accuracy/convert.py [FOLDER] --out accuracy_data [--first-pulses N] [--check]

FOLDER contains `truth_run11.parquet` and `pulses_run11.parquet`: events with individually
propagated photons. The output are HDF5 files in the folders `train`, `validation` and `test`. The
folder of an event depends only on its number: one in five is a test event, one in twenty a
validation event. `--first-pulses N` also writes a second set of input tables, `dnn_data_pulses_…`,
with times and charges of the first N pulses of each DOM besides.
"""

import argparse
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dnn_reco.data.data_settings import DataSettings, features_of
from dnn_reco.data.features import num_features
from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.hdf5 import (
    InputTables,
    dom_maps,
    input_tables,
    read_events,
    read_table,
    write_event_file,
)
from dnn_reco.data.pulses import Pulses
from dnn_reco.detector.geometry import dom_index
from dnn_reco.workers import available_cpus, in_workers

Labels = dict[str, NDArray[np.float64]]

TRUTH, PULSES = "truth_run11.parquet", "pulses_run11.parquet"
LABEL_TABLE = "LabelsDeepLearning"
FIRST_COLUMN_AFTER_LABELS = "kind"
EVENTS_PER_BLOCK = 2000
"""Each block of this number of consecutive events becomes one file in each folder."""
SUB_EVENT_STREAM = 3
NUM_FEATURES = 9
_ROUNDING = 1e-11  # relative, or in PE, ns


def data_settings(first_pulses: int | None = None) -> tuple[DataSettings, ...]:
    """How the features of each set of input tables are made.

    Parameters
    ----------
    first_pulses
        Number of pulses of a DOM in the second set; None: there is none.
    """
    formats = {"dnn_data": "pulse_summmary_clipped"}
    if first_pulses is not None:
        formats["dnn_data_pulses"] = f"pulse_summary_and_first_pulses_{first_pulses}"
    return tuple(
        DataSettings(
            num_bins=num_features(data_format),
            relative_time_method="time_range",
            data_format=data_format,
            output_key=prefix,
            cascade_key=None,
        )
        for prefix, data_format in formats.items()
    )


def split_of(event: NDArray[np.integer]) -> NDArray[np.str_]:
    """The folder [n] of events with these numbers [n]: `test`, `validation` or `train`."""
    return np.where(event % 5 == 0, "test", np.where(event % 20 == 1, "validation", "train"))


def file_name(block: int) -> str:
    """Name of the files of a block of events."""
    return f"ppc_run11_{block:04d}.hdf5"


def read_truth(folder: Path) -> tuple[NDArray[np.void], Labels]:
    """Ids and labels of all events."""
    table = pq.read_table(folder / TRUTH)
    names = table.column_names[: table.column_names.index(FIRST_COLUMN_AFTER_LABELS)]
    ids = np.zeros(table.num_rows, dtype=EVENT_ID)
    ids["Run"], ids["Event"] = table["run"].to_numpy(), table["event"].to_numpy()
    ids["SubEventStream"] = SUB_EVENT_STREAM
    labels = {
        name: table[name].to_numpy().astype(np.float64)
        for name in names
        if name not in ("run", "event")
    }
    x, y, z = (labels[f"PrimaryDirection{axis}"] for axis in "XYZ")
    labels["PrimaryZenith"] = np.arccos(-z)  # in double precision, in contrast to the table
    labels["PrimaryAzimuth"] = np.arctan2(-y, -x) % (2 * np.pi)
    return ids, labels


def read_pulses(folder: Path, start: int, stop: int) -> Pulses:
    """Pulses of the events start … stop - 1; only the row groups that hold them are read."""
    wanted = [("event", ">=", start), ("event", "<", stop)]
    table = pq.read_table(folder / PULSES, filters=wanted)
    column = {name: table[name].to_numpy() for name in table.column_names}
    return Pulses(
        stop - start,
        column["event"].astype(np.int64) - start,
        dom_index(column["string"], column["om"]),
        column["time"].astype(np.float64),
        column["charge"].astype(np.float64),
        column["flag"],
    )


def convert_block(
    folder: Path,
    out: Path,
    settings: tuple[DataSettings, ...],
    block: tuple[int, NDArray[np.void], Labels],
) -> int:
    """Write the files of a block of events: its number, ids and labels. Returns their number."""
    number, ids, labels = block
    start = number * EVENTS_PER_BLOCK
    pulses = read_pulses(folder, start, start + len(ids))
    features = {each.output_key: features_of(pulses, each) for each in settings}
    splits = split_of(ids["Event"])
    for split in np.unique(splits):
        chosen = splits == split
        path = out / split / file_name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = {LABEL_TABLE: {name: column[chosen] for name, column in labels.items()}}
        maps = {}
        for prefix, of_set in features.items():
            names = input_tables(prefix)
            tables[names.time_offset] = {"value": of_set.time_offset[chosen]}
            maps[names.values], maps[names.indices] = dom_maps(of_set.hits.select(chosen))
        write_event_file(path, ids[chosen], tables, maps, data_settings=settings)
    return len(ids)


def blocks(ids: NDArray[np.void], labels: Labels) -> Iterator[tuple[int, NDArray[np.void], Labels]]:
    """All events in blocks of `EVENTS_PER_BLOCK`."""
    for number, start in enumerate(range(0, len(ids), EVENTS_PER_BLOCK)):
        rows = slice(start, start + EVENTS_PER_BLOCK)
        yield number, ids[rows], {name: column[rows] for name, column in labels.items()}


def convert(folder: Path, out: Path, jobs: int, first_pulses: int | None = None) -> None:
    """Convert all events, and print the progress."""
    ids, labels = read_truth(folder)
    work = partial(convert_block, folder, out, data_settings(first_pulses))
    done = 0
    for count in in_workers(work, blocks(ids, labels), jobs, "try again with fewer --jobs"):
        done += count
        print(f"\r{done:,} of {len(ids):,} events", end="", flush=True)
    print(f": in '{out}'")


@dataclass(frozen=True)
class Event:
    """An event of a file; `values` are its labels and its time offset."""

    values: dict[str, float]
    dom: NDArray[np.integer]
    features: NDArray[np.floating]


def events_in(path: Path) -> dict[int, Event]:
    """The events of a file by their number."""
    events = read_events(path, InputTables(), NUM_FEATURES, dtype=np.float64)
    labels = read_table(path, LABEL_TABLE)
    names = labels.dtype.names or ()
    found = {}
    for row, (start, stop) in enumerate(pairwise(events.hits.offsets)):
        values = {name: float(labels[name][row]) for name in names}
        values["time_offset"] = float(events.time_offset[row])
        hits = slice(start, stop)
        number = int(events.ids["Event"][row])
        found[number] = Event(values, events.hits.dom[hits], events.hits.features[hits])
    return found


def check(out: Path, reference: Path) -> bool:
    """Compare with the event files in a folder; prints differences, returns whether all agree.

    Labels, time offsets and hit DOMs must be equal, and features within 1e-6 PE or ns, or a
    relative difference of 1e-6.
    """
    expected: dict[int, Event] = {}
    for path in sorted(reference.glob("*.hdf5")):
        expected |= events_in(path)
    found: dict[int, Event] = {}
    for number in sorted({event // EVENTS_PER_BLOCK for event in expected}):
        for path in out.glob(f"*/{file_name(number)}"):
            found |= events_in(path)
    both = expected.keys() & found.keys()
    other = [n for n in both if not _same(expected[n], found[n])]
    print(
        f"{len(expected)} events of '{reference}': {len(expected) - len(both)} are missing, "
        f"{len(other)} differ"
    )
    return len(both) == len(expected) and not other


def _same(first: Event, second: Event) -> bool:
    return (
        first.values.keys() == second.values.keys()
        and all(
            math.isclose(value, second.values[name], rel_tol=_ROUNDING)
            for name, value in first.values.items()
        )
        and np.array_equal(first.dom, second.dom)
        and np.allclose(first.features, second.features, rtol=_ROUNDING, atol=_ROUNDING)
    )


def main() -> None:
    """Convert, or check converted events."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Path(os.environ.get("DNN_RECO_TEST_DATA", "../shared/data")) / "ppc"
    parser.add_argument("folder", type=Path, nargs="?", default=default)
    parser.add_argument("--out", type=Path, default=Path("accuracy_data"))
    parser.add_argument(
        "--first-pulses",
        type=int,
        metavar="N",
        help="also write the first N pulses of each DOM, in a second set of input tables",
    )
    parser.add_argument("--jobs", type=int, default=available_cpus())
    parser.add_argument(
        "--check", action="store_true", help="compare with FOLDER/hdf5, convert nothing"
    )
    options = parser.parse_args()
    if options.check:
        raise SystemExit(0 if check(options.out, options.folder / "hdf5") else 1)
    convert(options.folder, options.out, options.jobs, options.first_pulses)


if __name__ == "__main__":
    main()
