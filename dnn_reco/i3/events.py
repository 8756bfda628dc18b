"""Events of frames: their headers, and finding one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dnn_reco.errors import DataError
from dnn_reco.i3.frame import Frame
from dnn_reco.i3.objects import EventHeader

HEADER = "I3EventHeader"
_SHOWN = 5


def header_of(frame: Frame) -> EventHeader | None:
    """Header of the event that a frame belongs to; None: it has none.

    Raises
    ------
    DataError
        If it cannot be decoded.
    """
    header = frame.get(HEADER)
    return header if isinstance(header, EventHeader) else None


def pulse_keys(frame: Frame) -> list[str]:
    """Names of the pulses of a frame: maps, masks and other references, sorted."""
    classes = {key: frame.object(key).class_name for key in frame}
    return sorted(
        key
        for key, name in classes.items()
        if name.startswith("I3RecoPulseSeriesMap") or name == "I3SuperDST"
    )


def find_frame(
    frames: Iterable[Frame], event: int | tuple[int, ...], stop: str
) -> tuple[int, Frame]:
    """The frame of an event, and its number among the frames of its stop.

    Parameters
    ----------
    frames
        Frames of a file.
    event
        Its number among the frames of this stop, from 0, or its run, event and sub-event, of which
        the last may be left out.
    stop
        Stop of the frame.

    Raises
    ------
    DataError
        If there is no such frame, or several have the id.
    """
    found: list[tuple[int, Frame]] = []
    num_frames: Counter[str] = Counter()
    for frame in frames:
        number = num_frames[frame.stop]
        num_frames[frame.stop] += 1
        if frame.stop != stop:
            continue
        if isinstance(event, int):
            if number == event:
                return number, frame
        elif _has_id(frame, event) and len(found) <= _SHOWN:
            found.append((number, frame))
    if not num_frames[stop]:
        raise DataError(f"there is no {stop} frame, but {count_text(num_frames)}")
    if isinstance(event, int):
        raise DataError(
            f"there is no event {event}: there are {num_frames[stop]} {stop} frames, counted from 0"
        )
    text = ":".join(map(str, event))
    if not found:
        raise DataError(f"none of the {num_frames[stop]} {stop} frames has the event id {text}")
    if len(found) > 1:
        numbers = ", ".join(str(number) for number, _ in found[:_SHOWN])
        raise DataError(
            f"several {stop} frames have the event id {text}: give the number of one, --event "
            f"{found[0][0]} (they are {numbers}{', …' if len(found) > _SHOWN else ''})"
        )
    return found[0]


def _has_id(frame: Frame, event: tuple[int, ...]) -> bool:
    header = header_of(frame)
    if header is None:
        return False
    return (header.run, header.event, header.sub_event)[: len(event)] == event


def count_text(num_frames: Counter[str]) -> str:
    """Numbers of frames by stop, such as `3 I, 5 Q, 5 P`."""
    return ", ".join(f"{number:,} {stop}" for stop, number in num_frames.items()) or "no frame"
