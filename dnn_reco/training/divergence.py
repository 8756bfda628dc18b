"""A training that diverges: detection, the batch kept for study, and advice."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from dnn_reco.checkpoint_file import latest_path
from dnn_reco.data.event_dataset import EventBatch, EventDataset
from dnn_reco.data.loader import EventWeightFunction, to_tensors
from dnn_reco.data.records import ColumnNames
from dnn_reco.errors import TrainingError
from dnn_reco.files import temporary_beside
from dnn_reco.modules.loss.interface import Loss
from dnn_reco.training.objectives import Objective
from dnn_reco.training.settings import TrainerSettings

_INTERVAL_ON_A_GPU = 50
_MAX_EVENTS_NAMED = 8
# Iterations whose event numbers are kept: more than between two checks, and than are read ahead.
_NUM_RECENT = 200


@dataclass(frozen=True)
class NonFiniteValue:
    """What was found not to be finite, and in which iteration."""

    iteration: int
    what: str


def check_interval(device: torch.device) -> int:
    """Iterations between two checks of losses: on a GPU each check waits, so they are rare."""
    return 1 if device.type == "cpu" else _INTERVAL_ON_A_GPU


class NonFiniteDetector:
    """Checks whether losses, gradient norms and weights are finite.

    Losses and norms are kept where they are, on the device; a GPU is waited for only when they are
    read, those of some iterations together.

    Parameters
    ----------
    weights
        Weights and running statistics by name. (Those that are not finite from the start, such as
        the -inf of a mask, are none that could diverge.)
    interval
        Iterations between two checks (:func:`check_interval`).
    """

    def __init__(self, weights: Mapping[str, Tensor], interval: int) -> None:
        self._weights = {
            name: weight
            for name, weight in weights.items()
            if weight.is_floating_point() and weight.isfinite().all()
        }
        self._interval = interval
        self._names: tuple[str, ...] = ()
        self._recorded: list[tuple[int, Tensor]] = []

    def record(
        self,
        iteration: int,
        objectives: Sequence[Objective],
        losses: Mapping[str, Tensor],
        norms: Mapping[str, Tensor],
    ) -> NonFiniteValue | None:
        """Record an iteration; every `interval` iterations returns what is not finite.

        Parameters
        ----------
        iteration
            Its number, from 0.
        objectives
            The optimizers. Where gradients are filtered, a loss may be non-finite.
        losses, norms
            Loss and gradient norm of each optimizer, scalars.
        """
        numbers = {
            f"the loss of '{o.name}'": losses[o.name]
            for o in objectives
            if o.gradient_filter is None
        }
        numbers |= {f"the gradient norm of '{name}'": norm for name, norm in norms.items()}
        self._names = tuple(numbers)
        row = torch.stack([number.detach() for number in numbers.values()])
        self._recorded.append((iteration, row))
        return self.check() if len(self._recorded) == self._interval else None

    def check(self) -> NonFiniteValue | None:
        """The first loss or norm since the last check that is not finite, if there is one."""
        recorded, self._recorded = self._recorded, []
        if not recorded:
            return None
        rows = torch.stack([row for _, row in recorded]).tolist()
        for (iteration, _), row in zip(recorded, rows, strict=True):
            named = zip(self._names, row, strict=True)
            bad = [f"{name} is {value}" for name, value in named if not math.isfinite(value)]
            if bad:
                return NonFiniteValue(iteration, " and ".join(bad))
        return None

    @torch.no_grad()
    def check_weights(self, iteration: int) -> NonFiniteValue | None:
        """The weights that are not finite after an iteration, if there are any."""
        flat = torch.cat([weight.reshape(-1) for weight in self._weights.values()])
        if flat.isfinite().all():
            return None
        bad = [name for name, weight in self._weights.items() if not weight.isfinite().all()]
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        return NonFiniteValue(iteration, f"the weights {', '.join(bad[:3])}{more} are not finite")


class DivergenceGuard:
    """Ends a training that diverges, and keeps the batch at which it did.

    Parameters
    ----------
    detector
        Finds values that are not finite.
    objectives
        The optimizers.
    events
        The training events.
    event_weights
        Gives their weights; None: all weigh the same.
    settings
        Where checkpoints and logs are.
    is_main_process
        Whether this process writes the batch.
    """

    def __init__(
        self,
        detector: NonFiniteDetector,
        objectives: Sequence[Objective],
        events: EventDataset,
        event_weights: EventWeightFunction | None,
        settings: TrainerSettings,
        is_main_process: bool,
    ) -> None:
        self._detector = detector
        self._objectives = objectives
        self._events, self._event_weights = events, event_weights
        self._settings = settings
        self._is_main_process = is_main_process
        self._recent: dict[int, NDArray[np.int64]] = {}  # event numbers of the last iterations

    def remember(self, iteration: int, numbers: NDArray[np.int64]) -> None:
        """Keep the event numbers of a batch for a while."""
        self._recent[iteration] = numbers
        self._recent.pop(iteration - _NUM_RECENT, None)

    def record(
        self, iteration: int, losses: Mapping[str, Tensor], norms: Mapping[str, Tensor]
    ) -> None:
        """Record loss and gradient norm of each optimizer, scalars, after an iteration.

        Raises
        ------
        TrainingError
            If one that was recorded since the last check is not finite.
        """
        self._raise_if(self._detector.record(iteration, self._objectives, losses, norms))

    def check(self, iteration: int) -> None:
        """Check all that was recorded and the weights, before anything is reported or saved.

        Raises
        ------
        TrainingError
            If any of it is not finite.
        """
        self._raise_if(self._detector.check() or self._detector.check_weights(iteration))

    def _raise_if(self, found: NonFiniteValue | None) -> None:
        if found is None:
            return
        events = self._events.read(self._recent[found.iteration])
        checkpoints = self._settings.checkpoints
        folder = self._settings.log_path if checkpoints is None else checkpoints.parent
        path = folder / f"diverged_batch_{found.iteration:08d}.safetensors"
        if self._is_main_process:
            save_batch(path, events, self._events.names, self._event_weights, found.iteration)
        last = None if checkpoints is None else latest_path(checkpoints)
        raise divergence_error(found, events, path, self._objectives, last)


def save_batch(
    path: Path,
    events: EventBatch,
    names: ColumnNames,
    event_weights: EventWeightFunction | None,
    iteration: int,
) -> None:
    """Write the events of a batch to a safetensors file.

    It holds `hits/event` [k], `hits/dom` [k], `hits/features` [k, F], `labels` [B, L], `misc`
    [B, M], `event_weights` [B, 1] (if there are any), `time_offset` [B], and the event ids `Run`,
    `Event`, `SubEvent`, `SubEventStream` [B] each; the header names labels and misc values (JSON).
    """
    batch = to_tensors(events, event_weights)
    tensors = {
        "hits/event": batch.hits.event,
        "hits/dom": batch.hits.dom,
        "hits/features": batch.hits.features,
        "labels": batch.labels,
        "misc": batch.misc,
        "time_offset": torch.from_numpy(events.time_offset),
    }
    if batch.event_weights is not None:
        tensors["event_weights"] = batch.event_weights.contiguous()
    for column in events.ids.dtype.names or ():
        tensors[column] = torch.from_numpy(events.ids[column].astype(np.int64))
    header = {
        "iteration": str(iteration),
        "label_names": json.dumps(names.labels),
        "misc_names": json.dumps(names.misc),
    }
    with temporary_beside(path) as folder:
        save_file(tensors, folder / path.name, metadata=header)
        (folder / path.name).replace(path)


def divergence_error(
    found: NonFiniteValue,
    events: EventBatch,
    batch_file: Path,
    objectives: Sequence[Objective],
    checkpoint: Path | None,
) -> TrainingError:
    """The error of a training that diverged.

    Parameters
    ----------
    found
        What is not finite.
    events
        The events of that iteration.
    batch_file
        Where they were written.
    objectives
        The optimizers; only what they do not do yet is advised.
    checkpoint
        The last checkpoint, if there is any.
    """
    kept = (
        f"The last checkpoint is kept: '{checkpoint}'. With the same settings, the same command "
        "would resume from it and diverge again."
        if checkpoint
        else "There is no checkpoint yet."
    )
    return TrainingError(
        f"the training diverged: in iteration {found.iteration} {found.what}. No state after the "
        f"divergence was saved. {kept}\n"
        f"The batch is in '{batch_file}': {_event_numbers(events)}.\n"
        f"What helps:\n{_advice(objectives)}"
    )


def _event_numbers(events: EventBatch) -> str:
    numbers = [f"{event['Run']}/{event['Event']}" for event in events.ids[:_MAX_EVENTS_NAMED]]
    rest = len(events.ids) - len(numbers)
    more = f" and {rest} more" if rest else ""
    return f"{len(events.ids)} events (run/event {', '.join(numbers)}{more})"


def _of_package(loss: Loss) -> bool:
    return loss.__module__.startswith("dnn_reco.")


def _advice(objectives: Sequence[Objective]) -> str:
    advice = ["a lower learning_rate, or a slow warm-up: dnn_reco.utils.learning_rate.WarmUp"]
    unclipped = [o.name for o in objectives if o.clipping.global_norm is None]
    if unclipped:
        advice.append(f"clip_gradients_value: 1.0 in model_optimizer_dict ({', '.join(unclipped)})")
    uncleaned = [o.name for o in objectives if o.gradient_filter is None]
    if uncleaned:
        advice.append(
            f"remove_nan_gradients: True in model_optimizer_dict ({', '.join(uncleaned)}), if only "
            "a few events cause it"
        )
    own = [loss.__qualname__ for o in objectives for loss in o.losses if not _of_package(loss)]
    if own:
        advice.append(
            "keep the arguments of logarithms and roots, and divisors, above 0, for example with "
            f"clamp(min=1e-6) ({', '.join(own)})"
        )
    advice += [
        "model_kwargs.min_uncertainty_values and max_uncertainty_values, if the uncertainty "
        "diverges",
        "check the events of the batch for labels or inputs far from all others",
    ]
    return "\n".join(f"- {line}" for line in advice)
