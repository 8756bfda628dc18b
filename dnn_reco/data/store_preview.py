"""Preview of a data set whose event store is incomplete: what is stored, what is to be built."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dnn_reco.data.build import missing_files, num_workers, open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.sampling import FileSampling
from dnn_reco.data.store import EventStore, shard_size
from dnn_reco.files import file_size

# Files that are built to estimate size and time of the others.
_MAX_FILES = 8
_MAX_BYTES = 200e6


@dataclass(frozen=True)
class StoredAmount:
    """An amount of data in the event store.

    Attributes
    ----------
    files, events
        Their numbers.
    size
        Bytes in the store.
    seconds
        Time that building takes.
    """

    files: int
    events: int
    size: int
    seconds: float = 0.0

    def __add__(self, other: StoredAmount) -> StoredAmount:
        return StoredAmount(
            self.files + other.files,
            self.events + other.events,
            self.size + other.size,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class StorePreview:
    """What the store holds of a data set, and an estimate of the rest.

    Attributes
    ----------
    events
        The events of the files that are stored.
    built
        Their amount.
    to_build
        Amount of the missing files, estimated from a sample of them.
    workers
        Worker processes that will build these; 0: this process does.
    events_in_epoch
        Number of events that an epoch of the complete data set uses.
    """

    events: EventDataset
    built: StoredAmount
    to_build: StoredAmount
    workers: int
    events_in_epoch: int

    @property
    def whole(self) -> StoredAmount:
        """Amount of the complete data set."""
        return self.built + self.to_build


def preview_store(
    store: EventStore,
    sources: Sequence[Path],
    num_jobs: int,
    sampling: FileSampling = FileSampling(),  # noqa: B008 - frozen
) -> StorePreview:
    """Open the events that are stored; of the missing files, build a few.

    Parameters
    ----------
    store, sources, sampling
        As for :func:`dnn_reco.data.build.open_events`.
    num_jobs
        Number of worker processes at most that will build the rest.

    Raises
    ------
    ConfigError, DataError
        As :func:`dnn_reco.data.build.open_events`.
    """
    missing = missing_files(store, sources)
    sample = choose_sample(missing, [file_size(path) for path in missing])
    rest = set(missing) - set(sample)
    start = time.perf_counter()
    stored = [path for path in sources if path not in rest]
    events = open_events(store, stored, num_jobs=1, sampling=sampling)
    seconds = time.perf_counter() - start
    sampled = StoredAmount(
        len(sample),
        sum(shard.num_events for shard in events.shards if shard.source in sample),
        sum(shard_size(shard) for shard in events.shards if shard.source in sample),
        seconds,
    )
    to_build = StoredAmount(0, 0, 0)
    workers = 0
    in_epoch = sum(sampling.events_in_epoch(s.source, s.num_events) for s in events.shards)
    if rest:
        workers = num_workers(list(rest), num_jobs)
        sample_size = max(1, sum(map(file_size, sample)))
        ratio = sum(map(file_size, rest)) / sample_size
        per_byte = sampled.events / sample_size
        in_epoch += sum(
            sampling.events_in_epoch(path, round(per_byte * file_size(path))) for path in rest
        )
        to_build = extrapolate(sampled, ratio, len(rest), workers)
    built = StoredAmount(
        len(sources) - len(rest), len(events), sum(shard_size(shard) for shard in events.shards)
    )
    return StorePreview(events, built, to_build, workers if workers > 1 else 0, in_epoch)


def choose_sample(paths: Sequence[Path], sizes: Sequence[int]) -> list[Path]:
    """A few of the files, from all parts of the list, of limited total size: at least one.

    Parameters
    ----------
    paths
        The files.
    sizes
        Their sizes [bytes].
    """
    count = min(_MAX_FILES, len(paths))
    places = [number * len(paths) // count for number in range(count)]
    while len(places) > 1 and sum(sizes[place] for place in places) > _MAX_BYTES:
        places.pop()
    return [paths[place] for place in places]


def extrapolate(sample: StoredAmount, ratio: float, num_files: int, workers: int) -> StoredAmount:
    """Estimate for further files, from a sample of them that one process built.

    Parameters
    ----------
    sample
        Amount and time of the sample.
    ratio
        Bytes of the further files to those of the sample.
    num_files
        Number of the further files.
    workers
        Processes that will build them.
    """
    return StoredAmount(
        num_files,
        round(ratio * sample.events),
        round(ratio * sample.size),
        ratio * sample.seconds / workers,
    )
