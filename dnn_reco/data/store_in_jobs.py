"""Building the event store in other processes, which get its settings as plain values."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dnn_reco.config import PluginConfig, allow_plugins_beside, plugin_folders, resolve
from dnn_reco.config.plugins import is_of_package
from dnn_reco.data.build import first_usable
from dnn_reco.data.conversion import Conversion
from dnn_reco.data.file_events import HitsSettings
from dnn_reco.data.records import ColumnNames, RecordSettings
from dnn_reco.data.store import EventStore
from dnn_reco.errors import ConfigError


@dataclass(frozen=True)
class ConversionSettings:
    """A conversion as plain values; `make` is the dotted name of a function of this package.

    The others are those of :class:`dnn_reco.data.conversion.Conversion`.
    """

    endings: tuple[str, ...]
    make: str
    settings: str
    others: tuple[Path, ...]
    problem: str

    @classmethod
    def of(cls, conversion: Conversion) -> ConversionSettings:
        """The settings of a conversion."""
        return cls(
            conversion.endings,
            _name_of(conversion.make),
            conversion.settings,
            conversion.others,
            conversion.problem,
        )

    def open(self) -> Conversion:
        """The conversion."""
        return Conversion(
            self.endings, _function(self.make), self.settings, self.others, self.problem
        )


@dataclass(frozen=True)
class StoreSettings:
    """An event store as plain values, which can be written as JSON.

    Attributes
    ----------
    folder, hits, records
        See :class:`dnn_reco.data.store.EventStore`.
    config
        The config as users' functions see it: YAML text, which keeps all types of its values.
    reader
        Dotted name of the reader of event files, a function of this package.
    plugin_folders
        Where modules of users may lie.
    conversion
        How event files are made of source files of another format; None: there are none.
    """

    folder: Path
    hits: HitsSettings
    records: RecordSettings
    config: str
    reader: str
    plugin_folders: tuple[Path, ...]
    conversion: ConversionSettings | None = None

    @classmethod
    def of(cls, store: EventStore) -> StoreSettings:
        """The settings of a store.

        Raises
        ------
        ConfigError
            If its reader is not a plain function of this package.
        """
        text = io.StringIO()
        YAML(typ="safe", pure=True).dump(store.config.plain_values(), text)
        return cls(
            store.folder.absolute(),
            store.hits,
            store.records,
            text.getvalue(),
            _name_of(store.read),
            plugin_folders(),
            None if store.conversion is None else ConversionSettings.of(store.conversion),
        )

    def open(self) -> EventStore:
        """The store."""
        allow_plugins_beside(folder / "config.yaml" for folder in self.plugin_folders)
        values = YAML(typ="safe", pure=True).load(self.config)
        return EventStore(
            self.folder,
            self.hits,
            self.records,
            PluginConfig(values),
            _function(self.reader),
            None if self.conversion is None else self.conversion.open(),
        )


def _name_of(function: Callable[..., Any]) -> str:
    """Dotted name of a function of this package."""
    name = getattr(function, "__qualname__", "")
    if not name.isidentifier() or not is_of_package(function):
        raise ConfigError(f"the event store is read by {function!r}, which jobs cannot call")
    return f"{function.__module__}.{name}"


def _function(name: str) -> Callable[..., Any]:
    """The function of this package that has a dotted name."""
    function: Callable[..., Any] = resolve(name, "reader")
    if not is_of_package(function):
        raise ConfigError(f"'{name}' is not a function of this package: only these run in jobs")
    return function


@dataclass(frozen=True)
class MissingShards:
    """What is missing in an event store.

    Attributes
    ----------
    settings
        The store.
    names
        Columns of labels and misc data.
    sources
        Files without shard.
    """

    settings: StoreSettings
    names: ColumnNames
    sources: tuple[Path, ...]


def missing_shards(store: EventStore, sources: list[Path]) -> MissingShards:
    """What is missing; the first usable file is built here, as it defines the columns.

    Raises
    ------
    DataError
        If none of the first files can be used.
    """
    first = first_usable(store, sources)
    missing = tuple(
        source
        for source in sources
        if source != first.source and store.find(source, first.names) is None
    )
    return MissingShards(StoreSettings.of(store), first.names, missing)


def build_shard(settings: StoreSettings, names: ColumnNames, source: Path) -> int:
    """Build the shard of one file; returns its number of events.

    Raises
    ------
    DataError
        If the file cannot be used, or the store cannot be written.
    """
    return _open(settings).build(source, names).num_events


_open = lru_cache(maxsize=1)(StoreSettings.open)
