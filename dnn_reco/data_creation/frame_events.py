"""Events of P frames, with their hits, for prediction: no labels, no tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.features import hits_as_read
from dnn_reco.data.file_events import EVENT_ID, FileEvents
from dnn_reco.data.hdf5.tables import SUB_EVENT_STREAMS
from dnn_reco.data_creation.block_inputs import make_inputs
from dnn_reco.data_creation.frame_inputs import frame_input
from dnn_reco.data_creation.own_format import OwnFormat
from dnn_reco.i3.events import header_of
from dnn_reco.i3.frame import Frame

_NO_EVENT = "NullSplit"  # P frames of this stream carry information about their Q frame


def is_event(frame: Frame) -> bool:
    """Whether a frame is an event that can be reconstructed."""
    if frame.stop != "P":
        return False
    header = header_of(frame)
    return header is not None and header.stream != _NO_EVENT


class StreamNumbers:
    """Numbers of sub-event streams: the usual ones first, others as they appear."""

    def __init__(self) -> None:
        self.numbers = {name: number for number, name in enumerate(SUB_EVENT_STREAMS)}

    def number(self, name: str) -> int:
        """The number of a stream."""
        return self.numbers.setdefault(name, len(self.numbers))

    @property
    def names(self) -> dict[int, str]:
        """Names by number."""
        return {number: name for name, number in self.numbers.items()}


def event_ids(frames: Sequence[Frame], streams: StreamNumbers) -> NDArray[np.void]:
    """Ids [n] of the events of P frames; all numbers are 0 where there is no header."""
    ids = np.zeros(len(frames), dtype=EVENT_ID)
    for i, frame in enumerate(frames):
        header = header_of(frame)
        if header is not None:
            stream = streams.number(header.stream)
            ids[i] = header.run, header.event, header.sub_event, stream
    return ids


def frame_events(
    frames: Sequence[Frame],
    settings: DataSettings,
    ids: NDArray[np.void],
    init_values: Sequence[float],
    dtype: str = "float32",
    own: OwnFormat | None = None,
) -> FileEvents:
    """The events of P frames, as if they had been read from an event file.

    Parameters
    ----------
    frames
        n P frames, with the objects of their Q frames.
    settings
        How the features are made.
    ids
        Ids of the events [n].
    init_values
        Values [F] of bins that an event file would not list.
    dtype
        Type of the features.
    own
        The user's function, if the data format is one.

    Raises
    ------
    ConfigError
        If such features cannot be made.
    DataError
        If an object is damaged or of a wrong kind.
    """
    inputs = [frame_input(frame, settings, keep_frame=own is not None) for frame in frames]
    made = make_inputs(inputs, settings, ids, own=own)
    hits = hits_as_read(made.features.hits, settings.data_format, init_values)
    return FileEvents(
        ids,
        made.features.time_offset,
        made.exists,
        replace(hits, features=hits.features.astype(dtype)),
        {},
    )
