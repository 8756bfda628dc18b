"""Events of the reference simulated again with our light and photomultipliers."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.detector.hadronic_light import hadronic_light_fraction
from dnn_reco.simulation.calibration.reference import (
    WINDOW,
    columns,
    directions,
    distance_from_line,
    distance_from_point,
    vertices,
)
from dnn_reco.simulation.detector import icecube86
from dnn_reco.simulation.energy_losses import Flights, combine, muon_sources, shower_sources
from dnn_reco.simulation.light import sample_photoelectrons
from dnn_reco.simulation.muons import IONISATION, RADIATION, propagate
from dnn_reco.simulation.photomultiplier import PhotomultiplierSettings, anode_pulses
from dnn_reco.simulation.sources import LightSources

_MARGIN = 300.0  # m of track outside the detector whose light is seen inside


@dataclass(frozen=True)
class Light:
    """h hits: event [h], DOM index [h], time [h] in ns, charge [h] in PE; no noise."""

    event: NDArray[np.int64]
    dom: NDArray[np.int64]
    time: NDArray[np.float64]
    charge: NDArray[np.float64]

    def where(self, mask: NDArray[np.bool_]) -> "Light":
        """Some of the hits."""
        return Light(self.event[mask], self.dom[mask], self.time[mask], self.charge[mask])

    def of(self, events: NDArray[np.int64]) -> "Light":
        """Hits of some events, renumbered."""
        number = np.full(self.event.max(initial=-1) + 1 + events.max(initial=0), -1)
        number[events] = np.arange(len(events))
        kept = self.where(number[self.event] >= 0)
        return Light(number[kept.event], kept.dom, kept.time, kept.charge)


def showers_again(truth: pd.DataFrame, rng: np.random.Generator) -> Light:
    """Light of showers, with the mean light of their hadrons, in the window of the tables."""
    position, time = vertices(truth)
    flights = Flights(len(truth), np.arange(len(truth)), position, time, directions(truth))
    electron, hadron = columns(truth, "E_em", "E_had").T
    light = hadron * hadronic_light_fraction(hadron)
    sources = combine(
        shower_sources(flights, electron, electron, False)
        + shower_sources(flights, hadron, light, True)
    )
    hits = _hits(sources, rng)
    _, delay = distance_from_point(position[hits.event], hits.dom)
    return _in_window(hits, time[hits.event] + delay)


def tracks_again(truth: pd.DataFrame, rng: np.random.Generator) -> Light:
    """Light of through-going muons of the energy at entry, in the window of the tables."""
    position, time = vertices(truth)
    direction = directions(truth)
    entry = columns(truth, "VertexX", "VertexY", "VertexZ")
    begin = entry - _MARGIN * direction
    ahead = ((begin - position) * direction).sum(axis=1)
    flights = Flights(
        len(truth), np.arange(len(truth)), begin, time + ahead / SPEED_OF_LIGHT, direction
    )
    ratio = IONISATION / RADIATION
    energy = columns(truth, "E_entry")[:, 0]
    energy = (energy + ratio) * np.exp(RADIATION * _MARGIN) - ratio
    length = columns(truth, "LengthInDetector")[:, 0] + 2 * _MARGIN
    muons = propagate(energy, np.zeros(len(truth)), length, 10.0, rng)
    hits = _hits(combine(muon_sources(flights, muons, rng)), rng)
    _, _, delay = distance_from_line(position[hits.event], direction[hits.event], hits.dom)
    return _in_window(hits, time[hits.event] + delay)


def _hits(sources: LightSources, rng: np.random.Generator) -> Light:
    photoelectrons = sample_photoelectrons(sources, icecube86(0.0).efficiency, rng)
    hits = anode_pulses(photoelectrons, PhotomultiplierSettings(), rng)
    return Light(hits.event, hits.dom, hits.time, hits.charge)


def _in_window(light: Light, expected: NDArray[np.float64]) -> Light:
    residual = light.time - expected
    return light.where((residual >= WINDOW[0]) & (residual < WINDOW[1]))
