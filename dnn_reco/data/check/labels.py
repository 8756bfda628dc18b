"""Checks whether labels can be learned, and whether the inputs already determine them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.check.finding import ALL_FILES, Finding
from dnn_reco.data.event_table import NamedColumns

FEWEST_EVENTS = 20
"""Fewer events agree by chance."""

LEAK = 0.9999
"""Rank correlation of a label and an input from which on the input gives the label away."""

Numbers = NDArray[np.floating]


def check_labels(
    table: str,
    labels: NamedColumns,
    misc: NamedColumns,
    inputs: NamedColumns,
    trained: Collection[str] | None,
) -> list[Finding]:
    """Findings on the labels of n events of several files.

    Parameters
    ----------
    table
        Name of the table of labels.
    labels, misc
        Labels and misc data [n], NaN where there are none.
    inputs
        Numbers that describe the inputs of the events [n].
    trained
        Names of the labels with a weight in the loss; None: not known.
    """
    if len(labels.array) < FEWEST_EVENTS:
        return []
    constant = [name for name in labels if _is_constant(labels[name])]
    findings = list(_constant(table, constant, trained))
    varying = [name for name in labels if name not in constant]
    findings += _identical(table, {name: labels[name] for name in varying}, misc)
    for name in varying:
        findings += _leaks(table, name, labels[name], inputs)
    return findings


def _constant(
    table: str, constant: Sequence[str], trained: Collection[str] | None
) -> Iterator[Finding]:
    """One finding, or one for each label that is trained."""
    if trained is None and constant:
        yield Finding(
            "info",
            ALL_FILES,
            table,
            f"labels that are the same for all events: {', '.join(constant)}",
            "nothing can be learned from them: give them no weight in label_weight_dict",
            len(constant),
        )
    for name in constant:
        if trained is not None and name in trained:
            yield Finding(
                "warning",
                ALL_FILES,
                table,
                f"label '{name}' is the same for all events, but trained",
                "nothing can be learned from it: give it no weight (label_weight_dict), or use "
                "events in which it varies",
            )


def _is_constant(values: Numbers) -> bool:
    finite = values[np.isfinite(values)]
    return len(finite) > 0 and bool((finite == finite[0]).all())


def _identical(table: str, labels: dict[str, Numbers], misc: NamedColumns) -> Iterator[Finding]:
    """Columns that are the same in all events; of flags this happens in special data sets."""
    flags: list[str] = []
    pairs = [(a, b, labels[b], "label") for a, b in combinations(labels, 2)]
    pairs += [(a, b, misc[b], "misc column") for a in labels for b in misc]
    for first, second, values, kind in pairs:
        both = np.isfinite(labels[first]) & np.isfinite(values)
        if both.sum() < FEWEST_EVENTS or (labels[first][both] != values[both]).any():
            continue
        if len(np.unique(values[both])) <= 2:
            flags.append(f"{first} and {second}")
            continue
        yield Finding(
            "warning",
            ALL_FILES,
            table,
            f"label '{first}' and {kind} '{second}' are the same for all events",
            "was one written instead of the other? Train only one of the labels, and do not let "
            "the network read such a misc column",
            int(both.sum()),
        )
    if flags:
        yield Finding(
            "info",
            ALL_FILES,
            table,
            f"flags that are the same for all events: {', '.join(flags)}",
            "they may vary in other data sets",
            len(flags),
        )


def _leaks(table: str, name: str, label: Numbers, inputs: NamedColumns) -> Iterator[Finding]:
    """Inputs whose rank determines that of a label."""
    for summary in inputs:
        both = np.isfinite(label) & np.isfinite(inputs[summary])
        if both.sum() < FEWEST_EVENTS or len(np.unique(label[both])) <= 2:
            continue
        if abs(rank_correlation(label[both], inputs[summary][both])) >= LEAK:
            yield Finding(
                "warning",
                ALL_FILES,
                table,
                f"the inputs determine label '{name}': it is a monotonic function of the {summary}",
                "is the label computed from the inputs? Then nothing new is learned",
                int(both.sum()),
            )


def rank_correlation(first: Numbers, second: Numbers) -> float:
    """Spearman's rank correlation of values [n]; 0 if one is constant."""
    ranks = [_ranks(values) for values in (first, second)]
    deviations = [rank - rank.mean() for rank in ranks]
    norm = np.sqrt(np.prod([np.sum(deviation**2) for deviation in deviations]))
    return float(np.sum(deviations[0] * deviations[1]) / norm) if norm > 0 else 0.0


def _ranks(values: Numbers) -> Numbers:
    """Ranks [n]; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Numbers = (np.cumsum(counts) - (counts - 1) / 2)[place.reshape(-1)]
    return ranks
