"""One likelihood for all labels: what networks with density heads are trained with."""

import torch
from torch import Tensor

from dnn_reco.modules.loss.classification_loss import cross_entropies
from dnn_reco.modules.loss.default_loss import gaussian_likelihood
from dnn_reco.modules.loss.direction_loss import von_mises_fisher
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.loss.reduction import weighted_mean
from dnn_reco.modules.loss.special_labels import named_labels, uses_labels, where_class
from dnn_reco.nn.interface import Prediction

_VECTOR = ("label_dir_x_key", "label_dir_y_key", "label_dir_z_key")
_ANGLES = ("label_zenith_key", "label_azimuth_key")


@uses_labels(joined=_VECTOR, implied=_ANGLES)
def negative_log_likelihood(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨-2 ln p⟩ of all labels, each with the density that suits it.

    Ordinary labels are normally distributed (`gaussian_likelihood`), directions follow the von
    Mises-Fisher distribution (`von_mises_fisher`: a third at each component of the vector), and
    for classification labels it is twice their cross entropy. Zenith and azimuth follow from the
    vector where it is among the labels: they are 0 then, so that nothing counts twice.
    """
    losses = gaussian_likelihood(prediction, truth, context)
    entropy = weighted_mean(cross_entropies(prediction, truth), context.event_weights)
    losses = where_class(context, 2 * entropy, losses)
    vector = named_labels(_VECTOR, context)
    if len(vector) < len(_VECTOR):
        return losses
    fisher = von_mises_fisher(prediction, truth, context)
    columns = [*vector, *named_labels(_ANGLES, context)]
    is_direction = [column in columns for column in range(len(context.label_names))]
    return torch.where(torch.tensor(is_direction, device=losses.device), fisher, losses)
