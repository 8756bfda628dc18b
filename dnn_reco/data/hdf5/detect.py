"""Finding out which input tables a file holds, and how many features they list."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np

from dnn_reco.data.file_events import InputTables
from dnn_reco.data.hdf5.tables import describe, find_table, list_tables, open_file, require_columns
from dnn_reco.errors import DataError

VALUES_ENDING = "_bin_values"
_ENDINGS = (VALUES_ENDING, "_bin_indices", "_global_time_offset")


def input_tables(prefix: str) -> InputTables:
    """The three input tables with a common beginning of their names."""
    return InputTables(*(f"{prefix}{ending}" for ending in _ENDINGS))


def input_prefixes(tables: Sequence[str]) -> list[str]:
    """Common beginnings of the names of all sets of input tables among the tables of a file."""
    starts = [name.removesuffix(_ENDINGS[0]) for name in tables if name.endswith(_ENDINGS[0])]
    return [start for start in starts if all(f"{start}{end}" in tables for end in _ENDINGS)]


def detect_input_tables(path: str | PathLike[str]) -> InputTables:
    """The input tables of a file that holds only one set of them.

    Raises
    ------
    DataError
        If the file holds none, or several; the message lists them.
    """
    tables = list_tables(path)
    found = input_prefixes(tables)
    if len(found) == 1:
        return input_tables(found[0])
    if not found:
        raise DataError(
            f"'{path}' holds no input tables: names that end in {', '.join(_ENDINGS)}. Tables in "
            f"the file: {', '.join(tables) or 'none'}"
        )
    raise DataError(
        f"'{path}' holds several sets of input tables: choose one, inputs='{found[0]}' or "
        + " or ".join(f"'{start}'" for start in found[1:])
        + " (on the command line --tables)"
    )


def detect_num_bins(path: str | PathLike[str], tables: InputTables) -> int:
    """Number of features F of a DOM, for tables in which each DOM lists all of them.

    Raises
    ------
    DataError
        If some DOMs list fewer, so that F is not known.
    """
    with open_file(path) as file:
        indices = find_table(file, tables.indices)
        require_columns(indices, ("item",))
        bins = indices.fields("item")[()]
        place = describe(indices)
    num_bins = int(bins.max(initial=-1)) + 1
    if num_bins < 1 or len(bins) % num_bins:
        is_full = False
    else:
        is_full = bool((bins.reshape(-1, num_bins) == np.arange(num_bins)).all())
    if not is_full:
        raise DataError(
            f"{place} does not list all features of each DOM; the highest is {num_bins - 1}: give "
            "the number of features of the data format as num_bins (on the command line --num-bins)"
        )
    return num_bins
