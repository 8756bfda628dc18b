"""Event weights of the comparison with a graph network; see :mod:`.interface`."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dnn_reco.config import needed_setting
from dnn_reco.modules.data.event_weights.interface import EventColumns

_SECONDS_PER_DECADE = 86400 * 3650


def nersc_gnn_weight(truth: EventColumns, misc: EventColumns, config: Mapping[str, Any]) -> Tensor:
    """Expected events in ten years: the flux weight over the number of simulated files.

    Parameters
    ----------
    truth, misc
        Labels and misc values of n events: uses the label `is_signal` (> 0.5: simulated by NuGen,
        else by CORSIKA) and the misc value `nersc_gnn_info_weight`, the rate [1/s] in one file.
    config
        Uses `nersc_gnn_weight_num_nugen_files` and `nersc_gnn_weight_num_corsika_files`.

    Returns
    -------
    Tensor
        Weights [n, 1].

    Raises
    ------
    ConfigError
        If a key is missing, or a label or misc value is not loaded.
    """
    num_nugen, num_corsika = (
        needed_setting(config, f"nersc_gnn_weight_num_{name}_files", "nersc_gnn_weight")
        for name in ("nugen", "corsika")
    )
    expected = misc["nersc_gnn_info_weight"] * _SECONDS_PER_DECADE
    is_signal = truth["is_signal"] > 0.5
    return torch.where(is_signal, expected / num_nugen, expected / num_corsika)[:, None]
