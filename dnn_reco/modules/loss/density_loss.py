"""One likelihood for all labels, for networks with density heads."""

import math

from torch import Tensor

from dnn_reco.modules.loss.classification_loss import cross_entropies
from dnn_reco.modules.loss.default_loss import gaussian_likelihood
from dnn_reco.modules.loss.direction_loss import von_mises_fisher
from dnn_reco.modules.loss.interface import MIN_UNCERTAINTY, LossContext, Truth
from dnn_reco.modules.loss.reduction import at_labels, weighted_mean
from dnn_reco.modules.loss.special_labels import (
    ANGLES,
    DIRECTION_VECTOR,
    columns,
    label_indices,
    named_labels,
    replaced_at,
    uses_labels,
    where_class,
)
from dnn_reco.nn.densities import direction_log_prob, label_log_prob
from dnn_reco.nn.density_layout import DIRECTION, columns_of
from dnn_reco.nn.direction import unit_vector
from dnn_reco.nn.interface import Prediction
from dnn_reco.nn.sphere_flow import flow_log_prob


@uses_labels(joined=DIRECTION_VECTOR, implied=ANGLES, shapes=True)
def negative_log_likelihood(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨-2 ln p⟩ of all labels, each with the density of its kind.

    Ordinary labels are normally distributed (`gaussian_likelihood`), directions follow the von
    Mises-Fisher distribution (`von_mises_fisher`: a third at each component of the vector), and
    for classification labels it is twice their cross entropy. Zenith and azimuth follow from the
    vector if it is among the labels: they are 0 then, so that nothing is counted twice.

    Where the network predicts another shape of a density (`heads`), it is the density of that
    shape, without the same constant ln 2π for ordinary labels.
    """
    losses = gaussian_likelihood(prediction, truth, context)
    entropy = weighted_mean(cross_entropies(prediction, truth), context.event_weights)
    losses = where_class(context, 2 * entropy, losses)
    shaped = {
        context.label_names.index(shape.label): _label_loss(shape.label, prediction, context)
        for shape in context.layout
        if shape.label != DIRECTION
    }
    if shaped:
        losses = replaced_at(shaped, at_labels(shaped, len(context.label_names)), losses)
    vector = named_labels(DIRECTION_VECTOR, context)
    if len(vector) < len(DIRECTION_VECTOR):
        return losses
    if columns_of(context.layout, DIRECTION) is None:
        of_direction = von_mises_fisher(prediction, truth, context)
    else:
        of_direction = _direction_loss(prediction, truth, context)
    return replaced_at([*vector, *named_labels(ANGLES, context)], of_direction, losses)


def _label_loss(label: str, prediction: Prediction, context: LossContext) -> Tensor:
    """⟨-2 ln p⟩ of a label with a shape, without ln 2π."""
    components = _components(label, prediction, context)
    index = context.label_names.index(label)
    sigma = prediction.uncertainty_trafo[:, index].clamp(min=MIN_UNCERTAINTY)
    # predicted minus true value, but shapes are those of the true value
    log_prob = label_log_prob(components, -context.residual_trafo[:, index] / sigma) - sigma.log()
    terms = -2 * log_prob - math.log(2 * math.pi)
    return weighted_mean(terms[:, None], context.event_weights).squeeze(0)


def _direction_loss(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨-2 ln p⟩ of a direction with a shape, a third of it at each component of the vector [L]."""
    indices = label_indices(DIRECTION_VECTOR, context)
    true = unit_vector(columns(truth.labels, indices))
    found = columns_of(context.layout, DIRECTION)
    is_flow = found is not None and found[0].kind == "flow"
    density = flow_log_prob if is_flow else direction_log_prob
    log_prob = density(_components(DIRECTION, prediction, context), true)
    third = weighted_mean(-2 * log_prob[:, None], context.event_weights).squeeze(0) / 3
    return at_labels(dict.fromkeys(indices, third), len(context.label_names))


def _components(label: str, prediction: Prediction, context: LossContext) -> Tensor:
    """Components [B, K, parameters] of a shape that the network predicts."""
    found = columns_of(context.layout, label)
    assert found is not None
    shape, place = found
    parts = prediction.shapes[:, place]
    return parts.reshape(-1, shape.num_components, shape.num_parameters)
