"""Events of one file, from whatever source: HDF5 tables, frames, simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hits import Hits

EVENT_ID = np.dtype([("Run", "u4"), ("Event", "u4"), ("SubEvent", "u4"), ("SubEventStream", "i4")])
"""Type of an event id: all four numbers together identify an event."""


@dataclass(frozen=True)
class InputTables:
    """Names of the three tables (frame objects) that hold the inputs of the network.

    Attributes
    ----------
    values, indices
        Per-DOM maps: in row k, `item(values)` is the value of bin `item(indices)` of a DOM.
    time_offset
        One row per event; defines the events of the file and their order.
    """

    values: str = "dnn_data_bin_values"
    indices: str = "dnn_data_bin_indices"
    time_offset: str = "dnn_data_global_time_offset"


@dataclass(frozen=True)
class HitsSettings:
    """What the hits read from a file depend on.

    Attributes
    ----------
    tables
        Names of the input tables.
    num_bins
        Number of input features F of a DOM.
    init_values
        Value of each bin that a DOM does not list: F values.
    dtype
        Type of the features, "float32" or "float64".
    verify_all
        Whether all rows of the tables of values and indices are compared, not only samples.
    """

    tables: InputTables
    num_bins: int
    init_values: tuple[float, ...]
    dtype: str
    verify_all: bool = False


@dataclass(frozen=True)
class FileEvents:
    """All n events of one file, in file order.

    Attributes
    ----------
    ids
        Event ids [n], of type EVENT_ID.
    time_offset
        Time that the input times of an event are relative to [n], float64, ns.
    exists
        [n] False where the file holds no time offset for the event, so that it cannot be used.
    hits
        Their hits.
    skipped
        Rows of the file that are in no hit: kind of rows -> how many.
    stale_index
        Whether the file has an index of its rows that contradicts their event ids.
    """

    ids: NDArray[np.void]
    time_offset: NDArray[np.float64]
    exists: NDArray[np.bool_]
    hits: Hits
    skipped: Mapping[str, int]
    stale_index: bool = False

    def select(self, events: NDArray[np.integer]) -> FileEvents:
        """Some of the events, by their numbers; rows that are in no hit are not counted."""
        return FileEvents(
            self.ids[events],
            self.time_offset[events],
            self.exists[events],
            self.hits.select(events),
            {},
        )
