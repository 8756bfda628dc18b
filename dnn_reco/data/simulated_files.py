"""Files of simulated events: their paths, and which of them hold the same events."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from dnn_reco.foreign_files import parse_json

RECORD = "simulation.json"
"""Name of the file in a data set's folder that holds its settings."""

HDF5_SUFFIX = ".hdf5"
FILES_PER_FOLDER = 1000

_TUTORIAL = Path("datasets/11883/clsim-base-4.0.5.0.99_eff/output/summaryV2_clipped")
_DEPTH = len(_TUTORIAL.parts) + 1  # folders between that of the data set and a file
_NUMBER = re.compile(r"_(\d{8})(\..*)")

# Settings that decide how events are written, not what they are.
_OF_FILES = ("data_format", "time_bins", "time_quantiles", "events_per_file", "keep_pulses")


def flat_path(folder: Path, number: int, suffix: str = HDF5_SUFFIX) -> Path:
    """Path of a file of the layout `flat`."""
    return folder / f"simulation_{number:08d}{suffix}"


def tutorial_path(folder: Path, number: int) -> Path:
    """Path of a file of the layout `tutorial`.

    Numbers below 1000 are for training, 1000 to 1004 for validation, 1005 to 1009 for tests.
    """
    thousand = number // FILES_PER_FOLDER * FILES_PER_FOLDER
    part = f"{thousand:05d}-{thousand + FILES_PER_FOLDER - 1:05d}"
    return folder / _TUTORIAL / part / f"11883_simulation_DOMPulseData_{number:08d}.hdf5"


def same_simulated_events(first: Sequence[Path], second: Sequence[Path]) -> dict[Path, Path]:
    """Files of the second list that hold events of files of the first, and those files.

    The events of a file depend on its number and the settings of the simulation alone, the seed
    among them: where these are the same, the shorter file holds the first events of the longer one.
    Files that lie elsewhere than where `simulate` wrote them are not recognised.
    """
    settings_of = cache(_settings_of_events)
    known = {simulated: path for path in first if (simulated := _simulated(path, settings_of))}
    others = {path: _simulated(path, settings_of) for path in second}
    return {path: known[each] for path, each in others.items() if each in known}


def _simulated(path: Path, settings_of: Callable[[Path], str | None]) -> tuple[str, int] | None:
    """What decides the events of a file: settings and number; None if that is not known."""
    path = path.resolve()
    found = _NUMBER.search(path.name)
    if found is None:
        return None
    number, suffix = int(found[1]), found[2]
    folder = path.parent
    if path != flat_path(folder, number, suffix):
        folder = path.parents[min(_DEPTH, len(path.parents) - 1)]
        if path != tutorial_path(folder, number):
            return None
    settings = settings_of(folder)
    return None if settings is None else (settings, number)


def _settings_of_events(folder: Path) -> str | None:
    """The settings that decide what the events of a data set are; None if they are not recorded."""
    try:
        settings = parse_json((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(settings, dict):
        return None
    of_events = {key: value for key, value in settings.items() if key not in _OF_FILES}
    return json.dumps(of_events)  # in their order, as shares of flavors are drawn in it
