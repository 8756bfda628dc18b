"""The labels of the reference's module `MCLabelsCascades`, the table `LabelsDeepLearning`.

Verified: column names and volumes on real files of training data; the energy of muons where they
enter, see :mod:`dnn_reco.data_creation.labels.muon_energy`; all labels of neutrinos and single
muons but `TotalDepositedEnergy` against those that the simulation makes without a tree. Unverified,
since no real file with labels and the particles they were made from is public: that the values
of trees with losses, coincident events, and showers of cosmic rays are those of the reference.
Approximate: `EnergyVisible` of taus from outside is all their energy, as in the reference;
`TotalDepositedEnergy` lacks continuous losses, as in the reference; without a list of tracks see
:func:`dnn_reco.data_creation.labels.muons.muon_bundle`.
"""

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data_creation.labels.cascade import Cascade, interaction, total_deposited_energy
from dnn_reco.data_creation.labels.muons import (
    MUON_THRESHOLD,
    Entries,
    MuonBundle,
    charged_lepton,
    entries,
    is_single_muon,
    leading_muon,
    muon_bundle,
    single_muon,
    stop_inside,
)
from dnn_reco.data_creation.labels.particles import (
    directions,
    is_muon,
    is_neutrino,
    is_tau,
    positions,
    track_lengths,
)
from dnn_reco.data_creation.labels.truth import WEIGHTS_KEY, MCTruth
from dnn_reco.detector.directions import vector_of
from dnn_reco.detector.hull import Volume, detector_hull
from dnn_reco.errors import DataError
from dnn_reco.i3.objects import Particle

MIN_TRACK_LENGTH = 30.0
"""Length in m of a track above which an event with a muon is marked as track."""

_AROUND = 300.0  # m
_CHARGED, _NEUTRAL, _GLASHOW = 1, 2, 3  # values of InteractionType
_FLAVORS = {12: "e", 14: "mu", 16: "tau"}

_PRIMARY = (
    "PrimaryAzimuth",
    "PrimaryDirectionX",
    "PrimaryDirectionY",
    "PrimaryDirectionZ",
    "PrimaryEnergy",
    "PrimaryZenith",
)
_VERTEX = (
    "EnergyVisible",
    "Length",
    "LengthInDetector",
    "VertexTime",
    "VertexX",
    "VertexY",
    "VertexZ",
)
_COUNTS = (
    "TotalDepositedEnergy",
    "leading_energy_rel_entry",
    "num_coincident_events",
    "num_muons_at_entry",
    "num_muons_at_entry_above_threshold",
)
_FLAGS = (
    "p_entering",
    "p_entering_muon_bundle",
    "p_entering_muon_single",
    "p_entering_muon_single_stopping",
    "p_is_track",
    "p_neutrino",
    "p_outside_cascade",
    "p_starting",
    "p_starting_300m",
    "p_starting_cc",
    "p_starting_cc_e",
    "p_starting_cc_mu",
    "p_starting_cc_tau",
    "p_starting_cc_tau_double_bang",
    "p_starting_cc_tau_muon_decay",
    "p_starting_glashow",
    "p_starting_nc",
)
COLUMNS = tuple(sorted((*_PRIMARY, *_VERTEX, *_COUNTS, *_FLAGS)))
"""Names of all labels, in the order of the tables."""


def cascade_labels(
    truth: MCTruth, volume: Volume, extend_boundary: float = 0.0
) -> dict[str, float]:
    """All labels of an event, sorted by name; flags are 0 or 1.

    Energies are in GeV, positions and lengths in m, times in ns, angles in rad. Of events with a
    neutrino as primary exactly one of `p_starting`, `p_entering` and `p_outside_cascade` is 1.
    `EnergyVisible`, `Length` and the vertex are NaN where there is nothing in the ice that they
    could describe; without any particle, those of the primary as well.

    Parameters
    ----------
    truth
        The particles of the event.
    volume
        Where muons enter, and inside of which `LengthInDetector` is.
    extend_boundary
        Distance in m by which the detector hull is extended inside of which an interaction is
        starting.

    Raises
    ------
    DataError
        If the particles are not as in simulations of neutrinos, of single muons, or of showers.
    """
    bundle = muon_bundle(truth, volume)
    labels: dict[str, float] = {
        **dict.fromkeys((*_PRIMARY, *_VERTEX), np.nan),
        **dict.fromkeys(_FLAGS, 0.0),
        "num_coincident_events": len(truth.tree.primaries),
        "TotalDepositedEnergy": total_deposited_energy(truth.tree),
        "leading_energy_rel_entry": bundle.leading_share,
        "num_muons_at_entry": len(bundle.entry_energy),
        "num_muons_at_entry_above_threshold": int(np.sum(bundle.entry_energy >= MUON_THRESHOLD)),
        **_of_event(truth, volume, extend_boundary, bundle),
    }
    is_long = labels["Length"] > MIN_TRACK_LENGTH
    labels["p_is_track"] = is_long and len(bundle.simulated_energy) > 0
    return {name: float(labels[name]) for name in COLUMNS}


def _of_event(
    truth: MCTruth, volume: Volume, extend_boundary: float, bundle: MuonBundle
) -> dict[str, float]:
    primary = truth.primary
    if primary is None:
        return {}
    labels = _of_primary(primary)
    if is_neutrino(np.array([primary.pdg]))[0]:
        return {**labels, **_of_neutrino(truth, primary, volume, extend_boundary)}
    if is_single_muon(primary):
        muon = single_muon(truth, primary)
        if not np.isfinite(primary.energy):
            labels["PrimaryEnergy"] = float(muon["energy"][0])
        return {**labels, **_of_entering_muon(truth, muon, volume)}
    return {**labels, **_of_shower(truth, volume, bundle)}


def _of_primary(primary: Particle) -> dict[str, float]:
    x, y, z = vector_of(primary.zenith, primary.azimuth).tolist()
    return {
        "PrimaryEnergy": primary.energy,
        "PrimaryZenith": primary.zenith,
        "PrimaryAzimuth": primary.azimuth,
        "PrimaryDirectionX": x,
        "PrimaryDirectionY": y,
        "PrimaryDirectionZ": z,
    }


def _of_neutrino(
    truth: MCTruth, primary: Particle, volume: Volume, extend_boundary: float
) -> dict[str, float]:
    cascade = interaction(truth)
    if cascade is None:
        return {"p_neutrino": 1, "p_outside_cascade": 1}
    hull, vertex = detector_hull(), cascade.vertex[None]
    labels: dict[str, float] = {
        "p_neutrino": 1,
        "p_starting_300m": bool(hull.extended(_AROUND).contains(vertex)[0]),
    }
    of_cascade = _of_cascade(cascade, primary, volume)
    if hull.extended(extend_boundary).contains(vertex)[0]:
        kind = _kind_of_interaction(truth, cascade.neutrino)
        return {**labels, **of_cascade, **kind, "p_starting": 1}
    lepton = charged_lepton(truth, cascade.neutrino)
    if lepton is None:
        return {**labels, **of_cascade, "p_outside_cascade": 1}
    if is_muon(lepton["pdg"])[0]:
        return {**labels, **_of_entering_muon(truth, lepton, volume)}
    return {**labels, **_of_track(entries(truth, lepton, volume), lepton, volume), "p_entering": 1}


def _kind_of_interaction(truth: MCTruth, neutrino: int) -> dict[str, float]:
    """Flags of a starting event: the interaction, and the flavor if it is of charged current."""
    if "InteractionType" not in truth.weights:
        raise DataError(
            f"'{WEIGHTS_KEY}' lacks InteractionType, which separates charged from neutral currents"
        )
    kind = truth.weights["InteractionType"]
    if kind != _CHARGED:
        return {"p_starting_nc": kind == _NEUTRAL, "p_starting_glashow": kind == _GLASHOW}
    flavor = abs(int(truth.tree.particles["pdg"][neutrino]))
    if flavor not in _FLAVORS:
        raise DataError(f"a neutrino of unknown flavor (code {flavor}) made a charged current")
    labels: dict[str, float] = {"p_starting_cc": 1, f"p_starting_cc_{_FLAVORS[flavor]}": 1}
    return {**labels, **_tau_decay(truth, neutrino)} if flavor == 16 else labels


def _tau_decay(truth: MCTruth, neutrino: int) -> dict[str, float]:
    tree = truth.tree
    daughters = tree.daughters(neutrino)
    taus = daughters[is_tau(tree.particles["pdg"][daughters])]
    if len(taus) != 1:
        raise DataError(f"a charged current of a tau neutrino made {len(taus)} taus, not 1")
    products = tree.particles["pdg"][tree.daughters(int(taus[0]))]
    to_muon = bool(is_muon(products).any())
    return {
        "p_starting_cc_tau_muon_decay": to_muon,
        "p_starting_cc_tau_double_bang": not to_muon,
    }


def _of_cascade(cascade: Cascade, primary: Particle, volume: Volume) -> dict[str, float]:
    direction = vector_of(primary.zenith, primary.azimuth)[None]
    length = np.array([cascade.length])
    return _vertex(
        position=cascade.vertex,
        time=cascade.time,
        energy=cascade.energy,
        lengths=(cascade.length, float(volume.overlap(cascade.vertex[None], direction, length)[0])),
    )


def _of_entering_muon(truth: MCTruth, muon: NDArray[np.void], volume: Volume) -> dict[str, float]:
    return {
        **_of_track(entries(truth, muon, volume), muon, volume),
        "p_entering": 1,
        "p_entering_muon_single": 1,
        "p_entering_muon_single_stopping": bool(stop_inside(muon, volume)[0]),
    }


def _of_track(entry: Entries, track: NDArray[np.void], volume: Volume) -> dict[str, float]:
    """Vertex and lengths of a track [1] of type `PARTICLE`, which enters a volume."""
    inside = volume.overlap(positions(track), directions(track), track_lengths(track))
    return _vertex(
        position=entry.position[0],
        time=float(entry.time[0]),
        energy=float(entry.energy[0]),
        lengths=(float(track["length"][0]), float(inside[0])),
    )


def _of_shower(truth: MCTruth, volume: Volume, bundle: MuonBundle) -> dict[str, float]:
    """Labels of a cosmic ray: vertex and lengths of the leading muon, energy of all."""
    labels: dict[str, float] = {"p_entering": 1}
    muon = leading_muon(truth, volume)
    if muon is not None:
        labels |= _of_track(entries(truth, muon, volume), muon, volume)
    labels["EnergyVisible"] = float(bundle.entry_energy.sum())
    if bundle.multiplicity > 1:
        labels["p_entering_muon_bundle"] = 1
    elif bundle.multiplicity == 1:
        labels["p_entering_muon_single"] = 1
        is_stopping = muon is not None and stop_inside(muon, volume)[0]
        labels["p_entering_muon_single_stopping"] = bool(is_stopping)
    return labels


def _vertex(
    position: NDArray[np.float64], time: float, energy: float, lengths: tuple[float, float]
) -> dict[str, float]:
    """Labels of the vertex: position [3], time, energy there, length and that in the detector."""
    values = (energy, *lengths, time, *position.tolist())
    return dict(zip(_VERTEX, values, strict=True))
