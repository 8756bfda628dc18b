"""Batches of events as tensors, prefetched by a thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dnn_reco.data.event_dataset import EventBatch, EventDataset
from dnn_reco.data.hit_batch import HitBatch, TensorBatch
from dnn_reco.data.sampling import EventOrder

PREFETCH_DEPTH = 8
"""Number of batches whose event numbers are fixed in advance."""

EventWeightFunction = Callable[[EventBatch], Tensor]
"""Returns the weight of each event [B, 1]."""


def to_tensors(
    events: EventBatch,
    weight_function: EventWeightFunction | None = None,
    local_slice: slice = slice(None),
) -> TensorBatch:
    """Tensors of events as read from the store.

    Parameters
    ----------
    events
        Events of the batch.
    weight_function
        Returns their weights; None: all have weight 1.
    local_slice
        The events whose hits are in the batch: those that this process predicts.
    """
    start, stop, _ = local_slice.indices(len(events))
    return TensorBatch(
        HitBatch.from_hits(events.hits.part(start, stop)),
        torch.from_numpy(events.labels),
        torch.from_numpy(events.misc),
        None if weight_function is None else weight_function(events),
    )


def read_tensors(
    events: EventDataset,
    order: EventOrder,
    number: int,
    batch_size: int,
    weight_function: EventWeightFunction | None = None,
) -> TensorBatch:
    """Batch `number` of a stream: a function of the arguments alone."""
    return to_tensors(events.read(order.batch(number, batch_size)), weight_function)


class PrefetchLoader:
    """Batches of given events, prefetched by a thread.

    Iterate over it inside a ``with`` block. `seconds_waited` is the time that the consumer has
    waited for data so far.

    The thread only reads. The consumer draws the event numbers, always `depth` batches ahead:
    side effects of `numbers` happen in the thread of the consumer, and between the same two batches
    in every run.

    Parameters
    ----------
    events
        The data.
    numbers
        Event numbers of each batch, drawn `depth` batches before it is used.
    pin
        Whether to place batches in pinned memory, for a GPU.
    depth
        Number of batches to prefetch.
    weight_function
        Returns the weights of the events; None: all have weight 1.
    local_slice
        The events of each batch whose hits are read.
    """

    def __init__(
        self,
        events: EventDataset,
        numbers: Iterable[NDArray[np.integer]],
        pin: bool = False,
        depth: int = PREFETCH_DEPTH,
        weight_function: EventWeightFunction | None = None,
        local_slice: slice = slice(None),
    ) -> None:
        self.seconds_waited = 0.0
        self._events, self._numbers = events, iter(numbers)
        self._pin, self._depth = pin, depth
        self._weight_function, self._local_slice = weight_function, local_slice
        self._requested: queue.SimpleQueue[NDArray[np.integer] | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[TensorBatch | Exception] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_requested, name="batches", daemon=True)

    def __enter__(self) -> PrefetchLoader:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._requested.put(None)  # ends a wait for the next request
        self._thread.join()

    def __iter__(self) -> Iterator[TensorBatch]:
        in_flight = self._request(self._depth)
        while not self._stop.is_set():
            in_flight += self._request(1)
            if in_flight == 0:
                return
            start = time.perf_counter()
            batch = self._ready.get()
            self.seconds_waited += time.perf_counter() - start
            in_flight -= 1
            if isinstance(batch, Exception):
                raise batch
            yield batch

    def _request(self, num_batches: int) -> int:
        """Let the thread read the next batches; returns their number."""
        count = 0
        for numbers in islice(self._numbers, num_batches):
            self._requested.put(numbers)
            count += 1
        return count

    def _read_requested(self) -> None:
        while (numbers := self._requested.get()) is not None and not self._stop.is_set():
            try:
                events = self._events.read(numbers, self._local_slice)
                batch = to_tensors(events, self._weight_function, self._local_slice)
                self._ready.put(batch.pinned() if self._pin else batch)
            except Exception as error:  # raised in the consumer's thread
                self._ready.put(error)
                return
