"""Validation during training: batches for the print-out, and the validation set."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.loader import EventWeightFunction, read_tensors
from dnn_reco.training.ema import ExponentialMovingAverage
from dnn_reco.training.evaluation_hook import EvaluationHook
from dnn_reco.training.forward import ForwardPass, ForwardResult
from dnn_reco.training.logging import TrainingLog, batch_section, format_validation
from dnn_reco.training.metrics import BatchMetrics, batch_metrics
from dnn_reco.training.settings import TrainerSettings
from dnn_reco.training.validation_set import (
    LossInputs,
    ValidationMetrics,
    ValidationSet,
    join,
    measure,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """Looks how well the network predicts, with the moving average of its weights if there is one.

    The network is in inference mode then: no dropout, and nothing in it changes.

    Attributes
    ----------
    judge
        Predicts batches.
    settings
        How training shall go.
    training_events, validation_events
        The data.
    average
        The moving average of the weights; None: they are not averaged.
    event_weights
        Gives the weights of the events; None: all weigh the same.
    hook
        Called after each print-out; None: nothing is.
    validation_set
        Events to evaluate now and then, always the same; None: there are none.
    """

    judge: ForwardPass
    settings: TrainerSettings
    training_events: EventDataset
    validation_events: EventDataset
    average: ExponentialMovingAverage | None
    event_weights: EventWeightFunction | None
    hook: EvaluationHook | None
    validation_set: ValidationSet | None

    @torch.no_grad()
    def log_batch_metrics(
        self, iteration: int, iterations_of_call: int, reports: TrainingLog
    ) -> dict[str, Any]:
        """Score a fresh batch of training and of validation events; print and log.

        Both batches come from streams of their own, so that validating more often does not change
        the run. Returns sections for `metrics.jsonl`.
        """
        number = iteration // self.settings.validation_frequency
        self.judge.network.eval()
        with self._averaged_weights():
            judged = {
                "train": self._judge_batch(self.training_events, "training print-out", number),
                "val": self._judge_batch(self.validation_events, "validation", number),
            }
        scores = {name: self._score(batch) for name, batch in judged.items()}
        weights = self.judge.label_weights.current.cpu().numpy()
        trained = self.judge.label_weights.trained.cpu().numpy()
        names = self.judge.label_names
        seconds = reports.bar.seconds
        text = format_validation(
            iteration,
            seconds,
            seconds / iterations_of_call,
            names,
            trained,
            weights,
            scores["train"],
            scores["val"],
        )
        reports.bar.print(text)
        reports.tensorboard.write(iteration, names, trained, scores)
        if self.hook is not None:
            self._call_hook(self.hook, iteration, judged, reports)
        return {name: batch_section(batch, names, trained) for name, batch in scores.items()}

    def _call_hook(
        self,
        hook: EvaluationHook,
        iteration: int,
        judged: dict[str, ForwardResult],
        reports: TrainingLog,
    ) -> None:
        train, val = (judged[name].predicted for name in ("train", "val"))
        hook(iteration, train, val, reports.bar.print, reports.tensorboard.add_scalar)

    @torch.no_grad()
    def score_set(self, validation_set: ValidationSet) -> ValidationMetrics:
        """Score the validation set, its labels weighted as in the config."""
        judge = self.judge
        device = judge.label_weights.initial.device
        judge.network.eval()
        with self._averaged_weights():
            judged = [judge(batch.to(device)) for batch in validation_set.batches]
        loss_inputs = join([LossInputs(j.prediction, j.truth, j.context) for j in judged])
        return measure(loss_inputs, judge.objectives, judge.label_weights.initial, judge.label_keys)

    def _judge_batch(self, events: EventDataset, stream: str, number: int) -> ForwardResult:
        order = self.settings.order(events, stream)
        batch = read_tensors(events, order, number, self.settings.batch_size, self.event_weights)
        return self.judge(batch.to(self.judge.label_weights.initial.device))

    def _score(self, judged: ForwardResult) -> BatchMetrics:
        loss_inputs = (judged.prediction, judged.truth, judged.context)
        label_losses = [o.label_losses(*loss_inputs) for o in self.judge.objectives]
        return batch_metrics(
            self.judge.losses(judged),
            torch.stack(label_losses).sum(dim=0),
            judged.prediction,
            judged.truth,
            judged.context.residual_trafo,
        )

    def _averaged_weights(self) -> AbstractContextManager[None]:
        """While this lasts, the network has the moving average of its weights, if there is one."""
        return nullcontext() if self.average is None else self.average.in_network()
