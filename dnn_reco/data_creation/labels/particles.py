"""Kinds of simulated particles, and their tracks as arrays."""

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.directions import vector_of

IN_ICE = 20
"""Location of particles in the simulated ice around the detector."""

CASCADE_SHAPE, DARK_SHAPE = 30, 90

_NEUTRINO, _NUCLEAR_INTERACTION, _HADRONS = -2000000004, -2000001004, -2000001006
_BREMSSTRAHLUNG, _DELTA_ELECTRON, _PAIR_PRODUCTION = -2000001001, -2000001002, -2000001003

_MUONS = np.array([13, -13])
_TAUS = np.array([15, -15])
_NEUTRINOS = np.array([12, 14, 16, -12, -14, -16, _NEUTRINO])
_ELECTROMAGNETIC = np.array([11, -11, 22, 111, _BREMSSTRAHLUNG, _DELTA_ELECTRON, _PAIR_PRODUCTION])
_WITH_ANTIPARTICLE = np.array(
    [
        *(211, 321, 2212, 2112),  # charged pion and kaon, proton, neutron
        *(3122, 3222, 3212, 3112, 3322, 3312, 3334),  # strange baryons
        *(411, 421, 431, 24),  # charmed mesons, W
    ]
)
_HADRONIC = np.array(
    [
        *(*_WITH_ANTIPARTICLE, *-_WITH_ANTIPARTICLE),
        *(130, 310, 221, 4122, 23),  # neutral kaons, eta, charmed Lambda, Z
        *(_NUCLEAR_INTERACTION, _HADRONS),
    ]
)


def is_neutrino(pdg: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each code [n] is that of a neutrino."""
    return np.isin(pdg, _NEUTRINOS)


def is_muon(pdg: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each code [n] is that of a muon."""
    return np.isin(pdg, _MUONS)


def is_tau(pdg: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each code [n] is that of a tau."""
    return np.isin(pdg, _TAUS)


def is_electromagnetic(pdg: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each code [n] is of what starts an electromagnetic shower: e, γ, π0, muon losses."""
    return np.isin(pdg, _ELECTROMAGNETIC)


def is_hadron(pdg: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each code [n] is of a hadron, W, Z, or of a shower that hadrons start.

    Nuclei and rare hadrons are not among them: showers of unknown particles count as hadronic,
    but electrons that they make count as electromagnetic.
    """
    return np.isin(pdg, _HADRONIC)


def positions(particles: NDArray[np.void]) -> NDArray[np.float64]:
    """Positions [n, 3] in m of particles [n] of type `PARTICLE`."""
    return np.stack([particles[axis] for axis in "xyz"], axis=-1)


def directions(particles: NDArray[np.void]) -> NDArray[np.float64]:
    """Unit vectors [n, 3] of the motion of particles [n] of type `PARTICLE`."""
    return vector_of(particles["zenith"], particles["azimuth"])


def track_lengths(particles: NDArray[np.void]) -> NDArray[np.float64]:
    """Lengths [n] in m of tracks [n] of type `PARTICLE`; infinite where none is given."""
    lengths = particles["length"]
    return np.where(np.isnan(lengths), np.inf, lengths)


def ends(particles: NDArray[np.void]) -> NDArray[np.float64]:
    """Ends [n, 3] in m of particles [n]; their positions where there is no finite length > 0."""
    lengths = particles["length"]
    has_length = np.isfinite(lengths) & (lengths > 0)
    way = np.where(has_length, lengths, 0.0)
    return positions(particles) + way[:, None] * directions(particles)
