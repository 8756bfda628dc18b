"""Opening a data set: files that are missing in the event store are built."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dnn_reco.amounts import counted, size_in_words
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.records import ColumnNames
from dnn_reco.data.sampling import FileSampling
from dnn_reco.data.store import EventStore, Shard, StoreError, free_space, shard_size
from dnn_reco.data.store_pruning import prune_store
from dnn_reco.errors import DataError
from dnn_reco.files import file_size
from dnn_reco.progress import with_progress
from dnn_reco.workers import available_cpus, in_workers

# Bytes of source files below which starting worker processes costs more than it saves.
_WORTH_WORKERS = 30e6

# If that many files in a row, from the first on, are unusable, the config is at fault.
_TRIES = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildResult:
    """The shard of one source file, or the error that prevented it."""

    source: Path
    shard: Shard | None
    error: str


def open_events(
    store: EventStore,
    sources: Sequence[Path],
    num_jobs: int,
    enough: int | None = None,
    sampling: FileSampling = FileSampling(),  # noqa: B008 - frozen
) -> EventDataset:
    """The events of the files, from the store; missing shards are built with a progress bar.

    Parameters
    ----------
    store
        The store.
    sources
        Event files, in the order in which their events are numbered.
    num_jobs
        Maximum number of worker processes.
    enough
        Stop after the first files of which an epoch uses this number of events.
    sampling
        How often each file is visited in an epoch, and how many of its events are used.

    Raises
    ------
    ConfigError
        If a setting that a user's function needs is missing.
    DataError
        If no file can be used, no event is left, or the store cannot be written.
    """
    failures: list[BuildResult] = []
    first = first_usable(store, sources)
    names = first.names
    shards: list[Shard] = []
    num_events = 0
    with closing(_build_results(store, sources, names, num_jobs, first)) as results:
        for result in results:
            if result.shard is None:
                failures.append(result)
            else:
                shards.append(result.shard)
                num_events += sampling.events_in_epoch(result.source, result.shard.num_events)
            if enough is not None and num_events >= enough:
                break
    _summarise(shards, failures)
    if num_events == 0:
        raise DataError(_no_events_left(shards))
    return EventDataset(store, shards, sampling)


def missing_files(store: EventStore, sources: Sequence[Path]) -> list[Path]:
    """Files without shard; the first usable one is built, as it defines the columns."""
    first = first_usable(store, sources)
    return [
        source
        for source in sources
        if source != first.source and store.find(source, first.names) is None
    ]


def first_usable(store: EventStore, sources: Sequence[Path]) -> Shard:
    """The shard of the first file that can be read: it defines the columns for all others."""
    errors: list[str] = []
    for source in sources[:_TRIES]:
        try:
            return store.find(source) or _pruned(store).build(source)
        except StoreError:
            raise
        except DataError as error:
            errors.append(str(error))
    kinds = {error.replace(str(source), "") for error, source in zip(errors, sources, strict=False)}
    if len(kinds) == 1:
        others = (
            f"\n(The next {len(errors) - 1} of the {len(sources)} files cannot be used either.)"
        )
        raise DataError(errors[0] + (others if len(errors) > 1 else ""))
    raise DataError(
        "\n".join([f"none of the first {len(errors)} data files can be used:", *errors])
    )


def _pruned(store: EventStore) -> EventStore:
    """The store without what was announced to be stale; only done where something is built."""
    prune_store(store.folder)
    return store


def _build_results(
    store: EventStore,
    sources: Sequence[Path],
    names: ColumnNames,
    num_jobs: int,
    first: Shard,
) -> Generator[BuildResult]:
    """Results of all files in their order; missing shards are built in turn."""
    found = {
        source: first if source == first.source else store.find(source, names) for source in sources
    }
    missing = [source for source, shard in found.items() if shard is None]
    built = _build_parallel(store, missing, names, num_jobs, first)
    try:
        for source, shard in found.items():
            yield BuildResult(source, shard, "") if shard is not None else next(built)
    finally:
        built.close()


def _build_parallel(
    store: EventStore,
    sources: Sequence[Path],
    names: ColumnNames,
    num_jobs: int,
    first: Shard,
) -> Generator[BuildResult]:
    """Build shards, in worker processes where that is faster, a few files ahead of the consumer."""
    size = sum(file_size(source) for source in sources)
    expected = size * shard_size(first) / max(1, file_size(first.source))
    _log.info(
        f"Building the event store '{store.folder}' from {counted(len(sources), 'file')}: up to "
        f"{size_in_words(expected)}, {free_space(store.folder) / 1e9:,.1f} GB are free."
    )
    workers = num_workers(sources, num_jobs)
    build = partial(_build_one, _pruned(store), names)
    advice = "try again with fewer num_jobs; the part of the event store that is built is kept"
    with closing(in_workers(build, sources, workers, advice)) as results:
        yield from with_progress(results, len(sources), "Building the event store", "files")


def num_workers(sources: Sequence[Path], num_jobs: int) -> int:
    """Number of processes that build the shards of these files, at most `num_jobs`."""
    size = sum(file_size(source) for source in sources)
    return 1 if size < _WORTH_WORKERS else min(num_jobs, len(sources), available_cpus())


def _build_one(store: EventStore, names: ColumnNames, source: Path) -> BuildResult:
    try:
        return BuildResult(source, store.build(source, names), "")
    except StoreError:
        raise
    except DataError as error:
        return BuildResult(source, None, str(error))


def _summarise(shards: Sequence[Shard], failures: Sequence[BuildResult]) -> None:
    """Log dropped events and skipped rows in one line each, and each skipped file by name."""
    dropped: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    for shard in shards:
        dropped.update(shard.dropped)
        skipped.update(shard.skipped)
    total = sum(shard.num_events_in_file for shard in shards)
    reasons = [f"{count} {reason}" for reason, count in dropped.items() if count]
    if reasons:
        _log.info(f"Dropped {sum(dropped.values())} of {total} events: {', '.join(reasons)}.")
    rows = [f"{count} {what}" for what, count in skipped.items() if count]
    if rows:
        _log.info(f"Skipped in the input tables: {', '.join(rows)}.")
    for failure in failures:
        _log.warning("Skipped a file: %s", failure.error)


def _no_events_left(shards: Sequence[Shard]) -> str:
    dropped: Counter[str] = Counter()
    for shard in shards:
        dropped.update(shard.dropped)
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
    files = f"'{shards[0].source}'"
    if len(shards) > 1:
        files = f"{counted(len(shards), 'file')} (the first: {files})"
    return (
        f"no event is left of {files}: {reasons or 'the files hold none'}. "
        "Check the filter_* keys, data_handler_label_key and data_handler_nan_fill_value."
    )
