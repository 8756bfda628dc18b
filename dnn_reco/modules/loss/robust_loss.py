"""Robust losses, on which outliers have little influence.

d is the residual in the transformed space, σ the predicted uncertainty, ⟨·⟩ the average over
events with their weights.
"""

import torch
from torch import Tensor

from dnn_reco.modules.loss.interface import MIN_UNCERTAINTY, LossContext, Truth
from dnn_reco.modules.loss.reduction import weighted_mean
from dnn_reco.nn.interface import Prediction

# Huber's constant: 95 % efficiency for normally distributed residuals
_HUBER_CONSTANT = 1.345
# Of Student's t: tails like 1/d⁵, and still a finite variance
_DEGREES_OF_FREEDOM = 4


def huber(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨h(d)⟩ + ⟨h(σ - |d|)⟩; the second term trains only σ.

    h(x) = x² for |x| < δ, as in `mse`, and 2δ|x| - δ² beyond (Huber 1964). δ is 1.345 standard
    deviations of the residuals as estimated with `label_scale_tukey`; without it, 1.345.
    """
    residual = context.residual_trafo
    error = prediction.uncertainty_trafo - residual.detach().abs()
    limit = _HUBER_CONSTANT * context.residual_scale
    terms = _square_then_linear(residual, limit) + _square_then_linear(error, limit)
    return weighted_mean(terms, context.event_weights)


def _square_then_linear(values: Tensor, limit: Tensor) -> Tensor:
    magnitude = values.abs()
    bounded = torch.minimum(magnitude, limit)
    return bounded * (2 * magnitude - bounded)


def student(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨2 ln σ + 5 ln(1 + (d / σ)² / 2)⟩: a likelihood with heavy tails.

    Minus twice the logarithm of Student's t distribution with ν = 4 degrees of freedom, scaled to
    the standard deviation σ (for any ν: 2 ln σ + (ν + 1) ln(1 + (d / σ)² / (ν - 2)), of which the
    Gaussian likelihood is the limit).
    """
    sigma = prediction.uncertainty_trafo.clamp(min=MIN_UNCERTAINTY)
    squared_pull = (context.residual_trafo / sigma).square()
    tails = torch.log1p(squared_pull / (_DEGREES_OF_FREEDOM - 2))
    terms = 2 * sigma.log() + (_DEGREES_OF_FREEDOM + 1) * tails
    return weighted_mean(terms, context.event_weights)
