"""How a model reads its inputs from frames, and the events of files of frames as it reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.data_settings import DataSettings, check_data_settings, check_given_settings
from dnn_reco.data.file_events import EVENT_ID, FileEvents
from dnn_reco.data.hits import Hits, join_hits
from dnn_reco.data_creation.frame_events import StreamNumbers, event_ids, frame_events, is_event
from dnn_reco.data_creation.own_format import OwnFormat, own_format
from dnn_reco.errors import DataError, ModelError
from dnn_reco.i3.frame import Frame
from dnn_reco.i3.reader import read_i3
from dnn_reco.inference.model_info import ModelInfo

_BLOCK = 100  # events whose features are computed at once


@dataclass(frozen=True)
class FrameReading:
    """How the features that a model reads are made of frames.

    Attributes
    ----------
    settings
        The settings of the features.
    user_format
        The user's function, if the data format is one.
    init_values
        Values [F] of bins that an event file would not list.
    dtype
        Type of the features.
    ignored
        Mismatches with the model's training data that are ignored.
    """

    settings: DataSettings
    user_format: OwnFormat | None
    init_values: tuple[float, ...]
    dtype: str
    ignored: tuple[str, ...] = ()

    def events(self, frames: Sequence[Frame], ids: NDArray[np.void]) -> FileEvents:
        """The events of P frames, with their ids [n].

        Raises
        ------
        DataError
            If an object is damaged or of a wrong kind.
        """
        return frame_events(
            frames, self.settings, ids, self.init_values, self.dtype, self.user_format
        )


def frame_reading(
    info: ModelInfo,
    pulses: str | None = None,
    given: DataSettings | None = None,
    ignore_mismatch: Collection[str] = (),
    allow_code: Collection[str] = (),
) -> FrameReading:
    """How a model reads frames.

    Parameters
    ----------
    info
        The model.
    pulses
        Name of the pulses; None: those of the training.
    given
        Settings of the features for models that do not hold them.
    ignore_mismatch
        Settings that may differ from those of the training.
    allow_code
        Packages whose functions may be called as data formats.

    Raises
    ------
    ModelError
        If it is not known how the features are made, or the pulses are not those of the training.
    ConfigError
        If the given settings contradict those of the model.
    """
    if info.misc_names:
        raise ModelError(
            f"the network of '{info.name}' reads misc data ({', '.join(info.misc_names)}), which "
            "frames do not hold: create HDF5 files with dnn-reco create-data, and apply the model "
            "to them"
        )
    own = info.data_settings or given
    if own is None:
        raise ModelError(
            f"the model '{info.name}' does not hold the settings of its training data: export "
            "or import it again with -s/--data-settings, or give --data-settings"
        )
    if given is not None:
        check_given_settings(given, own, f"the model '{info.name}'", ignore_mismatch)
    settings = own if pulses is None else replace(own, pulse_key=pulses)
    if settings.pulse_key is None:
        raise ModelError(
            f"the model '{info.name}' does not record the pulses that it was trained on (simulated "
            "events have no name of pulses): give --pulses, such as --pulses InIceDSTPulses"
        )
    try:
        ignored = check_data_settings(own, settings, "--pulses", ignore_mismatch)
    except DataError as error:
        raise ModelError(f"the model '{info.name}' cannot be applied: {error}") from error
    is_allowed = settings.data_format.partition(".")[0] in allow_code
    return FrameReading(
        settings,
        own_format(settings.data_format, is_allowed),
        info.init_values,
        info.float_precision,
        tuple(f"model '{info.name}', {text}" for text in ignored),
    )


def read_frame_events(path: Path, reading: FrameReading) -> FileEvents:
    """All events of a file with frames.

    Raises
    ------
    DataError
        If the file cannot be read to its end, a frame does not fit its checksum, or an object is
        damaged or of a wrong kind.
    """
    frames = (frame for frame in read_i3(path, verify=True) if is_event(frame))
    return events_of_frames(frames, reading)


def physics_frames(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The frames, of which each must be a P frame.

    Raises
    ------
    DataError
        If one is another frame.
    """
    for number, frame in enumerate(frames):
        if frame.stop != "P":
            raise DataError(
                f"frame {number} has the stop '{frame.stop}', but events are in P frames: pass "
                'those alone, (frame for frame in frames if frame.stop == "P")'
            )
        yield frame


def events_of_frames(frames: Iterable[Frame], reading: FrameReading) -> FileEvents:
    """One event for each P frame.

    Raises
    ------
    DataError
        If an object is damaged or of a wrong kind.
    """
    streams = StreamNumbers()
    parts: list[FileEvents] = []
    block: list[Frame] = []
    for frame in frames:
        block.append(frame)
        if len(block) == _BLOCK:
            parts.append(reading.events(block, event_ids(block, streams)))
            block = []
    parts.append(reading.events(block, event_ids(block, streams)))
    return _joined(parts)


def _joined(parts: Sequence[FileEvents]) -> FileEvents:
    """The events of several parts, one after the other."""
    hits: Hits = join_hits([part.hits for part in parts])
    return FileEvents(
        np.concatenate([part.ids for part in parts]).astype(EVENT_ID),
        np.concatenate([part.time_offset for part in parts]),
        np.concatenate([part.exists for part in parts]),
        hits,
        {},
    )
