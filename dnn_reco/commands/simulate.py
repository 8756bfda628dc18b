"""`simulate`: simulate events."""

from __future__ import annotations

import logging
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from dnn_reco.amounts import counted
from dnn_reco.commands.output import print_note
from dnn_reco.data.simulated_files import HDF5_SUFFIX
from dnn_reco.progress import Progress
from dnn_reco.simulation.dataset import (
    Layout,
    PlannedFile,
    missing_files,
    plan_files,
    write_file,
)
from dnn_reco.simulation.settings import SimulationSettings, claim_folder
from dnn_reco.workers import in_workers

_log = logging.getLogger(__name__)

_ADVICE = "try again with fewer --jobs; finished files are kept"


def run_simulate(
    settings: SimulationSettings,
    folder: Path,
    num_events: int,
    layout: Layout,
    num_jobs: int,
    suffix: str = HDF5_SUFFIX,
    num_files: int | None = None,
) -> int:
    """Write all files of a data set that are not there yet; returns the exit code.

    Ctrl-C leaves the finished files; the same call makes the others.
    """
    files = plan_files(folder, num_events, settings.events_per_file, layout, suffix, num_files)
    claim_folder(folder, settings)
    missing = missing_files(files)
    there = sum(file.num_events for file in files) - sum(file.num_events for file in missing)
    if there:
        _log.info("%d of %d files already exist.", len(files) - len(missing), len(files))
    started = time.perf_counter()
    try:
        made = _write_all(settings, missing, num_events, there, min(num_jobs, len(missing)))
    except KeyboardInterrupt:
        _log.info("Stopped. Finished files are kept; run the same command to resume.")
        return 0
    seconds = time.perf_counter() - started
    rate = f" ({made:,} in {seconds:.0f} s, {made / seconds:.0f} events/s)" if made else ""
    events, number = counted(num_events, "event"), counted(len(files), "file")
    print_note(f"{events} in {number} in '{folder}'{rate}.")
    return 0


def _write_all(
    settings: SimulationSettings,
    files: list[PlannedFile],
    num_events: int,
    there: int,
    num_jobs: int,
) -> int:
    """Write the files, in worker processes if there is more than one job; returns the events."""
    with Progress(num_events, "Simulating", "events", initial=there) as progress:
        if num_jobs <= 1:
            for file in files:
                write_file(settings, file, progress.update)
        else:
            work = partial(write_file, settings)
            with closing(in_workers(work, files, num_jobs, _ADVICE)) as results:
                for file, _ in zip(files, results, strict=True):
                    progress.update(file.num_events)
    return sum(file.num_events for file in files)
