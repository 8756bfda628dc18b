"""The times that input features are relative to: one for each event, and one for each DOM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.hit_pulses import (
    HitPulses,
    Numbers,
    event_offsets,
    hit_pulses,
    mean_and_std,
    times_at_fractions,
)
from dnn_reco.data.pulses import Pulses
from dnn_reco.data.sampling import mix, stream_key
from dnn_reco.data.time_window import WindowSearch, window_starts
from dnn_reco.detector.constants import SPEED_OF_FIRST_LIGHT
from dnn_reco.detector.geometry import NUM_DOMS, dom_positions
from dnn_reco.errors import ConfigError

_RANDOM = "cascade_vertex_random_uniform_minus_plus_"
_VERTEX_METHODS = ("cascade_vertex", "first_light_at_dom")
_LOCAL_METHODS = ("none", "wf_quantile")
_LOCAL_TIME_RANGE = "local_dom_time_range"
_QUANTILE = 0.1 - 1e-6  # of wf_quantile
_UNIT = 2.0**-53  # the numbers that float64 has below 1 at equal distances


@dataclass(frozen=True)
class TimeReference:
    """A relative time method and what it needs beside the pulses of n events.

    Attributes
    ----------
    method
        Its name, as `method_name` gives it.
    vertex
        x, y, z [m] and time [ns] of each event [n, 4], for methods relative to a vertex.
    random
        Numbers in 0 … 1 of each event [n], for methods with a random offset; see `event_randoms`.
    """

    method: str
    vertex: NDArray[np.floating] | None = None
    random: NDArray[np.floating] | None = None


def method_name(relative_time_method: str | None) -> str:
    """The one name of a relative time method: lower case, `none` for no method."""
    name = (relative_time_method or "none").lower()
    return "none" if name == "null" else name


def uses_vertex(relative_time_method: str | None) -> bool:
    """Whether a method is relative to a vertex."""
    return method_name(relative_time_method).startswith(_VERTEX_METHODS)


def event_randoms(seed: int, ids: NDArray[np.void]) -> Numbers:
    """A random number in [0, 1) for each event [n].

    It depends on the seed, and on the run, event and sub-event numbers of the event alone, so that
    an event has the same one whichever file, block or process it is read in.

    Parameters
    ----------
    seed
        Seed.
    ids
        Event ids [n], of type EVENT_ID.
    """
    numbers = np.full(len(ids), stream_key(seed, "time offset"), dtype=np.uint64)
    for name in ("Run", "Event", "SubEvent"):
        numbers = mix(numbers ^ ids[name])
    return np.asarray((numbers >> np.uint64(10)) * _UNIT, dtype=np.float64)


def relative_hits(pulses: Pulses, reference: TimeReference) -> tuple[HitPulses, Numbers]:
    """The hits of n events with relative times, and the time offset [n] of each event.

    Raises
    ------
    ConfigError
        If there is no such method, or what it needs is missing.
    """
    time_offset = _event_time_offset(pulses, reference)
    hits = hit_pulses(pulses)
    of_event = time_offset[hits.event]
    hits = replace(hits, time=hits.time - np.repeat(of_event, hits.num_pulses))
    of_dom = _dom_time_offset(hits, reference)
    if of_dom is None:
        return replace(hits, time_offset=of_event), time_offset
    time = hits.time - np.repeat(of_dom, hits.num_pulses)
    return replace(hits, time=time, time_offset=of_event + of_dom), time_offset


def hits_relative_to(pulses: Pulses, time_offset: Numbers) -> HitPulses:
    """The hits of n events with times relative to given offsets [n]."""
    hits = hit_pulses(pulses)
    of_event = time_offset[hits.event]
    time = hits.time - np.repeat(of_event, hits.num_pulses)
    return replace(hits, time=time, time_offset=of_event)


def dom_time_offsets(
    pulses: Pulses,
    reference: TimeReference,
    event: NDArray[np.int64],
    dom: NDArray[np.int64],
) -> Numbers:
    """Time [k] that times of each of k DOMs are relative to, whether or not it has pulses.

    In methods that compute the offset of a DOM from its pulses, a DOM without pulses has none.

    Parameters
    ----------
    pulses
        Pulses of n events.
    reference
        The method.
    event, dom
        Event and DOM index of each DOM [k].
    """
    hits, time_offset = relative_hits(pulses, reference)
    if reference.method == "first_light_at_dom":
        return time_offset[event] + _light_travel_time(event, dom, reference)
    offsets = np.append(hits.time_offset, 0.0)
    keys = np.append(hits.event * NUM_DOMS + hits.dom, -1)
    wanted = event * NUM_DOMS + dom
    place = np.searchsorted(keys[:-1], wanted)
    return np.where(keys[place] == wanted, offsets[place], time_offset[event])


# --------------------------------------------------------------------------------------------------
# Time of each event
# --------------------------------------------------------------------------------------------------
def mean_time(pulses: Pulses) -> Numbers:
    """Charge-weighted mean time [n] of all pulses of each event, 0 without pulses."""
    offsets = event_offsets(pulses)
    filled = np.diff(offsets) > 0
    mean, _ = mean_and_std(offsets[np.append(filled, True)], pulses.time, pulses.charge)
    means = np.zeros(pulses.num_events)
    means[filled] = mean
    return means


def _event_time_offset(pulses: Pulses, reference: TimeReference) -> Numbers:
    """Time offset [n] that all DOMs of an event have in common."""
    method = reference.method
    if method == "time_range":
        offsets = event_offsets(pulses)
        order = _time_order(pulses.time, offsets)
        return window_starts(offsets, pulses.time[order], pulses.charge[order])
    if method in _VERTEX_METHODS:
        return _vertex(reference, pulses.num_events)[:, 3]
    if method.startswith(_RANDOM):
        return _random_offset(reference, pulses.num_events)
    if method in _LOCAL_METHODS or method.startswith(_LOCAL_TIME_RANGE):
        return np.zeros(pulses.num_events)
    raise ConfigError(
        f"unknown relative time method '{method}': choose from time_range, "
        f"{', '.join((*_VERTEX_METHODS, *_LOCAL_METHODS))}, {_LOCAL_TIME_RANGE}, {_RANDOM}A_B"
    )


def _time_order(time: Numbers, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order [p] of pulses by time inside each event."""
    order = np.empty(len(time), dtype=np.int64)
    # Events one by one: twice as fast as one sort of all pulses by event and time.
    for start, stop in pairwise(offsets):
        order[start:stop] = start + np.argsort(time[start:stop], kind="stable")
    return order


def _random_offset(reference: TimeReference, num_events: int) -> Numbers:
    """A time [n] from A before the vertex to B after it, A and B in the name of the method."""
    time = _vertex(reference, num_events)[:, 3]
    if reference.random is None or reference.random.shape != (num_events,):
        raise ConfigError(
            f"relative time method '{reference.method}' needs a random number for each of the "
            f"{num_events} events, made from their run, event and sub-event numbers"
        )
    try:
        before, after = (float(part) for part in reference.method.removeprefix(_RANDOM).split("_"))
    except ValueError as error:
        raise ConfigError(
            f"relative time method '{reference.method}': two numbers must follow '{_RANDOM}', "
            "separated by an underscore: ns before the vertex and ns after it"
        ) from error
    if not (np.isfinite([before, after]).all() and before + after >= 0):
        raise ConfigError(
            f"relative time method '{reference.method}': the range must be finite, and must not "
            "end before it starts"
        )
    return time - before + np.asarray(reference.random, dtype=np.float64) * (before + after)


def _vertex(reference: TimeReference, num_events: int) -> Numbers:
    """The vertices [n, 4], which must have been given."""
    vertex = reference.vertex
    if vertex is None or vertex.shape != (num_events, 4):
        found = "none are given" if vertex is None else f"they have shape {vertex.shape}"
        raise ConfigError(
            f"relative time method '{reference.method}' needs the vertices of all {num_events} "
            f"events, shape ({num_events}, 4), but {found}"
        )
    return np.asarray(vertex, dtype=np.float64)


# --------------------------------------------------------------------------------------------------
# Time of each DOM
# --------------------------------------------------------------------------------------------------
def _dom_time_offset(hits: HitPulses, reference: TimeReference) -> Numbers | None:
    """Own time offset [k] of each hit, whose times are relative to the event's; None: all 0."""
    method = reference.method
    if method == "first_light_at_dom":
        return _light_travel_time(hits.event, hits.dom, reference)
    if method == "wf_quantile":
        return times_at_fractions(hits, [_QUANTILE], without=np.nan)[:, 0]
    if method.startswith(_LOCAL_TIME_RANGE):
        return window_starts(hits.offsets, hits.time, hits.charge, _local_search(method))
    return None


def _light_travel_time(
    event: NDArray[np.int64], dom: NDArray[np.int64], reference: TimeReference
) -> Numbers:
    """Time [k] in ns that unscattered light takes from the vertex of the event to each DOM."""
    assert reference.vertex is not None  # checked with the event's own offset
    position = np.asarray(reference.vertex, dtype=np.float64)[event, :3]
    distance = np.linalg.norm(dom_positions()[dom] - position, axis=1)
    return np.asarray(distance / SPEED_OF_FIRST_LIGHT, dtype=np.float64)


def _local_search(method: str) -> WindowSearch:
    """The window search that is spelled out in the name of the method."""
    values = [1500.0, 1.0, 0.02, -1.0]
    given = [part for part in method.removeprefix(_LOCAL_TIME_RANGE).split("_") if part]
    try:
        values[: len(given)] = [float(part) for part in given]
        width, step, charge_threshold, noise_threshold = values
    except ValueError as error:
        raise ConfigError(
            f"relative time method '{method}': up to four numbers may follow "
            f"'{_LOCAL_TIME_RANGE}', separated by underscores: width, step, charge threshold, "
            "noise threshold"
        ) from error
    return WindowSearch(width, step, charge_threshold, noise_threshold)
