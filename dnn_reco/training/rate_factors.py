"""Parts of a network that train more slowly than the rest, or not at all."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from dnn_reco.errors import ConfigError
from dnn_reco.training.network_parts import contained

FACTOR = "rate_factor"
"""Key of a parameter group of an optimizer: what its learning rate is multiplied by."""


def rate_factors(
    key: str,
    factors: Mapping[str, float],
    names: Sequence[str],
    groups: Mapping[str, Sequence[str]],
) -> dict[str, float]:
    """The factor of the learning rate of each parameter; 1 if nothing else is asked for.

    Parameters
    ----------
    key
        Where the factors stand in the config, for messages.
    factors
        Factors by part of the network (:func:`dnn_reco.training.network_parts.names_in`). The last
        one that includes a parameter counts.
    names
        Names of the parameters.
    groups
        Names of the parameters of each group of the network.

    Raises
    ------
    ConfigError
        If a part includes none of the parameters, or the factors of all of them are 0.
    """
    result = dict.fromkeys(names, 1.0)
    for part, factor in factors.items():
        result |= dict.fromkeys(contained(key, part, names, groups), factor)
    if result and not any(result.values()):
        raise ConfigError(f"{key} freezes all parameters of this optimizer: leave one of them free")
    return result


def by_factor(
    parameters: Mapping[str, nn.Parameter], factors: Mapping[str, float]
) -> dict[float, dict[str, nn.Parameter]]:
    """Parameters by name for each factor; frozen ones are left out."""
    parts: dict[float, dict[str, nn.Parameter]] = {}
    for name, parameter in parameters.items():
        if factors[name]:
            parts.setdefault(factors[name], {})[name] = parameter
    return parts


def optimizer_groups(
    parts: Mapping[float, Mapping[str, nn.Parameter]],
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer of PyTorch, in the order of :func:`by_factor`."""
    return [
        {"params": list(parameters.values()), FACTOR: factor}
        for factor, parameters in parts.items()
    ]
