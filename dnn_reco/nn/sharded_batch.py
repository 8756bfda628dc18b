"""Batches that are sharded over several processes (data parallelism).

Each process (rank) computes some events of a batch, with the same result as a single process: batch
normalisation takes its statistics over all events, and dropout drops the same values.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchShard:
    """The part of a batch that this process computes.

    Attributes
    ----------
    num_events
        Number of events of the whole batch.
    first
        Index in the batch of the first event of this shard.
    all_reduce_sum
        Sum of a tensor over all processes, differentiable.
    """

    num_events: int
    first: int
    all_reduce_sum: Callable[[Tensor], Tensor]


# of this process; torch.compile cannot trace a ContextVar
_shard: BatchShard | None = None


@contextmanager
def batch_shard(shard: BatchShard | None) -> Iterator[None]:
    """A context in which layers treat their batches as this shard; None: as whole batches."""
    global _shard
    before, _shard = _shard, shard
    try:
        yield
    finally:
        _shard = before


def shard_start() -> int:
    """Index in the whole batch of the first event of this process."""
    return 0 if _shard is None else _shard.first


def keep_mask(x: Tensor, keep_prob: float) -> Tensor:
    """Dropout mask: 1 / keep_prob for kept values, else 0, in the shape [B, …] and type of x."""
    shard = _shard
    shape = x.shape if shard is None else (shard.num_events, *x.shape[1:])
    mask = torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(keep_prob)
    part = mask if shard is None else mask[shard.first : shard.first + len(x)]
    return part.mul_(1 / keep_prob)


def dropout(x: Tensor, drop_prob: float) -> Tensor:
    """Set values of x [B, …] to 0 with a probability, and scale the others to keep the mean."""
    return x * keep_mask(x, 1 - drop_prob) if drop_prob > 0 else x


def mean_and_variance(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over the events of the whole batch, of x [B, …]."""
    shard = _shard
    if shard is None:
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        return mean, variance
    mean = shard.all_reduce_sum(x.sum(dim=0)) / shard.num_events
    return mean, shard.all_reduce_sum((x - mean).square().sum(dim=0)) / shard.num_events
