"""Residuals of losses, under the names of the TensorFlow version's module.

Losses get the residual as `context.residual_trafo`. These functions are for users' own modules that
hold the objects of that version; tensors are those of PyTorch.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.errors import ConfigError


class DataHandler(Protocol):
    """Names of the L labels, in order."""

    label_names: Sequence[str]


class DataTransformer(Protocol):
    """The transformation of labels."""

    trafo_model: Mapping[str, Any]

    def transform(
        self, data: NDArray[np.float64], data_type: str, bias_correction: bool = True
    ) -> Any:
        """Transform labels [1, L]; without `bias_correction` the mean is not subtracted."""


def correct_azimuth_residual(
    y_diff_trafo: Tensor,
    config: Mapping[str, Any],
    data_handler: DataHandler,
    data_transformer: DataTransformer,
    name_pattern: str,
) -> Tensor:
    """Residuals with the magnitude of those of azimuths measured the short way round.

    Parameters
    ----------
    y_diff_trafo
        Predicted minus true transformed labels [..., L].
    config
        Not used.
    data_handler, data_transformer
        Names of the labels, and their transformation.
    name_pattern
        Part of the names of the azimuth labels.

    Raises
    ------
    ConfigError
        If an azimuth label has a logarithm.
    """
    names = list(data_handler.label_names)
    is_azimuth = [name_pattern in name for name in names]
    for name, chosen, has_log in zip(
        names, is_azimuth, data_transformer.trafo_model["log_label_bins"], strict=True
    ):
        if chosen and has_log:
            raise ConfigError(
                f"the azimuth label '{name}' has a logarithm, so it is not periodic: switch off "
                "its flag in trafo_log_label_bins"
            )
    turn = np.full((1, len(names)), 2 * math.pi)
    turn = data_transformer.transform(turn, data_type="label", bias_correction=False)
    period = torch.as_tensor(turn).to(y_diff_trafo).reshape(-1)
    distance = y_diff_trafo.abs()
    shortest = torch.where(distance < period / 2, distance, period - distance)
    return torch.where(torch.tensor(is_azimuth, device=y_diff_trafo.device), shortest, y_diff_trafo)


def get_y_diff_trafo(
    config: Mapping[str, Any],
    data_handler: DataHandler,
    data_transformer: DataTransformer,
    shared_objects: Mapping[str, Tensor],
) -> Tensor:
    """Predicted minus true transformed labels [..., L], azimuths corrected for their period.

    Parameters
    ----------
    config
        The configuration, for `label_azimuth_key`.
    data_handler, data_transformer
        As for :func:`correct_azimuth_residual`.
    shared_objects
        Predicted and true transformed labels, `y_pred_trafo` and `y_true_trafo`.
    """
    residual = shared_objects["y_pred_trafo"] - shared_objects["y_true_trafo"]
    pattern = config.get("label_azimuth_key")
    if not pattern:
        return residual
    return correct_azimuth_residual(residual, config, data_handler, data_transformer, pattern)
