"""Training in several processes (ranks), as `torchrun` starts them: what they tell each other.

Each rank predicts its part of a batch. All ranks then learn the predictions of the others, so that
each can compute the loss of the whole batch, with whatever averages, medians or orders it needs.
In this loss only the own part is not a constant; gradients are therefore added up over the ranks.
After that all ranks take the same step: weights, label weights and running statistics stay equal.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.errors import ConfigError, TrainingError
from dnn_reco.nn.interface import Prediction
from dnn_reco.nn.sharded_batch import BatchShard, batch_shard
from dnn_reco.workers import world_size

# Ranks wait for each other, also while the first one builds the event store.
_PATIENCE = timedelta(hours=6)
_SECONDS_BETWEEN_LOOKS = 0.02


@dataclass(frozen=True)
class DistributedContext:
    """The processes of a training, and which of them this one is.

    Attributes
    ----------
    number
        Number of this process, from 0; the first one tells and saves.
    count
        How many there are.
    local_rank, local_world_size
        Number of this process on its machine, which decides on its GPU, and how many are there.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this process is the one that tells and saves."""
        return self.rank == 0

    def local_slice(self, num_events: int) -> slice:
        """The events of a batch that this rank predicts."""
        return slice(
            num_events * self.rank // self.world_size,
            num_events * (self.rank + 1) // self.world_size,
        )

    def shard(self, num_events: int) -> BatchShard | None:
        """What layers must know of a batch of so many events in all; None for a single process."""
        if self.world_size == 1:
            return None
        return BatchShard(num_events, self.local_slice(num_events).start, all_reduce_sum)

    def predict(
        self, network: Callable[[HitBatch], Prediction], hits: HitBatch, num_events: int
    ) -> Prediction:
        """What the networks of all ranks say of a batch; from each come the events of its part.

        Parameters
        ----------
        network
            The network of this rank.
        hits
            Hits of its part.
        num_events
            Number of events of the whole batch.
        """
        with batch_shard(self.shard(num_events)):
            own = network(hits)
        if self.world_size == 1:
            return own
        columns = [getattr(own, field.name) for field in fields(own)]
        whole = self.gather(torch.cat(columns, dim=1), num_events)
        return Prediction(*torch.split(whole, [column.shape[1] for column in columns], dim=1))

    def gather(self, part: Tensor, num_events: int) -> Tensor:
        """The rows of all ranks [num_events, …], those of this rank with their gradients."""
        if self.world_size == 1:
            return part
        parts = [
            DistributedContext(number, self.world_size).local_slice(num_events)
            for number in range(self.world_size)
        ]
        longest = max(p.stop - p.start for p in parts)
        padded = part.detach().new_zeros(longest, *part.shape[1:])
        padded[: len(part)] = part.detach()
        received = [torch.empty_like(padded) for _ in parts]
        with _in_touch():
            distributed.all_gather(received, padded)
        rows = [each[: p.stop - p.start] for each, p in zip(received, parts, strict=True)]
        rows[self.rank] = part
        return torch.cat(rows)

    def all_reduce_sum(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Sums over the ranks; None stays None, as it is that in all of them."""
        present = [gradient for gradient in gradients if gradient is not None]
        if self.world_size == 1 or not present:
            return list(gradients)
        flat = torch.cat([gradient.flatten() for gradient in present])
        with _in_touch():
            distributed.all_reduce(flat)
        sums = iter(torch.split(flat, [gradient.numel() for gradient in present]))
        return [None if each is None else next(sums).view_as(each) for each in gradients]

    def all_reduce_signal(self, received: signal.Signals | None) -> signal.Signals | None:
        """A signal that any rank received: the same answer for all of them."""
        if self.world_size == 1:
            return received
        number = torch.tensor(received or 0, dtype=torch.int64)
        with _in_touch():
            distributed.all_reduce(number, distributed.ReduceOp.MAX)
        return signal.Signals(int(number)) if number > 0 else None

    def broadcast_scalar(self, value: float) -> float:
        """The value that the first rank has."""
        if self.world_size == 1:
            return value
        told = torch.tensor(value, dtype=torch.float64)
        with _in_touch():
            distributed.broadcast(told, 0)
        return float(told)

    def broadcast_batches(
        self, batches: Iterator[NDArray[np.int64]], batch_size: int
    ) -> Iterator[NDArray[np.int64]]:
        """Batches of event numbers, as the first rank draws them; the others do not draw."""
        if self.world_size == 1:
            yield from batches
            return
        nothing = torch.full((batch_size,), -1)
        while True:
            drawn = next(batches, None) if self.is_main_process else None
            numbers = nothing.clone() if drawn is None else torch.from_numpy(drawn)
            with _in_touch():
                distributed.broadcast(numbers, 0)
            if numbers[0] < 0:
                return
            yield numbers.numpy()

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """The first rank does what follows, the others after it: they find it done."""
        if not self.is_main_process:
            _wait_for_all()
        yield
        if self.is_main_process and self.world_size > 1:
            _wait_for_all()


def _wait_for_all() -> None:
    with _in_touch():
        distributed.all_reduce(torch.zeros(1))  # a barrier would take a GPU


@contextmanager
def _in_touch() -> Iterator[None]:
    """Say in plain words that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "another process of this training has ended, so this one cannot go on: see the message "
            f"of the one that ended first ({str(error).splitlines()[0]})"
        ) from error


class _AddUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        with _in_touch():
            distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        with _in_touch():
            distributed.all_reduce(total)
        return total


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum of a tensor over the ranks; what each makes of it flows back to all."""
    total: Tensor = _AddUp.apply(values)  # type: ignore[no-untyped-call]
    return total


@contextmanager
def init_distributed(device: str) -> Iterator[DistributedContext]:
    """Meet the other processes that `torchrun` started; alone if it did not.

    Parameters
    ----------
    device
        What the user asks for: processes on GPUs talk through NCCL, others through Gloo.

    Raises
    ------
    ConfigError
        If the processes cannot meet.
    """
    count = world_size()
    if count == 1:
        yield DistributedContext()
        return
    on_gpus = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    # signals and event numbers are on the CPU in any case: no step waits for a GPU for them
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    try:
        store, number, count = next(rendezvous("env://", timeout=_PATIENCE))
        store = _unused_part(store, number, count)
        distributed.init_process_group(
            backend, store=store, rank=number, world_size=count, timeout=_PATIENCE
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the {count} processes of this training cannot meet ({error}): start them with "
            "torchrun --nproc_per_node N train_model.py CONFIG"
        ) from error
    try:
        local_rank, local_world_size = (
            int(os.environ.get(name, default))
            for name, default in (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
        )
        yield DistributedContext(number, count, local_rank, local_world_size)
    finally:
        distributed.destroy_process_group()


def _unused_part(store: Store, number: int, count: int) -> PrefixStore:
    """A part of the store that processes share in which nobody has written yet.

    A `torchrun` that starts the processes again gives them the store that the former ones wrote
    to (https://github.com/pytorch/pytorch/issues/135712), so addresses found there may be old. Each
    process therefore asks the first one for the name of a new part, with a question of its own.
    """
    if number > 0:
        question = uuid4().hex
        store.set(f"question/{number}", question)
        name = store.get(f"answer/{question}").decode()  # waits for it
        store.set(f"{name}/{number}", "heard")
        return PrefixStore(name, store)
    name = uuid4().hex
    others = list(range(1, count))
    while others:
        for each in others:
            if store.check([f"question/{each}"]):
                store.set(f"answer/{store.get(f'question/{each}').decode()}", name)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        others = [each for each in others if not store.check([f"{name}/{each}"])]
    return PrefixStore(name, store)
