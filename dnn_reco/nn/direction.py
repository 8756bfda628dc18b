"""Direction vectors in predictions: limit, normalise, and the angles that follow from them.

A direction vector points along the motion, zenith θ and azimuth φ to the source:
x = -sin θ cos φ, y = -sin θ sin φ, z = -cos θ.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Below this squared length of (x, y) the azimuth has no gradient.
_TINY = 1e-12


@dataclass(frozen=True)
class DirectionSettings:
    """How predicted direction vectors are treated.

    Attributes
    ----------
    enforce_norm
        Divide the vector by its length.
    legacy_norm
        Divide by the length only up to 1, so that longer vectors stay long.
    z_independent
        Keep z, and give (x, y) the length that makes the whole vector one of length 1.
    limit
        First limit each component to ± this value by tanh; None: do not.
    """

    enforce_norm: bool
    legacy_norm: bool
    z_independent: bool
    limit: float | None


def shape_direction(vector: Tensor, settings: DirectionSettings) -> Tensor:
    """Limit and normalise direction vectors [B, 3]; the gradient is finite everywhere."""
    if settings.limit is not None:
        vector = torch.tanh(vector) * settings.limit
    if not settings.enforce_norm:
        return vector
    if settings.z_independent:
        xy, z = vector[:, :2], vector[:, 2:]
        wanted_square = (1 - z.detach().square()).clamp(1e-3, 1)
        square = xy.square().sum(dim=1, keepdim=True) / wanted_square
        return torch.cat([xy / square.clamp(min=_TINY).sqrt(), z], dim=1)
    square = vector.square().sum(dim=1, keepdim=True)
    if settings.legacy_norm:
        return vector / square.clamp(1e-6, 1).sqrt()
    return vector / square.clamp(min=_TINY).sqrt()


def zenith_and_azimuth(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Angles [B] of the source of direction vectors [B, 3], in radian: 0 … π and 0 … 2π.

    Where an angle has no finite derivative (vertical vectors, |z| ≥ 1) its gradient is 0.
    """
    x, y, z = vector.unbind(dim=1)
    inside = z.abs() < 1
    zenith = torch.where(
        inside, torch.acos(-torch.where(inside, z, 0)), torch.acos(-z.detach().clamp(-1, 1))
    )
    has_azimuth = x.square() + y.square() > _TINY
    azimuth = torch.atan2(torch.where(has_azimuth, -y, 0), torch.where(has_azimuth, -x, 1))
    return zenith, torch.remainder(azimuth + 2 * math.pi, 2 * math.pi)
