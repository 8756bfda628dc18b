"""Event weights of event selections; see :mod:`.interface` for arguments and result."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dnn_reco.config import needed_setting
from dnn_reco.errors import ConfigError
from dnn_reco.modules.data.event_weights.interface import EventColumns

_ASTRONESS = "clipped_astroness_weights"
_SECONDS_PER_YEAR = 86400 * 365
_GENERATORS = ("corsika", "muongun", "nugen")

# Keeps ratios and logarithms of weights of 0 finite.
_TINY = 1e-32
# Additional weight of an event of purely astrophysical origin.
_MAX_ASTRO_WEIGHT = 7.65


def event_selection_weight(
    truth: EventColumns, misc: EventColumns, config: Mapping[str, Any]
) -> Tensor:
    """Expected events per year: the sum of all flux weights over the number of simulated files.

    Parameters
    ----------
    truth, misc
        Labels and misc values of n events.
    config
        Uses, for each generator of corsika, muongun, nugen: `event_weights_<generator>_keys`, misc
        values that hold a rate [1/s] in one file (0 in files of other generators), and
        `event_weights_num_<generator>_files`, the number of files.

    Returns
    -------
    Tensor
        Weights [n, 1].

    Raises
    ------
    ConfigError
        If no misc value is configured, one is not loaded, or a number of files is missing.
    """
    rate = torch.zeros(len(misc), dtype=torch.float64)
    keys = {name: config.get(f"event_weights_{name}_keys") or () for name in _GENERATORS}
    if not any(keys.values()):
        raise ConfigError(
            "event_selection_weight sums misc values, but none is configured: set "
            f"{', '.join(f'event_weights_{name}_keys' for name in _GENERATORS)}"
        )
    for name, misc_names in keys.items():
        for misc_name in misc_names:
            num_files = needed_setting(
                config, f"event_weights_num_{name}_files", "event_selection_weight"
            )
            rate = rate + misc[misc_name] / num_files
    return (rate * _SECONDS_PER_YEAR)[:, None]


def clipped_astroness_weights(
    truth: EventColumns, misc: EventColumns, config: Mapping[str, Any]
) -> Tensor:
    """1 + ln a + 7.65, at least 1, where a is the share of the astrophysical flux.

    An event that is certainly astrophysical has weight 8.65, one with a below 5e-4 weight 1.

    Parameters
    ----------
    truth, misc
        Labels and misc values of n events.
    config
        Uses `event_weights_nugen_astro_weight` and `event_weights_nugen_conv_weight`: misc values
        that hold the weights of the astrophysical and the conventional atmospheric flux.

    Returns
    -------
    Tensor
        Weights [n, 1].

    Raises
    ------
    ConfigError
        If a key is missing or a misc value is not loaded.
    """
    astro, conventional = (
        misc[needed_setting(config, f"event_weights_nugen_{flux}_weight", _ASTRONESS)]
        for flux in ("astro", "conv")
    )
    share = astro / (astro + conventional + _TINY)
    return (1 + (_MAX_ASTRO_WEIGHT + torch.log(share + _TINY)).clamp(0, 10))[:, None]
