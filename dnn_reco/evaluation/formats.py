"""How tables and files of results write numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dnn_reco.evaluation.metrics import ValueWithError
from dnn_reco.evaluation.probability import Share
from dnn_reco.evaluation.reconstruction import TrueEvents

MISSING = "–"


def format_measured(measured: ValueWithError | None, sign: str = " ± ") -> str:
    """A number with its error, to two digits of the error and three decimals; more if it is small.

    Of errors below 0.001 there is one digit; those below 10⁻⁶ are written as a limit.
    """
    if measured is None or not math.isfinite(measured.value):
        return MISSING
    value, error = float(measured.value), float(measured.error)
    if not (math.isfinite(error) and error > 0):
        return f"{value:.3g}"
    magnitude = math.floor(math.log10(error))
    if magnitude < -6:
        return f"{value:.6f}{sign}<0.000001"
    decimals = max(min(1 - magnitude, 3), -magnitude, 0)
    return f"{value:.{decimals}f}{sign}{error:.{decimals}f}"


def format_aligned(
    measured: ValueWithError, decimals: int, unit: str = "", sign: str = " ± "
) -> str:
    """A number with its error, both with fixed decimals; an error that would read 0 as a limit.

    Parameters
    ----------
    measured
        Value and error; one that is not positive is not known.
    decimals
        Number of decimals.
    unit
        Unit of both, without a space, such as "°".
    sign
        What is between value and error.
    """
    text = f"{measured.value:.{decimals}f}{unit}"
    if not measured.error > 0:
        return text
    least = 10.0**-decimals
    limit = "" if measured.error >= least / 2 else "<"
    return f"{text}{sign}{limit}{max(measured.error, least):.{decimals}f}{unit}"


def format_energy(energy: float) -> str:
    """An energy in GeV with the unit that reads best: 10 TeV."""
    for factor, unit in ((1e6, "PeV"), (1e3, "TeV")):
        if energy >= factor:
            return f"{energy / factor:g} {unit}"
    return f"{energy:g} GeV"


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


def events_text(events: TrueEvents) -> str:
    """The number of events, and that they have weights, for captions."""
    return f"{len(events):,} events" + ("" if events.weights is None else ", weighted")


def plain(value: Any) -> Any:
    """Numbers for JSON: arrays become lists, what is not finite None; named tuples mappings."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
