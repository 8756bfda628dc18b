"""The labels of the reference's module `MCLabelsCascadeParameters`: table and particle.

Verified on real files: the particle's energy equals `EnergyVisible` of starting events. All else
is unverified: no real file with labels and the particles they were made from is public.
"""

import numpy as np

from dnn_reco.data_creation.labels.cascade import interaction
from dnn_reco.data_creation.labels.muons import charged_lepton, entries
from dnn_reco.data_creation.labels.particles import (
    directions,
    is_muon,
    is_neutrino,
    positions,
    track_lengths,
)
from dnn_reco.data_creation.labels.truth import MCTruth
from dnn_reco.detector.hull import Volume, detector_hull
from dnn_reco.i3.objects import Particle

_EXTENSION = 500.0  # m

COLUMNS = (
    "cascade_azimuth",
    "cascade_energy",
    "cascade_max_extension",
    "cascade_t",
    "cascade_x",
    "cascade_y",
    "cascade_z",
    "cascade_zenith",
    "energy_fraction_em",
    "energy_fraction_hadron",
    "energy_fraction_track",
)
"""Names of all labels, in the order of the tables."""


def cascade_parameters(truth: MCTruth, volume: Volume) -> tuple[dict[str, float], Particle]:
    """The labels of an event, sorted by name, and the shower they describe as a particle.

    It is the interaction of the neutrino. If that is more than 500 m outside of the detector and
    makes a muon, it is the muon instead, where it enters the volume or passes closest to the
    origin, with its energy there and its length inside. Without a neutrino all values are NaN.

    Parameters
    ----------
    truth
        The particles of the event.
    volume
        Where muons enter.

    Raises
    ------
    DataError
        If the primary is not in the tree.
    """
    particle, parts = _shower(truth, volume)
    with np.errstate(invalid="ignore"):
        shares = np.array(parts) / (particle.energy if particle.energy > 0 else np.nan)
    values = (
        *(particle.azimuth, particle.energy, particle.length, particle.time),
        *(particle.x, particle.y, particle.z, particle.zenith),
        *shares.tolist(),
    )
    return dict(zip(COLUMNS, values, strict=True)), particle


def _shower(truth: MCTruth, volume: Volume) -> tuple[Particle, tuple[float, float, float]]:
    """The shower, and its electromagnetic, hadronic and track energies in GeV."""
    nothing = Particle(), (np.nan, np.nan, np.nan)
    primary = truth.primary
    if primary is None or not is_neutrino(np.array([primary.pdg]))[0]:
        return nothing
    cascade = interaction(truth)
    if cascade is None:
        return nothing
    if not detector_hull().extended(_EXTENSION).contains(cascade.vertex[None])[0]:
        muon = charged_lepton(truth, cascade.neutrino)
        if muon is not None and is_muon(muon["pdg"])[0]:
            entry = entries(truth, muon, volume)
            x, y, z = entry.position[0].tolist()
            inside = volume.overlap(positions(muon), directions(muon), track_lengths(muon))
            particle = Particle(
                x=x,
                y=y,
                z=z,
                zenith=muon["zenith"].item(),
                azimuth=muon["azimuth"].item(),
                time=entry.time.item(),
                energy=entry.energy.item(),
                length=inside.item(),
            )
            return particle, (0.0, 0.0, particle.energy)
    particle = cascade.as_particle(truth.tree, primary)
    return particle, (cascade.em, cascade.hadronic, cascade.track)
