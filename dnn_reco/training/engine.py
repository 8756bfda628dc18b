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
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any

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
from dnn_reco.training.average import WeightAverage
from dnn_reco.training.best import BestSoFar
from dnn_reco.training.biased_selection import BiasedSelection
from dnn_reco.training.checkpoint import (
    BEST,
    KEEP_ALL,
    Checkpoint,
    Progress,
    latest_path,
    optimizer_kind,
    remove_checkpoints,
    save_checkpoint,
)
from dnn_reco.training.divergence import (
    DivergenceWatch,
    NotFinite,
    divergence_error,
    looking_interval,
    save_batch,
)
from dnn_reco.training.evaluation import EvaluationHook
from dnn_reco.training.label_weights import LabelWeights
from dnn_reco.training.monitor import (
    Scores,
    format_validation,
    memory_in_use,
    score,
    trained_labels,
)
from dnn_reco.training.objectives import Objective
from dnn_reco.training.plan import TrainingPlan
from dnn_reco.training.reports import Reports, RunState, batch_section, format_set, set_section
from dnn_reco.training.signals import stop_on_signals
from dnn_reco.training.validation_set import (
    Outcome,
    ValidationSet,
    join,
    measure,
    measure_digest,
)

_log = logging.getLogger(__name__)

# So many iterations back it is known which events they held: more than between two looks at whether
# all is finite, and batches that are read ahead.
_NUM_RECENT = 200

_ANOTHER_MODEL = (
    "Give this config a unique_name (model_checkpoint_path) of its own, or set "
    "model_restore_model: False to start anew"
)


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
    validation_set
        Events to evaluate now and then, always the same; None: there are none.
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
        validation_set: ValidationSet | None = None,
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
        self.validation_set = validation_set
        self.selection = selection
        self.device = label_weights.initial.device
        losses = [loss for objective in self.objectives for loss in objective.losses]
        needed = true_label_names(losses, label_keys)
        self._true_needed = torch.tensor(
            [name in needed for name in self.label_names], device=self.device
        )
        self.average = None if plan.ema_decay is None else WeightAverage(network, plan.ema_decay)
        self._recent: dict[int, NDArray[np.int64]] = {}  # events of the last iterations
        self.watch = DivergenceWatch(network.state_dict(), looking_interval(self.device))
        best = None
        if validation_set is not None:
            initial = label_weights.initial
            best = BestSoFar(measure_digest(validation_set.digest, self.objectives, initial))
        kinds = {o.name: optimizer_kind(o.optimizer) for o in self.objectives}
        self.progress = Progress(
            0, (), self.label_names, transformation, plan.seed, optimizers=kinds, best=best
        )

    @property
    def out_of_patience(self) -> bool:
        """Whether the loss on the validation set has not become better for too long."""
        best, patience = self.progress.best, self.plan.patience
        if best is None or patience is None:
            return False
        return best.evaluations_since >= patience

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

        Raises
        ------
        TrainingError
            If a loss, a gradient or the weights are no longer finite.
        """
        plan, first = self.plan, self.progress.iterations
        if plan.checkpoints is not None:  # what an interrupted run found later is found again
            remove_checkpoints(plan.checkpoints / BEST, lambda iterations: iterations > first)
        with (
            stop_on_signals() as asked_to_stop,
            PrefetchedBatches(
                self.training_events,
                self._event_numbers(first, asked_to_stop),
                pin=self.device.type == "cuda",
                weigh=self.event_weights,
            ) as batches,
            closing(
                Reports(
                    plan.log_path,
                    first,
                    plan.num_iterations,
                    plan.batch_size,
                    write_metrics=plan.checkpoints is not None,
                )
            ) as reports,
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
                found: dict[str, Any] = {}
                if iteration % plan.validation_frequency == 0:
                    self._stop_if_not_finite()
                    self.label_weights.update()
                    found |= self._validate(iteration, reports)
                    self._tell_removed(iteration, reports)
                if done % plan.validation_set_frequency == 0 or done == plan.num_iterations:
                    found |= self._evaluate_set(iteration, reports)
                if found:
                    state = self._state(iteration, norms, reports.bar.seconds, batches)
                    reports.finish(iteration, found, state)
                if done % plan.save_frequency == 0:
                    self._save(record)
                remark = (
                    "" if self.selection is None else self.selection.remark(reports.bar.seconds)
                )
                reports.bar.update(done, batches.seconds_waited, remark)
                if self.out_of_patience:
                    break
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
        if self.average is not None:
            self.average.update()
        totals = {name: total for name, (_, total) in losses.items()}
        self._stop_if(self.watch.note(iteration, self.objectives, totals, norms))
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
        outcome = (judged.prediction, judged.truth, judged.context)
        label_loss = torch.stack([o.label_losses(*outcome) for o in self.objectives]).sum(dim=0)
        return score(
            self._losses(judged),
            label_loss,
            judged.prediction,
            judged.truth,
            judged.context.residual_trafo,
        )

    def _averaged_weights(self) -> AbstractContextManager[None]:
        """While this lasts, the network has the moving average of its weights, if there is one."""
        return nullcontext() if self.average is None else self.average.in_network()

    def _validate(self, iteration: int, reports: Reports) -> dict[str, Any]:
        """Score a fresh batch of training and of validation events; print and log.

        Both batches come from streams of their own, so that validating more often does not change
        the run. Returns sections for `metrics.jsonl`.
        """
        number = iteration // self.plan.validation_frequency
        with self._averaged_weights():
            judged = {
                "train": self._judge_unseen(self.training_events, "training print-out", number),
                "val": self._judge_unseen(self.validation_events, "validation", number),
            }
        scores = {name: self._score(batch) for name, batch in judged.items()}
        weights = self.label_weights.current.cpu().numpy()
        trained = self.label_weights.trained.cpu().numpy()
        seconds = reports.bar.seconds
        text = format_validation(
            iteration,
            seconds,
            seconds / self.progress.training_steps[-1],
            self.label_names,
            trained,
            weights,
            scores["train"],
            scores["val"],
        )
        reports.bar.print(text)
        reports.tensorboard.write(iteration, self.label_names, trained, scores)
        if self.evaluation is not None:
            predicted = (judged["train"].predicted, judged["val"].predicted)
            add_scalar = reports.tensorboard.add_scalar
            self.evaluation(iteration, *predicted, reports.bar.print, add_scalar)
        return {
            name: batch_section(batch, self.label_names, trained) for name, batch in scores.items()
        }

    @torch.no_grad()
    def _evaluate_set(self, iteration: int, reports: Reports) -> dict[str, Any]:
        """Score the validation set, if there is one; tell, and save the network if it is the best.

        Returns sections for `metrics.jsonl`.
        """
        best = self.progress.best
        if self.validation_set is None or best is None:
            return {}
        self._stop_if_not_finite()
        self.network.eval()
        with self._averaged_weights():
            judged = [self._judge(batch.to(self.device)) for batch in self.validation_set.batches]
        outcome = join([Outcome(j.prediction, j.truth, j.context) for j in judged])
        weights = self.label_weights.initial
        scores = measure(outcome, self.objectives, weights, self.label_keys)
        best = best.after(float(scores.loss.value), iteration + 1)
        self.progress = replace(self.progress, best=best)
        folder = self.plan.checkpoints
        if folder is not None and best.iterations == iteration + 1:
            save_checkpoint(folder / BEST, self.progress, self._tensors(), KEEP_ALL)
        _log.info("%s", format_set(iteration + 1, scores, best))
        reports.write_set(iteration, scores, weights.tolist(), self.label_transform.has_log)
        return {"validation_set": set_section(scores)}

    def _state(
        self,
        iteration: int,
        norms: Mapping[str, Tensor],
        seconds: float,
        batches: PrefetchedBatches,
    ) -> RunState:
        """How the run stands after an iteration."""
        weights = self.label_weights.current.tolist()
        trained = trained_labels(self.label_names, self.label_weights.trained.cpu().numpy())
        num_events = self.progress.training_steps[-1] * self.plan.batch_size
        return RunState(
            label_weights={name: weights[i] for name, i in trained},
            learning_rates={o.name: o.learning_rate(iteration) for o in self.objectives},
            gradient_norms={name: float(norm) for name, norm in norms.items()},
            events_per_second=num_events / seconds,
            share_waiting=batches.seconds_waited / seconds,
            seconds=seconds,
            memory=memory_in_use(self.device),
            selection={} if self.selection is None else self.selection.scalars(seconds),
        )

    def _tell_removed(self, iteration: int, reports: Reports) -> None:
        """Print and log how many gradient entries `remove_nan_gradients` removed."""
        for objective in self.objectives:
            if objective.cleaner is not None:
                name = objective.name
                entries, batches = objective.cleaner.take_counts()
                tag = f"removed_gradient_entries/{name}"
                reports.tensorboard.add_scalar("train", tag, entries, iteration)
                if entries:
                    reports.bar.print(
                        f"\tgradient of {name}: {entries} entries removed in {batches} batches"
                    )

    def _stop_if_not_finite(self) -> None:
        """Make sure that all is well: before anything is shown or saved."""
        last = self.progress.iterations - 1
        self._stop_if(self.watch.look() or self.watch.look_at_weights(last))

    def _stop_if(self, found: NotFinite | None) -> None:
        """Stop a training that diverged, and keep the batch at which it did."""
        if found is None:
            return
        plan, iteration = self.plan, found.iteration
        events = self.training_events.read(self._recent[iteration])
        folder = plan.log_path if plan.checkpoints is None else plan.checkpoints.parent
        path = folder / f"diverged_batch_{iteration:08d}.safetensors"
        save_batch(path, events, self.training_events.names, self.event_weights, iteration)
        last = None if plan.checkpoints is None else latest_path(plan.checkpoints)
        raise divergence_error(found, events, path, self.objectives, last)

    def _event_numbers(
        self, first: int, asked_to_stop: Callable[[], object]
    ) -> Iterator[NDArray[np.int64]]:
        """Which events each batch holds, from iteration `first` on."""
        order = self._order(self.training_events, "training")
        batches = (
            order.batches(first, self.plan.batch_size)
            if self.selection is None
            else self.selection.batches(asked_to_stop)
        )
        for iteration, numbers in enumerate(batches, start=first):
            self._recent[iteration] = numbers
            self._recent.pop(iteration - _NUM_RECENT, None)
            yield numbers

    def _order(self, events: EventSet, stream: str) -> EventOrder:
        return EventOrder(events.events_per_shard, self.plan.seed, stream, self.plan.shuffle_window)

    def _save(self, record: Callable[[Progress], None]) -> None:
        folder, best = self.plan.checkpoints, self.progress.best
        if folder is None:
            return
        self._stop_if_not_finite()
        save_checkpoint(folder, self.progress, self._tensors(), self.plan.max_to_keep)
        if best is not None and best.loss is not None:  # only now are former ones of no use
            remove_checkpoints(folder / BEST, lambda iterations: iterations != best.iterations)
        record(self.progress)

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors of a checkpoint, by name."""
        tensors = {f"network/{name}": p for name, p in self.network.state_dict().items()}
        tensors |= {f"label_weights/{k}": t for k, t in self.label_weights.state().items()}
        for part in self._parts_with_state():
            tensors |= part.state()
        if self.selection is not None:
            tensors |= {f"biased_selection/{k}": t for k, t in self.selection.state().items()}
        return tensors

    def _parts_with_state(self) -> tuple[Objective | WeightAverage, ...]:
        return self.objectives if self.average is None else (*self.objectives, self.average)

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
        for part in self._parts_with_state():
            part.restore(checkpoint)
        if self.selection is not None:
            self.selection.restore(checkpoint.section("biased_selection"))
        if checkpoint.progress.seed != self.plan.seed:
            _log.warning(
                "The seed is now %d; the checkpoint was trained with %d. Training goes on, but "
                "is no longer what one uninterrupted run would give.",
                self.plan.seed,
                checkpoint.progress.seed,
            )
        best = checkpoint.progress.best
        if best and self.progress.best and best.measure != self.progress.best.measure:
            _log.info(
                "The validation set, its losses or label weights are others than before: the best "
                "checkpoint is looked for anew."
            )
            best = None
        self.progress = replace(
            checkpoint.progress,
            seed=self.plan.seed,
            optimizers=self.progress.optimizers,
            best=best or self.progress.best,
        )
