"""The event store: event files decoded once into plain arrays on disk.

A store is a folder that may be deleted at any time; it is rebuilt from the files. It holds one
*shard* a source file, keyed by the file's path, size and time of change:

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.config import PluginConfig, resolve, source_hash
from dnn_reco.data.file_events import FileEvents, HitsSettings
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

# To be incremented whenever the content or the layout of a store changes.
STORE_VERSION = 3

_log = logging.getLogger(__name__)

# What reading a damaged file of the store raises, of JSON text with other content, too.
_DAMAGE = (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError)

_MAX_STEM = 100  # file systems allow 255 bytes a name, and more is added to it


class StoreError(DataError):
    """The store itself cannot be written or is damaged: no fault of the source file."""


EventReader = Callable[[Path, HitsSettings], FileEvents]
"""Reads the events of a file; raises DataError where the file cannot be used."""


@dataclass(frozen=True)
class Shard:
    """One source file in the store: where its parts are, and how many events were dropped."""

    source: Path
    hits_folder: Path
    records_file: Path
    num_events: int
    names: ColumnNames
    num_events_in_file: int
    dropped: Mapping[str, int]
    skipped: Mapping[str, int]


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
        Reader of the source files.
    """

    folder: Path
    hits: HitsSettings
    records: RecordSettings
    config: PluginConfig
    read: EventReader

    def find(self, source: Path, names: ColumnNames | None = None) -> Shard | None:
        """The shard of a source file if the store has it whole and up to date."""
        try:
            place = self._place(source, names)
        except DataError:
            return None  # the file is gone; building it reports that
        if not (place.hits / "shard.json").is_file():
            return None
        for file in _descriptions(place.records):
            try:
                description = parse_json(file.read_bytes())
                if self._is_up_to_date(description["config_read"]):
                    shard = _shard(source, place.hits, file.with_suffix(".bin"), description)
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
            If a setting that a user's function needs is missing.
        DataError
            If the file cannot be used.
        StoreError
            If the store is damaged, or its disk full or read-only.
        """
        place = self._place(source, names)
        events, skipped = self._hits(source, place.hits)
        config = self.config.fresh()
        records = load_records(source, events, self.records, config, names)
        config_read = {key: self._config_digest(key) for key in sorted(config.keys_read)}
        description = {
            "names": asdict(records.names),
            "num_events": len(records.rows),
            "num_events_in_file": len(events.table),
            "dropped": dict(records.dropped),
            "skipped": skipped,
            "config_read": config_read,
        }
        records_file = place.records / f"{_digest(config_read)}.bin"
        shard = _shard(source, place.hits, records_file, description)
        with self._writing(source):
            write_atomically(records_file, records.rows.tobytes())
            content = json.dumps(description | {"sizes": _sizes(shard)})
            write_atomically(records_file.with_suffix(".json"), content.encode())
        return shard

    def _hits(self, source: Path, folder: Path) -> tuple[ShardEvents, dict[str, int]]:
        """The events of a shard and the counts of skipped rows; built where it is not whole."""
        if (folder / "shard.json").is_file():
            try:
                return _read_shard_events(folder, self.hits)
            except StoreError as error:
                _log.warning("%s. It is built again from '%s'.", error, source)
                with self._writing(source):
                    (folder / "shard.json").unlink(missing_ok=True)
        self._write_hits(source, folder)
        return _read_shard_events(folder, self.hits)

    def _write_hits(self, source: Path, folder: Path) -> None:
        events = self.read(source, self.hits)
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
                "skipped": dict(events.skipped),
                "checksum": zlib.crc32(table),
            }
            (part / "shard.json").write_text(json.dumps(description), encoding="utf-8")
            _sync(part)
            _move_into_place(part, folder)

    @contextmanager
    def _writing(self, source: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"'{source}' cannot be written to the event store '{self.folder}': "
                f"{error.strerror or error} ({free_space(self.folder) / 1e9:.1f} GB are free "
                "there): make room, or choose another folder with --cache-dir or the key "
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
        return _digest([self._hits_key, asdict(self.records), self._plugin_sources])

    def _place(self, source: Path, names: ColumnNames | None) -> _Place:
        shard = shard_name(source)
        records_key = _digest([self._records_key, names and asdict(names)])
        return _Place(
            hits=self.folder / f"hits-{self._hits_key}" / shard,
            records=self.folder / f"records-{records_key}" / shard,
        )


@dataclass(frozen=True)
class _Place:
    """Folders of a shard: its hits, and its records under all settings of the config."""

    hits: Path
    records: Path


def _shard(
    source: Path, hits_folder: Path, records_file: Path, description: Mapping[str, Any]
) -> Shard:
    names = description["names"]
    return Shard(
        source,
        hits_folder,
        records_file,
        description["num_events"],
        ColumnNames(tuple(names["labels"]), tuple(names["misc"])),
        description["num_events_in_file"],
        description["dropped"],
        description["skipped"],
    )


def _descriptions(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.suffix == ".json")
    except FileNotFoundError:
        return []


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shard_name(source: Path) -> str:
    """Name of the shard of a file, which changes whenever the file does."""
    try:
        status = source.stat()
    except OSError as error:
        raise DataError(f"'{source}' cannot be read: {error.strerror}") from error
    key = [os.path.realpath(source), status.st_size, status.st_mtime_ns]
    return f"{source.stem[:_MAX_STEM]}-{_digest(key)}"


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


def _move_into_place(part: Path, folder: Path) -> None:
    """Rename a complete shard to its place, unless another process did so first."""
    if folder.exists() and not (folder / "shard.json").is_file():
        shutil.rmtree(folder)  # an incomplete shard: a part of it was deleted
    try:
        part.rename(folder)
    except OSError:
        if not (folder / "shard.json").is_file():
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
    return sum(file.stat().st_size for file in files)


def free_space(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    return shutil.disk_usage(existing_part(folder)).free
