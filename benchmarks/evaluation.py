"""Time and memory of `dnn-reco evaluate` by number of events.

Run as: python benchmarks/evaluation.py MODEL 'FILES' --copies 1 12

MODEL is a model folder, FILES is a glob pattern of event files. The files are copied as often as
--copies gives; each copy of a file gets other run numbers, so that no two events are the same.
The time is that of the whole command, with building the event store and writing the report. *Peak*
is the memory of the largest of its processes; it includes those pages of the memory-mapped event
store that the system keeps as long as nothing else needs them. *Own* is the memory of the main
process without such pages, sampled. Run it in the folder of the model's data files.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import h5py
from serving import gemm_rate

from dnn_reco.files import find_files

RUNS = 1_000_000
"""Added to the run numbers of each further copy."""
SAMPLE_EVERY = 0.05  # seconds


def copy_file(source: Path, target: Path, copy: int) -> None:
    """A copy of an event file with other run numbers in all its tables."""
    shutil.copyfile(source, target)
    target.chmod(0o644)

    def change_runs(_: str, node: h5py.HLObject) -> None:
        if isinstance(node, h5py.Dataset) and "Run" in (node.dtype.names or ()):
            rows = node[()]
            rows["Run"] += copy * RUNS
            node[...] = rows

    with h5py.File(target, "r+") as file:
        file.visititems(change_runs)


def count_events(files: Sequence[Path], model: Path) -> int:
    """Number of events in the files."""
    from dnn_reco import Reconstructor
    from dnn_reco.event_sources import read_events

    settings = Reconstructor(model, "cpu").hits_settings
    return sum(len(read_events(path, settings).ids) for path in files)


def own_memory(pid: int) -> float:
    """Memory of a process without pages of files [MB]; 0 after its end."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return int(sizes[0]) / 1e3 if sizes else 0.0


def evaluate(model: Path, folder: Path, threads: int) -> tuple[float, float, float]:
    """Seconds of the command, peak memory of its largest process and its own memory [MB]."""
    words = [sys.executable, "-m", "dnn_reco", "evaluate", str(model)]
    words += ["--test-data", f"{folder}/data/*.hdf5", "--out", f"{folder}/report"]
    words += ["--cache-dir", f"{folder}/store", "--device", "cpu", "--num-threads", str(threads)]
    start = time.perf_counter()
    with Path(f"{folder}/log").open("w+") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        ended, own = 0, 0.0
        while not ended:
            own = max(own, own_memory(process.pid))
            time.sleep(SAMPLE_EVERY)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            sys.exit(log.read())
    return time.perf_counter() - start, usage.ru_maxrss / 1e3, own


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("files")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 12])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    sources = find_files([options.files], "FILES")
    num_events = count_events(sources, options.model)
    print(f"GEMM: {gemm_rate(options.threads):.0f} GFLOP/s; load {os.getloadavg()[0]:.1f}")
    print("    events   seconds   events/s   peak [MB]   own [MB]   report [MB]", flush=True)
    for copies in options.copies:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "data").mkdir()
            for copy in range(copies):
                for source in sources:
                    copy_file(source, folder / "data" / f"{copy:03d}_{source.name}", copy)
            seconds, peak, own = evaluate(options.model, folder, options.threads)
            size = (folder / "report" / "report.html").stat().st_size / 1e6
        events = copies * num_events
        shown = f"{events:10,} {seconds:9.0f} {events / seconds:10.0f} {peak:11.0f} {own:10.0f}"
        print(f"{shown} {size:13.1f}", flush=True)


if __name__ == "__main__":
    main()
