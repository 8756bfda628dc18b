"""The event store: HDF5 files decoded once into plain arrays on disk.

A store is a folder that may be deleted at any time; it is made again from the files. It holds one
*shard* a source file, keyed by the file's path, size and time of change:

``hits-<settings>/<shard>/``
    what the input tables say: ``dom.bin`` (uint16) and ``features.bin`` of all hits, one after the
    other, ``events.npy`` (which hits belong to which event) and ``shard.json``.
``records-<settings>/<shard>.bin`` and ``.json``
    labels and misc data of the events that are used (see :mod:`dnn_reco.data.records`), keyed by
    the functions that loaded them, their source, and the config keys that they read.

Everything is written under a temporary name and renamed, so that a store in use, a second process
and an interruption never see half of a shard.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.config import PluginConfig, resolve, source_hash
from dnn_reco.data.hdf5 import InputTables, read_events
from dnn_reco.data.records import (
    EVENT_TABLE,
    ColumnNames,
    RecordSettings,
    ShardEvents,
    load_records,
)
from dnn_reco.errors import DataError
from dnn_reco.files import temporary_beside, write_atomically

# To be raised whenever the content or the layout of a store changes.
_VERSION = 1


@dataclass(frozen=True)
class HitsSettings:
    """What the hits of a store depend on.

    Attributes
    ----------
    tables
        Names of the input tables.
    num_bins
        Number of input features F of a DOM.
    init_values
        What an unlisted bin holds: F values.
    dtype
        Type of the features, "float32" or "float64".
    """

    tables: InputTables
    num_bins: int
    init_values: tuple[float, ...]
    dtype: str


@dataclass(frozen=True)
class Shard:
    """One source file in the store: where its parts lie, and what became of its events."""

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
    """A store in a folder, seen with given settings.

    Attributes
    ----------
    folder
        Where it lies.
    hits, records
        What its shards depend on.
    config
        What users' functions see of the configuration.
    """

    folder: Path
    hits: HitsSettings
    records: RecordSettings
    config: PluginConfig

    def find(self, source: Path, names: ColumnNames | None = None) -> Shard | None:
        """The shard of a source file if the store has it whole and up to date."""
        description = self._read_description(self._records_file(source, names), source)
        if description is None or not (self._hits_folder(source) / "shard.json").is_file():
            return None
        return self._shard(source, names, description)

    def build(self, source: Path, names: ColumnNames | None = None) -> Shard:
        """Make the shard of a source file, or what is missing of it.

        Parameters
        ----------
        source
            An HDF5 file.
        names
            Columns of labels and misc data to load; None lets this file define them.

        Raises
        ------
        DataError
            If the file cannot be used or the disk is full.
        """
        try:
            return self._build(source, names)
        except OSError as error:
            raise DataError(
                f"the event store '{self.folder}' cannot take '{source}': "
                f"{error.strerror or error} ({free_space(self.folder) / 1e9:.1f} GB are free "
                "there): make room, or choose another folder with --cache-dir or the key "
                "data_cache_dir"
            ) from error

    def _build(self, source: Path, names: ColumnNames | None) -> Shard:
        hits_folder = self._hits_folder(source)
        if not (hits_folder / "shard.json").is_file():
            self._write_hits(source, hits_folder)
        events = _read_shard_events(hits_folder, self.hits)
        config = self.config.fresh()
        records = load_records(source, events, self.records, config, names)
        description = {
            "names": asdict(records.names),
            "num_events": len(records.rows),
            "num_events_in_file": len(events.table),
            "dropped": dict(records.dropped),
            "config_read": {key: _digest(config.get(key)) for key in sorted(config.keys_read)},
        }
        records_file = self._records_file(source, names)
        write_atomically(records_file, records.rows.tobytes())
        write_atomically(records_file.with_suffix(".json"), json.dumps(description).encode())
        return self._shard(source, names, description)

    def _write_hits(self, source: Path, folder: Path) -> None:
        hits = self.hits
        events = read_events(
            source, hits.tables, hits.num_bins, np.array(hits.init_values), np.dtype(hits.dtype)
        )
        table = np.zeros(len(events.ids), dtype=EVENT_TABLE)
        table["id"], table["time_offset"], table["exists"] = (
            events.ids,
            events.time_offset,
            events.exists & np.isfinite(events.time_offset),
        )
        table["start"], table["stop"] = events.offsets[:-1], events.offsets[1:]
        table["finite"] = True
        bad_hits = np.flatnonzero(~np.isfinite(events.features).all(axis=1))
        table["finite"][np.searchsorted(events.offsets, bad_hits, side="right") - 1] = False
        with temporary_beside(folder) as temporary:
            part = temporary / folder.name
            part.mkdir()
            events.dom.tofile(part / "dom.bin")
            events.features.tofile(part / "features.bin")
            np.save(part / "events.npy", table)
            description = {"source": str(source), "skipped": dict(events.skipped)}
            (part / "shard.json").write_text(json.dumps(description))
            try:
                part.rename(folder)
            except OSError:
                if not (folder / "shard.json").is_file():  # else another process was faster
                    raise

    def _shard(
        self, source: Path, names: ColumnNames | None, description: Mapping[str, Any]
    ) -> Shard:
        hits_folder = self._hits_folder(source)
        found = ColumnNames(**{k: tuple(v) for k, v in description["names"].items()})
        return Shard(
            source,
            hits_folder,
            self._records_file(source, names),
            description["num_events"],
            found,
            description["num_events_in_file"],
            description["dropped"],
            json.loads((hits_folder / "shard.json").read_text())["skipped"],
        )

    def _read_description(self, records_file: Path, source: Path) -> dict[str, Any] | None:
        """What stands beside the records, unless a config key that shaped them has changed."""
        try:
            description = json.loads(records_file.with_suffix(".json").read_text())
        except FileNotFoundError:
            return None
        for key, digest in description["config_read"].items():
            if _digest(self.config.get(key)) != digest:
                return None
        return dict(description)

    @cached_property
    def _plugin_sources(self) -> list[str]:
        """Hashes of the source of users' functions: another source, another result."""
        names = {
            "label": self.records.label_class,
            "misc": self.records.misc_class,
            "filter": self.records.filter_class,
        }
        return [
            source_hash(resolve(name, f"data_handler_{kind}_class")) for kind, name in names.items()
        ]

    def _hits_folder(self, source: Path) -> Path:
        return self.folder / f"hits-{_digest([_VERSION, asdict(self.hits)])}" / _shard_name(source)

    def _records_file(self, source: Path, names: ColumnNames | None) -> Path:
        columns = None if names is None else asdict(names)
        key = [_VERSION, asdict(self.hits), asdict(self.records), self._plugin_sources, columns]
        return self.folder / f"records-{_digest(key)}" / f"{_shard_name(source)}.bin"


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shard_name(source: Path) -> str:
    """Name of the shard of a file, another one as soon as the file is another."""
    status = source.stat()
    return f"{source.stem}-{_digest([str(source.resolve()), status.st_size, status.st_mtime_ns])}"


def _read_shard_events(folder: Path, hits: HitsSettings) -> ShardEvents:
    table = np.load(folder / "events.npy", allow_pickle=False)
    num_hits = int(table["stop"][-1]) if len(table) else 0
    dom = _map(folder / "dom.bin", np.dtype(np.uint16), (num_hits,))
    features = _map(folder / "features.bin", np.dtype(hits.dtype), (num_hits, hits.num_bins))
    return ShardEvents(table, dom, features, np.array(hits.init_values))


def _map(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    expected = int(np.prod(shape)) * dtype.itemsize
    if path.stat().st_size != expected:
        raise DataError(
            f"'{path}' of the event store is damaged: delete the folder '{path.parent}'"
        )
    if expected == 0:
        return np.empty(shape, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=shape)


def shard_size(shard: Shard) -> int:
    """Bytes that a shard takes on disk."""
    files = [*shard.hits_folder.iterdir(), shard.records_file]
    return sum(file.stat().st_size for file in files)


def free_space(folder: Path) -> int:
    """Free bytes on the disk of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
