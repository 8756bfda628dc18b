"""The model that a new training begins with (`model_initial_weights`): weights and transformation.

A network predicts labels in the transformed space of its own transformation model. A training that
begins with its weights must therefore transform inputs and labels as it does: `dnn-reco trafo`
takes these moments over instead of fitting them. Misc data keep moments of their own, unless they
are the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dnn_reco.config import Config
from dnn_reco.data.data_settings import MAY_DIFFER, DataSettings, check_data_settings
from dnn_reco.data.from_config import with_relative_times
from dnn_reco.data.overlap import files_if_any, files_recorded, refuse_overlap
from dnn_reco.errors import ModelError
from dnn_reco.event_sources import data_settings_of
from dnn_reco.inference.manifest import (
    CONFIG_FILE,
    TRANSFORMATION_FILE,
    WEIGHTS_FILE,
    check_files,
    read_manifest,
)
from dnn_reco.inference.model_folder import member_config
from dnn_reco.nn.interface import Network
from dnn_reco.nn.own_network import needs_misc
from dnn_reco.nn.weights import load_weights
from dnn_reco.pretrained_models import model_folder
from dnn_reco.transform import (
    TransformationModel,
    TransformSettings,
    load_transformation,
    settings_differences,
)

_log = logging.getLogger(__name__)

_KEY = "model_initial_weights"
_MOMENTS = ("dom_mean", "dom_std", "label_mean", "label_std")
_MISC_SETTINGS = ("misc_names", "log_misc_bins", "normalize_misc_data", "relative_time_misc")
# Arguments of a network that may differ without any effect on what its weights mean.
_FREE_KWARGS = {"random_seed", "dtype", "is_training"}
_TO_RESUME = f"A training that has begun resumes without {_KEY}"


@dataclass(frozen=True)
class InitialModel:
    """The model that a training begins with.

    Attributes
    ----------
    name
        As the config names it.
    folder
        Its model folder.
    weights
        State of its network, by parameter name: the moving average, where it had one.
    transformation, config
        What belongs to it.
    digest
        SHA-256 of its file of weights.
    data_settings
        How the features that it was trained with were made; None: not recorded.
    """

    name: str
    folder: Path
    weights: Mapping[str, Tensor]
    transformation: TransformationModel
    config: Config
    digest: str
    data_settings: DataSettings | None


def initial_model(config: Config) -> InitialModel | None:
    """The model that a config begins with; None: it begins with random weights.

    Raises
    ------
    ModelError
        If it is no model folder, an ensemble, or damaged.
    """
    name = config.model.model_initial_weights
    if not name:
        return None
    try:
        folder = model_folder(name)
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        member, *others = manifest.members
        weights = {} if others else load_file(folder / member / WEIGHTS_FILE)
    except (ModelError, SafetensorError) as error:
        raise ModelError(f"{_KEY}: {error}. {_TO_RESUME}") from error
    if others:
        raise ModelError(
            f"{_KEY}: '{name}' is an ensemble of {len(manifest.members)} networks, and a training "
            "begins with one: export one of them alone"
        )
    config = member_config(folder / member, folder)
    transformation = load_transformation(folder / member / TRANSFORMATION_FILE)
    return InitialModel(
        name,
        folder,
        weights,
        with_relative_times(transformation, config),
        config,
        manifest.files[(PurePosixPath(member) / WEIGHTS_FILE).as_posix()],
        None if manifest.model is None else manifest.model.data_settings,
    )


def give_initial_weights(
    network: Network, initial: InitialModel, config: Config, transformation: TransformationModel
) -> None:
    """Give a new network the weights that its training begins with.

    Parameters
    ----------
    network
        The network.
    initial
        Where the weights come from.
    config
        The config of the training; a warning names arguments of the network that differ.
    transformation
        The transformation model of the training.

    Raises
    ------
    ModelError
        If labels, transformation or network are not those of the initial model.
    """
    check_labels_and_inputs(initial, transformation.settings)
    _check_moments(initial, config, transformation, needs_misc(network))
    try:
        load_weights(network, initial.weights)
    except ModelError as error:
        raise ModelError(
            f"{_KEY}: the weights of '{initial.name}' are those of another network: {error}. Take "
            f"model_class and model_kwargs from '{initial.folder / CONFIG_FILE}'"
        ) from error
    differing = _differing_arguments(initial.config, config)
    if differing:
        _log.warning(
            "%s: %s: other than in '%s'. The weights fit, but they were trained with those.",
            _KEY,
            ", ".join(differing),
            initial.folder / CONFIG_FILE,
        )


def check_start(config: Config, wanted: TransformSettings) -> None:
    """Check that a training can begin with `model_initial_weights`, without building its network.

    Parameters
    ----------
    config
        Its config.
    wanted
        The settings of its transformation model, which need not exist yet.

    Raises
    ------
    ModelError
        If there is no such model, or labels or transformation are not those of that model.
    """
    initial, path = initial_model(config), config.values().get("trafo_model_path")
    if initial is None:
        return
    check_labels_and_inputs(initial, wanted)
    if path is not None and Path(path).exists():
        _check_moments(initial, config, load_transformation(Path(path)), with_misc=False)


def _differing_arguments(first: Config, second: Config) -> list[str]:
    """The keys of the network in which two configs differ."""
    kwargs = [first.model.model_kwargs, second.model.model_kwargs]
    names = sorted((kwargs[0].keys() | kwargs[1].keys()) - _FREE_KWARGS)
    found = [f"model_kwargs.{name}" for name in names if kwargs[0].get(name) != kwargs[1].get(name)]
    return ["model_class"] * (first.model.model_class != second.model.model_class) + found


def check_labels_and_inputs(initial: InitialModel, wanted: TransformSettings) -> None:
    """Check that labels and inputs of a training are those of the initial model.

    Raises
    ------
    ModelError
        Naming the labels, or the settings of the transformation, that differ.
    """
    own, there = wanted.label_names, initial.transformation.settings.label_names
    config_file = initial.folder / CONFIG_FILE
    if own != there:
        here_only = [name for name in own if name not in there]
        there_only = [name for name in there if name not in own]
        order = "" if here_only or there_only else " (the order differs)"
        raise ModelError(
            f"{_KEY}: the labels of this training are not those of '{initial.name}': it has "
            f"{here_only or 'none'} more and lacks {there_only or 'none'}{order}. Take the keys of "
            f"the labels from '{config_file}'; label_keys_to_load: [{', '.join(there)}] chooses "
            "among the columns of your files"
        )
    same_misc = {name: getattr(wanted, name) for name in _MISC_SETTINGS}
    settings = replace(initial.transformation.settings, **same_misc)
    differences = settings_differences(replace(initial.transformation, settings=settings), wanted)
    if differences:
        listed = "\n".join(differences)
        raise ModelError(
            f"{_KEY}: inputs or labels of '{initial.name}' are transformed differently:\n{listed}\n"
            "Take data_handler_num_bins and the keys data_handler_relative_time_… and trafo_… from "
            f"'{config_file}'"
        )


def with_moments_of(initial: InitialModel, fitted: TransformationModel) -> TransformationModel:
    """A transformation model with the inputs and labels of the initial model, and its own misc."""
    return replace(fitted, **{name: getattr(initial.transformation, name) for name in _MOMENTS})


def _check_moments(
    initial: InitialModel, config: Config, transformation: TransformationModel, with_misc: bool
) -> None:
    path = config.trafo.trafo_model_path
    if with_misc and transformation.digest != initial.transformation.digest:
        raise ModelError(
            f"{_KEY}: the network reads misc data, and '{path}' (trafo_model_path) is not the "
            f"transformation model of '{initial.name}'. Take the keys of misc data from "
            f"'{initial.folder / CONFIG_FILE}', then run dnn-reco trafo --overwrite. {_TO_RESUME}"
        )
    other = initial.transformation
    if not all(
        np.array_equal(getattr(transformation, name), getattr(other, name)) for name in _MOMENTS
    ):
        raise ModelError(
            f"{_KEY}: '{path}' (trafo_model_path) does not transform inputs and labels as "
            f"'{initial.name}' does: dnn-reco trafo --overwrite takes its transformation over. "
            f"{_TO_RESUME}"
        )


def check_data_of_initial(stages: Sequence[Config], allow_overlap: bool) -> None:
    """Check that data suit the initial model: it has not seen those that are held out.

    The features of the files to train on must be made as those of its training, as far as both are
    recorded; other pulses or exclusions are a warning.

    Parameters
    ----------
    stages
        The config of each stage of a training.
    allow_overlap
        Whether files may be both trained on and held out.

    Raises
    ------
    DataError
        Naming held-out files that it has seen, or other data settings.
    """
    initial = initial_model(stages[-1])
    if initial is None:
        return
    seen = files_recorded(initial.folder, initial.config)
    for key in ("validation_data_file", "test_data_file"):
        what = f"{key}, with the initial weights of '{initial.name}'"
        refuse_overlap(seen, files_if_any(stages[-1], key), allow_overlap, what)
    for config in stages:
        for path in files_if_any(config, "training_data_file")[:1]:
            _check_data_settings(initial, path, config)


def _check_data_settings(initial: InitialModel, path: Path, config: Config) -> None:
    found = data_settings_of(path, config)
    if found is None or initial.data_settings is None:
        return
    differences = check_data_settings(
        initial.data_settings, found, str(path), MAY_DIFFER, can_ignore=False
    )
    for text in differences:
        _log.warning("%s: %s.", _KEY, text)
