"""`count`: how many events the data files hold."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dnn_reco.amounts import counted
from dnn_reco.commands.output import print_json
from dnn_reco.config import Config
from dnn_reco.errors import DataError, DnnRecoError
from dnn_reco.event_sources import event_counter
from dnn_reco.files import find_files
from dnn_reco.progress import with_progress
from dnn_reco.workers import available_cpus

_log = logging.getLogger(__name__)

FILE_LISTS = ("test_data_file", "validation_data_file", "training_data_file", "trafo_data_file")


@dataclass(frozen=True)
class Count:
    """Events of one file, or why they could not be counted."""

    num_events: int
    error: str = ""


def run_count(
    config: Config,
    num_jobs: int,
    apply_filters: bool,
    cache_dir: str | None,
    as_json: bool = False,
) -> int:
    """Count the events of all file lists and print the result; returns the exit code.

    Each file is counted once, filters are not applied unless asked for; the exit code is 1 if a
    list matches no file or a file cannot be read.
    """
    ok = True
    files: dict[str, list[Path]] = {}
    for key in FILE_LISTS:
        config.require(key)
        try:
            files[key] = find_files(getattr(config.data_files, key), key)
        except DataError as error:
            files[key] = []
            ok = False
            _log.warning("%s", error)
    counts = _count_files(
        sorted({path for paths in files.values() for path in paths}),
        event_counter(config),
        num_jobs,
    )
    _report_failures(counts)
    ok = ok and not any(count.error for count in counts.values())
    passing = _count_passing(config, files, num_jobs, cache_dir) if apply_filters else {}
    ok = ok and all(passing.values())
    totals = {key: sum(counts[path].num_events for path in files[key]) for key in FILE_LISTS}
    if as_json:
        print_json(_document(files, counts, totals, passing))
        return 0 if ok else 1
    click.echo("\n===============================")
    click.echo("= Completed Counting Events:  =")
    click.echo("===============================")
    for key, total in totals.items():
        pass_text = f", {passing[key]} pass the filters" if key in passing else ""
        click.echo(f"Found {total} events for '{key}'{pass_text}")
    return 0 if ok else 1


def _document(
    files: Mapping[str, Sequence[Path]],
    counts: Mapping[Path, Count],
    totals: Mapping[str, int],
    passing: Mapping[str, int],
) -> dict[str, Any]:
    """The counts for `--json`."""
    lists = {
        key: {"files": len(files[key]), "events": total, "pass_filters": passing.get(key)}
        for key, total in totals.items()
    }
    failed = {str(path): count.error for path, count in counts.items() if count.error}
    return {"lists": lists, "not_counted": failed}


def _count_files(
    paths: list[Path], count_events: Callable[[Path], int], num_jobs: int
) -> Mapping[Path, Count]:
    """Counts of all files, in threads: the time goes into opening files."""

    def count(path: Path) -> Count:
        try:
            return Count(count_events(path))
        except DnnRecoError as error:
            return Count(0, str(error))

    with ThreadPoolExecutor(max(1, num_jobs)) as pool:
        results = with_progress(pool.map(count, paths), len(paths), "Counting", "files")
        return dict(zip(paths, results, strict=True))


def _report_failures(counts: Mapping[Path, Count]) -> None:
    """List the files that could not be counted, under each reason once."""
    failures: dict[str, list[Path]] = {}
    for path, count in counts.items():
        if count.error:
            reason = count.error.replace(f"'{path}'", "the file")
            failures.setdefault(reason, []).append(path)
    for reason, paths in failures.items():
        listed = "".join(f"\n  {path}" for path in paths)
        _log.warning("%s not counted: %s%s", counted(len(paths), "file"), reason, listed)


def _count_passing(
    config: Config, files: Mapping[str, list[Path]], num_jobs: int, cache_dir: str | None
) -> dict[str, int]:
    """Events that filters and checks leave, for each list with files."""
    from dnn_reco.data.build import open_events
    from dnn_reco.event_sources import event_store

    config.require("data_handler_num_bins")
    store = event_store(config, cache_dir)
    workers = min(num_jobs, available_cpus())
    passing: dict[tuple[Path, ...], int] = {}  # two keys often list the same files
    for paths in dict.fromkeys(tuple(paths) for paths in files.values() if paths):
        try:
            passing[paths] = len(open_events(store, paths, workers))
        except DataError as error:
            _log.warning("%s", error)
            passing[paths] = 0
    return {key: passing[tuple(paths)] for key, paths in files.items() if paths}
