"""Masking of labels that are not trained."""

from dataclasses import fields, replace

import torch
from torch import Tensor

from dnn_reco.modules.loss.interface import Truth
from dnn_reco.nn.interface import Prediction


def mask_untrained(
    prediction: Prediction, truth: Truth, trained: Tensor, true_needed: Tensor | None = None
) -> tuple[Prediction, Truth]:
    """Replace predictions and true values of untrained labels by constants.

    Losses of these labels are then finite, and their gradients 0, even where a prediction or a true
    label is NaN.

    Parameters
    ----------
    trained
        Whether each label has a weight [L], bool.
    true_needed
        Whether the true value of each label is kept in physical units even if it is not trained
        [L], bool: losses of other labels need it. None: of no label.
    """
    kept = trained if true_needed is None else trained | true_needed
    replaced = {
        tensor.name: torch.where(
            trained,
            getattr(prediction, tensor.name),
            1 if tensor.name in ("uncertainty", "uncertainty_trafo") else 0,
        )
        for tensor in fields(prediction)
        if tensor.name != "shapes"
    }
    return (
        replace(prediction, **replaced),
        Truth(
            labels=torch.where(kept, truth.labels, 0),
            labels_trafo=torch.where(trained, truth.labels_trafo, 0),
        ),
    )
