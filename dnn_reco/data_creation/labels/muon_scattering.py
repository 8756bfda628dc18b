"""The labels of the reference's module `MCLabelsMuonScattering`: muons with one large loss.

Unverified: no real file with these labels is public.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data_creation.labels.muon_energy import energy_at
from dnn_reco.data_creation.labels.muons import leading_muon, reach
from dnn_reco.data_creation.labels.particles import directions, is_muon, positions, track_lengths
from dnn_reco.data_creation.labels.tree import find
from dnn_reco.data_creation.labels.truth import MCTruth
from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.detector.hull import Volume
from dnn_reco.i3.objects import Particle

COLUMNS = (
    "length",
    "length_after",
    "length_before",
    "muon_azimuth",
    "muon_energy",
    "muon_entry_energy",
    "muon_entry_time",
    "muon_entry_x",
    "muon_entry_y",
    "muon_entry_z",
    "muon_exit_energy",
    "muon_exit_time",
    "muon_exit_x",
    "muon_exit_y",
    "muon_exit_z",
    "muon_loss_energy",
    "muon_loss_time",
    "muon_loss_x",
    "muon_loss_y",
    "muon_loss_z",
    "muon_zenith",
    "p_scattering_candidate",
    "rel_muon_loss_energy",
)
"""Names of all labels, in the order of the tables."""


@dataclass(frozen=True)
class ScatteringCuts:
    """What a muon must fulfil to be a candidate.

    Attributes
    ----------
    length, length_before, length_after
        Least lengths in m inside the volume: of all, before and after the largest loss.
    entry_energy
        Energy in GeV where the muon enters that it must exceed.
    loss
        Least energy of the largest loss, relative to that at entry.
    """

    length: float = 1000.0
    length_before: float = 400.0
    length_after: float = 400.0
    entry_energy: float = 10_000.0
    loss: float = 0.5


def muon_scattering_labels(
    truth: MCTruth, volume: Volume, cuts: ScatteringCuts
) -> dict[str, float]:
    """The labels of an event, sorted by name.

    Energies are in GeV, positions and lengths in m, times in ns, angles in rad. Without a muon
    all are 0, and if the muon misses the volume, all but its own energy and direction are. If
    it has no loss inside, the values of the loss are NaN.

    Parameters
    ----------
    truth
        The particles of the event.
    volume
        Inside of which lengths and losses count.
    cuts
        What a candidate must fulfil.
    """
    labels = dict.fromkeys(COLUMNS, 0.0)
    muon = leading_muon(truth, volume)
    if muon is None:
        return labels
    for name in ("zenith", "azimuth", "energy"):
        labels[f"muon_{name}"] = muon[name].item()
    if not reach(muon, volume)[0]:
        return labels
    enter, leave = (
        np.clip(distance, 0, track_lengths(muon)).item()
        for distance in volume.crossing(positions(muon), directions(muon))
    )
    for place, distance in (("entry", enter), ("exit", leave)):
        labels |= _point_of_muon(truth, muon, place, distance)
    loss = _largest_loss(truth, muon, labels["muon_entry_time"], labels["muon_exit_time"])
    for name in ("energy", "time", "x", "y", "z"):
        labels[f"muon_loss_{name}"] = loss[name].item()
    labels["length"] = leave - enter
    if not np.isnan(labels["muon_loss_energy"]):
        start = positions(loss)[0]
        labels["length_before"] = _distance(labels, "entry", start)
        labels["length_after"] = _distance(labels, "exit", start)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.divide(labels["muon_loss_energy"], labels["muon_entry_energy"])
        labels["rel_muon_loss_energy"] = float(relative)
    labels["p_scattering_candidate"] = float(_is_candidate(labels, cuts))
    return labels


def _is_candidate(labels: dict[str, float], cuts: ScatteringCuts) -> bool:
    return (
        labels["length"] >= cuts.length
        and labels["length_before"] >= cuts.length_before
        and labels["length_after"] >= cuts.length_after
        and labels["rel_muon_loss_energy"] >= cuts.loss
        and labels["muon_entry_energy"] > cuts.entry_energy
    )


def _point_of_muon(
    truth: MCTruth, muon: NDArray[np.void], place: str, distance: float
) -> dict[str, float]:
    """Position, time and energy of a muon [1] at a distance in m from its start."""
    point = (positions(muon) + distance * directions(muon))[0]
    return {
        f"muon_{place}_energy": energy_at(truth, muon, distance),
        f"muon_{place}_time": muon["time"].item() + distance / SPEED_OF_LIGHT,
        **{f"muon_{place}_{axis}": float(x) for axis, x in zip("xyz", point, strict=True)},
    }


def _largest_loss(
    truth: MCTruth, muon: NDArray[np.void], after: float, before: float
) -> NDArray[np.void]:
    """The loss [1] of most energy of a muon between two times in ns; NaN if there is none."""
    number = find(truth.tree, Particle.of(muon[0]))
    if number is None:
        return Particle().to_numpy()
    losses = truth.tree.particles[truth.tree.daughters(number)]
    # Newer simulations also store the muon itself after each loss.
    inside = ~is_muon(losses["pdg"]) & (losses["time"] > after) & (losses["time"] < before)
    losses = losses[inside & ~np.isnan(losses["energy"])]
    if len(losses) == 0:
        return Particle().to_numpy()
    largest = int(np.argmax(losses["energy"]))
    return np.asarray(losses[largest : largest + 1])


def _distance(labels: dict[str, float], place: str, point: NDArray[np.float64]) -> float:
    return float(np.linalg.norm([labels[f"muon_{place}_{axis}"] for axis in "xyz"] - point))
