"""Response of photomultipliers to photo-electrons: charges, prepulses, late and afterpulses.

The probabilities and delays are those of the collaboration's simulation of the photomultiplier
(PMTResponseSimulator of https://github.com/icecube/icetray), which go back to Abbasi et al., Nucl.
Instrum. Meth. A 618 (2010) 139, and of the photon-tracking reference simulation where it differs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnn_reco.simulation.sources import PhotoElectrons

_LATE_PULSES = np.array(
    # share, location [ns], scale [ns]; the scale is negative where the tail is on the early side
    [
        [0.079, 37.0, -3.0],
        [0.484, 52.6, -9.0],
        [0.323, 66.0, 3.47],
        [0.088, 107.0, 20.0],
        [0.026, 141.0, 2.75],
    ]
)
_AFTERPULSES = np.array(
    # pulses per photo-electron, mean delay [ns], standard deviation [ns]
    [
        [0.005, 600.0, 150.0],
        [0.018, 2050.0, 550.0],
        [0.029, 7800.0, 1150.0],
    ]
)


@dataclass(frozen=True)
class AnodePulses:
    """h pulses at the anodes of photomultipliers, before they are digitised.

    Attributes
    ----------
    event, dom
        Event [h] and DOM index [h] of each.
    time
        Time [h] in ns.
    charge
        Charge [h] in PE.
    """

    event: NDArray[np.int64]
    dom: NDArray[np.int64]
    time: NDArray[np.float64]
    charge: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.event)

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> "AnodePulses":
        """Some of the pulses, by mask or index."""
        return AnodePulses(self.event[index], self.dom[index], self.time[index], self.charge[index])


def combined(first: AnodePulses, second: AnodePulses) -> AnodePulses:
    """Pulses of both."""
    return AnodePulses(
        np.concatenate([first.event, second.event]),
        np.concatenate([first.dom, second.dom]),
        np.concatenate([first.time, second.time]),
        np.concatenate([first.charge, second.charge]),
    )


@dataclass(frozen=True)
class PhotomultiplierSettings:
    """Response of photomultipliers to single photo-electrons.

    The distribution of charges is an exponential plus a Gaussian, the shape that IceCube measures
    in the ice (Aartsen et al., JINST 15 (2020) P06032; the steep second exponential, almost without
    charge, is neglected). The four numbers are fitted to single dark-noise pulses and to the charge
    per photo-electron of the photon-tracking reference simulation; laboratory measurements gave
    0.30, 0.51 PE, 1 PE and 0.29 PE (PMTResponseSimulator).

    Attributes
    ----------
    exponential_share
        Share of photo-electrons in the exponential, whose secondaries miss part of the dynodes.
    exponential_charge
        Mean charge of these in PE.
    gauss_charge, gauss_width
        Mean and standard deviation of the Gaussian in PE.
    jitter
        Standard deviation in ns of the transit time.
    prepulse_probability, prepulse_lead
        Share of photo-electrons released at the first dynode, and by how many ns they are early.
    late_pulse_probability
        Share of photo-electrons that first scatter off the first dynode (40 to 150 ns late).
    afterpulse_scale
        Multiplies the number of afterpulses: 0.052 per photo-electron, from ionised gas, in three
        groups around 0.6, 2 and 8 μs.
    """

    exponential_share: float = 0.28
    exponential_charge: float = 0.64
    gauss_charge: float = 1.015
    gauss_width: float = 0.306
    jitter: float = 2.0
    prepulse_probability: float = 0.003
    prepulse_lead: float = 31.0
    late_pulse_probability: float = 0.035
    afterpulse_scale: float = 1.0

    def charge_moments(self) -> tuple[float, float]:
        """Mean [PE] and variance [PE²] of the charge of one photo-electron."""
        share = self.exponential_share
        mean = share * self.exponential_charge + (1 - share) * self.gauss_charge
        square = share * 2 * self.exponential_charge**2
        square += (1 - share) * (self.gauss_charge**2 + self.gauss_width**2)
        return mean, square - mean**2


def anode_pulses(
    photoelectrons: PhotoElectrons, settings: PhotomultiplierSettings, rng: np.random.Generator
) -> AnodePulses:
    """Pulses [h] of photo-electrons, pre-, late and afterpulses included, in no order."""
    weight = np.rint(photoelectrons.weight).astype(np.int64)
    early = rng.binomial(weight, settings.prepulse_probability)
    late = rng.binomial(weight - early, settings.late_pulse_probability)
    rates = settings.afterpulse_scale * _AFTERPULSES[:, 0]
    after = rng.poisson(rates.sum() * weight)
    direct = weight - early - late

    lone = np.ones(1, dtype=np.int64)
    parts = [  # which photo-electron, how late [ns], of how many photo-electrons
        (np.flatnonzero(direct), np.zeros(1), direct[direct > 0]),
        (np.repeat(np.arange(len(early)), early), np.full(1, -settings.prepulse_lead), lone),
        (np.repeat(np.arange(len(late)), late), _late_pulse_delays(late.sum(), rng), lone),
        (np.repeat(np.arange(len(after)), after), _afterpulse_delays(after.sum(), rng), lone),
    ]
    index = np.concatenate([index for index, _, _ in parts])
    delay = np.concatenate([np.broadcast_to(delay, len(index)) for index, delay, _ in parts])
    number = np.concatenate([np.broadcast_to(number, len(index)) for index, _, number in parts])
    return AnodePulses(
        photoelectrons.event[index],
        photoelectrons.dom[index],
        photoelectrons.time[index] + delay + rng.normal(0.0, settings.jitter, len(index)),
        charges(number, settings, rng),
    )


def charges(
    number: NDArray[np.int64], settings: PhotomultiplierSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Random charges [h] in PE of so many photo-electrons [h] at once.

    The charge of several is drawn from the gamma distribution with the mean and the variance of
    the sum of so many single ones.
    """
    exponential = rng.exponential(settings.exponential_charge, len(number))
    # Folded at zero: about one in 2000 would be negative.
    gauss = np.abs(rng.normal(settings.gauss_charge, settings.gauss_width, len(number)))
    charge = np.where(rng.random(len(number)) < settings.exponential_share, exponential, gauss)
    many = number > 1
    mean, variance = settings.charge_moments()
    charge[many] = rng.gamma(number[many] * mean**2 / variance, variance / mean)
    return charge


def _late_pulse_delays(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    share, location, scale = _LATE_PULSES.T
    kind = rng.choice(len(share), size=size, p=share)
    delay: NDArray[np.float64] = location[kind] + scale[kind] * rng.gumbel(size=size)
    return delay


def _afterpulse_delays(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    rate, mean, spread = _AFTERPULSES.T
    kind = rng.choice(len(rate), size=size, p=rate / rate.sum())
    delay: NDArray[np.float64] = np.abs(rng.normal(mean[kind], spread[kind]))
    return delay
