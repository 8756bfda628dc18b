"""Label loaders: from an event file to the quantities that the network learns.

A label loader is a function ``loader(input_data, config, label_names=None, *args, **kwargs)`` that
returns the labels [n, L], one row for each row of the time-offset table, and their L names. With
`label_names` it returns only these, in this order.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from dnn_reco.config import needed_setting
from dnn_reco.data.hdf5 import read_columns
from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.errors import DataError

DIRECTION_NAMES = ("direction_x", "direction_y", "direction_z")
POSITION_NAMES = ("rel_pos_x", "rel_pos_y", "rel_pos_z")
_VERTEX_NAMES = ("VertexX", "VertexY", "VertexZ")
_LOADER = "the label loader"
_ID_NAMES = ("Run", "Event", "SubEvent", "SubEventStream", "exists")

# Numbers or booleans, masked where they are missing.
Values = np.ma.MaskedArray[Any, np.dtype[Any]]


def simple_label_loader(
    input_data: str | PathLike[str],
    config: Mapping[str, Any],
    label_names: Sequence[str] | None = None,
    *args: object,
    **kwargs: object,
) -> tuple[Values, list[str]]:
    """Load the columns of one table as labels.

    Parameters
    ----------
    input_data
        The event file.
    config
        Uses `data_handler_label_key` (the table), `data_handler_time_offset_name`,
        `label_keys_to_load` (columns to load; default all, in file order), and

        - `label_add_dir_vec`: adds ``direction_{x,y,z}``, the unit vector of the direction of
          motion, from `label_zenith_key` and `label_azimuth_key` (which point to the source);
        - `label_position_at_rel_time` [ns]: adds ``rel_pos_{x,y,z}`` [m], the position, at this
          time after the event's time offset, of a particle that passes the vertex at ``VertexTime``
          with the speed of light in the direction `label_dir_{x,y,z}_key`.
    label_names
        Names of the labels to return; default: the columns, then the added ones.

    Returns
    -------
    labels
        [n, L] float64; masked where the file holds no labels for the event.
    label_names
        The L names.

    Raises
    ------
    ConfigError
        A key is missing in the configuration.
    DataError
        A table or column is missing in the file.
    """
    table: str = needed_setting(config, "data_handler_label_key", _LOADER)
    events: str = needed_setting(config, "data_handler_time_offset_name", _LOADER)
    place = f"table '{table}' of '{input_data}'"
    data, names = read_columns(input_data, table, None, events, "data_handler_label_key")
    labels: dict[str, Values] = {name: data[:, i] for i, name in enumerate(names)}

    added: tuple[str, ...] = ()
    if config.get("label_add_dir_vec"):
        labels.update(zip(DIRECTION_NAMES, _direction(labels, config, place), strict=True))
        added += DIRECTION_NAMES
    if config.get("label_position_at_rel_time") is not None:
        offset, _ = read_columns(input_data, events, ["value"], events)
        position = _position_at_time(labels, config, offset[:, 0], place)
        labels.update(zip(POSITION_NAMES, position, strict=True))
        added += POSITION_NAMES

    if label_names is None:
        ignored = {*_ID_NAMES, *added}
        chosen = config.get("label_keys_to_load") or names
        label_names = [name for name in chosen if name not in ignored] + list(added)
    if not label_names:
        return np.ma.masked_array(data[:, :0]), []
    return stack_labels(labels, label_names, place)


def stack_labels(
    labels: Mapping[str, Values], names: Sequence[str], place: str
) -> tuple[Values, list[str]]:
    """Stack labels to the result of a loader.

    Parameters
    ----------
    labels
        The labels [n], masked for events without one.
    names
        Names of the labels to load, in order.
    place
        Where they come from, for messages.

    Returns
    -------
    labels
        [n, L].
    names
        The L names.

    Raises
    ------
    DataError
        If there is no label of a name.
    """
    columns = [get_label(labels, name, place) for name in names]
    return np.ma.array(np.ma.stack(columns, axis=1), dtype=np.float64), list(names)


def get_label(labels: Mapping[str, Values], name: str, place: str) -> Values:
    """One label [n]; DataError if it does not exist."""
    if name not in labels:
        raise DataError(f"there is no label '{name}' in {place}; available: {', '.join(labels)}")
    return labels[name]


def _direction(
    labels: Mapping[str, Values], config: Mapping[str, Any], place: str
) -> tuple[Values, Values, Values]:
    """Unit vector along the motion, which is away from the source."""
    zenith, azimuth = (
        get_label(labels, needed_setting(config, key, _LOADER), place)
        for key in ("label_zenith_key", "label_azimuth_key")
    )
    sine = np.ma.sin(zenith)
    return -sine * np.ma.cos(azimuth), -sine * np.ma.sin(azimuth), -np.ma.cos(zenith)


def _position_at_time(
    labels: Mapping[str, Values], config: Mapping[str, Any], time_offset: Values, place: str
) -> list[Values]:
    """Position x, y, z [n] in m on the track of an event at a time after the time offset."""
    direction = [
        get_label(labels, needed_setting(config, f"label_dir_{axis}_key", _LOADER), place)
        for axis in "xyz"
    ]
    *vertex, vertex_time = (
        get_label(labels, name, place) for name in (*_VERTEX_NAMES, "VertexTime")
    )
    time = time_offset + config["label_position_at_rel_time"]
    length = SPEED_OF_LIGHT * (time - vertex_time)
    return [start + length * along for start, along in zip(vertex, direction, strict=True)]
