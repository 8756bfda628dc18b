"""Which time bins of which DOMs are excluded, for formats with a histogram of charge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.exclusions import ExcludedDoms, ExcludedWindows
from dnn_reco.data.hdf5.writer import DomMap
from dnn_reco.data.pulses import Pulses
from dnn_reco.data.time_offsets import TimeReference, dom_time_offsets
from dnn_reco.detector.geometry import NUM_DOMS

WHOLE_DOM = -1
"""Bin number that stands for all bins of a DOM."""

FIRST_BIN = {"charge_bins": 0, "charge_bins_and_dom_time_offset": 1, "charge_bins_and_times": 2}
"""Number of the first time bin among the features, by data format; others have no time bins."""


def bin_exclusions(
    pulses: Pulses,
    doms: ExcludedDoms,
    windows: ExcludedWindows,
    time_bins: tuple[float, ...],
    reference: TimeReference,
    first_bin: int = 0,
) -> DomMap:
    """The excluded bins of each DOM of n events; DOMs without excluded bin are not listed.

    Parameters
    ----------
    pulses
        Pulses of n events, without those that are excluded.
    doms
        DOMs that are excluded as a whole; they list the one number -1.
    windows
        Time windows. With its start and stop relative to the time offset of the DOM, a window
        excludes each bin that it overlaps by more than an edge: start < upper edge and
        stop > lower edge. Windows of no length exclude nothing.
    time_bins
        Edges [B + 1] in ns.
    reference
        What times are relative to.
    first_bin
        Number of the first bin, see `FIRST_BIN`.

    Returns
    -------
    dom_map
        Items are int32, ascending in each DOM, each once.
    """
    edges = np.asarray(time_bins, dtype=np.float64)
    num_bins = len(edges) - 1
    in_ice = doms.dom >= 0
    whole = np.unique(doms.event[in_ice] * NUM_DOMS + doms.dom[in_ice])

    cell_of_window = windows.event * NUM_DOMS + windows.dom
    counts = (windows.dom >= 0) & (windows.start < windows.stop) & ~np.isin(cell_of_window, whole)
    event, dom = windows.event[counts], windows.dom[counts]
    offset = dom_time_offsets(pulses, reference, event, dom)
    overlaps = (windows.start[counts] - offset)[:, None] < edges[1:]
    overlaps &= (windows.stop[counts] - offset)[:, None] > edges[:-1]
    window, time_bin = np.nonzero(overlaps)
    excluded = np.unique(cell_of_window[counts][window] * num_bins + time_bin)

    cell = np.concatenate([whole, excluded // num_bins])
    item = np.concatenate([np.full(len(whole), WHOLE_DOM), excluded % num_bins + first_bin])
    order = np.argsort(cell, kind="stable")
    return exclusion_map(pulses.num_events, cell[order], item[order])


def no_exclusions(num_events: int) -> DomMap:
    """No excluded bin in any of n events."""
    none = np.zeros(0, dtype=np.int64)
    return exclusion_map(num_events, none, none)


def exclusion_map(num_events: int, cell: NDArray[np.int64], item: NDArray[np.int64]) -> DomMap:
    """The map of bin numbers [m] of DOMs of n events.

    Parameters
    ----------
    num_events
        Number of events n.
    cell
        Number of the event times the number of DOMs plus the DOM index [m], ascending.
    item
        Bin numbers [m].
    """
    event, dom = np.divmod(cell, NUM_DOMS)
    position = np.arange(len(cell)) - np.searchsorted(cell, cell)
    offsets = np.searchsorted(event, np.arange(num_events + 1))
    return DomMap(offsets, dom, position, item.astype(np.int32))
