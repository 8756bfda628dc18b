"""Models applied to one file with frames, which are written back with the predictions."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data_creation.frame_events import StreamNumbers, event_ids, is_event
from dnn_reco.errors import DataError
from dnn_reco.i3.events import pulse_keys
from dnn_reco.i3.frame import Frame
from dnn_reco.i3.objects import Particle
from dnn_reco.i3.reader import read_i3
from dnn_reco.i3.writer import FrameWriter
from dnn_reco.inference.frame_reading import FrameReading
from dnn_reco.inference.output_file import Predictions
from dnn_reco.inference.prediction_table import (
    PredictionTable,
    Status,
    table_names,
)
from dnn_reco.inference.reconstructor import Reconstructor

_MOST_BYTES = 2**26  # of frames that wait for a batch

# Fit status of a particle by the status of its event: 0 OK, 20 insufficient hits; else a failure.
_FIT_STATUS = {Status.OK: 0, Status.NO_HITS: 20}
_GENERAL_FAILURE = 10


@dataclass(frozen=True)
class FrameModel:
    """A model, and how it reads frames."""

    model: Reconstructor
    reading: FrameReading


@dataclass
class FrameFile:
    """The predictions for the events of a file.

    Attributes
    ----------
    ids
        Ids of the n events.
    predictions
        Predictions of each model for them.
    streams
        Names of the sub-event streams, by number.
    pulses
        Names of the pulses that the first event has.
    absent_exclusions
        Lists of DOMs and time windows that the models leave out, and that no event has.
    """

    ids: NDArray[np.void]
    predictions: list[Predictions]
    streams: Mapping[int, str]
    pulses: tuple[str, ...]
    absent_exclusions: tuple[str, ...]


def reconstruct_frames(
    path: Path,
    gcd: Path | None,
    models: Sequence[FrameModel],
    batch_size: int,
    measure_time: bool,
    output: FrameWriter | None = None,
) -> FrameFile:
    """Predict the events of a file with frames, and write the frames with the predictions.

    Frames of all kinds are written in the order in which they are read. Each P frame that is an
    event gets the labels of each model, their uncertainties and a `status`
    (:class:`dnn_reco.inference.prediction_table.Status`) as I3MapStringDouble, and a particle if
    the model predicts one.

    Parameters
    ----------
    path
        The file.
    gcd
        File with geometry, calibration and detector status that its frames inherit; None: there is
        none, or they are part of the file.
    models
        The models.
    batch_size
        Events to predict at once.
    measure_time
        Whether to write run times.
    output
        Where frames are written; None: they are not.

    Raises
    ------
    DataError
        If a file cannot be read to its end, an object is damaged, or a P frame has an object of
        the name of a prediction already.
    """
    batch = _Batch(models, measure_time, output)
    for frame in read_i3(path, verify=True, gcd=gcd):
        batch.add(frame)
        if len(batch.events) == batch_size or batch.num_bytes > _MOST_BYTES:
            batch.finish()
    batch.finish()
    return batch.joined()


@dataclass
class _Batch:
    """Frames that wait for the prediction of their events, and all predictions so far."""

    models: Sequence[FrameModel]
    measure_time: bool
    output: FrameWriter | None
    frames: list[Frame] = field(default_factory=list)
    events: list[Frame] = field(default_factory=list)
    num_bytes: int = 0
    ids: list[NDArray[np.void]] = field(default_factory=list)
    tables: list[list[PredictionTable]] = field(default_factory=list)
    seconds: list[list[float]] = field(default_factory=list)
    streams: StreamNumbers = field(default_factory=StreamNumbers)
    pulses: tuple[str, ...] = ()
    unseen: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tables = [[] for _ in self.models]
        exclusions = [each.reading.settings.dom_exclusions or () for each in self.models]
        self.unseen = dict.fromkeys(key for keys in exclusions for key in keys)
        self.seconds = [[0.0, 0.0] for _ in self.models]

    def add(self, frame: Frame) -> None:
        """Keep a frame until the events before it are predicted."""
        self.num_bytes += frame.num_bytes
        if self.output is not None:
            self.frames.append(frame)
        if is_event(frame):
            if not self.ids and not self.events:
                self.pulses = tuple(pulse_keys(frame))
            for key in [key for key in self.unseen if key in frame]:
                del self.unseen[key]
            self.events.append(frame)

    def finish(self) -> None:
        """Predict the events that wait, and write the frames."""
        if self.events or not self.ids:
            self._predict()
        for frame in self.frames:
            assert self.output is not None
            self.output.write(frame)
        self.frames.clear()
        self.events.clear()
        self.num_bytes = 0

    def _predict(self) -> None:
        ids = event_ids(self.events, self.streams)
        self.ids.append(ids)
        for number, each in enumerate(self.models):
            started = time.perf_counter()
            events = each.reading.events(self.events, ids)
            made = time.perf_counter()
            table = each.model.predict_events(events)
            predicted = time.perf_counter()
            self.tables[number].append(table)
            self.seconds[number][0] += predicted - made
            self.seconds[number][1] += made - started
            if self.output is not None:
                self._put(each.model, table, (predicted - made, made - started))

    def _put(
        self, model: Reconstructor, table: PredictionTable, seconds: tuple[float, float]
    ) -> None:
        """Put the predictions of a model into the P frames."""
        key, key_of_particle = table_names(model.info.name)
        num_events = max(1, len(table))
        runtime = (seconds[0] / num_events, seconds[1] / num_events) if self.measure_time else None
        columns = Predictions(model.info.name, table, runtime).columns()
        rows = np.stack([np.asarray(c, dtype=np.float64) for c in columns.values()], axis=1)
        before = sum(len(ids) for ids in self.ids) - len(table)
        particles = particles_of(table, key, before) if model.info.particle else [None] * len(table)
        for frame, row, particle in zip(self.events, rows.tolist(), particles, strict=True):
            _put(frame, key, dict(zip(columns, row, strict=True)))
            if particle is not None:
                _put(frame, key_of_particle, particle)

    def joined(self) -> FrameFile:
        """All predictions."""
        predictions = []
        num_events = sum(len(ids) for ids in self.ids)
        for each, tables, seconds in zip(self.models, self.tables, self.seconds, strict=True):
            mean = (seconds[0] / max(1, num_events), seconds[1] / max(1, num_events))
            runtime = mean if self.measure_time else None
            predictions.append(
                Predictions(each.model.info.name, PredictionTable.joined(tables), runtime)
            )
        return FrameFile(
            np.concatenate(self.ids),
            predictions,
            self.streams.names,
            self.pulses,
            tuple(self.unseen),
        )


def _put(frame: Frame, key: str, value: Any) -> None:
    if key in frame:
        raise DataError(
            f"{frame.source} has an object '{key}' already, as an output of this command has: "
            "apply the model to the original file, or rename the model folder"
        )
    frame.put(key, value)


def particles_of(table: PredictionTable, key: str, before: int = 0) -> list[Particle]:
    """The particle predicted for each event; NaN where unknown.

    Parameters
    ----------
    table
        Predictions of n events.
    key
        What the particles are called: particles of different names have different ids.
    before
        Number of events of the file before these, from which the minor ids continue.
    """
    columns = {name: column.tolist() for name, column in table.particle().items()}
    status = [Status.OK] * len(table) if table.status is None else table.status.tolist()
    names = ("x", "y", "z", "zenith", "azimuth", "time", "energy", "length")
    major = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
    return [
        Particle(
            **{name: columns[name][i] for name in names},
            fit_status=_FIT_STATUS.get(Status(status[i]), _GENERAL_FAILURE),
            major_id=major,
            minor_id=before + i + 1,
        )
        for i in range(len(table))
    ]
