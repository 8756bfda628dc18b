"""The training loop.

One iteration: take the next batch, predict it, and let each optimizer take one step on its own
loss. Everything random in iteration i (its events, its dropout) is a function of the seed and i
alone, so that a run which is stopped and continued equals one that was never stopped. (Only biased
selection depends on the weights as well; its state is in the checkpoint.)
"""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Generator, Iterator
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
    remove_checkpoints,
    save_checkpoint,
    set_aside_later,
)
from dnn_reco.data.device_cache import DeviceLoader
from dnn_reco.data.hit_batch import TensorBatch
from dnn_reco.data.loader import PrefetchLoader
from dnn_reco.data.sampling import stream_key
from dnn_reco.training.checkpoint import (
    code_of_users,
    incomplete_state,
    restore_network,
)
from dnn_reco.training.data import TrainingData
from dnn_reco.training.distributed import DistributedContext
from dnn_reco.training.divergence import DivergenceGuard, NonFiniteDetector, check_interval
from dnn_reco.training.early_stopping import is_out_of_patience
from dnn_reco.training.ema import ExponentialMovingAverage
from dnn_reco.training.evaluation_hook import EvaluationHook
from dnn_reco.training.forward import ForwardPass
from dnn_reco.training.logging import TrainingLog, set_section
from dnn_reco.training.objectives import Objective
from dnn_reco.training.run_state import Step, run_state
from dnn_reco.training.settings import TrainerSettings
from dnn_reco.training.signals import stop_on_signals
from dnn_reco.training.validation import Validation
from dnn_reco.training.validation_set import measure_digest

_log = logging.getLogger(__name__)

StopRequest: TypeAlias = Callable[[], signal.Signals | None]


class Trainer:
    """Trains a network.

    Parameters
    ----------
    forward
        The network with its objectives and label weights.
    data
        The events.
    settings
        How long to train, and how often to validate and save.
    evaluation_hook
        Called at each validation; None: nothing is.
    distributed
        The processes that train together: all of them take the same steps; the main process alone
        validates, reports and saves.
    """

    def __init__(
        self,
        forward: ForwardPass,
        data: TrainingData,
        settings: TrainerSettings,
        evaluation_hook: EvaluationHook | None = None,
        distributed: DistributedContext = DistributedContext(),  # noqa: B008 - frozen
    ) -> None:
        self.forward = forward
        self.data = data
        self.settings = settings
        self.distributed = distributed
        self.restored_from: Path | None = None  # the checkpoint
        self.stopped_by: signal.Signals | None = None
        network = forward.network
        self._ema = (
            None
            if settings.ema_decay is None
            else ExponentialMovingAverage(network, settings.ema_decay)
        )
        self.validation = Validation(forward, data, settings, self._ema, evaluation_hook)
        self._divergence = DivergenceGuard(
            NonFiniteDetector(network.state_dict(), check_interval(forward.device)),
            forward.objectives,
            data.training,
            data.event_weights,
            settings,
            distributed.is_main_process,
        )
        self.progress = self._initial_progress()

    def _initial_progress(self) -> Progress:
        best, validation_set, forward = None, self.data.validation_set, self.forward
        losses = code_of_users(loss for each in forward.objectives for loss in each.losses)
        if validation_set is not None:
            measure = measure_digest(
                validation_set.digest,
                forward.objectives,
                forward.label_weights.initial,
                losses,
                self.settings.ema_decay,
            )
            best = BestCheckpoint(measure)
        return Progress(
            iterations=0,
            training_steps=(),
            label_names=forward.spec.label_names,
            transformation=forward.spec.transformation.digest,
            seed=self.settings.seed,
            optimizers={each.name: each.kind for o in forward.objectives for each in o.optimizers},
            code=losses | code_of_users([type(forward.network)]),
            best=best,
            initial_weights=self.settings.initial_weights,
        )

    @property
    def is_out_of_patience(self) -> bool:
        """Whether early stopping ends this training."""
        return is_out_of_patience(self.progress.best, self.settings.patience)

    @property
    def has_stopped_early(self) -> bool:
        """Whether early stopping left iterations undone."""
        return self.is_out_of_patience and self.progress.iterations < self.settings.num_iterations

    def run(self, on_checkpoint: Callable[[Progress], None]) -> signal.Signals | None:
        """Train until the last iteration is done, early stopping ends it, or a signal asks to stop.

        Parameters
        ----------
        on_checkpoint
            Called after each checkpoint with the progress that it holds.

        Returns
        -------
        signal.Signals or None
            The signal (SIGINT, SIGTERM or SIGHUP) that ended training.

        Raises
        ------
        TrainingError
            If a loss, a gradient or the weights are no longer finite.
        """
        first, settings = self.progress.iterations, self.settings
        self._remove_later_checkpoints(first)
        with (
            stop_on_signals(tolerate_repetition=self.distributed.world_size > 1) as stop_request,
            self._open_log(first) as log,
            closing(self.steps(stop_request)) as steps,
        ):
            for step in steps:
                self._validate(step, log)
                if self.progress.iterations % settings.save_frequency == 0:
                    self.save(on_checkpoint)
                if self.is_out_of_patience:
                    break
            self._agree_to_stop(stop_request)
            if self.progress.iterations > first:
                if self.stopped_by is not None:
                    _log.info("%s: saving.", self.stopped_by.name)
                self.save(on_checkpoint)
        return self.stopped_by

    def steps(self, stop_request: StopRequest) -> Generator[Step]:
        """Take one iteration after the other, until the last one is done or a signal came."""
        first, earlier_steps = self.progress.iterations, self.progress.training_steps
        iterations = range(first, self.settings.num_iterations)
        with self._batches(first, stop_request) as batches:
            for iteration, batch in zip(iterations, batches, strict=False):
                if self._agree_to_stop(stop_request):
                    return
                norms = self._step(iteration, batch.to(self.forward.device))
                done = iteration + 1
                steps = (*earlier_steps, done - first)
                self.progress = replace(self.progress, iterations=done, training_steps=steps)
                if self.data.selection is not None and self.distributed.is_main_process:
                    self.data.selection.batch_is_trained()
                yield Step(iteration, norms, batches.seconds_waited)

    def _step(self, iteration: int, batch: TensorBatch) -> dict[str, Tensor]:
        """One iteration on one batch; returns the gradient norm of each optimizer."""
        forward, objectives = self.forward, self.forward.objectives
        forward.network.train()
        torch.manual_seed(stream_key(self.settings.seed, "dropout", iteration))
        result = forward(batch, self.distributed)
        losses = forward.losses(result)
        last = objectives[-1].name
        gradients = {
            o.name: self.distributed.all_reduce_sum(
                o.gradient(self._local_share(*losses[o.name]), keep_graph=o.name != last)
            )
            for o in objectives
        }
        for objective in objectives:
            objective.set_learning_rate(iteration)
        norms = {o.name: o.step(gradients[o.name]) for o in objectives}
        forward.label_weights.collect(result.loss_inputs.context.residual_trafo)
        if self._ema is not None:
            self._ema.update()
        self._divergence.record(
            iteration, {name: loss for name, (_, loss) in losses.items()}, norms
        )
        return norms

    def _local_share(self, loss: Tensor, with_penalties: Tensor) -> Tensor:
        """The part of the loss that this process differentiates.

        In the loss of a whole batch all predictions but those of the local slice are constants; the
        penalties are the same in all processes, so that each takes a part of them.
        """
        if self.distributed.world_size == 1:
            return with_penalties
        return loss + (with_penalties - loss) / self.distributed.world_size

    def _batches(self, first: int, stop_request: StopRequest) -> PrefetchLoader | DeviceLoader:
        """Batches from iteration `first` on, with the hits of the local slice of events."""
        numbers = self._event_numbers(first, stop_request)
        local_slice = self.distributed.local_slice(self.settings.batch_size)
        data = self.data
        if data.device_events is not None:
            return DeviceLoader(data.device_events, numbers, data.event_weights, local_slice)
        return PrefetchLoader(
            data.training,
            numbers,
            pin=self.forward.device.type == "cuda",
            weight_function=data.event_weights,
            local_slice=local_slice,
        )

    def _event_numbers(self, first: int, stop_request: StopRequest) -> Iterator[NDArray[np.int64]]:
        """Event numbers of each batch, from iteration `first` on.

        A biased selection may search for events for long; it gives up once a stop is requested.
        """
        size, selection = self.settings.batch_size, self.data.selection
        if selection is None:
            batches = self.settings.order(self.data.training, "training").batches(first, size)
        else:  # the choice may depend on the last digit of a prediction: one process decides
            batches = self.distributed.broadcast_batches(selection.batches(stop_request), size)
        for iteration, numbers in enumerate(batches, start=first):
            self._divergence.remember(iteration, numbers)
            yield numbers

    def _agree_to_stop(self, stop_request: StopRequest) -> bool:
        """Whether any process was asked to stop, the same in all of them."""
        if self.stopped_by is None:
            self.stopped_by = self.distributed.all_reduce_signal(stop_request())
        return self.stopped_by is not None

    def _open_log(self, first: int) -> AbstractContextManager[TrainingLog | None]:
        """Where to report; None in all processes but the main one."""
        if not self.distributed.is_main_process:
            return nullcontext()
        return closing(TrainingLog.open(self.settings, first))

    def _validate(self, step: Step, log: TrainingLog | None) -> None:
        """Validate where it is due after an iteration, and report how training goes."""
        settings, done = self.settings, step.iteration + 1
        sections: dict[str, Any] = {}
        if step.iteration % settings.validation_frequency == 0:
            self._divergence.check(step.iteration)
            self.forward.label_weights.update()
            if log is not None:
                iterations_of_call = self.progress.training_steps[-1]
                sections |= self.validation.log_batch_metrics(
                    step.iteration, iterations_of_call, log
                )
                log.write_removed_gradients(step.iteration, self.forward.objectives)
        if done % settings.validation_set_frequency == 0 or done == settings.num_iterations:
            sections |= self.evaluate_validation_set(step.iteration, log)
        if log is None:
            return
        if sections:
            state = run_state(
                self.forward, self.data, settings, self.progress, step, log.bar.seconds
            )
            log.write_sections(step.iteration, sections, state)
        selection = self.data.selection
        remark = "" if selection is None else selection.remark(log.bar.seconds)
        log.bar.update(done, step.seconds_waited, remark)

    def evaluate_validation_set(self, iteration: int, log: TrainingLog | None) -> dict[str, Any]:
        """Evaluate the validation set, if there is one; save the network if it is the best so far.

        Returns sections for `metrics.jsonl`.
        """
        validation_set, best = self.data.validation_set, self.progress.best
        if validation_set is None or best is None:
            return {}
        self._divergence.check(iteration)
        metrics = None if log is None else self.validation.evaluate(validation_set)
        loss = math.nan if metrics is None else float(metrics.loss.value)
        best = best.updated(self.distributed.broadcast_scalar(loss), iteration + 1)
        self.progress = replace(self.progress, best=best)
        if metrics is None or log is None:
            return {}
        folder = self.settings.checkpoints
        if folder is not None and best.iterations == iteration + 1:
            save_checkpoint(folder / BEST, self.progress, self._tensors(), KEEP_ALL)
        is_last = iteration + 1 == self.settings.num_iterations or self.is_out_of_patience
        weights = self.forward.label_weights.initial.tolist()
        has_log = self.forward.label_transform.has_log
        log.write_set(iteration, metrics, best, is_last, weights, has_log)
        return {"validation_set": set_section(metrics)}

    def save(self, on_checkpoint: Callable[[Progress], None]) -> None:
        """Write a checkpoint, unless `settings.checkpoints` is None, then call `on_checkpoint`."""
        folder, best = self.settings.checkpoints, self.progress.best
        if folder is None:
            return
        self._divergence.check(self.progress.iterations - 1)
        if not self.distributed.is_main_process:
            return
        save_checkpoint(folder, self.progress, self._tensors(), self.settings.max_to_keep)
        if best is not None and best.loss is not None:  # only now are former ones of no use
            remove_checkpoints(folder / BEST, lambda iterations: iterations != best.iterations)
        on_checkpoint(self.progress)

    def _remove_later_checkpoints(self, first: int) -> None:
        """Set damaged checkpoints aside, and remove best ones that an interrupted run found later.

        The latter are found again.
        """
        folder = self.settings.checkpoints
        if folder is not None and self.distributed.is_main_process:
            set_aside_later(folder, first)
            remove_checkpoints(folder / BEST, lambda iterations: iterations > first)

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors of a checkpoint, by name."""
        weights, label_weights = self.forward.network.state_dict(), self.forward.label_weights
        tensors = {f"network/{name}": weight for name, weight in weights.items()}
        tensors |= {f"label_weights/{name}": t for name, t in label_weights.state().items()}
        for part in self._stateful_parts():
            tensors |= part.state()
        if self.data.selection is not None:
            state = self.data.selection.state()
            tensors |= {f"biased_selection/{name}": tensor for name, tensor in state.items()}
        return tensors

    def _stateful_parts(self) -> tuple[Objective | ExponentialMovingAverage, ...]:
        objectives = self.forward.objectives
        return objectives if self._ema is None else (*objectives, self._ema)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over all state from a checkpoint.

        Raises
        ------
        ModelError
            If the checkpoint belongs to another network, other labels or another transformation
            model, or lacks a part of the state.
        """
        old, new = checkpoint.progress, self.progress
        restore_network(self.forward.network, checkpoint, new.label_names, new.transformation)
        self.restored_from = checkpoint.path
        with incomplete_state(checkpoint):
            self.forward.label_weights.restore(checkpoint.section("label_weights"))
            for part in self._stateful_parts():
                part.restore(checkpoint)
            if self.data.selection is not None:
                self.data.selection.restore(checkpoint.section("biased_selection"))
        for name in sorted(new.code.keys() & old.code.keys()):
            if new.code[name] != old.code[name]:
                _log.warning(
                    "The code of '%s' has changed since the checkpoint: training continues with "
                    "the new code.",
                    name,
                )
        if old.seed != new.seed:
            _log.warning(
                "The seed is now %d; the checkpoint was trained with %d. Training continues, but "
                "the result differs from that of an uninterrupted run.",
                new.seed,
                old.seed,
            )
        if new.initial_weights not in ("", old.initial_weights):
            _log.warning(
                "model_initial_weights names other weights than those that the training began "
                "with: training continues from the checkpoint, and they have no effect."
            )
        best = old.best
        if best and new.best and best.measure != new.best.measure:
            _log.info(
                "The validation set, its losses or their code, label weights or ema_decay have "
                "changed: the search for the best checkpoint restarts."
            )
            best = None
        self.progress = replace(
            old,
            seed=new.seed,
            optimizers=new.optimizers,
            code=new.code,
            best=best or new.best,
        )

    def skip_to(self, iteration: int) -> None:
        """Continue with this iteration, with its schedules and events."""
        self.progress = replace(self.progress, iterations=iteration)
