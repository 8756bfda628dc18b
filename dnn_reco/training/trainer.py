"""The training loop.

One iteration: take the next batch, predict it, and let each optimizer take one step on its own
loss. Everything random in iteration i (its events, its dropout) is a function of the seed and i
alone, so that a run which is stopped and continued equals one that was never stopped. (Only biased
selection looks at the weights as well; its state is in the checkpoint.)
"""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.checkpoint_file import (
    BEST,
    KEEP_ALL,
    BestCheckpoint,
    Checkpoint,
    Progress,
    latest_path,
    remove_checkpoints,
    save_checkpoint,
)
from dnn_reco.data.device_cache import DeviceEvents, DeviceLoader
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.hit_batch import TensorBatch
from dnn_reco.data.loader import EventWeightFunction, PrefetchLoader
from dnn_reco.data.sampling import stream_key
from dnn_reco.nn.interface import LabelKeys, Network, share_of_hits_truncated
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.nn.memory import memory_in_use
from dnn_reco.nn.predictor import Predictor
from dnn_reco.training.biased_selection import BiasedSelection
from dnn_reco.training.checkpoint import optimizer_kind, restore_network
from dnn_reco.training.distributed import DistributedContext
from dnn_reco.training.divergence import (
    NonFiniteDetector,
    NonFiniteValue,
    check_interval,
    divergence_error,
    save_batch,
)
from dnn_reco.training.ema import ExponentialMovingAverage
from dnn_reco.training.evaluation_hook import EvaluationHook
from dnn_reco.training.forward import ForwardPass
from dnn_reco.training.label_weights import LabelWeights
from dnn_reco.training.logging import RunState, TrainingLog, format_set, set_section
from dnn_reco.training.metrics import trained_labels
from dnn_reco.training.objectives import Objective
from dnn_reco.training.settings import TrainerSettings
from dnn_reco.training.signals import stop_on_signals
from dnn_reco.training.validation import Validation
from dnn_reco.training.validation_set import ValidationSet, measure_digest

_log = logging.getLogger(__name__)

# So many iterations back it is known which events they held: more than between two looks at whether
# all is finite, and batches that are read ahead.
_NUM_RECENT = 200

Batches: TypeAlias = PrefetchLoader | DeviceLoader


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
    settings
        How to train.
    event_weights
        Gives the weights of the events; None: all weigh the same.
    evaluation
        Called at each validation; None: nothing is.
    validation_set
        Events to evaluate now and then, always the same; None: there are none.
    selection
        Chooses the events to train on; None: all are, in random order.
    distributed
        The processes that train together: all of them take the same steps, the first one alone
        validates, tells and saves.
    predict
        The network as it shall compute (:func:`dnn_reco.nn.predictor.predictor`); None: as it is.
    resident
        The training events, where they lie in the memory of the device.
    """

    def __init__(
        self,
        network: Network,
        label_transform: LabelTransform,
        label_keys: LabelKeys,
        label_names: Sequence[str],
        objectives: Sequence[Objective],
        label_weights: LabelWeights,
        training_events: EventDataset,
        validation_events: EventDataset,
        transformation: str,
        settings: TrainerSettings,
        event_weights: EventWeightFunction | None = None,
        evaluation: EvaluationHook | None = None,
        validation_set: ValidationSet | None = None,
        selection: BiasedSelection | None = None,
        distributed: DistributedContext | None = None,
        predict: Predictor | None = None,
        resident: DeviceEvents | None = None,
    ) -> None:
        self.network = network
        self.label_names = tuple(label_names)
        self.objectives = tuple(objectives)
        self.label_weights = label_weights
        self.training_events = training_events
        self.settings = settings
        self.event_weights = event_weights
        self.resident = resident
        self.selection = selection
        self.distributed = distributed or DistributedContext()
        self.came_from: Path | None = None  # the checkpoint
        self.device = label_weights.initial.device
        self.average = (
            None
            if settings.ema_decay is None
            else ExponentialMovingAverage(network, settings.ema_decay)
        )
        self.judge = ForwardPass(
            network,
            label_transform,
            label_keys,
            label_names,
            objectives,
            label_weights,
            predict or network,
        )
        self.validation = Validation(
            self.judge,
            settings,
            training_events,
            validation_events,
            self.average,
            event_weights,
            evaluation,
            validation_set,
        )
        self._recent: dict[int, NDArray[np.int64]] = {}  # events of the last iterations
        self.watch = NonFiniteDetector(network.state_dict(), check_interval(self.device))
        best = None
        if validation_set is not None:
            initial = label_weights.initial
            best = BestCheckpoint(measure_digest(validation_set.digest, self.objectives, initial))
        kinds = {o.name: optimizer_kind(o.optimizer) for o in self.objectives}
        self.progress = Progress(
            0, (), self.label_names, transformation, settings.seed, optimizers=kinds, best=best
        )

    @property
    def out_of_patience(self) -> bool:
        """Whether the loss on the validation set has not become better for too long."""
        best, patience = self.progress.best, self.settings.patience
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
        settings, first = self.settings, self.progress.iterations
        if settings.checkpoints is not None and self.distributed.is_main_process:
            # what an interrupted run found later is found again
            remove_checkpoints(settings.checkpoints / BEST, lambda iterations: iterations > first)
        received = None
        with (
            stop_on_signals(tolerate_repetition=self.distributed.world_size > 1) as asked_to_stop,
            self.batches(first, asked_to_stop) as batches,
            self._reports(first) as reports,
        ):
            earlier_steps = self.progress.training_steps
            for iteration, batch in zip(
                range(first, settings.num_iterations), batches, strict=False
            ):
                received = self.distributed.all_reduce_signal(asked_to_stop())
                if received is not None:
                    break
                norms = self.take_step(iteration, batch.to(self.device))
                done = iteration + 1
                steps = (*earlier_steps, done - first)
                self.progress = replace(self.progress, iterations=done, training_steps=steps)
                if self.selection is not None and self.distributed.is_main_process:
                    self.selection.batch_is_trained()
                found: dict[str, Any] = {}
                if iteration % settings.validation_frequency == 0:
                    self._stop_if_not_finite()
                    self.label_weights.update()
                    if reports is not None:
                        found |= self.validation.log_batch_metrics(iteration, done - first, reports)
                        self._tell_removed(iteration, reports)
                if done % settings.validation_set_frequency == 0 or done == settings.num_iterations:
                    found |= self.evaluate_set(iteration, reports)
                if reports is not None:
                    self._report(iteration, found, norms, batches, reports)
                if done % settings.save_frequency == 0:
                    self.save(record)
                if self.out_of_patience:
                    break
            received = received or self.distributed.all_reduce_signal(asked_to_stop())
            if self.progress.iterations > first:
                if received is not None:
                    _log.info("%s: saving.", received.name)
                self.save(record)
            return received

    def batches(self, first: int, asked_to_stop: Callable[[], object]) -> Batches:
        """Batches from iteration `first` on, with the hits of those events that this rank reads.

        A biased selection may look for events for long; it gives up once it is `asked_to_stop`.
        """
        numbers = self._event_numbers(first, asked_to_stop)
        local_slice = self.distributed.local_slice(self.settings.batch_size)
        if self.resident is not None:
            return DeviceLoader(self.resident, numbers, self.event_weights, local_slice)
        return PrefetchLoader(
            self.training_events,
            numbers,
            pin=self.device.type == "cuda",
            weight_function=self.event_weights,
            local_slice=local_slice,
        )

    def _reports(self, first: int) -> AbstractContextManager[TrainingLog | None]:
        """Where to tell how training goes; the other distributed tell nothing."""
        if not self.distributed.is_main_process:
            return nullcontext()
        settings = self.settings
        write_metrics = settings.checkpoints is not None
        return closing(
            TrainingLog(
                settings.log_path,
                first,
                settings.num_iterations,
                settings.batch_size,
                write_metrics,
            )
        )

    def take_step(self, iteration: int, batch: TensorBatch) -> dict[str, Tensor]:
        """One iteration on one batch; returns the gradient norm of each optimizer."""
        self.network.train()
        torch.manual_seed(stream_key(self.settings.seed, "dropout", iteration))
        judged = self.judge(batch, self.distributed)
        losses = self.judge.losses(judged)
        last = self.objectives[-1].name
        gradients = {
            objective.name: self.distributed.all_reduce_sum(
                objective.gradient(self._share(*losses[objective.name]), objective.name != last)
            )
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

    def _share(self, loss: Tensor, with_penalties: Tensor) -> Tensor:
        """What this rank has to find the gradient of.

        In the loss of a whole batch only the predictions of its own events are no constants; the
        penalties are the same in all distributed, so that each takes a part of them.
        """
        if self.distributed.world_size == 1:
            return with_penalties
        return loss + (with_penalties - loss) / self.distributed.world_size

    def evaluate_set(self, iteration: int, reports: TrainingLog | None) -> dict[str, Any]:
        """Score the validation set, if there is one; tell, and save the network if it is the best.

        Returns sections for `metrics.jsonl`.
        """
        validation_set, best = self.validation.validation_set, self.progress.best
        if validation_set is None or best is None:
            return {}
        self._stop_if_not_finite()
        scores = None if reports is None else self.validation.score_set(validation_set)
        loss = self.distributed.broadcast_scalar(
            math.nan if scores is None else float(scores.loss.value)
        )
        best = best.after(loss, iteration + 1)
        self.progress = replace(self.progress, best=best)
        if scores is None or reports is None:
            return {}
        folder = self.settings.checkpoints
        if folder is not None and best.iterations == iteration + 1:
            save_checkpoint(folder / BEST, self.progress, self._tensors(), KEEP_ALL)
        _log.info("%s", format_set(iteration + 1, scores, best))
        weights = self.label_weights.initial.tolist()
        reports.write_set(iteration, scores, weights, self.judge.label_transform.has_log)
        return {"validation_set": set_section(scores)}

    def _report(
        self,
        iteration: int,
        found: Mapping[str, Any],
        norms: Mapping[str, Tensor],
        batches: Batches,
        reports: TrainingLog,
    ) -> None:
        """Tell how an iteration went, and what its validations found."""
        if found:
            state = self._state(iteration, norms, reports.bar.seconds, batches)
            reports.finish(iteration, found, state)
        remark = "" if self.selection is None else self.selection.remark(reports.bar.seconds)
        reports.bar.update(iteration + 1, batches.seconds_waited, remark)

    def _state(
        self,
        iteration: int,
        norms: Mapping[str, Tensor],
        seconds: float,
        batches: Batches,
    ) -> RunState:
        """How the run stands after an iteration."""
        weights = self.label_weights.current.tolist()
        trained = trained_labels(self.label_names, self.label_weights.trained.cpu().numpy())
        num_events = self.progress.training_steps[-1] * self.settings.batch_size
        hits_truncated = share_of_hits_truncated(self.network)
        further = {} if hits_truncated is None else {"share_of_hits_cut": hits_truncated}
        if self.selection is not None:
            further |= self.selection.scalars(seconds)
        return RunState(
            label_weights={name: weights[i] for name, i in trained},
            learning_rates={o.name: o.learning_rate(iteration) for o in self.objectives},
            gradient_norms={name: float(norm) for name, norm in norms.items()},
            events_per_second=num_events / seconds,
            share_waiting=batches.seconds_waited / seconds,
            seconds=seconds,
            memory=memory_in_use(self.device),
            further=further,
        )

    def _tell_removed(self, iteration: int, reports: TrainingLog) -> None:
        """Print and log how many gradient entries `remove_nan_gradients` removed."""
        for objective in self.objectives:
            if objective.gradient_filter is not None:
                name = objective.name
                entries, batches = objective.gradient_filter.take_counts()
                tag = f"removed_gradient_entries/{name}"
                reports.tensorboard.add_scalar("train", tag, entries, iteration)
                if entries:
                    reports.bar.print(
                        f"\tgradient of {name}: {entries} entries removed in {batches} batches"
                    )

    def _stop_if_not_finite(self) -> None:
        """Make sure that all is well: before anything is shown or saved."""
        last = self.progress.iterations - 1
        self._stop_if(self.watch.look() or self.watch.check_weights(last))

    def _stop_if(self, found: NonFiniteValue | None) -> None:
        """Stop a training that diverged, and keep the batch at which it did."""
        if found is None:
            return
        settings, iteration = self.settings, found.iteration
        events = self.training_events.read(self._recent[iteration])
        folder = settings.log_path if settings.checkpoints is None else settings.checkpoints.parent
        path = folder / f"diverged_batch_{iteration:08d}.safetensors"
        if self.distributed.is_main_process:
            save_batch(path, events, self.training_events.names, self.event_weights, iteration)
        last = None if settings.checkpoints is None else latest_path(settings.checkpoints)
        raise divergence_error(found, events, path, self.objectives, last)

    def _event_numbers(
        self, first: int, asked_to_stop: Callable[[], object]
    ) -> Iterator[NDArray[np.int64]]:
        """Which events each batch holds, from iteration `first` on."""
        size = self.settings.batch_size
        if self.selection is None:
            batches = self.settings.order(self.training_events, "training").batches(first, size)
        else:  # what is chosen may depend on the last digit of a prediction: one rank decides
            chosen = self.selection.batches(asked_to_stop)
            batches = self.distributed.broadcast_batches(chosen, size)
        for iteration, numbers in enumerate(batches, start=first):
            self._recent[iteration] = numbers
            self._recent.pop(iteration - _NUM_RECENT, None)
            yield numbers

    def save(self, record: Callable[[Progress], None]) -> None:
        """Write a checkpoint, if any shall be, and tell `record` of it."""
        folder, best = self.settings.checkpoints, self.progress.best
        if folder is None:
            return
        self._stop_if_not_finite()
        if not self.distributed.is_main_process:
            return
        save_checkpoint(folder, self.progress, self._tensors(), self.settings.max_to_keep)
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

    def _parts_with_state(self) -> tuple[Objective | ExponentialMovingAverage, ...]:
        return self.objectives if self.average is None else (*self.objectives, self.average)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over all state from a checkpoint.

        Raises
        ------
        ModelError
            If the checkpoint is of another network, other labels or another transformation model.
        """
        restore_network(self.network, checkpoint, self.label_names, self.progress.transformation)
        self.came_from = checkpoint.path
        self.label_weights.restore(checkpoint.section("label_weights"))
        for part in self._parts_with_state():
            part.restore(checkpoint)
        if self.selection is not None:
            self.selection.restore(checkpoint.section("biased_selection"))
        if checkpoint.progress.seed != self.settings.seed:
            _log.warning(
                "The seed is now %d; the checkpoint was trained with %d. Training goes on, but "
                "is no longer what one uninterrupted run would give.",
                self.settings.seed,
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
            seed=self.settings.seed,
            optimizers=self.progress.optimizers,
            best=best or self.progress.best,
        )
