"""Metrics of a batch during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.evaluation import metrics
from dnn_reco.modules.loss.interface import Truth
from dnn_reco.nn.interface import Prediction


@dataclass(frozen=True)
class BatchMetrics:
    """How well a batch is predicted; arrays by label [L].

    Attributes
    ----------
    losses
        Weighted loss of each optimizer, without and with penalties.
    rmse
        Root mean square of the transformed residual.
    pull
        Standard deviation of residual / uncertainty: 1 if uncertainties are right.
    bias
        Mean of the transformed residual.
    mean
        Mean of the true label, physical units.
    predicted, true, uncertainty
        Transformed labels and uncertainty of all events [B, L], for histograms (in physical units
        those of energies would be one bar).
    label_loss
        Loss, all optimizers together, without the label's weight.
    """

    losses: Mapping[str, tuple[float, float]]
    rmse: np.ndarray
    pull: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    predicted: np.ndarray
    true: np.ndarray
    uncertainty: np.ndarray
    label_loss: np.ndarray


def batch_metrics(
    losses: Mapping[str, tuple[Tensor, Tensor]],
    label_loss: Tensor,
    prediction: Prediction,
    truth: Truth,
    residual_trafo: Tensor,
) -> BatchMetrics:
    """Scores of a batch from what the network and the losses said."""
    residual, uncertainty = as_array(residual_trafo), as_array(prediction.uncertainty_trafo)
    return BatchMetrics(
        {name: (float(loss), float(total)) for name, (loss, total) in losses.items()},
        metrics.root_mean_square(residual).value,
        metrics.standard_deviation(residual / uncertainty).value,
        metrics.mean(residual).value,
        metrics.mean(as_array(truth.labels)).value,
        as_array(prediction.labels_trafo),
        as_array(truth.labels_trafo),
        uncertainty,
        as_array(label_loss),
    )


def as_array(values: Tensor) -> NDArray[np.float64]:
    """A tensor as an array of float64."""
    return values.detach().double().cpu().numpy()


def trained_labels(names: Sequence[str], trained: np.ndarray) -> list[tuple[str, int]]:
    """Name and column of the labels that are trained, sorted by name."""
    return sorted((name, i) for i, name in enumerate(names) if trained[i])
