"""Muons and taus of an event: which there are, and where and with what energy they enter."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data_creation.labels.cascade import interaction
from dnn_reco.data_creation.labels.muon_energy import energy_at
from dnn_reco.data_creation.labels.particles import (
    IN_ICE,
    directions,
    is_muon,
    is_neutrino,
    is_tau,
    positions,
    track_lengths,
)
from dnn_reco.data_creation.labels.tree import find
from dnn_reco.data_creation.labels.truth import NOT_IN_TREE, MCTruth
from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.detector.hull import Volume
from dnn_reco.errors import DataError
from dnn_reco.i3.objects import Particle

MIN_ENTRY_DISTANCE = 1.0
"""Distance in m from its start at which a muon must enter the volume to count as entering."""

MUON_THRESHOLD = 20.0
"""Least energy in GeV where a muon enters that is above the threshold."""

_STOPS_BEFORE = 1e-8  # m that a track must end before it would leave


@dataclass(frozen=True)
class Entries:
    """Where tracks enter a volume, or pass closest to the origin if they never do.

    Attributes
    ----------
    distance
        Distances [n] in m from their starts.
    position
        Points [n, 3] in m.
    time
        Times [n] in ns.
    energy
        Energies [n] in GeV there; of taus all their energy; NaN where it is not known.
    """

    distance: NDArray[np.float64]
    position: NDArray[np.float64]
    time: NDArray[np.float64]
    energy: NDArray[np.float64]


def entries(truth: MCTruth, tracks: NDArray[np.void], volume: Volume) -> Entries:
    """Where tracks [n] of type `PARTICLE` enter a volume."""
    starts, along = positions(tracks), directions(tracks)
    distance = volume.first_contact(starts, along, track_lengths(tracks))
    energy = [
        float(tracks["energy"][i])
        if tau
        else energy_at(truth, tracks[i : i + 1], float(distance[i]))
        for i, tau in enumerate(is_tau(tracks["pdg"]))
    ]
    return Entries(
        distance,
        starts + distance[:, None] * along,
        tracks["time"] + distance / SPEED_OF_LIGHT,
        np.array(energy, dtype=np.float64),
    )


def reach(tracks: NDArray[np.void], volume: Volume) -> NDArray[np.bool_]:
    """Whether any part of each track [n] of type `PARTICLE` is inside a volume."""
    enter, leave = volume.crossing(positions(tracks), directions(tracks))
    return np.asarray((leave >= 0) & (enter <= track_lengths(tracks) + _STOPS_BEFORE))


def stop_inside(tracks: NDArray[np.void], volume: Volume) -> NDArray[np.bool_]:
    """Whether each track [n] of type `PARTICLE` reaches into a volume and ends there."""
    _, leave = volume.crossing(positions(tracks), directions(tracks))
    return reach(tracks, volume) & (leave > track_lengths(tracks) + _STOPS_BEFORE)


@dataclass(frozen=True)
class MuonBundle:
    """Energies of the muons of an event.

    Attributes
    ----------
    entry_energy
        Energies [n] in GeV of muons from outside where they enter the volume.
    simulated_energy
        Energies [m] in GeV where muons enter the simulated volume; 0 for those that start in it.
    """

    entry_energy: NDArray[np.float64]
    simulated_energy: NDArray[np.float64]

    @property
    def leading_share(self) -> float:
        """Share of the muon with the most energy in that of all that enter; 0 without any."""
        total = self.entry_energy.sum()
        return float(self.entry_energy.max() / total) if total > 0 else 0.0

    @property
    def multiplicity(self) -> int:
        """Number of muons that enter above the threshold; if 0, of those below, and so on."""
        energies = (self.entry_energy, self.simulated_energy)
        groups = (group for e in energies for group in (e[e >= MUON_THRESHOLD], e))
        return next((len(group) for group in groups if len(group)), 0)


def muon_bundle(truth: MCTruth, volume: Volume) -> MuonBundle:
    """The muons of the list of tracks, which start anywhere.

    Without a list of tracks, muons of the tree in the ice whose parent is not a muon stand for
    it. Approximate: their energy at entry is that of :func:`energy_at` for muons that were not
    recorded, and where it is not known they do not count.
    """
    muons = listed_muons(truth)
    from_outside = muons[reach(muons, volume)]
    at = entries(truth, from_outside, volume)
    entry_energy = at.energy[at.distance > MIN_ENTRY_DISTANCE]
    if truth.tracks is None:
        simulated = muons["energy"]
    else:
        simulated = truth.tracks["ei"][is_muon(truth.tracks["particle"]["pdg"])]
    return MuonBundle(entry_energy[np.isfinite(entry_energy)], simulated[np.isfinite(simulated)])


def listed_muons(truth: MCTruth) -> NDArray[np.void]:
    """Muons of the list of tracks, of type `PARTICLE`; without a list those of the tree."""
    if truth.tracks is not None:
        particles = truth.tracks["particle"]
        return np.asarray(particles[is_muon(particles["pdg"])])
    tree = truth.tree
    muon = is_muon(tree.particles["pdg"])
    of_muon = np.append(muon, False)[tree.parents]  # parent -1: the one that was appended
    return np.asarray(tree.particles[muon & ~of_muon & (tree.particles["location"] == IN_ICE)])


def charged_lepton(truth: MCTruth, neutrino: int) -> NDArray[np.void] | None:
    """The muon or else the tau [1] that a neutrino made, of most energy; None if there is none."""
    daughters = truth.tree.particles[truth.tree.daughters(neutrino)]
    for is_kind in (is_muon, is_tau):
        leptons = daughters[is_kind(daughters["pdg"])]
        if len(leptons):
            highest = int(np.argmax(leptons["energy"]))
            return np.asarray(leptons[highest : highest + 1])
    return None


def is_single_muon(primary: Particle) -> bool:
    """Whether a primary is that of a simulation of single muons."""
    return primary.pdg in (0, 13, -13)


def single_muon(truth: MCTruth, primary: Particle) -> NDArray[np.void]:
    """The muon [1] of a simulation of single muons, where the primary is it or made only it.

    Raises
    ------
    DataError
        If the primary is not in the tree, or is unknown and made anything but one muon.
    """
    number = find(truth.tree, primary)
    if number is None:
        raise DataError(NOT_IN_TREE)
    if primary.pdg != 0:
        return np.asarray(truth.tree.particles[number : number + 1])
    daughters = truth.tree.particles[truth.tree.daughters(number)]
    if len(daughters) != 1 or not is_muon(daughters["pdg"])[0]:
        raise DataError(
            f"the primary has no particle code and {len(daughters)} daughters, not one muon as in "
            "simulations of single muons: set PrimaryKey to the key of another particle"
        )
    return np.asarray(daughters)


def leading_muon(truth: MCTruth, volume: Volume) -> NDArray[np.void] | None:
    """The muon [1] of the event: of the neutrino, the single one, or else the leading one.

    The leading one has the most energy where it enters the volume, or passes closest to the
    origin if none enters. None if there is no muon, or no energy is known.
    """
    primary = truth.primary
    if primary is None:
        return None
    if is_neutrino(np.array([primary.pdg]))[0]:
        cascade = interaction(truth)
        lepton = charged_lepton(truth, cascade.neutrino) if cascade else None
        return lepton if lepton is not None and is_muon(lepton["pdg"])[0] else None
    if is_single_muon(primary):
        return single_muon(truth, primary)
    muons = listed_muons(truth)
    inside = reach(muons, volume)
    muons = muons[inside] if inside.any() else muons
    energy = entries(truth, muons, volume).energy
    if not np.isfinite(energy).any():
        return None
    highest = int(np.nanargmax(energy))
    return np.asarray(muons[highest : highest + 1])
