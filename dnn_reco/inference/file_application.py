"""Models applied to one event file: read once for all that read alike, predict, write."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnn_reco._version import __version__
from dnn_reco.data.data_settings import DataSettings, check_data_settings, check_given_settings
from dnn_reco.data.file_events import FileEvents, HitsSettings
from dnn_reco.data.hdf5 import read_record, read_stream_names
from dnn_reco.errors import DataError, ModelError
from dnn_reco.event_sources import read_events
from dnn_reco.files import file_digest
from dnn_reco.i3.reader import is_i3
from dnn_reco.i3.record import write_frame_record
from dnn_reco.i3.writer import open_i3
from dnn_reco.inference.frame_application import FrameFile, FrameModel, reconstruct_frames
from dnn_reco.inference.frame_reading import frame_reading
from dnn_reco.inference.manifest import MANIFEST_FILE, read_manifest
from dnn_reco.inference.model_info import ModelInfo
from dnn_reco.inference.output_file import Predictions, writer_of
from dnn_reco.inference.output_plan import FileTask
from dnn_reco.inference.output_record import Application, AppliedModel, OutputRecord, SourceFile
from dnn_reco.inference.prediction_table import Status
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.suggestions import did_you_mean


@dataclass(frozen=True)
class ModelLoading:
    """Which models to load, and how.

    Attributes
    ----------
    folders
        The model folders.
    device, num_threads, backend, batch_size, allow_code, inputs, raw
        See :class:`dnn_reco.inference.reconstructor.Reconstructor`.
    """

    folders: tuple[Path, ...]
    device: str
    num_threads: int
    backend: str
    batch_size: int
    allow_code: tuple[str, ...]
    inputs: str | None
    raw: bool


@dataclass(frozen=True)
class ApplyOptions:
    """How models are applied to each file.

    Attributes
    ----------
    loading
        The models.
    application
        What is recorded: the same models, and the options that decide the predictions.
    data_settings
        How the features of files without a record were made, for each model; None: not known.
    gcd
        File with geometry, calibration and detector status beside files with frames.
    """

    loading: ModelLoading
    application: Application
    data_settings: tuple[DataSettings | None, ...]
    gcd: Path | None = None


@lru_cache(maxsize=1)
def load_models(loading: ModelLoading) -> tuple[Reconstructor, ...]:
    """The models, loaded once in a process."""
    return tuple(
        Reconstructor(
            folder,
            loading.device,
            loading.num_threads,
            backend=loading.backend,
            batch_size=loading.batch_size,
            allow_code=loading.allow_code,
            inputs=loading.inputs,
            raw=loading.raw,
        )
        for folder in loading.folders
    )


def applied_model(folder: Path) -> AppliedModel:
    """A model folder as it is now; the model is not loaded.

    Raises
    ------
    ModelError
        If it is not a model folder.
    """
    read_manifest(folder)
    return AppliedModel(folder.resolve().name, file_digest(folder / MANIFEST_FILE))


def model_info(loading: ModelLoading) -> tuple[ModelInfo, ...]:
    """What the models read and predict; those of older folders are loaded for it."""
    manifests = [read_manifest(folder) for folder in loading.folders]
    known = tuple(manifest.model for manifest in manifests if manifest.model is not None)
    if len(known) == len(manifests):
        return known
    return tuple(model.info for model in load_models(loading))


@dataclass(frozen=True)
class FileInputs:
    """What models read of an event file.

    Attributes
    ----------
    source
        The file as it was when reading began.
    records
        How the features were made that each kind of model reads; None: it has no record of it.
    events
        Its events, as each kind of model reads them.
    seconds
        Time that reading them took.
    streams
        Names of the sub-event streams, by number.
    """

    source: SourceFile
    records: Mapping[HitsSettings, DataSettings | None]
    events: Mapping[HitsSettings, FileEvents]
    seconds: Mapping[HitsSettings, float]
    streams: Mapping[int, str]

    @property
    def ids(self) -> NDArray[np.void]:
        """Event ids [n]."""
        return next(iter(self.events.values())).ids


def read_inputs(path: Path, kinds: Sequence[HitsSettings]) -> FileInputs:
    """Read an event file once for each kind of model.

    Raises
    ------
    DataError
        If it cannot be read, or has other events for another kind of model.
    """
    source = SourceFile.of(path)
    events: dict[HitsSettings, FileEvents] = {}
    seconds: dict[HitsSettings, float] = {}
    for kind in kinds:
        started = time.perf_counter()
        events[kind] = read_events(path, kind)
        seconds[kind] = time.perf_counter() - started
    first, *others = kinds
    for kind in others:
        if not np.array_equal(events[first].ids, events[kind].ids):
            raise DataError(
                f"'{path}': the tables '{first.tables.time_offset}' and "
                f"'{kind.tables.time_offset}' list different events: apply models that read "
                "different tables in separate calls"
            )
    records = {kind: read_record(path, kind.tables) for kind in kinds}
    streams = read_stream_names(path, first.tables.time_offset)
    return FileInputs(source, records, events, seconds, streams)


@dataclass(frozen=True)
class FileResult:
    """What became of a file.

    Attributes
    ----------
    task
        The file.
    num_events
        Its events.
    status
        Number of events of each status that occurs, by model.
    notices
        Mismatches of data settings that were ignored, and why they could not be compared.
    error
        Why nothing was written; empty: the output is complete.
    """

    task: FileTask
    num_events: int = 0
    status: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    error: str = ""


def apply_to_file(options: ApplyOptions, task: FileTask) -> FileResult:
    """Read a file, predict its events with all models, and write the predictions.

    Raises
    ------
    ModelError
        If the models were trained on data with different settings.
    ConfigError
        If given settings contradict those of the file or, for frames, of a model.
    """
    return apply_to_inputs(options, task, read_or_fail(kinds_of(options.loading), task))


def kinds_of(loading: ModelLoading) -> tuple[HitsSettings, ...]:
    """The different ways in which the models read a file."""
    return tuple(dict.fromkeys(model.hits_settings for model in load_models(loading)))


def read_or_fail(kinds: Sequence[HitsSettings], task: FileTask) -> FileInputs | str | None:
    """The inputs of a file, or why it cannot be read; None: it has frames, read one by one."""
    if is_i3(task.source):
        return None
    try:
        return read_inputs(task.source, kinds)
    except DataError as error:
        return str(error)


def apply_to_inputs(
    options: ApplyOptions, task: FileTask, inputs: FileInputs | str | None
) -> FileResult:
    """Predict the events of a file that was read, and write the predictions.

    Raises
    ------
    ModelError
        If the models were trained on data with different settings.
    ConfigError
        If given settings contradict those of the file or, for frames, of a model.
    """
    if isinstance(inputs, str):
        return FileResult(task, error=inputs)
    if inputs is None:
        return _apply_to_frames(options, task)
    ignored = _check_settings(options, inputs, task.source)
    try:
        predictions = [
            _predict(model, task.source, inputs, options) for model in load_models(options.loading)
        ]
        record = _record(options, inputs, predictions, ignored)
        writer_of(task.output)(task.output, inputs.ids, predictions, record)
    except DataError as error:
        return FileResult(task, error=str(error))
    notices = (*ignored, *_why_not_compared(options, inputs))
    return FileResult(task, record.num_events, record.status, notices)


def _apply_to_frames(options: ApplyOptions, task: FileTask) -> FileResult:
    """Predict the events of a file with frames, and write the predictions."""
    application = options.application
    models = [
        FrameModel(
            model,
            frame_reading(
                model.info,
                application.pulses,
                given,
                application.ignore_mismatch,
                options.loading.allow_code,
            ),
        )
        for model, given in zip(load_models(options.loading), options.data_settings, strict=True)
    ]
    ignored = tuple(text for each in models for text in each.reading.ignored)
    records: list[OutputRecord] = []
    try:
        source = SourceFile.of(task.source)
        with ExitStack() as stack:

            def finish(complete: Path) -> None:
                write_frame_record(task.output, complete, records[0].to_json())

            to_frames = is_i3(task.output)
            writer = stack.enter_context(open_i3(task.output, finish)) if to_frames else None
            made = reconstruct_frames(
                task.source,
                options.gcd,
                models,
                application.batch_size,
                application.measure_time,
                writer,
            )
            settings = {each.model.info.name: each.reading.settings.to_json() for each in models}
            records.append(_frame_record(options, source, made, settings, ignored))
            for path in task.also if to_frames else task.outputs:
                writer_of(path)(path, made.ids, made.predictions, records[0])
    except DataError as error:
        return FileResult(task, error=str(error))
    absent = [
        f"'{task.source.name}': no frame has '{key}', whose DOMs or time windows were excluded in "
        "training; it may be in the GCD file (--gcd)"
        for key in made.absent_exclusions
        if len(made.ids)
    ]
    notices = (*ignored, *absent, *_why_no_input(task.source, made, models))
    return FileResult(task, len(made.ids), records[0].status, notices)


def _why_no_input(path: Path, made: FrameFile, models: Sequence[FrameModel]) -> list[str]:
    """Why no event of a file has any input, for each model."""
    found = []
    for each, predictions in zip(models, made.predictions, strict=True):
        if len(made.ids) and (predictions.status == Status.NO_INPUT).all():
            pulses = str(each.reading.settings.pulse_key)
            there = f" There are {', '.join(made.pulses)}" if made.pulses else ""
            found.append(
                f"'{path.name}': no event has input for the model '{predictions.model}', whose "
                f"pulses are '{pulses}'.{did_you_mean(pulses, made.pulses)}{there}"
            )
    return found


def _frame_record(
    options: ApplyOptions,
    source: SourceFile,
    made: FrameFile,
    settings: Mapping[str, str],
    ignored: tuple[str, ...],
) -> OutputRecord:
    return OutputRecord(
        source,
        options.application,
        len(made.ids),
        {each.model: each.status_counts() for each in made.predictions},
        settings,
        ignored,
        made.streams,
        _versions(options.loading.backend),
    )


def _settings_of_models(options: ApplyOptions) -> list[DataSettings | None]:
    return [model.data_settings for model in load_models(options.loading)]


def _settings_of_data(options: ApplyOptions, inputs: FileInputs) -> list[DataSettings | None]:
    """How the features of a file were made, for each model."""
    models = load_models(options.loading)
    return [
        inputs.records[model.hits_settings] or given
        for model, given in zip(models, options.data_settings, strict=True)
    ]


def _check_settings(options: ApplyOptions, inputs: FileInputs, source: Path) -> tuple[str, ...]:
    """Check that a file was made as the models need it; mismatches that are ignored."""
    ignore = options.application.ignore_mismatch
    for model, given in zip(load_models(options.loading), options.data_settings, strict=True):
        record = inputs.records[model.hits_settings]
        if record is not None and given is not None:
            check_given_settings(given, record, f"'{source}'", ignore)
    pairs = zip(_settings_of_models(options), _settings_of_data(options, inputs), strict=True)
    found: list[str] = []
    for model, (trained_on, made) in zip(load_models(options.loading), pairs, strict=True):
        if trained_on is None or made is None:
            continue
        try:
            ignored = check_data_settings(trained_on, made, inputs.source.name, ignore)
        except DataError as error:
            raise ModelError(
                f"the model '{model.info.name}' cannot be applied to '{source}': {error}"
            ) from error
        found += [f"model '{model.info.name}', {text}" for text in ignored]
    return tuple(found)


def _why_not_compared(options: ApplyOptions, inputs: FileInputs) -> list[str]:
    """Why the settings of the file and of the training could not be compared."""
    found = [
        f"the model '{model.info.name}' does not hold the settings of its training data, so they "
        "cannot be compared with those of the files: export or import it again with "
        "-s/--data-settings"
        for model in load_models(options.loading)
        if model.data_settings is None
    ]
    if not all(_settings_of_data(options, inputs)) and any(_settings_of_models(options)):
        found.append(
            f"'{inputs.source.name}' does not record the settings of its features, so they cannot "
            "be compared with those of the training data: give --data-settings"
        )
    return found


def _predict(
    model: Reconstructor, source: Path, inputs: FileInputs, options: ApplyOptions
) -> Predictions:
    kind = model.hits_settings
    events = inputs.events[kind]
    started = time.perf_counter()
    try:
        misc = model.backend.read_misc(source, events)
    except DataError as error:
        raise DataError(
            f"the network of '{model.info.name}' reads the misc data "
            f"{', '.join(model.info.misc_names)}: {error}"
        ) from error
    read = time.perf_counter()
    table = model.predict_events(events, misc)
    predicted = time.perf_counter()
    num_events = max(1, len(table))
    preprocess = inputs.seconds[kind] + read - started
    runtime = ((predicted - read) / num_events, preprocess / num_events)
    return Predictions(
        model.info.name, table, runtime if options.application.measure_time else None
    )


def _record(
    options: ApplyOptions,
    inputs: FileInputs,
    predictions: Sequence[Predictions],
    ignored: tuple[str, ...],
) -> OutputRecord:
    names = [each.model for each in predictions]
    made = zip(names, _settings_of_data(options, inputs), strict=True)
    return OutputRecord(
        inputs.source,
        options.application,
        len(inputs.ids),
        {each.model: each.status_counts() for each in predictions},
        {name: settings.to_json() for name, settings in made if settings is not None},
        ignored,
        inputs.streams,
        _versions(options.loading.backend),
    )


def _versions(backend: str) -> dict[str, str]:
    """Versions of what computes."""
    has_torch = importlib.util.find_spec("torch") is not None
    library = "onnxruntime" if backend == "onnxruntime" or not has_torch else "torch"
    return {
        "dnn_reco": __version__,
        **{package: metadata.version(package) for package in ("numpy", library)},
    }
