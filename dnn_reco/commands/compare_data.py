"""`compare-data`: how much the events of two data sets differ."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from dnn_reco.commands.output import print_json, print_note
from dnn_reco.config import Config
from dnn_reco.data.event_table import EventTable
from dnn_reco.data.hdf5 import (
    count_events,
    detect_num_bins,
    input_prefixes,
    input_tables,
    list_tables,
)
from dnn_reco.data.overlap import quoted_paths, same_files
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.data_comparison import (
    EventSample,
    compare_samples,
    join_samples,
    sample_events,
)
from dnn_reco.evaluation.data_comparison_report import (
    comparison_numbers,
    text_report,
    write_data_comparison,
)
from dnn_reco.evaluation.formats import plain
from dnn_reco.files import find_files
from dnn_reco.labelled_events import FileContent, read_as_configured, read_as_written
from dnn_reco.progress import Progress
from dnn_reco.suggestions import did_you_mean

# Files are drawn until they hold so many times the events that are wanted.
_EVENTS_IN_FILES = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompareDataSettings:
    """How to compare.

    Attributes
    ----------
    out
        Folder for the report.
    num_events
        Events to read of each data set at most.
    inputs
        Common beginnings of the names of the input tables: of both data sets, or of each.
    weights
        Table and column of event weights; None: none.
    seed
        Seed of what is drawn.
    """

    out: Path
    num_events: int
    inputs: tuple[str, ...] = ()
    weights: tuple[str, str] | None = None
    seed: int = 1


@dataclass(frozen=True)
class _DataSet:
    """The files of a data set, and what to read of them."""

    name: str
    files: Sequence[Path]
    prefix: str
    num_bins: int | None


def run_compare_data(
    patterns: tuple[str, str],
    config: Config | None,
    settings: CompareDataSettings,
    as_json: bool = False,
) -> None:
    """Compare two data sets, print a table and write the report."""
    if config is not None and settings.inputs:
        raise ConfigError(
            "--tables is for files without a config: name the tables in the config, or give no "
            "config"
        )
    files = [find_files([pattern], name) for pattern, name in zip(patterns, "AB", strict=True)]
    if same := same_files(*files):
        raise DataError(
            f"{quoted_paths(same)} belong{'s' * (len(same) == 1)} to A and to B: give each file to "
            "one of them only"
        )
    if config is None:
        first, second = _chosen_inputs(files, settings.inputs)
    else:
        prefix = config.data_handler.data_handler_time_offset_name
        first, second = ((prefix, None), (prefix, None))
    sets = [
        _DataSet(name, paths, *inputs)
        for name, paths, inputs in zip(patterns, files, (first, second), strict=True)
    ]
    if settings.weights is not None:
        _check_weight_table(sets, settings.weights[0])
    samples = [_read_sample(each, config, settings) for each in sets]
    features = [sample.hit.array.shape[1] for sample in samples]
    if features[0] != features[1]:
        raise DataError(
            f"A has {features[0]} features of a DOM, B has {features[1]}: they cannot be compared. "
            "Name input tables of the same format with --tables, once for A and once for B"
        )
    comparison = compare_samples(patterns, samples[0], samples[1], settings.seed)
    page = write_data_comparison(comparison, settings.out)
    if as_json:
        print_json({"report": str(page), **plain(comparison_numbers(comparison))})
        return
    click.echo(text_report(comparison))
    print_note(f"Report: {page}")


# --------------------------------------------------------------------------------------------------
# Which tables
# --------------------------------------------------------------------------------------------------
def _chosen_inputs(
    files: Sequence[Sequence[Path]], named: tuple[str, ...]
) -> list[tuple[str, int | None]]:
    """Beginning of the names of the input tables, and number of features, of each data set.

    Without names they are the only ones with the same number of features.

    Raises
    ------
    DataError
        If there is none, or several.
    """
    if named:
        both = (named[0], named[-1])
        tables = [input_tables(prefix) for prefix in both]
        first = [paths[0] for paths in files]
        return [(p, detect_num_bins(f, t)) for p, f, t in zip(both, first, tables, strict=True)]
    found = [_features_of_inputs(paths[0]) for paths in files]
    pairs = [[(a, n), (b, m)] for a, n in found[0].items() for b, m in found[1].items() if n == m]
    if len(pairs) == 1:
        return [*pairs[0]]
    listed = "".join(
        f"\n  '{paths[0]}': "
        + (", ".join(f"{prefix} ({n} features)" for prefix, n in each.items()) or "none")
        for paths, each in zip(files, found, strict=True)
    )
    raise DataError(
        f"it is ambiguous which input tables to compare: {len(pairs)} pairs have the same number "
        f"of features. Name them with --tables, once for A and once for B; or give a --config. "
        f"Input tables that list all features of each DOM:{listed}"
    )


def _features_of_inputs(path: Path) -> dict[str, int]:
    """Number of features of each set of input tables of a file, where DOMs list all of them."""
    found = {}
    for prefix in input_prefixes(list_tables(path)):
        try:
            found[prefix] = detect_num_bins(path, input_tables(prefix))
        except DataError as error:
            _log.debug("%s", error)
    return found


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------
def _read_sample(
    data: _DataSet, config: Config | None, settings: CompareDataSettings
) -> EventSample:
    """Events of a data set, drawn evenly from its files; only what is compared stays in memory."""
    rng = np.random.default_rng(settings.seed)
    time_offset = data.prefix if config else input_tables(data.prefix).time_offset
    paths, share = _drawn_files(data.files, time_offset, settings.num_events, rng)
    has_table = set(list_tables(paths[0]))
    weights = settings.weights
    if weights and not _all_have(paths, weights[0]):
        _log.info(f"'{data.name}' has no table '{weights[0]}': its events have equal weights.")
        weights = None
    parts: list[EventSample] = []
    num_read = num_events = 0
    with Progress(len(paths), "Reading", "files") as progress:
        for table in _tables(data, paths, config, weights, has_table):
            # rounded over all files so far: of each by itself, small ones would give too much
            num_read += len(table)
            number = math.ceil(share * num_read) - num_events
            part = table[np.sort(rng.choice(len(table), number, replace=False))]
            parts.append(sample_events(part, _weights(part, weights), rng))
            num_events += len(part)
            progress.update()
    if num_events == 0:
        raise DataError(f"no event of '{data.name}' can be compared: check the filters and files")
    sample = join_samples(parts)
    if not sample.weights.any():
        raise DataError(
            f"the weights of all {num_events:,} events of '{data.name}' that were drawn are 0: "
            "choose other --weights, or more --events"
        )
    return sample


def _drawn_files(
    files: Sequence[Path], table: str, num_events: int, rng: np.random.Generator
) -> tuple[list[Path], Fraction]:
    """Files that hold some times the events that are wanted, and the share of them to take."""
    drawn: list[Path] = []
    total = 0
    for number in rng.permutation(len(files)):
        drawn.append(files[number])
        total += count_events(files[number], table)
        if total >= _EVENTS_IN_FILES * num_events:
            break
    return sorted(drawn), Fraction(min(num_events, total), max(1, total))


def _tables(
    data: _DataSet,
    paths: Sequence[Path],
    config: Config | None,
    weights: tuple[str, str] | None,
    tables: set[str],
) -> Iterator[EventTable]:
    """The events of each file."""
    if config is None:
        misc = None if weights is None else {weights[0]: [weights[1]]}
        return read_as_written(paths, FileContent(data.prefix, data.num_bins, misc=misc))
    label_table = config.data_handler.data_handler_label_key
    has_labels = label_table is None or label_table in tables
    if not has_labels:
        _log.info(f"'{data.name}' has no table '{label_table}': only its inputs are compared.")
    missing = set(config.values().get("misc_load_dict") or {}) - tables
    if missing and not has_labels:
        _log.info(
            f"'{data.name}' has no table {', '.join(sorted(missing))}: no misc data are read."
        )
    return read_as_configured(paths, config, has_labels, has_labels or not missing)


def _check_weight_table(sets: Sequence[_DataSet], name: str) -> None:
    """Check that a file of one of the data sets has the table of the weights.

    Raises
    ------
    DataError
        If none has.
    """
    if any(name in list_tables(path) for each in sets for path in each.files):
        return
    known = sorted({table for each in sets for table in list_tables(each.files[0])})
    raise DataError(
        f"--weights {name}: neither A nor B has such a table.{did_you_mean(name, known)} "
        f"Their tables: {', '.join(known)}"
    )


def _all_have(paths: Sequence[Path], table: str) -> bool:
    """Whether the files have the table of the weights.

    Raises
    ------
    DataError
        If only some have.
    """
    without = [path for path in paths if table not in list_tables(path)]
    if without and len(without) < len(paths):
        raise DataError(
            f"'{without[0]}' has no table '{table}', which --weights needs and other files of the "
            f"same data set have: {len(without)} of {len(paths)} lack it. Leave these out, or "
            "write the table into all"
        )
    return not without


def _weights(events: EventTable, weights: tuple[str, str] | None) -> NDArray[np.float64]:
    """Weights of the events [n]; 1 where there are none.

    Raises
    ------
    DataError
        If a weight is negative or not finite.
    """
    if weights is None:
        return np.ones(len(events))
    values = events.misc["_".join(weights)].astype(np.float64)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise DataError(
            f"the weights '{weights[1]}' of table '{weights[0]}' are negative or not finite for "
            f"{int((~(np.isfinite(values) & (values >= 0))).sum())} events: choose other weights"
        )
    return values
