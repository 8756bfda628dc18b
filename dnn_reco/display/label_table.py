"""The label table of an event: true and reconstructed values, as text."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dnn_reco.display.particle import Label, Particle, opening_angle

_DEGREES = "°"


@dataclass(frozen=True)
class Row:
    """A row of the table: what it is, in which unit, the true and the reconstructed value."""

    name: str
    unit: str
    truth: str
    reconstruction: str


def label_rows(truth: Particle | None, reconstruction: Particle | None) -> list[Row]:
    """Rows of the table: the direction, labels that are reconstructed, then all others.

    Angles are in degrees.
    """
    rows = [] if reconstruction is None else _direction_rows(truth, reconstruction)
    true = {} if truth is None else truth.labels
    predicted = {} if reconstruction is None else reconstruction.labels
    for name in dict.fromkeys([*predicted, *true]):
        labels = [in_degrees(each) for each in (true.get(name), predicted.get(name))]
        unit = next(label.unit for label in labels if label is not None)
        rows.append(Row(name, unit, *(label_text(label) for label in labels)))
    return rows


def _direction_rows(truth: Particle | None, reconstruction: Particle) -> list[Row]:
    rows = []
    if truth is not None:
        angle = np.degrees(opening_angle(truth, reconstruction))
        if np.isfinite(angle):
            rows.append(Row("angle to the truth", _DEGREES, "", number_text(angle)))
    for percent, cone in reconstruction.cones.items():
        name = f"{percent} % cone of direction"
        rows.append(Row(name, _DEGREES, "", number_text(np.degrees(cone))))
    return rows


def in_degrees(label: Label | None) -> Label | None:
    """The same label, angles in degrees."""
    if label is None or label.unit != "rad":
        return label
    value, low, high = (float(np.degrees(x)) for x in (label.value, label.low, label.high))
    return replace(label, value=value, low=low, high=high, unit=_DEGREES)


def label_text(label: Label | None) -> str:
    """Value and uncertainty: `12.3 ± 1.5`, or `1,230 +310 −250` where they differ."""
    if label is None:
        return ""
    text = number_text(label.value)
    above, below = label.high - label.value, label.value - label.low
    if not np.isfinite([above, below]).all():
        return text
    if np.isclose(above, below, rtol=0.02):
        return f"{text} ± {_two_digits(above)}"
    return f"{text} +{_two_digits(above)} −{_two_digits(below)}"


def number_text(value: float) -> str:
    """Four digits, large numbers with commas."""
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.4g}"


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.0f}" if 100 <= abs(value) < 1e7 else f"{value:.2g}"
