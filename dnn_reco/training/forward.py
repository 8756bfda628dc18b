"""What the network says of a batch beside the truth, and the losses of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dnn_reco.data.hit_batch import TensorBatch
from dnn_reco.modules.evaluation.interface import PredictedBatch
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.loss.residual import mask_untrained, residual_trafo
from dnn_reco.modules.loss.special_labels import true_label_names
from dnn_reco.nn.interface import LabelKeys, Network, Prediction
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.nn.predictor import Predictor
from dnn_reco.training.distributed import DistributedContext
from dnn_reco.training.label_weights import LabelWeights
from dnn_reco.training.objectives import Objective


@dataclass(frozen=True)
class ForwardResult:
    """A batch with what the network says of it, ready for losses and scores.

    Attributes
    ----------
    predicted
        The batch, and all that the network says of it.
    prediction, truth
        Prediction and truth of the trained labels, the others blanked.
    context
        What else losses may need.
    """

    predicted: PredictedBatch
    prediction: Prediction
    truth: Truth
    context: LossContext


class ForwardPass:
    """Lets the network predict batches, in whatever mode it is, and compares with the truth.

    Parameters
    ----------
    network
        The network, on its device.
    label_transform
        Transformation of the labels, on the same device.
    label_keys
        Names of special labels.
    label_names
        Names of the labels.
    objectives
        The optimizers, with their losses.
    label_weights
        Weights of the labels.
    predict
        The network as it shall compute (:func:`dnn_reco.nn.predictor.predictor`).
    """

    def __init__(
        self,
        network: Network,
        label_transform: LabelTransform,
        label_keys: LabelKeys,
        label_names: Sequence[str],
        objectives: Sequence[Objective],
        label_weights: LabelWeights,
        predict: Predictor,
    ) -> None:
        self.network = network
        self.predict = predict
        self.label_transform = label_transform
        self.label_keys = label_keys
        self.label_names = tuple(label_names)
        self.objectives = tuple(objectives)
        self.label_weights = label_weights
        self._azimuth_period = label_transform.azimuth_period(self.label_names, label_keys.azimuth)
        losses = [loss for objective in self.objectives for loss in objective.losses]
        needed = true_label_names(losses, label_keys)
        self._true_needed = torch.tensor(
            [name in needed for name in self.label_names], device=label_weights.initial.device
        )

    def __call__(
        self, batch: TensorBatch, distributed: DistributedContext | None = None
    ) -> ForwardResult:
        """Predict a batch, and set prediction and truth side by side.

        Labels of weight 0 are blanked here, before any loss: nothing that the network says of them
        can reach the loss or its gradient. (Only the true values stay that a loss asks for.)

        Parameters
        ----------
        batch
            The batch, on the device of the network.
        distributed
            The processes that predict a part of it each; None: this one predicts all.
        """
        prediction = (
            self.predict(batch.hits)
            if distributed is None
            else distributed.predict(self.predict, batch.hits, len(batch.labels))
        )
        predicted = PredictedBatch(batch, prediction)
        truth = Truth(batch.labels, self.label_transform(batch.labels))
        prediction, truth = mask_untrained(
            prediction, truth, self.label_weights.trained, self._true_needed
        )
        context = LossContext(
            self.label_names,
            self.label_keys,
            residual_trafo(prediction.labels_trafo, truth.labels_trafo, self._azimuth_period),
            batch.event_weights,
            self.label_weights.tukey_scale,
        )
        return ForwardResult(predicted, prediction, truth, context)

    def losses(self, judged: ForwardResult) -> dict[str, tuple[Tensor, Tensor]]:
        """Loss of each optimizer, without and with its penalties."""
        return {
            objective.name: objective.loss(
                judged.prediction, judged.truth, judged.context, self.label_weights.current
            )
            for objective in self.objectives
        }
