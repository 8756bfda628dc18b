"""One event of a frame with hits and true particle, for displays."""

from __future__ import annotations

import logging

import numpy as np

from dnn_reco.data.event_table import EventTable, NamedColumns
from dnn_reco.data.features import dom_features
from dnn_reco.data.file_events import EVENT_ID
from dnn_reco.data_creation.frame_inputs import pulses_of
from dnn_reco.errors import DataError
from dnn_reco.i3.events import header_of, pulse_keys
from dnn_reco.i3.frame import Frame
from dnn_reco.i3.objects import PULSE, MCTree, OMKeyMap, Particle
from dnn_reco.suggestions import did_you_mean

_log = logging.getLogger(__name__)

USUAL_PULSES = (
    "SplitInIceDSTPulses",
    "InIceDSTPulses",
    "SplitInIcePulses",
    "InIcePulses",
    "SRTInIcePulses",
    "OfflinePulses",
    "I3SuperDST",
)
"""Keys of the pulses of an event, the first choice first."""

_PRIMARIES = ("MCPrimary", "MCPrimary1", "MCInIcePrimary", "PolyplopiaPrimary")
_MC_TREE = "I3MCTree"
_SHOWN = 8
_TRUTH = ("x", "y", "z", "zenith", "azimuth", "time", "energy", "length")


def event_of(frame: Frame, pulses: str | None = None) -> EventTable:
    """The event of a frame, alone in its table.

    Its hits have the features `pulse_summmary_clipped`, its labels are those of the true primary
    particle, if the frame has one; of several in a tree it is the one with the highest energy.

    Parameters
    ----------
    frame
        A P frame.
    pulses
        Key of the pulses; None: the first of `USUAL_PULSES` that it has.

    Raises
    ------
    DataError
        If it has no such pulses, or an object that is needed cannot be decoded.
    """
    key = _pulse_key(frame) if pulses is None else pulses
    series_map = frame.get(key)
    if not isinstance(series_map, OMKeyMap) or series_map.items.dtype != PULSE:
        problem = "has no object" if series_map is None else "has no pulses in"
        known = pulse_keys(frame)
        hint = f"{did_you_mean(key, known)}{_some(known)}"
        raise DataError(f"{frame.source} {problem} '{key}'.{hint}")
    found, left_out = pulses_of(series_map)
    _log.info("Drawn: %s pulses of '%s'", f"{len(found.dom):,}", key)
    for reason, number in left_out.items():
        _log.warning("Not drawn: %s %s", f"{number:,}", reason)
    features = dom_features(found)
    truth = _true_particle(frame)
    values = [] if truth is None else [getattr(truth, name) for name in _TRUTH]
    header = header_of(frame)
    ids = np.zeros(1, EVENT_ID)
    if header is not None:
        ids["Run"], ids["Event"], ids["SubEvent"] = header.run, header.event, header.sub_event
    return EventTable(
        features.hits,
        NamedColumns(_TRUTH if truth else (), np.array([values])),
        NamedColumns((), np.zeros((1, 0))),
        features.time_offset,
        ids,
    )


def _pulse_key(frame: Frame) -> str:
    for key in USUAL_PULSES:
        if key in frame:
            return key
    raise DataError(
        f"{frame.source} has none of the usual pulses ({', '.join(USUAL_PULSES)}): name others "
        f"with --pulses.{_some(pulse_keys(frame))}"
    )


def _some(known: list[str]) -> str:
    shown = ", ".join(known[:_SHOWN]) + (", …" if len(known) > _SHOWN else "")
    return f" It has these pulses: {shown or 'none'}"


def _true_particle(frame: Frame) -> Particle | None:
    """The true primary particle of an event; None: the frame has none."""
    for key in _PRIMARIES:
        found = frame.get(key)
        if isinstance(found, Particle):
            return found
    tree = frame.get(_MC_TREE)
    if not isinstance(tree, MCTree) or not len(tree):
        return None
    rows = tree.particles[tree.primaries]
    return Particle.of(rows[np.argmax(np.nan_to_num(rows["energy"], nan=-1.0))])
