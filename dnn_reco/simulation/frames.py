"""Simulated events as frames of `.i3` files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.pulses import ATWD, Pulses
from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.detector.directions import angles_of
from dnn_reco.detector.geometry import string_and_om
from dnn_reco.detector.hull import label_hull
from dnn_reco.i3.frame import Frame
from dnn_reco.i3.objects import (
    MMC_TRACK,
    OM_KEY,
    PARTICLE,
    PULSE,
    EventHeader,
    MCTree,
    OMKeyMap,
    Particle,
    Time,
)
from dnn_reco.simulation.energy_losses import shower_depth
from dnn_reco.simulation.labels import EXTENT_SHARE
from dnn_reco.simulation.particles import CHARGED_CURRENT, NEUTRAL_CURRENT, NO_INTERACTION
from dnn_reco.simulation.truth import SimulationTruth

PULSES = "InIceDSTPulses"
STREAM = "in_ice"

_YEAR = 2026
_COUNTS_PER_NS = 10
_READOUT = 40_000  # ns
_BETWEEN_EVENTS = 10**9  # ns
_WIDTH_ATWD, _WIDTH_FADC = 1.0, 8.0  # ns
_HADRONS = -2000001006
_PRIMARY, _CASCADE, _TRACK = 10, 30, 80  # shapes
_IN_ICE = 20
_INTERACTION_TYPE = {NO_INTERACTION: 0, CHARGED_CURRENT: 1, NEUTRAL_CURRENT: 2}


def event_frames(
    truth: SimulationTruth, pulses: Pulses, ids: NDArray[np.void]
) -> Iterator[tuple[Frame, Frame]]:
    """A Q and a P frame for each event.

    The Q frame has the pulses (`InIceDSTPulses`), the particles (`I3MCTree`), the muon where it
    enters and leaves the label hull (`MMCTrackList`), the primary (`MCPrimary`), and what weights
    are made of (`I3MCWeightDict`); the P frame has the header of the event.

    Parameters
    ----------
    truth
        The n events.
    pulses
        Their pulses.
    ids
        Their ids [n].
    """
    muons = _MuonPoints(truth)
    offsets = np.searchsorted(pulses.event, np.arange(len(ids) + 1))
    for event in range(len(ids)):
        one = truth.select(np.array([event]))
        tree = mc_tree(one)
        header = _header(ids[event])
        q_frame = Frame("Q")
        q_frame.put("I3EventHeader", header)
        q_frame.put(PULSES, _pulse_map(pulses, slice(*offsets[event : event + 2])))
        q_frame.put("I3MCTree", tree)
        q_frame.put("MMCTrackList", muons.tracks(event, tree))
        q_frame.put("MCPrimary", Particle.of(tree.particles[0]))
        q_frame.put("I3MCWeightDict", _weights(one))
        p_frame = Frame("P")
        p_frame.put("I3EventHeader", _header(ids[event], STREAM))
        yield q_frame, p_frame


def _header(event_id: Any, stream: str = "") -> EventHeader:
    start = int(event_id["Event"]) * _BETWEEN_EVENTS * _COUNTS_PER_NS
    end = start + _READOUT * _COUNTS_PER_NS
    return EventHeader(
        run=int(event_id["Run"]),
        event=int(event_id["Event"]),
        start=Time(_YEAR, start),
        end=Time(_YEAR, end),
        sub_event=int(event_id["SubEvent"]),
        stream=stream,
    )


def _pulse_map(pulses: Pulses, part: slice) -> OMKeyMap:
    dom = pulses.dom[part]
    doms, counts = np.unique(dom, return_counts=True)
    keys = np.zeros(len(doms), OM_KEY)
    keys["string"], keys["om"] = string_and_om(doms)
    items = np.zeros(len(dom), PULSE)
    items["time"], items["charge"] = pulses.time[part], pulses.charge[part]
    items["flags"] = pulses.flags[part]
    items["width"] = np.where(items["flags"] & ATWD, _WIDTH_ATWD, _WIDTH_FADC)
    return OMKeyMap(keys, counts.astype(np.int64), items)


def _weights(truth: SimulationTruth) -> dict[str, float]:
    return {
        "PrimaryNeutrinoType": float(truth.pdg[0]),
        "PrimaryNeutrinoEnergy": float(truth.energy[0]),
        "PrimaryNeutrinoZenith": float(truth.zenith[0]),
        "PrimaryNeutrinoAzimuth": float(truth.azimuth[0]),
        "InteractionType": float(_INTERACTION_TYPE[int(truth.interaction[0])]),
        "BjorkenY": float(truth.inelasticity[0]),
    }


# --------------------------------------------------------------------------------------------------
# Particles
# --------------------------------------------------------------------------------------------------
def mc_tree(truth: SimulationTruth) -> MCTree:
    """The particles of one event.

    A neutrino, the same in the ice, and what comes out of its interaction; behind a tau its decay.
    Single losses of muons are not kept by the simulation and are not in it. A muon is its own
    primary.
    """
    rows: list[dict[str, Any]] = []
    parents: list[int] = []

    def add(parent: int, **values: Any) -> int:
        rows.append(values)
        parents.append(parent)
        return len(rows) - 1

    vertex, decay = truth.vertex[0], truth.lepton_end[0]
    at_vertex = {"position": vertex, "time": float(truth.time[0])}
    later = at_vertex["time"] + float(truth.tau_length[0]) / SPEED_OF_LIGHT
    at_decay = {"position": decay, "time": later}
    along = {"direction": truth.direction[0]}
    along_lepton = {"direction": truth.lepton_direction[0]}
    muon = {
        "pdg": _lepton(truth, 13),
        "energy": truth.muon_energy[0],
        "length": truth.muon_length[0],
        "shape": _TRACK,
        **along_lepton,
    }
    if truth.interaction[0] == NO_INTERACTION:
        add(-1, **{**muon, "pdg": int(truth.pdg[0])}, **at_vertex)
        return _tree(rows, parents)
    neutrino = {"pdg": int(truth.pdg[0]), "energy": truth.energy[0], **along, **at_vertex}
    primary = add(-1, **neutrino, shape=_PRIMARY, location=0)
    inside = add(primary, **neutrino)
    _add_lepton(truth, add, inside, at_vertex, along_lepton, muon, at_decay)
    hadrons = truth.hadron_energy[0]
    if hadrons > 0:
        add(inside, **_shower(_HADRONS, hadrons), **along, **at_vertex)
    return _tree(rows, parents)


def _add_lepton(
    truth: SimulationTruth,
    add: Any,
    parent: int,
    at_vertex: dict[str, Any],
    along: dict[str, Any],
    muon: dict[str, Any],
    at_decay: dict[str, Any],
) -> None:
    """Add the lepton that leaves the interaction; for a tau its decay, too."""
    if truth.interaction[0] == NEUTRAL_CURRENT:
        leaving = truth.energy[0] - truth.hadron_energy[0]
        add(parent, pdg=int(truth.pdg[0]), energy=leaving, **along, **at_vertex)
    elif truth.electron_energy[0] > 0:
        electron = _shower(_lepton(truth, 11), truth.electron_energy[0])
        add(parent, **electron, **along, **at_vertex)
    elif truth.tau_energy[0] > 0:
        length = truth.tau_length[0]
        tau = add(
            parent,
            pdg=_lepton(truth, 15),
            energy=truth.tau_energy[0],
            length=length,
            shape=_TRACK,
            **along,
            **at_vertex,
        )
        if truth.muon_energy[0] > 0:
            add(tau, **muon, **at_decay)
        for pdg, energy in (
            (_lepton(truth, 11), truth.decay_electron_energy[0]),
            (_HADRONS, truth.decay_hadron_energy[0]),
        ):
            if energy > 0:
                add(tau, **_shower(pdg, energy), **along, **at_decay)
    elif truth.muon_energy[0] > 0:
        add(parent, **muon, **at_vertex)


def _lepton(truth: SimulationTruth, pdg: int) -> int:
    """The charged lepton of the sign that belongs to the primary."""
    return pdg * int(np.sign(truth.pdg[0]))


def _shower(pdg: int, energy: float) -> dict[str, Any]:
    depth = shower_depth(np.array([energy]), pdg == _HADRONS, EXTENT_SHARE)[0] if energy > 1 else 0
    return {"pdg": pdg, "energy": energy, "length": depth, "shape": _CASCADE}


def _tree(rows: Sequence[dict[str, Any]], parents: Sequence[int]) -> MCTree:
    particles = np.zeros(len(rows), PARTICLE)
    particles["minor_id"] = np.arange(1, len(rows) + 1)
    particles["major_id"] = 1
    particles["fit_status"] = -1
    particles["speed"] = SPEED_OF_LIGHT
    particles["location"] = _IN_ICE
    for particle, values in zip(particles, rows, strict=True):
        (zenith,), (azimuth,) = angles_of(np.asarray(values.pop("direction"))[None])
        particle["zenith"], particle["azimuth"] = zenith, azimuth
        particle["x"], particle["y"], particle["z"] = values.pop("position")
        for name, value in values.items():
            particle[name] = value
    return MCTree(particles, np.array(parents, dtype=np.int64))


class _MuonPoints:
    """Where muons enter and leave the label hull, and pass closest to the origin."""

    def __init__(self, truth: SimulationTruth) -> None:
        line = truth.lepton_end, truth.lepton_direction
        length = truth.muon_length
        _, leave = label_hull().crossing(*line)
        self.truth = truth
        self.hits = truth.muon_energy > 0
        self.enter = label_hull().first_contact(*line, length)
        self.leave = np.where(leave >= 0, leave, length)
        closest = -np.einsum("ij,ij->i", *line)
        self.closest = np.clip(closest, 0.0, length)

    def tracks(self, event: int, tree: MCTree) -> NDArray[np.void]:
        """The muon of an event [1], or none [0]."""
        if not self.hits[event]:
            return np.zeros(0, MMC_TRACK)
        truth = self.truth
        start = truth.lepton_end[event]
        direction = truth.lepton_direction[event]
        time = truth.time[event] + truth.tau_length[event] / SPEED_OF_LIGHT
        track = np.zeros(1, MMC_TRACK)
        muon = np.flatnonzero(np.abs(tree.particles["pdg"]) == 13)[0]
        track["particle"] = tree.particles[muon]
        before, after = truth.muon_entry_energy[event], truth.muon_exit_energy[event]
        for point, distance, energy in (
            ("i", self.enter[event], before),
            ("f", self.leave[event], after),
            ("c", self.closest[event], np.nan),
        ):
            place = start + distance * direction
            track[f"x{point}"], track[f"y{point}"], track[f"z{point}"] = place
            track[f"t{point}"] = time + distance / SPEED_OF_LIGHT
            track[f"e{point}"] = energy
        track["energy_lost"] = before - after
        return track
