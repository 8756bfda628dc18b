"""Metrics of a batch during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dnn_reco.evaluation.metrics import mean, pull_metrics, residual_metrics
from dnn_reco.modules.loss.interface import Truth
from dnn_reco.nn.device import as_array
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
    """Metrics of a batch from its prediction and losses."""
    residual, uncertainty = as_array(residual_trafo), as_array(prediction.uncertainty_trafo)
    measured = residual_metrics(residual) | pull_metrics(residual / uncertainty)
    return BatchMetrics(
        losses={name: (float(loss), float(total)) for name, (loss, total) in losses.items()},
        rmse=measured["rmse"].value,
        pull=measured["pull"].value,
        bias=measured["bias"].value,
        mean=mean(as_array(truth.labels)).value,
        predicted=as_array(prediction.labels_trafo),
        true=as_array(truth.labels_trafo),
        uncertainty=uncertainty,
        label_loss=as_array(label_loss),
    )


def trained_labels(names: Sequence[str], trained: np.ndarray) -> list[tuple[str, int]]:
    """Name and column of the labels that are trained, sorted by name."""
    return sorted((name, i) for i, name in enumerate(names) if trained[i])
