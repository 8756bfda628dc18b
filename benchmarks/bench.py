"""Every figure of the package on CPUs, on this machine, beside the goals and the reference.

Run as: python benchmarks/bench.py [--parts read train] [--reference reference.json]

Each case runs in a separate process. The rows are printed and written to benchmarks/results.json,
where those of other parts are kept if machine and events are the same; a summary replaces the one
at the top of benchmarks/RESULTS.md. Ctrl-C keeps the parts that are finished. With --quick nothing
is written, unless --json or --page is given.

Parts: machine (matrix product, copy), read (HDF5), batches (from the event store), trafo
(transformation model), count, train (whole command), step and predict (in memory), transformer
(size S), memory (of training sizes S and M), config (`config check`), model (export and load), stop
(Ctrl-C in a training), i3 (`.i3` file to features), simulation (to files).
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

from bench_cases import CASES, Settings, SkippedError
from bench_report import (
    Rows,
    kept_rows,
    reference_figures,
    rows_of_case,
    summary,
    terminal_table,
    with_reference,
    with_summary,
)
from bench_table import PARTS, QUANTITIES
from machine import REPOSITORY, machine, versions

FOLDER = Path(__file__).resolve().parent
REAL_EVENTS = "real_nugen/NuMu_medium_00000001.hdf5"
I3_FILE = "i3/oscNext_genie_level7_v02_first_5_frames.i3.gz"
NUM_EVENTS, FEW_EVENTS = 2000, 700
NUM_LABELS = 35
MEAN_HITS = 300.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SECONDS_TO_END = 20.0


def found_file(name: str) -> Path | None:
    """A file of the test data, where there are any."""
    path = Path(os.environ.get("DNN_RECO_TEST_DATA", "")) / name
    return path.resolve() if "DNN_RECO_TEST_DATA" in os.environ and path.exists() else None


def make_events(source: Path | None, path: Path, number: int) -> None:
    """Repeat the events of a file, or make random ones with as many labels."""
    if source is not None:
        from reference import repeat_events

        return repeat_events(source, path, number)
    import made_up_run  # noqa: F401 - finds the next one
    import numpy as np
    from event_files import random_events, write_events

    events = random_events(0, number, mean_hits=MEAN_HITS)
    names = [
        "LengthInDetector",
        *(f"label_{i}" for i in range(NUM_LABELS - len(events.labels) - 1)),
    ]
    more = np.random.default_rng(0).normal(0.0, 1.0, (len(names), number))
    labels = events.labels | dict(zip(names, more, strict=True))
    write_events(path, replace(events, labels=labels))
    return None


def run_case(case: str, result: Path, settings: Settings) -> None:
    """Measure a case in this process, and write its values, or why there are none."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what it runs is ended, too
    try:
        found: dict[str, Any] = {"values": CASES[case].measure(settings)}
    except SkippedError as reason:
        found = {"skipped": str(reason)}
    result.write_text(json.dumps(found))


def measure(case: str, settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """Values of a case from a process of its own, or why there are none."""
    result, log = settings.folder / "result.json", settings.folder / "log.txt"
    threads = CASES[case].threads
    environment = os.environ | {name: str(threads) for name in THREADS if threads}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    words = [
        sys.executable,
        __file__,
        "--case",
        case,
        *(str(each) for each in (result, settings.folder, settings.events)),
    ]
    words += [f"--repeat={settings.repeat}", f"--seconds={settings.seconds}"]
    words += ["--quick"] if settings.quick else []
    words += [f"--i3={settings.i3}"] if settings.i3 else []
    with log.open("w") as lines:
        process = subprocess.Popen(
            words, env=environment, stdout=lines, stderr=lines, start_new_session=True
        )
        try:
            process.wait()
        finally:
            end(process)
    if result.exists():
        return dict(json.loads(result.read_text()))
    text = log.read_text().strip() or f"exit code {process.returncode}"
    if options.verbose:
        print(text)
    return {"failed": text.splitlines()[-1]}


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_END)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Results:
    """The results so far, and the files that hold them."""

    def __init__(self, options: argparse.Namespace, events: str) -> None:
        self.json, self.page = options.json, options.page
        if self.page:
            with_summary(self.page.read_text(encoding="utf-8"), "")  # the marks are there
        self.of_reference: dict[str, float] = {}
        rows: Rows = {}
        if self.json and self.json.exists():
            rows = kept_rows(json.loads(self.json.read_text()), machine(), events)
            figures = {name: row.get("reference") for name, row in rows.items()}
            self.of_reference = {name: each for name, each in figures.items() if each is not None}
        if options.reference:
            self.of_reference = reference_figures(json.loads(options.reference.read_text()))
            rows = {
                name: with_reference(QUANTITIES[name], row, self.of_reference.get(name))
                for name, row in rows.items()
                if name in QUANTITIES
            }
        self.measured: Rows = {}
        self.all: dict[str, Any] = {
            "machine": machine(),
            "date": "",
            "versions": versions(),
            "events": events,
            "rows": rows,
        }

    def add(self, case: str, found: dict[str, Any]) -> None:
        """Add the rows of a case, and write results.json."""
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        rows = rows_of_case(case, found, self.of_reference)
        self.measured |= rows
        self.all["rows"] |= {name: {**row, "date": date} for name, row in rows.items()}
        self.all["date"] = date
        if self.json:
            self.json.write_text(json.dumps(self.all, indent=1, ensure_ascii=False) + "\n")

    def show(self) -> None:
        """Print the measured rows, and write the summary."""
        if self.measured:
            print(terminal_table(self.measured))
        if self.page and self.measured:
            page = self.page.read_text(encoding="utf-8")
            self.page.write_text(with_summary(page, summary(self.all)), encoding="utf-8")


def stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), metavar="PART")
    add(
        "--source",
        type=Path,
        default=found_file(REAL_EVENTS),
        help="event file of the collaboration, whose events are repeated\n"
        "(default: that of $DNN_RECO_TEST_DATA, otherwise random events)",
    )
    add(
        "--i3",
        type=Path,
        default=found_file(I3_FILE),
        help=".i3 file with InIceDSTPulses (default: that of $DNN_RECO_TEST_DATA)",
    )
    add("--repeat", type=int, help="repetitions of each figure (default: 5, with --quick 1)")
    add(
        "--seconds", type=float, help="for each repetition of a rate (default: 3, with --quick 0.3)"
    )
    add("--quick", action="store_true", help="see that everything works: figures mean little")
    add("--reference", type=Path, help="rows of benchmarks/reference.py")
    add("--json", type=Path, help="results (default: benchmarks/results.json)")
    add("--page", type=Path, help="page with the summary (default: benchmarks/RESULTS.md)")
    add("--verbose", action="store_true", help="print the whole output of cases that fail")
    add("--case", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for file in (options.source, options.reference):
        if file is not None and not file.is_file():
            parser.error(f"there is no file '{file}'")
    options.repeat = options.repeat or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.3 if options.quick else 3.0)
    if not options.quick:
        options.json = options.json or FOLDER / "results.json"
        options.page = options.page or FOLDER / "RESULTS.md"
    return options


def main() -> None:
    options = parse_options()
    settings = Settings(Path(), Path(), options.i3, options.repeat, options.seconds, options.quick)
    if options.case:
        case, result, folder, events = options.case
        run_case(case, Path(result), replace(settings, folder=Path(folder), events=Path(events)))
        return
    signal.signal(signal.SIGTERM, stop)
    number = FEW_EVENTS if options.quick else NUM_EVENTS
    kind = "random" if options.source is None else "real"
    results = Results(options, f"One file of {number:,} {kind} events")
    try:
        measure_all(settings, options, results, number)
    except KeyboardInterrupt:
        print("\nInterrupted.")
        sys.exit(130)
    finally:
        results.show()
    if any("failed" in row for row in results.measured.values()):
        sys.exit(1)


def measure_all(
    settings: Settings, options: argparse.Namespace, results: Results, number: int
) -> None:
    cases = [case for part in PARTS if part in options.parts for case in PARTS[part]]
    with tempfile.TemporaryDirectory() as name:
        events = Path(name) / "events.hdf5"
        if any(CASES[case].needs_events for case in cases):
            make_events(options.source, events, number)
        for case in cases:
            folder = Path(name) / case
            folder.mkdir()
            print(f"{case} …", end=" ", flush=True)
            start = time.perf_counter()
            found = measure(case, replace(settings, folder=folder, events=events), options)
            results.add(case, found)
            note = next(
                (f"{key}: {found[key]}; " for key in ("failed", "skipped") if key in found), ""
            )
            print(f"{note}{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
