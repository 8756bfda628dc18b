"""Normalising flows on the sphere: densities of directions of almost any shape.

A flow deforms a von Mises-Fisher distribution. With ψ the angle to its mean direction, u the
probability within ψ, and w the angle around the mean direction in turns, u and w are independent
and uniform from 0 to 1. Each is mapped by a monotone spline, f(u) and g(w), g on the circle; the
density is that of von Mises-Fisher times f'(u) g'(w).

Rational-quadratic splines: Durkan et al., arXiv:1906.04032; flows on spheres in such coordinates:
Rezende et al., arXiv:2002.02428. Layout of the parameters: :mod:`dnn_reco.nn.density_layout`.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad, softmax, softplus

from dnn_reco.nn.density_layout import NUM_BINS
from dnn_reco.nn.direction import log_fisher_norm

NUM_RAW = 6 * NUM_BINS + 1
"""Unconstrained numbers of both splines."""

_MIN_SIZE, _MIN_SLOPE = 1e-3, 1e-3
_SLOPE_OF_0 = math.log(math.expm1(1 - _MIN_SLOPE))  # softplus of it is 1 - 0.001
_TINY = 1e-12
_NODES = 8  # of Gauss's rule, in each bin


def spline_parameters(raw: Tensor) -> Tensor:
    """Parameters [B, 6 bins + 1] of both splines from unconstrained numbers; identities for 0.

    Widths, heights and slopes of the bins: first those of u, of which there is one more slope.
    """
    parts = torch.split(raw, _SIZES, dim=1)
    shown = []
    for i, part in enumerate(parts):
        if i % 3 < 2:
            shown.append(_MIN_SIZE + (1 - NUM_BINS * _MIN_SIZE) * softmax(part, dim=1))
        else:
            shown.append(_MIN_SLOPE + softplus(part + _SLOPE_OF_0))
    return torch.cat(shown, dim=1)


def flow_log_prob(components: Tensor, direction: Tensor) -> Tensor:
    """Log density [B] per steradian of mixtures of flows.

    Parameters
    ----------
    components
        Components [B, K, parameters].
    direction
        True directions [B, 3], of length 1.
    """
    log_weight, natural = components[..., 0], components[..., 1:4]
    kappa, axes = _frame(natural)
    # = 1 - cos ψ, exact for small angles
    deviation = (axes[..., 2, :] - direction[:, None]).square().sum(dim=2) / 2
    share = torch.expm1(-kappa * deviation) / torch.expm1(-2 * kappa)
    x, y = ((axes[..., i, :] * direction[:, None]).sum(dim=2) for i in (0, 1))
    has_turn = x.square() + y.square() > _TINY
    turn = torch.atan2(torch.where(has_turn, y, 0), torch.where(has_turn, x, 1)) / (2 * math.pi)
    of_share, of_turn = _splines(components[..., 4:])
    log_slopes = _slope(of_share, share).log() + _slope(of_turn, turn % 1).log()
    log_prob = log_fisher_norm(kappa) - kappa * deviation + log_slopes
    return torch.logsumexp(log_weight + log_prob, dim=1)


def flow_mean(components: Tensor) -> Tensor:
    """Mean vectors [B, 3] of mixtures of flows [B, K, parameters], by Gauss's rule in each bin."""
    kappa, axes = _frame(components[..., 1:4])
    of_share, of_turn = _splines(components[..., 4:])
    share, weight = _nodes(of_share)
    deviation = -torch.log1p(share * torch.expm1(-2 * kappa)[..., None]) / kappa[..., None]
    along = 1 - (weight * deviation).sum(dim=2)
    across = (weight * (deviation * (2 - deviation)).clamp(min=_TINY).sqrt()).sum(dim=2)
    turn, weight = _nodes(of_turn)
    x = across * (weight * (2 * math.pi * turn).cos()).sum(dim=2)
    y = across * (weight * (2 * math.pi * turn).sin()).sum(dim=2)
    of_component = (torch.stack([x, y, along], dim=2)[..., None] * axes).sum(dim=2)
    return (components[..., :1].exp() * of_component).sum(dim=1)


_SIZES = [NUM_BINS, NUM_BINS, NUM_BINS + 1, NUM_BINS, NUM_BINS, NUM_BINS]


def _frame(natural: Tensor) -> tuple[Tensor, Tensor]:
    """Concentrations [B, K], and axes [B, K, 3, 3]: along the azimuth, across it, and the mean.

    They turn with the event around the vertical, where the azimuth has no direction.
    """
    kappa = natural.square().sum(dim=2).sqrt()
    mean = natural / kappa[..., None]
    x, y, _ = mean.unbind(dim=2)
    square = x.square() + y.square()
    has_azimuth = square > _TINY
    length = torch.where(has_azimuth, square, 1).sqrt()
    nothing = torch.zeros_like(x)
    x, y = torch.where(has_azimuth, x / length, 1), torch.where(has_azimuth, y / length, 0)
    first = torch.stack([-y, x, nothing], dim=2)
    return kappa, torch.stack([first, torch.linalg.cross(mean, first), mean], dim=2)


def _splines(parameters: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Widths, heights and slopes at the edges of the bins, of both splines."""
    parts = torch.split(parameters, _SIZES, dim=2)
    circular = torch.cat([parts[5], parts[5][..., :1]], dim=2)
    return parts[:3], (parts[3], parts[4], circular)


def _slope(spline: tuple[Tensor, ...], value: Tensor) -> Tensor:
    """Derivative [B, K] of splines at values [B, K]."""
    widths, heights, slopes = spline
    edges = torch.cumsum(widths, dim=2)
    number = (value[..., None] >= edges[..., :-1]).sum(dim=2, keepdim=True)
    start = pad(edges, (1, 0))[..., :-1]
    low, width, height, first, last = (
        torch.gather(each, 2, number).squeeze(2)
        for each in (start, widths, heights, slopes[..., :-1], slopes[..., 1:])
    )
    place = ((value - low) / width).clamp(0, 1)
    return _slope_in_bin(place, height / width, first, last)


def _slope_in_bin(place: Tensor, mean: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Derivative at places 0 … 1 in bins, by mean, first and last derivative (Durkan, eq. 5)."""
    both = place * (1 - place)
    above = last * place.square() + 2 * mean * both + first * (1 - place).square()
    return mean.square() * above / (mean + (first + last - 2 * mean) * both).square()


def _nodes(spline: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Nodes [B, K, n] and their weights, whose sum is 1, of integrals over the mapped variable."""
    widths, heights, slopes = spline
    points, shares = np.polynomial.legendre.leggauss(_NODES)
    place = torch.tensor((points + 1) / 2, dtype=widths.dtype, device=widths.device)
    share = torch.tensor(shares / 2, dtype=widths.dtype, device=widths.device)
    start = pad(torch.cumsum(widths, dim=2), (1, 0))[..., :-1]
    nodes = start[..., None] + widths[..., None] * place
    slope = _slope_in_bin(
        place, (heights / widths)[..., None], slopes[..., :-1, None], slopes[..., 1:, None]
    )
    weight = (widths[..., None] * share * slope).flatten(2)
    return nodes.flatten(2), weight / weight.sum(dim=2, keepdim=True)
