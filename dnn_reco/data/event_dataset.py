"""Reading events from the store, by number and in any order.

Events are read with plain file reads of just their bytes, straight into the arrays of the batch:
the memory in use does not depend on how many events there are.
"""

from __future__ import annotations

import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.hits import Hits
from dnn_reco.data.records import ColumnNames, hits_checksums, record_dtype, records_checksums
from dnn_reco.data.sampling import EventOrder, FileSampling
from dnn_reco.data.store import EventStore, Shard, discard
from dnn_reco.errors import DataError

# Part of the files that the process may open (on clusters often 1024): training and validation have
# a set each, and others need some, too.
_SHARE_OF_OPEN_FILES = 1 / 4
_MAX_OPEN_FILES = 3000
_NO_WAIT = getattr(os, "RWF_NOWAIT", 0)  # Linux: read only what is in memory already


@dataclass(frozen=True)
class EventBatch:
    """Some events, with their true labels.

    Attributes
    ----------
    hits
        Their hits.
    labels, misc
        Labels [n, L] and misc data [n, M], times relative to the time offset.
    time_offset
        Time offset of each event [n], ns.
    ids
        Event ids [n], structured.
    """

    hits: Hits
    labels: NDArray[np.floating]
    misc: NDArray[np.floating]
    time_offset: NDArray[np.float64]
    ids: NDArray[np.void]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> EventBatch:
        """Events start … stop - 1 of these, as views."""
        rows = slice(start, stop)
        return EventBatch(
            self.hits.part(start, stop),
            self.labels[rows],
            self.misc[rows],
            self.time_offset[rows],
            self.ids[rows],
        )


class EventDataset:
    """The events of a list of shards, numbered through: a data set that is read by event number.

    Attributes
    ----------
    shards
        The shards that hold the events.
    empty_shards
        Shards of which no event is used.
    names
        Names of labels and misc values.
    """

    def __init__(
        self,
        store: EventStore,
        shards: Sequence[Shard],
        sampling: FileSampling = FileSampling(),  # noqa: B008 - frozen
    ) -> None:
        self._sampling = sampling
        self.shards = tuple(shard for shard in shards if shard.num_events > 0)
        self.empty_shards = tuple(shard for shard in shards if shard.num_events == 0)
        if not self.shards:
            raise DataError("no events are left after the filters")
        self.names: ColumnNames = self.shards[0].names
        self.events_per_shard = np.array([shard.num_events for shard in self.shards])
        self._ends = np.cumsum(self.events_per_shard)
        self._record_dtype = record_dtype(self.names, store.records.dtype)
        self._feature_dtype = np.dtype(store.hits.dtype)
        self._num_bins = store.hits.num_bins
        self._files = _OpenFiles(self.shards, max_open_files())
        self._verified = np.zeros(len(self), dtype=bool)  # whose hits fit their checksum
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def recorded_settings(self) -> list[tuple[Path, DataSettings | None]]:
        """The files, and the settings that their features were made with, where recorded."""
        shards = (*self.shards, *self.empty_shards)
        return [(shard.source, shard.data_settings) for shard in shards]

    def order(self, seed: int, stream: str, window: int = 0) -> EventOrder:
        """The order in which a stream draws events; see :class:`EventOrder`.

        Files are visited, and their events used, as the set's sampling defines.
        """
        visits = np.array([self._sampling.visits_of(shard.source) for shard in self.shards])
        return EventOrder(
            self.events_per_shard,
            seed,
            stream,
            window,
            visits if (visits != 1).any() else None,
            self._sampling.max_events,
        )

    def close(self) -> None:
        """Close all files; reading opens them again."""
        with self._lock:
            self._files.close()

    def read(self, numbers: NDArray[np.integer], hits_of: slice = slice(None)) -> EventBatch:
        """Read events by number (0 … len - 1), in the given order.

        Parameters
        ----------
        numbers
            Event numbers [n].
        hits_of
            Events whose hits are read; the others are returned without hits.

        Raises
        ------
        DataError
            If the store was changed or damaged, or cannot be read.
        IndexError
            If a number is out of range.
        """
        shards, records = self._read_records(numbers)
        num_hits = np.zeros(len(records), dtype=np.int64)
        num_hits[hits_of] = (records["stop"] - records["start"])[hits_of]
        offsets = np.concatenate([[0], np.cumsum(num_hits)])
        dom = np.empty(offsets[-1], dtype=np.uint16)
        features = np.empty((offsets[-1], self._num_bins), dtype=self._feature_dtype)
        with self._lock:
            self._fill({"dom": dom, "features": features}, shards, records["start"], offsets)
        self._verify_hits(numbers, shards, records["hits_checksum"], Hits(offsets, dom, features))
        return EventBatch(
            Hits(offsets, dom, features),
            np.ascontiguousarray(records["labels"]),
            np.ascontiguousarray(records["misc"]),
            np.ascontiguousarray(records["time_offset"]),
            records["id"],
        )

    def read_without_hits(self) -> EventBatch:
        """All events, without their hits."""
        return self.read(np.arange(len(self)), hits_of=slice(0, 0))

    def read_labels(self, numbers: NDArray[np.integer]) -> NDArray[np.floating]:
        """Labels [n, L] of events by number, as :meth:`read` gives them, without the hits."""
        return np.ascontiguousarray(self._read_records(numbers)[1]["labels"])

    def num_hits(self, numbers: NDArray[np.integer]) -> NDArray[np.int64]:
        """Number of hit DOMs [n] of events by number."""
        records = self._read_records(numbers)[1]
        return np.asarray(records["stop"] - records["start"], dtype=np.int64)

    def num_stored_hits(self) -> int:
        """Number of hits in the files of the store, those of dropped events among them."""
        size = sum(_path(shard, "dom").stat().st_size for shard in self.shards)
        return size // np.dtype(np.uint16).itemsize

    def _read_records(self, numbers: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Shard [n] and record [n] of events by number."""
        numbers = np.asarray(numbers)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"events are numbered 0 … {len(self) - 1}")
        shards = np.searchsorted(self._ends, numbers, side="right")
        rows = numbers - (self._ends[shards] - self.events_per_shard[shards])
        records = np.empty(len(rows), dtype=self._record_dtype)
        with self._lock:
            self._fill({"records": records}, shards, rows, np.arange(len(rows) + 1))
        changed = np.flatnonzero(records["checksum"] != records_checksums(records))
        if len(changed):
            raise self._damaged(int(shards[changed[0]]), "records")
        return shards, records

    def _verify_hits(
        self,
        numbers: NDArray[np.integer],
        shards: NDArray[np.int64],
        checksums: NDArray[np.uint32],
        hits: Hits,
    ) -> None:
        """Compare the hits of events that are read for the first time with their checksums."""
        new = np.flatnonzero((np.diff(hits.offsets) > 0) & ~self._verified[numbers])
        changed = new[hits_checksums(hits, new) != checksums[new]]
        if len(changed):
            raise self._damaged(int(shards[changed[0]]), "features")
        self._verified[numbers[new]] = True

    def _damaged(self, number: int, kind: str) -> DataError:
        """The error for a damaged file of a shard, which is built again at the next start."""
        shard = self.shards[number]
        remedy = (
            "Run the command again to rebuild this part"
            if discard(shard, "records" if kind == "records" else "hits")
            else f"Delete the folder '{shard.hits_folder.parent.parent}' and run the command again"
        )
        return DataError(
            f"the event store holds '{shard.source}' with unexpected content in "
            f"'{_path(shard, kind)}': the file was changed or its disk is damaged. {remedy}"
        )

    def _fill(
        self,
        arrays: Mapping[str, NDArray[Any]],
        shards: NDArray[np.int64],
        starts: NDArray[np.int64],
        offsets: NDArray[np.int64],
    ) -> None:
        """Fill rows offsets[i] … offsets[i + 1] of arrays from row starts[i] of shard i's files.

        What is not in memory is first requested as a whole: read one after the other, each part
        would cost the latency of the disk or of the network.
        """
        later = []
        order = np.argsort(shards, kind="stable").tolist()
        for kind, array in arrays.items():
            if array.size == 0:
                continue
            view = memoryview(array.view(np.uint8).reshape(-1).data)
            row_size = len(view) // len(array)
            begins = (offsets * row_size).tolist()
            positions = (starts * row_size).tolist()
            shard = -1
            for i in order:
                buffer = view[begins[i] : begins[i + 1]]
                if not buffer:
                    continue
                if shards[i] != shard:
                    shard = int(shards[i])
                    file = self._files.descriptor(shard, kind)
                if not _read(file, buffer, positions[i], _NO_WAIT):
                    _request(file, len(buffer), positions[i])
                    later.append((shard, kind, buffer, positions[i]))
        for shard, kind, buffer, position in later:
            file = self._files.descriptor(shard, kind)
            try:
                complete = _read(file, buffer, position)
            except OSError as error:
                path = _path(self.shards[shard], kind)
                raise DataError(
                    f"'{path}' of the event store cannot be read: {error.strerror}"
                ) from error
            if not complete:
                raise self._damaged(shard, kind)


def _read(file: int, buffer: memoryview, position: int, flags: int = 0) -> bool:
    """Whether a part of a file was read, completely."""
    try:
        return os.preadv(file, [buffer], position, flags) == len(buffer)
    except OSError:
        if flags == 0:
            raise
        return False  # not in memory, or in a file system that cannot answer


def _request(file: int, size: int, position: int) -> None:
    """Let the system read a part of a file into memory, without waiting for it."""
    if hasattr(os, "posix_fadvise"):  # not on macOS
        os.posix_fadvise(file, position, size, os.POSIX_FADV_WILLNEED)


def max_open_files() -> int:
    """Maximum number of files that a set of events keeps open."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return _MAX_OPEN_FILES
    return max(1, min(_MAX_OPEN_FILES, int(allowed * _SHARE_OF_OPEN_FILES)))


def _path(shard: Shard, kind: str) -> Path:
    return shard.records_file if kind == "records" else shard.hits_folder / f"{kind}.bin"


class _OpenFiles:
    """The files of the shards read last, kept open; closed with the object."""

    def __init__(self, shards: Sequence[Shard], limit: int) -> None:
        self._shards = shards
        self._limit = limit
        self._open: OrderedDict[tuple[int, str], int] = OrderedDict()

    def __del__(self) -> None:
        self.close()

    def descriptor(self, shard: int, kind: str) -> int:
        """Open file of a shard: its "records", "dom" or "features"."""
        file = self._open.get((shard, kind))
        if file is None:
            file = self._add(shard, kind)
        else:
            self._open.move_to_end((shard, kind))
        return file

    def _add(self, number: int, kind: str) -> int:
        if len(self._open) >= self._limit:
            os.close(self._open.popitem(last=False)[1])
        shard = self._shards[number]
        path = _path(shard, kind)
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise DataError(
                f"the event store lost a part of '{shard.source}' ('{path}'): was it deleted "
                "while in use? Run the command again to rebuild it"
            ) from error
        except OSError as error:
            raise DataError(
                f"'{path}' of the event store cannot be opened: {error.strerror}"
            ) from error
        self._open[number, kind] = file
        return file

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
