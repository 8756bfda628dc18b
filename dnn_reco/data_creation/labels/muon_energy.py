"""The energy of a muon along its track, from where it was recorded and from its losses.

Propagation records the energy of a muon at its start, where it enters and where it leaves the
simulated volume, and every large ("stochastic") loss inside of that volume. Between the recorded
energies, what the large losses do not explain is lost evenly. Source: IceTray, MuonGun's Track.
Verified on a real file against the energies that propagation recorded in the middle of the
detector, which the model does not use: to 1e-4.
"""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data_creation.labels.particles import positions
from dnn_reco.data_creation.labels.tree import find_equal
from dnn_reco.data_creation.labels.truth import MCTruth

_NEAR = 60.0  # m: a muon that was not recorded has its whole energy so close to its start
_RANGE_OUT = 20.0  # GeV: one with less energy has lost all of it beyond


@dataclass(frozen=True)
class EnergyProfile:
    """Recorded energies and large losses of a track, in the order of the reference.

    Attributes
    ----------
    recorded_at, recorded
        Distances [k] in m from the start, from 0 to the length of the track, and energies [k] in
        GeV there. Muons that another one made are listed with its entry and exit, as if they were
        their own: these may lie behind their end, and then energies are wrong.
    losses_at, losses
        Distances [m] in m and energies [m] in GeV of large losses, in the order of the tree.
    volume
        Where in `recorded_at` the interval begins in which all large losses count: 1 if the muon
        entered the simulated volume, 0 if it started inside.
    """

    recorded_at: list[float]
    recorded: list[float]
    losses_at: list[float]
    losses: list[float]
    volume: int

    def energy(self, distance: float) -> float:
        """Energy in GeV at a distance in m; NaN if the losses exceed it, 0 behind the end."""
        if not np.isfinite(distance) or distance >= self.recorded_at[-1]:
            return 0.0
        if distance <= 0:
            return self.recorded[0]
        # A binary search as in the reference: the distances need not be in order.
        before = max(bisect_left(self.recorded_at, distance) - 1, 0)
        start, end = self.recorded_at[before : before + 2]
        energy, last = self.recorded[before : before + 2]
        losses = self.losses if before == self.volume else []
        lost = sum(losses[: bisect_left(self.losses_at, distance)])
        if lost > energy:
            return float("nan")
        rate = (energy - last - sum(losses)) / (end - start)
        return energy - lost - rate * (distance - start)


def energy_at(truth: MCTruth, muon: NDArray[np.void], distance: float) -> float:
    """Energy in GeV of a muon at a distance in m from its start.

    A muon that is not in the list of tracks, or made nothing according to the tree, has all its
    energy within 60 m; further away it has none if it started with less than 20 GeV or is shorter,
    and else the energy is not known: NaN.

    Parameters
    ----------
    truth
        The particles of the event.
    muon
        The muon [1] of type `PARTICLE`.
    distance
        Distance in m.
    """
    profile = energy_profile(truth, muon)
    if profile is not None:
        return profile.energy(distance)
    energy, length = float(muon["energy"][0]), float(muon["length"][0])
    if distance < _NEAR:
        return energy
    return 0.0 if energy < _RANGE_OUT or length < distance else float("nan")


def energy_profile(truth: MCTruth, muon: NDArray[np.void]) -> EnergyProfile | None:
    """Recorded energies and losses of a muon [1].

    None if it is not in the list of tracks, or made no particles; of several entries of the list
    the last one counts.
    """
    if truth.tracks is None:
        return None
    particles, tree = truth.tracks["particle"], truth.tree
    # Where ids are not unique, an entry is that of an equal particle of the tree, with its id.
    candidates = _same_id(particles, muon) | (particles["energy"] == muon["energy"])
    for index in np.flatnonzero(candidates)[::-1]:
        track = truth.tracks[index : index + 1]
        number = find_equal(tree, track["particle"])
        if number is None or not _same_id(tree.particles[number], muon).all():
            continue
        daughters = tree.daughters(number)
        if len(daughters):
            return _profile(track, tree.particles[daughters])
    return None


def _same_id(particles: NDArray[np.void], muon: NDArray[np.void]) -> NDArray[np.bool_]:
    return np.asarray(
        (particles["minor_id"] == muon["minor_id"]) & (particles["major_id"] == muon["major_id"])
    )


def _profile(track: NDArray[np.void], daughters: NDArray[np.void]) -> EnergyProfile:
    """The profile of a track [1] of type `MMC_TRACK` with the particles that it made."""
    particle = track["particle"]
    start = positions(particle)

    def distances(points: NDArray[np.float64]) -> list[float]:
        found: list[float] = np.linalg.norm(points - start, axis=1).tolist()
        return found

    at, energy = [0.0], [particle["energy"].item()]
    for end in "if":  # where it enters and leaves; not recorded where the energy is not positive
        if track[f"e{end}"][0] > 0:
            at += distances(np.stack([track[f"{axis}{end}"] for axis in "xyz"], axis=-1))
            energy.append(track[f"e{end}"].item())
    # Newer simulations also store the muon itself after each loss.
    losses = daughters[daughters["pdg"] != particle["pdg"]]
    return EnergyProfile(
        recorded_at=[*at, particle["length"].item()],
        recorded=[*energy, 0.0],
        losses_at=distances(positions(losses)),
        losses=losses["energy"].tolist(),
        volume=int(track["ei"][0] > 0),
    )
