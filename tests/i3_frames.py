"""Frames of made-up events, as a simulation of IceCube has them."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dnn_reco.i3.frame import Frame
from dnn_reco.i3.objects import (
    OM_KEY,
    PARTICLE,
    PULSE,
    EventHeader,
    FilterResult,
    MCTree,
    OMKeyMap,
    Particle,
    PulseMask,
    RawObject,
    Time,
)

RUN = 7
START = Time(2020, 36 * 10**12)  # an hour after the year's start

PRIMARY = Particle(1, 2, 3, 0.5, 1.5, 9000, 1000, pdg=14, shape=10, major_id=2**63 + 5, minor_id=1)

PULSES = OMKeyMap(
    np.array([(1, 5, 0), (36, 60, 0), (86, 1, 0)], OM_KEY),
    np.array([2, 1, 1]),
    np.array([(100, 1, 8, 4), (150.5, 2, 8, 4), (3000, 4, 1, 7), (700, 3, 8, 4)], PULSE),
)
"""Four pulses; `InIceDSTPulses` lacks the third, with 4 PE."""

MASK = PulseMask("I3SuperDST", np.ones(3, bool), PULSES.counts, np.array([1, 1, 0, 1], bool))


UNKNOWN = RawObject(
    "I3TrayInfo", "I3TrayInfo", b"\0\1\2\0\x0a\0\0\0I3TrayInfo\1" + bytes(5) + b"\1\0\1\0\0\0"
)


def header(event: int, stream: str = "", sub_event: int = 0) -> EventHeader:
    return EventHeader(RUN, event, START, START, sub_event=sub_event, stream=stream)


def mc_tree() -> MCTree:
    """A neutrino, its muon with an energy loss, and hadrons."""
    return MCTree(
        particles([(14, 1000.0), (13, 800.0), (-2000001001, 5.0), (-2000001006, 200.0)]),
        np.array([-1, 0, 1, 0]),
    )


def particles(kinds: list[tuple[int, float]]) -> NDArray[np.void]:
    """Particles with these codes and energies."""
    rows = np.zeros(len(kinds), PARTICLE)
    rows["pdg"], rows["energy"] = zip(*kinds, strict=True)
    rows["minor_id"] = np.arange(len(kinds))
    return rows


def q_frame(event: int) -> Frame:
    frame = Frame("Q")
    frame.put("I3EventHeader", header(event))
    frame.put("I3SuperDST", PULSES)
    frame.put("I3MCTree", mc_tree())
    frame.put("I3MCWeightDict", {"OneWeight": 0.5 * event, "TypeWeight": 1.0})
    return frame


def p_frame(event: int, sub_event: int = 0) -> Frame:
    frame = Frame("P")
    frame.put("I3EventHeader", header(event, "InIceSplit", sub_event))
    frame.put("InIceDSTPulses", MASK)
    frame.put("MCPrimary", PRIMARY)
    frame.put("FilterMask", {"Muon_13": FilterResult(True, event > 0)})
    frame.put("Number", event)
    frame.put("Text", "a \x1b[31m\ntext")
    if event == 0:
        frame.put("OnlyFirst", np.array([1.5, 2.5]))
        frame.put("Names", {"a": 1.0})
    else:
        frame.put("Names", {"b": 2.0})
    return frame


def frames_of_events(num_events: int) -> Iterator[Frame]:
    """Two I frames, and Q and P of each event."""
    for number in range(2):
        frame = Frame("I")
        frame.put(f"Tray{number}", UNKNOWN)
        yield frame
    for event in range(num_events):
        yield q_frame(event)
        yield p_frame(event)
