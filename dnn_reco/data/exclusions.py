"""Pulses that are left out: those of DOMs and time windows that an event excludes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.pulses import Pulses
from dnn_reco.data.segments import accumulate
from dnn_reco.detector.geometry import NUM_DOMS


@dataclass(frozen=True)
class ExcludedDoms:
    """DOMs whose pulses are left out.

    Attributes
    ----------
    event, dom
        Event and DOM index of each [d], in any order.
    """

    event: NDArray[np.int64]
    dom: NDArray[np.int64]


@dataclass(frozen=True)
class ExcludedWindows:
    """Time windows of DOMs whose pulses are left out.

    A DOM that is listed without any window has one of no length.

    Attributes
    ----------
    event, dom
        Event and DOM index of each [w], in any order.
    start, stop
        Times [w] in ns, as those of pulses: start <= t < stop is excluded.
    """

    event: NDArray[np.int64]
    dom: NDArray[np.int64]
    start: NDArray[np.float64]
    stop: NDArray[np.float64]


def exclude(pulses: Pulses, doms: ExcludedDoms, windows: ExcludedWindows, partial: bool) -> Pulses:
    """The pulses without those of excluded DOMs and time windows.

    Pulses of surface tanks, which have no DOM index, always stay.

    Parameters
    ----------
    pulses
        Pulses of n events.
    doms, windows
        What is excluded; windows may overlap.
    partial
        Whether only pulses inside of windows are left out; if not, all pulses of a DOM with an
        entry in `windows` are, even if the entry is a window of no length.
    """
    key = _key(pulses.event, pulses.dom)
    excluded_keys = [_key(doms.event, doms.dom)]
    if not partial:
        excluded_keys.append(_key(windows.event, windows.dom))
    is_excluded = np.isin(key, np.concatenate(excluded_keys))
    if partial:
        has_window = np.isin(key, _key(windows.event, windows.dom))
        inside = _is_inside(key[has_window], pulses.time[has_window], windows)
        is_excluded[has_window] |= inside
    return pulses.select(~is_excluded | (pulses.dom < 0))


def _key(event: NDArray[np.int64], dom: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each DOM of each event; surface tanks of an event share one."""
    return event * (NUM_DOMS + 1) + dom + 1


def _is_inside(
    key: NDArray[np.int64], time: NDArray[np.float64], windows: ExcludedWindows
) -> NDArray[np.bool_]:
    """Whether each pulse [p] lies in a window of its DOM.

    Windows and pulses of a DOM are sorted by time, a window before the pulses at its start: a pulse
    is inside if any window before it stops later.
    """
    num_windows = len(windows.dom)
    keys = np.concatenate([_key(windows.event, windows.dom), key])
    times = np.concatenate([windows.start, time])
    stops = np.concatenate([windows.stop, np.full(len(time), -np.inf)])
    is_pulse = np.arange(len(keys)) >= num_windows
    order = np.lexsort((is_pulse, times, keys))
    is_first = np.diff(keys[order], prepend=-1) != 0
    offsets = np.append(np.flatnonzero(is_first), len(keys))
    latest_stop = np.empty(len(keys))
    latest_stop[order] = accumulate(np.maximum, stops[order], offsets)
    return latest_stop[num_windows:] > time
