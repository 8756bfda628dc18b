"""`train`: train a network, or go on with it."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from dnn_reco.checkpoint_file import KEEP_ALL, Checkpoint, Progress, load_latest
from dnn_reco.config import TRAINING_KEYS, Config, OptimizerSettings, resolve
from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.from_config import event_store, label_weight, label_weights, transform_settings
from dnn_reco.data.records import ColumnNames
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.files import find_files, temporary_beside
from dnn_reco.modules.loss.special_labels import check_special_labels
from dnn_reco.nn.device import choose_device, device_name
from dnn_reco.nn.from_config import float_type, make_network, network_spec
from dnn_reco.nn.interface import Network, NetworkSpec, share_of_hits_truncated
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.nn.memory import keep_freed_memory
from dnn_reco.provenance import (
    record_text,
    retire,
    write_config_record,
    write_training_steps,
)
from dnn_reco.training.distributed import DistributedContext, init_distributed
from dnn_reco.training.evaluation_hook import EvaluationHook
from dnn_reco.training.event_weights import EventWeights
from dnn_reco.training.from_config import device_events, training_predictor
from dnn_reco.training.gradients import GradientAccumulator, NonFiniteGradientFilter
from dnn_reco.training.label_weights import LabelWeights
from dnn_reco.training.objectives import Objective
from dnn_reco.training.optimizers import choose_optimizer, ema_decay, make_optimizer
from dnn_reco.training.selection_from_config import make_selection, selection_criteria
from dnn_reco.training.settings import TrainerSettings
from dnn_reco.training.trainer import Training
from dnn_reco.training.validation_set import ValidationSet, read_validation_set
from dnn_reco.transform import check_settings, load_transformation
from dnn_reco.workers import available_cpus

_log = logging.getLogger(__name__)

# From a config and the number of threads: training and validation events.
OpenData = Callable[[Config, int], tuple[EventDataset, EventDataset]]


def run_stages(
    stages: Sequence[Config],
    device: str,
    num_threads: int,
    cache_dir: str | None,
    checkpoint_exit_code: int | None,
) -> int:
    """Train stage after stage, each as a call of its own would; returns the exit code.

    Parameters
    ----------
    stages
        The config of each stage, with the iterations until its end.
    """
    for config in stages:  # mistakes in later stages shall show now
        config.require(*TRAINING_KEYS)
        if len(stages) > 1 and not config.model.model_save_model:
            raise ConfigError(
                "training_stages hand the network on by checkpoints, which 'model_save_model: "
                "False' forbids: remove one of the two"
            )
    with init_distributed(device) as distributed:
        if not distributed.is_main_process:
            logging.getLogger("dnn_reco").setLevel(logging.ERROR)
        return _run_stages(
            stages, device, num_threads, cache_dir, checkpoint_exit_code, distributed
        )


def _run_stages(
    stages: Sequence[Config],
    device: str,
    num_threads: int,
    cache_dir: str | None,
    checkpoint_exit_code: int | None,
    distributed: DistributedContext,
) -> int:
    restore = stages[0].model.model_restore_model
    for number, config in enumerate(stages, start=1):
        if len(stages) > 1:
            done = restore and number < len(stages) and is_done(config)
            _log.info("Stage %d of %d%s.", number, len(stages), " is done" if done else "")
            if done:
                continue
        with distributed.main_process_first():  # it builds the event store, and tells of mistakes
            training = prepare_to_go_on(
                config, device, num_threads, cache_dir, restore, distributed
            )
        received, has_run = train_stage(training, config)
        if received is not None or training.out_of_patience:
            break
        restore = True  # later stages go on with what this one left
    return farewell(training, received, checkpoint_exit_code) if has_run else 0


def run_train(
    config: Config,
    device: str,
    num_threads: int,
    cache_dir: str | None,
    checkpoint_exit_code: int | None,
) -> int:
    """Train until the planned iterations are done or a signal comes; returns the exit code."""
    return run_stages([config], device, num_threads, cache_dir, checkpoint_exit_code)


def prepare_to_go_on(
    config: Config,
    device: str,
    num_threads: int,
    cache_dir: str | None,
    restore: bool,
    distributed: DistributedContext,
) -> Training:
    """All that a stage of a training needs, with the state that it goes on from.

    Parameters
    ----------
    restore
        Whether to go on from the latest checkpoint.
    """
    open_data = partial(open_all_data, cache_dir=cache_dir)
    training = prepare(config, device, num_threads, open_data, distributed)
    checkpoint = _find_checkpoint(config, restore, distributed)
    if checkpoint is not None:
        training.restore(checkpoint)
    return training


def prepare(
    config: Config,
    device: str,
    num_threads: int,
    open_data: OpenData,
    distributed: DistributedContext,
) -> Training:
    """All that a stage of a training needs, as it is before the first iteration.

    Parameters
    ----------
    open_data
        Gives the training and the validation events of a config.
    """
    torch_device = _device_of_rank(device, distributed)
    threads = num_threads or available_cpus()
    torch.set_num_threads(threads)
    keep_freed_memory()
    path = Path(config.trafo.trafo_model_path)
    transformation = load_transformation(path)
    # first what a mistake in the config breaks at once, then what may take long
    spec = network_spec(config, transformation)
    network = make_network(config, spec, torch_device)
    objectives = _make_objectives(config, network)
    _check_losses(config, objectives, spec)
    criteria = selection_criteria(config, spec)
    event_weights, evaluation = _user_functions(config, spec)
    plan = _make_plan(config)
    if plan.batch_size < distributed.world_size:
        raise ConfigError(
            f"a batch_size of {plan.batch_size} cannot be shared by "
            f"{distributed.world_size} processes: raise it, or start fewer"
        )
    training_events, validation_events = open_data(config, threads)
    _check_columns(training_events, validation_events)
    check_settings(transformation, transform_settings(config, training_events.names), path)
    weights = label_weights(config, spec.label_names)
    label_transform = LabelTransform(transformation).to(torch_device)
    selection = make_selection(config, criteria, network, label_transform, spec, training_events)
    validation_set = _validation_set(config, validation_events, event_weights)
    return Training(
        network,
        label_transform,
        spec.label_keys,
        spec.label_names,
        objectives,
        LabelWeights(
            torch.tensor(weights, dtype=float_type(config), device=torch_device),
            config.labels.label_update_weights,
            config.labels.label_scale_tukey,
        ),
        training_events,
        validation_events,
        transformation.digest,
        plan,
        event_weights,
        evaluation,
        validation_set,
        selection,
        distributed,
        training_predictor(config, network, torch_device),
        device_events(config.training.data_on_device, training_events, torch_device),
    )


def _device_of_rank(name: str, distributed: DistributedContext) -> torch.device:
    """The device that a user asks for; several processes on a machine take a GPU each."""
    device = choose_device(name)
    if device.type != "cuda" or distributed.world_size == 1:
        return device
    if name not in ("auto", "cuda"):
        raise ConfigError(
            f"--device {name} names one GPU for {distributed.world_size} processes: say cuda, "
            "which gives each one of its own (CUDA_VISIBLE_DEVICES chooses which)"
        )
    if distributed.local_world_size > torch.cuda.device_count():
        raise ConfigError(
            f"{distributed.local_world_size} processes on this machine need a GPU each, but there "
            f"are {torch.cuda.device_count()}: start fewer"
        )
    device = torch.device("cuda", distributed.local_rank)
    torch.cuda.set_device(device)
    return device


def train_stage(training: Training, config: Config) -> tuple[signal.Signals | None, bool]:
    """Train a stage; returns the signal that ended it, and whether there was anything to do."""
    plan = training.settings
    if training.progress.iterations >= plan.num_iterations:
        _log.info("%s", all_is_done(training.progress.iterations, plan.num_iterations))
        return None, False
    if training.out_of_patience:
        _log.info("Nothing to do: %s", out_of_patience(training))
        return None, False
    if plan.checkpoints is not None:
        with temporary_beside(plan.checkpoints / "probe"):
            pass  # a folder that cannot be written to shall show now, not at the first checkpoint
    _announce(training)
    record = _recorder(config, len(training.progress.training_steps))
    return training.run(record), True


def _user_functions(
    config: Config, spec: NetworkSpec
) -> tuple[EventWeights | None, EvaluationHook | None]:
    """What `event_weight_class` and `evaluation_class` ask for."""
    columns = ColumnNames(spec.label_names, spec.transformation.settings.misc_names)
    event_weights = evaluation = None
    if name := config.event_weights.event_weight_class:
        function = resolve(name, "event_weight_class")
        event_weights = EventWeights(function, name, config.plugin_view(), columns)
    if name := config.training.evaluation_class:
        function = resolve(name, "evaluation_class")
        evaluation = EvaluationHook(function, name, config.plugin_view(), columns, spec.label_keys)
    return event_weights, evaluation


def open_all_data(
    config: Config, threads: int, cache_dir: str | None
) -> tuple[EventDataset, EventDataset]:
    """Training and validation events, from the event store."""
    store = event_store(config, cache_dir)
    jobs = min(config.general.num_jobs, threads)
    sets = []
    for key in ("training_data_file", "validation_data_file"):
        files = find_files(getattr(config.data_files, key), key)
        events = open_events(store, files, jobs)
        _log.info("%s: %d events in %d file(s).", key, len(events), len(files))
        sets.append(events)
    training, validation = sets
    if len(training) < config.general.batch_size:
        _log.warning(
            "There are only %d training events for a batch_size of %d: every batch holds events "
            "more than once.",
            len(training),
            config.general.batch_size,
        )
    return training, validation


def _check_columns(training: EventDataset, validation: EventDataset) -> None:
    if training.names != validation.names:
        raise DataError(
            "training_data_file and validation_data_file offer different labels or misc values: "
            f"{training.names} and {validation.names}"
        )


def _make_plan(config: Config) -> TrainerSettings:
    manager = config.model.model_checkpoint_manager_kwargs
    settings = {name: each.optimizer_settings for name, each in config.optimizers.items()}
    return TrainerSettings(
        num_iterations=config.training.num_training_iterations,
        batch_size=config.general.batch_size,
        validation_frequency=config.training.validation_frequency,
        save_frequency=config.training.save_frequency,
        seed=config.seed,
        shuffle_window=config.general.shuffle_window_files,
        checkpoints=Path(config.model.model_checkpoint_path)
        if config.model.model_save_model
        else None,
        max_to_keep=manager.max_to_keep or KEEP_ALL,
        log_path=Path(config.general.log_path),
        validation_set_frequency=config.training.validation_set_frequency
        or config.training.save_frequency,
        patience=config.training.early_stopping_patience,
        ema_decay=ema_decay(config.training.ema_decay, settings),
    )


def is_done(config: Config) -> bool:
    """Whether the iterations until the end of a stage are done."""
    checkpoint = load_latest(Path(config.model.model_checkpoint_path))
    wanted = config.training.num_training_iterations
    return checkpoint is not None and checkpoint.progress.iterations >= wanted


def _validation_set(
    config: Config, events: EventDataset, event_weights: EventWeights | None
) -> ValidationSet | None:
    num_events = config.training.validation_events
    if not num_events:
        return None
    return read_validation_set(events, num_events, config.general.batch_size, event_weights)


def _find_checkpoint(
    config: Config, restore: bool, distributed: DistributedContext
) -> Checkpoint | None:
    """The checkpoint to go on from; an old model is moved away where the config asks to begin."""
    folder = Path(config.model.model_checkpoint_path)
    if restore:
        return load_latest(folder)
    if not distributed.is_main_process:
        return None
    moved = retire(folder, Path(config.general.log_path)) if config.model.model_save_model else None
    if moved is not None:
        _log.info("model_restore_model is False: the old model was moved to '%s'.", moved)
    return None


def _make_objectives(config: Config, network: Network) -> list[Objective]:
    """The optimizers of `model_optimizer_dict`, each over its part of the network."""
    groups = network.parameter_groups()
    names = {parameter: name for name, parameter in network.named_parameters()}
    return [
        _make_objective(name, settings, groups, names)
        for name, settings in config.optimizers.items()
    ]


def _make_objective(
    name: str,
    settings: OptimizerSettings,
    groups: Mapping[str, list[torch.nn.Parameter]],
    parameter_names: Mapping[torch.nn.Parameter, str],
) -> Objective:
    unknown = [group for group in settings.vars if group not in groups]
    if unknown:
        raise ConfigError(
            f"model_optimizer_dict.{name}.vars names {unknown}, but the network has the groups "
            f"{sorted(groups)}"
        )
    key = f"model_optimizer_dict.{name}"
    parameters = {
        parameter_names[parameter]: parameter for g in settings.vars for parameter in groups[g]
    }
    choice = choose_optimizer(key, settings.optimizer, settings.optimizer_settings)
    values = list(parameters.values())
    return Objective(
        name=name,
        optimizer=make_optimizer(key, choice, values),
        parameters=parameters,
        losses=tuple(resolve(loss, f"{key}.loss_class") for loss in settings.loss_class),
        l1=settings.l1_regularization,
        l2=settings.l2_regularization,
        schedule=choice.schedule,
        accumulator=GradientAccumulator(parameters, settings.accumulate_steps),
        gradient_filter=NonFiniteGradientFilter(values[0].device)
        if settings.remove_nan_gradients
        else None,
        clipping=choice.clipping.at_most(settings.clip_gradients_value),
        weight_decay=choice.weight_decay,
    )


def _check_losses(config: Config, objectives: Sequence[Objective], spec: NetworkSpec) -> None:
    """Check that each loss finds the labels that it looks for, and that these are trained."""
    trained = {name for name in spec.label_names if label_weight(config, name) > 0}
    for objective in objectives:
        classes = config.optimizers[objective.name].loss_class
        for loss, name in zip(objective.losses, classes, strict=True):
            message_name = f"model_optimizer_dict.{objective.name}.loss_class '{name}'"
            check_special_labels(loss, message_name, spec.label_keys, spec.label_names, trained)


def _recorder(config: Config, training_step: int) -> Callable[[Progress], None]:
    """What to do after each checkpoint: bring the records of the run up to date."""
    folder = Path(config.model.model_checkpoint_path).parent
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    title = f"Configuration of training step {training_step} (begun {started}), with defaults."
    text = record_text(title, config.to_yaml())

    def record(progress: Progress) -> None:
        write_config_record(folder, training_step, text)
        write_training_steps(folder, progress.training_steps)

    return record


def num_weights(training: Training) -> int:
    """Number of weights that are trained."""
    parameters = {id(p): p.numel() for o in training.objectives for p in o.parameters.values()}
    return sum(parameters.values())


def _announce(training: Training) -> None:
    count = training.distributed.world_size
    _log.info(
        "Network: %s trainable weights, on %s%s.",
        f"{num_weights(training):,}",
        device_name(training.device),
        "" if count == 1 else f", in {count} processes",
    )
    if training.came_from is not None:
        _log.info(
            "Going on from '%s' (training step %d).",
            training.came_from,
            len(training.progress.training_steps),
        )


def farewell(
    training: Training, received: signal.Signals | None, checkpoint_exit_code: int | None
) -> int:
    """Say how things stand; returns the exit code."""
    done = training.progress.iterations
    folder = training.settings.checkpoints
    saved = f"saved in '{folder}'" if folder else "nothing is saved (model_save_model is False)"
    if done == 0:
        saved = "so there is nothing to save yet"
    if hits_truncated := share_of_hits_truncated(training.network):
        _log.info(
            "%.2g %% of the hits were not read: of bright events only those of the highest charge "
            "are, as many as max_tokens in model_kwargs says. More cost time.",
            100 * hits_truncated,
        )
    if training.out_of_patience:
        _log.info("Stopping early: %s", out_of_patience(training))
    if received is None:
        _log.info("Training is done: %d iterations, %s.", done, saved)
        return 0
    _log.info("Stopped after %d iterations, %s. The same command goes on from there.", done, saved)
    if received is signal.SIGINT:
        return 0
    return 128 + signal.SIGTERM if checkpoint_exit_code is None else checkpoint_exit_code


def all_is_done(done: int, wanted: int) -> str:
    """What to say of a training that has all its iterations."""
    return f"Nothing to do: {done} iterations are done, num_training_iterations is {wanted}."


def out_of_patience(training: Training) -> str:
    """Why training ends before the planned number of iterations."""
    best = training.progress.best
    assert best is not None
    return (
        f"the last {best.evaluations_since} evaluations of the validation set brought no better "
        f"loss than the one after {best.iterations} iterations (early_stopping_patience)."
    )
