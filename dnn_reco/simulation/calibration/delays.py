"""Maximum-likelihood fit of the delays of light to single pulses of showers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.detector.geometry import NUM_DOMS, dom_positions
from dnn_reco.simulation.calibration.fit import START_DELAYS
from dnn_reco.simulation.calibration.pairs import MIN_DISTANCE, shower_of_pulses, showers
from dnn_reco.simulation.calibration.reference import (
    CHARGE_PER_PHOTOELECTRON,
    NOISE_CHARGE,
    WINDOW,
    ReferencePulses,
    distance_from_point,
)
from dnn_reco.simulation.ice import Ice, mean_coefficients
from dnn_reco.simulation.propagation import (
    EARLY_POWER,
    LATE_POWER,
    DelayConstants,
    DelayDistribution,
    GammaConstants,
    delay_distribution,
)

START = DelayConstants(
    early=replace(START_DELAYS, shape=2.25),
    late=replace(START_DELAYS, shape=1.0, shape_power=0.3, scale=400.0),
    late_odds=0.14,
    late_odds_power=0.3,
    late_odds_angle=-1.0,
)

_MAX_DISTANCE = 250.0
_MIN_DELAY = 10.0
"""Of pulses before this delay [ns] only their number counts: the resolution and the length of
showers matter."""
_EARLIEST = -60.0  # ns
_DISPERSION = 100.0  # photo-electrons in a DOM from which their number adds little weight
# Late pulses come so much later [ns]; afterpulses: share, mean delay [ns] and standard deviation
# [ns], of the photo-electron itself 60 ns more for each effective scattering length.
_LATE_PULSES = 0.035, 57.0
_AFTERPULSES = ((0.005, 600.0, 150.0), (0.018, 2050.0, 550.0))
_MEAN_DELAY = 60.0
_TERMS = 30  # enough for variates up to 10


@dataclass(frozen=True)
class ShowerDelays:
    """Delays of n pulses of showers.

    Attributes
    ----------
    distance, cos_emission
        Geometry [n] as in `photoelectrons_per_gev`.
    scattering, absorption
        Mean 1/λ_e and 1/λ_a [n] in 1/m on the way.
    delay
        Times [n] in ns after the way in a straight line.
    weight
        Weight [n] of each pulse.
    noise
        Density [n] in 1/ns of noise, relative to the light of the DOM.
    """

    distance: NDArray[np.float64]
    cos_emission: NDArray[np.float64]
    scattering: NDArray[np.float64]
    absorption: NDArray[np.float64]
    delay: NDArray[np.float64]
    weight: NDArray[np.float64]
    noise: NDArray[np.float64]


def shower_delays(truth: pd.DataFrame, pulses: ReferencePulses, ice: Ice) -> ShowerDelays:
    """Delays of all pulses of showers, in DOMs of 8 to 250 m distance.

    Parameters
    ----------
    truth
        Rows of the showers.
    pulses
        Their pulses.
    ice
        The fitted layers.
    """
    sources = showers(truth)
    source, dom = shower_of_pulses(truth, pulses), pulses.dom
    distance, flight = distance_from_point(sources.position[source], dom)
    delay = pulses.time - sources.time[source] - flight
    kept = (distance > MIN_DISTANCE) & (distance < _MAX_DISTANCE)
    kept &= (delay > _EARLIEST) & (delay < WINDOW[1])
    source, dom, distance, delay = source[kept], dom[kept], distance[kept], delay[kept]
    photoelectrons = pulses.charge[kept] / CHARGE_PER_PHOTOELECTRON
    _, pair = np.unique(source * NUM_DOMS + dom, return_inverse=True)
    in_dom = np.bincount(pair, photoelectrons)[pair]
    offset = dom_positions()[dom] - sources.position[source]
    scattering, absorption = mean_coefficients(
        np, ice.columns(sources.position[source, 2]), ice.columns(dom_positions()[dom, 2])
    )
    return ShowerDelays(
        distance,
        (offset * sources.direction[source]).sum(axis=1) / distance,
        scattering,
        absorption,
        delay,
        photoelectrons / (1 + in_dom / _DISPERSION),
        NOISE_CHARGE / 1e3 / CHARGE_PER_PHOTOELECTRON / in_dom,
    )


def fit_delays(data: ShowerDelays, max_iterations: int = 200) -> DelayConstants:
    """The constants that make the delays most likely.

    A pulse is of early or late light, or a late pulse or an afterpulse of the photomultiplier, or
    noise.

    Parameters
    ----------
    data
        The pulses.
    max_iterations
        Largest number of steps of the minimiser (L-BFGS).
    """
    delays = _Delays(data)
    start = torch.tensor(_values(START), dtype=torch.float64)
    steps = torch.zeros_like(start, requires_grad=True)
    minimiser = torch.optim.LBFGS(
        [steps],
        max_iter=max_iterations,
        max_eval=2 * max_iterations,
        history_size=40,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def loss() -> float:
        minimiser.zero_grad()
        value = delays.loss(_constants(_moved(start, steps)))
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    minimiser.step(loss)  # type: ignore[no-untyped-call]
    found = _moved(start, steps).detach()
    return _constants([float(value) for value in found])


def _moved(start: Tensor, steps: Tensor) -> Tensor:
    """Start values and steps; what must be positive is multiplied by the exponential of a step."""
    return torch.where(_IS_POSITIVE, start * torch.exp(steps), start + steps)


def _values(constants: DelayConstants) -> list[float]:
    """All constants, those of early and late light first."""
    early, late, *odds = vars(constants).values()
    return [*vars(early).values(), *vars(late).values(), *odds]


def _constants(values: Tensor | list[float]) -> DelayConstants:
    """Inverse of `_values`."""
    size = len(fields(GammaConstants))
    early, late = (GammaConstants(*values[i * size : (i + 1) * size]) for i in range(2))
    return DelayConstants(early, late, *values[2 * size :])


_NAMES = [*vars(START.early), *vars(START.late), *list(vars(START))[2:]]
_IS_POSITIVE = torch.tensor([name in ("shape", "scale", "late_odds") for name in _NAMES])


class _Delays:
    """The pulses as tensors, and their likelihood as a function of the constants."""

    def __init__(self, data: ShowerDelays):
        self.distance, self.cos_emission, self.scattering, self.absorption = (
            torch.from_numpy(getattr(data, name))
            for name in ("distance", "cos_emission", "scattering", "absorption")
        )
        delay, self.weight = torch.from_numpy(data.delay), torch.from_numpy(data.weight)
        self.early = torch.nonzero(delay < _MIN_DELAY)[:, 0]
        self.delay = delay.clamp(min=_MIN_DELAY)
        share, later = _LATE_PULSES
        self.is_late = delay > later + _MIN_DELAY
        self.of_late_pulses = (delay - later).clamp(min=_MIN_DELAY)
        mean = _MEAN_DELAY * self.distance * self.scattering
        self.direct = 1 - share - sum(rate for rate, _, _ in _AFTERPULSES)
        self.rest = torch.from_numpy(data.noise)
        for rate, after, spread in _AFTERPULSES:
            pull = (delay - mean - after) / spread
            normal = torch.exp(-(pull**2) / 2) / (spread * math.sqrt(2 * math.pi))
            self.rest = self.rest + rate * normal

    def loss(self, constants: DelayConstants) -> Tensor:
        """Minus the mean logarithm of the likelihood."""
        d = delay_distribution(
            torch,
            constants,
            self.distance,
            self.cos_emission,
            self.scattering,
            self.absorption,
        )

        of_early = DelayDistribution(*(values[self.early] for values in vars(d).values()))
        early = _mixture(cumulative, self.delay[self.early], of_early)
        direct = _mixture(density, self.delay, d).index_put((self.early,), early)
        late_pulses = torch.where(self.is_late, _mixture(density, self.of_late_pulses, d), 0.0)
        total = self.direct * direct + _LATE_PULSES[0] * late_pulses + self.rest
        return -(self.weight * total.log()).sum() / self.weight.sum()


def _mixture(function: Callable[..., Tensor], delay: Tensor, d: DelayDistribution) -> Tensor:
    """A function [n] of delays of early and of late light, in their shares."""
    early = function(delay, d.early_shape, d.early_scale, EARLY_POWER)
    late = function(delay, d.late_shape, d.late_scale, LATE_POWER)
    result: Tensor = (1 - d.late_share) * early + d.late_share * late
    return result


def density(delay: Tensor, shape: Tensor, scale: Tensor, power: float) -> Tensor:
    """Density [n] in 1/ns of scale · g^power, g from a gamma distribution, at a delay in ns."""
    log_variate = (delay.log() - scale.log()) / power
    log_gamma = shape * log_variate - log_variate.exp() - torch.lgamma(shape)
    return log_gamma.exp() / (power * delay)


def cumulative(delay: Tensor, shape: Tensor, scale: Tensor, power: float) -> Tensor:
    """Probability [n] of a delay below an early one, by the series of the incomplete gamma.

    x^a e^-x / Γ(a + 1) · Σ x^k / ((a + 1) … (a + k)), which torch cannot differentiate by a.
    """
    variate = (delay / scale) ** (1 / power)
    term = torch.ones_like(variate)
    total = term
    for k in range(1, _TERMS):
        term = term * variate / (shape + k)
        total = total + term
    return total * (shape * variate.log() - variate - torch.lgamma(shape + 1)).exp()
