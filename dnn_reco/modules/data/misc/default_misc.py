"""Misc loaders: further values of each event, for filters and event weights.

A misc loader is a function ``loader(input_data, config, misc_names=None, *args, **kwargs)`` that
returns the values [n, M], one row for each row of the time-offset table, and their M names; None
and no names if there are none. With `misc_names` it returns only these, in this order.
"""

import re
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hdf5 import count_events, list_tables, read_joined
from dnn_reco.errors import ConfigError, DataError


def dummy_misc_loader(
    input_data: str | PathLike[str],
    config: Mapping[str, Any],
    misc_names: Sequence[str] | None = None,
    *args: object,
    **kwargs: object,
) -> tuple[None, list[str]]:
    """Load no misc data."""
    return None, []


def general_misc_loader(
    input_data: str | PathLike[str],
    config: Mapping[str, Any],
    misc_names: Sequence[str] | None = None,
    *args: object,
    **kwargs: object,
) -> tuple[NDArray[np.float64] | None, list[str]]:
    """Load columns of any per-event tables.

    In tables of trigger filter results a column is a pair (condition, prescale), of which the
    second is used. Names there end in the year (``CascadeFilter_13``); a part of the name is
    sufficient.

    Parameters
    ----------
    input_data
        The event file.
    config
        Uses `misc_load_dict` (table -> column, or list of columns), `misc_fill_values` (name of a
        misc value -> value in files without it) and `data_handler_time_offset_name`.
    misc_names
        Names of the values to return; default: all, sorted.

    Returns
    -------
    values
        [n, M] float64, NaN where the file has no row for the event; None if M is 0.
    misc_names
        The M names, ``<table>_<column>``.

    Raises
    ------
    ConfigError
        A name in `misc_names` that is not in `misc_load_dict`.
    DataError
        A table or column that is missing in the file and has no fill value.
    """
    source = _sources(config.get("misc_load_dict") or {})
    names = sorted(source) if misc_names is None else list(misc_names)
    if not names:
        return None, []
    unknown = [name for name in names if name not in source]
    if unknown:
        raise ConfigError(
            f"misc_load_dict does not contain {', '.join(map(repr, unknown))}; it contains: "
            f"{', '.join(sorted(source)) or 'nothing'}"
        )
    events = config["data_handler_time_offset_name"]
    fill_values: Mapping[str, float] = config.get("misc_fill_values") or {}
    tables = set(list_tables(input_data))
    values = np.full((count_events(input_data, events), len(names)), np.nan)
    for table in dict.fromkeys(source[name][0] for name in names):
        of_table = [i for i, name in enumerate(names) if source[name][0] == table]
        if table not in tables and all(names[i] in fill_values for i in of_table):
            values[:, of_table] = [fill_values[names[i]] for i in of_table]
            continue
        rows, row_of_event = read_joined(input_data, table, events, "misc_load_dict")
        has_row = row_of_event >= 0
        for i in of_table:
            place = f"table '{table}' of '{input_data}'"
            column = find_column(rows.dtype, source[names[i]][1], place, "misc_load_dict")
            if column is not None:
                values[has_row, i] = as_numbers(rows[column])[row_of_event[has_row]]
            elif names[i] in fill_values:
                values[:, i] = fill_values[names[i]]
            else:
                raise _missing_column(rows.dtype, *source[names[i]], input_data)
    return values, names


def _sources(load: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, str]]:
    """Misc name -> (table, column)."""
    return {
        f"{table}_{column}": (table, column)
        for table, columns in load.items()
        for column in ([columns] if isinstance(columns, str) else columns)
    }


def find_column(dtype: np.dtype[np.void], pattern: str, place: str, key: str) -> str | None:
    """The column that matches a name; None if there is none.

    For columns of pairs a part of the name is sufficient. The full name has precedence over the
    name without the year, and that over any other part.

    Parameters
    ----------
    dtype
        Type of the rows of a table.
    pattern
        Name, or part of the name.
    place, key
        The table and the config key of the name, for messages.

    Raises
    ------
    DataError
        If several columns match.
    """
    names = dtype.names or ()
    if pattern in names:
        return pattern
    pairs = [name for name in names if dtype[name].shape == (2,) and pattern in name]
    up_to_year = [name for name in pairs if re.fullmatch(re.escape(pattern) + r"_\d+", name)]
    found = up_to_year or pairs
    if len(found) > 1:
        raise DataError(
            f"'{pattern}' of {key} matches several columns of {place}: {', '.join(found)}. Give a "
            "longer part of the name"
        )
    return found[0] if found else None


def _missing_column(
    dtype: np.dtype[np.void], table: str, column: str, input_data: str | PathLike[str]
) -> DataError:
    return DataError(
        f"misc_load_dict contains the column '{column}', which table '{table}' of '{input_data}' "
        f"does not have. Its columns: {', '.join(dtype.names or ())}. For files without it, set a "
        f"value for '{table}_{column}' in misc_fill_values"
    )


def as_numbers(column: NDArray[Any]) -> NDArray[np.float64]:
    """A column [n] as float64; of pairs (condition, prescale) the second."""
    return (column[:, 1] if column.ndim == 2 else column).astype(np.float64)
