"""The device that networks run on, and bringing values back from it."""

from __future__ import annotations

import os
from textwrap import shorten

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.amounts import counted
from dnn_reco.errors import ConfigError
from dnn_reco.nn.threads import num_threads


def choose_device(name: str) -> torch.device:
    """The device named for example `cpu`, `cuda:1`; `auto` is a GPU if there is one.

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


def device_name(device: torch.device) -> str:
    """Name of a device for messages, such as ``NVIDIA H100 (cuda:0)``."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    return f"CPU, {counted(num_threads(), 'thread')}"


def as_array(values: Tensor) -> NDArray[np.float64]:
    """A tensor on any device as a NumPy array of float64."""
    return values.detach().double().cpu().numpy()


def compute_deterministically() -> None:
    """Use deterministic algorithms on GPUs: two runs then agree bit by bit."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
