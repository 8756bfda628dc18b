"""Events at the level of photo-electrons: cascades, and straight tracks through the detector.

Every photo-electron is known with its DOM and time. There is no noise, no charge, no saturation and
no trigger; the only response is the jitter of the photomultiplier.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from delays import JITTER
from hypotheses import Hypotheses, Model, cascade, track
from likelihood import Hits, Likelihood
from numpy.typing import NDArray

from dnn_reco.detector.hull import Hull, detector_hull
from dnn_reco.simulation.detector import icecube86
from dnn_reco.simulation.light import sample_photoelectrons
from dnn_reco.simulation.particles import entries_into, points_inside
from dnn_reco.simulation.sources import PhotoElectrons

MIN_HITS = 8
"""Events with fewer photo-electrons are dropped."""

_BLOCK = 50  # events sampled at once


@dataclass(frozen=True)
class Kind:
    """A kind of events.

    Attributes
    ----------
    name
        `cascades` or `tracks`.
    model
        Their light sources.
    is_track
        Whether they are tracks.
    log_energy
        Lowest and highest log10 of the energy in GeV, of which all are equally frequent.
    margin
        Cascades are spread evenly over the detector extended by this distance in m, tracks over the
        area that it shows to them.
    """

    name: str
    model: Model
    is_track: bool
    log_energy: tuple[float, float]
    margin: float

    @property
    def volume(self) -> Hull:
        """Where cascades are, and what tracks cross."""
        return detector_hull().extended(self.margin)

    def likelihood(self) -> Likelihood:
        """The likelihood of such events in the simulated detector."""
        return Likelihood(self.model, icecube86().efficiency)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("cascades", cascade, False, (2.5, 4.5), -30.0),
        Kind("tracks", track, True, (2.5, 5.0), -30.0),
    )
}


@dataclass(frozen=True)
class Sample:
    """n events: the truth, and the photo-electrons with their events, sorted by event."""

    truth: Hypotheses
    photoelectrons: PhotoElectrons

    def hits(self, number: int) -> Hits:
        """The photo-electrons of an event."""
        light = self.photoelectrons
        start, stop = np.searchsorted(light.event, [number, number + 1])
        return Hits(light.dom[start:stop], light.time[start:stop])

    def num_hits(self) -> NDArray[np.int64]:
        """Number of photo-electrons [n]."""
        return np.bincount(self.photoelectrons.event, minlength=len(self.truth))


def draw(kind: Kind, num: int, rng: np.random.Generator) -> Hypotheses:
    """Random events [num] of a kind: isotropic directions, at time 0."""
    direction = rng.normal(size=(num, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    if kind.is_track:
        position = entries_into(kind.volume, direction, rng)
        position -= (position * direction).sum(axis=1, keepdims=True) * direction
    else:
        position = points_inside(kind.volume, num, rng)
    log_energy = rng.uniform(*kind.log_energy, num)
    columns = (position, np.zeros(num), direction, log_energy)
    return Hypotheses(*(torch.from_numpy(column) for column in columns))


def observe(kind: Kind, truth: Hypotheses, rng: np.random.Generator) -> PhotoElectrons:
    """Photo-electrons of events, one by one, with jitter, sorted by event and DOM and time."""
    sources = kind.model(truth).light_sources()
    light = sample_photoelectrons(sources, icecube86().efficiency, rng, max_sampled=sys.maxsize)
    time = light.time + rng.normal(0.0, JITTER, len(light.time))
    order = np.lexsort((time, light.dom, light.event))
    columns = (light.event, light.dom, time, light.weight)
    return PhotoElectrons(light.num_events, *(column[order] for column in columns))


def samples(kind: Kind, num: int, seed: list[int]) -> Iterator[Sample]:
    """Random events in blocks, a function of kind and seed; those with `MIN_HITS` only."""
    rng = np.random.default_rng([*seed, kind.is_track])
    while num > 0:
        truth = draw(kind, _BLOCK, rng)
        light = observe(kind, truth, rng)
        enough = np.bincount(light.event, minlength=_BLOCK) >= MIN_HITS
        enough &= np.cumsum(enough) <= num
        kept = enough[light.event]
        event = (np.cumsum(enough) - 1)[light.event[kept]]
        columns = (light.dom[kept], light.time[kept], light.weight[kept])
        chosen = truth[np.flatnonzero(enough).tolist()]
        num -= len(chosen)
        yield Sample(chosen, PhotoElectrons(len(chosen), event, *columns))
