"""Scalars, maps by name, vectors, headers and geometry: reading and writing of their content."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import DataError
from dnn_reco.i3.archive import F8, I4, U1, U4, InputArchive, OutputArchive, to_bytes
from dnn_reco.i3.objects import (
    OM_KEY,
    Direction,
    DomGeometry,
    EventHeader,
    FilterResult,
    Position,
    Quaternion,
    Time,
    TimeWindow,
)
from dnn_reco.i3.records import (
    DIRECTION_RECORD,
    FILTER_RESULT_RECORD,
    OM_KEY_RECORD,
    ORIENTATION_RECORD,
    POSITION_RECORD,
    QUATERNION_RECORD,
    TIME_RECORD,
    TIME_WINDOW_RECORD,
)

_MAP, _PAIR = "map", "pair"
_OK = 20  # state of an event, also of those from before there were states


# --------------------------------------------------------------------------------------------------
# Maps by name or number
# --------------------------------------------------------------------------------------------------
def read_map(
    archive: InputArchive, read_key: Callable[[], Any], read_value: Callable[[], Any]
) -> dict[Any, Any]:
    """A map; the keys must differ."""
    number = archive.container(_MAP, 5)
    values = {}
    for _ in range(number):
        archive.class_version(_PAIR)
        key = read_key()
        values[key] = read_value()
    if len(values) != number:
        raise DataError("a map has a key twice")
    return values


def write_map(
    archive: OutputArchive,
    values: Mapping[Any, Any],
    write_key: Callable[[Any], None],
    write_value: Callable[[Any], None],
) -> None:
    """Append a map, in the order of its keys."""
    archive.container(_MAP, len(values))
    for key in sorted(values, key=_byte_order):
        archive.class_version(_PAIR)
        write_key(key)
        write_value(values[key])


def _byte_order(key: str | int) -> Any:
    return to_bytes(key) if isinstance(key, str) else key


def read_number_map(archive: InputArchive, kind: struct.Struct) -> dict[str, Any]:
    """A map from names to numbers."""
    return read_map(archive, archive.string, lambda: archive.number(kind))


def write_number_map(
    archive: OutputArchive, values: Mapping[str, float], kind: struct.Struct
) -> None:
    """Append a map from names to numbers."""
    write_map(archive, values, archive.string, lambda value: archive.number(kind, value))


def read_flag_map(archive: InputArchive) -> dict[str, bool]:
    """A map from names to truth values."""
    return read_map(archive, archive.string, archive.flag)


def write_flag_map(archive: OutputArchive, values: Mapping[str, bool]) -> None:
    """Append a map from names to truth values."""
    write_map(archive, values, archive.string, lambda value: write_flag(archive, value))


def read_vector_map(archive: InputArchive) -> dict[str, NDArray[np.float64]]:
    """A map from names to vectors."""
    return read_map(archive, archive.string, lambda: archive.numbers("f8"))


def write_vector_map(archive: OutputArchive, values: Mapping[str, Any]) -> None:
    """Append a map from names to vectors."""
    write_map(archive, values, archive.string, lambda value: archive.numbers("f8", value))


def read_unsigned_map(archive: InputArchive) -> dict[int, int]:
    """A map from numbers to numbers."""
    return read_map(archive, lambda: archive.number(U4), lambda: archive.number(U4))


def write_unsigned_map(archive: OutputArchive, values: Mapping[int, int]) -> None:
    """Append a map from numbers to numbers."""
    write_map(
        archive, values, lambda key: archive.number(U4, key), lambda item: archive.number(U4, item)
    )


def read_filter_results(archive: InputArchive) -> dict[str, FilterResult]:
    """Results of filters by name."""

    def content(version: int) -> FilterResult:
        FILTER_RESULT_RECORD.in_version(version)
        archive.base()
        return read_filter_result(archive, version)

    return read_map(
        archive, archive.string, lambda: archive.tracked(FILTER_RESULT_RECORD.name, content)
    )


def write_filter_results(archive: OutputArchive, values: Mapping[str, FilterResult]) -> None:
    """Append results of filters by name."""
    write_map(
        archive,
        values,
        archive.string,
        lambda result: archive.records(FILTER_RESULT_RECORD, _result_row(result)),
    )


def _result_row(result: FilterResult) -> NDArray[np.void]:
    return np.array([tuple(result)], FILTER_RESULT_RECORD.dtype)


def read_filter_result(archive: InputArchive, version: int) -> FilterResult:
    """The result of one filter, whose base has been read."""
    del version  # there is one
    return FilterResult(archive.flag(), archive.flag())


def write_filter_result(archive: OutputArchive, result: FilterResult) -> None:
    """Append the result of one filter."""
    archive.body(FILTER_RESULT_RECORD, _result_row(result))


# --------------------------------------------------------------------------------------------------
# Vectors
# --------------------------------------------------------------------------------------------------
_STRINGS = "vector<string>"


def read_strings(archive: InputArchive) -> tuple[str, ...]:
    """A vector of texts."""
    return tuple(archive.string() for _ in range(archive.container(_STRINGS, 4)))


def write_strings(archive: OutputArchive, values: Sequence[str]) -> None:
    """Append a vector of texts."""
    archive.container(_STRINGS, len(values))
    for value in values:
        archive.string(value)


# --------------------------------------------------------------------------------------------------
# Header, time, position and direction
# --------------------------------------------------------------------------------------------------
def read_header(archive: InputArchive, version: int) -> EventHeader:
    """A header.

    Raises
    ------
    DataError
        If its version is not known.
    """
    if version > 3:
        raise DataError(f"a header in version {version} cannot be read")
    run = archive.number(U4)
    sub_run = archive.number(U4) if version >= 1 else 0
    event = archive.number(U4)
    state = archive.number(I4) if version >= 2 else _OK
    sub_event = archive.number(U4) if version >= 3 else 0
    stream = archive.string() if version >= 3 else ""
    start, end = (_time(archive.records(TIME_RECORD, 1)) for _ in range(2))
    return EventHeader(run, event, start, end, sub_run, sub_event, stream, state)


def write_header(archive: OutputArchive, header: EventHeader) -> None:
    """Append a header."""
    archive.number(U4, header.run)
    archive.number(U4, header.sub_run)
    archive.number(U4, header.event)
    archive.number(I4, header.state)
    archive.number(U4, header.sub_event)
    archive.string(header.stream)
    for time in (header.start, header.end):
        archive.records(TIME_RECORD, np.array([(time.year, time.daq_time)], TIME_RECORD.dtype))


def _time(rows: NDArray[np.void]) -> Time:
    return Time(*rows[0].tolist())


def read_time(archive: InputArchive, version: int) -> Time:
    """A time."""
    return _time(archive.body(TIME_RECORD, version))


def write_time(archive: OutputArchive, time: Time) -> None:
    """Append a time."""
    archive.body(TIME_RECORD, np.array([(time.year, time.daq_time)], TIME_RECORD.dtype))


def read_window(archive: InputArchive, version: int) -> TimeWindow:
    """A time window."""
    if version == 0:
        raise DataError("class I3TimeWindow in version 0 cannot be read")
    return TimeWindow(*archive.body(TIME_WINDOW_RECORD, version)[0].tolist())


def write_window(archive: OutputArchive, value: TimeWindow) -> None:
    """Append a time window."""
    archive.body(TIME_WINDOW_RECORD, np.array([tuple(value)], TIME_WINDOW_RECORD.dtype))


def read_position(archive: InputArchive, version: int) -> Position:
    """A position."""
    return Position(*archive.body(POSITION_RECORD, version)[0].tolist())


def write_position(archive: OutputArchive, value: Position) -> None:
    """Append a position."""
    archive.body(POSITION_RECORD, np.array([(value.x, value.y, value.z)], POSITION_RECORD.dtype))


def read_direction(archive: InputArchive, version: int) -> Direction:
    """A direction."""
    return Direction(*archive.body(DIRECTION_RECORD, version)[0].tolist())


def write_direction(archive: OutputArchive, value: Direction) -> None:
    """Append a direction."""
    archive.body(
        DIRECTION_RECORD, np.array([(value.zenith, value.azimuth)], DIRECTION_RECORD.dtype)
    )


def read_quaternion(archive: InputArchive, version: int) -> Quaternion:
    """A rotation."""
    return Quaternion(*archive.body(QUATERNION_RECORD, version)[0].tolist())


def write_quaternion(archive: OutputArchive, value: Quaternion) -> None:
    """Append a rotation."""
    archive.body(QUATERNION_RECORD, _rotation(value))


def read_orientation(archive: InputArchive, version: int) -> Quaternion:
    """An orientation, as the rotation to it."""
    return Quaternion(*archive.body(ORIENTATION_RECORD, version)[0].tolist())


def write_orientation(archive: OutputArchive, value: Quaternion) -> None:
    """Append an orientation."""
    archive.body(ORIENTATION_RECORD, _rotation(value))


def _rotation(value: Quaternion) -> NDArray[np.void]:
    return np.array([(value.x, value.y, value.z, value.w)], QUATERNION_RECORD.dtype)


# --------------------------------------------------------------------------------------------------
# Geometry
# --------------------------------------------------------------------------------------------------
def read_geometry(archive: InputArchive, version: int) -> DomGeometry:
    """Photomultipliers of an I3Geometry; what follows them is not read.

    Experimental: no file with a geometry was at hand.
    """
    if version > 3:
        raise DataError(f"a geometry in version {version} cannot be read")
    if version == 0:
        return _modules(archive)
    modules: DomGeometry = archive.tracked("I3OMGeoMap", lambda _: read_geometry_map(archive, True))
    return modules


def read_geometry_map(archive: InputArchive, with_base: bool = False) -> DomGeometry:
    """Photomultipliers of an I3OMGeoMap, whose base is yet to be read if `with_base`."""
    if with_base:
        archive.base()
    return _modules(archive)


def _modules(archive: InputArchive) -> DomGeometry:
    number = archive.container("map<OMKey, I3OMGeo>", 8)
    keys = np.zeros(number, OM_KEY)
    modules = []
    for i in range(number):
        archive.class_version("pair<OMKey, I3OMGeo>")
        keys[i] = archive.records(OM_KEY_RECORD, 1)[0]
        modules.append(archive.tracked("I3OMGeo", lambda version: _module(archive, version)))
    return DomGeometry(
        keys,
        np.array([position for position, _, _ in modules]).reshape(-1, 3),
        np.array([om_type for _, om_type, _ in modules], dtype=np.int32),
        np.array([area for _, _, area in modules]),
    )


def _module(archive: InputArchive, version: int) -> tuple[tuple[float, ...], int, float]:
    """Position, type and area of a photomultiplier."""
    if version > 2:
        raise DataError(f"class I3OMGeo in version {version} cannot be read")
    position = archive.records(POSITION_RECORD, 1)[0].tolist()
    if version == 0:
        archive.number(I4)  # whether it looks up or down
    else:
        archive.records(ORIENTATION_RECORD, 1)
    om_type: int = archive.number(I4)
    area: float = archive.number(F8)
    if version == 0:
        archive.number(F8)  # azimuth
    if version >= 2:
        archive.number(I4)  # type of the photomultiplier
    return position, om_type, area


def read_flag(archive: InputArchive) -> bool:
    """A truth value."""
    return archive.flag()


def write_flag(archive: OutputArchive, value: bool) -> None:
    """Append a truth value."""
    if value not in (False, True):
        raise DataError(f"{value!r} is not true or false")
    archive.number(U1, value)
