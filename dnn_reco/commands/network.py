"""The device and the trained network of a command."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten

import torch

from dnn_reco.config import Config
from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.nn.interface import Network
from dnn_reco.training.checkpoint import load_latest
from dnn_reco.transform import load_transformation


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


def trained_network(config: Config, device: torch.device) -> Network:
    """The network with the weights of its newest checkpoint, ready to predict.

    They are the moving average of the weights where the training had `ema_decay`.

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
        network.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise ModelError(
            f"the checkpoint '{checkpoint.path}' is of another network: {error}"
        ) from error
    network.eval()
    return network
