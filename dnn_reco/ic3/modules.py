"""IceTray modules: one fills the container with events, the other applies a model to them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from icecube import icetray

from dnn_reco.data.file_events import FileEvents
from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.ic3.container import (
    AnyContainer,
    DNNDataContainer,
    check_settings,
    events_of_arrays,
    settings_of,
)
from dnn_reco.ic3.frames import Frame, particles_of, put, values_of
from dnn_reco.inference.reconstructor import Reconstructor


class DNNContainerHandler(icetray.I3ConditionalModule):
    """Fills a `DNNDataContainer` with the event of each P frame."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.AddParameter("DNNDataContainer", "The container to fill; it must be set up.", None)
        self.AddParameter("Verbose", "Print how many pulses are excluded.", False)

    def Configure(self) -> None:
        """Read the parameters.

        Raises
        ------
        ConfigError
            If the container is not one of ours, or not set up.
        """
        self._container = self.GetParameter("DNNDataContainer")
        self._verbose = self.GetParameter("Verbose")
        if not isinstance(self._container, DNNDataContainer):
            raise ConfigError(
                "DNNContainerHandler of dnn_reco.ic3 needs a DNNDataContainer of "
                "dnn_reco.ic3.container; a container of ic3_data is filled by the handler of "
                "ic3_data"
            )
        if not self._container.is_ready():
            raise ConfigError("the DNNDataContainer is not set up: call set_up")

    def Physics(self, frame: Frame) -> None:
        """Add the event of a P frame to the container."""
        found = self._container.add(frame)
        if self._verbose:
            num_pulses = len(found.pulses.time)
            print(f"{found.num_excluded} pulses excluded, {num_pulses} left in {found.event}")
        self.PushFrame(frame)


class DeepLearningReco(icetray.I3Module):
    """Applies a model to the events of a container, in batches, and writes its predictions.

    Frames of all kinds leave in the order in which they came. Each P frame gets the trained
    labels, their uncertainties and a `status` (:class:`dnn_reco.inference.prediction_table.Status`)
    as I3MapStringDouble, and a particle if the model predicts one. Labels of events that cannot be
    reconstructed are NaN.

    It is not an I3ConditionalModule, in which P frames that `If` leaves out would overtake those
    that wait for a batch: it evaluates `If` itself.
    """

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        add = self.AddParameter
        add("ModelPath", "Model folder, or pretrained:NAME for a model of the package.", None)
        add("DNNDataContainer", "Container with the events, of dnn_reco.ic3 or ic3_data.", None)
        add(
            "IgnoreMisconfiguredSettingsList",
            "Names of data settings that may differ between the container and the training of the "
            "model, with a warning. Use with caution.",
            None,
        )
        add("OutputBaseName", "Frame key of the result.", "DeepLearningReco")
        add("MeasureTime", "Write the time for preprocessing, prediction and writing.", False)
        add("ParallelismThreads", "CPU threads to use; None: as many as PyTorch likes.", None)
        add("If", "Function of a P frame: those for which it is False are left as they are.", None)

    def Configure(self) -> None:
        """Load the model and check the container against it.

        Raises
        ------
        ConfigError
            If a parameter is missing, or the model needs what frames do not give.
        DataError
            If the container was set up with other settings than those of the training.
        ModelError
            If there is no such model, or it is damaged.
        """
        path, container = self.GetParameter("ModelPath"), self.GetParameter("DNNDataContainer")
        if path is None or container is None:
            raise ConfigError("DeepLearningReco needs ModelPath and DNNDataContainer")
        self._container = container
        self._output_key = self.GetParameter("OutputBaseName")
        self._measure_time = self.GetParameter("MeasureTime")
        self._condition = self.GetParameter("If") or (lambda frame: True)
        self._reconstructor = Reconstructor(
            Path(path), num_threads=self.GetParameter("ParallelismThreads")
        )
        ignore = self.GetParameter("IgnoreMisconfiguredSettingsList")
        _check_model(self._reconstructor, container, ignore)
        self._waiting: deque[Frame] = deque()  # frames of all kinds, in order
        self._batch: list[Frame] = []  # the P frames among them that are predicted

    def Process(self) -> None:
        """Take a frame; with a full batch of P frames, predict and push all that wait."""
        frame = self.PopFrame()
        if frame is None:
            return
        self._waiting.append(frame)
        if frame.Stop == icetray.I3Frame.Physics and self._condition(frame):
            self._batch.append(frame)
        if len(self._batch) in (0, self._container.batch_size):
            self._flush()

    def Finish(self) -> None:
        """Predict the last batch, which may be incomplete."""
        self._flush()

    def _flush(self) -> None:
        """Write the predictions of the batch, and push all frames that wait."""
        if self._batch:
            self._reconstruct(self._batch)
            self._batch = []
        while self._waiting:
            self.PushFrame(self._waiting.popleft())

    def _reconstruct(self, frames: Sequence[Frame]) -> None:
        """Predict the events of P frames and write them."""
        events = events_of(self._container, frames)
        start = time.perf_counter()
        table = self._reconstructor.predict_events(events)
        predicted = time.perf_counter()
        values = values_of(table)
        has_particle = bool(self._reconstructor.info.particle)
        particles = particles_of(table) if has_particle else [None] * len(frames)
        written = time.perf_counter()
        for i, frame in enumerate(frames):
            if self._measure_time:
                values[i]["runtime_prediction"] = (predicted - start) / len(frames)
                values[i]["runtime_preprocess"] = float(self._container.runtime_batch[i])
                values[i]["runtime_write"] = (written - predicted) / len(frames)
            put(frame, self._output_key, values[i], particles[i])


def events_of(container: AnyContainer, frames: Sequence[Frame]) -> FileEvents:
    """The events of P frames in the container of either kind."""
    if isinstance(container, DNNDataContainer):
        return container.events_of_frames(frames)
    return events_of_arrays(container, frames)


def _check_model(
    reconstructor: Reconstructor, container: AnyContainer, ignore: Sequence[str] | None
) -> None:
    """Check that a model can be applied to the events of a container."""
    info = reconstructor.info
    if info.misc_names:
        raise ConfigError(
            f"the network of '{info.name}' reads misc data ({', '.join(info.misc_names)}), which "
            "DeepLearningReco cannot provide"
        )
    if info.data_settings is None:
        raise ModelError(
            f"'{info.name}' does not hold the settings of its training data, so the container "
            "cannot be checked: export or import it again with -s/--data-settings"
        )
    settings = settings_of(container.config)
    if settings.is_str_dom_format and not isinstance(container, DNNDataContainer):
        raise ConfigError(
            "the container holds arrays by string and DOM (is_str_dom_format), and "
            "DeepLearningReco reads x_ic78 and x_deepcore: use the DNNDataContainer of dnn_reco.ic3"
        )
    check_settings(info.data_settings, settings, "the DNNDataContainer", ignore)
