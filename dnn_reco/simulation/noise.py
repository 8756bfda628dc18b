"""Dark noise of the DOMs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.simulation.photomultiplier import AnodePulses, PhotomultiplierSettings, charges


@dataclass(frozen=True)
class NoiseSettings:
    """Rate of dark-noise photo-electrons, and how they cluster in time.

    Decays in the glass cause bursts of photo-electrons whose distances in time follow a log-normal
    distribution (Larson, MSc thesis, University of Alabama, 2013; Aartsen et al., JINST 12 (2017)
    P03012). Here every photo-electron is followed by another with some probability; bursts of
    hundreds of microseconds, longer than any readout, count as separate photo-electrons. The
    probability and the distances are fitted to the noise of the photon-tracking reference
    simulation, that is to the rate of launches and to the distances of two launches of a DOM.

    Attributes
    ----------
    rate
        Photo-electrons per DOM and second, bursts included, for a DOM of relative efficiency 1.
    burst_probability
        Probability that a noise photo-electron is followed by another of the same burst.
    burst_delay, burst_spread
        Median in ns and logarithmic standard deviation of the distance to the next in a burst.
    lead
        How many ns before the window bursts may begin.
    """

    rate: float = 620.0
    burst_probability: float = 0.42
    burst_delay: float = 1200.0
    burst_spread: float = 1.3
    lead: float = 10_000.0


def noise_pulses(
    start: NDArray[np.float64],
    stop: NDArray[np.float64],
    efficiency: NDArray[np.float64],
    settings: NoiseSettings,
    photomultiplier: PhotomultiplierSettings,
    rng: np.random.Generator,
) -> AnodePulses:
    """Noise pulses [h] of n events, in no order.

    Parameters
    ----------
    start, stop
        Windows [n] in ns to be filled.
    efficiency
        Relative efficiency [5160] of the DOMs; the noise is proportional to it.
    """
    share = np.cumsum(efficiency) / efficiency.sum()
    bursts_per_ns = 1e-9 * settings.rate * efficiency.sum() * (1 - settings.burst_probability)
    length = stop - start + settings.lead
    event = np.repeat(np.arange(len(length)), rng.poisson(bursts_per_ns * length))
    # side="right" skips dead DOMs, which add nothing to the sum.
    dom = np.searchsorted(share, rng.random(len(event)), side="right")
    first = stop[event] - length[event] * rng.random(len(event))

    size = rng.geometric(1 - settings.burst_probability, len(event))
    delay = settings.burst_delay * rng.lognormal(0.0, settings.burst_spread, size.sum())
    begin = np.cumsum(size) - size
    delay[begin] = 0.0
    elapsed = np.cumsum(delay)
    time = np.repeat(first - elapsed[begin], size) + elapsed
    charge = charges(np.ones(len(time), dtype=np.int64), photomultiplier, rng)
    pulses = AnodePulses(np.repeat(event, size), np.repeat(dom, size), time, charge)
    return pulses.select((time >= start[pulses.event]) & (time < stop[pulses.event]))
