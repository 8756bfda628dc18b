"""`compare`: train several configs on the same events for as long, and compare the networks."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import click

from dnn_reco.commands.output import print_json
from dnn_reco.commands.trafo import make_transformation
from dnn_reco.commands.train import report_end
from dnn_reco.config import Config
from dnn_reco.errors import ConfigError, TrainingError
from dnn_reco.evaluation.comparison_report import TrainingCost, as_plain, text_report
from dnn_reco.evaluation.held_out_comparison import check_ensemble, compare_on_held_out
from dnn_reco.evaluation.held_out_events import (
    check_same_events,
    check_same_truth,
    open_held_out_events,
)
from dnn_reco.evaluation.report import write_report
from dnn_reco.files import temporary_beside
from dnn_reco.inference.trained_model import TrainedModel, load_trained_model
from dnn_reco.nn.device import choose_device
from dnn_reco.run_options import RunOptions
from dnn_reco.training.comparison import (
    ComparisonRun,
    check_budget,
    check_files,
    check_unchanged,
    make_runs,
    warn_of_fixed_schedules,
)
from dnn_reco.training.from_config import make_trainer
from dnn_reco.training.resource_estimate import iterations_within
from dnn_reco.training.stage import is_done, open_stage, run_stage
from dnn_reco.training.timing import measure_step_time
from dnn_reco.training.trainer import Trainer
from dnn_reco.workers import world_size

_log = logging.getLogger(__name__)

_PRINT_OUT = "print_out.txt"
# Part of a time that is spent, besides, on measuring how many iterations fit into it [s].
_SHARE_TO_MEASURE, _LEAST_SECONDS, _MOST_SECONDS = 0.05, 1.0, 20.0


@dataclass(frozen=True)
class CompareSettings:
    """How to compare.

    Attributes
    ----------
    seconds
        The budget of each training; None: `options.iterations`.
    out
        Folder for all that is written.
    test_data
        Glob patterns of the held-out files; empty: those of the configs.
    seed
        Seed of all trainings; None: that of the first config.
    ensemble
        Whether all networks together are compared as one more.
    options
        Device, threads, event store and exit code.
    as_json
        Whether the numbers of the table are printed as JSON.
    """

    seconds: float | None
    out: Path
    test_data: tuple[str, ...]
    seed: int | None
    ensemble: bool
    options: RunOptions
    as_json: bool = False


def run_compare(configs: Sequence[Config], settings: CompareSettings) -> int:
    """Train all configs with equal budgets and compare them; returns the exit code."""
    if world_size() > 1:
        raise ConfigError("compare runs in one process: start it without torchrun")
    runs = make_runs(
        configs, settings.out, settings.seed, settings.test_data, settings.options.cache_dir
    )
    check_files(runs, settings.options.allow_overlap)
    names = [run.name for run in runs]
    if settings.ensemble:
        check_ensemble(names)
    _import_slow_modules()
    try:
        held_out = [
            open_held_out_events(
                run.config, run.files("test_data_file"), run.cache_dir, settings.options.threads
            )
            for run in runs
        ]
        check_same_events(names, held_out, settings.ensemble)
        check_same_truth(names, [run.config for run in runs], held_out)
        check_budget(settings.out, settings.seconds, settings.options.iterations)
        for run in runs:
            _log.info("\nPreparing %s", run.name)
            _make_ready(run, settings)
        for number, run in enumerate(runs, start=1):
            _log.info("\nTraining %s (%d of %d)", run.name, number, len(runs))
            code = _train(run, settings)
            if code is not None:
                return code
        device = choose_device(settings.options.device)
        models = [load_trained_model(run.fixed_config(), device, name=run.name) for run in runs]
        costs = {run.name: _cost(run, model) for run, model in zip(runs, models, strict=True)}
        threads = settings.options.threads
        compared = compare_on_held_out(models, costs, held_out, settings.ensemble, threads)
        if settings.as_json:
            print_json(as_plain(compared.comparison, compared.costs))
        else:
            click.echo(text_report(compared.comparison, compared.costs))
        write_report(compared.comparison, compared.costs, settings.out)
        _log.info("Written: comparison.json, comparison.md and figures in '%s'.", settings.out)
    except KeyboardInterrupt:
        _log.info("Stopped. Finished training is kept; run the same command to resume.")
    return 0


def _import_slow_modules() -> None:
    """Import what the first training would otherwise import at the expense of its own time."""
    for name in ("torch.utils.tensorboard", "dnn_reco.evaluation.plots"):
        importlib.import_module(name)


def _make_ready(run: ComparisonRun, settings: CompareSettings) -> None:
    """Do all that comes before a training, so that mistakes show before the first one begins."""
    previous_config = run.previous_config()
    if previous_config is not None:
        check_unchanged(run, previous_config)
        return
    warn_of_fixed_schedules(run)
    options = _options(run, settings)
    make_transformation(run.config, options, overwrite=False)
    with temporary_beside(run.folder) as folder:
        trial = make_trainer(run.config, options, trial_folder=folder)
        iterations = settings.options.iterations
        if settings.seconds is not None:
            iterations = _iterations_within(settings.seconds, trial, folder, run.name)
    assert iterations is not None
    run.fix_config(iterations)


def _options(run: ComparisonRun, settings: CompareSettings) -> RunOptions:
    """Run options of one training: all share an event store; what is printed goes to a file."""
    return replace(settings.options, cache_dir=run.cache_dir, print_format="reference")


def _iterations_within(seconds: float, trial: Trainer, folder: Path, name: str) -> int:
    """How many iterations of a training fit into a time; the trial is used up in measuring it."""
    measuring = min(max(_SHARE_TO_MEASURE * seconds, _LEAST_SECONDS), _MOST_SECONDS)
    try:
        timings = measure_step_time(trial, folder, measuring, lambda share: None)
    except TrainingError as error:
        raise TrainingError(
            f"'{name}' diverges in the measured iterations: run 'dnn-reco train', which stops "
            "there and reports the reason"
        ) from error
    iterations = iterations_within(seconds, trial.settings, timings)
    step = timings.step + timings.choosing
    _log.info("An iteration takes %.4g s: %s fit into %g s.", step, f"{iterations:,}", seconds)
    return iterations


def _train(run: ComparisonRun, settings: CompareSettings) -> int | None:
    """Train what is left to train; returns an exit code if a signal came."""
    config = run.fixed_config()
    if is_done(config):
        _log.info("Already trained, in '%s'.", run.folder)
        return None
    with (
        open_stage(config, _options(run, settings), restore=True) as trainer,
        (run.folder / _PRINT_OUT).open("a", buffering=1) as file,
        redirect_stdout(file),
    ):
        start = time.perf_counter()
        run_stage(trainer, config)
        run.add_seconds(time.perf_counter() - start)
    code = report_end(trainer, settings.options.checkpoint_exit_code)
    return None if trainer.stopped_by is None else code


def _cost(run: ComparisonRun, model: TrainedModel) -> TrainingCost:
    config = run.fixed_config()
    return TrainingCost(
        iterations=config.training.num_training_iterations,
        num_events=config.training.num_training_iterations * config.general.batch_size,
        seconds=run.seconds,
        num_weights=model.num_weights,
    )
