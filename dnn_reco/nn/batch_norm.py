"""Batch normalisation with separate statistics at each position."""

import torch
from torch import Tensor, nn

from dnn_reco.nn.sharded_batch import mean_and_variance

_EPSILON = 1e-6
_MOMENTUM = 0.01


class BatchNorm(nn.Module):
    """Normalise each value to mean `beta` and standard deviation `scale` over events.

    Unlike in most libraries, statistics are taken over events only, for each position and channel.
    In training they are those of the batch (with the biased variance); inference uses their
    exponential moving averages, to which each batch contributes 0.01.

    Parameters
    ----------
    shape
        Shape of an event [*positions, C].
    dtype
        Type of the input.
    """

    pop_mean: Tensor
    pop_var: Tensor

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(shape, dtype=dtype))
        self.beta = nn.Parameter(torch.zeros(shape, dtype=dtype))
        self.register_buffer("pop_mean", torch.zeros(shape, dtype=dtype))
        self.register_buffer("pop_var", torch.ones(shape, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, *positions]."""
        x = x.to(self.scale.dtype)  # convolutions may compute in lower precision
        if self.training:
            mean, variance = mean_and_variance(x)
            with torch.no_grad():
                self.pop_mean.lerp_(mean.movedim(0, -1), _MOMENTUM)
                self.pop_var.lerp_(variance.movedim(0, -1), _MOMENTUM)
        else:
            mean, variance = self.pop_mean.movedim(-1, 0), self.pop_var.movedim(-1, 0)
        factor = self.scale.movedim(-1, 0) * torch.rsqrt(variance + _EPSILON)
        return (x - mean) * factor + self.beta.movedim(-1, 0)
