"""Types of events: cascades, starting and through-going tracks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

ALL_EVENTS = "all events"
CASCADE, STARTING_TRACK, THROUGH_GOING_TRACK = "cascade", "starting track", "through-going track"
OTHER_ENTERING = "other entering event"

# The first is the label of tracks; before there was one, muons from the vertex.
_TRACK_LABELS = ("p_is_track", "p_starting_cc_mu")
_ENTERING_MUONS = ("p_entering_muon_single", "p_entering_muon_bundle")

Mask = NDArray[np.bool_]


def event_types(labels: Mapping[str, NDArray[np.floating]], num_events: int) -> dict[str, Mask]:
    """The events [n] of each type, as far as labels distinguish them; all events come first.

    Through-going tracks come in from outside (`p_entering`) and are muons: by
    `p_entering_muon_single` and `p_entering_muon_bundle` where there are both labels, else by
    `p_is_track`; without these labels all that come in count as muons. What else comes in, such as
    a tau that decays inside, is an other entering event. Starting tracks begin inside
    (`p_starting`) and have a track (`p_is_track`, or `p_starting_cc_mu` where there is no such
    label). All others are cascades, those beside the detector included. Types without events are
    left out; all events are not.

    Parameters
    ----------
    labels
        True labels [n], by name.
    num_events
        Number of events n.
    """
    types = {ALL_EVENTS: np.ones(num_events, dtype=bool)}
    track_label = next((name for name in _TRACK_LABELS if name in labels), None)
    if track_label is None or not {"p_entering", "p_starting"} <= labels.keys():
        return types
    entering, starting, is_track = (
        _is(labels[name]) for name in ("p_entering", "p_starting", track_label)
    )
    is_muon = _is_muon(labels, num_events)
    types[CASCADE] = ~entering & ~(starting & is_track)
    types[STARTING_TRACK] = ~entering & starting & is_track
    types[THROUGH_GOING_TRACK] = entering & is_muon
    types[OTHER_ENTERING] = entering & ~is_muon
    return {name: mask for name, mask in types.items() if name == ALL_EVENTS or mask.any()}


def reconstructed_types(labels: Mapping[str, NDArray[np.floating]]) -> dict[str, Mask]:
    """The events [n] that are reconstructed as each type; empty if classes do not distinguish them.

    As in :func:`event_types`, by probabilities above one half. Where `p_entering` is not predicted,
    tracks that do not begin inside come in from outside.

    Parameters
    ----------
    labels
        Predicted labels [n], by name.
    """
    if not {"p_is_track", "p_starting"} <= labels.keys():
        return {}
    is_track, starting = _is(labels["p_is_track"]), _is(labels["p_starting"])
    entering = (is_track & ~starting).astype(np.float64)
    types = event_types({"p_entering": entering, **labels}, len(is_track))
    return {name: mask for name, mask in types.items() if name != ALL_EVENTS}


def parts(types: Mapping[str, Mask]) -> dict[str, Mask]:
    """The types that the events are divided into; all events if there are none."""
    return {name: mask for name, mask in types.items() if name != ALL_EVENTS} or dict(types)


def plural(event_type: str) -> str:
    """Name of the events of a type."""
    return event_type if event_type == ALL_EVENTS else f"{event_type}s"


def _is_muon(labels: Mapping[str, NDArray[np.floating]], num_events: int) -> Mask:
    """Whether each event [n], if it comes in from outside, is a muon or a bundle of them."""
    if all(name in labels for name in _ENTERING_MUONS):
        return np.asarray(np.any([_is(labels[name]) for name in _ENTERING_MUONS], axis=0))
    if "p_is_track" in labels:
        return _is(labels["p_is_track"])
    return np.ones(num_events, dtype=bool)


def _is(label: NDArray[np.floating]) -> Mask:
    """Whether a label [n], which may be smoothed, is that of the class."""
    return np.asarray(label) > 0.5
