"""How tables of the report write numbers, and grids of panels for its figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dnn_reco.evaluation.metrics import ValueWithError
from dnn_reco.evaluation.probability import Share
from dnn_reco.figure_style import panels

MISSING = "–"


def panel_grid(
    number: int, columns: int, panel_size: tuple[float, float]
) -> tuple[Figure, Sequence[Axes]]:
    """A figure with a number of panels, in rows of at most so many columns."""
    rows = math.ceil(number / columns)
    figure, axes = panels(rows, math.ceil(number / rows), panel_size)
    for unused in axes[number:]:
        unused.set_axis_off()
    return figure, axes[:number]


def format_share(share: Share) -> str:
    """A share with half the width of its interval, in percent."""
    if not math.isfinite(share.value):
        return MISSING
    half = float(share.high - share.low) / 2
    decimals = 1 if half < 0.02 else 0
    return f"{100 * share.value:.{decimals}f} ± {100 * half:.{decimals}f} %"


def format_count(number: float) -> str:
    """A number of events."""
    return f"{number:,.0f}"


def share_numbers(share: Share) -> dict[str, float | None]:
    """A share as plain numbers; None where it is unknown."""
    value, low, high = (plain(float(part)) for part in share)
    return {"value": value, "low": low, "high": high}


def measured_numbers(measured: ValueWithError) -> dict[str, float | None]:
    """A number with its error as plain numbers; None where one is unknown."""
    value, error = (plain(float(part)) for part in measured)
    return {"value": value, "error": error}


def plain(value: float) -> float | None:
    """The number, or None in place of one that JSON does not know."""
    return value if math.isfinite(value) else None
