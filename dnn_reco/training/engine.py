"""The training loop.

One iteration: take the next batch, predict it, and let each optimizer take one step on its own
loss. Everything random in iteration i (its events, its dropout) is a function of the seed and i
alone, so that a run which is stopped and continued equals one that was never stopped. (Only biased
selection looks at the weights as well; its state is in the checkpoint.)
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.data.batches import Batch, PrefetchedBatches, Weigh, read_batch
from dnn_reco.data.event_set import EventSet
from dnn_reco.data.sampling import EventOrder, stream_key
from dnn_reco.errors import ModelError
from dnn_reco.modules.evaluation.interface import PredictedBatch
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.modules.loss.residual import mask_untrained, residual_trafo
from dnn_reco.modules.loss.special_labels import true_label_names
from dnn_reco.nn.interface import LabelKeys, Network, Prediction
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.training.biased_selection import BiasedSelection
from dnn_reco.training.checkpoint import (
    Checkpoint,
    Progress,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from dnn_reco.training.evaluation import EvaluationHook
from dnn_reco.training.label_weights import LabelWeights
from dnn_reco.training.monitor import (
    ProgressBar,
    Scores,
    TensorBoard,
    format_validation,
    score,
)
from dnn_reco.training.objectives import Objective

_log = logging.getLogger(__name__)

_ANOTHER_MODEL = (
    "Give this config a unique_name (model_checkpoint_path) of its own, or set "
    "model_restore_model: False to start anew"
)


@dataclass(frozen=True)
class TrainingPlan:
    """How long to train, and how often to validate and save.

    Attributes
    ----------
    num_iterations
        Iterations in all, over all calls.
    batch_size
        Events of an iteration.
    validation_frequency, save_frequency
        Iterations between two validations, between two checkpoints.
    seed
        Seed of everything random.
    shuffle_window
        See :class:`dnn_reco.data.sampling.EventOrder`.
    checkpoints
        Folder of the checkpoints; None saves nothing.
    max_to_keep
        Number of checkpoints kept.
    log_path
        Folder of the TensorBoard logs.
    """

    num_iterations: int
    batch_size: int
    validation_frequency: int
    save_frequency: int
    seed: int
    shuffle_window: int
    checkpoints: Path | None
    max_to_keep: int
    log_path: Path


@dataclass(frozen=True)
class Judged:
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


class Training:
    """A network in training.

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
        The optimizers.
    label_weights
        Weights of the labels.
    training_events, validation_events
        The data.
    transformation
        Digest of the transformation model.
    plan
        How to train.
    event_weights
        Gives the weights of the events; None: all weigh the same.
    evaluation
        Called at each validation; None: nothing is.
    selection
        Chooses the events to train on; None: all are, in random order.
    """

    def __init__(
        self,
        network: Network,
        label_transform: LabelTransform,
        label_keys: LabelKeys,
        label_names: Sequence[str],
        objectives: Sequence[Objective],
        label_weights: LabelWeights,
        training_events: EventSet,
        validation_events: EventSet,
        transformation: str,
        plan: TrainingPlan,
        event_weights: Weigh | None = None,
        evaluation: EvaluationHook | None = None,
        selection: BiasedSelection | None = None,
    ) -> None:
        self.network = network
        self.label_transform = label_transform
        self.label_keys = label_keys
        self.label_names = tuple(label_names)
        self.azimuth_period = label_transform.azimuth_period(self.label_names, label_keys.azimuth)
        self.objectives = tuple(objectives)
        self.label_weights = label_weights
        self.training_events = training_events
        self.validation_events = validation_events
        self.plan = plan
        self.event_weights = event_weights
        self.evaluation = evaluation
        self.selection = selection
        self.device = label_weights.initial.device
        losses = [loss for objective in self.objectives for loss in objective.losses]
        needed = true_label_names(losses, label_keys)
        self._true_needed = torch.tensor(
            [name in needed for name in self.label_names], device=self.device
        )
        self.progress = Progress(0, (), self.label_names, transformation, plan.seed)

    def run(self, record: Callable[[Progress], None]) -> signal.Signals | None:
        """Train until the planned number of iterations is done or a signal asks to stop.

        Parameters
        ----------
        record
            Called after each checkpoint with the progress that it holds.

        Returns
        -------
        signal.Signals or None
            The signal (SIGINT or SIGTERM) that ended training early.
        """
        plan, first = self.plan, self.progress.iterations
        with (
            stop_on_signals() as asked_to_stop,
            PrefetchedBatches(
                self.training_events,
                self._event_numbers(first, asked_to_stop),
                pin=self.device.type == "cuda",
                weigh=self.event_weights,
            ) as batches,
            closing(TensorBoard(plan.log_path, first)) as tensorboard,
            closing(ProgressBar(first, plan.num_iterations, plan.batch_size)) as bar,
        ):
            earlier_steps = self.progress.training_steps
            for iteration, batch in zip(range(first, plan.num_iterations), batches, strict=False):
                if asked_to_stop():
                    break
                norms = self.take_step(iteration, batch.to(self.device))
                done = iteration + 1
                steps = (*earlier_steps, done - first)
                self.progress = replace(self.progress, iterations=done, training_steps=steps)
                if self.selection is not None:
                    self.selection.batch_is_trained()
                if iteration % plan.validation_frequency == 0:
                    self.label_weights.update()
                    self._validate(iteration, bar, tensorboard, norms, batches.seconds_waited)
                if done % plan.save_frequency == 0:
                    self._save(record)
                remark = "" if self.selection is None else self.selection.remark(bar.seconds)
                bar.update(done, batches.seconds_waited, remark)
            if self.progress.iterations > first:
                if received := asked_to_stop():
                    _log.info("%s: saving.", received.name)
                self._save(record)
            return asked_to_stop()

    def take_step(self, iteration: int, batch: Batch) -> dict[str, Tensor]:
        """One iteration on one batch; returns the gradient norm of each optimizer."""
        self.network.train()
        torch.manual_seed(stream_key(self.plan.seed, "dropout", iteration))
        judged = self._judge(batch)
        losses = self._losses(judged)
        last = self.objectives[-1].name
        gradients = {
            objective.name: objective.gradient(losses[objective.name][1], objective.name != last)
            for objective in self.objectives
        }
        for objective in self.objectives:
            objective.set_learning_rate(iteration)
        norms = {o.name: o.step(gradients[o.name]) for o in self.objectives}
        self.label_weights.collect(judged.context.residual_trafo)
        return norms

    def _judge(self, batch: Batch) -> Judged:
        """Predict a batch, and set prediction and truth side by side.

        Labels of weight 0 are blanked here, before any loss: nothing that the network says of them
        can reach the loss or its gradient. (Only the true values stay that a loss asks for.)
        """
        predicted = PredictedBatch(batch, self.network(batch.hits))
        truth = Truth(batch.labels, self.label_transform(batch.labels))
        prediction, truth = mask_untrained(
            predicted.prediction, truth, self.label_weights.trained, self._true_needed
        )
        context = LossContext(
            self.label_names,
            self.label_keys,
            residual_trafo(prediction.labels_trafo, truth.labels_trafo, self.azimuth_period),
            batch.event_weights,
            self.label_weights.tukey_scale,
        )
        return Judged(predicted, prediction, truth, context)

    def _losses(self, judged: Judged) -> dict[str, tuple[Tensor, Tensor]]:
        """Loss of each optimizer, without and with its penalties."""
        return {
            objective.name: objective.loss(
                judged.prediction, judged.truth, judged.context, self.label_weights.current
            )
            for objective in self.objectives
        }

    @torch.no_grad()
    def _judge_unseen(self, events: EventSet, stream: str, number: int) -> Judged:
        """Predict a batch in inference mode: no dropout, and nothing in the network changes."""
        self.network.eval()
        order = self._order(events, stream)
        batch = read_batch(events, order, number, self.plan.batch_size, self.event_weights)
        return self._judge(batch.to(self.device))

    @torch.no_grad()
    def _score(self, judged: Judged) -> Scores:
        return score(
            self._losses(judged), judged.prediction, judged.truth, judged.context.residual_trafo
        )

    def _validate(
        self,
        iteration: int,
        bar: ProgressBar,
        tensorboard: TensorBoard,
        norms: Mapping[str, Tensor],
        seconds_waited: float,
    ) -> None:
        """Score a fresh batch of training and of validation events; print and log.

        Both batches come from streams of their own, so that validating more often does not change
        the run.
        """
        number = iteration // self.plan.validation_frequency
        judged = {
            "train": self._judge_unseen(self.training_events, "training print-out", number),
            "val": self._judge_unseen(self.validation_events, "validation", number),
        }
        scores = {name: self._score(batch) for name, batch in judged.items()}
        weights = self.label_weights.current.cpu().numpy()
        trained = self.label_weights.trained.cpu().numpy()
        done = self.progress.training_steps[-1]
        text = format_validation(
            iteration,
            bar.seconds,
            bar.seconds / done,
            self.label_names,
            trained,
            weights,
            scores["train"],
            scores["val"],
        )
        bar.print(text)
        extra = {
            "events_per_second": done * self.plan.batch_size / bar.seconds,
            "share_of_time_waiting_for_data": seconds_waited / bar.seconds,
            **{f"gradient_norm/{name}": float(norm) for name, norm in norms.items()},
            **{f"learning_rate/{o.name}": o.learning_rate(iteration) for o in self.objectives},
            **({} if self.selection is None else self.selection.scalars(bar.seconds)),
        }
        tensorboard.write(iteration, self.label_names, trained, weights, scores, extra)
        if self.evaluation is not None:
            predicted = (judged["train"].predicted, judged["val"].predicted)
            self.evaluation(iteration, *predicted, bar.print, tensorboard.add_scalar)

    def _event_numbers(
        self, first: int, asked_to_stop: Callable[[], object]
    ) -> Iterator[NDArray[np.int64]]:
        """Which events each batch holds, from iteration `first` on."""
        if self.selection is not None:
            return self.selection.batches(asked_to_stop)
        order = self._order(self.training_events, "training")
        return order.batches(first, self.plan.batch_size)

    def _order(self, events: EventSet, stream: str) -> EventOrder:
        return EventOrder(events.events_per_shard, self.plan.seed, stream, self.plan.shuffle_window)

    def _save(self, record: Callable[[Progress], None]) -> None:
        if self.plan.checkpoints is None:
            return
        tensors = {f"network/{name}": p for name, p in self.network.state_dict().items()}
        tensors |= {f"label_weights/{k}": t for k, t in self.label_weights.state().items()}
        for objective in self.objectives:
            state = optimizer_tensors(objective.optimizer, objective.parameters)
            tensors |= {f"optimizer/{objective.name}/{k}": t for k, t in state.items()}
        if self.selection is not None:
            tensors |= {f"biased_selection/{k}": t for k, t in self.selection.state().items()}
        save_checkpoint(self.plan.checkpoints, self.progress, tensors, self.plan.max_to_keep)
        record(self.progress)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over all state from a checkpoint.

        Raises
        ------
        ModelError
            If the checkpoint is of another network or other labels.
        """
        if checkpoint.progress.label_names != self.label_names:
            old, new = set(checkpoint.progress.label_names), set(self.label_names)
            raise ModelError(
                f"the checkpoint '{checkpoint.path}' was trained with other labels: it lacks "
                f"{sorted(new - old) or 'none'} and has {sorted(old - new) or 'none'} besides"
                f"{'' if old != new else ' (the order differs)'}. {_ANOTHER_MODEL}"
            )
        if checkpoint.progress.transformation != self.progress.transformation:
            raise ModelError(
                f"the checkpoint '{checkpoint.path}' was trained with another transformation model "
                "than the one at trafo_model_path, which was made anew since: bring the old file "
                "back, or set model_restore_model: False to start anew"
            )
        try:
            self.network.load_state_dict(checkpoint.section("network"))
        except RuntimeError as error:
            raise ModelError(
                f"the checkpoint '{checkpoint.path}' is of another network: {error}\n"
                f"{_ANOTHER_MODEL}"
            ) from error
        self.label_weights.restore(checkpoint.section("label_weights"))
        for objective in self.objectives:
            state = checkpoint.section(f"optimizer/{objective.name}")
            restore_optimizer(objective.optimizer, objective.parameters, state)
        if self.selection is not None:
            self.selection.restore(checkpoint.section("biased_selection"))
        if checkpoint.progress.seed != self.plan.seed:
            _log.warning(
                "The seed is now %d; the checkpoint was trained with %d. Training goes on, but "
                "is no longer what one uninterrupted run would give.",
                self.plan.seed,
                checkpoint.progress.seed,
            )
        self.progress = replace(checkpoint.progress, seed=self.plan.seed)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], signal.Signals | None]]:
    """Turn SIGINT (Ctrl-C) and SIGTERM into a wish to stop after the iteration at hand.

    Yields a function that tells which signal came, None as long as there was none. A second signal
    stops the program at once.
    """
    received: list[signal.Signals] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        for each in numbers:
            signal.signal(each, before[each])

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number in numbers:
            signal.signal(number, before[number])
