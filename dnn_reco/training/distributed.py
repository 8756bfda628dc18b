"""Training in several processes (ranks), as `torchrun` starts them.

Each rank predicts a slice of the batch. The predictions are gathered, so that each rank can compute
the loss of the whole batch, with whatever averages, medians or orders it needs. In this loss only
the local slice is not a constant; gradients are therefore summed over the ranks. All ranks then
take the same step: weights, label weights and running statistics stay equal.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
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
from dnn_reco.nn.misc_data import MiscData
from dnn_reco.nn.predictor import Predictor
from dnn_reco.nn.sharded_batch import BatchShard, batch_shard
from dnn_reco.workers import world_size

# Ranks wait for each other, also while the main process builds the event store.
_TIMEOUT = timedelta(hours=6)
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class DistributedContext:
    """The processes of a training, and which of them this one is.

    Attributes
    ----------
    rank
        Number of this process, from 0.
    world_size
        Number of processes.
    local_rank, local_world_size
        Number of this process on its machine, which decides on its GPU, and processes there.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_main_process(self) -> bool:
        """Whether this process is the one that reports and saves: rank 0."""
        return self.rank == 0

    def local_slice(self, num_events: int) -> slice:
        """The events of a batch that this rank predicts."""
        return slice(
            num_events * self.rank // self.world_size,
            num_events * (self.rank + 1) // self.world_size,
        )

    def shard(self, num_events: int) -> BatchShard | None:
        """The local part of a batch, for layers that depend on all of it; None for one process."""
        if self.world_size == 1:
            return None
        return BatchShard(num_events, self.local_slice(num_events).start, all_reduce_sum)

    def predict(self, network: Predictor, hits: HitBatch, misc: MiscData) -> Prediction:
        """Predictions of a batch, gathered from all ranks: each predicts its local slice.

        Parameters
        ----------
        network
            The network of this rank.
        hits
            Hits of the local slice.
        misc
            Misc data of the whole batch.
        """
        num_events = len(misc)
        with batch_shard(self.shard(num_events)):
            prediction = network(hits, misc.select(self.local_slice(num_events)))
        if self.world_size == 1:
            return prediction
        own = [getattr(prediction, field.name) for field in fields(prediction)]
        gathered = self.gather(torch.cat(own, dim=1).detach(), num_events)
        widths = [each.shape[1] for each in own]
        local = self.local_slice(num_events)
        # each part alone has gradients: what a loss does not use has none, as in one process
        return Prediction(
            *(
                torch.cat([whole[: local.start], part, whole[local.stop :]])
                for whole, part in zip(torch.split(gathered, widths, dim=1), own, strict=True)
            )
        )

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
        with _communication():
            distributed.all_gather(received, padded)
        rows = [each[: p.stop - p.start] for each, p in zip(received, parts, strict=True)]
        rows[self.rank] = part
        return torch.cat(rows)

    def all_reduce_sum(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Sums over the ranks; None stays None, as it is None in all of them."""
        present = [gradient for gradient in gradients if gradient is not None]
        if self.world_size == 1 or not present:
            return list(gradients)
        flat = torch.cat([gradient.flatten() for gradient in present])
        with _communication():
            distributed.all_reduce(flat)
        sums = iter(torch.split(flat, [gradient.numel() for gradient in present]))
        return [None if each is None else next(sums).view_as(each) for each in gradients]

    def all_reduce_signal(self, received: signal.Signals | None) -> signal.Signals | None:
        """A signal that any rank received, the same in all ranks; None if none did."""
        if self.world_size == 1:
            return received
        number = torch.tensor(received or 0, dtype=torch.int64)
        with _communication():
            distributed.all_reduce(number, distributed.ReduceOp.MAX)
        return signal.Signals(int(number)) if number > 0 else None

    def broadcast_scalar(self, value: float) -> float:
        """The value of the main process."""
        if self.world_size == 1:
            return value
        broadcast = torch.tensor(value, dtype=torch.float64)
        with _communication():
            distributed.broadcast(broadcast, 0)
        return float(broadcast)

    def broadcast_batches(
        self, batches: Iterator[NDArray[np.int64]], batch_size: int
    ) -> Iterator[NDArray[np.int64]]:
        """Batches of event numbers, drawn by the main process alone."""
        if self.world_size == 1:
            yield from batches
            return
        nothing = torch.full((batch_size,), -1)
        while True:
            drawn = next(batches, None) if self.is_main_process else None
            numbers = nothing.clone() if drawn is None else torch.from_numpy(drawn)
            with _communication():
                distributed.broadcast(numbers, 0)
            if numbers[0] < 0:
                return
            yield numbers.numpy()

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """The main process runs the block first, the others after it: they find its work done."""
        if not self.is_main_process:
            _wait_for_all()
        yield
        if self.is_main_process and self.world_size > 1:
            _wait_for_all()


def _wait_for_all() -> None:
    with _communication():
        distributed.all_reduce(torch.zeros(1))  # a barrier would take a GPU


@contextmanager
def _communication() -> Iterator[None]:
    """Turn a failure of communication into an error that names its cause."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "another process of this training has ended, so this one cannot go on: see the message "
            f"of the one that ended first ({str(error).splitlines()[0]})"
        ) from error


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        with _communication():
            distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        with _communication():
            distributed.all_reduce(total)
        return total


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sum of a tensor over the ranks; gradients are summed over the ranks, too."""
    total: Tensor = _AllReduceSum.apply(values)  # type: ignore[no-untyped-call]
    return total


@contextmanager
def init_distributed(device: str) -> Iterator[DistributedContext]:
    """Join the processes that `torchrun` started; a context of one process if it did not.

    Parameters
    ----------
    device
        As given by the user: processes on GPUs communicate through NCCL, others through Gloo.

    Raises
    ------
    ConfigError
        If the processes cannot connect to each other.
    """
    num_processes = world_size()
    if num_processes == 1:
        yield DistributedContext()
        return
    on_gpus = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    # signals and event numbers are on the CPU in any case: no step waits for a GPU for them
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    try:
        store, rank, num_processes = next(rendezvous("env://", timeout=_TIMEOUT))
        store = _fresh_prefix(store, rank, num_processes)
        distributed.init_process_group(
            backend, store=store, rank=rank, world_size=num_processes, timeout=_TIMEOUT
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the {num_processes} processes of this training cannot connect ({error}): start them "
            "with torchrun --nproc-per-node N train_model.py CONFIG"
        ) from error
    try:
        local_rank, local_world_size = (
            int(os.environ.get(name, default))
            for name, default in (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
        )
        yield DistributedContext(rank, num_processes, local_rank, local_world_size)
    finally:
        distributed.destroy_process_group()


def _fresh_prefix(store: Store, rank: int, num_processes: int) -> PrefixStore:
    """The shared store below a prefix that no process has written to yet.

    A `torchrun` that restarts the processes gives them the store that the former ones wrote to
    (https://github.com/pytorch/pytorch/issues/135712), so addresses found there may be stale. Each
    process therefore requests the prefix from the main process, with a request id of its own.
    """
    if rank > 0:
        request = uuid4().hex
        store.set(f"request/{rank}", request)
        prefix = store.get(f"response/{request}").decode()  # blocks until it is there
        store.set(f"{prefix}/{rank}", "received")
        return PrefixStore(prefix, store)
    prefix = uuid4().hex
    others = list(range(1, num_processes))
    while others:
        for each in others:
            if store.check([f"request/{each}"]):
                store.set(f"response/{store.get(f'request/{each}').decode()}", prefix)
        time.sleep(_POLL_SECONDS)
        others = [each for each in others if not store.check([f"{prefix}/{each}"])]
    return PrefixStore(prefix, store)
