"""Filters, which select the events to use.

A filter is a function ``filter(data_handler, input_data, config, x_ic78, x_deepcore, labels,
misc_data, time_range_start, *args, **kwargs)`` that returns a mask [n], True for events to keep.
It is called with positional arguments:

data_handler
    Provides `misc_name_dict` (misc name -> column), `label_names`, `get_misc_index(name)` and
    `get_label_index(name)`.
input_data
    The event file.
config
    The configuration: a copy of its own, to which it may assign.
x_ic78, x_deepcore
    Inputs [n, 10, 10, 60, F] and [n, 8, 60, F], computed on first access.
labels, misc_data
    [n, L] and [n, M] (None if there are no misc values).
time_range_start
    Time offset of each event [n], ns.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dnn_reco.errors import ConfigError

_PDG_NAME = "MCPrimary_pdg_encoding"
_COMPARISONS = {
    "filter_equal": np.equal,
    "filter_greater_than": np.greater,
    "filter_less_than": np.less,
}


class DataHandler(Protocol):
    """The part of a data handler that the filters here use."""

    @property
    def misc_name_dict(self) -> Mapping[str, int]:
        """Column of each misc value."""


def dummy_filter(
    data_handler: DataHandler,
    input_data: str | PathLike[str],
    config: Mapping[str, Any],
    x_ic78: object,
    x_deepcore: object,
    labels: ArrayLike,
    misc_data: NDArray[np.floating] | None,
    time_range_start: NDArray[np.floating],
    *args: object,
    **kwargs: object,
) -> NDArray[np.bool_]:
    """Keep all events."""
    return np.ones(len(time_range_start), dtype=bool)


def general_filter(
    data_handler: DataHandler,
    input_data: str | PathLike[str],
    config: Mapping[str, Any],
    x_ic78: object,
    x_deepcore: object,
    labels: ArrayLike,
    misc_data: NDArray[np.floating] | None,
    time_range_start: NDArray[np.floating],
    *args: object,
    **kwargs: object,
) -> NDArray[np.bool_]:
    """Keep events whose misc values pass all comparisons.

    Uses `filter_equal`, `filter_greater_than` and `filter_less_than` (misc name -> value). With
    `filter_apply_on_pdg_encodings` (list of PDG codes) only events whose primary has one of these
    codes are filtered, all others are kept; it needs the misc value ``MCPrimary_pdg_encoding``.
    A missing misc value (NaN) passes no comparison.

    Raises
    ------
    ConfigError
        A misc value that is not loaded.
    """

    def misc(name: str, key: str) -> NDArray[np.floating]:
        columns = data_handler.misc_name_dict
        if misc_data is None or name not in columns:
            raise ConfigError(
                f"'{key}' needs the misc value '{name}', which is not loaded. Available: "
                f"{', '.join(columns) or 'none'}. Add it to misc_load_dict"
            )
        return misc_data[:, columns[name]]

    keep = np.ones(len(time_range_start), dtype=bool)
    for key, passes in _COMPARISONS.items():
        for name, value in (config.get(key) or {}).items():
            keep &= passes(misc(name, key), value)
    codes = config.get("filter_apply_on_pdg_encodings")
    if codes:
        keep |= ~np.isin(misc(_PDG_NAME, "filter_apply_on_pdg_encodings"), codes)
    return keep
