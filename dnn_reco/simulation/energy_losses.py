"""Showers and tracks as light sources.

The functions that make sources return them in parts, in any order; `combine` sorts them by event.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.simulation.muons import ICE_DENSITY, MuonTracks
from dnn_reco.simulation.sources import LightSources

RADIATION_LENGTH = 0.39652 * 0.910 / ICE_DENSITY
"""Radiation length of the ice in m: 0.39652 m at the density of 0.910 g/cm3 (Rädel and Wiebusch,
Astropart. Phys. 44 (2013) 102), scaled to the density at the detector."""

TRACK_PER_GEV = 5.321
"""Length in m, at 0.910 g/cm3, of bare track that gives as much light as an electromagnetic shower
of 1 GeV (same source)."""

MIN_SINGLE_LOSS = 5.0
"""Sum of the losses in a piece of track, in GeV, from which on they are a shower of their own: as
much light as the bare track of 27 m."""

SLICES = 5
"""Number of sources of a long shower, each with the same share of its light."""

MIN_SLICED_ENERGY = 10.0
"""Energy in GeV below which a shower is one source."""


@dataclass(frozen=True)
class Flights:
    """m straight flights at the speed of light.

    Attributes
    ----------
    num_events
        Number of events that they belong to.
    event
        Event [m] of each.
    position, time
        Where [m, 3] in m and when [m] in ns they start.
    direction
        Unit vectors [m, 3].
    """

    num_events: int
    event: NDArray[np.int64]
    position: NDArray[np.float64]
    time: NDArray[np.float64]
    direction: NDArray[np.float64]

    def sources(
        self,
        flight: NDArray[np.int64],
        distance: NDArray[np.float64],
        energy: NDArray[np.float64] | float,
        length: NDArray[np.float64] | float,
    ) -> LightSources:
        """Sources [s] of some energy and length at a distance [s] in m from a flight's start."""
        return LightSources(
            num_events=self.num_events,
            event=self.event[flight],
            position=self.position[flight] + distance[:, None] * self.direction[flight],
            time=self.time[flight] + distance / SPEED_OF_LIGHT,
            direction=self.direction[flight],
            energy=np.zeros_like(distance) + energy,
            length=np.zeros_like(distance) + length,
        )


def combine(parts: list[LightSources]) -> LightSources:
    """The sources of all parts, sorted by event; all parts have the same events."""
    event = np.concatenate([part.event for part in parts])
    order = np.argsort(event, kind="stable")
    return LightSources(
        num_events=parts[0].num_events,
        event=event[order],
        position=np.concatenate([part.position for part in parts])[order],
        time=np.concatenate([part.time for part in parts])[order],
        direction=np.concatenate([part.direction for part in parts])[order],
        energy=np.concatenate([part.energy for part in parts])[order],
        length=np.concatenate([part.length for part in parts])[order],
    )


def shower_depth(energy: NDArray[np.float64], hadronic: bool, share: float) -> NDArray[np.float64]:
    """Distance [n] in m from its start within which a shower gives a share of its light.

    The longitudinal profile is a gamma distribution of shape a and scale X0/b: a = 2.018 + 0.632
    ln(E/GeV), b = 0.632 for electrons, a = 1.584 + 0.419 ln(E/GeV), b = 0.338 for pions (Rädel and
    Wiebusch, Astropart. Phys. 44 (2013) 102). Its quantiles are taken in the approximation of
    Wilson and Hilferty (PNAS 17 (1931) 684).

    Parameters
    ----------
    energy
        Energies [n] of the showers in GeV.
    hadronic
        Whether these are showers of hadrons, else electromagnetic.
    share
        Share of the light, 0 to 1.
    """
    intercept, slope, b = (
        (1.58357292, 0.41886807, 0.33833116) if hadronic else (2.01849, 0.63176, 0.63207)
    )
    shape = intercept + slope * np.log(np.maximum(energy, 1.0))
    z = NormalDist().inv_cdf(share)
    cube_root = np.maximum(1 - 1 / (9 * shape) + z / (3 * np.sqrt(shape)), 0.0)
    return np.asarray(RADIATION_LENGTH / b * shape * cube_root**3)


def shower_sources(
    flights: Flights, energy: NDArray[np.float64], light: NDArray[np.float64], hadronic: bool
) -> list[LightSources]:
    """One shower a flight as light sources along it; none where it gives no light.

    Showers of at least `MIN_SLICED_ENERGY` become `SLICES` sources, each at the median depth of
    its share of the profile, smaller ones a single source at the median depth of the whole.

    Parameters
    ----------
    flights
        Where the m showers start.
    energy
        Energies [m] in GeV.
    light
        Electromagnetic-equivalent energies [m] in GeV.
    hadronic
        Whether these are showers of hadrons.
    """
    parts = []
    is_long = energy >= MIN_SLICED_ENERGY
    for chosen, slices in ((~is_long, 1), (is_long, SLICES)):
        shower = np.flatnonzero(chosen & (light > 0))
        for i in range(slices):
            depth = shower_depth(energy[shower], hadronic, (i + 0.5) / slices)
            parts.append(flights.sources(shower, depth, light[shower] / slices, 0.0))
    return parts


def track_sources(
    flights: Flights, begin: NDArray[np.float64], end: NDArray[np.float64], stretch: float
) -> list[LightSources]:
    """Bare tracks, cut into stretches of equal length; none where `end` is not above `begin`.

    Parameters
    ----------
    flights
        Where the m tracks start.
    begin, end
        Distances [m] in m from the start between which a track gives light.
    stretch
        Largest length of a stretch in m.
    """
    count = np.ceil(np.maximum(end - begin, 0.0) / stretch).astype(np.int64)
    flight = np.repeat(np.arange(count.size), count)
    number = np.arange(flight.size) - np.repeat(np.cumsum(count) - count, count)
    length = ((end - begin) / np.maximum(count, 1))[flight]
    return [flights.sources(flight, begin[flight] + number * length, 0.0, length)]


def soft_losses(length: Any, log_energy: Any) -> Any:
    """Shower energy [n] in GeV with the light of all losses below 0.5 GeV along a muon's track.

    They add 0.1880 + 0.0206 ln(E/GeV) of its length to the track (Rädel and Wiebusch, Astropart.
    Phys. 38 (2012) 53).

    Parameters
    ----------
    length
        Lengths [n] in m of pieces of track, a numpy or torch array.
    log_energy
        ln(E/GeV) [n] of the muon there.
    """
    return length * (0.1880 + 0.0206 * log_energy) / TRACK_PER_GEV


def muon_sources(
    flights: Flights, tracks: MuonTracks, rng: np.random.Generator
) -> list[LightSources]:
    """Bare track and losses of muons in each of their bins.

    The single losses of a bin make one shower somewhere in it; weak ones, below
    `MIN_SINGLE_LOSS`, are spread along the track as the `soft_losses` are. All losses count as
    electromagnetic.

    Parameters
    ----------
    flights
        Where the m muons start.
    tracks
        The m muons.
    rng
        Source of randomness.
    """
    muon, number = np.nonzero(tracks.flown)
    flown = tracks.flown[muon, number]
    stochastic = tracks.stochastic[muon, number]
    begin = tracks.first[muon] + number * tracks.bin_length
    log_energy = np.log(np.maximum(tracks.energy[muon, number], 1.0))
    soft = soft_losses(flown, log_energy)
    is_weak = stochastic < MIN_SINGLE_LOSS
    along = flights.sources(muon, begin, soft + np.where(is_weak, stochastic, 0.0), flown)
    strong = np.flatnonzero(~is_weak)
    place = begin[strong] + rng.random(strong.size) * flown[strong]
    place += shower_depth(stochastic[strong], False, 0.5)
    return [along, flights.sources(muon[strong], place, stochastic[strong], 0.0)]
