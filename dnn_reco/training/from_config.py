"""How a training computes: with how many digits, compiled or not, and where its events lie."""

from __future__ import annotations

import logging
import os
from typing import Literal

import torch

from dnn_reco.config import Config
from dnn_reco.data.device_cache import DeviceEvents, size_in_memory
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.errors import ConfigError
from dnn_reco.nn.device import device_name
from dnn_reco.nn.interface import Network
from dnn_reco.nn.predictor import GridNetwork, Predictor, allow_tf32, predictor

_log = logging.getLogger(__name__)

_SHARE_OF_FREE_MEMORY = 1 / 4


def compute_deterministically() -> None:
    """Let this process, on GPUs, add in an order that is always the same."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def training_predictor(config: Config, network: Network, device: torch.device) -> Predictor:
    """The network as `precision` and `compile` want it to compute.

    Raises
    ------
    ConfigError
        If that is not possible.
    """
    precision, wanted = config.training.precision, config.training.compile
    in_bfloat16 = precision == "bf16"
    if in_bfloat16 and config.general.float_precision == "float64":
        raise ConfigError("precision 'bf16' contradicts float_precision 'float64': remove one")
    allow_tf32(precision == "tf32")
    reasons = []
    if not isinstance(network, GridNetwork):
        reasons.append(f"{type(network).__name__} does not place hits on a grid")
    if len(config.optimizers) > 1:  # each goes backwards through the network, which frees it
        reasons.append("there is more than one optimizer")
    if wanted is True and reasons:
        raise ConfigError(f"'compile: True' is not possible, as {' and '.join(reasons)}: remove it")
    compiled = wanted is True or (wanted == "auto" and device.type == "cuda" and not reasons)
    return predictor(network, in_bfloat16, compiled)


def device_events(
    wanted: Literal["auto"] | bool, events: EventDataset, device: torch.device
) -> DeviceEvents | None:
    """The training events in the memory of the device, if they shall lie there."""
    if wanted == "auto":
        if device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(device)
        wanted = size_in_memory(events) < _SHARE_OF_FREE_MEMORY * free
    if not wanted:
        return None
    _log.info(
        "Training events: %.1f GB, in the memory of %s.",
        size_in_memory(events) / 1e9,
        device_name(device),
    )
    return DeviceEvents(events, device)
