"""The interaction of the neutrino: where it is, and how much light comes out of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data_creation.labels.particles import (
    CASCADE_SHAPE,
    DARK_SHAPE,
    IN_ICE,
    ends,
    is_electromagnetic,
    is_hadron,
    is_muon,
    is_neutrino,
    is_tau,
    positions,
)
from dnn_reco.data_creation.labels.tree import find, has_ancestor, is_leaf
from dnn_reco.data_creation.labels.truth import NOT_IN_TREE, MCTruth
from dnn_reco.detector.hadronic_light import hadronic_light_fraction
from dnn_reco.detector.hull import detector_hull
from dnn_reco.errors import DataError
from dnn_reco.i3.objects import MCTree, Particle

_AROUND = 300.0  # m around the detector in which energy counts as deposited


@dataclass(frozen=True)
class Cascade:
    """What comes out of the interaction of a neutrino.

    Attributes
    ----------
    neutrino
        Number of the neutrino in the tree.
    vertex, time
        Position [3] in m and time in ns of the interaction.
    length
        Largest distance in m from the vertex that any particle reaches.
    em, hadronic, track
        Visible energies in GeV: of electromagnetic and hadronic showers, as of electromagnetic
        ones with the same light, and all energy of muons and taus.
    """

    neutrino: int
    vertex: NDArray[np.float64]
    time: float
    length: float
    em: float
    hadronic: float
    track: float

    @property
    def energy(self) -> float:
        """All visible energy in GeV."""
        return self.em + self.hadronic + self.track

    def as_particle(self, tree: MCTree, primary: Particle) -> Particle:
        """The interaction as a shower with the type of the neutrino, along the primary."""
        neutrino = tree.particles[self.neutrino]
        x, y, z = self.vertex.tolist()
        return Particle(
            x=x,
            y=y,
            z=z,
            zenith=primary.zenith,
            azimuth=primary.azimuth,
            time=self.time,
            energy=self.energy,
            length=self.length,
            shape=CASCADE_SHAPE,
            **{
                name: neutrino[name].item()
                for name in ("speed", "pdg", "fit_status", "location", "major_id", "minor_id")
            },
        )


def interaction(truth: MCTruth) -> Cascade | None:
    """The interaction of the first neutrino in the ice that descends from the primary.

    None if there is no such neutrino, or if it makes nothing. The vertex is the position of the
    first particle that the neutrino makes.

    Raises
    ------
    DataError
        If the primary is not in the tree.
    """
    tree = truth.tree
    start, end = _primary_subtree(truth)
    particles = tree.particles[start:end]
    in_ice = is_neutrino(particles["pdg"]) & (particles["location"] == IN_ICE)
    if not in_ice.any():
        return None
    neutrino = start + int(np.argmax(in_ice))
    first = neutrino + 1
    if first == len(tree) or tree.parents[first] != neutrino:
        return None
    last = tree.end(neutrino)
    vertex = positions(tree.particles[first : first + 1])[0]
    distances = np.linalg.norm(ends(tree.particles[first:last]) - vertex, axis=1)
    em, hadronic, track = visible_energy(tree, neutrino)
    time = float(tree.particles["time"][first])
    return Cascade(neutrino, vertex, time, float(distances.max()), em, hadronic, track)


def visible_energy(tree: MCTree, start: int) -> tuple[float, float, float]:
    """Visible energy in GeV of a particle with all that came from it.

    Particles that are not in the ice, and what came from them, do not count; muons and taus count
    with all their energy, what came from them does not; of all others those count that made no
    other, except neutrinos, by the light of their shower (:func:`shower_light`).

    Parameters
    ----------
    tree
        The particles.
    start
        Number of the particle.

    Returns
    -------
    em, hadronic, track
        Of electromagnetic showers; of hadronic ones, including electromagnetic ones that come
        from a hadron, since long hadronic showers are simulated as several short
        electromagnetic ones; of muons and taus.
    """
    end = tree.end(start)
    branch = MCTree(tree.particles[start:end], np.maximum(tree.parents[start:end] - start, -1))
    pdg = branch.particles["pdg"]
    in_ice = branch.particles["location"] == IN_ICE
    is_track = is_muon(pdg) | is_tau(pdg)
    counts = in_ice & ~has_ancestor(branch, ~in_ice | is_track)
    is_shower = counts & ~is_track & is_leaf(branch) & ~is_neutrino(pdg)
    is_em = is_electromagnetic(pdg) & ~has_ancestor(branch, is_hadron(pdg))
    light = shower_light(branch.particles)
    return (
        float(light[is_shower & is_em].sum()),
        float(light[is_shower & ~is_em].sum()),
        float(branch.particles["energy"][counts & is_track].sum()),
    )


def shower_light(particles: NDArray[np.void]) -> NDArray[np.float64]:
    """Energies [n] in GeV of electromagnetic showers with the mean light of given ones.

    Parameters
    ----------
    particles
        Particles [n] of type `PARTICLE` that start them; unknown ones count as hadrons.
    """
    energy, pdg = particles["energy"], particles["pdg"]
    fraction = np.where(is_electromagnetic(pdg), 1.0, hadronic_light_fraction(energy, pdg))
    return np.asarray(energy * fraction)


def total_deposited_energy(tree: MCTree) -> float:
    """Sum of the light [GeV] of all showers in the ice up to 300 m around the detector.

    Neutrinos, muons and taus do not count, so that continuous losses of muons are missing, but
    their showers are there; particles count also if what they made counts, unless they are marked
    as dark.
    """
    particles = tree.particles
    pdg = particles["pdg"]
    counts = (particles["shape"] != DARK_SHAPE) & (particles["location"] == IN_ICE)
    counts &= ~(is_neutrino(pdg) | is_muon(pdg) | is_tau(pdg))
    showers = particles[counts]
    inside = detector_hull().extended(_AROUND).contains(positions(showers))
    return float(shower_light(showers[inside]).sum())


def _primary_subtree(truth: MCTruth) -> tuple[int, int]:
    """First and last + 1 number of the primary and its descendants."""
    if truth.primary is None:
        return 0, 0
    start = find(truth.tree, truth.primary)
    if start is None:
        raise DataError(NOT_IN_TREE)
    return start, truth.tree.end(start)
