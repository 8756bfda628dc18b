"""Events of files in any known format: HDF5 event files, and files with frames (.i3)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import h5py

from dnn_reco.config import Config
from dnn_reco.data.conversion import Conversion
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.file_events import FileEvents, HitsSettings
from dnn_reco.data.first_pulses import num_first_pulses
from dnn_reco.data.from_config import hits_settings, record_settings
from dnn_reco.data.hdf5 import HDF5_SUFFIXES, count_events, read_file, read_record
from dnn_reco.data.store import EventReader, EventStore, errors_naming
from dnn_reco.data_creation.event_file import count_event_frames
from dnn_reco.data_creation.own_format import is_own_format
from dnn_reco.data_creation.recipe import (
    FrameRecipe,
    make_by_recipe,
    recipe_of,
    settings_of_recipe,
)
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.i3.frame import TAG
from dnn_reco.i3.reader import I3_SUFFIXES, is_i3
from dnn_reco.i3.stream import EndOfStreamError, open_stream

_MAX_FILES = 20  # of a list that are opened for nothing but their record


def is_i3_file(path: Path) -> bool:
    """Whether this is an `.i3` file, compressed or not, by its name or its content."""
    if is_i3(path):
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
        If the file is of no known format, or holds frames, of which an event file must be made.
    """
    if is_i3(path):
        raise DataError(
            f"'{path}' holds frames: convert it to an event file with dnn-reco create-data, or "
            "give a config with the key i3_data"
        )
    if path.suffix in HDF5_SUFFIXES or not path.is_file() or h5py.is_hdf5(path):
        return read_file
    raise DataError(
        f"'{path}' is not an event file of a supported format: HDF5 files with the tables of the "
        f"data format can be read ({', '.join(HDF5_SUFFIXES)}, or any name with such content)"
    )


def read_events(path: Path, settings: HitsSettings) -> FileEvents:
    """All events of an event file.

    Raises
    ------
    DataError
        If the file is of no known format, missing or damaged, or does not fit the settings.
    """
    return reader_of(path)(path, settings)


# --------------------------------------------------------------------------------------------------
# Files that a config lists, in any format
# --------------------------------------------------------------------------------------------------
def event_store(config: Config, cache_dir: str | None) -> EventStore:
    """The event store of a config, in `cache_dir` if that is given."""
    return EventStore(
        Path(cache_dir) if cache_dir else config.event_store,
        hits_settings(config),
        record_settings(config),
        config.plugin_view(),
        read_file,
        frame_conversion(config),
    )


def frame_conversion(config: Config) -> Conversion:
    """How event files are made of the files with frames that a config lists.

    What is wrong with `i3_data` matters only once there is such a file: a trained network may be
    applied where the files that this key names are not.
    """
    try:
        recipe = recipe_of(config)
    except ConfigError as error:
        return Conversion(I3_SUFFIXES, make_from_text, problem=str(error))
    others = () if recipe.gcd is None else (recipe.gcd,)
    return Conversion(I3_SUFFIXES, make_from_text, recipe.to_text(), others)


def make_from_text(settings: str, source: Path, target: Path) -> Mapping[str, int]:
    """Make the event file of a file with frames; returns what was left out, and how often.

    `settings` is the text of a :class:`~dnn_reco.data_creation.recipe.FrameRecipe`. See
    :data:`dnn_reco.data.conversion.MakeEventFile`.
    """
    return make_by_recipe(FrameRecipe.from_text(settings), source, target)


@contextmanager
def event_file(path: Path, config: Config, max_events: int | None = None) -> Iterator[Path]:
    """The event file (HDF5) of a file: itself, or one that is made of it for as long as it is used.

    Parameters
    ----------
    path
        The file.
    config
        The config, for files with frames.
    max_events
        Where it is made: take no more than the first events; None: all.

    Raises
    ------
    ConfigError
        If `i3_data` is needed, and missing or wrong.
    DataError
        If the file cannot be used.
    """
    if not is_i3(path):
        yield path
        return
    recipe = recipe_of(config)
    with tempfile.TemporaryDirectory(prefix="dnn_reco-") as folder:
        made = Path(folder) / "events.hdf5"
        with errors_naming(path, made):
            make_by_recipe(recipe, path, made, max_events)
            yield made


def event_counter(config: Config) -> Callable[[Path], int]:
    """The function that counts the events of a file; no event file is made for it.

    It raises ConfigError if `i3_data` is needed, and missing or wrong, and DataError if the file
    cannot be read.
    """
    table = config.data_handler.data_handler_time_offset_name
    streams = cache(lambda: recipe_of(config).streams)

    def count(path: Path) -> int:
        return count_event_frames(path, streams()) if is_i3(path) else count_events(path, table)

    return count


def data_settings_of(path: Path, config: Config) -> DataSettings | None:
    """How the features of a file are made: its record, or `i3_data`; None if it has no record.

    Parameters
    ----------
    path
        The file.
    config
        The config, whose input tables count where an event file has several sets of them.

    Raises
    ------
    ConfigError
        If `i3_data` is needed, and missing or wrong.
    DataError
        If the file cannot be read.
    """
    if is_i3(path):
        return settings_of_recipe(recipe_of(config), config)
    return read_record(path, hits_settings(config).tables)


def recorded_settings(
    files: Sequence[Path], config: Config
) -> list[tuple[Path, DataSettings | None]]:
    """Some files of a list, spread over it, and how their features are made, where that is known.

    Parameters
    ----------
    files
        The files.
    config
        The config that lists them.
    """
    step = max(1, -(-len(files) // _MAX_FILES))
    found: list[tuple[Path, DataSettings | None]] = []
    with_frames = False
    for path in files[::step]:
        if is_i3(path):
            if with_frames:
                continue  # one stands for all, which the config makes alike
            with_frames = True
        try:
            found.append((path, data_settings_of(path, config)))
        except (ConfigError, DataError):  # whoever reads the file reports that
            found.append((path, None))
    return found


def check_data_format(config: Config, path: Path) -> None:
    """Check that the features of a file are those that a config names to its network.

    A file that has no record of its settings, or cannot be read, is passed over.

    Raises
    ------
    ConfigError
        If `data_handler_data_format` is another format, or empty where it is needed.
    """
    named = config.data_handler.data_handler_data_format
    if named is not None:
        is_own_format(named)  # refuses formats that do not exist
    try:
        made = data_settings_of(path, config)
    except DataError:
        return
    if made is None or made.data_format == named:
        return
    if named is not None or num_first_pulses(made.data_format) is not None:
        raise ConfigError(
            f"the features of '{path}' have the format '{made.data_format}', but "
            f"data_handler_data_format is {'empty' if named is None else repr(named)}: set it to "
            "the format of the data"
        )
