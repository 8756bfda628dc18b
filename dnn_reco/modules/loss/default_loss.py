"""The standard losses: one value for each label, averaged over the events of the batch.

d is the residual in the transformed space, σ the predicted uncertainty, ⟨·⟩ the average over
events with their weights.
"""

from torch import Tensor

from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.nn.interface import Prediction

_MIN_UNCERTAINTY = 1e-6
# Standard deviation over median absolute deviation of a normal distribution
_MAD_TO_STD = 1.4826
# Tukey's constant: 95 % efficiency for normally distributed residuals
_TUKEY_CONSTANT = 4.6851


def weighted_mean(values: Tensor, event_weights: Tensor | None) -> Tensor:
    """Average over events [L] of values [B, L], with weights [B, 1] if there are any."""
    if event_weights is None:
        return values.mean(dim=0)
    return (values * event_weights).sum(dim=0) / event_weights.sum()


def mse(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨d²⟩ + ⟨(σ - |d|)²⟩; the second term trains σ alone."""
    residual = context.residual_trafo
    error = prediction.uncertainty_trafo - residual.detach().abs()
    return weighted_mean(residual.square() + error.square(), context.event_weights)


def abs(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨|d|⟩ + ⟨|σ - |d||⟩; the second term trains σ alone."""
    residual = context.residual_trafo.abs()
    error = prediction.uncertainty_trafo - residual.detach()
    return weighted_mean(residual + error.abs(), context.event_weights)


def weighted_mse(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨(d / σ)²⟩ with σ held fixed, at least 0.001."""
    sigma = prediction.uncertainty_trafo.detach().clamp(min=1e-3)
    return weighted_mean((context.residual_trafo / sigma).square(), context.event_weights)


def gaussian_likelihood(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨2 ln σ + (d / σ)²⟩: minus twice the logarithm of a normal distribution of width σ."""
    sigma = prediction.uncertainty_trafo.clamp(min=_MIN_UNCERTAINTY)
    terms = 2 * sigma.log() + (context.residual_trafo / sigma).square()
    return weighted_mean(terms, context.event_weights)


def pull_distribution_scale(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """(Var(d / σ) - 1)², which trains σ alone; event weights are not used."""
    pulls = context.residual_trafo.detach() / prediction.uncertainty_trafo
    return (pulls.var(dim=0, correction=0) - 1).square()


def tukey(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """Tukey's biweight of the residual in units of its scale: quadratic, then flat for outliers."""
    ratio = context.residual_trafo / (_MAD_TO_STD * context.tukey_scale) / _TUKEY_CONSTANT
    terms = 1 - (1 - ratio.square()).clamp(min=0) ** 3
    return weighted_mean(_TUKEY_CONSTANT**2 / 6 * terms, context.event_weights)
