"""The event store: event files decoded once into plain arrays on disk.

A store is a folder that may be deleted at any time; it is rebuilt from the files. It holds one
*shard* a source file, keyed by the file's path, size and time of change:

``event-files/<shard>/``
    for a source of another format: the event file ``events.hdf5`` that is made of it, and
    ``left_out.json``. Its shards are keyed by how that is done as well.

``hits-<settings>/<shard>/``
    the input tables: ``dom.bin`` (uint16) and ``features.bin`` of all hits, one after the
    other, ``events.npy`` (which hits belong to which event, with checksums) and ``shard.json``.
``records-<settings>/<shard>/<config>.bin`` and ``.json``
    labels and misc data of the events that are used (see :mod:`dnn_reco.data.records`), keyed by
    the functions that loaded them, their source, and the values of the config keys that they read.

Everything is written under a temporary name and renamed, and nothing is ever replaced by something
else, so that a store in use, a second process and an interruption never see half of a shard.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.config import PluginConfig, resolve, source_hash
from dnn_reco.data.conversion import Conversion
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.file_events import FileEvents, HitsSettings
from dnn_reco.data.hdf5.record import read_record
from dnn_reco.data.hits import Hits
from dnn_reco.data.records import (
    ColumnNames,
    RecordSettings,
    ShardEvents,
    event_table,
    load_records,
)
from dnn_reco.errors import DataError
from dnn_reco.files import existing_part, file_size, temporary_beside, write_atomically
from dnn_reco.foreign_files import parse_json

# To be incremented whenever the content or the layout of a store changes: of all, or of the labels,
# misc data and results of filters alone.
STORE_VERSION = 3
_RECORDS_VERSION = 3

_log = logging.getLogger(__name__)

# What reading a damaged file of the store raises, of JSON text with other content, too.
_DAMAGE = (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, DataError)

EVENT_FILES = "event-files"
"""Folder in the store of event files made of files of another format."""

_EVENT_FILE, _LEFT_OUT = "events.hdf5", "left_out.json"
_MAX_STEM = 100  # file systems allow 255 bytes a name, and more is added to it


class StoreError(DataError):
    """The store itself cannot be written or is damaged: no fault of the source file."""


EventReader = Callable[[Path, HitsSettings], FileEvents]
"""Reads the events of a file; raises DataError where the file cannot be used."""


@dataclass(frozen=True)
class Shard:
    """One source file in the store: where its parts are, and how many events were dropped.

    `event_file` is the HDF5 file with its events: the source itself, or the one made of it.
    `data_settings` is its record of how the features were made, if it has one.
    """

    source: Path
    event_file: Path
    hits_folder: Path
    records_file: Path
    num_events: int
    names: ColumnNames
    num_events_in_file: int
    dropped: Mapping[str, int]
    skipped: Mapping[str, int]
    data_settings: DataSettings | None


@dataclass(frozen=True)
class EventStore:
    """A store in a folder, used with given settings.

    Attributes
    ----------
    folder
        Folder of the store.
    hits, records
        Settings that its shards depend on.
    config
        Configuration as users' functions see it.
    read
        Reader of event files.
    conversion
        How event files are made of source files of another format; None: there are none.
    """

    folder: Path
    hits: HitsSettings
    records: RecordSettings
    config: PluginConfig
    read: EventReader
    conversion: Conversion | None = None

    def find(self, source: Path, names: ColumnNames | None = None) -> Shard | None:
        """The shard of a source file if the store has it whole and up to date."""
        try:
            place = self._place(source, names)
        except DataError:
            return None  # the file is gone; building it reports that
        if not (place.hits / "shard.json").is_file():
            return None
        if place.event_file != source and not place.event_file.is_file():
            return None
        for file in _descriptions(place.records):
            try:
                description = parse_json(file.read_bytes())
                if self._is_up_to_date(description["config_read"]):
                    shard = _shard(source, place, file.with_suffix(".bin"), description)
                    return shard if _sizes(shard) == description["sizes"] else None
            except _DAMAGE:
                continue  # the records are built again
        return None

    def build(self, source: Path, names: ColumnNames | None = None) -> Shard:
        """Build the shard of a source file, or the missing part of it.

        Parameters
        ----------
        source
            An event file.
        names
            Columns of labels and misc data to load; None lets this file define them.

        Raises
        ------
        ConfigError
            If a setting that a user's function needs is missing, or the file is of a format that
            the config does not provide for.
        DataError
            If the file cannot be used.
        StoreError
            If the store is damaged, or its disk full or read-only.
        """
        place = self._place(source, names)
        if place.event_file == source:
            return self._build(source, place, names)
        self._make_event_file(source, place.event_file.parent)
        with errors_naming(source, place.event_file):
            return self._build(source, place, names)

    def _build(self, source: Path, place: _Place, names: ColumnNames | None) -> Shard:
        """Build the shard of a source file whose event file is there."""
        events, skipped = self._hits(source, place)
        made = read_record(place.event_file, self.hits.tables)
        config = self.config.fresh()
        records = load_records(place.event_file, events, self.records, config, names)
        config_read = {key: self._config_digest(key) for key in sorted(config.keys_read)}
        description = {
            "names": asdict(records.names),
            "num_events": len(records.rows),
            "num_events_in_file": len(events.table),
            "dropped": dict(records.dropped),
            "skipped": skipped,
            "config_read": config_read,
            "data_settings": None if made is None else made.to_json(),
        }
        records_file = place.records / f"{_digest(config_read)}.bin"
        shard = _shard(source, place, records_file, description)
        with self._writing(source):
            write_atomically(records_file, records.rows.tobytes())
            content = json.dumps(description | {"sizes": _sizes(shard)})
            write_atomically(records_file.with_suffix(".json"), content.encode())
        return shard

    def _make_event_file(self, source: Path, folder: Path) -> None:
        """Make the event file of a source of another format, if it is not there."""
        assert self.conversion is not None
        if (folder / _EVENT_FILE).is_file():
            return
        with self._writing(source), temporary_beside(folder) as temporary:
            part = temporary / folder.name
            part.mkdir()
            left_out = self.conversion.make(self.conversion.settings, source, part / _EVENT_FILE)
            (part / _LEFT_OUT).write_text(json.dumps(dict(left_out)), encoding="utf-8")
            _sync(part)
            _move_into_place(part, folder, _EVENT_FILE)

    def _hits(self, source: Path, place: _Place) -> tuple[ShardEvents, dict[str, int]]:
        """The events of a shard and the counts of skipped rows; built where it is not whole."""
        folder = place.hits
        if (folder / "shard.json").is_file():
            try:
                return _read_shard_events(folder, self.hits)
            except StoreError as error:
                _log.warning("%s. It is built again from '%s'.", error, source)
                with self._writing(source):
                    (folder / "shard.json").unlink(missing_ok=True)
        self._write_hits(source, place)
        return _read_shard_events(folder, self.hits)

    def _write_hits(self, source: Path, place: _Place) -> None:
        folder = place.hits
        events = self.read(place.event_file, self.hits)
        with self._writing(source), temporary_beside(folder) as temporary:
            part = temporary / folder.name
            part.mkdir()
            table = _npy_bytes(event_table(events))
            # unlike `tofile`, this raises errors that name their cause
            (part / "dom.bin").write_bytes(np.ascontiguousarray(events.hits.dom).data)
            (part / "features.bin").write_bytes(np.ascontiguousarray(events.hits.features).data)
            (part / "events.npy").write_bytes(table)
            description = {
                "version": STORE_VERSION,
                "source": os.path.realpath(source),
                "others": [os.path.realpath(path) for path in place.others],
                "settings": place.settings,
                "skipped": {**place.left_out(), **events.skipped},
                "checksum": zlib.crc32(table),
            }
            (part / "shard.json").write_text(json.dumps(description), encoding="utf-8")
            _sync(part)
            _move_into_place(part, folder, "shard.json")

    @contextmanager
    def _writing(self, source: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"'{source}' cannot be written to the event store '{self.folder}': "
                f"{error.strerror or error} ({free_space(self.folder) / 1e9:.1f} GB are free): "
                "make room, or choose another folder with --cache-dir or the key "
                "data_cache_dir"
            ) from error

    def _is_up_to_date(self, config_read: Mapping[str, str]) -> bool:
        return all(self._config_digest(key) == digest for key, digest in config_read.items())

    def _config_digest(self, key: str) -> str:
        """Digest of a config value, or of its absence; cached, as each file needs it."""
        if key not in self._config_digests:
            value = [self.config[key]] if key in self.config else []
            self._config_digests[key] = _digest(value)
        return self._config_digests[key]

    @cached_property
    def _config_digests(self) -> dict[str, str]:
        return {}

    @cached_property
    def _plugin_sources(self) -> list[str]:
        """Hashes of the source of users' functions: the records are keyed by them."""
        names = {
            "label": self.records.label_class,
            "misc": self.records.misc_class,
            "filter": self.records.filter_class,
        }
        return [
            source_hash(resolve(name, f"data_handler_{kind}_class")) for kind, name in names.items()
        ]

    @cached_property
    def _hits_key(self) -> str:
        return _digest([STORE_VERSION, asdict(self.hits)])

    @cached_property
    def _records_key(self) -> str:
        return _digest(
            [self._hits_key, _RECORDS_VERSION, asdict(self.records), self._plugin_sources]
        )

    def _place(self, source: Path, names: ColumnNames | None) -> _Place:
        conversion = self.conversion
        if conversion is not None and not conversion.applies_to(source):
            conversion = None
        others = () if conversion is None else conversion.others
        settings = "" if conversion is None else _digest(conversion.settings)
        shard = shard_name(source, others, settings)
        records_key = _digest([self._records_key, names and asdict(names)])
        return _Place(
            hits=self.folder / f"hits-{self._hits_key}" / shard,
            records=self.folder / f"records-{records_key}" / shard,
            event_file=source
            if conversion is None
            else self.folder / EVENT_FILES / shard / _EVENT_FILE,
            others=others,
            settings=settings,
        )


@dataclass(frozen=True)
class _Place:
    """Where the parts of a shard are, and what they depend on besides the source file.

    `hits` and `records` are folders, the latter of its records under all settings of the config.
    """

    hits: Path
    records: Path
    event_file: Path
    others: tuple[Path, ...]
    settings: str

    def left_out(self) -> dict[str, int]:
        """What was left out when the event file was made, if it was."""
        file = self.event_file.with_name(_LEFT_OUT)
        if not self.settings or not file.is_file():
            return {}
        try:
            return {str(what): int(count) for what, count in parse_json(file.read_bytes()).items()}
        except _DAMAGE:
            return {}


def _shard(
    source: Path, place: _Place, records_file: Path, description: Mapping[str, Any]
) -> Shard:
    names = description["names"]
    return Shard(
        source,
        place.event_file,
        place.hits,
        records_file,
        description["num_events"],
        ColumnNames(tuple(names["labels"]), tuple(names["misc"])),
        description["num_events_in_file"],
        description["dropped"],
        description["skipped"],
        _data_settings(description["data_settings"]),
    )


@cache
def _data_settings(text: str | None) -> DataSettings | None:
    """The settings in a JSON text: most files share theirs, and reading thousands takes long."""
    return None if text is None else DataSettings.from_json(text)


def _descriptions(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.suffix == ".json")
    except FileNotFoundError:
        return []


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shard_name(source: Path, others: Sequence[Path] = (), settings: str = "") -> str:
    """Name of the shard of a file, which changes whenever the file does.

    Parameters
    ----------
    source
        The file.
    others, settings
        What an event file that is made of it depends on as well: further files, and settings.

    Raises
    ------
    DataError
        If one of the files is not there.
    """
    key: list[object] = _state(source)
    if settings:
        key += [settings, *map(_state, others)]
    return f"{source.stem[:_MAX_STEM]}-{_digest(key)}"


def _state(path: Path) -> list[object]:
    """Path, size and time of change of a file."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}") from error
    return [os.path.realpath(path), status.st_size, status.st_mtime_ns]


@contextmanager
def errors_naming(source: Path, event_file: Path) -> Iterator[None]:
    """Let errors about an event file name the file that it was made of."""
    try:
        yield
    except StoreError:
        raise
    except DataError as error:
        text = str(error).replace(f"'{event_file}'", "the event file that is made of it")
        raise DataError(text if str(source) in text else f"'{source}': {text}") from error


def _npy_bytes(table: NDArray[np.void]) -> bytes:
    """A table in the format of ``.npy`` files."""
    file = io.BytesIO()
    np.save(file, table)
    return file.getvalue()


def _sync(folder: Path) -> None:
    """Bring the files of a folder to the disk, so that a power cut leaves them whole."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _move_into_place(part: Path, folder: Path, needed: str) -> None:
    """Rename a complete folder to its place, unless another process did so first.

    One that lacks the file `needed` is replaced: a part of it was deleted.
    """
    if folder.exists() and not (folder / needed).is_file():
        shutil.rmtree(folder)
    try:
        part.rename(folder)
    except OSError:
        if not (folder / needed).is_file():
            raise


def _read_shard_events(folder: Path, hits: HitsSettings) -> tuple[ShardEvents, dict[str, int]]:
    """The events of a shard, and the counts of skipped rows."""
    try:
        description = parse_json((folder / "shard.json").read_bytes())
        skipped: dict[str, int] = description["skipped"]
        content = (folder / "events.npy").read_bytes()
        if zlib.crc32(content) != description["checksum"]:
            raise ValueError("'events.npy' was changed")
        table = np.load(io.BytesIO(content), allow_pickle=False)
        num_hits = int(table["stop"][-1]) if len(table) else 0
        dom = _map(folder / "dom.bin", np.dtype(np.uint16), (num_hits,))
        features = _map(folder / "features.bin", np.dtype(hits.dtype), (num_hits, hits.num_bins))
    except _DAMAGE as error:
        raise StoreError(f"the event store is damaged in '{folder}' ({error})") from error
    offsets = np.append(0, table["stop"])
    events = ShardEvents(table, Hits(offsets, dom, features), np.array(hits.init_values))
    return events, skipped


def _map(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    size, expected = path.stat().st_size, int(np.prod(shape)) * dtype.itemsize
    if size != expected:
        raise ValueError(f"'{path.name}' has {size} bytes, not {expected}")
    if expected == 0:
        return np.empty(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=shape)


def discard(shard: Shard, kind: str) -> bool:
    """Let the part of a shard ("records" or "hits") be built again next time, if that can be."""
    records = shard.records_file.with_suffix(".json")
    file = records if kind == "records" else shard.hits_folder / "shard.json"
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _sizes(shard: Shard) -> dict[str, int]:
    """Bytes of the arrays of a shard; -1 where one is missing."""
    arrays = [shard.hits_folder / "dom.bin", shard.hits_folder / "features.bin", shard.records_file]
    return {path.name: file_size(path, -1) for path in arrays}


def shard_size(shard: Shard) -> int:
    """Bytes of a shard on disk."""
    files = [*shard.hits_folder.iterdir(), shard.records_file]
    if shard.event_file != shard.source:
        files += shard.event_file.parent.iterdir()
    return sum(file.stat().st_size for file in files)


def free_space(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    return shutil.disk_usage(existing_part(folder)).free
