"""Events with named columns: hits, labels and misc data of some events in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.hits import Hits, join_hits
from dnn_reco.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

Selection = int | slice | NDArray[np.bool_] | NDArray[np.integer]

_NAMES_SHOWN = 4
"""Names of columns when a table is printed: files of simulation have a hundred."""


@dataclass(frozen=True, repr=False)
class NamedColumns(Mapping[str, NDArray[np.floating]]):
    """Named columns of n events: `columns["EnergyVisible"]` is an array [n].

    Attributes
    ----------
    names
        Names of the C columns.
    array
        All values [n, C].
    """

    names: tuple[str, ...]
    array: NDArray[np.floating]

    def __getitem__(self, name: str) -> NDArray[np.floating]:
        if name not in self.names:
            raise DataError(
                f"there is no column '{name}'. Available: {', '.join(self.names) or 'none'}"
            )
        return self.array[:, self.names.index(name)]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"<{len(self.array)} events: {', '.join(self.names) or 'no columns'}>"

    def to_pandas(self) -> pd.DataFrame:
        """A pandas DataFrame with one row per event."""
        return data_frame(self)


@dataclass(frozen=True, repr=False)
class EventTable:
    """n events in memory.

    `events[3]`, `events[:10]` and `events[mask]` are tables of some of them.

    Attributes
    ----------
    hits
        Their hits.
    labels, misc
        Labels and misc data.
    time_offset
        Time that the input times of an event are relative to [n], ns.
    ids
        Event ids [n]: Run, Event, SubEvent, SubEventStream.
    data_settings
        How the features were made, as their files record it: each that differs; empty: unknown.
    """

    hits: Hits
    labels: NamedColumns
    misc: NamedColumns
    time_offset: NDArray[np.float64]
    ids: NDArray[np.void]
    data_settings: tuple[DataSettings, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, events: Selection) -> EventTable:
        numbers = np.atleast_1d(np.arange(len(self))[events])
        return EventTable(
            self.hits.select(numbers),
            NamedColumns(self.labels.names, self.labels.array[numbers]),
            NamedColumns(self.misc.names, self.misc.array[numbers]),
            self.time_offset[numbers],
            self.ids[numbers],
            self.data_settings,
        )

    def __repr__(self) -> str:
        labels, misc = (_some_names(list(columns)) for columns in (self.labels, self.misc))
        return f"<{len(self)} events, {len(self.hits.dom)} hits; labels: {labels}; misc: {misc}>"

    def to_pandas(self) -> pd.DataFrame:
        """Ids, time offset, labels and misc data as a pandas DataFrame, one row per event."""
        ids = {name: self.ids[name] for name in self.ids.dtype.names or ()}
        return data_frame({**ids, "time_offset": self.time_offset, **self.labels, **self.misc})


def _some_names(names: list[str]) -> str:
    """The names, of many the first ones and the number of all."""
    if len(names) <= _NAMES_SHOWN:
        return ", ".join(names) or "none"
    return f"{', '.join(names[:_NAMES_SHOWN])}, … ({len(names)} in all)"


def join_tables(tables: Sequence[EventTable]) -> EventTable:
    """The events of several tables of the same columns, one after the other."""
    first = tables[0]
    return EventTable(
        join_hits([table.hits for table in tables]),
        NamedColumns(first.labels.names, np.concatenate([table.labels.array for table in tables])),
        NamedColumns(first.misc.names, np.concatenate([table.misc.array for table in tables])),
        np.concatenate([table.time_offset for table in tables]),
        np.concatenate([table.ids for table in tables]),
        tuple(dict.fromkeys(each for table in tables for each in table.data_settings)),
    )


def data_frame(columns: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """A pandas DataFrame of named columns.

    Raises
    ------
    ConfigError
        If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ConfigError(
            "to_pandas needs the package pandas: pip install 'dnn_reco[pandas]'"
        ) from error
    return pandas.DataFrame({name: np.asarray(values) for name, values in columns.items()})
