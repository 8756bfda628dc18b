"""Batches of events as tensors, read ahead of the training loop by a thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.data.event_dataset import Events, EventSet
from dnn_reco.data.sampling import EventOrder
from dnn_reco.nn.interface import Hits

# So many batches ahead it is known which events come.
LOOK_AHEAD = 8

# Gives the weight of each event [B, 1].
Weigh = Callable[[Events], Tensor]


@dataclass(frozen=True)
class Batch:
    """A batch of B events on one device.

    Attributes
    ----------
    hits
        Hit DOMs, untransformed: of all events, or of those alone that this process predicts.
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


def as_batch(events: Events, weigh: Weigh | None = None, own: slice = slice(None)) -> Batch:
    """Tensors of events as read from the store.

    Parameters
    ----------
    events
        Events of the batch.
    weigh
        Gives their weights; None: all weigh the same.
    own
        The events whose hits the batch shall have.
    """
    start, stop, _ = own.indices(len(events.labels))
    of_own = events.part(start, stop)
    hits = Hits(
        stop - start,
        torch.from_numpy(np.repeat(np.arange(stop - start), np.diff(of_own.offsets))),
        torch.from_numpy(of_own.dom.astype(np.int64)),
        torch.from_numpy(of_own.features),
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
    """Batches of given events, read ahead by a thread.

    Iterate over it inside a ``with`` block. `seconds_waited` tells how long the consumer has
    waited for data so far.

    The thread only reads. Which events come next is asked for by the consumer, always so many
    batches ahead: whatever `numbers` does, it does in the thread of the consumer and between the
    same two batches in every run.

    Parameters
    ----------
    events
        The data.
    numbers
        Event numbers of batch after batch, asked for `depth` batches before each is taken.
    pin
        Whether to place batches in pinned memory, for a GPU.
    depth
        How many batches to read ahead.
    weigh
        Gives the weights of the events; None: all weigh the same.
    own
        The events of each batch whose hits are read.
    """

    def __init__(
        self,
        events: EventSet,
        numbers: Iterable[NDArray[np.integer]],
        pin: bool = False,
        depth: int = LOOK_AHEAD,
        weigh: Weigh | None = None,
        own: slice = slice(None),
    ) -> None:
        self.seconds_waited = 0.0
        self._events, self._numbers = events, iter(numbers)
        self._pin, self._depth, self._weigh, self._own = pin, depth, weigh, own
        self._wanted: queue.SimpleQueue[NDArray[np.integer] | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[Batch | Exception] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_wanted, name="batches", daemon=True)

    def __enter__(self) -> PrefetchedBatches:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._wanted.put(None)  # it may be waiting for something to read
        self._thread.join()

    def __iter__(self) -> Iterator[Batch]:
        in_flight = self._ask_for(self._depth)
        while not self._stop.is_set():
            in_flight += self._ask_for(1)
            if in_flight == 0:
                return
            start = time.perf_counter()
            batch = self._ready.get()
            self.seconds_waited += time.perf_counter() - start
            in_flight -= 1
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def _ask_for(self, num_batches: int) -> int:
        """Let the thread read the next batches; returns how many there were."""
        asked = 0
        for numbers in islice(self._numbers, num_batches):
            self._wanted.put(numbers)
            asked += 1
        return asked

    def _read_wanted(self) -> None:
        while (numbers := self._wanted.get()) is not None and not self._stop.is_set():
            try:
                batch = as_batch(self._events.read(numbers, self._own), self._weigh, self._own)
                self._ready.put(batch.pinned() if self._pin else batch)
            except Exception as error:  # handed to the consumer, who raises it
                self._ready.put(error)
                return
