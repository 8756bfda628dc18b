"""How time, memory and disk space grow with the number of events and of files.

    python benchmarks/scale.py --out scale.json                       # 10³ to 10⁵ events
    python benchmarks/scale.py --events 1000 1000000 --files 10 10000 --out scale.json
    python benchmarks/scale.py --draw scale.json --figure docs/explanation/scale.png

Events are random, or those of --source; their files are repeated by links. Each case is a separate
process with one thread: counting, building the event store, reading random batches of 32 events.
The files are in the page cache.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from batches import open_store
from hdf5_reading import PREFIX, make_file, peak_memory

EVENTS_PER_FILE = 1000
EVENTS_OF_FILES = 10_000
EVENTS, FILES = (1_000, 10_000, 100_000), (10, 100, 1_000, 10_000)
BATCH_SIZE, BATCHES = 32, 500


def linked_files(folder: Path, first: Path, count: int) -> list[Path]:
    """So many files with the events of the first one."""
    folder.mkdir(parents=True)
    files = [folder / f"{number:05d}.hdf5" for number in range(count)]
    for file in files:
        os.link(first, file)
    return files


def measure(folder: Path, data: Path) -> dict[str, float]:
    """Seconds, memory and disk space of one case, in this process."""
    from dnn_reco.data.hdf5 import InputTables, count_events
    from dnn_reco.data.loader import read_tensors
    from dnn_reco.data.sampling import EventOrder

    files = sorted(data.glob("*.hdf5"))
    start = time.perf_counter()
    for file in files:
        count_events(file, InputTables().time_offset)
    counted = time.perf_counter()
    before = peak_memory()
    events = open_store(folder, files)
    built = time.perf_counter()
    again = open_store(folder, files)
    opened = time.perf_counter()
    order = EventOrder(again.events_per_shard, seed=1, stream="benchmark")
    read_tensors(again, order, 0, BATCH_SIZE)
    ready = time.perf_counter()
    for number in range(BATCHES):
        read_tensors(again, order, number, BATCH_SIZE)
    end = time.perf_counter()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "files": len(files),
        "events": len(events),
        "count_s": counted - start,
        "build_s": built - counted,
        "open_again_s": opened - built,
        "first_batch_s": ready - opened,
        "events_per_s": BATCHES * BATCH_SIZE / (end - ready),
        "peak_memory_mib": peak_memory(),
        "memory_before_mib": before,
        "disk_bytes_per_event": size / len(events),
    }


def run_case(folder: Path, first: Path, num_files: int) -> dict[str, float]:
    """The case of so many links to a file, in a separate process."""
    linked_files(folder / "data", first, num_files)
    words = [sys.executable, __file__, "--case", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if result.returncode:
        raise SystemExit(result.stderr)
    case: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    print(", ".join(f"{name} {value:,.6g}" for name, value in case.items()), flush=True)
    return case


def draw(results: dict[str, Any], path: Path) -> None:
    """The figure of the documentation."""
    from dnn_reco.figure_style import panels

    figure, (time_panel, memory_panel, files_panel) = panels(1, 3)
    by_events, by_files = results["by_events"], results["by_files"]
    events = [case["events"] for case in by_events]
    for name, label in (("build_s", "building the store"), ("count_s", "counting")):
        values = [1e3 * case[name] / case["events"] for case in by_events]
        time_panel.loglog(events, values, "o-", label=label)
    reading = [1e3 / case["events_per_s"] for case in by_events]
    time_panel.loglog(events, reading, "o-", label="reading batches")
    time_panel.set(xlabel="events", ylabel="time for an event [ms]")
    memory_panel.semilogx(events, [case["peak_memory_mib"] for case in by_events], "o-")
    memory_panel.set(xlabel="events", ylabel="peak memory [MiB]")
    memory_panel.set_ylim(0, 1.3 * max(case["peak_memory_mib"] for case in by_events))
    files = [case["files"] for case in by_files]
    for name, label in (
        ("build_s", "building the store"),
        ("count_s", "counting"),
        ("open_again_s", "opening the store again"),
    ):
        values = [1e3 * case[name] / case["files"] for case in by_files]
        files_panel.loglog(files, values, "o-", label=label)
    files_panel.set(xlabel=f"files with {EVENTS_OF_FILES:,} events in all")
    files_panel.set_ylabel("time for a file [ms]")
    for panel in (time_panel, files_panel):  # the legend above the curves
        low, high = panel.get_ylim()
        panel.set_ylim(low, high * (high / low) ** 0.6)
        panel.legend(loc="upper right")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, help="event file whose events are repeated")
    parser.add_argument("--prefix", default=PREFIX, help="name of the input tables in it")
    parser.add_argument("--events", type=int, nargs="*", default=EVENTS)
    parser.add_argument("--files", type=int, nargs="*", default=FILES)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--draw", type=Path, help="draw the results of an earlier call")
    parser.add_argument("--figure", type=Path, default=Path("scale.png"))
    parser.add_argument("--case", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for file in (options.source, options.draw):
        if file is not None and not file.is_file():
            parser.error(f"there is no file '{file}'")
    if options.case is not None:
        print(json.dumps(measure(options.case / "store", options.case / "data")))
        return
    if options.draw is not None:
        draw(json.loads(options.draw.read_text()), options.figure)
        return
    results: dict[str, list[dict[str, float]]] = {"by_events": [], "by_files": []}
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        for num_events in options.events:
            first = folder / f"{EVENTS_PER_FILE}.hdf5"
            if not first.exists():
                make_file(first, options.source, options.prefix, EVENTS_PER_FILE)
            case = run_case(folder / f"{num_events}", first, num_events // EVENTS_PER_FILE)
            results["by_events"].append(case)
        for num_files in options.files:
            first = folder / f"of_{num_files}.hdf5"
            make_file(first, options.source, options.prefix, EVENTS_OF_FILES // num_files)
            results["by_files"].append(run_case(folder / f"files_{num_files}", first, num_files))
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
