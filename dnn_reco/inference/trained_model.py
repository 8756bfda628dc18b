"""Trained networks, ready to predict, from the checkpoints of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from dnn_reco.checkpoint_file import Checkpoint, load_named, load_newest
from dnn_reco.config import Config
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.from_config import hits_settings, label_weight, record_settings
from dnn_reco.data.records import relative_time_columns
from dnn_reco.errors import ModelError
from dnn_reco.inference.calibration import Calibration
from dnn_reco.inference.model_info import LabelInfo, ModelInfo, label_unit
from dnn_reco.nn.ensemble import Ensemble
from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.nn.interface import Network, NetworkSpec, density_layout
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.nn.own_network import needs_misc
from dnn_reco.nn.weights import load_weights
from dnn_reco.transform import load_transformation


@dataclass(frozen=True)
class TrainedModel:
    """A trained network, or an ensemble of several.

    Attributes
    ----------
    name
        Its name in tables and figures.
    config
        The config that it was trained with; of an ensemble that of the first network.
    spec
        Names and transformation of the data, and special labels.
    network
        The network with its weights, in evaluation mode, on its device.
    trained_labels
        Names of the labels with a weight in the loss; predictions of all others mean nothing.
    data_settings
        How the training data were made; None: unknown.
    calibration
        Calibration of its predictions; None: there is none.
    """

    name: str
    config: Config
    spec: NetworkSpec
    network: Network
    trained_labels: tuple[str, ...]
    data_settings: DataSettings | None = None
    calibration: Calibration | None = None

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of all L labels that it predicts, in order."""
        return self.spec.label_names

    @property
    def misc_names(self) -> tuple[str, ...]:
        """Names of the misc data that it was trained with."""
        return self.spec.transformation.settings.misc_names

    @cached_property
    def label_transform(self) -> LabelTransform:
        """Transformation of its labels, on its device."""
        return LabelTransform(self.spec.transformation).to(self.device)

    @property
    def device(self) -> torch.device:
        """The device of its weights."""
        return next(parameter.device for _, parameter in self.network.named_parameters())

    @property
    def num_weights(self) -> int:
        """Number of its trainable weights."""
        return sum(p.numel() for _, p in self.network.named_parameters() if p.requires_grad)


def trained_labels(config: Config, spec: NetworkSpec) -> tuple[str, ...]:
    """Names of the labels that a training with this config learns."""
    return tuple(name for name in spec.label_names if label_weight(config, name) > 0)


def model_info(model: TrainedModel) -> ModelInfo:
    """What a model predicts and reads, as plain values."""
    config, spec, keys = model.config, model.spec, model.spec.label_keys
    transform = spec.transformation.settings
    is_relative = relative_time_columns(spec.label_names, record_settings(config))
    labels = tuple(
        LabelInfo(
            name=name,
            unit="" if name in keys.pid else label_unit(name, keys.particle),
            has_log=has_log,
            is_trained=name in model.trained_labels,
            is_relative_time=bool(relative),
            is_class=name in keys.pid,
        )
        for name, has_log, relative in zip(
            spec.label_names, transform.log_label_bins, is_relative, strict=True
        )
    )
    return ModelInfo(
        name=model.name,
        labels=labels,
        num_features=spec.num_bins,
        init_values=tuple(float(value) for value in spec.dom_init_values),
        float_precision=config.general.float_precision,
        misc_names=model.misc_names if needs_misc(model.network) else (),
        particle=dict(keys.particle),
        zenith=keys.zenith,
        azimuth=keys.azimuth,
        direction=_direction(spec),
        input_tables=hits_settings(config).tables,
        data_settings=model.data_settings,
        densities=density_layout(model.network),
    )


def _direction(spec: NetworkSpec) -> tuple[str, str, str] | None:
    """The labels that are the direction vector; None if one of them is missing."""
    x, y, z = spec.label_keys.dir_x, spec.label_keys.dir_y, spec.label_keys.dir_z
    if x is None or y is None or z is None or not {x, y, z} <= set(spec.label_names):
        return None
    return x, y, z


def ensemble_of(name: str, models: Sequence[TrainedModel]) -> TrainedModel:
    """Several models of the same labels as the mixture of their densities.

    Its trained labels are those that all of them learnt.

    Raises
    ------
    ModelError
        If they read misc data that are transformed differently.
    """
    first = models[0]
    labels = tuple(
        label for label in first.trained_labels if all(label in m.trained_labels for m in models)
    )
    digests = {model.spec.transformation.digest for model in models}
    if len(digests) > 1 and any(needs_misc(model.network) for model in models):
        raise ModelError(
            f"'{name}': networks that read misc data can only be averaged with networks of the "
            "same transformation model: give all of them the same trafo_model_path"
        )
    network = Ensemble([model.network for model in models], first.spec, labels)
    network.to(first.device)
    return replace(first, name=name, network=network, trained_labels=labels, calibration=None)


def load_trained_model(
    config: Config, device: torch.device, num_checkpoints: int = 1, name: str | None = None
) -> TrainedModel:
    """The newest checkpoint of a training, or the ensemble of several.

    See :func:`load_checkpoint_models` for arguments and errors.
    """
    models = load_checkpoint_models(config, device, num_checkpoints, name)
    return models[0] if len(models) == 1 else ensemble_of(models[0].name, models)


def load_checkpoint_models(
    config: Config, device: torch.device, num_checkpoints: int, name: str | None = None
) -> list[TrainedModel]:
    """The newest checkpoints of a training, one model each, oldest first.

    Their weights are the moving average of those in training where the config has `ema_decay`.

    Parameters
    ----------
    config
        The config that it was trained with.
    device
        The device for the networks.
    num_checkpoints
        How many checkpoints to load.
    name
        Name of the models; None: that of the config (:attr:`Config.name`).

    Raises
    ------
    ModelError
        If there are fewer checkpoints, or one belongs to another network or transformation model.
    """
    spec = _spec(config)
    return [
        load_checkpoint_model(config, spec, checkpoint, device, name or config.name)
        for checkpoint in _newest_checkpoints(config, num_checkpoints)
    ]


def load_named_models(
    config: Config, device: torch.device, names: Sequence[str]
) -> list[tuple[Checkpoint, TrainedModel]]:
    """Checkpoints of a training by name: `latest`, `best`, or a number of iterations.

    Raises
    ------
    ModelError
        If one does not exist or belongs to another network or transformation model.
    """
    spec = _spec(config)
    folder = Path(config.model.model_checkpoint_path)
    checkpoints = [load_named(folder, name) for name in names]
    return [
        (each, load_checkpoint_model(config, spec, each, device, config.name))
        for each in checkpoints
    ]


def _spec(config: Config) -> NetworkSpec:
    return network_spec(config, load_transformation(Path(config.trafo.trafo_model_path)))


def _newest_checkpoints(config: Config, count: int) -> list[Checkpoint]:
    folder = Path(config.model.model_checkpoint_path)
    checkpoints = load_newest(folder, count)
    if not checkpoints:
        raise ModelError(f"there is no checkpoint in '{folder}': train the network first")
    if len(checkpoints) < count:
        raise ModelError(
            f"there are {len(checkpoints)} checkpoints in '{folder}', not {count}: use fewer, or "
            "keep more with max_to_keep in model_checkpoint_manager_kwargs"
        )
    return checkpoints


def load_checkpoint_model(
    config: Config, spec: NetworkSpec, checkpoint: Checkpoint, device: torch.device, name: str
) -> TrainedModel:
    """The network of a checkpoint.

    Raises
    ------
    ModelError
        If the checkpoint belongs to another network or transformation model.
    """
    if checkpoint.progress.transformation != spec.transformation.digest:
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' was trained with another transformation model "
            f"than '{config.trafo.trafo_model_path}', which has since been fitted again: restore "
            "the old file"
        )
    network = make_network(config, spec, device)
    try:
        load_weights(network, checkpoint.weights)
    except ModelError as error:
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' does not belong to the network that the config "
            f"describes: {error}"
        ) from error
    network.eval()
    return TrainedModel(name, config, spec, network, trained_labels(config, spec))
