"""Events of files in any known format, and of the simulation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from dnn_reco.data.event_table import EventTable, NamedColumns
from dnn_reco.data.file_events import FileEvents, HitsSettings
from dnn_reco.data.hdf5 import read_file
from dnn_reco.data.store import EventReader
from dnn_reco.errors import DataError
from dnn_reco.simulation.dataset import simulate, simulated_ids
from dnn_reco.simulation.settings import SimulationSettings

_HDF5_SUFFIXES = (".hdf5", ".h5", ".hdf")


def reader_of(path: Path) -> EventReader:
    """The reader of an event file, by its name or its content.

    Raises
    ------
    DataError
        If the file is of no known format.
    """
    if path.suffix in _HDF5_SUFFIXES or not path.is_file() or h5py.is_hdf5(path):
        return read_file
    raise DataError(
        f"'{path}' is no event file of a known format: HDF5 files with the tables of the data "
        f"format can be read ({', '.join(_HDF5_SUFFIXES)}, or any name with such content)"
    )


def read_events(path: Path, settings: HitsSettings) -> FileEvents:
    """All events of a file of any known format.

    Raises
    ------
    DataError
        If the file is of no known format, missing or damaged, or does not fit the settings.
    """
    return reader_of(path)(path, settings)


def simulated_events(settings: SimulationSettings, num_events: int) -> EventTable:
    """Simulated events: those of the first file of a simulated data set.

    Parameters
    ----------
    settings
        What to simulate.
    num_events
        Number of events, at least 1.

    Raises
    ------
    DataError
        If next to no event triggers the detector.
    """
    events = simulate(settings, num_events)
    features = settings.features(events.pulses)
    return EventTable(
        replace(features.hits, features=features.hits.features.astype(np.float32)),
        NamedColumns(tuple(events.labels), np.stack(list(events.labels.values()), axis=1)),
        NamedColumns((), np.empty((num_events, 0))),
        features.time_offset,
        simulated_ids(num_events, 0),
    )
