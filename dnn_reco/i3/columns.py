"""The fields of decoded objects, flat and by name: numbers, texts and arrays."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.errors import DataError
from dnn_reco.i3.objects import (
    DomCalibration,
    DomGeometry,
    MCTree,
    OMKeyMap,
    Particle,
    RawObject,
    Time,
    Trigger,
)


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a decoded object by name; a value without fields has the name "".

    Each is a number, a text, an array [n], or a tuple of texts or numbers. Names of fields in
    fields are joined by dots, such as `start.mjd`. Lists of things with fields have an array for
    each field.

    Parameters
    ----------
    value
        What a key of a frame gives, see :mod:`dnn_reco.i3.objects`.

    Raises
    ------
    DataError
        If the class of the object is not decoded.
    """
    if isinstance(value, RawObject):
        raise DataError(f"objects of class {value.class_name} are not decoded")
    if isinstance(value, OMKeyMap | MCTree):
        return _columns(value.to_numpy())
    if isinstance(value, np.ndarray):
        return _columns(value)
    if isinstance(value, DomGeometry):
        positions = dict(zip("xyz", value.position.T, strict=True))
        return _columns(value.keys) | positions | {"om_type": value.om_type, "area": value.area}
    if isinstance(value, DomCalibration):
        charges = {"atwd_charge": value.atwd_charge, "fadc_charge": value.fadc_charge}
        return _columns(value.keys) | charges
    if isinstance(value, list):
        return _of_triggers(value)
    if isinstance(value, Mapping):
        return _of_mapping(value)
    if isinstance(value, Particle):
        return {name: column[0] for name, column in _columns(value.to_numpy()).items()}
    if isinstance(value, Time):
        return {"year": value.year, "daq_time": value.daq_time, "mjd": value.mjd}
    if is_dataclass(value):
        return _joined({each.name: getattr(value, each.name) for each in fields(value)})
    if hasattr(value, "_asdict"):
        return _joined(value._asdict())
    return {"": value}


def _joined(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Fields of several values, each after the name of its value."""
    return {
        f"{name}.{inner}" if inner else str(name): field
        for name, value in values.items()
        for inner, field in fields_of(value).items()
    }


def _columns(rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Columns of rows; those of rows in rows have both names."""
    if rows.dtype.names is None:
        return {"": rows}
    return _joined({name: rows[name] for name in rows.dtype.names})


def _of_mapping(values: Mapping[Any, Any]) -> dict[str, Any]:
    if values and all(isinstance(key, int) for key in values):
        return {"key": np.array(list(values)), "value": np.array(list(values.values()))}
    return _joined(values)


def _of_triggers(triggers: list[Trigger]) -> dict[str, Any]:
    """Fields of triggers; the number of a configuration that is not set is None."""
    plain = ("time", "length", "fired", "parent")
    of_key = ("source", "type", "subtype", "config_id")
    return {name: tuple(getattr(each, name) for each in triggers) for name in plain} | {
        name: tuple(getattr(each.key, name) for each in triggers) for name in of_key
    }


def is_single(field: Any) -> bool:
    """Whether a field is one number or text, not a list of them."""
    return not isinstance(field, np.ndarray | tuple)


def split_name(name: str, keys: Container[str]) -> tuple[str, str] | None:
    """Key and field of a name such as `MCPrimary.energy` or `MCPrimary`; None: no such key.

    Both may have dots; a longer key is preferred. The field of a whole object is "".
    """
    parts = name.split(".")
    for number in range(len(parts), 0, -1):
        key = ".".join(parts[:number])
        if key in keys:
            return key, ".".join(parts[number:])
    return None
