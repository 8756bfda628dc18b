"""The labels of the table `LabelsDeepLearning`, from the truth of simulated events."""

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.detector.hadronic_light import hadronic_light_fraction
from dnn_reco.detector.hull import detector_hull, label_hull
from dnn_reco.simulation.energy_losses import shower_depth
from dnn_reco.simulation.particles import CHARGED_CURRENT, NEUTRAL_CURRENT
from dnn_reco.simulation.truth import SimulationTruth

STARTING_EXTENSION = -60.0
"""An event is starting if its interaction is inside the detector hull extended by this, in m: at
least 60 m deep, as in the collaboration's files."""

MIN_TRACK_LENGTH = 30.0
MIN_ENTRY_DISTANCE = 1.0
MUON_THRESHOLD = 20.0  # GeV

EXTENT_SHARE = 0.95  # of a shower's light within its length


def labels(truth: SimulationTruth) -> dict[str, NDArray[np.float64]]:
    """All columns of `LabelsDeepLearning`, sorted by name.

    Energies are in GeV, positions and lengths in m, times in ns, angles in rad, flags 0 or 1.

    Of every event exactly one of `p_starting`, `p_entering` and `p_outside_cascade` is 1. The
    vertex is the interaction, for starting events and outside cascades; for `p_entering`, muons
    and taus from outside, it is where the track enters the label hull or, if it misses,
    passes closest to the origin, and `EnergyVisible` is the muon's energy there (a tau's whole
    energy). Otherwise `EnergyVisible` counts hadrons with their mean light, muons and taus with
    their whole energy. `Length` reaches from the interaction (muon, tau) to the end of what comes
    out of it; showers end where 95 % of their light is given.

    Parameters
    ----------
    truth
        The n events.

    Returns
    -------
    labels
        Values [n] by name.
    """
    columns = {
        **_primary(truth),
        **_kind_of_event(truth),
        **_vertex(truth),
        **_muons_at_entry(truth),
        "TotalDepositedEnergy": truth.deposited_energy,
    }
    values = {name: column.astype(np.float64) for name, column in sorted(columns.items())}
    is_long = values["Length"] > MIN_TRACK_LENGTH
    values["p_is_track"] = (truth.muon_passes & is_long).astype(np.float64)
    return dict(sorted(values.items()))


def _is_neutrino(truth: SimulationTruth) -> NDArray[np.bool_]:
    return np.isin(np.abs(truth.pdg), (12, 14, 16))


def _is_starting(
    truth: SimulationTruth, extension: float = STARTING_EXTENSION
) -> NDArray[np.bool_]:
    return _is_neutrino(truth) & detector_hull().extended(extension).contains(truth.vertex)


def _is_track_from_outside(truth: SimulationTruth) -> NDArray[np.bool_]:
    """Whether a muon or tau comes straight from the vertex [n], and the vertex is outside."""
    has_track = (truth.muon_energy > 0) | (truth.tau_energy > 0)
    return has_track & ~_is_starting(truth)


def _primary(truth: SimulationTruth) -> dict[str, NDArray[np.float64]]:
    direction = truth.direction
    return {
        "PrimaryEnergy": truth.energy,
        "PrimaryZenith": truth.zenith,
        "PrimaryAzimuth": truth.azimuth,
        "PrimaryDirectionX": direction[:, 0],
        "PrimaryDirectionY": direction[:, 1],
        "PrimaryDirectionZ": direction[:, 2],
        "num_coincident_events": np.ones_like(truth.energy),
    }


def _kind_of_event(truth: SimulationTruth) -> dict[str, NDArray[np.bool_]]:
    starting, entering = _is_starting(truth), _is_track_from_outside(truth)
    flavor = np.abs(truth.pdg)
    charged = starting & (truth.interaction == CHARGED_CURRENT)
    tau = charged & (flavor == 16)
    single_muon = entering & (truth.tau_energy == 0)
    enter, leave = label_hull().crossing(truth.vertex, truth.lepton_direction)
    stops_inside = (leave > truth.muon_length + 1e-8) & (enter <= truth.muon_length)
    never = np.zeros_like(starting)
    return {
        "p_neutrino": _is_neutrino(truth),
        "p_starting": starting,
        "p_starting_300m": _is_starting(truth, 300.0),
        "p_starting_cc": charged,
        "p_starting_cc_e": charged & (flavor == 12),
        "p_starting_cc_mu": charged & (flavor == 14),
        "p_starting_cc_tau": tau,
        "p_starting_cc_tau_muon_decay": tau & (truth.muon_energy > 0),
        "p_starting_cc_tau_double_bang": tau & (truth.muon_energy == 0),
        "p_starting_nc": starting & (truth.interaction == NEUTRAL_CURRENT),
        "p_starting_glashow": never,
        "p_entering": entering,
        "p_entering_muon_single": single_muon,
        "p_entering_muon_single_stopping": single_muon & stops_inside,
        "p_entering_muon_bundle": never,
        "p_outside_cascade": ~starting & ~entering,
    }


def _vertex(truth: SimulationTruth) -> dict[str, NDArray[np.float64]]:
    entering = _is_track_from_outside(truth)
    is_tau = truth.tau_energy > 0
    track_length = np.where(is_tau, truth.tau_length, truth.muon_length)
    line = truth.vertex, truth.lepton_direction
    advance = np.where(entering, label_hull().first_contact(*line, track_length), 0.0)
    vertex = truth.vertex + advance[:, None] * truth.lepton_direction

    hadrons = truth.hadron_energy * hadronic_light_fraction(truth.hadron_energy)
    muon_from_vertex = np.where(is_tau, 0.0, truth.muon_energy)
    visible = truth.electron_energy + hadrons + truth.tau_energy + muon_from_vertex
    track_energy = np.where(is_tau, truth.tau_energy, truth.muon_entry_energy)

    length = np.where(entering, track_length, _extent(truth))
    direction = np.where(entering[:, None], truth.lepton_direction, truth.direction)
    return {
        "VertexX": vertex[:, 0],
        "VertexY": vertex[:, 1],
        "VertexZ": vertex[:, 2],
        "VertexTime": truth.time + advance / SPEED_OF_LIGHT,
        "EnergyVisible": np.where(entering, track_energy, visible),
        "Length": length,
        "LengthInDetector": label_hull().overlap(truth.vertex, direction, length),
    }


def _extent(truth: SimulationTruth) -> NDArray[np.float64]:
    """Largest distance [n] in m from the vertex that a particle or shower reaches."""

    def depth(energy: NDArray[np.float64], hadronic: bool) -> NDArray[np.float64]:
        return np.where(energy > 1, shower_depth(energy, hadronic, EXTENT_SHARE), 0.0)

    at_vertex = np.maximum(depth(truth.electron_energy, False), depth(truth.hadron_energy, True))
    at_decay = np.maximum(
        depth(truth.decay_electron_energy, False), depth(truth.decay_hadron_energy, True)
    )
    return np.maximum(at_vertex, truth.tau_length + np.maximum(at_decay, truth.muon_length))


def _muons_at_entry(truth: SimulationTruth) -> dict[str, NDArray[np.bool_]]:
    """Muons that come from outside the label hull into it; one at most, so it is the leading."""
    enter, _ = label_hull().crossing(truth.lepton_end, truth.lepton_direction)
    enters = (enter > MIN_ENTRY_DISTANCE) & (enter <= truth.muon_length)
    return {
        "num_muons_at_entry": enters,
        "num_muons_at_entry_above_threshold": enters & (truth.muon_entry_energy >= MUON_THRESHOLD),
        "leading_energy_rel_entry": enters,
    }
