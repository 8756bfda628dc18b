"""Simulated events as frames of `.i3` files."""

from __future__ import annotations

from collections.abc import Iterator
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
from dnn_reco.simulation.truth import STRETCH, SimulationTruth

PULSES = "InIceDSTPulses"
STREAM = "in_ice"

_YEAR = 2026
_COUNTS_PER_NS = 10
_READOUT = 40_000  # ns
_BETWEEN_EVENTS = 10**9  # ns
_INSIDE = 0.01  # m: the first stretch begins on a surface that losses must be behind
_WIDTH_ATWD, _WIDTH_FADC = 1.0, 8.0  # ns
_ELECTRON, _MUON, _TAU, _HADRONS, _LOSS = 11, 13, 15, -2000001006, -2000001002
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
        tree = mc_tree(one, (float(muons.enter[event]), float(muons.leave[event])))
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
def mc_tree(truth: SimulationTruth, recorded: tuple[float, float]) -> MCTree:
    """The particles of one event.

    A neutrino, the same in the ice, and what comes out of its interaction; behind a tau its decay.
    A muon from outside is its own primary. Single losses of a muon in a `STRETCH` of its track are
    one particle, at its beginning. A muon also makes itself, as in newer simulations of IceCube,
    with its losses outside of the part of the track where its energy is recorded: labels take all
    losses that it makes directly as those between the recorded energies.

    Parameters
    ----------
    truth
        The event.
    recorded
        Distances in m from the muon's start between which its energy is recorded.
    """
    tree = _Tree(truth, recorded)
    lepton, vertex = truth.lepton_direction[0], truth.vertex[0]
    at_vertex = {"position": vertex, "time": float(truth.time[0])}
    if truth.interaction[0] == NO_INTERACTION:
        tree.add_muon(-1, at_vertex)
        return tree.finished()
    neutrino = {"pdg": int(truth.pdg[0]), "direction": truth.direction[0], **at_vertex}
    energy, hadrons = float(truth.energy[0]), float(truth.hadron_energy[0])
    primary = tree.add(-1, **neutrino, energy=energy, shape=_PRIMARY, location=0)
    inside = tree.add(primary, **neutrino, energy=energy)
    if truth.interaction[0] == NEUTRAL_CURRENT:
        tree.add(inside, **neutrino, energy=energy - hadrons)
    tree.add_shower(inside, _ELECTRON, truth.electron_energy[0], lepton, at_vertex)
    if truth.tau_energy[0] > 0:
        tree.add_tau(inside, at_vertex)
    else:
        tree.add_muon(inside, at_vertex)
    tree.add_shower(inside, _HADRONS, hadrons, truth.direction[0], at_vertex)
    return tree.finished()


class _Tree:
    """Particles of one event, added one after the other."""

    def __init__(self, truth: SimulationTruth, recorded: tuple[float, float]) -> None:
        self.truth = truth
        self.recorded = recorded
        self.sign = int(np.sign(truth.pdg[0]))
        self.rows: list[dict[str, Any]] = []
        self.parents: list[int] = []

    def add(self, parent: int, **values: Any) -> int:
        """Add a particle; returns its number."""
        self.rows.append(values)
        self.parents.append(parent)
        return len(self.rows) - 1

    def add_shower(
        self,
        parent: int,
        pdg: int,
        energy: float,
        direction: NDArray[np.float64],
        start: dict[str, Any],
    ) -> None:
        """Add a shower, unless it has no energy."""
        if energy <= 0:
            return
        is_hadronic = pdg == _HADRONS
        depth = shower_depth(np.array([energy]), is_hadronic, EXTENT_SHARE)[0] if energy > 1 else 0
        self.add(
            parent,
            pdg=pdg if is_hadronic else self.sign * pdg,
            energy=energy,
            length=depth,
            shape=_CASCADE,
            direction=direction,
            **start,
        )

    def add_tau(self, parent: int, start: dict[str, Any]) -> None:
        """Add the tau with what it decays to."""
        truth, along = self.truth, self.truth.lepton_direction[0]
        tau = self.add(
            parent,
            pdg=self.sign * _TAU,
            energy=truth.tau_energy[0],
            length=truth.tau_length[0],
            shape=_TRACK,
            direction=along,
            **start,
        )
        later = start["time"] + float(truth.tau_length[0]) / SPEED_OF_LIGHT
        at_decay = {"position": truth.lepton_end[0], "time": later}
        self.add_muon(tau, at_decay)
        self.add_shower(tau, _ELECTRON, truth.decay_electron_energy[0], along, at_decay)
        self.add_shower(tau, _HADRONS, truth.decay_hadron_energy[0], along, at_decay)

    def add_muon(self, parent: int, start: dict[str, Any]) -> None:
        """Add the muon with its losses, if there is one."""
        truth, along = self.truth, self.truth.lepton_direction[0]
        if truth.muon_energy[0] <= 0:
            return
        values = {
            "pdg": self.sign * _MUON,
            "energy": truth.muon_energy[0],
            "length": truth.muon_length[0],
            "shape": _TRACK,
            "direction": along,
            **start,
        }
        muon = self.add(parent, **values)
        again = self.add(muon, **values)
        losses = truth.muon_losses[0]
        stretches = np.flatnonzero(losses)
        distances = float(truth.losses_begin[0]) + stretches * STRETCH + _INSIDE
        is_recorded = (distances > self.recorded[0]) & (distances < self.recorded[1])
        for maker, made in ((again, ~is_recorded), (muon, is_recorded)):
            for stretch, distance in zip(
                stretches[made].tolist(), distances[made].tolist(), strict=True
            ):
                self.add(
                    maker,
                    pdg=_LOSS,
                    energy=losses[stretch],
                    shape=_CASCADE,
                    direction=along,
                    position=start["position"] + distance * along,
                    time=start["time"] + distance / SPEED_OF_LIGHT,
                )

    def finished(self) -> MCTree:
        """All particles."""
        particles = np.zeros(len(self.rows), PARTICLE)
        particles["minor_id"] = np.arange(1, len(self.rows) + 1)
        particles["major_id"] = 1
        particles["fit_status"] = -1
        particles["speed"] = SPEED_OF_LIGHT
        particles["location"] = [row.pop("location", _IN_ICE) for row in self.rows]
        particles["zenith"], particles["azimuth"] = angles_of(
            [r.pop("direction") for r in self.rows]
        )
        positions = np.array([row.pop("position") for row in self.rows])
        particles["x"], particles["y"], particles["z"] = positions.T
        for name in ("pdg", "energy", "length", "shape", "time"):
            particles[name] = [row.get(name, 0) for row in self.rows]
        return MCTree(particles, np.array(self.parents, dtype=np.int64))


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
        muon = np.flatnonzero(np.abs(tree.particles["pdg"]) == _MUON)[0]
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
