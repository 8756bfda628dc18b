"""One stage of a training: from the checkpoint that it resumes from to the records it writes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from dnn_reco.checkpoint_file import (
    Checkpoint,
    Progress,
    has_best,
    latest_iterations,
    load_latest,
)
from dnn_reco.config import Config
from dnn_reco.files import temporary_beside
from dnn_reco.metrics_log import LOG_FOLDERS, METRICS_FILE, writing_logs
from dnn_reco.nn.device import device_name
from dnn_reco.provenance import (
    has_records,
    record_text,
    retire,
    write_config_record,
    write_training_steps,
)
from dnn_reco.run_options import RunOptions
from dnn_reco.training.checkpoint import check_relative_times
from dnn_reco.training.distributed import DistributedContext
from dnn_reco.training.early_stopping import counting_from, early_stopping_reason
from dnn_reco.training.from_config import make_trainer
from dnn_reco.training.lock import training_lock
from dnn_reco.training.trainer import Trainer

_log = logging.getLogger(__name__)


def is_done(config: Config) -> bool:
    """Whether the iterations until the end of a stage are done."""
    done = latest_iterations(Path(config.model.model_checkpoint_path))
    return 0 < config.training.num_training_iterations <= done


@contextmanager
def open_stage(
    config: Config,
    options: RunOptions,
    restore: bool,
    distributed: DistributedContext = DistributedContext(),  # noqa: B008 - frozen
    begin: int = 0,
) -> Iterator[Trainer]:
    """The trainer of a stage, with the state that it resumes from.

    Inside the block no other training may use the model folder.

    Parameters
    ----------
    config
        What to train.
    options
        Device, threads and event store.
    restore
        Whether to resume from the latest checkpoint; if not, an old model is moved away.
    distributed
        The processes that train together.
    begin
        Iterations of the stages before, after which this one begins.

    Raises
    ------
    TrainingError
        If another training uses the model folder.
    """
    trainer = make_trainer(config, options, distributed)
    writes = config.model.model_save_model and distributed.is_main_process
    with training_lock(Path(config.model.model_checkpoint_path)) if writes else nullcontext():
        checkpoint = _find_checkpoint(config, restore, writes)
        if checkpoint is not None:
            check_relative_times(checkpoint, trainer.forward.spec.transformation, config)
            trainer.restore(counting_from(checkpoint, begin))
        yield trainer


def _find_checkpoint(config: Config, restore: bool, writes: bool) -> Checkpoint | None:
    """The checkpoint to resume from; without one, remains of an old model are moved away."""
    folder = Path(config.model.model_checkpoint_path)
    checkpoint = load_latest(folder) if restore else None
    if checkpoint is not None or not writes:
        return checkpoint
    if restore and not (has_best(folder) or has_records(folder)):
        return None  # logs alone are of a training that ended before its first checkpoint
    moved = retire(folder, Path(config.general.log_path), (*LOG_FOLDERS, METRICS_FILE))
    if moved is not None:
        if restore:
            _log.warning(
                "There is no checkpoint in '%s', but other files of a training: they were moved "
                "to '%s', and its logs beside it; training starts from the beginning.",
                folder,
                moved,
            )
        else:
            _log.info("model_restore_model is False: the old model was moved to '%s'.", moved)
    return None


def run_stage(trainer: Trainer, config: Config) -> bool:
    """Train a stage, with records beside the checkpoints; returns whether anything was left to do.

    `trainer.stopped_by` is the signal that ended it early, if any.
    """
    nothing_to_do = reason_for_nothing(trainer)
    if nothing_to_do is not None:
        _log.info("%s", nothing_to_do)
        return False
    checkpoints = trainer.settings.checkpoints
    if checkpoints is not None:
        with temporary_beside(checkpoints / "probe"):
            pass  # a folder that cannot be written to must show now, not at the first checkpoint
    _log_start(trainer)
    trainer.run(_record_writer(config, len(trainer.progress.training_steps)))
    return True


def reason_for_nothing(trainer: Trainer) -> str | None:
    """Why there is nothing left to train; None if there is."""
    done, wanted = trainer.progress.iterations, trainer.settings.num_iterations
    if done >= wanted:
        return all_is_done(done, wanted)
    best = trainer.progress.best
    if trainer.is_out_of_patience and best is not None:
        return f"Nothing to do: {early_stopping_reason(best)}"
    return None


def all_is_done(done: int, wanted: int) -> str:
    """The message on a training that has all its iterations."""
    return f"Nothing to do: {done} iterations are done, num_training_iterations is {wanted}."


def _log_start(trainer: Trainer) -> None:
    world_size = trainer.distributed.world_size
    _log.info(
        "Network: %s trainable weights, on %s%s.",
        f"{trainer.forward.num_weights:,}",
        device_name(trainer.forward.device),
        "" if world_size == 1 else f", in {world_size} processes",
    )
    if trainer.restored_from is not None:
        _log.info(
            "Resuming from '%s' (training step %d).",
            trainer.restored_from,
            len(trainer.progress.training_steps),
        )
    elif trainer.settings.initial_weights:
        _log.info(
            "The network begins with weights of model_initial_weights, SHA-256 %s….",
            trainer.settings.initial_weights[:8],
        )


def _record_writer(config: Config, training_step: int) -> Callable[[Progress], None]:
    """A function that brings the records of the run up to date after a checkpoint."""
    folder = Path(config.model.model_checkpoint_path).parent
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    title = f"Configuration of training step {training_step} (begun {started}), with defaults."
    text = record_text(title, config.to_yaml())

    def write(progress: Progress) -> None:
        with writing_logs(folder):
            write_config_record(folder, training_step, text)
            write_training_steps(folder, progress.training_steps)

    return write
