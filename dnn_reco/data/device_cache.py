"""All events of a set in the memory of a device, where batches are assembled."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.hit_batch import HitBatch, TensorBatch
from dnn_reco.data.loader import PREFETCH_DEPTH, EventWeightFunction

_EVENTS_PER_READ = 10_000
_DOM_TYPE = torch.int16  # up to 5159


class DeviceEvents:
    """All events of a set, in the memory of a device.

    Parameters
    ----------
    events
        The set.
    device
        Device that holds them.
    """

    def __init__(self, events: EventDataset, device: torch.device) -> None:
        self.events = events
        sample = events.read(np.arange(1))

        def empty(num_rows: int, like: NDArray[np.generic]) -> torch.Tensor:
            kind = torch.from_numpy(like).dtype
            return torch.empty((num_rows, like.shape[1]), dtype=kind, device=device)

        max_hits = events.num_stored_hits()
        self._dom = torch.empty(max_hits, dtype=_DOM_TYPE, device=device)
        self._features = empty(max_hits, sample.hits.features)
        self._labels = empty(len(events), sample.labels)
        self._misc = empty(len(events), sample.misc)
        self._offsets = np.zeros(len(events) + 1, dtype=np.int64)
        for start in range(0, len(events), _EVENTS_PER_READ):
            rows = slice(start, min(start + _EVENTS_PER_READ, len(events)))
            part = events.read(np.arange(rows.start, rows.stop))
            self._offsets[start : rows.stop + 1] = self._offsets[start] + part.hits.offsets
            hits = slice(self._offsets[start], self._offsets[rows.stop])
            self._dom[hits] = torch.from_numpy(part.hits.dom.astype(np.int16)).to(device)
            self._features[hits] = torch.from_numpy(part.hits.features).to(device)
            self._labels[rows] = torch.from_numpy(part.labels).to(device)
            self._misc[rows] = torch.from_numpy(part.misc).to(device)

    def batch(
        self,
        numbers: NDArray[np.integer],
        weight_function: EventWeightFunction | None = None,
        local_slice: slice = slice(None),
    ) -> TensorBatch:
        """Events by number: the same batch as :func:`dnn_reco.data.loader.to_tensors` returns."""
        device = self._labels.device
        starts, stops = self._offsets[numbers[local_slice]], self._offsets[numbers[local_slice] + 1]
        counts = stops - starts
        num_events, num_hits = len(counts), int(counts.sum())
        # distance from the hits of each event in the batch to those in the memory
        shifts = starts - (np.cumsum(counts) - counts)
        index = torch.from_numpy(np.concatenate([numbers, counts, shifts]).astype(np.int64))
        index = _without_waiting(index, device)
        rows, counts_there, shifts_there = torch.split(
            index, [len(numbers), num_events, num_events]
        )
        event = torch.repeat_interleave(
            torch.arange(num_events, device=device), counts_there, output_size=num_hits
        )
        hit = torch.arange(num_hits, device=device) + shifts_there[event]
        hits = HitBatch(num_events, event, self._dom[hit].long(), self._features[hit], counts)
        weights = None
        if weight_function is not None:
            weights = weight_function(self.events.read(numbers, hits_of=slice(0)))
            weights = _without_waiting(weights, device)
        return TensorBatch(hits, self._labels[rows], self._misc[rows], weights)


def _without_waiting(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Values on a device; the program does not wait until a GPU has read them."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


class DeviceLoader:
    """Batches of given events from the memory of the device.

    Used as :class:`dnn_reco.data.loader.PrefetchLoader`; the event numbers are drawn as far ahead.
    """

    seconds_waited = 0.0

    def __init__(
        self,
        events: DeviceEvents,
        numbers: Iterable[NDArray[np.integer]],
        weight_function: EventWeightFunction | None = None,
        local_slice: slice = slice(None),
    ) -> None:
        self._events, self._numbers = events, iter(numbers)
        self._weight_function, self._local_slice = weight_function, local_slice

    def __enter__(self) -> DeviceLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def __iter__(self) -> Iterator[TensorBatch]:
        ahead = deque(islice(self._numbers, PREFETCH_DEPTH))
        while True:
            ahead.extend(islice(self._numbers, 1))
            if not ahead:
                return
            numbers = ahead.popleft()
            yield self._events.batch(numbers, self._weight_function, self._local_slice)


def size_in_memory(events: EventDataset) -> int:
    """Bytes of the events of a set in memory as :class:`DeviceEvents`."""
    sample = events.read(np.arange(1))
    features, labels, misc = (
        int(columns.shape[1] * columns.itemsize)
        for columns in (sample.hits.features, sample.labels, sample.misc)
    )
    bytes_per_hit = _DOM_TYPE.itemsize + features
    num_hits = events.num_stored_hits()
    return num_hits * bytes_per_hit + len(events) * (labels + misc)
