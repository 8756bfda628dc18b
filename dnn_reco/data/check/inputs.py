"""Checks of the hits of a file: places, charges, times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.check.finding import Finding, Severity, event_name, of_events
from dnn_reco.data.event_summary import feature_names, has_charge
from dnn_reco.data.features import FIRST_TIME_FEATURE
from dnn_reco.data.file_events import FileEvents, InputTables
from dnn_reco.data.hdf5.tables import (
    INDEX_GROUP,
    Rows,
    event_ids,
    find_table,
    open_file,
    read_rows,
)
from dnn_reco.detector.geometry import NUM_DOMS_PER_STRING, NUM_STRINGS, dom_index

LATEST_TIME = 1e6
"""Times of pulses further than this from the event's time offset, in ns, are implausible."""

_BLOCK = 200_000  # rows
_SLACK = 1e-3  # of features that are stored in single precision, relative to 1 + |value|

# Kind of skipped rows (`FileEvents.skipped`): severity, what to do, how to find such a row.
_UNKNOWN_DOMS = "rows of unknown DOMs"
_SKIPPED: dict[str, tuple[Severity, str]] = {
    _UNKNOWN_DOMS: (
        "error",
        f"strings are 1 to {NUM_STRINGS}, DOMs 1 to {NUM_DOMS_PER_STRING}: these rows are skipped. "
        "Is this a different detector, or are the columns swapped?",
    ),
    "rows of surface tanks": ("info", "they are not inputs and are skipped"),
    "rows without object": ("warning", "exists = 0: they are skipped"),
    "rows of negative bins": ("info", "they mark what was excluded, and are skipped"),
    "rows of events not in the time-offset table": (
        "warning",
        "they are skipped: was the table made from the same frames as the time offsets?",
    ),
}


def check_inputs(path: Path, tables: InputTables, events: FileEvents) -> list[Finding]:
    """Findings on the hits of a file."""
    place = (str(path), tables.values)
    hits, ids = events.hits, events.ids
    findings = list(_skipped_rows(place, events))
    if events.stale_index:
        findings.append(
            Finding(
                "warning",
                *place,
                f"its index (group {INDEX_GROUP}) does not match the event ids of the rows",
                "the ids are used instead; this is normal for merged or split files, otherwise "
                "the file may be inconsistent",
            )
        )
    findings += of_events(
        "warning",
        place,
        "events without any hit",
        "they cannot be reconstructed: drop them with a filter, or when creating the data",
        ids,
        events.exists & (np.diff(hits.offsets) == 0),
    )
    for text, remedy, severity, bad in _feature_faults(hits.features):
        concerned = np.zeros(hits.num_events, dtype=bool)
        concerned[hits.event[bad]] = True
        findings += of_events(severity, place, text, remedy, ids, concerned)
    return findings


def _skipped_rows(place: tuple[str, str], events: FileEvents) -> Iterator[Finding]:
    for kind, count in events.skipped.items():
        severity, remedy = _SKIPPED[kind]
        example = ""
        if kind == _UNKNOWN_DOMS:
            example = _first_row(*place, _is_unknown_dom)
        elif kind.startswith("rows of events"):
            example = _first_row(*place, lambda rows: ~np.isin(event_ids(rows), events.ids))
        yield Finding(severity, *place, kind, remedy, count, example)


def _is_unknown_dom(rows: Rows) -> NDArray[np.bool_]:
    is_tank = (rows["om"] > NUM_DOMS_PER_STRING) & (rows["om"] <= NUM_DOMS_PER_STRING + 4)
    is_tank &= (rows["string"] >= 1) & (rows["string"] <= NUM_STRINGS)
    unknown: NDArray[np.bool_] = dom_index(rows["string"], rows["om"]) < 0
    unknown &= ~is_tank & (rows["exists"] != 0)
    return unknown


def _first_row(file: str, table: str, is_bad: Callable[[Rows], NDArray[np.bool_]]) -> str:
    """Event, string and DOM of the first bad row; read block by block."""
    with open_file(file) as opened:
        source = find_table(opened, table)
        for start in range(0, len(source), _BLOCK):
            rows = read_rows(source, start, start + _BLOCK)
            bad = is_bad(rows)
            if bad.any():
                row = rows[int(np.argmax(bad))]
                (event_id,) = event_ids(rows[[int(np.argmax(bad))]])
                return f"{event_name(event_id)}, string {row['string']}, om {row['om']}"
    return ""


def _feature_faults(
    features: NDArray[np.floating],
) -> Iterator[tuple[str, str, Severity, NDArray[np.bool_]]]:
    """Text, remedy, severity and concerned hits [k] of all faults of features [k, F]."""
    num_features = features.shape[1]
    names = feature_names(num_features)
    yield (
        "inputs that are not finite",
        "these events are dropped: create the data again",
        "warning",
        ~np.isfinite(features).all(axis=1),
    )
    if not has_charge(num_features):
        return
    first_time = FIRST_TIME_FEATURE.get(num_features, num_features)
    with np.errstate(invalid="ignore"):
        yield (
            "negative charges",
            "a charge cannot be negative: are the features in a different format or order?",
            "error",
            np.any(features[:, :first_time] < 0, axis=1),
        )
        yield (
            f"times more than {LATEST_TIME:g} ns from the time offset",
            "no event lasts that long: does the time offset belong to a different event, or are "
            "the features in a different format?",
            "error",
            np.any(np.abs(features[:, first_time:]) > LATEST_TIME, axis=1),
        )
        if num_features > 1:
            yield (
                f"negative {names[-1]}",
                "a width cannot be negative: are the features in a different format?",
                "error",
                np.asarray(features[:, -1] < 0),
            )
        if num_features == 9:
            yield (
                "charges or times of a DOM that contradict each other",
                "charge >= charge in 500 ns >= charge in 100 ns, and first time <= time of 50 % of "
                "charge <= last time must hold: are the features in a different format?",
                "warning",
                _contradict(features),
            )


def _contradict(features: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which hits have features of pulse_summmary_clipped that are not in order."""
    charges, times = features[:, [2, 1, 0]], features[:, [3, 5, 6]]
    wrong = np.zeros(len(features), dtype=bool)
    for ordered in (charges, times):
        slack = _SLACK * (1 + np.abs(ordered).max(axis=1))
        for low, high in pairwise(range(ordered.shape[1])):
            wrong |= ordered[:, low] > ordered[:, high] + slack
    return wrong & (features[:, 0] > 0)
