"""Small things that layers of all kinds share: initial weights, and matching channels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def initial_weights(
    shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype, std: float = 1.0
) -> nn.Parameter:
    """Random weights from a normal distribution cut at two standard deviations."""
    weights = torch.empty(*shape, dtype=dtype)
    nn.init.trunc_normal_(weights, std=std, a=-2 * std, b=2 * std, generator=generator)
    return nn.Parameter(weights)


def residual_scales(channels: int, generator: torch.Generator, dtype: torch.dtype) -> nn.Parameter:
    """Initial factors of what a layer adds to its input: small, to start from the identity."""
    return initial_weights((channels,), generator, dtype, std=0.001)


def with_channels(x: Tensor, channels: int) -> Tensor:
    """The first channels of x [..., C], zeros where it has fewer."""
    missing = channels - x.shape[-1]
    if missing == 0:
        return x
    return functional.pad(x, [0, missing]) if missing > 0 else x[..., :channels]
