"""A comparison of models as text, as Markdown and as plain numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np

from dnn_reco.evaluation.comparison import (
    ANGLE_QUANTILES,
    Comparison,
    EventSelection,
)
from dnn_reco.evaluation.coverage import COVERAGE_LEVELS
from dnn_reco.evaluation.event_types import plural
from dnn_reco.evaluation.formats import MISSING, format_energy, format_measured, plain
from dnn_reco.evaluation.metrics import ValueWithError

Number = TypeVar("Number", int, float)

_NAME_WIDTH = 21
_CELL_WIDTH = 13


@dataclass(frozen=True)
class TrainingCost:
    """What it took to train a model.

    Attributes
    ----------
    iterations, num_events
        Iterations that were done, and events in them; None: not known.
    seconds
        Wall-clock time of these iterations; None: not known.
    num_weights
        Trainable weights; None: not known.
    """

    iterations: int | None
    num_events: int | None
    seconds: float | None
    num_weights: int | None

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """Iterations, events, seconds and weights as they are shown."""
        return (
            MISSING if self.iterations is None else f"{self.iterations:,}",
            MISSING if self.num_events is None else f"{self.num_events:,}",
            MISSING if self.seconds is None else f"{self.seconds:,.0f}",
            MISSING if self.num_weights is None else f"{self.num_weights:,}",
        )


def sum_of_costs(costs: Sequence[TrainingCost]) -> TrainingCost:
    """The cost of several models together."""
    return TrainingCost(
        _sum([each.iterations for each in costs]),
        _sum([each.num_events for each in costs]),
        _sum([each.seconds for each in costs]),
        _sum([each.num_weights for each in costs]),
    )


def _sum(numbers: Sequence[Number | None]) -> Number | None:
    """The sum if all are known."""
    known = [number for number in numbers if number is not None]
    return sum(known[1:], known[0]) if len(known) == len(numbers) else None


def format_range(group: EventSelection) -> str:
    """The energies of a group."""
    if group.energy_range is None:
        return "all energies"
    return " to ".join(map(format_energy, group.energy_range))


def table_columns(comparison: Comparison) -> list[tuple[str, str]]:
    """Title and quantity of the columns of the printed table."""
    columns = [(f"{percent} %", f"angle_{percent}") for percent in ANGLE_QUANTILES]
    columns += [("rms", "energy_rms"), ("68 % width", "energy_width_68")]
    return [*columns, ("68 % pull", f"pull_68/{comparison.energy_label}")]


def text_report(comparison: Comparison, costs: Mapping[str, TrainingCost]) -> str:
    """The report that is printed, in at most 100 columns."""
    lines = [
        f"{comparison.num_events:,} held-out events, each reconstructed by all networks",
        "",
        *_cost_lines(comparison, costs),
    ]
    columns = table_columns(comparison)
    for event_type, groups in groupby(comparison.groups, lambda group: group.event_type):
        lines += ["", *_head(event_type, comparison, columns)]
        for group in groups:
            lines.append(f"{format_range(group)}: {group.num_events:,} events")
            for name, found in group.found.items():
                cells = "".join(
                    f" {format_measured(found.get(key), '±'):>{_CELL_WIDTH - 1}}"
                    for _, key in columns
                )
                lines.append(f"  {shortened(name):<{_NAME_WIDTH - 2}}{cells}")
    return "\n".join(lines)


def _head(
    event_type: str, comparison: Comparison, columns: Sequence[tuple[str, str]]
) -> Iterator[str]:
    angles, energies = 3 * _CELL_WIDTH, 2 * _CELL_WIDTH
    label = comparison.energy_label or "energy"
    yield (
        f"{plural(event_type).upper():<{_NAME_WIDTH}}{'opening angle [°]':>{angles}}"
        f"{f'log10({label})':>{energies}}{'':>{_CELL_WIDTH}}"
    ).rstrip()
    yield " " * _NAME_WIDTH + "".join(f"{name:>{_CELL_WIDTH}}" for name, _ in columns)


def _cost_lines(comparison: Comparison, costs: Mapping[str, TrainingCost]) -> Iterator[str]:
    """Cost of each model, its mean opening angle in degrees and radian, and its coverage."""
    yield (
        f"{'':<{_NAME_WIDTH}}{'iterations':>11}{'events':>12}{'seconds':>9}{'weights':>12}"
        f"{'mean opening angle':>34}"
    )
    whole = comparison.groups[0].found
    for name, cost in costs.items():
        angle = whole[name].get("angle_mean")
        iterations, num_events, seconds, num_weights = cost.cells
        yield (
            f"  {shortened(name):<{_NAME_WIDTH - 2}}{iterations:>11}{num_events:>12}{seconds:>9}"
            f"{num_weights:>12}{_degrees_and_radian(angle):>34}"
        )
    first = next(iter(costs))
    for name, difference in comparison.angle_differences.items():
        yield (
            f"  mean opening angle of {name} minus that of {first}: "
            f"{format_measured(difference)} degrees"
        )
    levels = ", ".join(map(str, COVERAGE_LEVELS))
    for name in costs:
        if shares := ", ".join(_coverage(whole[name])):
            yield f"  cone coverage ({levels} %) of {shortened(name)}: {shares}"


def _coverage(found: Mapping[str, ValueWithError]) -> list[str]:
    """Shares of events inside of the cones, as numbers with errors; none without cones."""
    shares = [found.get(f"coverage_{percent}") for percent in COVERAGE_LEVELS]
    return [format_measured(share, "±") for share in shares if share is not None]


def _degrees_and_radian(angle: ValueWithError | None) -> str:
    if angle is None:
        return MISSING
    radian = ValueWithError(np.radians(angle.value), np.radians(angle.error))
    return f"{format_measured(angle, '±')}° = {format_measured(radian, '±')} rad"


def shortened(name: str) -> str:
    """A name that fits into its column; what is cut out is the middle."""
    room = _NAME_WIDTH - 3
    if len(name) <= room:
        return name
    return f"{name[: room // 2]}…{name[-(room - room // 2 - 1) :]}"


def markdown_report(comparison: Comparison, costs: Mapping[str, TrainingCost]) -> str:
    """The same as tables in Markdown, with the pulls of all labels."""
    lines = [
        f"{comparison.num_events:,} held-out events, each reconstructed by all networks.",
        "",
        "| network | iterations | events | seconds | weights | mean opening angle |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    whole = comparison.groups[0].found
    for name, cost in costs.items():
        angle = _degrees_and_radian(whole[name].get("angle_mean"))
        lines.append(f"| {name} | {' | '.join(cost.cells)} | {angle} |")
    first = next(iter(costs))
    lines += [
        f"\nMean opening angle of {name} minus that of {first}: {format_measured(difference)}°"
        for name, difference in comparison.angle_differences.items()
    ]
    shares = {name: _coverage(whole[name]) for name in costs}
    if any(shares.values()):
        lines += [
            "",
            "Cone coverage: share of events whose true direction lies inside the cone, by nominal "
            "coverage:",
            "",
        ]
        lines.append(
            "| network | " + " | ".join(f"{percent} %" for percent in COVERAGE_LEVELS) + " |"
        )
        lines.append("| --- |" + " ---: |" * len(COVERAGE_LEVELS))
        lines += [f"| {name} | {' | '.join(each)} |" for name, each in shares.items() if each]
    columns = [*table_columns(comparison), ("bias", "energy_bias")]
    columns.append(("pull", f"pull/{comparison.energy_label}"))
    title = {"rms": "log10 E rms", "68 % width": "log10 E 68 % width", "bias": "log10 E bias"}
    heads = [f"angle {n} [°]" if k.startswith("angle") else title.get(n, n) for n, k in columns]
    for event_type, groups in groupby(comparison.groups, lambda group: group.event_type):
        lines += ["", f"## {event_type.capitalize()}", ""]
        lines.append("| energy | events | network | " + " | ".join(heads) + " |")
        lines.append("| --- | ---: | --- |" + " ---: |" * len(heads))
        for group in groups:
            for name, found in group.found.items():
                cells = " | ".join(format_measured(found.get(key)) for _, key in columns)
                lines.append(f"| {format_range(group)} | {group.num_events:,} | {name} | {cells} |")
    return "\n".join([*lines, "", *_pulls(comparison.groups[0])]) + "\n"


def _pulls(group: EventSelection) -> Iterator[str]:
    """The pulls of all labels."""
    names = list(group.found)
    yield from ("## Pulls of all events", "", "Standard deviation, and 68 % width.", "")
    yield "| label | " + " | ".join(names) + " |"
    yield "| --- |" + " ---: |" * len(names)
    found = group.found.values()
    labels = sorted({key[5:] for each in found for key in each if key.startswith("pull/")})
    for label in labels:
        cells = [
            f"{format_measured(each.get(f'pull/{label}'))}, "
            f"{format_measured(each.get(f'pull_68/{label}'))}"
            for each in found
        ]
        yield f"| {label} | " + " | ".join(cells) + " |"


def as_plain(comparison: Comparison, costs: Mapping[str, TrainingCost]) -> dict[str, Any]:
    """All numbers for JSON; what is not finite is None."""
    numbers: dict[str, Any] = plain(
        {
            "num_events": comparison.num_events,
            "energy_label": comparison.energy_label,
            "networks": {name: asdict(cost) for name, cost in costs.items()},
            "mean_angle_differences": comparison.angle_differences,
            "groups": [
                {
                    "event_type": group.event_type,
                    "energy_range": group.energy_range,
                    "num_events": group.num_events,
                    "found": group.found,
                }
                for group in comparison.groups
            ],
        }
    )
    return numbers
