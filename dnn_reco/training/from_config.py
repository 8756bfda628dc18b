"""From a config to a trainer, ready for its first iteration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import torch

from dnn_reco.amounts import counted
from dnn_reco.checkpoint_file import KEEP_ALL
from dnn_reco.config import Config, resolve
from dnn_reco.data.build import open_events
from dnn_reco.data.data_settings import check_same_settings
from dnn_reco.data.device_cache import DeviceEvents, size_in_memory
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.from_config import (
    file_sampling,
    label_weight,
    label_weights,
    transform_settings,
    unknown_fill_values,
)
from dnn_reco.data.records import ColumnNames
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.event_sources import check_data_format, event_store
from dnn_reco.files import find_files
from dnn_reco.modules.loss.special_labels import check_special_labels, special_labels
from dnn_reco.nn.device import choose_device, device_name
from dnn_reco.nn.from_config import float_type, make_network, network_spec
from dnn_reco.nn.fused_layers import numba_available
from dnn_reco.nn.interface import Network, NetworkSpec, density_layout
from dnn_reco.nn.memory import keep_freed_memory
from dnn_reco.nn.own_network import needs_misc
from dnn_reco.nn.predictor import GridNetwork, Predictor, allow_tf32, predictor
from dnn_reco.nn.threads import computes_in_pieces, use_threads
from dnn_reco.run_options import PrintFormat, RunOptions
from dnn_reco.training.data import TrainingData
from dnn_reco.training.distributed import DistributedContext
from dnn_reco.training.evaluation_hook import EvaluationHook
from dnn_reco.training.event_weights import EventWeights
from dnn_reco.training.forward import ForwardPass
from dnn_reco.training.initial_weights import give_initial_weights, initial_model
from dnn_reco.training.label_weights import LabelWeights
from dnn_reco.training.objectives import Objective
from dnn_reco.training.objectives_from_config import make_objectives
from dnn_reco.training.optimizers import ema_decay
from dnn_reco.training.selection_from_config import make_selection, selection_criteria
from dnn_reco.training.settings import TrainerSettings
from dnn_reco.training.trainer import Trainer
from dnn_reco.training.validation_set import ValidationSet, read_validation_set
from dnn_reco.transform import check_settings, load_transformation

_log = logging.getLogger(__name__)

_SHARE_OF_FREE_MEMORY = 1 / 4

# From a config and the run options: training and validation events.
OpenData: TypeAlias = Callable[[Config, RunOptions], tuple[EventDataset, EventDataset]]


def open_training_data(config: Config, options: RunOptions) -> tuple[EventDataset, EventDataset]:
    """Training and validation events, from the event store, of files that were made alike.

    Raises
    ------
    DataError
        If there are none, a file cannot be read, or files were made with different settings.
    """
    training, validation = (
        _open_list(config, options, key) for key in ("training_data_file", "validation_data_file")
    )
    files = [*training.recorded_settings, *validation.recorded_settings]
    for text in check_same_settings(files):
        _log.warning("%s.", text)
    if len(training) < config.general.batch_size:
        _log.warning(
            "There are only %d training events for a batch_size of %d: every batch contains "
            "repeated events.",
            len(training),
            config.general.batch_size,
        )
    return training, validation


def _open_list(config: Config, options: RunOptions, key: str) -> EventDataset:
    """The events of a list of files, from the event store, which is built as far as it lacks them.

    Parameters
    ----------
    config
        What decides about the events.
    options
        Threads and event store.
    key
        Config key of the list.

    Raises
    ------
    ConfigError
        If the features have another format than that of the config.
    DataError
        If there is no such file, or one cannot be read.
    """
    store = event_store(config, options.cache_dir)
    jobs = min(config.general.num_jobs, options.threads)
    files = find_files(getattr(config.data_files, key), key)
    check_data_format(config, files[0])
    events = open_events(store, files, jobs, sampling=file_sampling(config, key))
    _log.info("%s: %s in %s.", key, counted(len(events), "event"), counted(len(files), "file"))
    return events


def trainer_settings(config: Config, print_format: PrintFormat) -> TrainerSettings:
    """How long to train, and how often to validate and save."""
    manager = config.model.model_checkpoint_manager_kwargs
    settings = {name: each.optimizer_settings for name, each in config.optimizers.items()}
    checkpoints = Path(config.model.model_checkpoint_path)
    return TrainerSettings(
        num_iterations=config.training.num_training_iterations,
        batch_size=config.general.batch_size,
        validation_frequency=config.training.validation_frequency,
        save_frequency=config.training.save_frequency,
        seed=config.seed,
        shuffle_window=config.general.shuffle_window_files,
        checkpoints=checkpoints if config.model.model_save_model else None,
        max_to_keep=manager.max_to_keep or KEEP_ALL,
        log_path=Path(config.general.log_path),
        validation_set_frequency=config.training.validation_set_frequency
        or config.training.save_frequency,
        patience=config.training.early_stopping_patience,
        ema_decay=ema_decay(config.training.ema_decay, settings),
        log_untrained_labels=config.training.log_untrained_labels,
        print_format=print_format,
    )


def make_trainer(
    config: Config,
    options: RunOptions,
    distributed: DistributedContext = DistributedContext(),  # noqa: B008 - frozen
    open_data: OpenData = open_training_data,
    trial_folder: Path | None = None,
) -> Trainer:
    """The trainer of a config, as it is before the first iteration.

    Mistakes in the config are found first, before anything that may take long.

    Parameters
    ----------
    config
        What to train.
    options
        Device, threads and event store.
    distributed
        The processes that train together.
    open_data
        Gives the training and the validation events of a config.
    trial_folder
        Where a trial writes checkpoints and logs; None: a real training, to the config's folders.

    Raises
    ------
    ConfigError, DataError, ModelError
        If something does not fit together.
    """
    _refuse_inference_mode(config)
    device = _local_device(options.device, distributed)
    trafo_path = Path(config.trafo.trafo_model_path)
    transformation = load_transformation(trafo_path)
    spec = network_spec(config, transformation)
    network = make_network(config, spec, device)
    initial = initial_model(config)
    if initial is not None:
        give_initial_weights(network, initial, config, transformation)
    use_threads(options.threads, _in_pieces(config, network))
    if device.type == "cpu" and isinstance(network, GridNetwork) and not numba_available():
        _log.warning(
            "Numba is not installed: convolutions are computed by PyTorch alone, which takes about "
            "twice as long on CPUs. Remedy: pip install numba"
        )
    keep_freed_memory(isinstance(network, GridNetwork))
    objectives = make_objectives(config, network)
    _check_losses(config, objectives, spec)
    _check_shapes(network, objectives)
    criteria = selection_criteria(config, spec)
    event_weights, hook = _event_weights(config, spec), _evaluation_hook(config, spec)
    settings = trainer_settings(config, options.print_format)
    _check_batch_size(settings.batch_size, distributed)
    training, validation = open_data(config, options)
    _check_columns(training, validation)
    for text in unknown_fill_values(config, training.names.labels):
        _log.warning("%s", text)
    check_settings(transformation, transform_settings(config, training.names), trafo_path)
    forward = ForwardPass(
        network,
        spec,
        objectives,
        make_label_weights(config, spec, device),
        training_predictor(config, network, device),
    )
    selection = make_selection(config, criteria, network, forward.label_transform, spec, training)
    data = TrainingData(
        training,
        validation,
        event_weights,
        _validation_set(config, validation, event_weights),
        selection,
        _device_events(config, training, device),
    )
    if initial is not None:
        settings = replace(settings, initial_weights=initial.digest)
    if trial_folder is not None:
        settings = settings.for_trial(trial_folder)
    return Trainer(forward, data, settings, hook, distributed)


def _refuse_inference_mode(config: Config) -> None:
    if config.model.model_kwargs.get("is_training") is False:
        raise ConfigError(
            "model_kwargs.is_training (model_is_training) is False, which describes a network "
            "that is only applied: to train, remove it or set it to True"
        )


def _local_device(name: str, distributed: DistributedContext) -> torch.device:
    """The device that a user asks for; several processes on a machine take a GPU each."""
    device = choose_device(name)
    if device.type != "cuda" or distributed.world_size == 1:
        return device
    if name not in ("auto", "cuda"):
        raise ConfigError(
            f"--device {name} names one GPU for {distributed.world_size} processes: give cuda, "
            "with which each gets one of its own (CUDA_VISIBLE_DEVICES chooses which)"
        )
    if distributed.local_world_size > torch.cuda.device_count():
        raise ConfigError(
            f"{distributed.local_world_size} processes on this machine need a GPU each, but there "
            f"are {torch.cuda.device_count()}: start fewer processes"
        )
    device = torch.device("cuda", distributed.local_rank)
    torch.cuda.set_device(device)
    return device


def _check_batch_size(batch_size: int, distributed: DistributedContext) -> None:
    if batch_size < distributed.world_size:
        raise ConfigError(
            f"a batch_size of {batch_size} cannot be divided among {distributed.world_size} "
            "processes: increase it, or start fewer processes"
        )


def _check_columns(training: EventDataset, validation: EventDataset) -> None:
    if training.names != validation.names:
        raise DataError(
            "training_data_file and validation_data_file have different labels or misc values: "
            f"{training.names} and {validation.names}"
        )


def check_objectives(config: Config) -> None:
    """Check that the network and the optimizers of a later stage can be made.

    Raises
    ------
    ConfigError, ModelError
        If something does not fit together.
    """
    spec = network_spec(config, load_transformation(Path(config.trafo.trafo_model_path)))
    network = make_network(config, spec, torch.device("cpu"))
    _check_losses(config, make_objectives(config, network), spec)


def _check_losses(config: Config, objectives: Sequence[Objective], spec: NetworkSpec) -> None:
    """Check that each loss finds the labels that it looks for, and that these are trained."""
    trained = {name for name in spec.label_names if label_weight(config, name) > 0}
    for objective in objectives:
        classes = config.optimizers[objective.name].loss_class
        for loss, name in zip(objective.losses, classes, strict=True):
            message_name = f"model_optimizer_dict.{objective.name}.loss_class '{name}'"
            check_special_labels(loss, message_name, spec.label_keys, spec.label_names, trained)


def _check_shapes(network: Network, objectives: Sequence[Objective]) -> None:
    """Check that a loss trains the shapes of densities, if the network predicts any."""
    losses = [loss for objective in objectives for loss in objective.losses]
    layout = density_layout(network)
    if layout and not any(special_labels(loss).shapes for loss in losses):
        raise ConfigError(
            f"model_kwargs.heads: no loss trains the densities of "
            f"{', '.join(shape.label for shape in layout)}: use the loss_class "
            "dnn_reco.modules.loss.density_loss.negative_log_likelihood, or leave out these heads"
        )


def make_label_weights(config: Config, spec: NetworkSpec, device: torch.device) -> LabelWeights:
    """Weights of the labels in the loss."""
    weights = label_weights(config, spec.label_names)
    return LabelWeights(
        torch.tensor(weights, dtype=float_type(config), device=device),
        config.labels.label_update_weights,
        config.labels.label_scale_tukey,
    )


def _in_pieces(config: Config, network: Network) -> bool:
    """Whether a batch is divided among threads, not each operation."""
    training = config.training
    changed = training.precision == "bf16" or training.compile is True
    return computes_in_pieces(network) and not changed


def training_predictor(config: Config, network: Network, device: torch.device) -> Predictor:
    """The network with the `precision` and `compile` of the config.

    Raises
    ------
    ConfigError
        If that is not possible.
    """
    precision, wanted = config.training.precision, config.training.compile
    in_bfloat16 = precision == "bf16"
    if in_bfloat16 and config.general.float_precision == "float64":
        raise ConfigError(
            "precision 'bf16' contradicts float_precision 'float64': remove one of them"
        )
    allow_tf32(precision == "tf32")
    reasons = []
    if not isinstance(network, GridNetwork):
        reasons.append(f"{type(network).__name__} does not use a grid of hits")
    if needs_misc(network):
        reasons.append(f"{type(network).__name__} reads misc data")
    if len(config.optimizers) > 1:  # each differentiates through the network, which frees the graph
        reasons.append("there is more than one optimizer")
    if wanted is True and reasons:
        raise ConfigError(f"'compile: True' is not possible, as {' and '.join(reasons)}: remove it")
    compiled = wanted is True or (wanted == "auto" and device.type == "cuda" and not reasons)
    return predictor(network, in_bfloat16, compiled)


def _event_weights(config: Config, spec: NetworkSpec) -> EventWeights | None:
    """The function that `event_weight_class` names, if any."""
    name = config.event_weights.event_weight_class
    if not name:
        return None
    function = resolve(name, "event_weight_class")
    return EventWeights(function, name, config.plugin_view(), _columns(spec))


def _evaluation_hook(config: Config, spec: NetworkSpec) -> EvaluationHook | None:
    """The function that `evaluation_class` names, if any."""
    name = config.training.evaluation_class
    if not name:
        return None
    function = resolve(name, "evaluation_class")
    return EvaluationHook(function, name, config.plugin_view(), _columns(spec), spec.label_keys)


def _columns(spec: NetworkSpec) -> ColumnNames:
    return ColumnNames(spec.label_names, spec.transformation.settings.misc_names)


def _validation_set(
    config: Config, events: EventDataset, event_weights: EventWeights | None
) -> ValidationSet | None:
    num_events = config.training.validation_events
    if not num_events:
        return None
    return read_validation_set(events, num_events, config.general.batch_size, event_weights)


def _device_events(
    config: Config, events: EventDataset, device: torch.device
) -> DeviceEvents | None:
    """The training events in the memory of the device, where `data_on_device` asks for it."""
    wanted = config.training.data_on_device
    if wanted == "auto":
        if device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(device)
        wanted = size_in_memory(events) < _SHARE_OF_FREE_MEMORY * free
    if not wanted:
        return None
    size = size_in_memory(events) / 1e9
    _log.info("Training events: %.1f GB, in the memory of %s.", size, device_name(device))
    return DeviceEvents(events, device)
