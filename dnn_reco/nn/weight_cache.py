"""Weights in the form that compiled functions read, kept between predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class WeightCache(Generic[T]):
    """Packed weights: in inference mode they are kept until weights are loaded."""

    def __init__(self) -> None:
        self._kept: tuple[list[tuple[int, int]], T] | None = None

    def get(self, parameters: Sequence[Tensor], pack: Callable[[], T]) -> T:
        """Packed weights, by `pack` where parameters have changed or this is no inference mode."""
        # weights that were made in inference mode have no versions
        if not torch.is_inference_mode_enabled() or any(p.is_inference() for p in parameters):
            return pack()
        versions = [(each.data_ptr(), each._version) for each in parameters]
        if self._kept is None or self._kept[0] != versions:
            self._kept = versions, pack()
        return self._kept[1]

    def forget(self) -> None:
        """Forget the weights: steps of fused optimizers do not count as changes of a tensor."""
        self._kept = None
