"""Events of files in any known format."""

from __future__ import annotations

from pathlib import Path

import h5py

from dnn_reco.data.file_events import FileEvents, HitsSettings
from dnn_reco.data.hdf5 import read_file
from dnn_reco.data.store import EventReader
from dnn_reco.errors import DataError
from dnn_reco.i3.frame import TAG
from dnn_reco.i3.stream import EndOfStreamError, open_stream

_HDF5_SUFFIXES = (".hdf5", ".h5", ".hdf")


def is_i3_file(path: Path) -> bool:
    """Whether this is an `.i3` file, compressed or not, by its name or its content."""
    if ".i3" in path.suffixes:
        return True
    try:
        with open_stream(path) as stream:
            return stream.peek(0, len(TAG)) == TAG
    except (DataError, EndOfStreamError):
        return False


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
