"""Pooling over the spatial axes with the edge rules of the reference."""

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dnn_reco.nn.padding import output_length, pad_argument, pad_widths
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
    _weight: Tensor

    def __init__(self, settings: PoolingSettings, shape: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__()
        self.settings = settings
        axes = list(zip(shape, settings.window, settings.strides, strict=True))
        widths = [pad_widths(n, k, s, 1, settings.padding) for n, k, s in axes]
        self.output_shape = tuple(output_length(n, k, s, 1, settings.padding) for n, k, s in axes)
        self._pad = pad_argument(widths)
        self.averages_tiles = (
            settings.kind == "avg"
            and settings.window == settings.strides
            and settings.padding == "SAME"
            and not any(before for before, _ in widths)
        )
        """Whether it averages windows that tile the input from its first cell."""
        self._padded = any(self._pad)
        # One over the number of cells inside the input, for each output. It is computed on the CPU
        # in any case: sums of tensors without memory, on the device "meta", take a second to begin.
        inside = functional.pad(torch.ones(1, *shape, 1, dtype=dtype, device="cpu"), self._pad)
        weight = (
            self._sum(inside).reciprocal()
            if self._padded
            else torch.tensor(1 / math.prod(settings.window), dtype=dtype)
        )
        self.register_buffer("_weight", weight, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pool [B, *shape, C] to [B, *output_shape, C]."""
        if self.settings.kind == "avg":
            return self._pool_average(x)
        if self.settings.kind == "max":
            return self._pool_maximum(x)
        return (self._pool_maximum(x) + self._pool_average(x)) / 2

    def _pool_average(self, x: Tensor) -> Tensor:
        if self._padded:
            x = functional.pad(x, self._pad)
        return self._sum(x) * self._weight

    def _sum(self, x: Tensor) -> Tensor:
        window, strides = self.settings.window, self.settings.strides
        if window == strides and self.settings.padding == "SAME":
            return _sum_tiles(x, window)
        pool = functional.avg_pool2d if len(window) == 2 else functional.avg_pool3d
        x = x.movedim(-1, 1)
        if torch.compiler.is_exporting():  # the ONNX exporter ignores the divisor
            return pool(x, window, strides).movedim(1, -1) * math.prod(window)
        return pool(x, window, strides, divisor_override=1).movedim(1, -1)

    def _pool_maximum(self, x: Tensor) -> Tensor:
        if self._padded:
            x = functional.pad(x, self._pad, value=-torch.inf)
        window, strides = self.settings.window, self.settings.strides
        pool = functional.max_pool2d if len(window) == 2 else functional.max_pool3d
        return pool(x.movedim(-1, 1), window, strides).movedim(1, -1)


def _sum_tiles(x: Tensor, window: Sequence[int]) -> Tensor:
    """Sum over windows that tile the input, one axis at a time.

    Much faster on CPUs than PyTorch's pooling.
    """
    for axis, length in enumerate(window, start=1):
        if length > 1:
            tiles = x.view(*x.shape[:axis], -1, length, *x.shape[axis + 1 :])
            x = functools.reduce(torch.add, tiles.unbind(axis + 1))
    return x
