"""Which events come next: the order of events as a pure function of seed, stream and position.

A *stream* is an endless sequence of event numbers: epoch after epoch, each epoch a fresh
permutation of all events. Nothing is kept between calls, so any batch can be computed at any
time, training resumes exactly, and any number of devices can each take a slice of the same batch.
The permutation is computed element by element (a Feistel network), so that it costs no memory
however many events there are.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 10
# Places computed together: for fewer, the time goes into the calls and not into the numbers.
_PLACES_AT_ONCE = 4096


def stream_key(seed: int, *names: str | int) -> int:
    """A 64-bit key for one stream of random numbers, different for each combination of names."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def permute(positions: NDArray[np.integer], size: int, key: int) -> NDArray[np.int64]:
    """Places of `positions` under a pseudo-random permutation of 0 … size - 1.

    A Feistel network (Luby & Rackoff 1988) permutes the cells of a nearly square table that has a
    few more cells than there are numbers: row and column are shifted in turn by a random function
    of each other. Numbers that leave the range are permuted again until they are inside (Black &
    Rogaway 2002: generalized Feistel network, cycle walking).

    Parameters
    ----------
    positions
        Numbers in 0 … size - 1, any shape.
    size
        How many there are to permute.
    key
        Which of the permutations to use, 64 bits.
    """
    num_rows = math.isqrt(max(size - 1, 0)) + 1
    rows, columns = np.uint64(num_rows), np.uint64(-(-size // num_rows))
    keys = [np.uint64(stream_key(key, number)) for number in range(_ROUNDS)]
    values = np.array(positions, dtype=np.uint64)
    outside = np.ones(values.shape, dtype=bool)
    while outside.any():
        row, column = np.divmod(values[outside], columns)
        for row_key, column_key in zip(keys[::2], keys[1::2], strict=True):
            row = (row + _mix(column ^ row_key)) % rows
            column = (column + _mix(row ^ column_key)) % columns
        values[outside] = row * columns + column
        outside = values >= np.uint64(size)
    return values.astype(np.int64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of SplitMix64 (Steele, Lea & Flood 2014): every bit moves every other; 63 bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (values ^ (values >> np.uint64(31))) >> np.uint64(1)  # room for a sum with another


@dataclass(frozen=True)
class EventOrder:
    """The order in which a set of events is drawn, epoch after epoch.

    Attributes
    ----------
    events_per_shard
        Number of events of each shard (source file) [S]; events are numbered through the shards.
    seed
        Seed of the run.
    stream
        Name of the stream, such as "training": different names give unrelated orders.
    window
        0 shuffles all events together. K > 0 shuffles the shards, then the events within each
        window of K successive shards: nearly as random, and the reads stay close together, for
        data sets far larger than the memory.
    """

    events_per_shard: NDArray[np.int64]
    seed: int
    stream: str
    window: int = 0

    @property
    def num_events(self) -> int:
        """Number of events of an epoch."""
        return int(self.events_per_shard.sum())

    def batch(self, number: int, batch_size: int) -> NDArray[np.int64]:
        """Event numbers of batch `number` (0, 1, …) of the stream; always `batch_size` of them.

        A batch may run over the end of an epoch, and holds an event more than once only where there
        are fewer events than that.
        """
        return self._part(number * batch_size, batch_size)

    def batches(self, first: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
        """Batches first, first + 1, … of the stream, without end."""
        at_once = -(-_PLACES_AT_ONCE // batch_size)
        for number in count(first, at_once):
            part = self._part(number * batch_size, at_once * batch_size)
            yield from part.reshape(at_once, batch_size)

    def _part(self, start: int, size: int) -> NDArray[np.int64]:
        """Event numbers at the places start … start + size - 1 of the stream."""
        epochs, places = np.divmod(np.arange(start, start + size), self.num_events)
        events = np.empty(size, dtype=np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            events[chosen] = self._events(int(epoch), places[chosen])
        return events

    def _events(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        key = stream_key(self.seed, self.stream, epoch)
        if self.window == 0:
            return permute(places, self.num_events, key)
        return self._events_by_window(key, places)

    def _events_by_window(self, key: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        num_shards = len(self.events_per_shard)
        first_event = np.concatenate([[0], np.cumsum(self.events_per_shard)[:-1]])
        shards = permute(np.arange(num_shards), num_shards, key)
        ends = np.cumsum(self.events_per_shard[shards])
        starts = ends - self.events_per_shard[shards]
        shard_place = np.searchsorted(ends, places, side="right")
        events = np.empty_like(places)
        for window in np.unique(shard_place // self.window):
            chosen = shard_place // self.window == window
            first = window * self.window
            last = min(first + self.window, num_shards) - 1
            size = int(ends[last] - starts[first])
            inside = starts[first] + permute(
                places[chosen] - starts[first], size, stream_key(key, int(window))
            )
            place = np.searchsorted(ends, inside, side="right")
            events[chosen] = first_event[shards[place]] + inside - starts[place]
        return events
