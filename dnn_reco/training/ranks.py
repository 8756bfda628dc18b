"""Training in several processes (ranks), as `torchrun` starts them: what they tell each other.

Each rank predicts its part of a batch. All ranks then learn the predictions of the others, so that
each can compute the loss of the whole batch, with whatever averages, medians or orders it needs.
In this loss only the own part is not a constant; gradients are therefore added up over the ranks.
After that all ranks take the same step: weights, label weights and running statistics stay equal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed

from dnn_reco.errors import ConfigError
from dnn_reco.nn.whole_batch import WholeBatch

# Ranks wait for each other, also while the first one builds the event store.
_PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, and which of them this one is.

    Attributes
    ----------
    number
        Number of this process, from 0; the first one tells and saves.
    count
        How many there are.
    local_number
        Number of this process on its machine, which decides on its GPU.
    """

    number: int = 0
    count: int = 1
    local_number: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that tells and saves."""
        return self.number == 0

    def part(self, num_events: int) -> slice:
        """The events of a batch that this rank predicts."""
        return slice(
            num_events * self.number // self.count, num_events * (self.number + 1) // self.count
        )

    def whole_batch(self, num_events: int) -> WholeBatch | None:
        """What layers must know of a batch of so many events in all; None for a single process."""
        if self.count == 1:
            return None
        return WholeBatch(num_events, self.part(num_events).start, add_up)

    def gather(self, part: Tensor, num_events: int) -> Tensor:
        """The rows of all ranks [num_events, …], those of this rank with their gradients."""
        if self.count == 1:
            return part
        parts = [Ranks(number, self.count).part(num_events) for number in range(self.count)]
        longest = max(p.stop - p.start for p in parts)
        padded = part.detach().new_zeros(longest, *part.shape[1:])
        padded[: len(part)] = part.detach()
        received = [torch.empty_like(padded) for _ in parts]
        distributed.all_gather(received, padded)
        rows = [each[: p.stop - p.start] for each, p in zip(received, parts, strict=True)]
        rows[self.number] = part
        return torch.cat(rows)

    def add_up(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Sums over the ranks; None stays None, as it is that in all of them."""
        present = [gradient for gradient in gradients if gradient is not None]
        if self.count == 1 or not present:
            return list(gradients)
        flat = torch.cat([gradient.flatten() for gradient in present])
        distributed.all_reduce(flat)
        sums = iter(torch.split(flat, [gradient.numel() for gradient in present]))
        return [None if each is None else next(sums).view_as(each) for each in gradients]

    def any(self, value: bool, device: torch.device) -> bool:
        """Whether any rank says so: all of them get the same answer."""
        if self.count == 1:
            return value
        flag = torch.tensor(float(value), device=device)
        distributed.all_reduce(flag)
        return bool(flag > 0)

    @contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The first rank does what follows, the others after it: they find it done."""
        if not self.is_first:
            distributed.barrier()
        yield
        if self.is_first and self.count > 1:
            distributed.barrier()


class _AddUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total


def add_up(values: Tensor) -> Tensor:
    """Sum of a tensor over the ranks; what each makes of it flows back to all."""
    total: Tensor = _AddUp.apply(values)  # type: ignore[no-untyped-call]
    return total


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
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
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks()
        return
    on_gpus = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    try:
        distributed.init_process_group("nccl" if on_gpus else "gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the {count} processes of this training cannot meet ({error}): start them with "
            "torchrun --nproc_per_node N train_model.py CONFIG"
        ) from error
    try:
        yield Ranks(distributed.get_rank(), count, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        distributed.destroy_process_group()
