"""Reading models that the TensorFlow version trained, without TensorFlow.

Folders that it exported and folders of checkpoints both hold what is needed: a checkpoint, the
transformation model ``trafo_model.npy``, and the config ``config_training_NNNN.yaml`` (also in the
folder above).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dnn_reco.config import Config, load_config
from dnn_reco.errors import ModelError
from dnn_reco.foreign_files import MAX_TEXT_SIZE, MAX_TRANSFORMATION_SIZE, check_foreign_file
from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.tf_import.older_generation import (
    MODEL_CLASSES,
    check_older_settings,
    check_older_variables,
    ignored_settings,
    older_iterations,
    older_variables,
)
from dnn_reco.tf_import.tensor_bundle import (
    OBJECT_GRAPH_KEY,
    TensorBundle,
    latest_checkpoint,
    open_bundle,
    variable_names,
)
from dnn_reco.tf_import.trafo_file import read_reference_transformation
from dnn_reco.tf_import.variables import (
    Shapes,
    check_variables,
    loss_variables,
    network_variables,
    our_parameters,
)
from dnn_reco.transform import TransformationModel

_MODEL_CLASS = "dnn_reco.modules.models.general_IC86_cnn.GeneralIC86CNN"
_TRAFO_FILE = "trafo_model.npy"
_TRAINING_CONFIG = re.compile(r"config_training_(\d+)\.yaml")
_RECORD = re.compile(
    r"config_training_\d+\.yaml|training_steps\.yaml|config_trafo.*\.yaml"
    r"|config_data_settings\.yaml|config_meta_data\.yaml|version_control\.yaml"
)
_MAX_LOG_SIZE = 2**30
_MAX_LOGS = 10_000
_VALUE = ".ATTRIBUTES/VARIABLE_VALUE"


@dataclass(frozen=True)
class ImportedModel:
    """A model of the TensorFlow version, converted.

    Attributes
    ----------
    checkpoint
        Where its weights come from.
    iterations
        Iterations that it was trained for.
    config
        Its config, with the settings that reproduce its predictions.
    config_files, trafo_file
        Where config and transformation model come from.
    transformation
        Its transformation model.
    weights
        State of the network, by parameter name.
    records
        Records of the training that lie beside it.
    logs
        Its TensorBoard event files.
    changes
        One line for each setting that was changed in the config.
    is_older
        Whether it is of the older generation.
    """

    checkpoint: Path
    iterations: int
    config: Config
    config_files: tuple[Path, ...]
    trafo_file: Path
    transformation: TransformationModel
    weights: Mapping[str, Tensor]
    records: tuple[Path, ...]
    logs: tuple[Path, ...]
    changes: tuple[str, ...]
    is_older: bool


def import_reference(
    folder: Path, trafo_file: Path | None = None, config_files: Sequence[Path] = ()
) -> ImportedModel:
    """Read a model of the TensorFlow version.

    Parameters
    ----------
    folder
        Exported model, or folder of checkpoints.
    trafo_file
        Its transformation model, if that lies elsewhere.
    config_files
        Its config, if that lies elsewhere.

    Raises
    ------
    ModelError
        If something is missing or damaged, or does not fit together.
    ConfigError
        If the config is wrong.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no folder '{folder}'")
    bundle = open_bundle(latest_checkpoint(folder))
    # TensorFlow 1 wrote variables by their names, and no graph of objects
    is_older = OBJECT_GRAPH_KEY not in bundle.entries
    for file in config_files:
        check_foreign_file(file, MAX_TEXT_SIZE)
    records = _records(folder)
    config_files = tuple(config_files) or (_latest_config(folder),)
    config, changes = _as_in_reference(load_config(config_files), is_older)
    beside = folder / _TRAFO_FILE
    if trafo_file is None and not beside.exists():
        raise ModelError(
            f"there is no transformation model '{beside}': give it with --trafo (in the config it "
            f"is '{config.values().get('trafo_model_path')}')"
        )
    check_foreign_file(
        trafo_file or beside, MAX_TRANSFORMATION_SIZE, folder if trafo_file is None else None
    )
    trafo_file = trafo_file or beside
    transformation = read_reference_transformation(trafo_file)
    return ImportedModel(
        checkpoint=bundle.prefix,
        iterations=older_iterations(bundle.prefix.name) if is_older else _iterations(bundle),
        config=config,
        config_files=config_files,
        trafo_file=trafo_file,
        transformation=transformation,
        weights=_weights(bundle, is_older, config, transformation),
        records=records,
        logs=tuple(log_files(folder)),
        changes=changes,
        is_older=is_older,
    )


def _iterations(bundle: TensorBundle) -> int:
    key = f"step/{_VALUE}"
    if key in bundle.entries and not bundle.entries[key].shape:
        step = bundle.read(key)
        if step.dtype.kind == "i":
            return int(step)
    raise ModelError(f"the checkpoint '{bundle.prefix}' does not contain its number of iterations")


def _latest_config(folder: Path) -> Path:
    """The config of the last training step."""
    numbered = [
        (int(match[1]), path)
        for path in _record_folder(folder).iterdir()
        if (match := _TRAINING_CONFIG.fullmatch(path.name))
    ]
    if not numbered:
        raise ModelError(
            f"there is no config_training_NNNN.yaml in '{folder}' or the folder above: give the "
            "config of the training with --config"
        )
    return max(numbered)[1]


def _records(folder: Path) -> tuple[Path, ...]:
    """Records of the training, and settings of its data."""
    records = {}
    for place in (_record_folder(folder), folder):
        for path in sorted(place.iterdir()):
            if _RECORD.fullmatch(path.name):
                _check_text(path, place)
                records[path.name] = path
    return tuple(records.values())


def _check_text(path: Path, folder: Path) -> None:
    """Check that a record of a folder is a text."""
    check_foreign_file(path, MAX_TEXT_SIZE, folder)
    try:
        is_text = "\0" not in path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        is_text = False
    if not is_text:
        raise ModelError(f"'{path}' is not text, so it is not the record of a training")


def log_files(folder: Path) -> list[Path]:
    """TensorBoard event files of an exported model, at any depth below its folder ``logs``.

    Raises
    ------
    ModelError
        If one is not a regular file of bounded size that lies in the folder, or there are too many.
    """
    logs: list[Path] = []
    for place, _, names in os.walk(folder / "logs"):  # follows no links to folders
        for name in sorted(names):
            if ".tfevents." in name:
                logs.append(Path(place, name))
                check_foreign_file(logs[-1], _MAX_LOG_SIZE, folder)
        if len(logs) > _MAX_LOGS:
            raise ModelError(
                f"there are more than {_MAX_LOGS:,} TensorBoard files in '{folder / 'logs'}': keep "
                "fewer there"
            )
    return sorted(logs)


def _record_folder(folder: Path) -> Path:
    """Where the configs of the training lie: in an exported model itself, else one above."""
    exported = any(_TRAINING_CONFIG.fullmatch(path.name) for path in folder.iterdir())
    return folder if exported else folder.absolute().parent


def _as_in_reference(config: Config, is_older: bool) -> tuple[Config, tuple[str, ...]]:
    """The config with the settings that reproduce its predictions, and a line on each."""
    _check_model_class(config.model.model_class, is_older)
    kwargs = deepcopy(config.model.model_kwargs)
    lines = []
    if is_older:
        check_older_settings(kwargs)
        for key in ignored_settings(config.model.model_class, kwargs):
            del kwargs[key]
            lines.append(
                f"model_kwargs.{key}: removed, the TensorFlow version does not read it here"
            )
    else:
        kwargs["legacy_direction_norm"] = True
        lines.append(
            "model_kwargs.legacy_direction_norm: direction vectors longer than 1 keep their "
            "length, as in the TensorFlow version"
        )
    block = kwargs.get("conv_ic78_settings")
    if isinstance(block, dict) and _has_rotations(block):
        block["legacy_rotation"] = True
        lines.append(
            "model_kwargs.conv_ic78_settings.legacy_rotation: rotated kernels [2, 0] use five of "
            "their six ring weights, as in the TensorFlow version"
        )
    model = config.model.model_copy(update={"model_kwargs": kwargs})
    return replace(config, model=model), tuple(lines)


def _check_model_class(model_class: str, is_older: bool) -> None:
    """Check that the network of the config is of the checkpoint's generation."""
    generation, networks = ("older", MODEL_CLASSES) if is_older else ("newer", (_MODEL_CLASS,))
    if model_class not in networks:
        listed = " and ".join(f"'{name}'" for name in networks)
        raise ModelError(
            f"the model_class is '{model_class}', but the checkpoint is of the {generation} "
            f"generation, of which only networks of {listed} can be imported"
        )


def _has_rotations(block: Mapping[str, Any]) -> bool:
    rotations = block.get("hex_num_rotations_list")
    counts = rotations if isinstance(rotations, list | tuple) else [rotations]
    return any(isinstance(count, int) and count > 1 for count in counts)


def _weights(
    bundle: TensorBundle, is_older: bool, config: Config, transformation: TransformationModel
) -> dict[str, Tensor]:
    """The weights of the checkpoint, as those of the network that the config describes."""
    network = make_network(config, network_spec(config, transformation), torch.device("cpu"))
    state = network.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    names = {} if is_older else variable_names(bundle.read_string(OBJECT_GRAPH_KEY))
    try:
        if is_older:
            places = _older_places(bundle, shapes)
        else:
            num_labels = len(transformation.settings.label_names)
            places = _newer_places(bundle, names, config, num_labels, shapes)
    except ModelError as error:
        raise ModelError(
            f"the checkpoint '{bundle.prefix}' does not fit the network of the config: {error}"
        ) from error
    weights = our_parameters({key: bundle.read(place) for key, place in places.items()})
    for name, tensor in weights.items():
        if tensor.dtype != state[name].dtype:
            raise ModelError(
                f"the weights '{name}' of the checkpoint are {tensor.dtype}, but the config asks "
                f"for {state[name].dtype} (float_precision, model_kwargs.dtype)"
            )
    return weights


def _older_places(bundle: TensorBundle, shapes: Shapes) -> dict[str, str]:
    """Where the checkpoint holds each variable of the network."""
    variables = older_variables(shapes)
    check_older_variables({key: entry.shape for key, entry in bundle.entries.items()}, variables)
    return {variable.key: variable.name for variable in variables}


def _newer_places(
    bundle: TensorBundle,
    names: Mapping[str, str],
    config: Config,
    num_labels: int,
    shapes: Shapes,
) -> dict[str, str]:
    """Where the checkpoint holds each variable of the network."""
    of_loss = loss_variables(
        num_labels, config.labels.label_update_weights, config.labels.label_scale_tukey
    )
    variables = [*of_loss, *network_variables(shapes)]
    check_variables(_found_variables(bundle, names), variables)
    return {
        variable.key: _position_key(position)
        for position, variable in enumerate(variables)
        if position >= len(of_loss)
    }


def _position_key(position: int) -> str:
    return f"model/{position}/{_VALUE}"


def _found_variables(
    bundle: TensorBundle, names: Mapping[str, str]
) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of each variable of the network and its loss, by position."""
    found: list[tuple[str, tuple[int, ...]]] = []
    while (key := _position_key(len(found))) in bundle.entries:
        found.append((names.get(key, ""), bundle.entries[key].shape))
    return found
