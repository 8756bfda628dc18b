"""How long the parts of a training take, measured by doing them for some seconds."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch

from dnn_reco.training.biased_selection import BiasedSelection
from dnn_reco.training.logging import TrainingLog
from dnn_reco.training.run_state import Step
from dnn_reco.training.trainer import Trainer

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
    batch_metrics
        A validation with its printed metrics.
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
    batch_metrics: float
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
    trainer: Trainer, folder: Path, seconds: float, report_progress: Callable[[float], None]
) -> StepTimings:
    """Train for some seconds, then validate and save some times.

    The trainer cannot be used for anything else afterwards. Its settings should be those of a trial
    (:meth:`dnn_reco.training.settings.TrainerSettings.for_trial`).

    Parameters
    ----------
    trainer
        What to measure.
    folder
        Where the trainer writes checkpoints and logs: on the disk where those of the training will
        be.
    seconds
        How long to train, after a warm-up.
    report_progress
        Called now and then with the share of that time that has passed.

    Raises
    ------
    TrainingError
        If the training diverges.
    """
    saves = trainer.settings.checkpoints is not None
    selection, validation_set = trainer.data.selection, trainer.data.validation_set
    with closing(trainer.steps(lambda: None)) as steps:
        step, waiting = step_time(_time_blocks(trainer, steps, seconds, report_progress))
        checkpoint = 0.0
        if saves:  # a checkpoint that is there is not written again: each is of another iteration
            checkpoint = _seconds_of(lambda: trainer.save(lambda _: None), lambda: next(steps))
    choosing = 0.0
    if selection is not None:
        choosing = _seconds_of_choosing(selection) * trainer.settings.batch_size
    iteration = trainer.progress.iterations - 1
    with _silent_log(trainer) as log:
        batch_metrics = _seconds_of(lambda: trainer.validation.log_batch_metrics(iteration, 1, log))
        evaluation = 0.0
        if validation_set is not None:
            evaluation = _seconds_of(lambda: trainer.evaluate_validation_set(iteration, log))
    return StepTimings(
        step=step,
        choosing=choosing,
        waiting=waiting,
        batch_metrics=batch_metrics,
        evaluation=evaluation,
        set_events=0 if validation_set is None else validation_set.num_events,
        checkpoint=checkpoint,
        checkpoint_bytes=_size_of_one(folder / "model") if saves else 0,
    )


def _time_blocks(
    trainer: Trainer,
    steps: Iterator[Step],
    seconds: float,
    report_progress: Callable[[float], None],
) -> list[Block]:
    start = time.perf_counter()
    last, warm_up_steps = next(steps), 1
    while warm_up_steps < _WARM_UP_STEPS or time.perf_counter() - start < seconds / _BLOCKS:
        last, warm_up_steps = next(steps), warm_up_steps + 1
    blocks: list[Block] = []
    start = time.perf_counter()
    while (past := time.perf_counter() - start) < seconds or len(blocks) < _MIN_BLOCKS:
        report_progress(min(past / seconds, 1.0))
        block, last = _time_block(trainer, steps, last, seconds / _BLOCKS)
        blocks.append(block)
    return blocks


def _time_block(
    trainer: Trainer, steps: Iterator[Step], last: Step, seconds: float
) -> tuple[Block, Step]:
    """Time steps until so many seconds have passed; `last` is the step before them."""

    def seconds_choosing() -> float:
        return 0.0 if trainer.data.selection is None else trainer.data.selection.seconds

    before = last
    _synchronize(trainer.forward.device)
    start, choosing = time.perf_counter(), seconds_choosing()
    while time.perf_counter() - start < seconds:
        last = next(steps)
    _synchronize(trainer.forward.device)
    block = Block(
        last.iteration - before.iteration,
        time.perf_counter() - start,
        last.seconds_waited - before.seconds_waited,
        seconds_choosing() - choosing,
    )
    return block, last


def _synchronize(device: torch.device) -> None:
    """Wait until a GPU has finished all kernels."""
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
def _silent_log(trainer: Trainer) -> Iterator[TrainingLog]:
    """A log as that of a training, with nothing on the terminal."""
    settings = trainer.settings
    with redirect_stderr(io.StringIO()):  # where the progress bar will be
        log = TrainingLog(settings.log_path, 0, settings.num_iterations, settings.batch_size, False)
    with closing(log), redirect_stdout(io.StringIO()):
        yield log


def _seconds_of(work: Callable[[], object], before: Callable[[], object] | None = None) -> float:
    """Median of some times that `work` takes, without the first; `before` is not timed."""
    times: list[float] = []
    for number in count():
        if before is not None:
            before()
        start = time.perf_counter()
        work()
        if number > 0:
            times.append(time.perf_counter() - start)
        if len(times) == _REPETITIONS or sum(times) >= _REPETITION_SECONDS:
            return statistics.median(times)
    raise AssertionError("unreachable")


def _size_of_one(checkpoints: Path) -> int:
    newest = max(checkpoints.glob("checkpoint-*"))
    return sum(file.stat().st_size for file in newest.iterdir())
