"""The container that the handler fills with the events of a batch, and that models read."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dnn_reco.config.typed_settings import typed_settings
from dnn_reco.data.data_settings import DataSettings, check_data_settings, features_of
from dnn_reco.data.event_inputs import event_inputs
from dnn_reco.data.file_events import EVENT_ID, FileEvents
from dnn_reco.data.hits import dense_cells, hits_of_dense
from dnn_reco.data.pulses import join, no_pulses
from dnn_reco.data.time_offsets import event_randoms
from dnn_reco.detector import grid
from dnn_reco.errors import ConfigError, DataError, ModelError
from dnn_reco.ic3.frames import Frame, FrameInput, event_key, frame_input, is_event
from dnn_reco.inference.manifest import read_manifest
from dnn_reco.pretrained_models import model_folder

_logger = logging.getLogger(__name__)

AnyContainer: TypeAlias = Any
"""Our container, or that of ic3_data."""


class DNNDataContainer:
    """Events of a batch, filled by `DNNContainerHandler`, and the settings of their features.

    It takes the place of the container of ic3_data, whose methods and arrays it has. It keeps
    pulses and computes the features of the whole batch when the first model asks for them; the
    dense arrays are made only if they are read.

    Parameters
    ----------
    batch_size
        P frames to predict at once.

    Attributes
    ----------
    runtime_batch
        Time [batch_size] to prepare each event, in seconds.

    Examples
    --------
    ::

        container = DNNDataContainer(batch_size=32)
        container.load_configuration("models/my_model")
        container.set_up(pulse_key="SplitInIceDSTPulses")
    """

    def __init__(self, batch_size: int = 1) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}: give at least 1")
        self.batch_size = batch_size
        self.runtime_batch = np.zeros(batch_size)
        self._settings: DataSettings | None = None
        self._is_ready = False
        self._inputs: list[FrameInput] = []
        self._events: FileEvents | None = None

    # ----------------------------------------------------------------------------------------------
    # Settings
    # ----------------------------------------------------------------------------------------------
    def configure(self, **settings: Any) -> None:
        """Set the data settings by hand; see :class:`dnn_reco.data.data_settings.DataSettings`."""
        self._configure(settings_of(settings))

    def load_configuration(self, model_path: str | Path) -> None:
        """Take the data settings of a model.

        Raises
        ------
        ModelError
            If there is no such model folder, or it does not hold the settings of its data.
        """
        model = read_manifest(model_folder(model_path)).model
        if model is None or model.data_settings is None:
            raise ModelError(
                f"'{model_path}' does not hold the settings of its training data: export or "
                "import it again with -s/--data-settings, or set them with container.configure()"
            )
        self._configure(model.data_settings)

    def _configure(self, settings: DataSettings) -> None:
        if self._settings is not None:
            raise ConfigError("the DNNDataContainer is configured already: make a new one")
        self._settings = settings

    def set_up(
        self,
        pulse_key: str | None = None,
        dom_exclusions: Sequence[str] | None = None,
        partial_exclusion: bool | None = None,
        cascade_key: str | None = None,
        ignore_misconfigured_settings_list: Collection[str] | None = None,
    ) -> None:
        """Choose pulses and exclusions; None takes the model's own setting.

        Parameters
        ----------
        pulse_key
            Name of the pulse map, mask or union.
        dom_exclusions
            Names of lists of DOMs and of maps of time windows, such as BrightDOMs, BadDomsList,
            SaturationWindows, CalibrationErrata.
        partial_exclusion
            Whether only pulses inside of time windows are left out, not all of the DOM.
        cascade_key
            Name of the particle that gives the vertex, for features relative to it.
        ignore_misconfigured_settings_list
            Settings that may differ from those of the model, with a warning.

        Raises
        ------
        ConfigError
            If the container is not configured, or features cannot be computed this way.
        DataError
            If a setting differs from that of the model.
        """
        if self._is_ready:
            raise ConfigError("the DNNDataContainer is set up already: make a new one")
        own = self._configured()
        given = {
            "pulse_key": pulse_key,
            "dom_exclusions": None if dom_exclusions is None else tuple(dom_exclusions),
            "partial_exclusion": partial_exclusion,
            "cascade_key": cascade_key,
        }
        changes: dict[str, Any] = {k: value for k, value in given.items() if value is not None}
        settings = replace(own, **changes)
        check_settings(own, settings, "arguments of set_up", ignore_misconfigured_settings_list)
        _check_complete(settings)
        self._settings = settings
        self._is_ready = True

    def is_ready(self) -> bool:
        """Whether it is set up."""
        return self._is_ready

    @property
    def config(self) -> dict[str, Any]:
        """The data settings by name."""
        return {} if self._settings is None else asdict(self._settings)

    def _configured(self) -> DataSettings:
        if self._settings is None:
            raise ConfigError("the DNNDataContainer is not configured: call load_configuration")
        return self._settings

    # ----------------------------------------------------------------------------------------------
    # Events
    # ----------------------------------------------------------------------------------------------
    def add(self, frame: Frame) -> FrameInput:
        """Add the event of a P frame; one that follows a full batch starts the next.

        Raises
        ------
        ConfigError
            If the container is not set up.
        DataError
            If an object of the frame is of a wrong kind.
        """
        if not self._is_ready:
            raise ConfigError("the DNNDataContainer is not set up: call set_up")
        start = time.perf_counter()
        settings = self._configured()
        found = frame_input(
            frame,
            str(settings.pulse_key),
            settings.dom_exclusions or (),
            bool(settings.partial_exclusion),
            settings.cascade_key,
        )
        if len(self._inputs) == self.batch_size:
            self._inputs = []
        self._inputs.append(found)
        self._events = None
        self.runtime_batch[len(self._inputs) - 1] = time.perf_counter() - start
        return found

    @property
    def events(self) -> FileEvents:
        """The events of the batch, with their features."""
        if self._events is None:
            start = time.perf_counter()
            self._events = _events_of(self._inputs, self._configured())
            duration = time.perf_counter() - start
            self.runtime_batch[: len(self._inputs)] += duration / max(len(self._inputs), 1)
        return self._events

    def events_of_frames(self, frames: Sequence[Frame]) -> FileEvents:
        """The events of the batch, which must be those of these P frames.

        Raises
        ------
        DataError
            If they are other events.
        """
        expected = [event_key(frame) for frame in frames]
        found = [each.event for each in self._inputs]
        if found != expected:
            raise DataError(
                f"the DNNDataContainer holds the events {found}, the module has {expected}: the "
                "DNNContainerHandler must come before it with the same 'If', and modules between "
                "them must not drop or delay P frames"
            )
        return self.events

    # ----------------------------------------------------------------------------------------------
    # Arrays of the batch
    # ----------------------------------------------------------------------------------------------
    @property
    def x_ic78(self) -> NDArray[np.float64]:
        """Features of the main array [batch_size, 10, 10, 60, F], 0 without hit."""
        return self._padded(grid.main_array(self._cells()))

    @property
    def x_deepcore(self) -> NDArray[np.float64]:
        """Features of DeepCore [batch_size, 8, 60, F], 0 without hit."""
        return self._padded(grid.deepcore(self._cells()))

    @property
    def global_time_offset_batch(self) -> NDArray[np.float64]:
        """Time [batch_size] that times of each event are relative to, ns."""
        return self._padded(self.events.time_offset)

    def _cells(self) -> NDArray[np.floating]:
        return dense_cells(self.events.hits, 0.0)

    def _padded(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Values of all events of a full batch, 0 for those that are not there."""
        array = np.zeros((self.batch_size, *values.shape[1:]))
        array[: len(values)] = values
        return array


def settings_of(values: Mapping[str, Any]) -> DataSettings:
    """Data settings of a container's `config`; names that are not settings are skipped.

    Raises
    ------
    ConfigError
        If one is wrong, or one that is needed is missing.
    """
    known = {field.name for field in fields(DataSettings)}
    found = {key: value for key, value in values.items() if key in known}
    return typed_settings(DataSettings, found, "settings of the DNNDataContainer", ConfigError)


def check_settings(
    model: DataSettings, data: DataSettings, source: str, ignore: Collection[str] | None
) -> None:
    """Compare settings with those of a model; mismatches in `ignore` are warnings.

    Raises
    ------
    DataError
        Naming each other mismatch, and how to ignore it in IceTray.
    """
    try:
        warnings = check_data_settings(model, data, source, tuple(ignore or ()))
    except DataError as error:
        raise DataError(
            f"{error}\nIn IceTray, give these names to IgnoreMisconfiguredSettingsList of the "
            "module, or to ignore_misconfigured_settings_list of the segment and container"
        ) from error
    for warning in warnings:
        _logger.warning("%s", warning)


def _check_complete(settings: DataSettings) -> None:
    """Check that the features can be computed.

    Raises
    ------
    ConfigError
        If a setting is missing, or the data format cannot be computed from pulses.
    """
    if settings.pulse_key is None:
        raise ConfigError("the model does not record its pulses: give pulse_key")
    if settings.dom_exclusions and settings.partial_exclusion is None:
        raise ConfigError(
            "the model does not record whether exclusions are partial: give partial_exclusion"
        )
    features_of(no_pulses(), settings, np.zeros((0, 4)), np.zeros(0))


def _events_of(inputs: Sequence[FrameInput], settings: DataSettings) -> FileEvents:
    """The events of frames, with their features; see `event_inputs`."""
    pulses = join([no_pulses(), *(each.pulses for each in inputs)])
    vertex = np.array([each.vertex for each in inputs]).reshape(-1, 4)
    exists = np.array([each.exists for each in inputs], dtype=bool)
    keys = [(*each.event[:3], 0) if each.event else (0, 0, 0, 0) for each in inputs]
    random = event_randoms(0, np.array(keys, dtype=EVENT_ID))
    made, exists = event_inputs(pulses, vertex, exists, settings, random)
    return FileEvents(np.zeros(0, EVENT_ID), made.time_offset, exists, made.hits, {})


def events_of_arrays(container: AnyContainer, frames: Sequence[Frame]) -> FileEvents:
    """The events of P frames in a container that holds dense arrays, such as that of ic3_data.

    DOMs without any value other than 0 are not hit.
    """
    n = len(frames)
    hits = hits_of_dense(container.x_ic78[:n], container.x_deepcore[:n], 0.0)
    exists = np.array([is_event(frame) for frame in frames], dtype=bool)
    time_offset = np.array(container.global_time_offset_batch[:n], dtype=np.float64)
    return FileEvents(np.zeros(0, EVENT_ID), time_offset, exists, hits, {})
