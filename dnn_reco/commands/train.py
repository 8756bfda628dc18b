"""`train`: train a network, or resume its training."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from contextlib import ExitStack

from dnn_reco.config import TRAINING_KEYS, Config, unknown_keys_text
from dnn_reco.data.overlap import refuse_overlap_of_lists
from dnn_reco.errors import ConfigError
from dnn_reco.metrics_log import UNSAVED_LOGS
from dnn_reco.nn.interface import share_of_hits_truncated
from dnn_reco.run_options import INTERRUPTED, RunOptions
from dnn_reco.training.distributed import DistributedContext, init_distributed
from dnn_reco.training.early_stopping import early_stopping_reason
from dnn_reco.training.from_config import check_objectives, open_training_data
from dnn_reco.training.initial_weights import check_data_of_initial
from dnn_reco.training.stage import is_done, open_stage, run_stage
from dnn_reco.training.trainer import Trainer

_log = logging.getLogger(__name__)


def run_train(config: Config, options: RunOptions) -> int:
    """Train until the last iteration is done or a signal comes; returns the exit code."""
    return run_stages([config], options)


def run_stages(stages: Sequence[Config], options: RunOptions) -> int:
    """Train stage after stage, each as a separate call would; returns the exit code.

    Parameters
    ----------
    stages
        The config of each stage, with the iterations until its end.
    options
        Device, threads and event store.
    """
    for config in stages:  # mistakes in later stages must show now
        config.require(*TRAINING_KEYS)
        if len(stages) > 1 and not config.model.model_save_model:
            raise ConfigError(
                "training_stages pass the network from stage to stage in checkpoints, but "
                "'model_save_model: False' writes none: remove one of the two"
            )
    refuse_overlap_of_lists(stages, options.allow_overlap)
    check_data_of_initial(stages, options.allow_overlap)
    with init_distributed(options.device) as distributed:
        if not distributed.is_main_process:
            logging.getLogger("dnn_reco").setLevel(logging.ERROR)
        return _run_stages(stages, options, distributed)


def _run_stages(
    stages: Sequence[Config], options: RunOptions, distributed: DistributedContext
) -> int:
    restore = stages[0].model.model_restore_model
    with distributed.main_process_first():
        _check_later_stages(stages, options, restore)
    begins = [0, *(config.training.num_training_iterations for config in stages)]
    for number, (config, begin) in enumerate(zip(stages, begins, strict=False), start=1):
        if len(stages) > 1:
            done = restore and config is not stages[-1] and is_done(config)
            _log.info("Stage %d of %d%s.", number, len(stages), " is done" if done else "")
            if done:
                continue
        with ExitStack() as stack:
            with distributed.main_process_first():  # it builds the event store, reports mistakes
                stage = open_stage(config, options, restore, distributed, begin)
                trainer = stack.enter_context(stage)
            if config.unknown_keys:
                _log.warning("%s: not read by dnn_reco.", unknown_keys_text(config))
            has_run = run_stage(trainer, config)
        if trainer.stopped_by is not None or trainer.has_stopped_early:
            break
        restore = True  # later stages continue from this one
    return report_end(trainer, options.checkpoint_exit_code) if has_run else 0


def _check_later_stages(stages: Sequence[Config], options: RunOptions, restore: bool) -> None:
    """Find mistakes now that would end a later stage when it begins.

    Files that only later stages read are put into the event store. The stage that comes next is
    left to itself; the files of stages that are done may be gone.
    """
    to_do = [
        (number, config)
        for number, config in enumerate(stages, start=1)
        if config is stages[-1] or not (restore and is_done(config))
    ]
    prepared = [to_do[0][1].data_files.training_data_file]
    for number, config in to_do[1:]:
        check_objectives(config)
        patterns = config.data_files.training_data_file
        if patterns not in prepared:
            prepared.append(patterns)
            _log.info("Files of stage %d:", number)
            open_training_data(config, options)


def report_end(trainer: Trainer, checkpoint_exit_code: int | None) -> int:
    """Report how a training ended; returns the exit code."""
    done, best = trainer.progress.iterations, trainer.progress.best
    folder = trainer.settings.checkpoints
    curves = trainer.settings.log_path / UNSAVED_LOGS
    nothing = f"nothing is saved (model_save_model is False) but curves, in '{curves}'"
    saved = f"saved in '{folder}'" if folder else nothing
    if done == 0:
        saved = "so there is nothing to save yet"
    if truncated := share_of_hits_truncated(trainer.forward.network):
        _log.info(
            "%.2g %% of the hits were ignored: of bright events the network reads only the "
            "max_tokens hits (model_kwargs) of the highest charge. Raise max_tokens to read more "
            "(slower).",
            100 * truncated,
        )
    if trainer.is_out_of_patience and best is not None:
        _log.info("Stopping early: %s", early_stopping_reason(best))
    if trainer.stopped_by is None:
        _log.info("Training is done: %d iterations, %s.", done, saved)
        return 0
    _log.info("Stopped after %d iterations, %s. Run the same command to resume.", done, saved)
    if trainer.stopped_by is signal.SIGINT:
        return 0 if folder else INTERRUPTED
    return 128 + trainer.stopped_by if checkpoint_exit_code is None else checkpoint_exit_code
