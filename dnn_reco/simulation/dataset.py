"""Files of simulated events: from settings to HDF5 files that a training reads, or `.i3` files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data.hdf5 import InputTables, count_events, write_input_tables
from dnn_reco.data.pulses import Pulses, join
from dnn_reco.data.simulated_files import (
    FILES_PER_FOLDER,
    HDF5_SUFFIX,
    flat_path,
    tutorial_path,
)
from dnn_reco.detector.geometry import string_and_om
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import temporary_beside
from dnn_reco.i3.reader import is_i3, read_i3
from dnn_reco.i3.writer import write_i3
from dnn_reco.simulation.detector import icecube86
from dnn_reco.simulation.frames import event_frames
from dnn_reco.simulation.labels import labels
from dnn_reco.simulation.light import sample_photoelectrons
from dnn_reco.simulation.response import ResponseSettings, detect
from dnn_reco.simulation.settings import SimulationSettings
from dnn_reco.simulation.truth import SimulationTruth, join_truths, simulate_particles

LABEL_TABLE = "LabelsDeepLearning"
"""Name of the table of labels."""

Layout = Literal["flat", "tutorial"]
I3_SUFFIX = ".i3.zst"

_FIRST_VALIDATION, _FIRST_TEST, _MOST_HELD_OUT = 1000, 1005, 5  # numbers of files
_HELD_OUT_SHARE = 200  # one file in so many for validation, and one for tests

_MOST_NAMED = 3  # files in a message

# Events to generate at once: enough for vectors to pay, few enough for little memory.
_BLOCK = 100
# One block without a trigger is chance; that many in a row mean that no event ever triggers.
_PATIENCE = 50


@dataclass(frozen=True)
class PlannedFile:
    """A file of the data set: its number, which with the seed decides its events."""

    path: Path
    number: int
    num_events: int


def plan_files(
    folder: Path,
    num_events: int,
    events_per_file: int,
    layout: Layout,
    suffix: str = HDF5_SUFFIX,
    num_files: int | None = None,
) -> list[PlannedFile]:
    """The files of a data set.

    Parameters
    ----------
    folder
        Where the data set lies.
    num_events
        Events in all files together.
    events_per_file
        Events of each file; the last ones of each folder may hold fewer.
    layout
        `flat`: all files in the folder. `tutorial`: in the folders that the tutorial's config
        names; one file in two hundred (at least one, at most five) is for validation, and as many
        are for tests.
    suffix
        What the files are: `HDF5_SUFFIX` or `I3_SUFFIX`, the latter only in the layout `flat`.
    num_files
        Number of files; None: as many as are needed.

    Raises
    ------
    ConfigError
        If the layout has no such files, or more files than its folders are meant for, or there are
        fewer events than files.
    """
    needed = -(-num_events // events_per_file)
    total = num_files or needed
    if total > num_events:
        raise ConfigError(f"{num_events} events cannot be shared among {total} files: give fewer")
    if layout == "flat":
        return _files(
            lambda number: flat_path(folder, number, suffix), 0, num_events, total, events_per_file
        )
    if suffix != HDF5_SUFFIX:
        raise ConfigError("the layout 'tutorial' has HDF5 files: choose --layout flat")
    if num_events < 3:
        raise ConfigError(
            "the layout 'tutorial' needs at least three events: for training, validation and tests"
        )
    if num_files is not None and num_files < 3:
        raise ConfigError(
            "the layout 'tutorial' needs at least three files: for training, validation and tests"
        )
    num_held_out = min(_MOST_HELD_OUT, max(1, total // _HELD_OUT_SHARE))
    held_out_events = min(num_held_out * events_per_file, num_events // 3)
    if num_files is not None:  # one event is left for each training file
        num_training = num_files - 2 * num_held_out
        held_out_events = min(held_out_events, (num_events - num_training) // 2)
    else:
        num_held_out = -(-held_out_events // events_per_file)
        num_training = -(-(num_events - 2 * held_out_events) // events_per_file)
    training_events = num_events - 2 * held_out_events
    if num_training > FILES_PER_FOLDER:
        raise ConfigError(
            f"{num_events} events with {events_per_file} in a file are more than the "
            f"{FILES_PER_FOLDER} training files of the layout 'tutorial' can hold: write at least "
            f"{-(-training_events // FILES_PER_FOLDER)} events to a file"
        )
    parts = {
        0: (training_events, num_training),
        _FIRST_VALIDATION: (held_out_events, num_held_out),
        _FIRST_TEST: (held_out_events, num_held_out),
    }
    return [
        file
        for first, size in parts.items()
        for file in _files(
            lambda number: tutorial_path(folder, number), first, *size, events_per_file
        )
    ]


def _files(
    path_of: Callable[[int], Path],
    first: int,
    num_events: int,
    num_files: int,
    events_per_file: int,
) -> list[PlannedFile]:
    """Files with as many events as possible, as long as one is left for each later file."""
    files = []
    for number in range(first, first + num_files):
        later = first + num_files - 1 - number
        size = min(events_per_file, num_events - later) if later else num_events
        files.append(PlannedFile(path_of(number), number, size))
        num_events -= size
    return files


@dataclass(frozen=True)
class SimulatedEvents:
    """Simulated events that triggered the detector.

    Attributes
    ----------
    pulses
        Pulses of the n events.
    truth
        What happened in them.
    """

    pulses: Pulses
    truth: SimulationTruth

    @property
    def labels(self) -> dict[str, NDArray[np.float64]]:
        """Values [n] by name: see `dnn_reco.simulation.labels.labels`."""
        return labels(self.truth)


def simulate(
    settings: SimulationSettings,
    num_events: int,
    number: int = 0,
    report: Callable[[int], None] | None = None,
) -> SimulatedEvents:
    """Simulate events, a function of the settings and `number`, which is that of a file.

    Parameters
    ----------
    settings
        What to simulate.
    num_events
        Number of events n, at least 1.
    number
        Number of the file that they are written to.
    report
        Called with the number of events after each block of them.

    Raises
    ------
    DataError
        If next to no event triggers the detector.
    """
    blocks = list(_triggered(settings, num_events, number, report))
    truth = join_truths([truth for truth, _ in blocks])
    pulses = join([pulses for _, pulses in blocks])
    return SimulatedEvents(pulses.first(num_events), truth.select(np.arange(num_events)))


def simulated_ids(num_events: int, number: int) -> NDArray[np.void]:
    """Event ids [n]: the number of the file as run, events from 0 on."""
    ids = np.zeros(num_events, dtype=EVENT_ID)
    ids["Run"], ids["Event"] = number, np.arange(num_events)
    return ids


def write_file(
    settings: SimulationSettings, file: PlannedFile, report: Callable[[int], None] | None = None
) -> None:
    """Simulate the events of a file and write it; it appears when it is complete.

    Arguments and errors are those of :func:`simulate`.
    """
    events = simulate(settings, file.num_events, file.number, report)
    if settings.keep_pulses:
        _write_pulses(file.path.with_suffix(".parquet"), events.pulses)
    ids = simulated_ids(file.num_events, file.number)
    if is_i3(file.path):
        pairs = event_frames(events.truth, events.pulses, ids)
        write_i3(file.path, (frame for pair in pairs for frame in pair))
        return
    features = settings.features(events.pulses)
    write_input_tables(
        file.path,
        ids,
        features.time_offset,
        features.hits,
        sparse=features.sparse,
        num_listed=features.num_listed,
        tables={LABEL_TABLE: events.labels},
        data_settings=settings.data_settings,
    )


def missing_files(files: Sequence[PlannedFile]) -> list[PlannedFile]:
    """The files of a data set that are not there yet with all their events.

    Raises
    ------
    DataError
        If a file that is there has more events than planned or is none of the data set: what reads
        all files of the folder would find more events than were asked for.
    """
    found = {file: _events_in(file.path) for file in files}
    wrong = [
        f"'{file.path}' has {found[file]} events, not {file.num_events}"
        for file in files
        if found[file] > file.num_events
    ]
    wrong += [f"'{path}' is none of the {len(files)} files" for path in _others(files)]
    if wrong:
        more = f"; and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        raise DataError(
            f"the folder would hold more than {sum(file.num_events for file in files)} events: "
            f"{'; '.join(wrong[:_MOST_NAMED])}{more}. Ask for at least as many --events as "
            "before, give another folder, or remove these files"
        )
    return [file for file in files if found[file] < file.num_events]


def _events_in(path: Path) -> int:
    """Number of events of a file, 0 if there is none."""
    if not path.exists():
        return 0
    if is_i3(path):
        return sum(frame.stop == "P" for frame in read_i3(path))
    return count_events(path, InputTables().time_offset)


def _others(files: Sequence[PlannedFile]) -> list[Path]:
    """Files in the same folders that are named alike, with numbers beyond the plan."""
    planned = {file.path for file in files}
    pattern = files[0].path.name.replace(f"{files[0].number:08d}", "[0-9]" * 8)
    found = {path for folder in {path.parent for path in planned} for path in folder.glob(pattern)}
    return sorted(found - planned)


def _triggered(
    settings: SimulationSettings,
    num_events: int,
    number: int,
    report: Callable[[int], None] | None,
) -> Iterator[tuple[SimulationTruth, Pulses]]:
    """Blocks of events that triggered the detector, until there are enough."""
    rng = np.random.default_rng([settings.seed, number])
    detector = icecube86()
    missing, empty_blocks = num_events, 0
    while missing > 0:
        truth, sources = simulate_particles(settings, _BLOCK, rng)
        photoelectrons = sample_photoelectrons(sources, detector.efficiency, rng)
        detected = detect(photoelectrons, detector, ResponseSettings(), rng)
        found = min(len(detected.triggered), missing)
        empty_blocks = 0 if found else empty_blocks + 1
        if empty_blocks == _PATIENCE:
            raise DataError(
                f"none of {_PATIENCE * _BLOCK} events in a row triggered the detector: choose "
                "higher energies or a smaller margin"
            )
        if found:
            kept = truth.select(detected.triggered)
            yield kept.shifted(detected.time_shift), detected.pulses
            missing -= found
            if report is not None:
                report(found)


def _write_pulses(path: Path, pulses: Pulses) -> None:
    """One row a pulse: event, string, om, time [ns], charge [PE], flags."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigError(
            "keep_pulses needs the package pyarrow: pip install 'dnn_reco[parquet]'"
        ) from error
    string, om = string_and_om(pulses.dom)
    table = pa.table(
        {
            "event": pulses.event.astype(np.int32),
            "string": string.astype(np.int8),
            "om": om.astype(np.int8),
            "time": pulses.time,
            "charge": pulses.charge.astype(np.float32),
            "flags": pulses.flags,
        }
    )
    with temporary_beside(path) as folder:
        part = folder / path.name
        pq.write_table(table, part, compression="zstd")
        part.replace(path)
