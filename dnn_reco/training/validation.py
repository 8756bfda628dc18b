"""Validation during training: batches for the printed metrics, and the validation set."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.loader import read_tensors
from dnn_reco.nn.scalars import collect_scalars
from dnn_reco.training.data import TrainingData
from dnn_reco.training.ema import ExponentialMovingAverage
from dnn_reco.training.evaluation_hook import EvaluationHook
from dnn_reco.training.forward import ForwardPass, ForwardResult
from dnn_reco.training.logging import (
    TrainingLog,
    batch_section,
    format_untrained,
    format_validation,
)
from dnn_reco.training.loss_inputs import concatenate
from dnn_reco.training.metrics import BatchMetrics, batch_metrics
from dnn_reco.training.settings import TrainerSettings
from dnn_reco.training.validation_set import ValidationMetrics, ValidationSet, measure


@dataclass(frozen=True)
class Validation:
    """Validates the network, with the moving average of its weights if there is one.

    The network is in evaluation mode then: no dropout, and nothing in it changes.

    Attributes
    ----------
    forward
        The network with its objectives and label weights.
    data
        The events.
    settings
        Batch size, frequency and seed.
    ema
        The moving average of the weights; None: they are not averaged.
    hook
        Called with both batches of printed metrics; None: nothing is.
    """

    forward: ForwardPass
    data: TrainingData
    settings: TrainerSettings
    ema: ExponentialMovingAverage | None
    hook: EvaluationHook | None

    @torch.no_grad()
    def log_batch_metrics(
        self, iteration: int, iterations_of_call: int, log: TrainingLog
    ) -> dict[str, Any]:
        """Metrics of a fresh batch of training and of validation events, printed and logged.

        Both batches come from streams of their own, so that validating more often does not change
        the run. Returns sections for `metrics.jsonl`.
        """
        number = iteration // self.settings.validation_frequency
        self.forward.network.eval()
        batches = {
            "train": (self.data.training, "training print-out"),
            "val": (self.data.validation, "validation"),
        }
        scalars: dict[str, dict[str, float]] = {name: {} for name in batches}
        results, metrics = {}, {}
        with self._averaged_weights():
            for name, (events, stream) in batches.items():
                with collect_scalars(scalars[name]):
                    results[name] = self._predict(events, stream, number)
        for name, result in results.items():
            with collect_scalars(scalars[name]):
                metrics[name] = self._metrics(result)
        label_weights, names = self.forward.label_weights, self.forward.spec.label_names
        trained = label_weights.trained.cpu().numpy()
        seconds = log.bar.seconds
        text = format_validation(
            iteration,
            seconds,
            seconds / iterations_of_call,
            names,
            trained,
            label_weights.current.cpu().numpy(),
            metrics["train"],
            metrics["val"],
        )
        log.print_metrics(text)
        log.tensorboard.write(iteration, names, trained, metrics)
        sections = {name: batch_section(each, names, trained) for name, each in metrics.items()}
        if self.settings.log_untrained_labels:
            untrained = {name: self.forward.untrained_rmse(each) for name, each in results.items()}
            log.print_metrics(format_untrained(untrained["train"], untrained["val"]))
            for name, rmse in untrained.items():
                sections[name]["untrained_rmse"] = rmse
                scalars[name] |= {f"rmse/{label}": value for label, value in rmse.items()}
        for name, values in scalars.items():
            log.tensorboard.add_scalars(name, values, iteration)
        if self.hook is not None:
            add_scalar = log.tensorboard.add_scalar
            self.hook(iteration, results["train"], results["val"], log.print, add_scalar)
        return sections

    @torch.no_grad()
    def evaluate(self, validation_set: ValidationSet) -> ValidationMetrics:
        """Metrics of the validation set, its labels weighted as in the config."""
        forward = self.forward
        forward.network.eval()
        with self._averaged_weights():
            results = [forward(batch.to(forward.device)) for batch in validation_set.batches]
        inputs = concatenate([result.loss_inputs for result in results])
        weights = forward.label_weights.initial
        return measure(inputs, forward.objectives, weights, forward.spec.label_keys)

    def _predict(self, events: EventDataset, stream: str, number: int) -> ForwardResult:
        order, size = self.settings.order(events, stream), self.settings.batch_size
        batch = read_tensors(events, order, number, size, self.data.event_weights)
        return self.forward(batch.to(self.forward.device))

    def _metrics(self, result: ForwardResult) -> BatchMetrics:
        inputs = result.loss_inputs
        label_losses = [o.label_losses(inputs) for o in self.forward.objectives]
        return batch_metrics(
            self.forward.losses(result),
            torch.stack(label_losses).sum(dim=0),
            inputs.prediction,
            inputs.truth,
            inputs.context.residual_trafo,
        )

    def _averaged_weights(self) -> AbstractContextManager[None]:
        """The network has the moving average of its weights inside, if there is one."""
        return nullcontext() if self.ema is None else self.ema.in_network()
