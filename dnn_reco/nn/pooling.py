"""Pooling over the spatial axes with the edge rules of the reference."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.nn.padding import output_length, pad_widths
from dnn_reco.nn.settings import PoolingSettings


class Pooling(nn.Module):
    """Average or maximum over windows; cells outside the input do not count.

    Parameters
    ----------
    settings
        Kind, window, strides and padding.
    shape
        Lengths of the spatial axes of the input (two or three).
    dtype
        Type of the input.
    """

    output_shape: tuple[int, ...]
    _share: Tensor

    def __init__(self, settings: PoolingSettings, shape: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__()
        self.settings = settings
        axes = list(zip(shape, settings.window, settings.strides, strict=True))
        widths = [pad_widths(n, k, s, 1, settings.padding) for n, k, s in axes]
        self.output_shape = tuple(output_length(n, k, s, 1, settings.padding) for n, k, s in axes)
        # torch.nn.functional.pad counts axes from the last
        self._pad = [width for before_after in reversed(widths) for width in before_after]
        self._padded = any(self._pad)
        inside = functional.pad(torch.ones(1, 1, *shape, dtype=dtype), self._pad)
        self.register_buffer("_share", self._average(inside).reciprocal(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pool [B, C, *shape] to [B, C, *output_shape]."""
        if self.settings.kind == "avg":
            return self._pool_average(x)
        if self.settings.kind == "max":
            return self._pool_maximum(x)
        return (self._pool_maximum(x) + self._pool_average(x)) / 2

    def _pool_average(self, x: Tensor) -> Tensor:
        if not self._padded:
            return self._average(x)
        # the plain average counts the padding as zeros: divide by the share inside
        return self._average(functional.pad(x, self._pad)) * self._share

    def _average(self, x: Tensor) -> Tensor:
        pool = functional.avg_pool2d if x.dim() == 4 else functional.avg_pool3d
        return pool(x, self.settings.window, self.settings.strides)

    def _pool_maximum(self, x: Tensor) -> Tensor:
        pool = functional.max_pool2d if x.dim() == 4 else functional.max_pool3d
        padded = functional.pad(x, self._pad, value=-torch.inf) if self._padded else x
        return pool(padded, self.settings.window, self.settings.strides)
