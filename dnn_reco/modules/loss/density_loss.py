"""One likelihood for all labels, for networks with density heads."""

from torch import Tensor

from dnn_reco.modules.loss.classification_loss import cross_entropies
from dnn_reco.modules.loss.default_loss import gaussian_likelihood
from dnn_reco.modules.loss.direction_loss import von_mises_fisher
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.loss.reduction import weighted_mean
from dnn_reco.modules.loss.special_labels import (
    ANGLES,
    DIRECTION_VECTOR,
    named_labels,
    replaced_at,
    uses_labels,
    where_class,
)
from dnn_reco.nn.interface import Prediction


@uses_labels(joined=DIRECTION_VECTOR, implied=ANGLES)
def negative_log_likelihood(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨-2 ln p⟩ of all labels, each with the density of its kind.

    Ordinary labels are normally distributed (`gaussian_likelihood`), directions follow the von
    Mises-Fisher distribution (`von_mises_fisher`: a third at each component of the vector), and
    for classification labels it is twice their cross entropy. Zenith and azimuth follow from the
    vector if it is among the labels: they are 0 then, so that nothing is counted twice.
    """
    losses = gaussian_likelihood(prediction, truth, context)
    entropy = weighted_mean(cross_entropies(prediction, truth), context.event_weights)
    losses = where_class(context, 2 * entropy, losses)
    vector = named_labels(DIRECTION_VECTOR, context)
    if len(vector) < len(DIRECTION_VECTOR):
        return losses
    fisher = von_mises_fisher(prediction, truth, context)
    of_direction = [*vector, *named_labels(ANGLES, context)]
    return replaced_at(of_direction, fisher, losses)
