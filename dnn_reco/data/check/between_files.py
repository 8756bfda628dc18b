"""Checks of files against each other: events that occur twice, columns and settings that differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.check.file import SAMPLE, FileCheck
from dnn_reco.data.check.finding import Finding, event_name
from dnn_reco.data.check.labels import check_labels
from dnn_reco.data.data_settings import DataSettings, check_data_settings
from dnn_reco.data.event_table import NamedColumns
from dnn_reco.errors import DataError


@dataclass(frozen=True)
class _AllEvents:
    """Events of all files: ids, contents and the number of the file of each [n]."""

    ids: NDArray[np.void]
    content: NDArray[np.uint64]
    file: NDArray[np.int64]
    paths: Sequence[Path]

    def example(self, events: NDArray[np.int64]) -> str:
        """Two events as text."""
        a, b = events[:2]
        first, second = event_name(self.ids[a]), event_name(self.ids[b])
        file, other = self.paths[self.file[a]], self.paths[self.file[b]]
        same_id = "the same" if first == second else second
        return f"{first}" + (f" and {same_id}" if file == other else f" and {same_id} in '{other}'")


def check_between_files(
    checks: Sequence[FileCheck],
    label_table: str | None,
    wanted: DataSettings | None,
    num_bins: int,
    trained: Collection[str] | None,
) -> list[Finding]:
    """Findings that concern several files, or all events together.

    Parameters
    ----------
    checks
        The files.
    label_table
        Table of the labels.
    wanted
        Settings that the features should have been made with; None: those of the first file.
    num_bins
        Number of features that are read.
    trained
        Labels with a weight in the loss; None: not known.
    """
    events = _AllEvents(
        np.concatenate([check.ids for check in checks]),
        np.concatenate([check.content for check in checks]),
        np.repeat(np.arange(len(checks)), [len(check.ids) for check in checks]),
        [check.path for check in checks],
    )
    findings = [
        *_repeated_events(events),
        *_several_sub_events(events),
        *_label_columns(checks, label_table),
        *_settings(checks, wanted, num_bins),
    ]
    labels, misc, inputs = _joined(checks)
    return findings + check_labels(label_table or "", labels, misc, inputs, trained)


def _groups(keys: NDArray[np.generic], events: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Events of each key that several have."""
    order = np.argsort(keys, kind="stable")
    borders = np.flatnonzero(keys[order][1:] != keys[order][:-1]) + 1
    for start, stop in zip([0, *borders], [*borders, len(order)], strict=True):
        if stop - start > 1:
            yield events[order[start:stop]]


def _repeated_events(events: _AllEvents) -> Iterator[Finding]:
    """Events with equal ids in several files, and events with equal hits."""
    everything = np.arange(len(events.ids))
    same_id: list[NDArray[np.int64]] = []
    copies: list[NDArray[np.int64]] = []
    for group in _groups(events.ids, everything):
        if len(set(events.file[group])) > 1:
            equal = len(set(events.content[group])) == 1 and events.content[group[0]] != 0
            (copies if equal else same_id).append(group)
    has_content = events.content != 0
    same_hits = [
        group
        for group in _groups(events.content[has_content], everything[has_content])
        if len(np.unique(events.ids[group])) > 1
    ]
    for severity, groups, text, remedy in (
        (
            "error",
            copies,
            "the same events, with the same hits, are in several files",
            "remove one of the files: events in both training and held-out data make a network "
            "seem better than it is",
        ),
        (
            "warning",
            same_id,
            "events of several files have the same id, but different hits",
            "results cannot be joined to them by id: give data sets different run numbers",
        ),
        (
            "warning",
            same_hits,
            "events with different ids have the same hits",
            "were events copied, or the inputs of one event written for other events?",
        ),
    ):
        if groups:
            count = sum(len(group) for group in groups)
            file = str(events.paths[events.file[groups[0][0]]])
            example = events.example(groups[0])
            yield Finding(severity, file, "", text, remedy, count, example)  # type: ignore[arg-type]


def _several_sub_events(events: _AllEvents) -> Iterator[Finding]:
    """Files in which events were split."""
    for number, path in enumerate(events.paths):
        ids = np.unique(events.ids[events.file == number])
        _, place, counts = np.unique(ids[["Run", "Event"]], return_inverse=True, return_counts=True)
        split = counts[place.reshape(-1)] > 1
        if split.any():
            yield Finding(
                "info",
                str(path),
                "",
                "events with several sub-events",
                "they share their labels, which may not describe each of them: select one with a "
                "filter if that matters, and never put them in different splits",
                int(split.sum()),
                event_name(ids[np.argmax(split)]),
            )


def _label_columns(checks: Sequence[FileCheck], table: str | None) -> Iterator[Finding]:
    """Files with other labels than the first."""
    with_labels = [check for check in checks if check.label_columns is not None]
    for check in with_labels[1:]:
        first = with_labels[0]
        if check.label_columns != first.label_columns:
            ours, theirs = set(check.label_columns or ()), set(first.label_columns or ())
            named = [f"more: {name}" for name in sorted(ours - theirs)]
            named += [f"missing: {name}" for name in sorted(theirs - ours)]
            yield Finding(
                "error",
                str(check.path),
                table or "",
                f"label columns differ from those of '{first.path}' "
                f"({'; '.join(named) or 'another order'})",
                "all files must have the same labels: list the common ones in label_keys_to_load, "
                "or create the files with the same settings",
                max(1, len(named)),
            )


def _settings(
    checks: Sequence[FileCheck], wanted: DataSettings | None, num_bins: int
) -> Iterator[Finding]:
    """Files whose record does not fit."""
    recorded = [check for check in checks if check.settings is not None]
    reference = wanted or (recorded[0].settings if recorded else None)
    for check in recorded:
        assert check.settings is not None and reference is not None
        if check.settings.num_bins != num_bins:
            yield Finding(
                "error",
                str(check.path),
                "",
                f"its record has {check.settings.num_bins} features of a DOM, {num_bins} are read",
                "set data_handler_num_bins, and the names of the tables, to those of the data",
            )
        try:
            check_data_settings(reference, check.settings, str(check.path))
        except DataError as error:
            differences = [line.strip() for line in str(error).splitlines() if line[:2] == "  "]
            source = "those that were given" if wanted else f"'{recorded[0].path}'"
            yield Finding(
                "error",
                str(check.path),
                "",
                "its features were made with different settings: " + "; ".join(differences),
                f"compared with {source}: create the data with the same settings, and do not mix "
                "them in a training",
                max(1, len(differences)),
            )
    without = [check for check in checks if check.settings is None and len(check.ids)]
    if recorded and without:
        yield Finding(
            "info",
            str(without[0].path),
            "",
            "some files have no record of the settings of their features, others have one",
            "make sure that their settings are the same",
            len(without),
        )


def _joined(checks: Sequence[FileCheck]) -> tuple[NamedColumns, NamedColumns, NamedColumns]:
    """Labels, misc data and inputs of the first events of files with the same columns."""
    usable = [check for check in checks if len(check.labels.array)]
    if not usable:
        return (NamedColumns((), np.empty((0, 0))),) * 3
    first = usable[0]
    alike = [
        check
        for check in usable
        if check.labels.names == first.labels.names and check.misc.names == first.misc.names
    ]
    return (
        NamedColumns(first.labels.names, np.concatenate([c.labels.array for c in alike])[:SAMPLE]),
        NamedColumns(first.misc.names, np.concatenate([c.misc.array for c in alike])[:SAMPLE]),
        NamedColumns(first.inputs.names, np.concatenate([c.inputs.array for c in alike])[:SAMPLE]),
    )
