"""How many iterations of a training fit into a given time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import torch

from dnn_reco.data.batches import Batch
from dnn_reco.training.engine import Training

_log = logging.getLogger(__name__)

# Share of the budget that is spent on measuring, besides, and its limits in seconds.
_SHARE = 0.05
_LEAST, _MOST = 1.0, 20.0
_LEAST_STEPS = 3
# The first steps are slower: memory is allocated, kernels are chosen.
_SHARE_TO_WARM_UP = 0.3


def affordable_iterations(trial: Training, seconds: float) -> int:
    """How many iterations a training can do in a time, at least 1.

    Its validations count, too. Takes some steps to measure it.

    Parameters
    ----------
    trial
        A training like the one to come. It is of no use afterwards.
    seconds
        The time.
    """
    measuring = min(max(_SHARE * seconds, _LEAST), _MOST)
    with trial.batches(0, lambda: None) as batches:
        steps = enumerate(batches)
        _take_steps(trial, steps, _SHARE_TO_WARM_UP * measuring)
        count, duration = _take_steps(trial, steps, measuring)
    step = duration / count
    plan, validation = trial.plan, trial.validation
    iteration = step * (1 + 1 / plan.validation_frequency)  # the print-out predicts two batches
    if validation.validation_set is not None:
        start = time.perf_counter()
        validation.score_set(validation.validation_set)
        iteration += (time.perf_counter() - start) / plan.validation_set_frequency
    iterations = max(1, int(seconds / iteration))
    _log.info(
        "Measured for %.1f s: %.4g s an iteration, so %s iterations in %g s.",
        duration,
        iteration,
        f"{iterations:,}",
        seconds,
    )
    return iterations


def _take_steps(
    training: Training, steps: Iterator[tuple[int, Batch]], seconds: float
) -> tuple[int, float]:
    """Train for some time, some steps at least; returns their number, and how long it took [s]."""
    count, start = 0, time.perf_counter()
    for iteration, batch in steps:
        training.take_step(iteration, batch.to(training.device))
        count += 1
        if count >= _LEAST_STEPS and time.perf_counter() - start >= seconds:
            break
    if training.device.type == "cuda":
        torch.cuda.synchronize(training.device)
    return count, time.perf_counter() - start
