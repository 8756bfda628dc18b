"""Prediction: hits, pulses, dense arrays or files in, labels and uncertainties out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from copy import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.data_settings import DataSettings, check_data_settings, features_of
from dnn_reco.data.event_table import EventTable, NamedColumns
from dnn_reco.data.features import hits_as_read
from dnn_reco.data.file_events import EVENT_ID, FileEvents, HitsSettings
from dnn_reco.data.hdf5 import input_tables, read_record
from dnn_reco.data.hits import Hits, check_dense, check_hits, hits_of_dense
from dnn_reco.data.pulses import Pulses, check_pulses
from dnn_reco.errors import ConfigError, DataError, ModelError
from dnn_reco.event_sources import read_events
from dnn_reco.files import find_files
from dnn_reco.i3.frame import Frame
from dnn_reco.i3.reader import is_i3
from dnn_reco.inference.backend import Backend, check_features, joined_outputs, predict_chunks
from dnn_reco.inference.frame_reading import (
    FrameReading,
    events_of_frames,
    frame_reading,
    physics_frames,
    read_frame_events,
)
from dnn_reco.inference.model_info import ModelInfo
from dnn_reco.inference.prediction_table import PredictionTable, Status
from dnn_reco.inference.sky import SkyDensity
from dnn_reco.inference.sky_densities import Mixture
from dnn_reco.inference.sky_labels import check_event, sky_density
from dnn_reco.nn.density_layout import predicted_shapes

if TYPE_CHECKING:
    from dnn_reco.inference.trained_model import TrainedModel

Source: TypeAlias = "Hits | Pulses | EventTable | FileEvents | str | Path | Sequence[str | Path]"

_FILES = "the events to reconstruct"


class Reconstructor:
    """Applies a trained model to events, wherever they come from.

    Several threads may use one reconstructor at once.

    Parameters
    ----------
    model
        A model folder, `pretrained:NAME` for a model of the package, or a loaded model.
    device
        Where PyTorch computes: "cpu", "cuda", "cuda:1", …; "auto": a GPU if there is one.
    num_threads
        CPU threads to use at most; None: as many as the libraries like.
    backend
        "torch", or "onnxruntime" for the ONNX graphs of a model folder, which needs no torch;
        "auto": torch where it is installed.
    batch_size
        Events to predict at once.
    allow_code
        Packages besides dnn_reco whose code the model folder may name: it is run.
    inputs
        Common beginning of the names of the input tables of event files; None: those of the
        training.
    raw
        Whether to leave out the calibration of the model, if it has one.
    pulses
        Name of the pulses of frames; None: those of the training.

    Attributes
    ----------
    info
        What the model predicts and reads.
    data_settings
        How its training data were made; None: unknown.

    Raises
    ------
    ConfigError
        If the device or the backend cannot be used.
    ModelError
        If there is no such model folder, or it is damaged or not complete.

    Examples
    --------
    >>> from dnn_reco import Reconstructor
    >>> reco = Reconstructor("models/my_model", device="cpu", num_threads=1)
    >>> predictions = reco.predict("data/*.hdf5")
    >>> predictions["EnergyVisible"].shape, predictions["EnergyVisible_log_uncertainty"].shape
    ((60,), (60,))
    """

    def __init__(
        self,
        model: str | Path | TrainedModel,
        device: str = "auto",
        num_threads: int | None = None,
        *,
        backend: str = "auto",
        batch_size: int = 256,
        allow_code: Collection[str] = (),
        inputs: str | None = None,
        raw: bool = False,
        pulses: str | None = None,
    ) -> None:
        from dnn_reco.inference.load import make_backend

        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}: it must be at least 1")
        self.backend: Backend = make_backend(model, device, num_threads, backend, allow_code, raw)
        self.batch_size = batch_size
        self.inputs = inputs
        self.pulses = pulses
        self._allow_code = tuple(allow_code)

    @property
    def info(self) -> ModelInfo:
        """What the model predicts and reads."""
        return self.backend.info

    @property
    def data_settings(self) -> DataSettings | None:
        """How the training data of the model were made; None: unknown."""
        return self.info.data_settings

    def predict(
        self,
        source: Source,
        *,
        misc: NDArray[np.floating] | NamedColumns | None = None,
        time_offset: NDArray[np.floating] | None = None,
        ignore_mismatch: Collection[str] = (),
    ) -> PredictionTable:
        """Predict the trained labels of all events of a source, one row per event.

        Parameters
        ----------
        source
            Path or glob pattern of event files, or several, which are read in their order, each
            pattern's files in sorted order; hits; pulses, whose features are computed as the model
            asks; or events that `open_events` has read. In formats of which files do not list
            zeros, bins of hits that are 0 count as not listed.
        misc
            Misc data of the events, where the network reads them: named columns, or an array
            [n, M] in the order of `info.misc_names`. None: those of events; files have their own.
        time_offset
            Time that the times of hits are relative to [n], ns: predicted times become absolute by
            it. None: they stay relative (only hits need it).
        ignore_mismatch
            Data settings that may differ between the files or events and the training.

        Returns
        -------
        predictions
            With ids, where known, and a status: rows of events that cannot be reconstructed are
            NaN.

        Raises
        ------
        DataError
            If no file matches a name or one cannot be read, if data were made with other settings
            than those of the training, if hits or pulses are invalid, or if misc data are missing.
        ConfigError
            If misc data or time offsets are given for a source that has its own.
        """
        if time_offset is not None and not isinstance(source, Hits):
            raise ConfigError("time_offset is for hits alone: all other sources have their own")
        if misc is not None and not isinstance(source, Hits | Pulses | EventTable | FileEvents):
            raise ConfigError("misc is not for files: their misc data are read from them")
        if isinstance(source, EventTable):
            self._check_settings(source.data_settings, "the events", ignore_mismatch)
            misc = source.misc if misc is None else misc
        values = _columns_read(self.info, misc) if isinstance(misc, NamedColumns) else misc
        if isinstance(source, Hits):
            return self.predict_events(_events_of(self.info, source, time_offset), values)
        if isinstance(source, Pulses):
            check_pulses(source)
            return self.predict_events(self.events_of_pulses(source), values)
        if isinstance(source, EventTable):
            events = _events_of(self.info, source.hits, source.time_offset, source.ids)
            return self.predict_events(events, values)
        if isinstance(source, FileEvents):
            return self.predict_events(source, values)
        names = [source] if isinstance(source, str | Path) else list(source)
        paths = [path for name in names for path in find_files([str(name)], _FILES)]
        if not paths:
            raise DataError("no files are given to reconstruct: name at least one")
        tables = [self.predict_file(path, ignore_mismatch) for path in paths]
        return PredictionTable.joined(tables)

    def sky(
        self,
        source: Source | PredictionTable,
        event: int = 0,
        shape: str = "auto",
        *,
        members: bool = False,
        ignore_mismatch: Collection[str] = (),
    ) -> SkyDensity:
        """The direction of one event as a probability density on the sphere.

        Parameters
        ----------
        source
            What :meth:`predict` takes, but one file at most, of which only the event is predicted;
            or what it returned.
        event
            Number of the event in it, from 0.
        shape
            `fisher` (von Mises-Fisher) and `vector` (Gaussian of the vector's components) follow
            from the labels of the direction vector; `circular` and `elliptical` (Gaussian) from
            zenith and azimuth, `predicted` is the mixture or flow of networks with such a head.
            `auto`: the first of predicted, fisher and elliptical that the model has.
        members
            Whether an ensemble gives the mixture of the densities of its networks, each as it
            predicts; else the density has the shape of one network's and the mean of the mixture.
        ignore_mismatch
            Data settings that may differ between the file and the training.

        Raises
        ------
        ConfigError
            If there is no such shape, or members are asked for of predictions.
        DataError
            If there is no such event, or it could not be reconstructed.
        ModelError
            If the model was not trained for the direction, or its networks cannot be had alone.

        Examples
        --------
        >>> from dnn_reco import Reconstructor
        >>> sky = Reconstructor("models/my_model").sky("data/run1.hdf5", event=3)
        >>> area = sky.contour_area([0.5, 0.9])  # square degrees
        """
        if members:
            if isinstance(source, PredictionTable):
                raise ConfigError(
                    "members of an ensemble predict from events: give hits, pulses or files instead"
                )
            parts = [
                each.sky(source, event, shape, ignore_mismatch=ignore_mismatch)
                for each in self._members()
            ]
            return parts[0] if len(parts) == 1 else Mixture(parts)
        if isinstance(source, str | Path):
            path = _one_file(source)
            table = self.predict_file(path, ignore_mismatch, event)
            return sky_density(table, 0, self.info, shape, f"event {event} of '{path}'")
        if not isinstance(source, PredictionTable):
            source = self.predict(source, ignore_mismatch=ignore_mismatch)
        return sky_density(source, event, self.info, shape)

    def predict_file(
        self, path: str | Path, ignore_mismatch: Collection[str] = (), event: int | None = None
    ) -> PredictionTable:
        """Predict all events of one file, in its order, or one of them alone.

        Raises
        ------
        DataError
            If it cannot be read, was made with other data settings than those of the training, or
            has no such event.
        """
        events, misc = self.read_file(path, ignore_mismatch)
        if event is not None:
            check_event(event, len(events.ids), f"'{path}'")
            events = events.select(np.array([event]))
            misc = None if misc is None else misc[event : event + 1]
        return self.predict_events(events, misc)

    def read_file(
        self, path: str | Path, ignore_mismatch: Collection[str] = ()
    ) -> tuple[FileEvents, NDArray[np.floating] | None]:
        """Events of one file as the model reads them, and their misc data, if it reads any.

        Raises
        ------
        DataError
            As for :meth:`predict_file`.
        """
        path = Path(path)
        if is_i3(path):
            return read_frame_events(path, self._reading(ignore_mismatch)), None
        record = read_record(path, self.hits_settings.tables)
        self._check_settings([] if record is None else [record], str(path), ignore_mismatch)
        events = read_events(path, self.hits_settings)
        return events, self.backend.read_misc(path, events)

    def _check_settings(
        self, made: Iterable[DataSettings], source: str, ignore_mismatch: Collection[str]
    ) -> None:
        """Check how the data of a source were made, where that and the training's are known."""
        if self.data_settings is not None:
            for each in made:
                check_data_settings(self.data_settings, each, source, ignore_mismatch)

    def predict_frames(
        self, frames: Iterable[Frame], ignore_mismatch: Collection[str] = ()
    ) -> PredictionTable:
        """Predict the events of P frames (:func:`dnn_reco.read_i3`), one row per frame.

        Raises
        ------
        DataError
            If a frame is not a P frame, or an object is damaged or of a wrong kind.
        ModelError
            If it is not known how the features of the model are made, or of which pulses.
        """
        events = events_of_frames(physics_frames(frames), self._reading(ignore_mismatch))
        return self.predict_events(events)

    def _reading(self, ignore_mismatch: Collection[str]) -> FrameReading:
        """How the model reads frames."""
        return frame_reading(
            self.info, self.pulses, None, ignore_mismatch, allow_code=self._allow_code
        )

    @property
    def hits_settings(self) -> HitsSettings:
        """How the model reads hits from a file."""
        info = self.info
        tables = info.input_tables if self.inputs is None else input_tables(self.inputs)
        return HitsSettings(tables, info.num_features, info.init_values, info.float_precision)

    def events_of_pulses(self, pulses: Pulses) -> FileEvents:
        """Events with the input features of their pulses, computed as the model asks.

        Raises
        ------
        ModelError
            If the model does not hold its data settings.
        ConfigError
            If features of its data format cannot be computed.
        """
        if self.data_settings is None:
            raise ModelError(
                f"'{self.info.name}' does not hold the settings of its training data, so features "
                "cannot be computed from pulses: export or import it again with -s/--data-settings"
            )
        features = features_of(pulses, self.data_settings)
        return _file_events(self.info, features.hits, features.time_offset)

    def predict_dense(
        self,
        x_ic78: NDArray[np.floating],
        x_deepcore: NDArray[np.floating],
        transformed: bool = False,
    ) -> PredictionTable:
        """Predict from dense arrays; predicted times stay relative to the time offset.

        Parameters
        ----------
        x_ic78, x_deepcore
            Main array [n, 10, 10, 60, F] and DeepCore [n, 8, 60, F].
        transformed
            Whether the arrays are transformed already; only networks that read such arrays take
            them. If not, DOMs with the values of a DOM without hit count as not hit.

        Raises
        ------
        DataError
            If the arrays have other shapes, or values that are not finite.
        ModelError
            If they are transformed, and the network does not read such arrays.
        """
        check_dense(x_ic78, x_deepcore, self.info.num_features)
        if not transformed:
            hits = hits_of_dense(x_ic78, x_deepcore, self.info.init_values)
            output = predict_chunks(self.backend, [hits], self.batch_size)
        else:
            num_events = len(x_ic78)
            parts = [
                self.backend.predict_transformed(x_ic78[start:stop], x_deepcore[start:stop])
                for start, stop in pairwise([*range(0, num_events, self.batch_size), num_events])
            ]
            output = joined_outputs(parts, self.info)
        return self._table(output.labels, output.uncertainty, output.shapes)

    def predict_events(
        self, events: FileEvents, misc: NDArray[np.floating] | None = None
    ) -> PredictionTable:
        """Predict the trained labels of events; rows of those without valid input are NaN.

        Parameters
        ----------
        events
            n events.
        misc
            Their misc data [n, M], where the network reads them.

        Raises
        ------
        DataError
            If hits have another number of features, or there are misc data of other events.
        """
        check_features(self.info, events.hits)
        status = input_status(events)
        if misc is not None and len(misc) != len(status):
            raise DataError(f"misc data of {len(misc)} events for {len(status)} events")
        usable = np.flatnonzero(status == Status.OK)
        output = predict_chunks(
            self.backend,
            [events.hits.select(usable)],
            self.batch_size,
            misc=None if misc is None else misc[usable],
        )
        trained = np.isin(self.info.label_names, self.info.trained_labels)
        valid = np.isfinite(output.labels) & np.isfinite(output.uncertainty)
        is_valid = valid[:, trained].all(axis=1)
        status[usable[~is_valid]] = Status.INVALID_PREDICTION
        labels, uncertainty = np.full((2, len(status), len(trained)), np.nan)
        labels[usable], uncertainty[usable] = output.labels, output.uncertainty
        shapes = np.full((len(status), output.shapes.shape[1]), np.nan)
        shapes[usable] = output.shapes
        labels[:, self.info.relative_times] += events.time_offset[:, None]
        ids = events.ids if len(events.ids) else None
        return replace(self._table(labels, uncertainty, shapes), ids=ids, status=status)

    def _members(self) -> list[Reconstructor]:
        """A reconstructor for each network of an ensemble."""
        found = []
        for backend in self.backend.members():
            found.append(copy(self))
            found[-1].backend = backend
        return found

    def _table(
        self,
        labels: NDArray[np.floating],
        uncertainty: NDArray[np.floating],
        shapes: NDArray[np.floating],
    ) -> PredictionTable:
        info = self.info
        table = PredictionTable(
            info.label_names,
            info.has_log,
            labels.astype(np.float64, copy=False),
            uncertainty.astype(np.float64, copy=False),
            particle_labels=info.particle,
            shapes=predicted_shapes(info.densities, shapes),
        )
        return table.select(info.trained_labels)


def _one_file(name: str | Path) -> Path:
    """The only file of a name or glob pattern."""
    paths = find_files([str(name)], _FILES)
    if len(paths) > 1:
        raise DataError(f"'{name}' matches {len(paths)} files: give the one with the event")
    return paths[0]


def _columns_read(info: ModelInfo, misc: NamedColumns) -> NDArray[np.floating] | None:
    """The misc data [n, M] that a network reads, by name; None: it reads none."""
    if not info.misc_names:
        return None
    for name in info.misc_names:
        if name not in misc:
            raise DataError(
                f"the network of '{info.name}' reads the misc data {', '.join(info.misc_names)}, "
                f"but the events have no '{name}'. They have: {', '.join(misc) or 'none'}. Read "
                "them with the config of its training"
            )
    return np.stack([misc[name] for name in info.misc_names], axis=1)


def _events_of(
    info: ModelInfo,
    hits: Hits,
    time_offset: NDArray[np.floating] | None = None,
    ids: NDArray[np.void] | None = None,
) -> FileEvents:
    """Events of hits that a user made, checked."""
    check_hits(hits)
    check_features(info, hits)
    num_events = hits.num_events
    offset = np.zeros(num_events) if time_offset is None else np.asarray(time_offset, np.float64)
    if offset.shape != (num_events,):
        raise DataError(f"time_offset has shape {offset.shape}, but there are {num_events} events")
    return _file_events(info, hits, offset, ids)


def _file_events(
    info: ModelInfo,
    hits: Hits,
    time_offset: NDArray[np.float64],
    ids: NDArray[np.void] | None = None,
) -> FileEvents:
    """Events that are all there, as a model reads them; without ids, if those are not known."""
    if info.data_settings is not None:
        hits = hits_as_read(hits, info.data_settings.data_format, info.init_values)
    exists = np.ones(hits.num_events, dtype=bool)
    return FileEvents(np.zeros(0, EVENT_ID) if ids is None else ids, time_offset, exists, hits, {})


def input_status(events: FileEvents) -> NDArray[np.int32]:
    """Status of each event [n] before the network sees it."""
    hits = events.hits
    num_bad = np.bincount(
        hits.event, weights=~np.isfinite(hits.features).all(axis=1), minlength=hits.num_events
    )
    status = np.full(hits.num_events, Status.OK, dtype=np.int32)
    status[(num_bad > 0) | ~np.isfinite(events.time_offset)] = Status.INVALID_INPUT
    status[np.diff(hits.offsets) == 0] = Status.NO_HITS
    status[~events.exists] = Status.NO_INPUT
    return status
