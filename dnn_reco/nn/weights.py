"""Weights: initialisation, loading, and matching numbers of channels."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.amounts import counted
from dnn_reco.errors import ModelError
from dnn_reco.nn.interface import Network


def initial_weights(
    shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype, std: float = 1.0
) -> nn.Parameter:
    """Random weights from a normal distribution truncated at two standard deviations."""
    weights = torch.empty(*shape, dtype=dtype)
    nn.init.trunc_normal_(weights, std=std, a=-2 * std, b=2 * std, generator=generator)
    return nn.Parameter(weights)


def residual_scales(channels: int, generator: torch.Generator, dtype: torch.dtype) -> nn.Parameter:
    """Initial scales of a residual branch: small, so that the layer starts near the identity."""
    return initial_weights((channels,), generator, dtype, std=0.001)


def load_weights(network: Network, weights: Mapping[str, Any]) -> None:
    """Load the weights of a network with the same architecture.

    Raises
    ------
    ModelError
        If they belong to another architecture; it names the first difference.
    """
    check_weights(network, weights)
    network.load_state_dict(weights)


def check_weights(network: Network, weights: Mapping[str, Any]) -> None:
    """Check that weights are those of a network with the same architecture.

    Raises
    ------
    ModelError
        If they belong to another architecture; it names the first difference.
    """
    expected = network.state_dict()
    wrong = [
        *(f"'{name}' is missing" for name in expected if name not in weights),
        *(f"'{name}' is not part of this network" for name in weights if name not in expected),
        *(
            f"'{name}' has the shape {tuple(weights[name].shape)}, in this network it is "
            f"{tuple(value.shape)}"
            for name, value in expected.items()
            if name in weights and weights[name].shape != value.shape
        ),
    ]
    if wrong:
        rest = len(wrong) - 1
        more = f" (and {counted(rest, 'more difference')})" if rest else ""
        raise ModelError(wrong[0] + more)


def with_channels(x: Tensor, channels: int) -> Tensor:
    """The first channels of x [..., C], zeros where it has fewer."""
    missing = channels - x.shape[-1]
    if missing == 0:
        return x
    return functional.pad(x, [0, missing]) if missing > 0 else x[..., :channels]
