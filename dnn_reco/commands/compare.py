"""`compare`: train several configs on the same events for as long, and evaluate them alike."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dnn_reco.commands.trafo import make_transformation
from dnn_reco.commands.train import (
    farewell,
    is_done,
    open_all_data,
    prepare,
    prepare_to_go_on,
    train_stage,
)
from dnn_reco.config import Config
from dnn_reco.errors import ConfigError, TrainingError
from dnn_reco.evaluation.comparison_report import Effort
from dnn_reco.evaluation.held_out import (
    Trained,
    check_comparable,
    check_ensemble,
    evaluate,
    open_held_out,
    trained_by,
)
from dnn_reco.files import temporary_beside
from dnn_reco.inference.trained_model import choose_device
from dnn_reco.training.comparison import (
    Entry,
    check_budget,
    check_files,
    check_unchanged,
    make_entries,
    tell_schedule,
)
from dnn_reco.training.distributed import Ranks
from dnn_reco.training.resource_estimate import iterations_within
from dnn_reco.training.timing import measure_pace
from dnn_reco.training.trainer import Training
from dnn_reco.workers import available_cpus, processes_of_training

_log = logging.getLogger(__name__)

_PRINT_OUT = "print_out.txt"
# Part of a time that is spent, besides, on measuring how many iterations fit into it [s].
_SHARE_TO_MEASURE, _LEAST_SECONDS, _MOST_SECONDS = 0.05, 1.0, 20.0


@dataclass(frozen=True)
class CompareSettings:
    """How to compare.

    Attributes
    ----------
    seconds, iterations
        The budget of each training: one of the two.
    out
        Folder for all that is written.
    test_data
        Glob patterns of the held-out files; empty: those of the configs.
    allow_overlap
        Whether files may be both trained on and held out.
    seed
        Seed of all trainings; None: that of the first config.
    ensemble
        Whether all networks together are compared as one more.
    device, num_threads, cache_dir, checkpoint_exit_code
        See :func:`dnn_reco.commands.train.run_stages`.
    """

    seconds: float | None
    iterations: int | None
    out: Path
    test_data: tuple[str, ...]
    allow_overlap: bool
    seed: int | None
    ensemble: bool
    device: str
    num_threads: int
    cache_dir: str | None
    checkpoint_exit_code: int | None


def run_compare(configs: Sequence[Config], settings: CompareSettings) -> int:
    """Train all configs with equal budgets, evaluate them, and tell; returns the exit code."""
    if processes_of_training() > 1:
        raise ConfigError("compare runs in one process: start it without torchrun")
    entries = make_entries(
        configs, settings.out, settings.seed, settings.test_data, settings.cache_dir
    )
    check_files(entries, settings.allow_overlap)
    names = [entry.name for entry in entries]
    if settings.ensemble:
        check_ensemble(names)
    _import_slow_modules()
    try:
        held_out = [
            open_held_out(
                entry.config(), entry.files("test_data_file"), entry.cache_dir, _threads(settings)
            )
            for entry in entries
        ]
        check_comparable(names, held_out, settings.ensemble)
        check_budget(settings.out, settings.seconds, settings.iterations)
        for entry in entries:
            _log.info("\nPreparing %s", entry.name)
            _make_ready(entry, settings)
        for number, entry in enumerate(entries, start=1):
            _log.info("\nTraining %s (%d of %d)", entry.name, number, len(entries))
            code = _train(entry, settings)
            if code is not None:
                return code
        device = choose_device(settings.device)
        trained = [trained_by(entry.settled(), entry.name, device, 1) for entry in entries]
        efforts = [_effort(entry, each) for entry, each in zip(entries, trained, strict=True)]
        evaluate(trained, efforts, held_out, settings.ensemble, _threads(settings), settings.out)
    except KeyboardInterrupt:
        _log.info("Stopped. What is trained so far is kept; the same command goes on from there.")
    return 0


def _import_slow_modules() -> None:
    """Import what the first training would otherwise import at the expense of its own time."""
    for name in ("torch.utils.tensorboard", "dnn_reco.evaluation.plots"):
        importlib.import_module(name)


def _threads(settings: CompareSettings) -> int:
    return settings.num_threads or available_cpus()


def _make_ready(entry: Entry, settings: CompareSettings) -> None:
    """Do all that comes before a training, so that mistakes show before the first one begins."""
    begun = entry.begun()
    if begun is not None:
        check_unchanged(entry, begun)
        return
    tell_schedule(entry)
    make_transformation(entry.config(), settings.num_threads, entry.cache_dir, overwrite=False)
    open_data = partial(open_all_data, cache_dir=entry.cache_dir)
    trial = prepare(entry.config(), settings.device, settings.num_threads, open_data, Ranks())
    iterations = settings.iterations
    if settings.seconds is not None:
        iterations = _iterations_within(settings.seconds, trial, entry)
    assert iterations is not None
    entry.settle(iterations)


def _iterations_within(seconds: float, trial: Training, entry: Entry) -> int:
    """How many iterations of a training fit into a time; the trial is used up in measuring it."""
    measuring = min(max(_SHARE_TO_MEASURE * seconds, _LEAST_SECONDS), _MOST_SECONDS)
    try:
        with temporary_beside(entry.folder) as folder:
            pace = measure_pace(trial, 0, folder, measuring, lambda share: None)
    except TrainingError as error:
        raise TrainingError(
            f"'{entry.name}' diverges in the iterations that were tried: 'dnn-reco train' stops "
            "there, too, and says why"
        ) from error
    iterations = iterations_within(seconds, trial.plan, pace)
    step = pace.step + pace.choosing
    _log.info("An iteration takes %.4g s: %s fit into %g s.", step, f"{iterations:,}", seconds)
    return iterations


def _train(entry: Entry, settings: CompareSettings) -> int | None:
    """Train what is left to train; returns an exit code if a signal came."""
    config = entry.settled()
    if is_done(config):
        _log.info("Trained already, in '%s'.", entry.folder)
        return None
    training = prepare_to_go_on(
        config, settings.device, settings.num_threads, entry.cache_dir, True, Ranks()
    )
    with (entry.folder / _PRINT_OUT).open("a", buffering=1) as file, redirect_stdout(file):
        start = time.perf_counter()
        received, _ = train_stage(training, config)
        entry.add_seconds(time.perf_counter() - start)
    code = farewell(training, received, settings.checkpoint_exit_code)
    return None if received is None else code


def _effort(entry: Entry, trained: Trained) -> Effort:
    config = entry.settled()
    return Effort(
        iterations=config.training.num_training_iterations,
        num_events=config.training.num_training_iterations * config.general.batch_size,
        seconds=entry.seconds,
        num_weights=trained.num_weights,
    )
