"""The validation set: the same events each time, for figures that can be compared.

Which events it holds depends on the validation files alone, not on the seed. It is read once and
stays in memory (some 17 kB an event), so that an evaluation never waits for data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.hit_batch import TensorBatch
from dnn_reco.data.loader import EventWeightFunction, to_tensors
from dnn_reco.data.sampling import EventOrder
from dnn_reco.evaluation import metrics
from dnn_reco.evaluation.classification import area_under_curve
from dnn_reco.evaluation.metrics import ValueWithError
from dnn_reco.nn.device import as_array
from dnn_reco.nn.interface import LabelKeys
from dnn_reco.training.loss_inputs import LossInputs
from dnn_reco.training.metrics import trained_labels
from dnn_reco.training.objectives import Objective

# Events predicted together, or those of a training batch if these are more: small batches leave a
# GPU idle, larger ones than in training might not find room on it.
_EVENTS_AT_ONCE = 128
# Groups of events that are left out in turn for the errors of losses.
_GROUPS = 20
# Of probabilities, whose residuals follow no bell curve.
_NOT_OF_CLASSES = ("width_68", "pull", "pull_68")


@dataclass(frozen=True)
class ValidationSet:
    """The events, in batches.

    Attributes
    ----------
    batches
        All of them, on the CPU.
    num_events
        How many there are.
    digest
        Digest of which events they are, their true labels and weights.
    """

    batches: tuple[TensorBatch, ...]
    num_events: int
    digest: str


def read_validation_set(
    events: EventDataset,
    num_events: int,
    batch_size: int,
    event_weights: EventWeightFunction | None,
) -> ValidationSet:
    """Choose and read a validation set.

    Parameters
    ----------
    events
        The validation events.
    num_events
        How many of them to take, at most.
    batch_size
        Events of a batch in training.
    event_weights
        Gives the weights of the events; None: all weigh the same.
    """
    num_events = min(num_events, len(events))
    numbers = EventOrder(events.events_per_shard, 0, "validation set").batch(0, num_events)
    read = events.read(numbers)
    weights = None if event_weights is None else event_weights(read)
    at_once = max(batch_size, _EVENTS_AT_ONCE)
    batches = []
    for start in range(0, num_events, at_once):
        stop = min(start + at_once, num_events)
        of_part = None if weights is None else weights[start:stop]
        batches.append(replace(to_tensors(read.part(start, stop)), event_weights=of_part))
    digest = hashlib.blake2b(read.ids.tobytes() + read.labels.tobytes(), digest_size=16)
    digest.update(b"" if weights is None else weights.numpy().tobytes())
    return ValidationSet(tuple(batches), num_events, digest.hexdigest())


def measure_digest(
    events: str,
    objectives: Sequence[Objective],
    weights: Tensor,
    code: Mapping[str, str],
    ema_decay: float | None,
) -> str:
    """Digest of all that the total loss depends on, except the network.

    Parameters
    ----------
    events
        Digest of the validation set.
    objectives
        The optimizers, with their losses.
    weights
        Weights of the labels in the config [L].
    code
        Digest of the source of each loss of the user, by dotted name.
    ema_decay
        Decay of the moving average of the weights that is evaluated; None: there is none.
    """
    losses = [
        (loss.__module__, getattr(loss, "__qualname__", type(loss).__qualname__))
        for objective in objectives
        for loss in objective.losses
    ]
    text = repr((events, losses, weights.tolist(), sorted(code.items()), ema_decay))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class ValidationMetrics:
    """How well the validation set is predicted, with statistical errors.

    Attributes
    ----------
    num_events
        Number of events N.
    loss
        Sum over all optimizers of the loss, labels weighted as in the config, without penalties.
    losses
        The same of each optimizer.
    label_names
        Names of the T trained labels, sorted; of them are all that follow.
    columns
        Where they stand among all labels [T].
    label_loss
        Loss, all optimizers together, without the label's weight [T].
    rmse, width_68
        Root mean square of the transformed residual; half the width of its central 68 % [T].
    bias
        Mean of the transformed residual [T].
    pull, pull_68
        Standard deviation of residual / uncertainty; half the width of its central 68 % [T].
    opening_angles
        Mean and median opening angle [degrees] where a direction is trained: "" by zenith and
        azimuth, "_vector" by the direction vector.
    true, predicted
        True and predicted labels in physical units [N, T].
    auc
        Area under the ROC curve of each trained classification label, by name: these have it in
        place of widths and pulls. NaN where all events are of one kind.
    """

    num_events: int
    loss: ValueWithError
    losses: Mapping[str, ValueWithError]
    label_names: tuple[str, ...]
    columns: tuple[int, ...]
    label_loss: ValueWithError
    rmse: ValueWithError
    width_68: ValueWithError
    bias: ValueWithError
    pull: ValueWithError
    pull_68: ValueWithError
    opening_angles: Mapping[str, tuple[ValueWithError, ValueWithError]]
    true: NDArray[np.float64]
    predicted: NDArray[np.float64]
    auc: Mapping[str, ValueWithError] = field(default_factory=dict)

    def of_label(self, number: int) -> dict[str, ValueWithError]:
        """All that is measured of one of the labels, by name of the measure."""
        name = self.label_names[number]
        found = {
            key: ValueWithError(measured.value[number], measured.error[number])
            for key, measured in self._of_labels().items()
            if not (name in self.auc and key in _NOT_OF_CLASSES)
        }
        return found | ({"auc": self.auc[name]} if name in self.auc else {})

    def _of_labels(self) -> dict[str, ValueWithError]:
        """All that is measured of each label [T], by name of the measure."""
        names = ("rmse", "width_68", "bias", "pull", "pull_68", "label_loss")
        return {name: getattr(self, name) for name in names}


@torch.no_grad()
def measure(
    loss_inputs: LossInputs, objectives: Sequence[Objective], weights: Tensor, keys: LabelKeys
) -> ValidationMetrics:
    """Metrics of the validation set.

    Errors of losses come from a jackknife over 20 groups of events, as a loss need not be a mean
    over events; for all else see :mod:`dnn_reco.evaluation.metrics`. Event weights count in losses
    alone.

    Parameters
    ----------
    loss_inputs
        Prediction and truth of all its events.
    objectives
        The optimizers, with their losses.
    weights
        Weights of the labels in the config [L].
    keys
        Names of special labels.
    """
    names = loss_inputs.context.label_names
    trained = trained_labels(names, weights.cpu().numpy() > 0)
    columns = [column for _, column in trained]
    true = as_array(loss_inputs.truth.labels[:, columns])
    predicted = as_array(loss_inputs.prediction.labels[:, columns])
    residual = as_array(loss_inputs.context.residual_trafo[:, columns])
    pull = residual / as_array(loss_inputs.prediction.uncertainty_trafo[:, columns])
    label_losses = _label_losses(loss_inputs, objectives)
    losses = (label_losses * as_array(weights)).sum(axis=-1)
    return ValidationMetrics(
        num_events=len(residual),
        loss=_measured(losses.sum(axis=-1)),
        losses={o.name: _measured(losses[:, i]) for i, o in enumerate(objectives)},
        label_names=tuple(name for name, _ in trained),
        columns=tuple(columns),
        label_loss=_measured(label_losses[..., columns].sum(axis=1)),
        opening_angles=dict(_opening_angles(true, predicted, [name for name, _ in trained], keys)),
        true=true,
        predicted=predicted,
        auc={
            name: _area_under_curve(predicted[:, i], true[:, i])
            for i, (name, _) in enumerate(trained)
            if name in keys.pid
        },
        **metrics.residual_metrics(residual),
        **metrics.pull_metrics(pull),
    )


def _label_losses(loss_inputs: LossInputs, objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """Loss of each optimizer and label: of all events, then without each group [1 + K, O, L]."""
    num_events = len(loss_inputs.context.residual_trafo)
    group = torch.arange(num_events, device=loss_inputs.context.residual_trafo.device) % _GROUPS
    num_groups = min(_GROUPS, num_events) if num_events > 1 else 0
    samples = [loss_inputs, *(loss_inputs.select(group != number) for number in range(num_groups))]
    losses = [o.label_losses(sample) for sample in samples for o in objectives]
    return as_array(torch.stack(losses)).reshape(len(samples), len(objectives), -1)


def _measured(samples: NDArray[np.float64]) -> ValueWithError:
    """What was computed of all events and, in the next rows, without each group of them."""
    return ValueWithError(samples[0], metrics.jackknife_error(samples[1:]))


def _area_under_curve(
    probability: NDArray[np.float64], truth: NDArray[np.float64]
) -> ValueWithError:
    """Area under the ROC curve; truth above one half is the class, as labels may be smoothed."""
    known = np.isfinite(probability)
    return area_under_curve(probability[known], truth[known] > 0.5)


def _opening_angles(
    true: NDArray[np.float64], predicted: NDArray[np.float64], names: Sequence[str], keys: LabelKeys
) -> Iterator[tuple[str, tuple[ValueWithError, ValueWithError]]]:
    for columns in metrics.direction_columns(names, keys):
        angle = metrics.angle_metrics(metrics.opening_angle_degrees(true, predicted, columns))
        suffix = "_vector" if len(columns) == 3 else ""
        yield suffix, (angle["mean"], angle["50"])
