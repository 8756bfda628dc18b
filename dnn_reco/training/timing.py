"""How long the parts of a training take, measured by doing them for some seconds."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dnn_reco.training.biased_selection import BiasedSelection
from dnn_reco.training.logging import TrainingLog
from dnn_reco.training.trainer import Batches, Training

# Iterations before anything is measured: the batches that were read ahead are used up, and
# libraries have chosen how to compute.
_WARM_UP_STEPS = 10
# Iterations are timed in blocks: a GPU works behind the program, and only now and then a batch is
# waited for. So many are wanted, and so many are enough where an iteration takes long.
_BLOCKS, _MIN_BLOCKS = 12, 3
# What is done between iterations is repeated so often, less often if it takes long.
_REPETITIONS, _REPETITION_SECONDS = 3, 1.0


@dataclass(frozen=True)
class StepTimings:
    """Seconds that the parts of a training take on this machine.

    Attributes
    ----------
    step
        An iteration, without choosing events.
    choosing
        Choosing the events of an iteration (biased selection).
    waiting
        Share of the time of an iteration in which it waits for data.
    print_out
        A validation with its print-out.
    evaluation
        An evaluation of the validation set; 0 if there is none.
    set_events
        Events of that set.
    checkpoint
        Writing a checkpoint; 0 if none is saved.
    checkpoint_bytes
        Its size.
    """

    step: float
    choosing: float
    waiting: float
    log_batch_metrics: float
    evaluation: float
    set_events: int
    checkpoint: float
    checkpoint_bytes: int


@dataclass(frozen=True)
class Block:
    """Some iterations, timed together [s]; choosing events is within their time."""

    steps: int
    seconds: float
    waiting: float
    choosing: float


def step_time(blocks: Sequence[Block]) -> tuple[float, float]:
    """Seconds of an iteration without choosing events (median), and the share spent waiting."""
    working = [block.seconds - block.choosing for block in blocks]
    seconds = [each / block.steps for each, block in zip(working, blocks, strict=True)]
    return statistics.median(seconds), sum(block.waiting for block in blocks) / sum(working)


def measure_step_time(
    training: Training,
    first: int,
    folder: Path,
    seconds: float,
    tell: Callable[[float], None],
) -> StepTimings:
    """Train for some seconds, then validate and save some times; all is written to `folder`.

    The training cannot be used for anything else afterwards.

    Parameters
    ----------
    training
        What to measure.
    first
        Number of the iteration to begin with.
    folder
        For logs and checkpoints, on the disk where those of the training will be.
    seconds
        How long to train, after a warm-up.
    tell
        Called now and then with the share of that time that is over.

    Raises
    ------
    TrainingError
        If the training diverges.
    """
    saves = training.settings.checkpoints is not None
    checkpoints = folder / "model"
    training.settings = replace(
        training.settings, checkpoints=checkpoints if saves else None, log_path=folder / "logs"
    )
    training.progress = replace(training.progress, iterations=first)
    step, waiting = step_time(_time_blocks(training, seconds, tell))
    choosing = 0.0
    if training.selection is not None:
        choosing = _seconds_of_choosing(training.selection) * training.settings.batch_size
    iteration = training.progress.iterations
    validation_set = training.validation.validation_set
    with _unseen_reports(training) as reports:
        log_batch_metrics = _seconds_of(
            lambda: training.validation.log_batch_metrics(iteration, 1, reports)
        )
        evaluation = 0.0
        if validation_set is not None:
            evaluation = _seconds_of(lambda: training.evaluate_set(iteration, reports))
    return StepTimings(
        step=step,
        choosing=choosing,
        waiting=waiting,
        log_batch_metrics=log_batch_metrics,
        evaluation=evaluation,
        set_events=0 if validation_set is None else validation_set.num_events,
        checkpoint=_seconds_of(lambda: _save(training)) if saves else 0.0,
        checkpoint_bytes=_size_of_one(checkpoints) if saves else 0,
    )


def _time_blocks(training: Training, seconds: float, tell: Callable[[float], None]) -> list[Block]:
    blocks: list[Block] = []
    with training.batches(training.progress.iterations, lambda: None) as batches:
        steps = _steps(training, batches)
        start = time.perf_counter()
        for number, _ in enumerate(steps, start=1):
            if number >= _WARM_UP_STEPS and time.perf_counter() - start >= seconds / _BLOCKS:
                break
        start = time.perf_counter()
        while (past := time.perf_counter() - start) < seconds or len(blocks) < _MIN_BLOCKS:
            tell(min(past / seconds, 1.0))
            blocks.append(_time_block(training, steps, batches, seconds / _BLOCKS))
    return blocks


def _steps(training: Training, batches: Batches) -> Iterator[None]:
    """Iterations as :meth:`Training.run` makes them, one each time."""
    for batch in batches:
        iteration = training.progress.iterations
        training.take_step(iteration, batch.to(training.device))
        training.progress = replace(training.progress, iterations=iteration + 1)
        if training.selection is not None:
            training.selection.batch_is_trained()
        yield


def _time_block(
    training: Training, steps: Iterator[None], batches: Batches, seconds: float
) -> Block:
    """As many iterations as it takes until so much time is over."""

    def chosen_for() -> float:
        return 0.0 if training.selection is None else training.selection.seconds

    _finish(training.device)
    start, waited, choosing = time.perf_counter(), batches.seconds_waited, chosen_for()
    count = 0
    while time.perf_counter() - start < seconds:
        next(steps)
        count += 1
    _finish(training.device)
    return Block(
        count,
        time.perf_counter() - start,
        batches.seconds_waited - waited,
        chosen_for() - choosing,
    )


def _finish(device: torch.device) -> None:
    """Wait until a GPU has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _seconds_of_choosing(selection: BiasedSelection) -> float:
    """Seconds an event that choosing takes: of the next pool from which some are chosen."""
    seconds, chosen = selection.seconds, selection.num_chosen
    for _ in selection.batches():
        if selection.num_chosen > chosen:
            break
    return (selection.seconds - seconds) / (selection.num_chosen - chosen)


@contextmanager
def _unseen_reports(training: Training) -> Iterator[TrainingLog]:
    """TrainingLog as those of a training, with nothing on the terminal."""
    settings = training.settings
    with redirect_stderr(io.StringIO()):  # where the progress bar will be
        reports = TrainingLog(
            settings.log_path, 0, settings.num_iterations, settings.batch_size, False
        )
    with closing(reports), redirect_stdout(io.StringIO()):
        yield reports


def _seconds_of(work: Callable[[], object]) -> float:
    """Seconds that something takes which has been done before: the median of some times."""
    work()
    times: list[float] = []
    while not times or (len(times) < _REPETITIONS and sum(times) < _REPETITION_SECONDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _save(training: Training) -> None:
    iterations = training.progress.iterations + 1  # a checkpoint that is there is not written again
    training.progress = replace(training.progress, iterations=iterations)
    training.save(lambda progress: None)


def _size_of_one(checkpoints: Path) -> int:
    newest = max(checkpoints.glob("checkpoint-*"))
    return sum(file.stat().st_size for file in newest.iterdir())
