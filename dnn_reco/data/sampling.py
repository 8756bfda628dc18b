"""Which events come next: the order of events as a pure function of seed, stream and position.

A *stream* is an endless sequence of event numbers: epoch after epoch, each epoch a fresh
permutation of all events. Nothing is kept between calls, so any batch can be computed at any
time, training resumes exactly, and any number of devices can each take a slice of the same batch.
The permutation is computed element by element (a Feistel network), so that it costs no memory
however many events there are.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 10
# Places computed together: for fewer, the time goes into the calls and not into the numbers.
_PLACES_AT_ONCE = 4096


_Unsigned = Any  # uint64, one number or an array of them


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
        values[outside] = _shifted(row, column, rows, columns, keys)
        outside = values >= np.uint64(size)
    return values.astype(np.int64)


def permute_each(
    positions: NDArray[np.integer], sizes: NDArray[np.integer], keys: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """As :func:`permute`, but with another size and key (63 bits) for each position; all [n]."""
    limits = sizes.astype(np.uint64)
    rows = np.sqrt(limits).astype(np.uint64) + np.uint64(1)
    columns = (limits + rows - np.uint64(1)) // rows
    values = np.array(positions, dtype=np.uint64)
    outside = np.arange(len(values))
    while len(outside):
        row, column = np.divmod(values[outside], columns[outside])
        round_keys = [mix(keys[outside] + np.uint64(number)) for number in range(_ROUNDS)]
        values[outside] = _shifted(row, column, rows[outside], columns[outside], round_keys)
        outside = outside[values[outside] >= limits[outside]]
    return values.astype(np.int64)


def _shifted(
    row: NDArray[np.uint64],
    column: NDArray[np.uint64],
    rows: _Unsigned,
    columns: _Unsigned,
    keys: Sequence[_Unsigned],
) -> NDArray[np.uint64]:
    """Cells of a table after all rounds of the Feistel network."""
    for row_key, column_key in zip(keys[::2], keys[1::2], strict=True):
        row = (row + mix(column ^ row_key)) % rows
        column = (column + mix(row ^ column_key)) % columns
    cells: NDArray[np.uint64] = row * columns + column
    return cells


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of SplitMix64 (Steele, Lea & Flood 2014): every bit moves every other; 63 bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (values ^ (values >> np.uint64(31))) >> np.uint64(1)  # room for a sum with another


@dataclass(frozen=True)
class FileSampling:
    """How often each file is visited in an epoch, and how many of its events a visit uses.

    Attributes
    ----------
    visits
        Number of visits of a file, where it is not 1.
    max_events
        Events that are used of each visit at most, chosen again each time; None: all.
    """

    visits: Mapping[Path, int] = field(default_factory=dict)
    max_events: int | None = None

    def visits_of(self, file: Path) -> int:
        """Number of visits of a file in an epoch."""
        return self.visits.get(file, 1)

    def events_in_epoch(self, file: Path, num_events: int) -> int:
        """How many events of a file with `num_events` an epoch uses."""
        return self.visits_of(file) * min(num_events, self.max_events or num_events)


@dataclass(frozen=True)
class EventOrder:
    """The order in which a set of events is drawn, epoch after epoch.

    An epoch *visits* each shard (source file) once, or as often as `visits` says.

    Attributes
    ----------
    events_per_shard
        Number of events of each shard [S]; events are numbered through the shards.
    seed
        Seed of the run.
    stream
        Name of the stream, such as "training": different names give unrelated orders.
    window
        0 shuffles all events together. K > 0 shuffles the visits, then the events within each
        window of K successive visits: nearly as random, and the reads stay close together, for
        data sets far larger than the memory.
    visits
        How often each shard is visited in an epoch [S]; None: once.
    max_per_visit
        Events that are used of each visit at most, other random ones each time; None: all.
    """

    events_per_shard: NDArray[np.int64]
    seed: int
    stream: str
    window: int = 0
    visits: NDArray[np.int64] | None = None
    max_per_visit: int | None = None

    @property
    def num_events(self) -> int:
        """Number of events of an epoch."""
        return int(self.events_per_visit.sum())

    @cached_property
    def events_per_visit(self) -> NDArray[np.int64]:
        """Number of events that are used of each visit of an epoch [V]."""
        available = self.events_per_shard[self._shards_visited]
        return (
            available if self.max_per_visit is None else np.minimum(available, self.max_per_visit)
        )

    @cached_property
    def _shards_visited(self) -> NDArray[np.int64]:
        """Shard of each visit [V]."""
        shards = np.arange(len(self.events_per_shard))
        return shards if self.visits is None else np.repeat(shards, self.visits)

    def batch(self, number: int, batch_size: int) -> NDArray[np.int64]:
        """Event numbers of batch `number` (0, 1, …) of the stream; always `batch_size` of them.

        A batch may run over the end of an epoch, and holds an event more than once only where there
        are fewer events than that, or shards are visited several times.
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
            slots = permute(places, self.num_events, key)
        else:
            slots = self._slots_by_window(key, places)
        if self.visits is None and self.max_per_visit is None:
            return slots
        return self._events_of_slots(key, slots)

    def _events_of_slots(self, key: int, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Events by slot: the slots of an epoch are numbered through its visits.

        Each visit takes the first events of a random permutation of its shard.
        """
        ends = np.cumsum(self.events_per_visit)
        visit = np.searchsorted(ends, slots, side="right")
        inside = slots - (ends - self.events_per_visit)[visit]
        shard = self._shards_visited[visit]
        if self.max_per_visit is not None:
            visit_keys = mix(visit.astype(np.uint64) ^ np.uint64(stream_key(key, "visits")))
            inside = permute_each(inside, self.events_per_shard[shard], visit_keys)
        first_event = np.cumsum(self.events_per_shard) - self.events_per_shard
        events: NDArray[np.int64] = first_event[shard] + inside
        return events

    def _slots_by_window(self, key: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        sizes = self.events_per_visit
        num_visits = len(sizes)
        first_slot = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        visits = permute(np.arange(num_visits), num_visits, key)
        ends = np.cumsum(sizes[visits])
        starts = ends - sizes[visits]
        visit_place = np.searchsorted(ends, places, side="right")
        slots = np.empty_like(places)
        for window in np.unique(visit_place // self.window):
            chosen = visit_place // self.window == window
            first = window * self.window
            last = min(first + self.window, num_visits) - 1
            size = int(ends[last] - starts[first])
            inside = starts[first] + permute(
                places[chosen] - starts[first], size, stream_key(key, int(window))
            )
            place = np.searchsorted(ends, inside, side="right")
            slots[chosen] = first_slot[visits[place]] + inside - starts[place]
        return slots
