"""Events with their truth and their light sources."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.detector.hadronic_light import hadronic_light_fraction
from dnn_reco.detector.hull import detector_hull, label_hull
from dnn_reco.simulation.energy_losses import (
    Flights,
    combine,
    muon_sources,
    shower_sources,
    track_sources,
)
from dnn_reco.simulation.interactions import sample_hadronic_light
from dnn_reco.simulation.muons import MuonTracks, propagate
from dnn_reco.simulation.particles import REACH, Interactions, ParticleSettings, generate
from dnn_reco.simulation.sources import LightSources

STRETCH = 10.0
"""Length in m of the pieces of a muon's track, unless another is asked for."""


@dataclass(frozen=True)
class SimulationTruth(Interactions):
    """n events: the interaction, and what became of the muon.

    Attributes
    ----------
    muon_length
        Length [n] in m of the muon's track from start to stop; 0 without muon.
    muon_entry_energy
        Energy [n] in GeV of the muon where it enters the label hull, where it starts if that is
        inside, or where it passes closest to the origin if it misses.
    muon_exit_energy
        Energy [n] in GeV of the muon where it leaves the label hull; 0 if it never does.
    muon_passes
        Whether there is a muon [n] that comes within `REACH` of the detector.
    losses_begin
        Distance [n] in m from the start of the muon to the first stretch of `muon_losses`.
    muon_losses
        Energy [n, s] in GeV that the muon loses at once, in single losses, in each stretch of its
        track of `STRETCH` within `REACH` of the detector.
    deposited_energy
        Electromagnetic-equivalent energy [n] in GeV of all showers and single muon losses within
        `REACH` of the detector, hadrons with their mean light.
    """

    muon_length: NDArray[np.float64]
    muon_entry_energy: NDArray[np.float64]
    muon_exit_energy: NDArray[np.float64]
    muon_passes: NDArray[np.bool_]
    losses_begin: NDArray[np.float64]
    muon_losses: NDArray[np.float64]
    deposited_energy: NDArray[np.float64]

    def shifted(self, delay: NDArray[np.float64]) -> "SimulationTruth":
        """The same events, each later by `delay` [n] in ns."""
        return replace(self, time=self.time + delay)


def join_truths(parts: Sequence[SimulationTruth]) -> SimulationTruth:
    """The events of all parts, one after the other."""
    most = max(part.muon_losses.shape[1] for part in parts)
    padded = [
        replace(part, muon_losses=np.pad(part.muon_losses, ((0, 0), (0, most - n))))
        for part in parts
        for n in part.muon_losses.shape[1:]
    ]
    names = [field.name for field in fields(SimulationTruth)]
    return SimulationTruth(
        **{name: np.concatenate([getattr(part, name) for part in padded]) for name in names}
    )


def simulate_particles(
    settings: ParticleSettings, num_events: int, rng: np.random.Generator
) -> tuple[SimulationTruth, LightSources]:
    """Generate events and follow their particles.

    Parameters
    ----------
    settings
        What to generate.
    num_events
        How many events n.
    rng
        Source of all randomness: equal generators give equal events.

    Returns
    -------
    truth, sources
        The n events, whose interactions happen at time 0, and their light within `REACH` of the
        detector. An event may have no light at all.
    """
    return follow(generate(settings, num_events, rng), rng)


def follow(
    interactions: Interactions, rng: np.random.Generator, bin_length: float = STRETCH
) -> tuple[SimulationTruth, LightSources]:
    """Follow the particles of given interactions: truth and light, as `simulate_particles`.

    Parameters
    ----------
    interactions
        The events.
    rng
        Source of all randomness.
    bin_length
        Length in m of the pieces of a track, each of which has its own sources.
    """
    event = np.flatnonzero(interactions.muon_energy > 0)
    tracks = _muon_tracks(interactions.select(event), bin_length, rng)
    truth = _truth(interactions, event, tracks)
    return truth, _light(interactions, event, tracks, rng)


def _muon_tracks(muons: Interactions, bin_length: float, rng: np.random.Generator) -> MuonTracks:
    surroundings = detector_hull().extended(REACH)
    enter, leave = surroundings.crossing(muons.lepton_end, muons.lepton_direction)
    return propagate(muons.muon_energy, enter, leave, bin_length, rng)


def _truth(
    interactions: Interactions, event: NDArray[np.int64], tracks: MuonTracks
) -> SimulationTruth:
    n = interactions.energy.size
    muons = interactions.select(event)
    line = muons.lepton_end, muons.lepton_direction
    entry = label_hull().first_contact(*line, tracks.length)
    _, leave = label_hull().crossing(*line)
    exit_energy = tracks.energy_at(np.where(leave >= 0, leave, tracks.length))
    return SimulationTruth(
        **vars(interactions),
        muon_length=_scatter(tracks.length, event, n),
        muon_entry_energy=_scatter(tracks.energy_at(entry), event, n),
        muon_exit_energy=_scatter(exit_energy, event, n),
        muon_passes=_scatter(tracks.flown.sum(axis=1), event, n) > 0,
        losses_begin=_scatter(tracks.first, event, n),
        muon_losses=_scatter(tracks.stochastic, event, n),
        deposited_energy=_scatter(tracks.stochastic.sum(axis=1), event, n)
        + _deposited_in_showers(interactions),
    )


def _scatter(
    values: NDArray[np.float64], event: NDArray[np.int64], num_events: int
) -> NDArray[np.float64]:
    filled = np.zeros((num_events, *values.shape[1:]))
    filled[event] = values
    return filled


def _deposited_in_showers(interactions: Interactions) -> NDArray[np.float64]:
    total = np.zeros(interactions.energy.size)
    for position, electron, hadron in (
        (interactions.vertex, interactions.electron_energy, interactions.hadron_energy),
        (
            interactions.lepton_end,
            interactions.decay_electron_energy,
            interactions.decay_hadron_energy,
        ),
    ):
        light = electron + hadron * hadronic_light_fraction(hadron)
        total += np.where(_within_reach(position), light, 0.0)
    return total


def _within_reach(position: NDArray[np.float64]) -> NDArray[np.bool_]:
    return detector_hull().extended(REACH).contains(position)


def _light(
    interactions: Interactions,
    event: NDArray[np.int64],
    tracks: MuonTracks,
    rng: np.random.Generator,
) -> LightSources:
    n = interactions.energy.size
    everyone = np.arange(n)
    start = interactions.vertex, interactions.time
    decay = interactions.lepton_end, interactions.time + interactions.tau_length / SPEED_OF_LIGHT
    along_neutrino = Flights(n, everyone, *start, interactions.direction)
    along_lepton = Flights(n, everyone, *start, interactions.lepton_direction)
    behind_tau = Flights(n, everyone, *decay, interactions.lepton_direction)
    muons = Flights(n, event, *(part[event] for part in (*decay, interactions.lepton_direction)))

    parts = _tau_light(along_lepton, interactions.tau_length, tracks.bin_length)
    for flights, energy, hadronic in (
        (along_neutrino, interactions.hadron_energy, True),
        (along_lepton, interactions.electron_energy, False),
        (behind_tau, interactions.decay_hadron_energy, True),
        (behind_tau, interactions.decay_electron_energy, False),
    ):
        light = sample_hadronic_light(energy, rng) if hadronic else energy
        light = np.where(_within_reach(flights.position), light, 0.0)
        parts += shower_sources(flights, energy, light, hadronic)
    return combine(parts + muon_sources(muons, tracks, rng))


def _tau_light(
    flights: Flights, tau_length: NDArray[np.float64], stretch: float
) -> list[LightSources]:
    crossing = detector_hull().extended(REACH).crossing(flights.position, flights.direction)
    begin, end = (np.nan_to_num(np.clip(edge, 0, tau_length)) for edge in crossing)
    return track_sources(flights, begin, end, stretch)
