"""Metrics of a batch, by hand."""

import numpy as np
import torch

from dnn_reco.modules.loss.interface import Truth
from dnn_reco.nn.interface import Prediction
from dnn_reco.training.metrics import batch_metrics, trained_labels


def test_metrics_of_a_batch() -> None:
    residual = torch.tensor([[1.0, -3.0], [3.0, 5.0]])
    uncertainty = torch.tensor([[1.0, 2.0], [2.0, 2.0]])
    labels = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    prediction = Prediction(labels + 1, uncertainty, labels + 2, uncertainty + 1, labels)
    truth = Truth(labels + 3, labels + 4)
    losses = {"only": (torch.tensor(2.0), torch.tensor(2.5))}
    found = batch_metrics(losses, torch.tensor([0.5, 1.5]), prediction, truth, residual)
    assert found.losses == {"only": (2.0, 2.5)}
    np.testing.assert_allclose(found.rmse, [5**0.5, 17**0.5])
    np.testing.assert_allclose(found.bias, [2.0, 1.0])
    np.testing.assert_allclose(found.pull, [0.25, 2.0])  # of 1, 1.5 and of -1.5, 2.5
    np.testing.assert_allclose(found.mean, truth.labels.mean(dim=0))
    np.testing.assert_allclose(found.predicted, prediction.labels_trafo)
    np.testing.assert_allclose(found.true, truth.labels_trafo)
    np.testing.assert_allclose(found.uncertainty, uncertainty)
    np.testing.assert_allclose(found.label_loss, [0.5, 1.5])


def test_trained_labels_are_sorted_by_name() -> None:
    assert trained_labels(["b", "c", "a"], np.array([True, False, True])) == [("a", 2), ("b", 0)]
