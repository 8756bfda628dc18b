"""The network that a config describes, new or trained."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten

import torch

from dnn_reco.commands.settings import init_values_array
from dnn_reco.config import Config, resolve
from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.nn.interface import LabelKeys, Network, NetworkSpec
from dnn_reco.training.checkpoint import load_latest
from dnn_reco.transform import TransformationModel, load_transformation


def choose_device(name: str) -> torch.device:
    """The device of a name such as `cpu`, `cuda:1`; `auto` is a GPU if there is one.

    Raises
    ------
    ConfigError
        If it cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"the device '{name}' cannot be used ({shorten(str(error), 70)}): choose another with "
            "--device, such as cpu, cuda or cuda:1"
        ) from error
    return device


def float_type(config: Config) -> torch.dtype:
    """The type of weights and labels."""
    dtype: torch.dtype = getattr(torch, config.general.float_precision)
    return dtype


def network_spec(config: Config, transformation: TransformationModel) -> NetworkSpec:
    """What the network must know of the data."""
    labels = config.labels
    keys = LabelKeys(
        zenith=labels.label_zenith_key,
        azimuth=labels.label_azimuth_key,
        dir_x=labels.label_dir_x_key,
        dir_y=labels.label_dir_y_key,
        dir_z=labels.label_dir_z_key,
        pid=tuple(labels.label_pid_keys),
        particle=dict(labels.label_particle_keys),
    )
    return NetworkSpec(transformation, init_values_array(config), keys)


def make_network(config: Config, spec: NetworkSpec, device: torch.device) -> Network:
    """The network that `model_class` names, with the run's seed unless it has one of its own."""
    kwargs = {
        "random_seed": config.seed,
        "dtype": config.general.float_precision,
        **config.model.model_kwargs,
    }
    network: Network = resolve(config.model.model_class, "model_class")(spec, **kwargs)
    network.to(device)
    return network


def trained_network(config: Config, device: torch.device) -> Network:
    """The network with the weights of its newest checkpoint, ready to predict.

    Raises
    ------
    ModelError
        If there is no checkpoint, or it is of another network.
    """
    folder = Path(config.model.model_checkpoint_path)
    checkpoint = load_latest(folder)
    if checkpoint is None:
        raise ModelError(f"there is no checkpoint in '{folder}': train the network first")
    transformation = load_transformation(Path(config.trafo.trafo_model_path))
    network = make_network(config, network_spec(config, transformation), device)
    try:
        network.load_state_dict(checkpoint.section("network"))
    except RuntimeError as error:
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' is of another network: {error}"
        ) from error
    network.eval()
    return network
