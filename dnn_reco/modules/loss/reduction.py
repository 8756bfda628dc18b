"""From values of events to the vector that a loss returns."""

from collections.abc import Mapping

import torch
from torch import Tensor


def weighted_mean(values: Tensor, event_weights: Tensor | None) -> Tensor:
    """Average over events [K] of values [B, K], with weights [B, 1] if there are any.

    Where all weights are 0, the average is 0.
    """
    if event_weights is None:
        return values.mean(dim=0)
    total = event_weights.sum().clamp(min=torch.finfo(event_weights.dtype).tiny)
    return (values * (event_weights / total)).sum(dim=0)


def at_labels(values: Mapping[int, Tensor], num_labels: int) -> Tensor:
    """A vector [L] that holds scalars at the indices of their labels, and 0 elsewhere.

    Parameters
    ----------
    values
        At least one scalar by index.
    num_labels
        L.
    """
    zero = torch.zeros_like(next(iter(values.values())))
    return torch.stack([values.get(index, zero) for index in range(num_labels)])
