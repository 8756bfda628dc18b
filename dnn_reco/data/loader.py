"""Batches of events as tensors, read ahead of the training loop by a thread."""

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

# So many batches ahead it is known which events come.
LOOK_AHEAD = 8

# Gives the weight of each event [B, 1].
EventWeightFunction = Callable[[EventBatch], Tensor]


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
        Gives their weights; None: all weigh the same.
    local_slice
        The events whose hits the batch has: those that this process predicts.
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
    """Batch `number` of a stream: the same for the same arguments, whenever it is asked for."""
    return to_tensors(events.read(order.batch(number, batch_size)), weight_function)


class PrefetchLoader:
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
        events: EventDataset,
        numbers: Iterable[NDArray[np.integer]],
        pin: bool = False,
        depth: int = LOOK_AHEAD,
        weight_function: EventWeightFunction | None = None,
        local_slice: slice = slice(None),
    ) -> None:
        self.seconds_waited = 0.0
        self._events, self._numbers = events, iter(numbers)
        self._pin, self._depth, self._weigh, self._own = pin, depth, weight_function, local_slice
        self._wanted: queue.SimpleQueue[NDArray[np.integer] | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[TensorBatch | Exception] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_wanted, name="batches", daemon=True)

    def __enter__(self) -> PrefetchLoader:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._wanted.put(None)  # it may be waiting for something to read
        self._thread.join()

    def __iter__(self) -> Iterator[TensorBatch]:
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
                batch = to_tensors(self._events.read(numbers, self._own), self._weigh, self._own)
                self._ready.put(batch.pinned() if self._pin else batch)
            except Exception as error:  # handed to the consumer, who raises it
                self._ready.put(error)
                return
