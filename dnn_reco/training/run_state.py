"""The state of a training at a validation: weights, rates, speed and memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dnn_reco.checkpoint_file import Progress
from dnn_reco.nn.interface import share_of_hits_truncated
from dnn_reco.nn.memory import memory_in_use
from dnn_reco.training.data import TrainingData
from dnn_reco.training.forward import ForwardPass
from dnn_reco.training.metrics import trained_labels
from dnn_reco.training.settings import TrainerSettings


@dataclass(frozen=True)
class Step:
    """An iteration that was done.

    Attributes
    ----------
    iteration
        Its number, from 0.
    gradient_norms
        Global gradient norm of each optimizer before clipping, scalars on the device.
    seconds_waited
        Seconds that this call has waited for data so far.
    """

    iteration: int
    gradient_norms: Mapping[str, Tensor]
    seconds_waited: float


@dataclass(frozen=True)
class RunState:
    """State of the run at a validation.

    Attributes
    ----------
    label_weights
        Current weight of each trained label.
    learning_rates, gradient_norms
        Of each optimizer, in the last step; the norm before clipping.
    events_per_second
        Training events, since the start of this call.
    share_waiting
        Share of the time since then that was spent waiting for data.
    seconds
        That time.
    memory
        Memory in use [MB], by what uses it.
    further
        Further scalars since then, by tag: biased selection, truncated hits.
    """

    label_weights: Mapping[str, float]
    learning_rates: Mapping[str, float]
    gradient_norms: Mapping[str, float]
    events_per_second: float
    share_waiting: float
    seconds: float
    memory: Mapping[str, float]
    further: Mapping[str, float]

    def scalars(self) -> dict[str, float]:
        """Scalars for TensorBoard by tag."""
        groups = {
            "label_weight": self.label_weights,
            "learning_rate": self.learning_rates,
            "gradient_norm": self.gradient_norms,
            "memory_mb": self.memory,
        }
        return {
            "events_per_second": self.events_per_second,
            "share_of_time_waiting_for_data": self.share_waiting,
            **self.further,
            **{f"{tag}/{k}": value for tag, group in groups.items() for k, value in group.items()},
        }

    def sections(self) -> dict[str, Any]:
        """Sections for `metrics.jsonl`; all that differs from run to run is in one of them."""
        return {
            "label_weights": self.label_weights,
            "learning_rates": self.learning_rates,
            "gradient_norms": self.gradient_norms,
            "machine": {
                "time": time.time(),
                "seconds": self.seconds,
                "events_per_second": self.events_per_second,
                "share_of_time_waiting_for_data": self.share_waiting,
                "memory_mb": self.memory,
                **self.further,
            },
        }


def run_state(
    forward: ForwardPass,
    data: TrainingData,
    settings: TrainerSettings,
    progress: Progress,
    step: Step,
    seconds: float,
) -> RunState:
    """State of a run after an iteration, `seconds` after the start of this call."""
    label_weights = forward.label_weights
    weights = label_weights.current.tolist()
    trained = trained_labels(forward.spec.label_names, label_weights.trained.cpu().numpy())
    truncated = share_of_hits_truncated(forward.network)
    further = {} if truncated is None else {"share_of_hits_truncated": truncated}
    if data.selection is not None:
        further |= data.selection.scalars(seconds)
    return RunState(
        label_weights={name: weights[i] for name, i in trained},
        learning_rates={
            each.name: each.learning_rate(step.iteration)
            for objective in forward.objectives
            for each in objective.optimizers
        },
        gradient_norms={name: float(norm) for name, norm in step.gradient_norms.items()},
        events_per_second=progress.training_steps[-1] * settings.batch_size / seconds,
        share_waiting=step.seconds_waited / seconds,
        seconds=seconds,
        memory=memory_in_use(forward.device),
        further=further,
    )
