"""Batches of events as tensors: the hits that networks read, and their true labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.data.hits import Hits


@dataclass(frozen=True)
class HitBatch:
    """The hit DOMs of a batch of events, untransformed, on one device.

    Attributes
    ----------
    num_events
        Number of events B of the batch; events without any hit are allowed.
    event
        Which event of the batch each hit belongs to [k], int64, 0 … B - 1, ascending.
    dom
        DOM index of each hit [k], int64, 0 … 5159.
    features
        Input features of each hit DOM [k, F], as in the data file (times in ns, relative to the
        event's time offset).
    counts
        Number of hits of each event [B], in the memory of the CPU: who needs it there does not wait
        for a GPU. None: not known there.
    """

    num_events: int
    event: Tensor
    dom: Tensor
    features: Tensor
    counts: NDArray[np.int64] | None = None

    @classmethod
    def from_hits(cls, hits: Hits) -> HitBatch:
        """Tensors of hits; the features share their memory."""
        return cls(
            hits.num_events,
            torch.from_numpy(hits.event),
            torch.from_numpy(hits.dom.astype(np.int64)),
            torch.from_numpy(hits.features),
            np.diff(hits.offsets),
        )

    def to(self, device: torch.device, non_blocking: bool = False) -> HitBatch:
        """The same hits on another device."""
        return _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def with_counts(self) -> HitBatch:
        """The same hits, with their `counts`; waits for a GPU if these are not known."""
        if self.counts is not None:
            return self
        if self.event.device.type == "cpu" and self.is_in_order:
            return replace(self, counts=np.diff(self.first_hits()))
        counts = count_hits(self.event, self.num_events).cpu().numpy()
        return replace(self, counts=counts)

    @property
    def is_in_order(self) -> bool:
        """Whether the hits, in the memory of the CPU, are in the order of the batch's events."""
        event = self.event.numpy()
        in_order = bool((event[1:] >= event[:-1]).all())
        return in_order and (len(event) == 0 or 0 <= event[0] <= event[-1] < self.num_events)

    def first_hits(self) -> NDArray[np.int64]:
        """Number of the first hit of each event, and of all hits [B + 1], if they are in order."""
        return np.searchsorted(self.event.numpy(), np.arange(self.num_events + 1))

    def has_hits(self) -> Tensor:
        """Whether each event has any hit [B], bool."""
        if self.counts is not None and self.event.device.type == "cpu":
            return torch.from_numpy(self.counts > 0)
        return count_hits(self.event, self.num_events) > 0

    def select(self, hits: Tensor, counts: NDArray[np.int64] | None) -> HitBatch:
        """Some of the hits, by their numbers in ascending order.

        Parameters
        ----------
        hits
            Which hits.
        counts
            Number of hits of each event that these are [B], if it is known.
        """
        return HitBatch(
            self.num_events, self.event[hits], self.dom[hits], self.features[hits], counts
        )


def count_hits(event: Tensor, num_events: int) -> Tensor:
    """Number of hits of each event [B], from the event of each hit [k]."""
    # not bincount: its output has a size that depends on the data, which ONNX graphs cannot have
    return event.new_zeros(num_events).index_add_(0, event, torch.ones_like(event))


@dataclass(frozen=True)
class TensorBatch:
    """A batch of B events with their true labels, on one device.

    Attributes
    ----------
    hits
        Hit DOMs: of all events, or of the local slice of a batch that several processes share.
    labels, misc
        Labels [B, L] and misc data [B, M], untransformed.
    event_weights
        Weight of each event in the loss [B, 1]; None: all have weight 1.
    """

    hits: HitBatch
    labels: Tensor
    misc: Tensor
    event_weights: Tensor | None = None

    def to(self, device: torch.device) -> TensorBatch:
        """The same batch on another device; the copy from pinned memory is asynchronous."""
        return _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> TensorBatch:
        """The same batch in page-locked memory, from which a GPU copies asynchronously."""
        return _map_tensors(self, Tensor.pin_memory)


_Batch = TypeVar("_Batch", HitBatch, TensorBatch)


def _map_tensors(batch: _Batch, function: Callable[[Tensor], Tensor]) -> _Batch:
    """A copy with a function applied to each tensor."""

    def mapped(value: Any) -> Any:
        if isinstance(value, HitBatch):
            return _map_tensors(value, function)
        return function(value) if isinstance(value, Tensor) else value

    return type(batch)(*(mapped(getattr(batch, field.name)) for field in fields(batch)))
