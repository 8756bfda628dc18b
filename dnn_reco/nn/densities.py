"""Densities that are mixtures: logarithms of their probabilities, means and widths.

Layout and meaning of their parameters: :mod:`dnn_reco.nn.density_layout`.
"""

import math

import torch
from torch import Tensor
from torch.special import erf

from dnn_reco.nn.direction import (
    fisher_concentration,
    fisher_slope,
    log_fisher_norm,
    mean_cosine,
    unit_vector,
)

# Share of a normal distribution below its mean plus one standard deviation
_ONE_SIGMA = 0.8413447460685429
_PARTS, _DIVISIONS = 32, 4
_MIN_DENSITY = 1e-3  # times the extent of the mixture
_MIN_LENGTH = 1e-12
# Half the width of the central 68.27 % of Student's t distribution of 1/u degrees of freedom is
# 1 + c0 u + c1 u² + …: fitted to quantiles for u from 0 to 1/2, exact to 1e-8. (The first three
# agree with the expansion of Fisher & Cornish, Technometrics 2, 1960.)
_STUDENT_WIDTH = (
    0.500000050028966,
    0.2499916820867586,
    0.06279424782928775,
    -0.009948080359779262,
    0.07574475443312637,
    -0.06359353643572888,
    0.02285088273241565,
)


def student_width(inverse: Tensor) -> Tensor:
    """Half the width of the central 68.27 % of a Student's t distribution of unit scale.

    Parameters
    ----------
    inverse
        1 over its degrees of freedom, 0 … 1/2.
    """
    width = torch.zeros_like(inverse)
    for coefficient in reversed(_STUDENT_WIDTH):
        width = width * inverse + coefficient
    return 1 + width * inverse


def label_log_prob(components: Tensor, deviation: Tensor) -> Tensor:
    """Log density [B] of the deviation of the true value from the label, in units of σ.

    Parameters
    ----------
    components
        Components [B, K, 3] (normal) or [B, K, 4] (Student's t).
    deviation
        True value minus label over σ [B]; the density of the value itself is lower by ln σ.
    """
    log_weight, offset, scale, *freedom = components.double().unbind(dim=2)
    pull = (deviation.double()[:, None] - offset) / scale
    if freedom:
        log_density = _student_log_prob(pull, freedom[0])
    else:
        log_density = -(pull.square() + math.log(2 * math.pi)) / 2
    return torch.logsumexp(log_weight + log_density - scale.log(), dim=1).to(deviation.dtype)


def _student_log_prob(pull: Tensor, freedom: Tensor) -> Tensor:
    """Log density of Student's t distribution of unit scale; float64."""
    half = (freedom + 1) / 2
    norm = torch.lgamma(half) - torch.lgamma(freedom / 2) - (freedom * math.pi).log() / 2
    return norm - half * torch.log1p(pull.square() / freedom)


def unit_mixture(log_weight: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations [B, K] of normal components, shifted and scaled in common.

    Afterwards the mean of the mixture is 0, and half the width of its central 68.27 % is 1.

    Parameters
    ----------
    log_weight, mean, scale
        Log weights, means and standard deviations of the components [B, K].
    """
    weight = log_weight.exp()
    centred = mean - (weight * mean).sum(dim=1, keepdim=True)
    low, high = _quantiles(weight, centred, scale).unbind(dim=1)
    width = (high - low)[:, None] / 2
    return centred / width, scale / width


def _quantiles(weight: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Quantiles [B, 2] of mixtures of normal distributions [B, K] at minus and plus one σ.

    They lie between those of the components; this range is divided again and again, into parts of
    which one is kept. A last step of Newton's method also gives the gradient of the implicit
    function, -(∂F/∂θ) / p. (Where the density p is tiny, between components far apart, the quantile
    jumps: the gradient is limited there.)
    """
    weight, mean = weight[..., None, None], mean[..., None, None]
    inverse = 1 / (math.sqrt(2) * scale[..., None, None])
    with torch.no_grad():
        sign = torch.tensor([[-1.0], [1.0]], dtype=mean.dtype, device=mean.device)
        of_components = mean + sign * scale[..., None, None]
        low, high = of_components.amin(1, keepdim=True), of_components.amax(1, keepdim=True)
        step = high - low
        least = 2 * _MIN_DENSITY / (step + scale.amax(dim=1)[:, None, None, None])
        level = (2 * _ONE_SIGMA - 1) * sign
        edges = torch.arange(1, _PARTS, dtype=mean.dtype, device=mean.device)
        for _ in range(_DIVISIONS):
            step = step / _PARTS
            is_below = _balance(weight, mean, inverse, low + step * edges) < level
            low = low + step * is_below.sum(dim=3, keepdim=True)
        found = low + step / 2
        height = torch.exp(-((found - mean) * inverse).square()) * inverse
        slope = (weight * height).sum(dim=1, keepdim=True) * (2 / math.sqrt(math.pi))
    balance = _balance(weight, mean, inverse, found)
    return (found - (balance - level) / torch.maximum(slope, least)).flatten(1)


def _balance(weight: Tensor, mean: Tensor, inverse: Tensor, values: Tensor) -> Tensor:
    """Share of mixtures of normal distributions below values [B, 1, …], minus that above.

    Weights, means and 1 / (√2 σ) of the components are [B, K, …].
    """
    of_components: Tensor = weight * erf((values - mean) * inverse)
    return of_components.sum(dim=1, keepdim=True)


def direction_log_prob(components: Tensor, direction: Tensor) -> Tensor:
    """Log density [B] per steradian of a mixture of von Mises-Fisher distributions.

    Parameters
    ----------
    components
        Components [B, K, 4].
    direction
        True directions [B, 3], of length 1.
    """
    log_weight, natural = components[..., 0], components[..., 1:]
    kappa = _length(natural)
    # = 1 - cos ψ, exact for small angles
    deviation = (natural / kappa[..., None] - direction[:, None]).square().sum(dim=2) / 2
    return torch.logsumexp(log_weight + log_fisher_norm(kappa) - kappa * deviation, dim=1)


def direction_mean(components: Tensor) -> Tensor:
    """Mean vector [B, 3] of a mixture [B, K, 4] of von Mises-Fisher distributions; float64."""
    weight, natural = components[..., 0].exp(), components[..., 1:]
    kappa = _length(natural)
    of_component = (weight * mean_cosine(kappa) / kappa)[..., None]
    return (of_component * natural).sum(dim=1)


def direction_moments(mean: Tensor) -> tuple[Tensor, Tensor]:
    """Direction [B, 3], of length 1, and concentration κ [B] of mean vectors [B, 3]; float64.

    κ is that of the von Mises-Fisher distribution with the same mean vector.
    """
    length = mean.square().sum(dim=1).clamp(min=_MIN_LENGTH).sqrt()
    found = fisher_concentration(length.detach())
    if length.requires_grad:  # that of the inverse function
        found = found + (length - length.detach()) / fisher_slope(found)
    return unit_vector(mean), found


def _length(vectors: Tensor) -> Tensor:
    """Lengths [B, K] of vectors [B, K, 3], not 0."""
    return vectors.square().sum(dim=2).sqrt()
