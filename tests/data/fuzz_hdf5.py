"""Damaged and lying event files: how many are read right, refused, read wrong, crash, or take long.

Run as: python tests/data/fuzz_hdf5.py --damaged 2000 --lying 1000 [--seed 1]

*Damaged* files have some bits or bytes changed, or a part missing. *Lying* files are sound, but
their tables contradict each other. The counts:

clean    read, with the events that were written, or that the event ids of the rows give
skipped  refused with a DataError that names the file, or rows counted as skipped
wrong    read with other events
crashed  another error, or the process died
slow     took more than 5 s or 300 MB

The exit code is 1 if any file is in one of the last three. Files are read in a process of their
own, and the same seed gives the same files.
"""

import argparse
import logging
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))
from event_files import LABEL_TABLE, random_events, write_events

from dnn_reco.data.file_events import FileEvents
from dnn_reco.data.hdf5 import InputTables, count_events, list_tables, read_columns, read_events
from dnn_reco.errors import DataError

TABLES = InputTables()
INDEX = f"__I3Index__/{TABLES.values}"
NUM_BINS = 3
COUNTS = ("clean", "skipped", "wrong", "crashed", "slow")
_MOST_SECONDS, _MOST_BYTES = 5.0, 300e6
_TIMEOUT = 60.0

Content = tuple[list[Any], ...]
Rows = NDArray[np.void]


# --------------------------------------------------------------------------------------------------
# Damaged files
# --------------------------------------------------------------------------------------------------
def damaged(content: bytes, rng: np.random.Generator, metadata: NDArray[np.int64]) -> bytes:
    """A copy of a file with one kind of damage, half of the time in its metadata."""
    changed = bytearray(content)
    kind = rng.choice(["bit", "bits", "bytes", "zeros", "truncated"], p=[0.5, 0.2, 0.15, 0.1, 0.05])
    if kind == "truncated":
        return content[: int(rng.integers(1, len(content)))]
    for _ in range(1 if kind == "bit" else int(rng.integers(1, 5))):
        in_metadata = rng.random() < 0.5
        place = int(rng.choice(metadata) if in_metadata else rng.integers(len(content)))
        if kind in ("bit", "bits"):
            changed[place] ^= 1 << int(rng.integers(8))
        else:
            size = min(int(rng.integers(1, 65)), len(content) - place)
            changed[place : place + size] = bytes(size) if kind == "zeros" else rng.bytes(size)
    return bytes(changed)


def metadata_places(path: Path) -> NDArray[np.int64]:
    """Places of the bytes of a file that are in no chunk of data."""
    is_data = np.zeros(path.stat().st_size, dtype=bool)

    def mark(_: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            for number in range(node.id.get_num_chunks()):
                chunk = node.id.get_chunk_info(number)
                is_data[chunk.byte_offset : chunk.byte_offset + chunk.size] = True

    with h5py.File(path) as file:
        file.visititems(mark)
    return np.flatnonzero(~is_data)


# --------------------------------------------------------------------------------------------------
# Lying files
# --------------------------------------------------------------------------------------------------
def _stretch(rows: Rows, rng: np.random.Generator) -> slice:
    first = NUM_BINS * int(rng.integers(len(rows) // NUM_BINS))
    return slice(first, first + NUM_BINS * int(rng.integers(1, 20)))


def _move_edge(file: h5py.File, rng: np.random.Generator) -> None:
    index = file[INDEX][()]
    event, shift = int(rng.integers(1, len(index))), NUM_BINS * int(rng.integers(1, 10))
    index["stop"][event - 1] += shift
    index["start"][event] += shift
    file[INDEX][...] = index


def _swap_in_index(file: h5py.File, rng: np.random.Generator) -> None:
    index = file[INDEX][()]
    one, two = rng.choice(len(index), 2, replace=False)
    for name in ("Run", "Event", "SubEvent"):
        index[name][[one, two]] = index[name][[two, one]]
    file[INDEX][...] = index


def _sort_by_string(file: h5py.File, rng: np.random.Generator) -> None:
    order = np.argsort(file[TABLES.values][()]["string"], kind="stable")
    for name in (TABLES.values, TABLES.indices):
        file[name][...] = file[name][()][order]


def _reverse_bins(file: h5py.File, rng: np.random.Generator) -> None:
    rows = file[TABLES.indices][()]
    part = _stretch(rows, rng)
    rows["item"][part] = NUM_BINS - 1 - rows["item"][part]
    file[TABLES.indices][...] = rows


def _other_column(name: str, table: str) -> Callable[[h5py.File, np.random.Generator], None]:
    def lie(file: h5py.File, rng: np.random.Generator) -> None:
        rows = file[table][()]
        part = _stretch(rows, rng)
        rows[name][part] += 1
        file[table][...] = rows

    return lie


def _more_rows(file: h5py.File, rng: np.random.Generator) -> None:
    tables = (TABLES.values, TABLES.indices, TABLES.time_offset, LABEL_TABLE, INDEX)
    name = str(rng.choice(tables))
    file[name].resize((int(10 ** rng.uniform(5, 12)),))


def _fewer_events(file: h5py.File, rng: np.random.Generator) -> None:
    table = file[TABLES.time_offset]
    table.resize((int(rng.integers(1, len(table))),))


def _duplicate_event(file: h5py.File, rng: np.random.Generator) -> None:
    rows = file[TABLES.time_offset][()]
    one, two = rng.choice(len(rows), 2, replace=False)
    rows[one] = rows[two]
    file[TABLES.time_offset][...] = rows


LIES: tuple[Callable[[h5py.File, np.random.Generator], None], ...] = (
    _move_edge,
    _swap_in_index,
    _sort_by_string,
    _reverse_bins,
    _other_column("string", TABLES.indices),
    _other_column("Event", TABLES.indices),
    _other_column("vector_index", TABLES.indices),
    _other_column("Event", TABLES.values),
    _more_rows,
    _fewer_events,
    _duplicate_event,
)


def events_by_id(path: Path) -> Content:
    """Ids, time offsets and hits of a file, joined row by row by the event ids."""
    columns = ["Run", "Event", "SubEvent", "SubEventStream"]
    with h5py.File(path) as file:
        offsets, values, indices = (
            file[name][()] for name in (TABLES.time_offset, TABLES.values, TABLES.indices)
        )
    ids = offsets[columns].tolist()
    hits: dict[Any, dict[int, list[float]]] = {event: {} for event in ids}
    for event, value, index in zip(values[columns].tolist(), values, indices, strict=True):
        if event in hits:
            dom = 60 * (int(value["string"]) - 1) + int(value["om"]) - 1
            hits[event].setdefault(dom, [0.0] * NUM_BINS)[index["item"]] = float(value["item"])
    return ids, offsets["value"].tolist(), [dict(sorted(hits[event].items())) for event in ids]


# --------------------------------------------------------------------------------------------------
# Reading them
# --------------------------------------------------------------------------------------------------
def as_read(events: FileEvents) -> Content:
    """The same as :func:`events_by_id`, of events as the package reads them."""
    hits = events.hits
    parts = [slice(*pair) for pair in zip(hits.offsets[:-1], hits.offsets[1:], strict=True)]
    by_event = [
        dict(zip(hits.dom[part].tolist(), hits.features[part].tolist(), strict=True))
        for part in parts
    ]
    return events.ids.tolist(), events.time_offset.tolist(), by_event


def outcome(path: Path, events: Content, labels: NDArray[np.float64], verify_all: bool) -> str:
    """Read a file in all ways; returns one of COUNTS and what happened."""
    start, memory = time.perf_counter(), _peak_memory()
    try:
        found = read_events(path, TABLES, NUM_BINS, dtype=np.float64, verify_all=verify_all)
        found_labels, _ = read_columns(path, LABEL_TABLE, None, TABLES.time_offset)
        list_tables(path)
        count = count_events(path, TABLES.time_offset)
        is_same = (
            as_read(found) == events
            and bool(found.exists.all())
            and np.array_equal(found_labels.filled(np.nan), labels[: len(found_labels)])
            and count == len(found.ids)
        )
        result = "clean" if is_same else "skipped" if found.skipped else "wrong"
        result += f" {found.skipped}" if found.skipped else ""
    except DataError as error:
        result = f"skipped {error}" if str(path) in str(error) else f"crashed no path: {error}"
    except BaseException as error:
        result = f"crashed {type(error).__name__}: {error}"
    seconds, grown = time.perf_counter() - start, _peak_memory() - memory
    if seconds > _MOST_SECONDS or grown > _MOST_BYTES:
        result = f"slow {seconds:.1f} s, {grown / 1e6:.0f} MB; {result}"
    return result


def _peak_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1e3


def read_cases(kind: str, seed: int, first: int, stop: int) -> Iterator[str]:
    """Number and outcome of each file, read in this process."""
    with tempfile.TemporaryDirectory() as folder:
        sound, path = Path(folder) / "sound.hdf5", Path(folder) / "case.hdf5"
        write_events(sound, random_events(seed, 30, NUM_BINS))
        content, metadata = sound.read_bytes(), metadata_places(sound)
        events = events_by_id(sound)
        labels = read_columns(sound, LABEL_TABLE, None, TABLES.time_offset)[0].filled(np.nan)
        for number in range(first, stop):
            rng = np.random.default_rng([seed, number])
            if kind == "damaged":
                path.write_bytes(damaged(content, rng, metadata))
            else:
                path.write_bytes(content)
                lie = LIES[number % len(LIES)]
                with h5py.File(path, "r+") as file:
                    lie(file, rng)
                events = () if lie is _more_rows else events_by_id(path)
            yield f"{number} {outcome(path, events, labels, kind == 'lying')}"


def outcomes(kind: str, seed: int, number: int) -> Iterator[str]:
    """Outcomes of files 0 … number - 1, read in processes that may die."""
    first = 0
    while first < number:
        command = [sys.executable, __file__, "--case", kind, str(seed), str(first), str(number)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_TIMEOUT + number
            )
            lines, fate = (
                done.stdout.splitlines(),
                f"crashed {done.returncode} {done.stderr[-500:]}",
            )
        except subprocess.TimeoutExpired as error:
            lines, fate = (error.stdout or b"").decode().splitlines(), "slow never ended"
        yield from lines
        first += len(lines)
        if first < number:
            yield f"{first} {fate}"
            first += 1


def count_outcomes(lines: Iterable[str], verbose: bool = False) -> Counter[str]:
    """How many files have which outcome; prints the bad ones."""
    counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
    for line in lines:
        result = line.split()[1]
        counts[result] += 1
        if verbose or result in COUNTS[2:]:
            print(line)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--damaged", type=int, default=720)
    parser.add_argument("--lying", type=int, default=484)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="print every outcome")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        kind, *numbers = options.case
        logging.disable()
        for line in read_cases(kind, *map(int, numbers)):
            print(line, flush=True)
        return 0
    bad = 0
    for kind, number in (("damaged", options.damaged), ("lying", options.lying)):
        counts = count_outcomes(outcomes(kind, options.seed, number), options.verbose)
        print(f"{kind}: " + ", ".join(f"{counts[name]} {name}" for name in COUNTS))
        bad += sum(counts[name] for name in COUNTS[2:])
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
