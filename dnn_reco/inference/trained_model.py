"""The device and the trained network of a command."""

from __future__ import annotations

from pathlib import Path

import torch

from dnn_reco.checkpoint_file import Checkpoint, load_newest
from dnn_reco.config import Config
from dnn_reco.errors import ModelError
from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.nn.interface import Network, NetworkSpec
from dnn_reco.nn.weights import load_weights
from dnn_reco.transform import load_transformation


def trained_network(config: Config, device: torch.device) -> Network:
    """The network with the weights of its newest checkpoint: see :func:`trained_networks`."""
    return trained_networks(config, trained_spec(config), device, 1)[0]


def trained_spec(config: Config) -> NetworkSpec:
    """What a trained network knows of the data, by its transformation model."""
    return network_spec(config, load_transformation(Path(config.trafo.trafo_model_path)))


def trained_networks(
    config: Config, spec: NetworkSpec, device: torch.device, count: int
) -> list[Network]:
    """The network with the weights of each of its newest checkpoints, ready to predict.

    They are the moving average of the weights where the training had `ema_decay`.

    Parameters
    ----------
    config
        The config that it was trained with.
    spec
        What it knows of the data.
    device
        Where to put the networks.
    count
        How many checkpoints to take.

    Raises
    ------
    ModelError
        If there are not so many, or one is of another network or transformation model.
    """
    folder = Path(config.model.model_checkpoint_path)
    checkpoints = load_newest(folder, count)
    if not checkpoints:
        raise ModelError(f"there is no checkpoint in '{folder}': train the network first")
    if len(checkpoints) < count:
        raise ModelError(
            f"there are {len(checkpoints)} checkpoints in '{folder}', not {count}: take fewer, or "
            "let more be kept by max_to_keep in model_checkpoint_manager_kwargs"
        )
    for each in checkpoints:
        if each.progress.transformation != spec.transformation.digest:
            raise ModelError(
                f"the checkpoint '{each.path}' was trained with another transformation model than "
                f"'{config.trafo.trafo_model_path}', which was made anew since: bring the old file "
                "back"
            )
    return [_with_weights(make_network(config, spec, device), each) for each in checkpoints]


def _with_weights(network: Network, checkpoint: Checkpoint) -> Network:
    try:
        load_weights(network, checkpoint.weights)
    except ModelError as error:
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' is of another network than the config tells: "
            f"{error}"
        ) from error
    network.eval()
    return network
