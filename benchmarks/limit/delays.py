"""Density of the times of photo-electrons: delays in the ice, smeared by the photomultiplier.

Without smearing the density is infinite at the time of unscattered light wherever the shape of the
delays is below the power of their gamma variate, and neither a maximum of the likelihood nor its
Fisher information would exist. The jitter of the photomultiplier, a normal distribution, makes it
smooth.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from dnn_reco.simulation.photomultiplier import PhotomultiplierSettings
from dnn_reco.simulation.propagation import EARLY_POWER, LATE_POWER, DelayDistribution

JITTER = PhotomultiplierSettings().jitter
"""Standard deviation in ns of the transit time of photomultipliers."""

_EARLIEST, _LATEST = -20.0, 3e4  # ns
_TIME_UNIT = 4.0  # ns; the grid is asinh(time / unit)
_NUM_TIMES, _NUM_SHAPES, _NUM_SCALES = 420, 280, 30
_SMEARED_UNTIL = 200.0  # ns; later the density is the same with and without jitter
_CELL = 0.2  # ns


@dataclass(frozen=True)
class GammaRange:
    """Power of a gamma variate, and the shapes and scales [ns] that are tabulated."""

    power: float
    shapes: tuple[float, float]
    scales: tuple[float, float]


# more than the ice of the simulation needs
EARLY = GammaRange(EARLY_POWER, (0.2, 200.0), (0.3, 3.0))
LATE = GammaRange(LATE_POWER, (0.06, 40.0), (40.0, 600.0))


def delay_parameters(delays: DelayDistribution) -> Tensor:
    """Logarithms of shapes and scales, and of the odds that light is late, as rows [5, n]."""
    shapes = delays.early_shape, delays.early_scale, delays.late_shape, delays.late_scale
    odds = torch.logit(delays.late_share)
    return torch.stack([*(values.log() for values in shapes), odds])


def log_delay_density(delay: Tensor, parameters: Tensor) -> Tensor:
    """Ln of the density [n] in 1/ns of times after unscattered light.

    Parameters
    ----------
    delay
        Times [n] in ns; earlier than -20 ns the density falls as a normal distribution.
    parameters
        Rows [5, n] of `delay_parameters`.
    """
    early = delay_table(EARLY).log_density(delay, parameters[0], parameters[1])
    late = delay_table(LATE).log_density(delay, parameters[2], parameters[3])
    log_sigmoid = torch.nn.functional.logsigmoid
    return torch.logaddexp(log_sigmoid(-parameters[4]) + early, log_sigmoid(parameters[4]) + late)


@dataclass(frozen=True)
class DelayTable:
    """Logarithm of the density in 1/ns of the power of a gamma variate, smeared by the jitter.

    A formula that is right for late times, and a table.

    The formula is the density without jitter at the delay (t + (t² + 8σ²)^½)/2, which is never
    negative. The table, linear in asinh of the time, in log shape and log scale, corrects it.

    Attributes
    ----------
    range
        What is tabulated.
    values
        Correction [shapes, scales, times].
    """

    range: GammaRange
    values: Tensor

    def log_density(self, delay: Tensor, log_shape: Tensor, log_scale: Tensor) -> Tensor:
        """Ln of the density [n] in 1/ns of times after unscattered light.

        Parameters
        ----------
        delay
            Times [n] in ns; earlier than -20 ns the density falls as a normal distribution.
        log_shape, log_scale
            Logarithms [n] of shape and scale (in ns) of the delays.
        """
        time = torch.asinh(delay.clamp(_EARLIEST, _LATEST) / _TIME_UNIT)
        axes = zip(_grids(self.range), (log_shape, log_scale, time), self.values.shape, strict=True)
        index, part = zip(*(_place(grid, x, size) for grid, x, size in axes), strict=True)
        strides = self.values.stride()
        corner = sum(i * stride for i, stride in zip(index, strides, strict=True))
        flat = self.values.flatten()
        early = delay.clamp(max=_EARLIEST)
        result = -(early**2 - _EARLIEST**2) / (2 * JITTER**2)
        result = result + _formula(
            self.range.power, log_shape, log_scale, delay.clamp(min=_EARLIEST)
        )
        for bits in range(8):
            ups = [(bits >> axis) & 1 for axis in range(3)]
            weight = torch.ones_like(time)
            for up, p in zip(ups, part, strict=True):
                weight = weight * (p if up else 1 - p)
            shift = sum(up * stride for up, stride in zip(ups, strides, strict=True))
            result = result + weight * flat[corner + shift]
        return result


@cache
def delay_table(of: GammaRange) -> DelayTable:
    """The table for early or late light of the simulation, and the jitter."""
    log_shape, log_scale, time = (
        torch.linspace(low, high, count, dtype=torch.float64)
        for (low, high), count in zip(
            _grids(of), (_NUM_SHAPES, _NUM_SCALES, _NUM_TIMES), strict=True
        )
    )
    log_shape, log_scale = log_shape[:, None, None], log_scale[None, :, None]
    delay = _TIME_UNIT * time.sinh()
    late = delay > _SMEARED_UNTIL
    values = torch.empty(_NUM_SHAPES, _NUM_SCALES, _NUM_TIMES, dtype=torch.float64)
    values[:, :, ~late] = _smeared(of.power, log_shape.exp(), log_scale.exp(), delay[~late])
    values[:, :, late] = _unsmeared(of.power, log_shape, log_scale, delay[late])
    return DelayTable(of, values - _formula(of.power, log_shape, log_scale, delay))


def _formula(power: float, log_shape: Tensor, log_scale: Tensor, delay: Tensor) -> Tensor:
    positive = (delay + (delay**2 + 8 * JITTER**2).sqrt()) / 2
    return _unsmeared(power, log_shape, log_scale, positive)


def _smeared(power: float, shape: Tensor, scale: Tensor, delay: Tensor) -> Tensor:
    """Sum over cells of delay, each with its exact probability."""
    start = torch.cat([torch.zeros(1), torch.logspace(-4, 0, 30)[:-1]]).double() * _CELL
    cells = torch.arange(_CELL, _SMEARED_UNTIL + 8 * JITTER, _CELL, dtype=torch.float64)
    edges = torch.cat([start, cells])  # narrow at first, where the density may be infinite
    variate = (edges / scale) ** (1 / power)
    share = torch.special.gammainc(*torch.broadcast_tensors(shape, variate)).diff(dim=2)
    distance = delay[:, None] - (edges[1:] + edges[:-1]) / 2
    normal = torch.exp(-((distance / JITTER) ** 2) / 2) / (JITTER * np.sqrt(2 * np.pi))
    return (share @ normal.T).log()


def _unsmeared(power: float, log_shape: Tensor, log_scale: Tensor, delay: Tensor) -> Tensor:
    """The gamma distribution of a variate whose power is the delay."""
    shape = log_shape.exp()
    log_variate = (delay.log() - log_scale) / power
    log_gamma = shape * log_variate - log_variate.exp() - torch.lgamma(shape)
    return log_gamma - np.log(power) - delay.log()


def _grids(of: GammaRange) -> tuple[tuple[float, float], ...]:
    times = tuple(float(np.arcsinh(t / _TIME_UNIT)) for t in (_EARLIEST, _LATEST))
    return (tuple(np.log(of.shapes)), tuple(np.log(of.scales)), times)


def _place(grid: tuple[float, float], x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Index of the lower neighbour on a grid, and how far x is from it, in steps."""
    low, high = grid
    place = ((x - low) * ((count - 1) / (high - low))).clamp(0, count - 1)
    index = place.detach().floor().clamp(max=count - 2).long()
    return index, place - index
