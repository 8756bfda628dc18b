"""What goes into an exported model folder: networks, records, logs, and golden answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dnn_reco.checkpoint_file import Checkpoint
from dnn_reco.config import Config
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.data_settings_file import load_data_settings
from dnn_reco.data.from_config import hits_settings, record_settings
from dnn_reco.data.label_definitions import differing_labels
from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.inference.manifest import TrainingSummary
from dnn_reco.inference.model_folder import FolderContents, Member, member_folders, model_of
from dnn_reco.inference.trained_model import TrainedModel, load_named_models, model_info

LOG_FOLDERS = ("train", "val")
DATA_SETTINGS_FILE = "config_data_settings.yaml"

_TRAINING_RECORD = re.compile(r"training_steps\.yaml|config_training_\d{4,}\.yaml")
_LOG_FILE = re.compile(r"events\.out\.tfevents\..*|metrics\.jsonl")


@dataclass(frozen=True)
class ExportedNetwork:
    """A network of a training, to be exported.

    Attributes
    ----------
    config
        The config of the (stage of the) training.
    checkpoint
        Where its weights come from.
    model
        The loaded network.
    """

    config: Config
    checkpoint: Checkpoint
    model: TrainedModel


def load_networks(config: Config, names: Sequence[str]) -> list[ExportedNetwork]:
    """Networks of a training, by the names of their checkpoints.

    Raises
    ------
    ModelError
        If one does not exist or belongs to another network or transformation model.
    """
    models = load_named_models(config, torch.device("cpu"), names)
    return [ExportedNetwork(config, checkpoint, model) for checkpoint, model in models]


def load_training_settings(path: Path, config: Config) -> DataSettings:
    """How the training data of a network were made, from a file.

    Raises
    ------
    ConfigError
        If the file holds no settings, or those of data with another number of features.
    """
    inputs = hits_settings(config)
    settings = load_data_settings(path, inputs.tables)
    if settings.num_bins != inputs.num_bins:
        raise ConfigError(
            f"'{path}' makes {settings.num_bins} features of a DOM (num_bins), but the network "
            f"reads {inputs.num_bins} (data_handler_num_bins): give the settings that its training "
            "data were made with, by -s/--data-settings FILE"
        )
    return settings


def exported_model(
    name: str, networks: Sequence[ExportedNetwork], data_settings: DataSettings
) -> TrainedModel:
    """The model of one network, or the ensemble of several.

    Raises
    ------
    ModelError
        If they read other inputs, or predict other labels.
    """
    first = networks[0]
    for each in networks[1:]:
        _check_same("labels", each, each.model.label_names, first, first.model.label_names)
        classes = [sorted(network.model.spec.label_keys.pid) for network in (each, first)]
        _check_same("classes", each, classes[0], first, classes[1])
        _check_same_values(first, each)
        inputs = [hits_settings(network.config) for network in (each, first)]
        _check_same("inputs", each, inputs[0], first, inputs[1])
    model = model_of(name, [each.model for each in networks])
    return replace(model, data_settings=data_settings)


def _check_same(
    what: str, one: ExportedNetwork, found: object, other: ExportedNetwork, expected: object
) -> None:
    if found != expected:
        raise ModelError(
            f"the {what} of '{one.checkpoint.path}' differ from those of '{other.checkpoint.path}':"
            f" the networks of an ensemble must share their {what}. One has {found}, the other "
            f"{expected}"
        )


def _check_same_values(one: ExportedNetwork, other: ExportedNetwork) -> None:
    """Check that the labels have the same values in both trainings, of which a mixture is made."""
    names = one.model.label_names
    settings = [record_settings(each.config) for each in (one, other)]
    if differences := differing_labels(names, settings[0], names, settings[1]):
        raise ModelError(
            f"the networks of an ensemble must share the values of their labels, but those of "
            f"'{one.checkpoint.path}' and '{other.checkpoint.path}' differ: {differences}. Train "
            "both with the same data_handler_relative_time_* keys and label_pid_smooth_labels"
        )


def folder_contents(
    model: TrainedModel,
    networks: Sequence[ExportedNetwork],
    files: Mapping[str, bytes | Path],
    onnx: Mapping[str, float],
) -> FolderContents:
    """Contents of the folder of an exported model.

    Parameters
    ----------
    model, networks
        The model, and its networks.
    files
        Records, logs and whatever else goes into it, by path in the folder.
    onnx
        Deviation of each ONNX graph from PyTorch.
    """
    members = [
        Member(each.checkpoint.weights, each.model.spec.transformation, each.config)
        for each in networks
    ]
    summary = training_summary(networks)
    iterations = ", ".join(str(n) for n in summary.iterations)
    origin = f"exported from a training, after {iterations} iterations"
    return FolderContents(members, model_info(model), origin, summary, files, onnx)


def training_summary(networks: Sequence[ExportedNetwork]) -> TrainingSummary:
    """How the networks of a model were trained."""
    progress = [each.checkpoint.progress for each in networks]
    losses = [each.best.loss for each in progress if each.best and each.best.loss is not None]
    return TrainingSummary(
        checkpoints=tuple(_checkpoint_name(each.checkpoint.path) for each in networks),
        iterations=tuple(each.iterations for each in progress),
        batch_size=networks[0].config.general.batch_size,
        training_steps=progress[0].training_steps,
        seed=progress[0].seed,
        uses_moving_average=bool(networks[0].checkpoint.section("ema")),
        best_loss=min(losses, default=None),
        num_weights=sum(each.model.num_weights for each in networks),
        initial_weights=progress[0].initial_weights,
    )


def _checkpoint_name(path: Path) -> str:
    """Such as `checkpoint-00000500` or `best/checkpoint-00000500`."""
    return f"{path.parent.name}/{path.name}" if path.parent.name == "best" else path.name


def record_files(networks: Sequence[ExportedNetwork], with_logs: bool) -> dict[str, Path]:
    """Records and logs of the trainings, by path in the model folder.

    Those of one training lie in the folder itself, those of several in the folders of their
    networks.
    """
    one_training = len({each.config.model.model_checkpoint_path for each in networks}) == 1
    files: dict[str, Path] = {}
    for folder, each in zip(member_folders(len(networks)), networks, strict=True):
        place = "" if one_training else f"{folder}/"
        found = _records(each.config) | (_logs(each.config) if with_logs else {})
        files |= {f"{place}{name}": path for name, path in found.items()}
        if one_training:
            break
    return files


def _records(config: Config) -> dict[str, Path]:
    """Records of the training and of its transformation model."""
    folder = Path(config.model.model_checkpoint_path).parent
    paths = sorted(folder.glob("*.yaml")) if folder.is_dir() else []
    records = {path.name: path for path in paths if _TRAINING_RECORD.fullmatch(path.name)}
    trafo = Path(config.trafo.trafo_model_path)
    record = trafo.with_name(f"config_trafo__{trafo.stem}.yaml")
    return records | ({"config_trafo.yaml": record} if record.is_file() else {})


def _logs(config: Config) -> dict[str, Path]:
    """Logs of this training alone: others may lie beside them."""
    log_path = Path(config.general.log_path)
    paths = [
        path
        for folder in (log_path, *(log_path / name for name in LOG_FOLDERS))
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.is_file() and _LOG_FILE.fullmatch(path.name)
    ]
    return {f"logs/{path.relative_to(log_path).as_posix()}": path for path in paths}
