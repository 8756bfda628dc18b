"""Density of the times of photo-electrons: delays in the ice, smeared by the photomultiplier.

Without smearing the density is infinite at the time of unscattered light wherever the shape of the
delays is below `DELAY_POWER`, and neither a maximum of the likelihood nor its Fisher information
would exist. The jitter of the photomultiplier, a normal distribution, makes it smooth.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from dnn_reco.simulation.photomultiplier import PhotomultiplierSettings
from dnn_reco.simulation.propagation import DELAY_POWER

JITTER = PhotomultiplierSettings().jitter
"""Standard deviation in ns of the transit time of photomultipliers."""

_EARLIEST, _LATEST = -20.0, 3e4  # ns
_TIME_UNIT = 4.0  # ns; the grid is asinh(time / unit)
_NUM_TIMES, _NUM_SHAPES, _NUM_SCALES = 420, 250, 30
_SHAPES, _SCALES = (0.15, 60.0), (1.5, 25.0)  # more than the ice of the simulation needs
_SMEARED_UNTIL = 200.0  # ns; later the density is the same with and without jitter
_CELL = 0.2  # ns


@dataclass(frozen=True)
class DelayTable:
    """Logarithm of the density in 1/ns: a formula that is right for late times, and a table.

    The formula is the density without jitter at the delay (t + (t² + 8σ²)^½)/2, which is never
    negative. The table, linear in asinh of the time, in log shape and log scale, corrects it.

    Attributes
    ----------
    values
        Correction [shapes, scales, times].
    """

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
        axes = zip(_grids(), (log_shape, log_scale, time), self.values.shape, strict=True)
        index, part = zip(*(_place(grid, x, size) for grid, x, size in axes), strict=True)
        strides = self.values.stride()
        corner = sum(i * stride for i, stride in zip(index, strides, strict=True))
        flat = self.values.flatten()
        early = delay.clamp(max=_EARLIEST)
        result = -(early**2 - _EARLIEST**2) / (2 * JITTER**2)
        result = result + _formula(log_shape, log_scale, delay.clamp(min=_EARLIEST))
        for bits in range(8):
            ups = [(bits >> axis) & 1 for axis in range(3)]
            weight = torch.ones_like(time)
            for up, p in zip(ups, part, strict=True):
                weight = weight * (p if up else 1 - p)
            shift = sum(up * stride for up, stride in zip(ups, strides, strict=True))
            result = result + weight * flat[corner + shift]
        return result


@cache
def delay_table() -> DelayTable:
    """The table for the simulation's delays and jitter."""
    log_shape, log_scale, time = (
        torch.linspace(low, high, count, dtype=torch.float64)
        for (low, high), count in zip(_grids(), (_NUM_SHAPES, _NUM_SCALES, _NUM_TIMES), strict=True)
    )
    log_shape, log_scale = log_shape[:, None, None], log_scale[None, :, None]
    delay = _TIME_UNIT * time.sinh()
    late = delay > _SMEARED_UNTIL
    values = torch.empty(_NUM_SHAPES, _NUM_SCALES, _NUM_TIMES, dtype=torch.float64)
    values[:, :, ~late] = _smeared(log_shape.exp(), log_scale.exp(), delay[~late])
    values[:, :, late] = _unsmeared(log_shape, log_scale, delay[late])
    return DelayTable(values - _formula(log_shape, log_scale, delay))


def _formula(log_shape: Tensor, log_scale: Tensor, delay: Tensor) -> Tensor:
    positive = (delay + (delay**2 + 8 * JITTER**2).sqrt()) / 2
    return _unsmeared(log_shape, log_scale, positive)


def _smeared(shape: Tensor, scale: Tensor, delay: Tensor) -> Tensor:
    """Sum over cells of delay, each with its exact probability."""
    start = torch.cat([torch.zeros(1), torch.logspace(-4, 0, 30)[:-1]]).double() * _CELL
    cells = torch.arange(_CELL, _SMEARED_UNTIL + 8 * JITTER, _CELL, dtype=torch.float64)
    edges = torch.cat([start, cells])  # narrow at first, where the density may be infinite
    variate = (edges / scale) ** (1 / DELAY_POWER)
    share = torch.special.gammainc(*torch.broadcast_tensors(shape, variate)).diff(dim=2)
    distance = delay[:, None] - (edges[1:] + edges[:-1]) / 2
    normal = torch.exp(-((distance / JITTER) ** 2) / 2) / (JITTER * np.sqrt(2 * np.pi))
    return (share @ normal.T).log()


def _unsmeared(log_shape: Tensor, log_scale: Tensor, delay: Tensor) -> Tensor:
    """The gamma distribution of a variate whose power is the delay."""
    shape = log_shape.exp()
    log_variate = (delay.log() - log_scale) / DELAY_POWER
    log_gamma = shape * log_variate - log_variate.exp() - torch.lgamma(shape)
    return log_gamma - np.log(DELAY_POWER) - delay.log()


def _grids() -> tuple[tuple[float, float], ...]:
    times = tuple(float(np.arcsinh(t / _TIME_UNIT)) for t in (_EARLIEST, _LATEST))
    return (tuple(np.log(_SHAPES)), tuple(np.log(_SCALES)), times)


def _place(grid: tuple[float, float], x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Index of the lower neighbour on a grid, and how far x is from it, in steps."""
    low, high = grid
    place = ((x - low) * ((count - 1) / (high - low))).clamp(0, count - 1)
    index = place.detach().floor().clamp(max=count - 2).long()
    return index, place - index
