"""What layers must know of a batch that is shared out over several processes.

Each process (rank) sees some events of a batch. Where an output depends on the whole batch, layers
must not notice: batch normalisation takes its statistics over all events, and dropout drops the
same values as if one process saw them all.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchShard:
    """The batch of which this process sees a part.

    Attributes
    ----------
    num_events
        Number of events in all parts.
    first
        Number in the batch of the first event of this part.
    add_up
        Sum of a tensor over all processes, through which gradients flow.
    """

    num_events: int
    first: int
    all_reduce_sum: Callable[[Tensor], Tensor]


# of this process; a ContextVar would be one that torch.compile cannot look into
_whole: BatchShard | None = None


@contextmanager
def batch_shard(whole: BatchShard | None) -> Iterator[None]:
    """While this lasts, networks take what they see for a part of `whole`; None: for all of it."""
    global _whole
    before, _whole = _whole, whole
    try:
        yield
    finally:
        _whole = before


def shard_start() -> int:
    """Number in the whole batch of the first event that is seen here."""
    return 0 if _whole is None else _whole.first


def keep_mask(x: Tensor, keep_prob: float) -> Tensor:
    """Which values dropout keeps: 1 / keep_prob or 0, in the shape [B, …] and type of x."""
    whole = _whole
    shape = x.shape if whole is None else (whole.num_events, *x.shape[1:])
    mask = torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(keep_prob)
    part = mask if whole is None else mask[whole.first : whole.first + len(x)]
    return part.mul_(1 / keep_prob)


def dropout(x: Tensor, drop_prob: float) -> Tensor:
    """Set values of x [B, …] to 0 with a probability, and scale the others to keep the mean."""
    return x * keep_mask(x, 1 - drop_prob) if drop_prob > 0 else x


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over events of x [B, …]."""
    whole = _whole
    if whole is None:
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        return mean, variance
    mean = whole.all_reduce_sum(x.sum(dim=0)) / whole.num_events
    return mean, whole.all_reduce_sum((x - mean).square().sum(dim=0)) / whole.num_events
