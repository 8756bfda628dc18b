"""From the bytes of a frame's object to its value and back: one entry for each class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dnn_reco.errors import DataError
from dnn_reco.i3 import om_key_maps as maps
from dnn_reco.i3 import plain_objects as plain
from dnn_reco.i3 import trees
from dnn_reco.i3.archive import (
    F8,
    I4,
    InputArchive,
    IrregularIdsError,
    OutputArchive,
    read_head,
    write_head,
)
from dnn_reco.i3.calibration import read_calibration
from dnn_reco.i3.layout import Record
from dnn_reco.i3.objects import (
    MC_PHOTOELECTRON,
    MC_PULSE,
    MMC_TRACK,
    OM_KEY,
    PARTICLE,
    PULSE,
    TANK_KEY,
    TIME_WINDOW,
    CorrectedPulses,
    Direction,
    EventHeader,
    FilterResult,
    MCTree,
    OMKeyMap,
    Particle,
    Position,
    PulseMask,
    PulsesByModule,
    PulseUnion,
    Quaternion,
    RawObject,
    Time,
    TimeWindow,
)
from dnn_reco.i3.records import (
    MC_PHOTOELECTRON_RECORD,
    MC_PULSE_RECORD,
    MMC_TRACK_RECORD,
    OM_KEY_RECORD,
    PARTICLE_RECORD,
    PULSE_RECORD,
    TANK_KEY_RECORD,
    mmc_rows,
    mmc_tracks,
)
from dnn_reco.i3.super_dst import read_super_dst


@dataclass(frozen=True)
class Codec:
    """How objects of a class are read and written.

    Attributes
    ----------
    type_name
        Name of the C++ type, as it is written.
    read
        From an archive whose head has been read, and the version, to the value.
    write
        Appends the content of a value to an archive; None: such objects are not made here.
    version
        Version that is written, and the latest that is read.
    reads_all
        Whether the whole object is read.
    """

    type_name: str
    read: Callable[[InputArchive, int], Any]
    write: Callable[[OutputArchive, Any], None] | None = None
    version: int = 0
    reads_all: bool = True


def _simple(
    type_name: str,
    read: Callable[[InputArchive], Any],
    write: Callable[[OutputArchive, Any], None] | None,
) -> Codec:
    """A class with one version."""
    return Codec(type_name, lambda archive, _: read(archive), write)


def _record_map(type_name: str, record: Record) -> Codec:
    return _simple(
        f"I3Map<OMKey, vector<{type_name}> >",
        lambda archive: maps.read_record_map(archive, record),
        lambda archive, value: maps.write_record_map(archive, value, record),
    )


def _number_map(type_name: str, kind: str, is_list: bool) -> Codec:
    return _simple(
        f"I3Map<OMKey, {type_name}>",
        lambda archive: maps.read_number_map(archive, kind, is_list),
        lambda archive, value: maps.write_number_map(archive, value, kind, is_list),
    )


def _named_numbers(type_name: str, kind: Any) -> Codec:
    return _simple(
        f"I3Map<string, {type_name}>",
        lambda archive: plain.read_number_map(archive, kind),
        lambda archive, value: plain.write_number_map(archive, value, kind),
    )


def _records(type_name: str, record: Record) -> Codec:
    """A vector of objects."""
    return _simple(
        f"I3Vector<{type_name}>",
        lambda archive: archive.vector(record),
        lambda archive, rows: archive.vector(record, rows),
    )


def _numbers(type_name: str, kind: str) -> Codec:
    return _simple(
        f"I3Vector<{type_name}>",
        lambda archive: archive.numbers(kind),
        lambda archive, values: archive.numbers(kind, values),
    )


def _scalar(type_name: str, kind: Any) -> Codec:
    return _simple(
        f"I3PODHolder<{type_name}>",
        lambda archive: archive.number(kind),
        lambda archive, value: archive.number(kind, value),
    )


def _read_particle(archive: InputArchive, version: int) -> Particle:
    return Particle.of(archive.body(PARTICLE_RECORD, version)[0])


def _write_corrected(archive: OutputArchive, value: CorrectedPulses) -> None:
    archive.string(value.source)
    archive.string(value.calibration)


CODECS: Mapping[str, Codec] = {
    # pulses
    "I3RecoPulseSeriesMap": _record_map("I3RecoPulse", PULSE_RECORD),
    "I3RecoPulseSeriesMapMask": Codec(
        "I3RecoPulseSeriesMapMask", maps.read_mask, maps.write_mask, 2
    ),
    "I3RecoPulseSeriesMapUnion": _simple(
        "I3RecoPulseSeriesMapUnion",
        lambda archive: PulseUnion(plain.read_strings(archive)),
        lambda archive, value: plain.write_strings(archive, value.sources),
    ),
    "I3RecoPulseSeriesMapCombineByModule": _simple(
        "I3RecoPulseSeriesMapCombineByModule",
        lambda archive: PulsesByModule(archive.string()),
        lambda archive, value: archive.string(value.source),
    ),
    "I3RecoPulseSeriesMapApplySPECorrection": _simple(
        "I3RecoPulseSeriesMapApplySPECorrection",
        lambda archive: CorrectedPulses(archive.string(), archive.string()),
        _write_corrected,
    ),
    "I3SuperDST": Codec("I3SuperDST", read_super_dst, version=1),
    # maps of photomultipliers
    "I3TimeWindowSeriesMap": _simple(
        "I3Map<OMKey, I3TimeWindowSeries>", maps.read_window_map, maps.write_window_map
    ),
    "I3TimeWindowSeries": Codec(
        "I3TimeWindowSeries", maps.read_windows, maps.write_windows, version=1
    ),
    "I3MapKeyVectorDouble": _number_map("vector<double> ", "f8", True),
    "I3MapKeyVectorInt": _number_map("vector<int> ", "i4", True),
    "I3MapKeyDouble": _number_map("double", "f8", False),
    "I3MapKeyUInt": _number_map("unsigned int", "u4", False),
    "I3MCPESeriesMap": _record_map("I3MCPE", MC_PHOTOELECTRON_RECORD),
    "I3MCPulseSeriesMap": _record_map("I3MCPulse", MC_PULSE_RECORD),
    # scalars
    "I3Double": _scalar("double", F8),
    "I3Int": _scalar("int", I4),
    "I3Bool": _simple("I3PODHolder<bool>", plain.read_flag, plain.write_flag),
    "I3String": _simple(
        "I3PODHolder<string>", InputArchive.string, lambda archive, text: archive.string(text)
    ),
    # maps by name
    "I3MapStringDouble": _named_numbers("double", F8),
    "I3MapStringInt": _named_numbers("int", I4),
    "I3MapStringBool": _simple("I3Map<string, bool>", plain.read_flag_map, plain.write_flag_map),
    "I3MapStringVectorDouble": _simple(
        "I3Map<string, vector<double> >", plain.read_vector_map, plain.write_vector_map
    ),
    "I3MapUnsignedUnsigned": _simple(
        "I3Map<unsigned int, unsigned int>", plain.read_unsigned_map, plain.write_unsigned_map
    ),
    "I3FilterResultMap": _simple(
        "I3Map<string, I3FilterResult>", plain.read_filter_results, plain.write_filter_results
    ),
    "I3FilterResult": Codec("I3FilterResult", plain.read_filter_result, plain.write_filter_result),
    # vectors
    "I3VectorDouble": _numbers("double", "f8"),
    "I3VectorInt": _numbers("int", "i4"),
    "I3VectorString": _simple("I3Vector<string>", plain.read_strings, plain.write_strings),
    "I3VectorOMKey": _records("OMKey", OM_KEY_RECORD),
    "I3VectorTankKey": _records("TankKey", TANK_KEY_RECORD),
    # event
    "I3EventHeader": Codec("I3EventHeader", plain.read_header, plain.write_header, version=3),
    "I3Time": Codec("I3Time", plain.read_time, plain.write_time),
    "I3TimeWindow": Codec("I3TimeWindow", plain.read_window, plain.write_window, version=1),
    "I3Position": Codec("I3Position", plain.read_position, plain.write_position),
    "I3Direction": Codec("I3Direction", plain.read_direction, plain.write_direction),
    "I3Quaternion": Codec("I3Quaternion", plain.read_quaternion, plain.write_quaternion),
    "I3Orientation": Codec("I3Orientation", plain.read_orientation, plain.write_orientation),
    "I3TriggerHierarchy": Codec("I3Tree<I3Trigger>", trees.read_triggers),
    # particles
    "I3Particle": Codec(
        "I3Particle",
        _read_particle,
        lambda archive, value: archive.body(PARTICLE_RECORD, value.to_numpy()),
        version=5,
    ),
    "I3ParticleVect": _records("I3Particle", PARTICLE_RECORD),
    "I3MCTree": Codec(
        "TreeBase::Tree<I3Particle, I3ParticleID, i3hash<I3ParticleID> >",
        trees.read_mc_tree,
        trees.write_mc_tree,
        version=1,
    ),
    "I3LinearizedMCTree": Codec("I3LinearizedMCTree", trees.read_linearized_tree, version=1),
    "I3MMCTrackList": _simple(
        "I3Vector<I3MMCTrack>",
        lambda archive: mmc_tracks(archive.vector(MMC_TRACK_RECORD)),
        lambda archive, tracks: archive.vector(MMC_TRACK_RECORD, mmc_rows(tracks)),
    ),
    # detector
    "I3Geometry": Codec("I3Geometry", plain.read_geometry, version=3, reads_all=False),
    "I3OMGeoMap": _simple("I3Map<OMKey, I3OMGeo>", plain.read_geometry_map, None),
    "I3Calibration": Codec("I3Calibration", read_calibration, version=4, reads_all=False),
}
"""All classes that can be read, by the name that stands in the file."""


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------
def class_name(content: bytes) -> str:
    """Class of an object.

    Raises
    ------
    DataError
        If this is not an object of a frame.
    """
    return read_head(InputArchive(content))[0]


def decode(content: bytes, type_name: str = "") -> Any:
    """The value of an object; a `RawObject` if its class is not known.

    Parameters
    ----------
    content
        The bytes of the object.
    type_name
        Name of its C++ type, which a `RawObject` keeps.

    Raises
    ------
    DataError
        If it is damaged, or its class has another version.
    """
    try:
        try:
            return _decode(content, type_name, one_by_one=False)
        except IrregularIdsError:
            return _decode(content, type_name, one_by_one=True)
    except RecursionError:
        raise DataError("its objects are nested too deeply") from None


def _decode(content: bytes, type_name: str, one_by_one: bool) -> Any:
    archive = InputArchive(content, one_by_one)
    name, version = read_head(archive)
    codec = CODECS.get(name)
    if codec is None:
        return RawObject(name, type_name, content)
    if version > codec.version:
        raise DataError(f"class {name} in version {version} cannot be read, only {codec.version}")
    value = codec.read(archive, version)
    if codec.reads_all and archive.remaining:
        raise DataError(f"{archive.remaining} bytes remain at the end of class {name}")
    return value


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------
_OF_TYPE: Mapping[type, str] = {
    bool: "I3Bool",
    int: "I3Int",
    float: "I3Double",
    str: "I3String",
    Particle: "I3Particle",
    MCTree: "I3MCTree",
    EventHeader: "I3EventHeader",
    Time: "I3Time",
    Position: "I3Position",
    Direction: "I3Direction",
    Quaternion: "I3Quaternion",
    PulseMask: "I3RecoPulseSeriesMapMask",
    PulseUnion: "I3RecoPulseSeriesMapUnion",
    PulsesByModule: "I3RecoPulseSeriesMapCombineByModule",
    CorrectedPulses: "I3RecoPulseSeriesMapApplySPECorrection",
    FilterResult: "I3FilterResult",
    TimeWindow: "I3TimeWindow",
}
_OF_ITEMS: Mapping[np.dtype[Any], str] = {
    PULSE: "I3RecoPulseSeriesMap",
    TIME_WINDOW: "I3TimeWindowSeriesMap",
    MC_PHOTOELECTRON: "I3MCPESeriesMap",
    MC_PULSE: "I3MCPulseSeriesMap",
    np.dtype("f8"): "I3MapKeyVectorDouble",
    np.dtype("i4"): "I3MapKeyVectorInt",
}
_OF_ARRAY: Mapping[np.dtype[Any], str] = {
    np.dtype("f8"): "I3VectorDouble",
    np.dtype("i4"): "I3VectorInt",
    TIME_WINDOW: "I3TimeWindowSeries",
    OM_KEY: "I3VectorOMKey",
    TANK_KEY: "I3VectorTankKey",
    PARTICLE: "I3ParticleVect",
    MMC_TRACK: "I3MMCTrackList",
}
_OF_MAP_VALUE: Mapping[type, str] = {
    float: "I3MapStringDouble",
    int: "I3MapStringInt",
    bool: "I3MapStringBool",
    FilterResult: "I3FilterResultMap",
    np.ndarray: "I3MapStringVectorDouble",
}


def class_of(value: Any) -> str:
    """The class that a value is written as, if none is named.

    Raises
    ------
    DataError
        If there is none.
    """
    found: str | None
    if isinstance(value, RawObject):
        return value.class_name
    if isinstance(value, OMKeyMap):
        found = _OF_ITEMS.get(value.items.dtype)
    elif isinstance(value, np.ndarray):
        found = _OF_ARRAY.get(value.dtype)
    elif isinstance(value, Mapping):
        kinds = {type(item) for item in value.values()} or {float}
        kinds = {float} if kinds == {int, float} else kinds
        found = _OF_MAP_VALUE.get(kinds.pop()) if len(kinds) == 1 else None
        if value and all(isinstance(key, int) for key in value):
            found = "I3MapUnsignedUnsigned" if found == "I3MapStringInt" else None
    elif type(value) is tuple:
        found = "I3VectorString" if all(isinstance(item, str) for item in value) else None
    else:
        found = _OF_TYPE.get(type(value))
    if found is None:
        kind = type(value).__name__
        raise DataError(f"a value of type {kind} cannot be written to a frame: {value!r:.80}")
    return found


def type_name_of(value: Any, of_class: str) -> str:
    """The name of the C++ type of a value that is written as a class.

    Raises
    ------
    DataError
        If objects of the class cannot be written.
    """
    if isinstance(value, RawObject):
        return value.type_name
    return _writing(of_class).type_name


def _writing(of_class: str) -> Codec:
    codec = CODECS.get(of_class)
    if codec is None or codec.write is None:
        raise DataError(f"objects of class {of_class} cannot be written")
    return codec


def encode(value: Any, of_class: str | None = None) -> tuple[str, bytes]:
    """The name of the C++ type and the bytes of an object.

    Parameters
    ----------
    value
        The value.
    of_class
        Class to write it as; None: that of its type (`class_of`).

    Raises
    ------
    DataError
        If the value cannot be written, or not as this class.
    """
    if isinstance(value, RawObject):
        return value.type_name, value.content
    value = python_numbers(value)
    name = of_class or class_of(value)
    codec = _writing(name)
    archive = OutputArchive()
    write_head(archive, name, codec.version)
    assert codec.write is not None
    try:
        codec.write(archive, value)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        kind = type(value).__name__
        raise DataError(
            f"a value of type {kind} cannot be written as {name} ({error}): {value!r:.80}"
        ) from error
    return codec.type_name, bytes(archive.content)


def python_numbers(value: Any) -> Any:
    """The value with Python's numbers and texts in place of NumPy's."""
    if isinstance(value, Mapping):
        return {key: python_numbers(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value
