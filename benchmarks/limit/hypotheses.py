"""Cascades and straight tracks as functions of their parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from light_model import LinearTable, Sources
from torch import Tensor

from dnn_reco.detector.constants import SPEED_OF_LIGHT
from dnn_reco.simulation.energy_losses import SLICES, shower_depth, soft_losses
from dnn_reco.simulation.muons import IONISATION, RADIATION

STRETCH = 40.0
"""Length in m of the pieces of a track."""

HALF_TRACK = 840.0
"""A track shines up to this distance in m from its reference point, which is near the origin."""

_MIN_LOG_ENERGY = float(np.log(10.0))  # a shower of less is a single source in the simulation
_MAX_LOG_ENERGY = float(np.log(1e9))


@dataclass(frozen=True)
class Hypotheses:
    """w cascades or tracks.

    Attributes
    ----------
    position, time
        A point [w, 3] in m and when the particle is there [w] in ns: the vertex of a cascade, the
        reference point of a track.
    direction
        Unit vectors of flight [w, 3].
    log_energy
        log10 of the energy [w] in GeV: of the shower, or of the muon at its reference point.
    """

    position: Tensor
    time: Tensor
    direction: Tensor
    log_energy: Tensor

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: slice | list[int]) -> "Hypotheses":
        return Hypotheses(*(values[rows] for values in vars(self).values()))


Model = Callable[[Hypotheses], Sources]


def cascade(hypotheses: Hypotheses) -> Sources:
    """Electromagnetic showers of 10 GeV and more, as `shower_sources` of the simulation."""
    log_energy = hypotheses.log_energy * np.log(10.0)
    depth = torch.stack([table(log_energy) for table in _depths()], dim=1)
    energy = (log_energy.exp() / SLICES)[:, None].expand_as(depth)
    return _along(hypotheses, depth, energy, torch.zeros_like(depth))


def track(hypotheses: Hypotheses) -> Sources:
    """Muons that lose energy continuously, in stretches of `STRETCH`.

    dE/dx = a + b E; all of b E is spread along the track as showers, in addition to the bare track
    and the losses below 0.5 GeV.
    """
    begin = torch.arange(-HALF_TRACK, HALF_TRACK, STRETCH, dtype=torch.float64)
    begin = begin.expand(len(hypotheses), -1)
    log_energy = (hypotheses.log_energy * np.log(10.0))[:, None]
    ratio = IONISATION / RADIATION
    middle = begin + STRETCH / 2
    energy = (log_energy.exp() + ratio) * torch.exp(-RADIATION * middle) - ratio
    energy = energy.clamp(min=1.0)
    length = torch.full_like(begin, STRETCH)
    light = soft_losses(length, energy.log()) + RADIATION * energy * length
    return _along(hypotheses, begin, light, length)


def _along(h: Hypotheses, distance: Tensor, energy: Tensor, length: Tensor) -> Sources:
    """Sources at distances [w, s] along the flight."""
    number = distance.shape[1]
    position = h.position[:, None] + distance[:, :, None] * h.direction[:, None]
    time = h.time[:, None] + distance / SPEED_OF_LIGHT
    direction = h.direction[:, None].expand_as(position)
    return Sources(
        len(h),
        np.repeat(np.arange(len(h)), number),
        position.reshape(-1, 3),
        time.reshape(-1),
        direction.reshape(-1, 3),
        energy.reshape(-1),
        length.reshape(-1),
    )


@cache
def _depths() -> list[LinearTable]:
    return [
        LinearTable(
            lambda log_energy, share=(i + 0.5) / SLICES: shower_depth(
                np.exp(log_energy), False, share
            ),
            _MIN_LOG_ENERGY,
            _MAX_LOG_ENERGY,
            0.02,
        )
        for i in range(SLICES)
    ]


@dataclass(frozen=True)
class Local:
    """Coordinates near a hypothesis: zero is the hypothesis itself.

    Attributes
    ----------
    reference
        The hypothesis, w = 1.
    is_track
        A track has the coordinates: position across [2] in m, time in ns, direction [2] in rad,
        log10 of the energy. A cascade has three coordinates of position.
    """

    reference: Hypotheses
    is_track: bool

    @property
    def num(self) -> int:
        """Number of coordinates."""
        return 6 if self.is_track else 7

    @property
    def angles(self) -> slice:
        """Which coordinates are those of the direction."""
        return slice(self.num - 3, self.num - 1)

    def hypotheses(self, coordinates: Tensor) -> Hypotheses:
        """The hypotheses with some coordinates [w, k]."""
        across = perpendicular(self.reference.direction)[0]
        axes = across if self.is_track else torch.eye(3, dtype=torch.float64)
        n = len(axes)
        direction = self.reference.direction + coordinates[:, n + 1 : n + 3] @ across
        return Hypotheses(
            self.reference.position + coordinates[:, :n] @ axes,
            self.reference.time + coordinates[:, n],
            direction / direction.norm(dim=1, keepdim=True),
            self.reference.log_energy + coordinates[:, n + 3],
        )


def perpendicular(direction: Tensor) -> Tensor:
    """Two unit vectors [w, 2, 3] perpendicular to each direction [w, 3] and to each other."""
    smallest = direction.abs().argmin(dim=1)
    helper = torch.eye(3, dtype=direction.dtype)[smallest]
    side = torch.linalg.cross(direction, helper)
    side = side / side.norm(dim=1, keepdim=True)
    return torch.stack([side, torch.linalg.cross(direction, side)], dim=1)
