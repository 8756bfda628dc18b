"""The forward pass: prediction of a batch beside its truth, and the losses of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dnn_reco.data.hit_batch import TensorBatch
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.loss.special_labels import true_label_names
from dnn_reco.modules.loss.untrained import mask_untrained
from dnn_reco.nn.interface import Network, NetworkSpec, Prediction, density_layout
from dnn_reco.nn.label_transform import LabelTransform, residual_trafo
from dnn_reco.nn.misc_data import MiscTransform
from dnn_reco.nn.own_network import call_network
from dnn_reco.nn.predictor import Predictor
from dnn_reco.training.distributed import DistributedContext
from dnn_reco.training.label_weights import LabelWeights
from dnn_reco.training.loss_inputs import LossInputs
from dnn_reco.training.objectives import Objective


@dataclass(frozen=True)
class ForwardResult:
    """A batch with its prediction, ready for losses and metrics.

    Attributes
    ----------
    batch
        The batch, with its true labels.
    prediction
        Prediction of all labels, trained or not.
    loss_inputs
        What losses compare: prediction and truth of the trained labels, the others blanked.
    """

    batch: TensorBatch
    prediction: Prediction
    loss_inputs: LossInputs


class ForwardPass:
    """Predicts batches with the network, in whatever mode it is, and compares with the truth.

    Parameters
    ----------
    network
        The network, on its device.
    spec
        Names and transformation of its labels.
    objectives
        The optimizers, with their losses.
    label_weights
        Weights of the labels.
    predictor
        The network with its precision and compilation (:func:`dnn_reco.nn.predictor.predictor`);
        None: the network itself.
    """

    def __init__(
        self,
        network: Network,
        spec: NetworkSpec,
        objectives: Sequence[Objective],
        label_weights: LabelWeights,
        predictor: Predictor | None = None,
    ) -> None:
        self.network = network
        self.spec = spec
        self.objectives = tuple(objectives)
        self.label_weights = label_weights
        self.device = label_weights.initial.device
        self.label_transform = LabelTransform(spec.transformation).to(self.device)
        self.misc_transform = MiscTransform(spec.transformation).to(self.device)
        self._predictor = predictor or partial(call_network, network)
        keys, names = spec.label_keys, spec.label_names
        self._azimuth_period = self.label_transform.azimuth_period(names, keys.azimuth)
        losses = [loss for objective in self.objectives for loss in objective.losses]
        needed = true_label_names(losses, keys)
        self._true_needed = torch.tensor([name in needed for name in names], device=self.device)

    @property
    def num_weights(self) -> int:
        """Number of trainable weights."""
        parameters = {id(p): p.numel() for o in self.objectives for p in o.parameters.values()}
        return sum(parameters.values())

    def __call__(
        self, batch: TensorBatch, distributed: DistributedContext | None = None
    ) -> ForwardResult:
        """Predict a batch, and set prediction and truth side by side.

        Labels of weight 0 are blanked here, before any loss: no prediction of them can reach the
        loss or its gradient. (Only the true values stay that a loss asks for.)

        Parameters
        ----------
        batch
            The batch, on the device of the network.
        distributed
            The processes that predict a part of it each; None: this one predicts all.
        """
        misc = self.misc_transform.data(batch.misc)
        if distributed is None:
            prediction = self._predictor(batch.hits, misc)
        else:
            prediction = distributed.predict(self._predictor, batch.hits, misc)
        trained, truth = mask_untrained(
            prediction,
            Truth(batch.labels, self.label_transform(batch.labels)),
            self.label_weights.trained,
            self._true_needed,
        )
        context = LossContext(
            self.spec.label_names,
            self.spec.label_keys,
            residual_trafo(trained.labels_trafo, truth.labels_trafo, self._azimuth_period),
            batch.event_weights,
            self.label_weights.tukey_scale,
            misc,
            density_layout(self.network),
        )
        return ForwardResult(batch, prediction, LossInputs(trained, truth, context))

    def untrained_rmse(self, result: ForwardResult) -> dict[str, float]:
        """Root mean square of the transformed residual of each label of weight 0, by name."""
        true = self.label_transform(result.batch.labels)
        residual = residual_trafo(result.prediction.labels_trafo, true, self._azimuth_period)
        rmse = residual.square().mean(dim=0).sqrt().tolist()
        trained = self.label_weights.trained.tolist()
        labels = zip(self.spec.label_names, rmse, trained, strict=True)
        return {name: value for name, value, is_trained in labels if not is_trained}

    def losses(self, result: ForwardResult) -> dict[str, tuple[Tensor, Tensor]]:
        """Loss of each optimizer, without and with its penalties."""
        weights = self.label_weights.current
        return {o.name: o.loss(result.loss_inputs, weights) for o in self.objectives}
