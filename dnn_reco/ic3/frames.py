"""Frame objects as NumPy arrays, and predictions as frame objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from icecube import dataclasses as i3
from numpy.typing import NDArray

from dnn_reco.data.exclusions import ExcludedDoms, ExcludedWindows, exclude
from dnn_reco.data.pulses import Pulses
from dnn_reco.detector.geometry import dom_index
from dnn_reco.errors import DataError
from dnn_reco.inference.prediction_table import PARTICLE_SUFFIX, PredictionTable, Status

Frame: TypeAlias = Any
"""icecube.icetray.I3Frame; IceTray has no types for mypy."""

EventKey: TypeAlias = tuple[int, int, int, str]
"""Run, event, sub-event and name of the sub-event stream."""

_EMPTY_STREAM = "NullSplit"  # P frames that carry information about a Q frame and no event

_FIT_STATUS = {Status.OK: "OK", Status.NO_HITS: "InsufficientHits"}
_OTHER_FIT_STATUS = "GeneralFailure"


@dataclass(frozen=True)
class FrameInput:
    """What the input features of one P frame are computed from.

    Attributes
    ----------
    event
        Its event; None: the frame has no header.
    pulses
        Pulses of one event, those that are excluded left out.
    vertex
        x, y, z [m] and time [ns] of the cascade [4]; NaN where the frame has none.
    exists
        Whether the frame is an event and has the pulse map.
    num_excluded
        Number of pulses left out.
    """

    event: EventKey | None
    pulses: Pulses
    vertex: NDArray[np.float64]
    exists: bool
    num_excluded: int = 0


# --------------------------------------------------------------------------------------------------
# Reading
# --------------------------------------------------------------------------------------------------
def event_key(frame: Frame) -> EventKey | None:
    """The event of a P frame; None: it has no header."""
    if "I3EventHeader" not in frame:
        return None
    header = frame["I3EventHeader"]
    return header.run_id, header.event_id, header.sub_event_id, header.sub_event_stream


def is_event(frame: Frame) -> bool:
    """Whether a P frame is an event, not only a place for information about its Q frame."""
    event = event_key(frame)
    return event is None or event[3] != _EMPTY_STREAM


def frame_input(
    frame: Frame,
    pulse_key: str,
    dom_exclusions: Sequence[str],
    partial_exclusion: bool,
    cascade_key: str | None,
) -> FrameInput:
    """The input of one P frame.

    Parameters
    ----------
    frame
        A P frame.
    pulse_key
        Name of its pulse map, mask or union.
    dom_exclusions
        Names of lists of DOMs and maps of time windows to exclude; those it lacks are skipped.
    partial_exclusion
        Whether only pulses inside of time windows are left out, not all of the DOM.
    cascade_key
        Name of the particle that gives the vertex.

    Raises
    ------
    DataError
        If one of the names is that of an object of another kind.
    """
    series_map = _pulse_map(frame, pulse_key) if is_event(frame) else None
    found = pulses_of({} if series_map is None else series_map)
    kept = exclude(found, *read_exclusions(frame, dom_exclusions), partial_exclusion)
    return FrameInput(
        event=event_key(frame),
        pulses=kept,
        vertex=_vertex(frame, cascade_key),
        exists=series_map is not None,
        num_excluded=len(found.time) - len(kept.time),
    )


def _pulse_map(frame: Frame, key: str) -> Any:
    """The pulse map; None: the frame has none, or only a mask without the pulses behind it."""
    if key not in frame:
        return None
    found = frame[key]
    if hasattr(found, "apply"):
        try:
            return found.apply(frame)
        except (KeyError, RuntimeError):  # IceTray's own errors arrive as RuntimeError
            return None
    if not hasattr(found, "items"):
        raise DataError(f"'{key}' is a {type(found).__name__}, not a map, mask or union of pulses")
    return found


def pulses_of(series_map: Any) -> Pulses:
    """The pulses of one event from a map of OMKeys to lists of pulses."""
    rows = [
        (key.string, key.om, pulse.time, pulse.charge, int(pulse.flags))
        for key, series in series_map.items()
        for pulse in series
    ]
    string, om, time, charge, flags = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    dom = dom_index(string.astype(np.int64), om.astype(np.int64))
    order = np.lexsort((time, dom))
    return Pulses(
        1,
        np.zeros(len(rows), dtype=np.int64),
        dom[order],
        time[order],
        charge[order],
        flags[order].astype(np.uint8),
    )


def read_exclusions(frame: Frame, keys: Iterable[str]) -> tuple[ExcludedDoms, ExcludedWindows]:
    """What a frame excludes.

    Parameters
    ----------
    frame
        The frame.
    keys
        Names of lists of OMKeys and of maps of time windows.

    Raises
    ------
    DataError
        If one of them is of an unexpected kind.
    """
    doms: list[Any] = []
    windows: list[tuple[Any, float, float]] = []
    for key in keys:
        if key not in frame:
            continue
        found = frame[key]
        try:
            if hasattr(found, "items"):
                windows.extend(_windows(found))
            else:
                doms.extend((om_key.string, om_key.om) for om_key in found)
        except (AttributeError, TypeError) as error:
            raise DataError(
                f"'{key}' in 'dom_exclusions' is a {type(found).__name__}; allowed: a list of "
                "OMKeys (I3VectorOMKey) or a map of time windows (I3TimeWindowSeriesMap)"
            ) from error
    dom = _dom_indices(doms)
    of_window = _dom_indices([(om_key.string, om_key.om) for om_key, _, _ in windows])
    return (
        ExcludedDoms(np.zeros_like(dom), dom),
        ExcludedWindows(
            np.zeros_like(of_window),
            of_window,
            np.array([start for _, start, _ in windows], dtype=np.float64),
            np.array([stop for _, _, stop in windows], dtype=np.float64),
        ),
    )


def _windows(series_map: Any) -> Iterator[tuple[Any, float, float]]:
    """OMKey, start and stop of each window; one of no length for a DOM without any."""
    for om_key, series in series_map.items():
        yield om_key, 0.0, 0.0
        for window in series:
            yield om_key, window.start, window.stop


def _dom_indices(string_and_om: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    string, om = np.array(string_and_om, dtype=np.int64).reshape(-1, 2).T
    return dom_index(string, om)


def _vertex(frame: Frame, key: str | None) -> NDArray[np.float64]:
    if key is None or key not in frame:
        return np.full(4, np.nan)
    particle = frame[key]
    return np.array([particle.pos.x, particle.pos.y, particle.pos.z, particle.time])


# --------------------------------------------------------------------------------------------------
# Writing
# --------------------------------------------------------------------------------------------------
def values_of(table: PredictionTable) -> list[dict[str, float]]:
    """Labels, uncertainties and status of each event, by name."""
    columns = {**table.columns(), "status": np.asarray(_status(table), dtype=np.float64)}
    rows = np.stack(list(columns.values()), axis=1).tolist()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def particles_of(table: PredictionTable) -> list[Any]:
    """The particle predicted for each event, an I3Particle; NaN where unknown.

    Directions are set from zenith and azimuth, in the order that I3Direction has them.
    """
    columns = {name: column.tolist() for name, column in table.particle().items()}
    return [
        _particle({name: values[i] for name, values in columns.items()}, status)
        for i, status in enumerate(_status(table))
    ]


def _particle(value: Mapping[str, float], status: Status) -> Any:
    particle = i3.I3Particle()
    particle.pos = i3.I3Position(value["x"], value["y"], value["z"])
    particle.dir = i3.I3Direction(value["zenith"], value["azimuth"])
    particle.time = value["time"]
    particle.energy = value["energy"]
    particle.length = value["length"]
    fit_status = _FIT_STATUS.get(status, _OTHER_FIT_STATUS)
    particle.fit_status = getattr(i3.I3Particle.FitStatus, fit_status)
    return particle


def put(frame: Frame, key: str, values: Mapping[str, float], particle: Any | None) -> None:
    """Write a result to a P frame: the values as `key`, the particle as `<key>_I3Particle`.

    Raises
    ------
    DataError
        If the frame has such objects already.
    """
    objects = {key: i3.I3MapStringDouble(dict(values))}
    if particle is not None:
        objects[f"{key}{PARTICLE_SUFFIX}"] = particle
    for name, found in objects.items():
        if name in frame:
            raise DataError(
                f"the frame already has an object '{name}': choose another OutputBaseName "
                "(output_keys), or delete the object first"
            )
        frame[name] = found


def _status(table: PredictionTable) -> list[Status]:
    if table.status is None:
        return [Status.OK] * len(table)
    return [Status(number) for number in table.status.tolist()]
