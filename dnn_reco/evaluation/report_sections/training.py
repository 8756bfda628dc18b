"""Training curves, and how long training and prediction take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dnn_reco.evaluation.formats import MISSING
from dnn_reco.evaluation.report_facts import Origin
from dnn_reco.evaluation.report_sections.section import ReportFigure, ReportTable, Section
from dnn_reco.figure_style import color, legend_below, log_axis, panels


def training_section(origins: Mapping[str, Origin]) -> Section | None:
    """Curves of the trainings that are known, and times."""
    with_curves = {name: each for name, each in origins.items() if len(each.metrics) > 1}
    figures = []
    if with_curves:
        names = ", ".join(with_curves)
        caption = (
            f"Training of {names}: the loss of the printed training and validation batches, of "
            "the whole validation set where available, and the learning rate."
        )
        figures.append(ReportFigure("training", caption, _curves(with_curves)))
    rows = [_row(name, each) for name, each in origins.items()]
    table = ReportTable(
        "Time and size. The speed of the reconstruction includes reading the hits from disk.",
        (
            "reconstruction",
            "reconstructed events/s",
            "training iterations",
            "training events",
            "training time [s]",
            "trained events/s",
            "weights",
        ),
        rows,
    )
    numbers = {
        name: {
            "reconstructed_events_per_second": each.events_per_second,
            "training_seconds": _seconds(each),
        }
        for name, each in origins.items()
    }
    text = (
        "Losses of different loss functions cannot be compared. The time of a resumed training is "
        "that of its last call.",
    )
    return Section("Training and timing", text, (table,), figures, numbers)


def _row(name: str, origin: Origin) -> tuple[str, ...]:
    iterations, num_events, _, num_weights = origin.cost.cells
    seconds = _seconds(origin)
    speed = _last(origin, "machine", "events_per_second")
    return (
        name,
        _number(origin.events_per_second),
        iterations,
        num_events,
        _number(seconds),
        _number(speed),
        num_weights,
    )


def _seconds(origin: Origin) -> float | None:
    """Time of the training [s], if it is known."""
    known = origin.cost.seconds
    return _last(origin, "machine", "seconds") if known is None else known


def _number(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _last(origin: Origin, *keys: str) -> float | None:
    found = [value for line in origin.metrics if (value := _entry(line, keys)) is not None]
    return found[-1] if found else None


def _curves(origins: Mapping[str, Origin]) -> Figure:
    figure, (losses, rates) = panels(1, 2, (4.6, 3.4))
    figure.suptitle("Training", fontsize="medium")
    for number, (name, origin) in enumerate(origins.items()):
        kinds = (("train", ":", 0.9), ("val", "-", 1.0), ("validation_set", "--", 1.8))
        for kind, line, width in kinds:
            named = f"{name}, {_KINDS[kind]}"
            _plot_loss(losses, origin.metrics, kind, named, ls=line, lw=width, color=color(number))
        _plot_rates(rates, origin.metrics, name, color=color(number))
    losses.set_ylabel("loss")
    rates.set_ylabel("learning rate")
    if rates.lines:
        log_axis(rates.yaxis)
    for panel in (losses, rates):
        panel.set_xlabel("iteration")
        panel.set_xlim(left=0)
    legend_below(figure, losses, columns=3)
    return figure


_KINDS = {
    "train": "training batch",
    "val": "validation batch",
    "validation_set": "validation set",
}


def _plot_loss(
    panel: Axes, metrics: Sequence[Mapping[str, Any]], kind: str, name: str, **style: Any
) -> None:
    """The sum of the losses of all optimizers, where it is known."""
    points = []
    for line in metrics:
        losses = line.get(kind)
        values = losses.get("losses", losses.get("loss")) if isinstance(losses, Mapping) else None
        numbers = list(values.values()) if isinstance(values, Mapping) else [values]
        known = [float(each) for each in numbers if _is_number(each)]
        if known and len(known) == len(numbers):
            points.append((_iteration(line), sum(known)))
    if points:
        x, y = np.array(points, dtype=np.float64).T
        panel.plot(x, y, label=name, **style)
        # a few losses at the start would hide all others
        late = np.concatenate([np.asarray(each.get_ydata(), dtype=float) for each in panel.lines])
        low, high = np.nanquantile(late, [0.0, 0.97])
        panel.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low) + 1e-9)


def _plot_rates(panel: Axes, metrics: Sequence[Mapping[str, Any]], name: str, **style: Any) -> None:
    named = [line.get("learning_rates") for line in metrics]
    optimizers = dict.fromkeys(key for each in named if isinstance(each, Mapping) for key in each)
    for optimizer in optimizers:
        points = [
            (_iteration(line), value)
            for line in metrics
            if (value := _entry(line, ("learning_rates", optimizer))) is not None and value > 0
        ]
        if points:
            x, y = np.array(points, dtype=np.float64).T
            panel.plot(x, y, label=f"{name}, {optimizer}", **style)


def _iteration(line: Mapping[str, Any]) -> float:
    iteration = line.get("iteration")
    return float(iteration) if _is_number(iteration) else float("nan")


def _entry(line: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    """A number in nested mappings; None: it is not there."""
    value: Any = line
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
