"""The cross entropy, and losses of classification labels alone."""

import torch
from torch import Tensor
from torch.nn import functional

from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.loss.reduction import weighted_mean
from dnn_reco.modules.loss.special_labels import uses_labels, where_class
from dnn_reco.nn.interface import Prediction


def cross_entropies(prediction: Prediction, truth: Truth) -> Tensor:
    """Cross entropy of each event and label [B, L]; only meaningful for classification labels."""
    return functional.binary_cross_entropy_with_logits(
        prediction.logits, truth.labels, reduction="none"
    )


@uses_labels(only_classes=True)
def focal_cross_entropy(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    """⟨(y - p)² · cross entropy⟩ for classification labels, 0 for others.

    Events that are already classified well contribute little, which helps where one class is rare.
    For y of 0 or 1 it is the focal loss of Lin et al. (arXiv:1708.02002) with γ = 2 and no class
    weights; this form (Li et al., arXiv:2006.04388) has its minimum at p = y for smoothed labels,
    too.
    """
    entropy = cross_entropies(prediction, truth)
    error = truth.labels - prediction.logits.sigmoid()
    focal = weighted_mean(error.square() * entropy, context.event_weights)
    return where_class(context, focal, torch.zeros_like(focal))
