"""Input of the fit: the light of showers in DOMs, summed over pulses."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.detector.geometry import NUM_DOMS, dom_positions
from dnn_reco.simulation.calibration.reference import (
    CHARGE_PER_PHOTOELECTRON,
    NOISE_CHARGE,
    WINDOW,
    ReferencePulses,
    columns,
    directions,
    distance_from_point,
    vertices,
)
from dnn_reco.simulation.detector import HIGH_EFFICIENCY, high_efficiency_doms
from dnn_reco.simulation.energy_losses import shower_depth
from dnn_reco.simulation.propagation import EARLY_POWER

MIN_DISTANCE, MAX_DISTANCE = 8.0, 300.0
_MIN_DELAY = 5.0  # ns; below, the resolution of the pulses matters
_SEED_OF_SUBSET = 1
# Shares of the charge in the window and mean delays [ns] of after- and late pulses
# (photomultiplier.py has the distributions).
_AFTERPULSES = (0.023, 1735.0)
_LATE_PULSES = (0.035, 57.0)


@dataclass(frozen=True)
class Showers:
    """n showers as point sources: place [n, 3], time, direction [n, 3], energy [n] in GeV."""

    position: NDArray[np.float64]
    time: NDArray[np.float64]
    direction: NDArray[np.float64]
    energy: NDArray[np.float64]


@dataclass(frozen=True)
class ShowerDomPairs:
    """m pairs of a shower and a DOM, those without light included.

    Attributes
    ----------
    distance, cos_emission, cos_arrival
        Geometry [m] as in `photoelectrons_per_gev`.
    source_z, dom_z
        Depths z [m] in m.
    energy
        Energy [m] in GeV times the relative efficiency of the DOM.
    photoelectrons, noise
        Observed charge over the charge of a photo-electron [m], and the part of it expected from
        noise.
    delayed
        Weight [m] of the pulses whose delays are summed up, in photo-electrons without noise and
        afterpulses.
    log_delay, root_delay
        Sums [m] over these of ln t and of t^(1/`EARLY_POWER`), t the delay in ns.
    """

    distance: NDArray[np.float64]
    cos_emission: NDArray[np.float64]
    cos_arrival: NDArray[np.float64]
    source_z: NDArray[np.float64]
    dom_z: NDArray[np.float64]
    energy: NDArray[np.float64]
    photoelectrons: NDArray[np.float64]
    noise: NDArray[np.float64]
    delayed: NDArray[np.float64]
    log_delay: NDArray[np.float64]
    root_delay: NDArray[np.float64]

    def __getitem__(self, index: NDArray[np.bool_]) -> "ShowerDomPairs":
        return ShowerDomPairs(*(values[index] for values in vars(self).values()))


def shower_rows(truth: pd.DataFrame) -> NDArray[np.int64]:
    """Rows of the showers to fit: in the detector, 1 to 30 TeV, where nearly all trigger."""
    x, y, z, energy = columns(truth, "int_x", "int_y", "int_z", "EnergyVisible").T
    bright = (energy > 3000) | (z < -150) | (z > 20)
    chosen = (truth["kind"].to_numpy() < 2) & (np.hypot(x, y) < 450) & (np.abs(z) < 560)
    return np.flatnonzero(chosen & (energy > 1000) & (energy < 30_000) & bright)


def showers(truth: pd.DataFrame) -> Showers:
    """Showers at the median depth of their light."""
    position, time = vertices(truth)
    direction = directions(truth)
    energy = columns(truth, "EnergyVisible")[:, 0]
    depth = shower_depth(energy, False, 0.5)
    return Showers(
        position + depth[:, None] * direction, time + depth / SPEED_OF_LIGHT, direction, energy
    )


def shower_pairs(
    truth: pd.DataFrame, pulses: ReferencePulses, working: NDArray[np.bool_]
) -> ShowerDomPairs:
    """Pairs of all showers and the working DOMs around them.

    Parameters
    ----------
    truth
        Rows of the showers.
    pulses
        Their pulses.
    working
        Mask [5160] of working DOMs.
    """
    sources = showers(truth)
    event = shower_of_pulses(truth, pulses)
    sums = _sums_over_pulses(sources, event, pulses)

    near = _near(sources, working)
    source, dom = np.divmod(near, NUM_DOMS)
    offset = dom_positions()[dom] - sources.position[source]
    distance = np.linalg.norm(offset, axis=1)
    efficiency = np.where(high_efficiency_doms(), HIGH_EFFICIENCY, 1.0)[dom]
    noise = NOISE_CHARGE * efficiency * (WINDOW[1] - WINDOW[0]) / 1e3 / CHARGE_PER_PHOTOELECTRON
    charge, log_delay, root_delay = (values[near] / CHARGE_PER_PHOTOELECTRON for values in sums)
    late = 1 + _AFTERPULSES[0]
    end, power = WINDOW[1], 1 / EARLY_POWER
    return ShowerDomPairs(
        distance=distance,
        cos_emission=(offset * sources.direction[source]).sum(axis=1) / distance,
        cos_arrival=offset[:, 2] / distance,
        source_z=sources.position[source, 2],
        dom_z=dom_positions()[dom, 2],
        energy=sources.energy[source] * efficiency,
        photoelectrons=charge,
        noise=noise,
        # Means of ln t and t^power over noise, which is uniform in the window.
        delayed=charge / late - noise,
        log_delay=log_delay - noise * (np.log(end) - 1),
        root_delay=root_delay - noise * end**power / (1 + power),
    )


def shower_of_pulses(truth: pd.DataFrame, pulses: ReferencePulses) -> NDArray[np.int64]:
    """Row [p] of each pulse in the truth, whose index are the numbers of the events."""
    number = np.full(int(truth.index.max()) + 1, -1)
    number[truth.index] = np.arange(len(truth))
    return number[pulses.event]


def _near(sources: Showers, working: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Numbers source * `NUM_DOMS` + dom of the pairs to use; far ones are thinned out."""
    parts = []
    rng = np.random.default_rng(_SEED_OF_SUBSET)
    for source, position in enumerate(sources.position):
        distance = np.linalg.norm(dom_positions() - position, axis=1)
        chosen = working & (distance > MIN_DISTANCE) & (distance < MAX_DISTANCE)
        chosen &= (distance < 200) | (rng.random(NUM_DOMS) < 0.5)
        parts.append(source * NUM_DOMS + np.flatnonzero(chosen))
    return np.concatenate(parts)


def _sums_over_pulses(
    sources: Showers, event: NDArray[np.int64], pulses: ReferencePulses
) -> list[NDArray[np.float64]]:
    """Charge, and charge-weighted ln t and t^(1/power), by source * `NUM_DOMS` + dom.

    What late and afterpulses add to the latter two is taken out, in the mean.
    """
    _, flight = distance_from_point(sources.position[event], pulses.dom)
    delay = pulses.time - sources.time[event] - flight
    inside = (delay >= WINDOW[0]) & (delay < WINDOW[1])
    key = event[inside] * NUM_DOMS + pulses.dom[inside]
    charge = pulses.charge[inside]
    size = len(sources.energy) * NUM_DOMS
    total = np.bincount(key, charge, size).astype(np.float64)
    clipped = np.clip(delay[inside], _MIN_DELAY, WINDOW[1])
    mean = np.bincount(key, charge * clipped, size) / np.maximum(total, 1e-9)
    mean = np.maximum(mean, _MIN_DELAY)
    sums: list[NDArray[np.float64]] = [total]
    true_charge = total / (1 + _AFTERPULSES[0])
    for function in (np.log, lambda t: t ** (1 / EARLY_POWER)):
        values = np.bincount(key, charge * function(clipped), size)
        after = function(mean + _AFTERPULSES[1])
        late = function(mean + _LATE_PULSES[1]) - function(mean)
        sums.append(values - true_charge * (_AFTERPULSES[0] * after + _LATE_PULSES[0] * late))
    return sums
