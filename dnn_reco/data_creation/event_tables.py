"""Tables of an event file with one row per event, filled from objects of frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import DataError
from dnn_reco.i3.objects import EventHeader, FilterResult, Particle

Row = dict[str, Any]
"""Values of an object by column."""


def row_of(value: Any) -> Row | None:
    """An object as a row of a table; None: objects of its kind have no such rows."""
    for kind, convert in _CONVERTERS:
        if isinstance(value, kind):
            return convert(value)
    return None


def _of_particle(particle: Particle) -> Row:
    return {
        **{name: getattr(particle, name) for name in ("x", "y", "z", "time")},
        **{name: getattr(particle, name) for name in ("zenith", "azimuth", "energy")},
        **{name: getattr(particle, name) for name in ("speed", "length")},
        "pdg_encoding": np.int32(particle.pdg),
        "type": np.int32(particle.pdg),
        **{n: np.int32(getattr(particle, n)) for n in ("shape", "location", "fit_status")},
    }


def _of_header(header: EventHeader) -> Row:
    return {
        "time_start_utc_daq": np.int64(header.start.daq_time),
        "time_start_mjd": header.start.mjd,
        "time_end_utc_daq": np.int64(header.end.daq_time),
        "time_end_mjd": header.end.mjd,
    }


def _of_map(values: Mapping[Any, Any]) -> Row | None:
    """Columns in the order of their names; pairs for results of filters."""
    if not all(isinstance(key, str) for key in values):
        return None
    row: Row = {}
    for key in sorted(values):
        value = values[key]
        if isinstance(value, FilterResult):
            row[key] = np.array(value, dtype=np.uint8)
        elif isinstance(value, (bool, int, float)):
            row[key] = _number(value)
        else:
            return None
    return row


def _number(value: bool | float) -> Any:
    if isinstance(value, bool):
        return np.uint8(value)
    return np.int32(value) if isinstance(value, int) else value


def _of_scalar(value: bool | float) -> Row:
    return {"value": _number(value)}


_CONVERTERS: Sequence[tuple[Any, Callable[[Any], Row | None]]] = (
    (Particle, _of_particle),
    (EventHeader, _of_header),
    (Mapping, _of_map),
    ((bool, int, float), _of_scalar),
)


class EventTables:
    """Tables that grow by one row per event."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, Row]] = {}
        self.num_events = 0

    def add_event(self, rows: Mapping[str, Row]) -> None:
        """Add an event, with its rows by table; tables without one get an empty row."""
        for name, row in rows.items():
            self._rows.setdefault(name, {})[self.num_events] = row
        self.num_events += 1

    def tables(self) -> dict[str, dict[str, NDArray[Any]]]:
        """Columns of all tables, by name: each [num_events].

        Columns are those of any event, in order of appearance, and real if a number of any event
        is; numbers that an event lacks are NaN where they are real and 0 where they are whole.

        Raises
        ------
        DataError
            If a column holds a number for some events, and a pair for others.
        """
        return {name: self._columns(name, rows) for name, rows in self._rows.items()}

    def exists(self) -> dict[str, NDArray[np.bool_]]:
        """Which events [num_events] have an object, by table."""
        found = {}
        for name, rows in self._rows.items():
            found[name] = np.zeros(self.num_events, dtype=np.bool_)
            found[name][list(rows)] = True
        return found

    def _columns(self, name: str, rows: Mapping[int, Row]) -> dict[str, NDArray[Any]]:
        keys = dict.fromkeys(key for row in rows.values() for key in row)
        columns = {}
        for key in keys:
            numbers = [number for number, row in rows.items() if key in row]
            try:
                values = np.array([rows[number][key] for number in numbers])
            except ValueError as error:
                raise DataError(
                    f"'{key}' of the frame objects '{name}' is a number in some frames and a pair "
                    f"in others: remove '{name}' from the keys"
                ) from error
            missing = np.nan if values.dtype.kind == "f" else 0
            column = np.full((self.num_events, *values.shape[1:]), missing, dtype=values.dtype)
            column[numbers] = values
            columns[key] = column
        return columns
