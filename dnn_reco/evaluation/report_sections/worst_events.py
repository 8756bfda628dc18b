"""The worst reconstructed events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dnn_reco.evaluation.event_types import event_types, parts
from dnn_reco.evaluation.formats import MISSING
from dnn_reco.evaluation.held_out_events import HeldOutFiles
from dnn_reco.evaluation.reconstruction import Evaluation
from dnn_reco.evaluation.report_sections.section import ReportPicture, ReportTable, Section
from dnn_reco.evaluation.residuals import (
    energy_label,
    label_pull,
    opening_angle,
    true_zenith,
)

NUM_WORST = 20

_ID_COLUMNS = ("Run", "Event", "SubEvent")


def worst_events(evaluation: Evaluation, count: int = NUM_WORST) -> NDArray[np.int64]:
    """Numbers of the worst events of the first reconstruction, the worst first.

    By opening angle, or, without direction, by the absolute pull of the energy; events that it does
    not reconstruct do not count. Empty if it gives neither.
    """
    badness, _ = _badness(evaluation)
    known = np.flatnonzero(np.isfinite(badness))
    order = np.argsort(-badness[known], kind="stable")
    return known[order[:count]]


def worst_events_section(
    evaluation: Evaluation, files: HeldOutFiles, pictures: Mapping[int, bytes]
) -> Section | None:
    """A table of them, and a display of each behind a click.

    Parameters
    ----------
    evaluation
        The events and their reconstructions.
    files
        Where the events come from.
    pictures
        Displays of events as PNG, by number of the event; events without one are listed only.
    """
    numbers = worst_events(evaluation).tolist()
    if not numbers:
        return None
    what = _badness(evaluation)[1]
    first = evaluation.reconstructions[0].name
    columns = _columns(evaluation, files, numbers)
    rows = list(zip(*columns.values(), strict=True))
    shown = [
        ReportPicture(f"event-{number}", f"Event {row[0]}", pictures[number])
        for number, row in zip(numbers, rows, strict=True)
        if number in pictures
    ]
    text = [
        f"The {len(numbers)} worst events of {first}, by {what}, of "
        f"{len(evaluation.events):,}. Energies are in GeV, angles in degrees."
    ]
    if shown:
        text.append("Click on an event to open its display.")
    links = [f"event-{number}" if number in pictures else None for number in numbers]
    table = ReportTable("Worst events.", tuple(columns), rows, links)
    plain = {"by": what, "events": [dict(zip(columns, row, strict=True)) for row in rows]}
    return Section("Worst events", text, (table,), numbers=plain, pictures=shown)


def _badness(evaluation: Evaluation) -> tuple[NDArray[np.float64], str]:
    """How bad each event [n] is, NaN where that is unknown, and by what."""
    events, first = evaluation.events, evaluation.reconstructions[0]
    angle = opening_angle(first, events)
    if angle is not None:
        return angle, "opening angle"
    label = energy_label(evaluation)
    pull = None if label is None else label_pull(first, events, label)
    if pull is None:
        return np.full(len(events), np.nan), ""
    return np.abs(pull), f"pull of {label}"


def _columns(
    evaluation: Evaluation, files: HeldOutFiles, numbers: Sequence[int]
) -> dict[str, list[str]]:
    """Columns of the table, by title: ids, file, truth, and what each reconstruction gives."""
    events = evaluation.events
    ids = [name for name in _ID_COLUMNS if name in (events.ids.dtype.names or ())]
    types = parts(event_types(events.labels, len(events)))
    columns = {
        " / ".join(ids): [" / ".join(str(events.ids[name][i]) for name in ids) for i in numbers],
        "file": [files.path_of(i).name for i in numbers],
        "type": [next((name for name, mask in types.items() if mask[i]), "") for i in numbers],
        "hit DOMs": [f"{events.num_hit_doms[i]:,}" for i in numbers],
    }
    zenith, label = true_zenith(evaluation), energy_label(evaluation)
    if zenith is not None:
        columns["true zenith [°]"] = _formatted(np.degrees(zenith), numbers, ".1f")
    if label is not None:
        columns[f"true {label} [GeV]"] = _energies(events.labels[label], numbers)
    for each in evaluation.reconstructions:
        angle = opening_angle(each, events)
        if angle is not None:
            columns[f"{each.name}: opening angle [°]"] = _formatted(angle, numbers, ".1f")
        if label is not None and label in each.table.label_names:
            energy = each.table[label]
            columns[f"{each.name}: {label} [GeV]"] = _energies(energy, numbers)
            pull = label_pull(each, events, label)
            if pull is not None:
                columns[f"{each.name}: pull"] = _formatted(pull, numbers, ".2f")
    return columns


def _energies(values: NDArray[np.float64], numbers: Sequence[int]) -> list[str]:
    """Energies to four digits, without an exponent: 23310."""
    rounded = np.array([float(f"{value:.4g}") for value in values])
    return _formatted(rounded, numbers, ".10g")


def _formatted(values: NDArray[np.float64], numbers: Sequence[int], form: str) -> list[str]:
    return [format(values[i], form) if np.isfinite(values[i]) else MISSING for i in numbers]
