"""The standard losses: one value for each label, averaged over the events of the batch.

d is the residual in the transformed space, σ the predicted uncertainty, ⟨·⟩ the average over
events with their weights.
"""

import math

import torch
from torch import Tensor

from dnn_reco.modules.loss.classification_loss import cross_entropies
from dnn_reco.modules.loss.interface import MIN_UNCERTAINTY, LossContext, Truth
from dnn_reco.modules.loss.reduction import at_labels, weighted_mean
from dnn_reco.modules.loss.special_labels import ANGLES, label_indices, uses_labels, where_class
from dnn_reco.nn.direction import angle_between, hypotenuse
from dnn_reco.nn.interface import Prediction

_MAX_PULL = 1e6
_MIN_ANGLE = 1e-6
# Tukey's constant: 95 % efficiency for normally distributed residuals
_TUKEY_CONSTANT = 4.6851


def mse(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨d²⟩ + ⟨(σ - |d|)²⟩; only σ is trained by the second term."""
    residual = context.residual_trafo
    error = prediction.uncertainty_trafo - residual.detach().abs()
    return weighted_mean(residual.square() + error.square(), context.event_weights)


def abs(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨|d|⟩ + ⟨|σ - |d||⟩; only σ is trained by the second term."""
    residual = context.residual_trafo.abs()
    error = prediction.uncertainty_trafo - residual.detach()
    return weighted_mean(residual + error.abs(), context.event_weights)


def weighted_mse(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨(d / σ)²⟩ with σ detached, at least 0.001."""
    sigma = prediction.uncertainty_trafo.detach().clamp(min=1e-3)
    return weighted_mean((context.residual_trafo / sigma).square(), context.event_weights)


def gaussian_likelihood(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨2 ln σ + (d / σ)²⟩: minus twice the logarithm of a normal distribution of width σ."""
    sigma = prediction.uncertainty_trafo.clamp(min=MIN_UNCERTAINTY)
    terms = 2 * sigma.log() + (context.residual_trafo / sigma).square()
    return weighted_mean(terms, context.event_weights)


def pull_distribution_scale(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """(Var(d / σ) - 1)², which trains only σ; event weights are not used."""
    sigma = prediction.uncertainty_trafo.clamp(min=MIN_UNCERTAINTY)
    pulls = (context.residual_trafo.detach() / sigma).clamp(-_MAX_PULL, _MAX_PULL)
    return (pulls.var(dim=0, correction=0) - 1).square()


def tukey(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """Tukey's biweight of the residual in units of its scale: quadratic, then flat for outliers."""
    ratio = context.residual_trafo / context.residual_scale / _TUKEY_CONSTANT
    terms = 1 - (1 - ratio.square()).clamp(min=0) ** 3
    return weighted_mean(_TUKEY_CONSTANT**2 / 6 * terms, context.event_weights)


def mse_and_cross_entropy(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨d²⟩; for classification labels their cross entropy ⟨-y ln p - (1 - y) ln(1 - p)⟩."""
    entropy = weighted_mean(cross_entropies(prediction, truth), context.event_weights)
    squares = weighted_mean(context.residual_trafo.square(), context.event_weights)
    return where_class(context, entropy, squares)


def mse_and_weighted_cross_entropy(
    prediction: Prediction, truth: Truth, context: LossContext
) -> Tensor:
    """⟨d²⟩; for classification labels a cross entropy that emphasises background of high score.

    The weight of an event is multiplied by the summed weight of the signal (y > 0.5) whose score
    is at most that of the event: background below all signal does not contribute.
    """
    entropy = cross_entropies(prediction, truth)
    weights = _signal_below(prediction.logits.detach(), truth.labels, context.event_weights)
    entropy = (entropy * weights).sum(dim=0) / (weights.sum(dim=0) + 1e-6)
    squares = weighted_mean(context.residual_trafo.square(), context.event_weights)
    return where_class(context, entropy, squares)


def _signal_below(logits: Tensor, labels: Tensor, event_weights: Tensor | None) -> Tensor:
    """Weight of each event times that of all signal with at most its logit [B, L]."""
    weights = torch.ones_like(logits) if event_weights is None else event_weights.expand_as(logits)
    order = logits.argsort(dim=0, stable=True)
    signal = torch.where(labels > 0.5, weights, 0).gather(0, order).cumsum(dim=0)
    return weights * torch.zeros_like(signal).scatter(0, order, signal)


@uses_labels(predicted=ANGLES)
def opening_angle(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨ψ⟩ + ⟨(ψ - s)²⟩ for zenith and azimuth, 0 for others; the second term trains only σ.

    ψ is the angle between true and predicted direction, s its scale: the root mean square of the
    uncertainties of zenith and of azimuth times sin(true zenith). All in radian.
    """
    angle, scale = _angle_and_scale(prediction, truth, context)
    return _at_angles(context, angle + (angle.detach() - scale).square())


@uses_labels(predicted=ANGLES)
def opening_angle_raleigh(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨ψ⟩ + ⟨(ψ / s)² + 4 ln s - 2 ln ψ⟩ for zenith and azimuth, 0 for others.

    ψ and s as for :func:`opening_angle`. The second term is minus twice the logarithm of a Rayleigh
    distribution, that of the length of a two-dimensional normal deviate of width s.
    """
    angle, scale = _angle_and_scale(prediction, truth, context)
    scale = scale.clamp(min=MIN_UNCERTAINTY)
    likelihood = (angle / scale).square() + 4 * scale.log() - 2 * angle.clamp(_MIN_ANGLE).log()
    return _at_angles(context, angle + likelihood)


def _angle_and_scale(
    prediction: Prediction, truth: Truth, context: LossContext
) -> tuple[Tensor, Tensor]:
    """Angle ψ between true and predicted direction and its uncertainty s, both [B], in radian."""
    zenith, azimuth = label_indices(ANGLES, context)
    predicted, true, sigma = prediction.labels, truth.labels, prediction.uncertainty
    angle = angle_between(
        true[:, zenith], true[:, azimuth], predicted[:, zenith], predicted[:, azimuth]
    )
    scale = hypotenuse(sigma[:, zenith], sigma[:, azimuth] * true[:, zenith].sin())
    return angle, scale / math.sqrt(2)


def _at_angles(context: LossContext, terms: Tensor) -> Tensor:
    """The average of terms [B] at zenith and at azimuth, 0 at other labels [L]."""
    mean = weighted_mean(terms.unsqueeze(1), context.event_weights).squeeze()
    indices = label_indices(ANGLES, context)
    return at_labels(dict.fromkeys(indices, mean), len(context.label_names))
