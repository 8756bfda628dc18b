"""What the values of labels are: absolute or relative times, exact or smoothed classes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from dnn_reco.data.records import RecordSettings, relative_time_columns


def relative_time_names(names: Sequence[str], settings: RecordSettings) -> tuple[str, ...]:
    """Names of the columns of :func:`relative_time_columns`."""
    return tuple(compress(names, relative_time_columns(names, settings)))


def differing_labels(
    first: Sequence[str],
    first_settings: RecordSettings,
    second: Sequence[str],
    settings: RecordSettings,
) -> str:
    """The labels of the same name but of other values, as text; empty: there are none.

    The settings are what the labels of the names before them depend on.
    """
    one = _label_definitions(first, first_settings)
    other = _label_definitions(second, settings)
    return "; ".join(
        f"{name} is {one[name]} in the former, {other[name]} in the latter"
        for name in first
        if name in other and other[name] != one[name]
    )


def _label_definitions(names: Sequence[str], settings: RecordSettings) -> dict[str, str]:
    """What is done to the values of each label, in words."""
    smoothed = f", smoothed by {settings.pid_smoothing:g}" if settings.pid_smoothing else ""
    relative = relative_time_names(names, settings)
    return {
        name: ("relative to the time offset" if name in relative else "as in the files")
        + (smoothed if name in settings.pid_keys else "")
        for name in names
    }
