"""Photo-electrons in the DOMs from showers and tracks.

Each pair of a source and a DOM has an expected number of photo-electrons and a distribution of
delays (`propagation`), which depend on distance, angles and the ice on the way (`ice`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dnn_reco.detector.constants import CHERENKOV_COSINE, GROUP_INDEX, SPEED_OF_LIGHT
from dnn_reco.detector.geometry import NUM_DOMS, NUM_DOMS_PER_STRING, NUM_STRINGS, dom_positions
from dnn_reco.simulation.energy_losses import TRACK_PER_GEV
from dnn_reco.simulation.ice import Columns, mean_coefficients, south_pole_ice
from dnn_reco.simulation.propagation import (
    EARLY_POWER,
    LATE_POWER,
    delay_distribution,
    fitted_constants,
    fitted_delays,
    photoelectrons_per_gev,
    shower_emission,
)
from dnn_reco.simulation.sources import LightSources, PhotoElectrons

MAX_SAMPLED = 100
"""Default largest number of times drawn for one source in one DOM; each then stands for several."""

_BLOCK = 256  # sources at once, for at most a million pairs
_MIN_DISTANCE = 1.0  # m; the formulas are for points, showers and DOMs are not
_REACH, _REACH_PER_LOG = 260.0, 45.0  # m: less than half a percent of the light goes farther
_FAINT = 0.03  # photo-electrons
_STRING_KEY = 1e5  # m, more than any depth
_EMISSION_BINS = 4096

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SourceDomPairs:
    """m pairs of a source and a DOM.

    Attributes
    ----------
    source, dom
        Number of the source [m] and DOM index [m].
    distance
        Distance [m] in m from the middle of the source to the DOM, at least 1 m.
    cos_emission
        Cosine [m] of the angle between the flight and the direction to the DOM.
    mean
        Expected photo-electrons [m].
    scattering, absorption
        Mean 1/λ_e and 1/λ_a [m] in 1/m of the ice on the way.
    """

    source: NDArray[np.int64]
    dom: NDArray[np.int64]
    distance: Floats
    cos_emission: Floats
    mean: Floats
    scattering: Floats
    absorption: Floats

    def select(self, index: NDArray[np.int64]) -> "SourceDomPairs":
        """Some of the pairs, by index."""
        return SourceDomPairs(*(values[index] for values in vars(self).values()))


def expected_photoelectrons(
    sources: LightSources, efficiency: NDArray[np.float64]
) -> SourceDomPairs:
    """Pairs of sources and DOMs, with the mean number of photo-electrons of each.

    DOMs too far for a source to matter are skipped, and so are dead ones.

    Parameters
    ----------
    sources
        The sources of some events.
    efficiency
        Efficiency [5160] of each DOM relative to a standard one; 0 for dead ones.
    """
    parts = []
    for start, block in _blocks(sources):
        source, dom = pairs_within_reach(block)
        pairs = _light(block, source, dom, np.ones(len(source), dtype=np.float32), efficiency)
        parts.append(vars(pairs) | {"source": pairs.source + start})
    return SourceDomPairs(
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    )


def pairs_within_reach(sources: LightSources) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Source and DOM [m] of all pairs near enough for light, dead DOMs included.

    DOM indices run down the strings: on each, those within reach are a range, found by bisection.

    Parameters
    ----------
    sources
        The sources; memory is needed for each pair of a source and a string.
    """
    lines = _string_lines()
    centre = _centres(sources)
    reach = _REACH + _REACH_PER_LOG * np.log(np.maximum(_energy(sources), 1.0))
    across = (centre[:, :1] - lines.x) ** 2 + (centre[:, 1:2] - lines.y) ** 2
    source, string = np.nonzero(across < reach[:, None] ** 2)
    half = np.sqrt(reach[source] ** 2 - across[source, string])
    key = string * _STRING_KEY - centre[source, 2]
    first = np.searchsorted(lines.key, key - half)
    count = np.searchsorted(lines.key, key + half) - first
    before = np.cumsum(count) - count
    dom = np.arange(count.sum()) + np.repeat(first - before, count)
    return np.repeat(source, count), dom


def sample_photoelectrons(
    sources: LightSources,
    efficiency: NDArray[np.float64],
    rng: np.random.Generator,
    max_sampled: int = MAX_SAMPLED,
) -> PhotoElectrons:
    """Draw photo-electrons and their arrival times.

    Numbers are Poisson distributed. No more than `max_sampled` times are drawn for a source in a
    DOM; whole weights make up the rest.

    Parameters
    ----------
    sources
        The sources of some events.
    efficiency
        Efficiency [5160] of each DOM relative to a standard one; 0 for dead ones.
    rng
        Source of all randomness: equal generators give equal photo-electrons.
    max_sampled
        Largest number of arrival times drawn for one source in one DOM.
    """
    parts = []
    for _, block in _blocks(sources):
        pairs = _light(block, *_promising_neighbours(block, rng), efficiency)
        pair, weight = _draw(pairs.mean, rng, max_sampled)
        hits = pairs.select(pair)
        time = _arrival_times(block, hits, rng)
        parts.append((block.event[hits.source], hits.dom, time, weight))
    event, dom, time, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return PhotoElectrons(sources.num_events, event, dom, time, weight)


def _blocks(sources: LightSources) -> Iterator[tuple[int, LightSources]]:
    """Some sources at a time, with the number of the first; one empty block if there are none."""
    for start in range(0, max(len(sources.event), 1), _BLOCK):
        yield start, sources.part(slice(start, start + _BLOCK))


def _promising_neighbours(
    sources: LightSources, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Source and DOM [m] of pairs as `pairs_within_reach`, and how many pairs [m] each stands for.

    Most pairs have next to no light. Of those that get less than `_FAINT` photo-electrons in clear
    ice a random share is kept, which gets all the light instead.
    """
    source, dom = pairs_within_reach(sources)
    centre = _centres(sources).astype(np.float32)
    squared = np.zeros(len(source), dtype=np.float32)
    for axis, place in enumerate(_dom_positions()):
        squared += (place[dom] - centre[source, axis]) ** 2
    clear = _clear_ice_light()
    metres = np.minimum(np.sqrt(squared).astype(np.int32), len(clear) - 1)
    share = clear[metres] * (_energy(sources) / _FAINT).astype(np.float32)[source]
    kept = np.flatnonzero(rng.random(len(share), dtype=np.float32) < share)
    return source[kept], dom[kept], 1 / np.minimum(share[kept], 1)


def _light(
    sources: LightSources,
    source: NDArray[np.int64],
    dom: NDArray[np.int64],
    multiplicity: Floats,
    efficiency: NDArray[np.float64],
) -> SourceDomPairs:
    """Geometry and light of pairs; `multiplicity` [m] and `efficiency` [5160] multiply it."""
    centre, direction = _centres(sources), sources.direction.astype(np.float32)
    offset = [
        place[dom] - centre[:, axis].astype(np.float32)[source]
        for axis, place in enumerate(_dom_positions())
    ]
    distance = np.sqrt(sum(component**2 for component in offset))
    distance = np.maximum(distance, np.float32(_MIN_DISTANCE))
    along = sum(direction[:, axis][source] * offset[axis] for axis in range(3))
    cos_emission = np.clip(along / distance, -1, 1)
    at_source = _single_precision(south_pole_ice().columns(centre[:, 2]))
    scattering, absorption = mean_coefficients(np, at_source[source], _dom_columns()[dom])
    emission = _emission_table()[((cos_emission + 1) * (_EMISSION_BINS / 2)).astype(np.int32)]
    mean = photoelectrons_per_gev(
        np,
        fitted_constants(),
        distance,
        cos_emission,
        offset[2] / distance,
        emission,
        scattering,
        absorption,
    )
    mean *= _energy(sources).astype(np.float32)[source] * multiplicity
    mean *= efficiency.astype(np.float32)[dom]
    alive = np.flatnonzero(mean > 0)
    pairs = SourceDomPairs(source, dom, distance, cos_emission, mean, scattering, absorption)
    return pairs if len(alive) == len(mean) else pairs.select(alive)


def _draw(
    mean: Floats, rng: np.random.Generator, max_sampled: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers of the pairs that a photo-electron comes from [p], and weights [p].

    Faint pairs share one Poisson number, which is dealt out to them in proportion to their light:
    the same as one for each, in less time.
    """
    bright = np.flatnonzero(mean > max_sampled)
    sums = np.cumsum(np.where(mean > max_sampled, 0, mean), dtype=np.float64)
    total = sums[-1] if len(sums) else 0.0
    faint = np.searchsorted(sums, total * rng.random(rng.poisson(total)), side="right")
    faint = np.minimum(faint, len(mean) - 1)

    number = rng.poisson(mean[bright].astype(np.float64))
    sampled = np.minimum(number, max_sampled)
    quotient, rest = np.divmod(number, np.maximum(sampled, 1))
    which = np.arange(sampled.sum()) - np.repeat(np.cumsum(sampled) - sampled, sampled)
    weight = np.repeat(quotient, sampled) + (which < np.repeat(rest, sampled))
    pair = np.concatenate([faint, np.repeat(bright, sampled)])
    return pair, np.concatenate([np.ones(len(faint)), weight])


def _arrival_times(
    sources: LightSources, hits: SourceDomPairs, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Times [p] in ns at which photo-electrons of hit pairs are released.

    Unscattered light comes from the start of a shower, or from where on the stretch of track the
    Cherenkov cone points to the DOM, else from the end nearer to that place.
    """
    offset = dom_positions()[hits.dom] - sources.position[hits.source]
    along = (offset * sources.direction[hits.source]).sum(axis=1)
    across = np.sqrt(np.maximum((offset**2).sum(axis=1) - along**2, 0))
    emission = along - across * CHERENKOV_COSINE / np.sqrt(1 - CHERENKOV_COSINE**2)
    emission = np.clip(emission, 0, sources.length[hits.source])
    distance = np.hypot(along - emission, across)
    delays = delay_distribution(
        np, fitted_delays(), hits.distance, hits.cos_emission, hits.scattering, hits.absorption
    )
    late = rng.random(len(distance), dtype=np.float32) < delays.late_share
    variate = rng.standard_gamma(np.where(late, delays.late_shape, delays.early_shape))
    delay = np.where(late, delays.late_scale, delays.early_scale)
    delay = delay * variate ** np.where(late, LATE_POWER, EARLY_POWER)
    straight = sources.time[hits.source] + (emission + distance * GROUP_INDEX) / SPEED_OF_LIGHT
    return np.asarray(straight + delay)


def _energy(sources: LightSources) -> NDArray[np.float64]:
    """Energies [s] in GeV of showers with as much light as the sources."""
    return sources.energy + sources.length / TRACK_PER_GEV


def _centres(sources: LightSources) -> NDArray[np.float64]:
    """Middles [s, 3] of the sources in m."""
    return sources.position + sources.length[:, None] / 2 * sources.direction


def _single_precision(columns: Columns) -> Columns:
    return Columns(*(values.astype(np.float32) for values in vars(columns).values()))


@dataclass(frozen=True)
class _StringLines:
    """Mean x, y [86] of the strings, and keys [5160] of the DOMs, which ascend with the index."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    key: NDArray[np.float64]


@cache
def _string_lines() -> _StringLines:
    place = dom_positions().reshape(NUM_STRINGS, NUM_DOMS_PER_STRING, 3)
    string = np.arange(NUM_DOMS) // NUM_DOMS_PER_STRING
    key = string * _STRING_KEY - dom_positions()[:, 2]
    return _StringLines(place[:, :, 0].mean(axis=1), place[:, :, 1].mean(axis=1), key)


@cache
def _dom_positions() -> Floats:
    """x, y, z [3, 5160] of the DOMs."""
    return np.ascontiguousarray(dom_positions().T, dtype=np.float32)


@cache
def _dom_columns() -> Columns:
    return _single_precision(south_pole_ice().columns(dom_positions()[:, 2]))


@cache
def _emission_table() -> Floats:
    centres = (np.arange(_EMISSION_BINS + 1) + 0.5) * 2 / _EMISSION_BINS - 1
    return shower_emission(centres).astype(np.float32)


@cache
def _clear_ice_light() -> Floats:
    """Photo-electrons per GeV by distance in m, in ice as clear as the clearest layers."""
    ice, constants = south_pole_ice(), fitted_constants()
    distance = np.arange(1500) + 0.5
    clear = [np.quantile(values, 0.1) for values in (ice.scattering, ice.absorption)]
    yields = photoelectrons_per_gev(np, constants, distance, *(np.zeros(1),) * 2, 1.0, *clear)
    return np.asarray(yields, dtype=np.float32)
