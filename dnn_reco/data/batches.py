"""Batches of events as tensors, read ahead of the training loop by a thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dnn_reco.data.event_set import Events, EventSet
from dnn_reco.data.sampling import EventOrder
from dnn_reco.nn.interface import Hits

# Gives the weight of each event [B, 1].
Weigh = Callable[[Events], Tensor]


@dataclass(frozen=True)
class Batch:
    """A batch of B events on one device.

    Attributes
    ----------
    hits
        Hit DOMs, untransformed.
    labels, misc
        Labels [B, L] and misc data [B, M], untransformed.
    event_weights
        Weight of each event in the loss [B, 1]; None where all weigh the same.
    """

    hits: Hits
    labels: Tensor
    misc: Tensor
    event_weights: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device; from pinned memory without waiting."""
        return Batch(
            self.hits.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.misc.to(device, non_blocking=True),
            None
            if self.event_weights is None
            else self.event_weights.to(device, non_blocking=True),
        )

    def pinned(self) -> Batch:
        """The same batch in memory from which a GPU copies on its own."""
        hits = self.hits
        return Batch(
            Hits(
                hits.num_events,
                hits.event.pin_memory(),
                hits.dom.pin_memory(),
                hits.features.pin_memory(),
            ),
            self.labels.pin_memory(),
            self.misc.pin_memory(),
            None if self.event_weights is None else self.event_weights.pin_memory(),
        )


def as_batch(events: Events, weigh: Weigh | None = None) -> Batch:
    """Tensors of events as read from the store, with their weights if `weigh` gives any."""
    num_events = len(events.labels)
    counts = np.diff(events.offsets)
    hits = Hits(
        num_events,
        torch.from_numpy(np.repeat(np.arange(num_events), counts)),
        torch.from_numpy(events.dom.astype(np.int64)),
        torch.from_numpy(events.features),
    )
    return Batch(
        hits,
        torch.from_numpy(events.labels),
        torch.from_numpy(events.misc),
        None if weigh is None else weigh(events),
    )


def read_batch(
    events: EventSet,
    order: EventOrder,
    number: int,
    batch_size: int,
    weigh: Weigh | None = None,
) -> Batch:
    """Batch `number` of a stream: the same for the same arguments, whenever it is asked for."""
    return as_batch(events.read(order.batch(number, batch_size)), weigh)


class PrefetchedBatches:
    """Batches first, first + 1, … of a stream, read ahead by a thread.

    Iterate over it inside a ``with`` block. `seconds_waited` tells how long the consumer has
    waited for data so far.

    Parameters
    ----------
    events, order, batch_size
        The stream, as in :func:`read_batch`.
    first
        Number of the first batch.
    pin
        Whether to place batches in pinned memory, for a GPU.
    depth
        How many batches to read ahead.
    weigh
        Gives the weights of the events; None: all weigh the same.
    """

    def __init__(
        self,
        events: EventSet,
        order: EventOrder,
        batch_size: int,
        first: int,
        pin: bool = False,
        depth: int = 8,
        weigh: Weigh | None = None,
    ) -> None:
        self.seconds_waited = 0.0
        self._events, self._order, self._batch_size = events, order, batch_size
        self._first = first
        self._pin = pin
        self._weigh = weigh
        self._ready: queue.Queue[Batch | Exception] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_ahead, name="batches", daemon=True)

    def __enter__(self) -> PrefetchedBatches:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        while self._thread.is_alive():  # it may be waiting for room in the queue
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue

    def __iter__(self) -> Iterator[Batch]:
        while not self._stop.is_set():
            start = time.perf_counter()
            batch = self._ready.get()
            self.seconds_waited += time.perf_counter() - start
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def _read_ahead(self) -> None:
        number = self._first
        while not self._stop.is_set():
            try:
                batch = read_batch(self._events, self._order, number, self._batch_size, self._weigh)
                self._ready.put(batch.pinned() if self._pin else batch)
            except Exception as error:  # handed to the consumer, who raises it
                self._ready.put(error)
                return
            number += 1
