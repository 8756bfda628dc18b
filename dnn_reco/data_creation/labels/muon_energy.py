"""The energy of a muon along its track, from where it was recorded and from its losses.

Propagation records the energy of a muon at its start, where it enters and where it leaves the
simulated volume, and every large ("stochastic") loss inside of that volume. Between the recorded
energies, what the large losses do not explain is lost evenly: the model of IceTray's
`MuonGun::Track`. Unverified: no real file with labels and the particles they were made from is
public.
"""

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
    """Recorded energies and large losses of a track.

    Attributes
    ----------
    recorded_at, recorded
        Distances [k] in m from the start, from 0 to the length of the track, and energies [k] in
        GeV there.
    losses_at, losses
        Distances [m] in m and energies [m] in GeV of large losses.
    losses_after
        Number of the recorded energy after which the losses are; the next one is below them.
    """

    recorded_at: NDArray[np.float64]
    recorded: NDArray[np.float64]
    losses_at: NDArray[np.float64]
    losses: NDArray[np.float64]
    losses_after: int

    def energy(self, distance: float) -> float:
        """Energy in GeV at a distance in m; NaN if the losses exceed it, 0 behind the end."""
        if not np.isfinite(distance) or distance >= self.recorded_at[-1]:
            return 0.0
        if distance <= 0:
            return float(self.recorded[0])
        before = max(int(np.searchsorted(self.recorded_at, distance)) - 1, 0)
        lost = all_lost = 0.0
        if before == self.losses_after:
            lost = float(self.losses[self.losses_at < distance].sum())
            all_lost = float(self.losses.sum())
        (start, end), (energy, last) = (
            values[before : before + 2].tolist() for values in (self.recorded_at, self.recorded)
        )
        if lost > energy:
            return float("nan")
        rate = (energy - last - all_lost) / (end - start)
        return float(energy - lost - rate * (distance - start))


def energy_at(truth: MCTruth, muon: NDArray[np.void], distance: float) -> float:
    """Energy in GeV of a muon at a distance in m from its start.

    A muon that is not in the list of tracks, or not with its losses in the tree, has all its
    energy within 60 m; further away it has none if it started with less than 20 GeV or is
    shorter, and else the energy is not known: NaN.

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
    """Recorded energies and losses of a muon [1]; None if its losses were not recorded."""
    if truth.tracks is None:
        return None
    particles = truth.tracks["particle"]
    same = (particles["minor_id"] == muon["minor_id"]) & (particles["major_id"] == muon["major_id"])
    if not same.any():
        return None
    track = truth.tracks[np.flatnonzero(same)[-1:]]
    number = find_equal(truth.tree, track["particle"])
    daughters = truth.tree.daughters(number) if number is not None else np.zeros(0, dtype=int)
    if len(daughters) == 0:
        return None
    return _profile(track, truth.tree.particles[daughters])


def _profile(track: NDArray[np.void], daughters: NDArray[np.void]) -> EnergyProfile:
    """The profile of a track [1] of type `MMC_TRACK` with the particles that it made."""
    particle = track["particle"]
    start = positions(particle)

    def distance(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.linalg.norm(points - start, axis=1))

    at, energy = [np.zeros(1)], [particle["energy"]]
    for end in "if":  # where it enters and leaves; not recorded where the energy is not positive
        if track[f"e{end}"][0] > 0:
            at.append(distance(np.stack([track[f"{axis}{end}"] for axis in "xyz"], axis=-1)))
            energy.append(track[f"e{end}"])
    # Newer simulations also store the muon itself after each loss.
    losses = daughters[daughters["pdg"] != particle["pdg"]]
    return EnergyProfile(
        recorded_at=np.concatenate([*at, particle["length"]]),
        recorded=np.concatenate([*energy, np.zeros(1)]),
        losses_at=distance(positions(losses)),
        losses=losses["energy"],
        losses_after=int(track["ei"][0] > 0),
    )
