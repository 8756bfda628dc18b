"""Rate of reading event files: events/s, rows/s and peak memory, by threads and inflate library.

Run as: python benchmarks/hdf5_reading.py --source FILE

FILE is an event file of the collaboration, whose events are repeated to a file of 2,000; without
FILE random events are used. Each case runs in a separate process and reports the best of --repeat
readings; the file is in the page cache.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PREFIX = "dnn_data_inputs9_InIceDSTPulses"
NUM_BINS = 9
MEAN_RANDOM_HITS = 300


def make_file(path: Path, source: Path | None, prefix: str, num_events: int) -> None:
    """Repeat the events of `source`, or random ones, in a file with the default table names."""
    from dnn_reco.data.file_events import EVENT_ID
    from dnn_reco.data.hdf5 import InputTables, read_events, write_input_tables
    from dnn_reco.data.hits import Hits

    rng = np.random.default_rng(0)
    if source is None:
        counts = rng.poisson(MEAN_RANDOM_HITS, num_events)
        dom = np.concatenate([np.sort(rng.choice(5160, size, replace=False)) for size in counts])
        features = rng.gamma(2.0, 0.5, (len(dom), NUM_BINS))
        hits = Hits(np.concatenate([[0], np.cumsum(counts)]), dom.astype(np.uint16), features)
    else:
        names = (f"{prefix}_{end}" for end in ("bin_values", "bin_indices", "global_time_offset"))
        events = read_events(source, InputTables(*names), NUM_BINS, dtype=np.float64)
        hits = events.hits.select(np.arange(num_events) % len(events.ids))
    ids = np.zeros(num_events, dtype=EVENT_ID)
    ids["Event"] = np.arange(num_events)
    write_input_tables(path, ids, np.full(num_events, 9000.0), hits)


def reading_seconds(path: Path, threads: int, repeat: int) -> tuple[list[float], int, int]:
    """Durations of readings of the file, its number of events and of rows."""
    from dnn_reco.data.hdf5 import InputTables, read_events

    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        events = read_events(path, InputTables(), NUM_BINS, threads=threads)
        seconds.append(time.perf_counter() - start)
    return seconds, len(events.ids), events.hits.features.size


def use_library(name: str) -> None:
    """Decompress with `zlib`, or with `deflate` where it is installed."""
    if name == "zlib":
        sys.modules["deflate"] = None  # type: ignore[assignment]


def measure(path: Path, threads: int, repeat: int) -> None:
    """Read the file and print a row of the table."""
    seconds, events, rows = reading_seconds(path, threads, repeat)
    best = min(seconds)
    speed = f"{events / best:10.0f} {rows / best / 1e6:10.2f}"
    print(f"{speed} {best:10.3f} {peak_memory():10.0f}")


def peak_memory() -> float:
    """Largest resident memory of this process so far, MB."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--source", type=Path, help="event file whose events are repeated")
    parser.add_argument("--prefix", default=PREFIX, help="name of the input tables in it")
    parser.add_argument("--events", type=int, default=2000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        path, library, threads = options.case
        use_library(library)
        measure(Path(path), int(threads), options.repeat)
        return

    libraries = ["zlib"] + (["deflate"] if importlib.util.find_spec("deflate") else [])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.hdf5"
        make_file(path, options.source, options.prefix, options.events)
        print(f"{options.events} events, {path.stat().st_size / 1e6:.1f} MB")
        columns = ("events/s", "Mrows/s", "s", "peak MB")
        print(" library  threads " + " ".join(f"{column:>10}" for column in columns))
        for library in libraries:
            for threads in ("1", "2"):
                print(f"{library:>8} {threads:>8}", end=" ", flush=True)
                case = ["--case", str(path), library, threads, "--repeat", str(options.repeat)]
                subprocess.run([sys.executable, __file__, *case], check=True)


if __name__ == "__main__":
    main()
