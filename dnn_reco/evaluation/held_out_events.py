"""Held-out events, and what trained models predict for them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dnn_reco.config import Config
from dnn_reco.data.build import open_events
from dnn_reco.data.data_settings import check_data_settings, check_setting_names
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.from_config import record_settings
from dnn_reco.data.hits import Hits
from dnn_reco.data.label_definitions import differing_labels, relative_time_names
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.calibration import CalibrationEvents
from dnn_reco.evaluation.reconstruction import Reconstruction, TrueEvents, Values
from dnn_reco.event_sources import data_settings_of, event_store
from dnn_reco.inference.backend import NetworkOutput, predict_chunks
from dnn_reco.inference.prediction_table import PredictionTable, Status
from dnn_reco.inference.torch_backend import TorchBackend
from dnn_reco.inference.trained_model import TrainedModel, ensemble_of, model_info
from dnn_reco.nn.density_layout import predicted_shapes
from dnn_reco.nn.ensemble import Mixture
from dnn_reco.nn.interface import NetworkSpec, Prediction, density_layout
from dnn_reco.nn.label_transform import LabelTransform
from dnn_reco.nn.own_network import needs_misc

BATCH_SIZE = 256

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HeldOutFiles:
    """The files that held-out events come from.

    Attributes
    ----------
    paths
        The files with events that are used, in the order of their events.
    num_events
        How many events of each are used.
    num_events_in_files
        How many events there are in all files, those without used events among them.
    num_empty
        Number of files of which no event is used.
    dropped
        Number of events that are not used, by reason.
    """

    paths: tuple[Path, ...]
    num_events: tuple[int, ...]
    num_events_in_files: int
    num_empty: int
    dropped: Mapping[str, int]

    @classmethod
    def of(cls, events: EventDataset) -> HeldOutFiles:
        """The files of a data set."""
        dropped: Counter[str] = Counter()
        shards = (*events.shards, *events.empty_shards)
        for shard in shards:
            dropped.update(shard.dropped)
        return cls(
            tuple(shard.source for shard in events.shards),
            tuple(shard.num_events for shard in events.shards),
            sum(shard.num_events_in_file for shard in shards),
            len(events.empty_shards),
            {reason: count for reason, count in dropped.items() if count},
        )

    def path_of(self, event: int) -> Path:
        """The file of an event, by its number among all that are used."""
        ends = np.cumsum(self.num_events)
        return self.paths[int(np.searchsorted(ends, event, side="right"))]


def check_how_files_were_made(
    model: TrainedModel,
    config: Config,
    files: Sequence[Path],
    ignore_mismatch: Collection[str] = (),
) -> None:
    """Check that files were made with the settings of the data that a model was trained on.

    Files that do not record their settings, and models without them, are not checked.

    Parameters
    ----------
    model
        The model.
    config
        The config with which they are read: that of its training, maybe with other input tables.
    files
        The files.
    ignore_mismatch
        Settings of which a mismatch is only a warning.

    Raises
    ------
    DataError
        Naming the first file with different settings, and these settings.
    ConfigError
        If a name in `ignore_mismatch` is not that of a setting.
    """
    check_setting_names(ignore_mismatch)
    if model.data_settings is None:
        return
    for path in files:
        if (made := data_settings_of(path, config)) is not None:
            ignored = check_data_settings(model.data_settings, made, str(path), ignore_mismatch)
            for text in ignored:
                _log.warning("'%s', %s", model.name, text)


def open_held_out_events(
    config: Config, files: Sequence[Path], cache_dir: str, num_threads: int
) -> EventDataset:
    """The events of files, with the labels and filters of a config."""
    jobs = min(config.general.num_jobs, num_threads)
    return open_events(event_store(config, cache_dir), files, jobs)


def store_folder(config: Config, cache_dir: str | None, elsewhere: Path) -> str:
    """Folder of the event store of a trained model, which may have been on another machine.

    Parameters
    ----------
    config
        The config of its training.
    cache_dir
        The folder that was asked for; None: none was.
    elsewhere
        The folder where that of the training does not exist.
    """
    return cache_dir or str(config.event_store if config.event_store.is_dir() else elsewhere)


def hits_of(events: EventDataset, events_at_once: int) -> Iterator[Hits]:
    """Hits of all events of a data set, in their order, so many events at once."""
    for start in range(0, len(events), events_at_once):
        yield events.read(np.arange(start, min(start + events_at_once, len(events)))).hits


def true_events(held_out: Sequence[EventDataset]) -> TrueEvents:
    """The truth of the same events with the labels and misc data of several networks.

    Parameters
    ----------
    held_out
        The events with the labels of each network; of labels of the same name those of the first
        one are taken.
    """
    labels: dict[str, Values] = {}
    misc: dict[str, Values] = {}
    for events in held_out:
        batch = events.read_without_hits()
        for found, names, values in (
            (labels, events.names.labels, batch.labels),
            (misc, events.names.misc, batch.misc),
        ):
            for column, name in enumerate(names):
                found.setdefault(name, values[:, column].astype(np.float64))
    first = held_out[0]
    batch = first.read_without_hits()
    num_hits = first.num_hits(np.arange(len(first)))
    return TrueEvents(batch.ids, labels, misc, num_hits, time_offset=batch.time_offset)


def held_out_output(
    model: TrainedModel,
    events: EventDataset,
    hits: Iterable[Hits] | None = None,
    batch_size: int = BATCH_SIZE,
) -> tuple[NetworkOutput, NDArray[np.int64]]:
    """What a network predicts for all events of a data set, and their numbers of hit DOMs [n].

    Its calibration is left out. Parameters and errors are those of :func:`predict_held_out`.
    """
    if events.names.labels != model.label_names:
        raise DataError(
            f"the held-out events have labels that differ from those that '{model.name}' predicts: "
            f"{', '.join(events.names.labels)} instead of {', '.join(model.label_names)}. Use the "
            "label keys of its training"
        )
    if needs_misc(model.network) and events.names.misc != model.misc_names:
        raise DataError(
            f"the held-out events have misc data that differ from those that '{model.name}' reads: "
            f"{', '.join(events.names.misc) or 'none'} instead of {', '.join(model.misc_names)}. "
            "Use the misc_* keys of its training"
        )
    num_hits: list[NDArray[np.int64]] = []
    chunks = _counted(hits_of(events, batch_size) if hits is None else hits, num_hits)
    misc = events.read_without_hits().misc
    output = predict_chunks(TorchBackend(model), chunks, batch_size, len(events), misc)
    return output, np.concatenate([np.zeros(0, np.int64), *num_hits])


def predict_held_out(
    model: TrainedModel,
    events: EventDataset,
    hits: Iterable[Hits] | None = None,
    raw: bool = False,
    batch_size: int = BATCH_SIZE,
) -> PredictionTable:
    """All labels that a model predicts for all events of a data set.

    Events without hits are also predicted; the status marks them, and those for which the
    prediction of a trained label is not finite.

    Parameters
    ----------
    model
        The model.
    events
        The events.
    hits
        Changed hits of all events, in their order; None: their own.
    raw
        Whether to leave out the calibration of the model.
    batch_size
        Events to predict at once.

    Raises
    ------
    DataError
        If the events have other labels than those that the model predicts, or other misc data
        than those that it reads.
    """
    output, num_hits = held_out_output(model, events, hits, batch_size)
    labels, uncertainty = output.labels.astype(np.float64), output.uncertainty.astype(np.float64)
    trained = np.isin(model.label_names, model.trained_labels)
    is_valid = (np.isfinite(labels) & np.isfinite(uncertainty))[:, trained].all(axis=1)
    status = np.where(is_valid, Status.OK, Status.INVALID_PREDICTION).astype(np.int32)
    status[num_hits == 0] = Status.NO_HITS
    table = PredictionTable(
        model.label_names,
        model.spec.transformation.settings.log_label_bins,
        labels,
        uncertainty,
        events.read_without_hits().ids,
        status,
        model.spec.label_keys.particle,
        predicted_shapes(density_layout(model.network), output.shapes),
    )
    return table if raw else calibrated_table(model, table, num_hits)


def calibration_events(model: TrainedModel, events: EventDataset) -> CalibrationEvents:
    """Predictions of a model and the truth of all events with hits, to fit a calibration to."""
    output, num_hits = held_out_output(model, events)
    arrays = (output.labels, output.uncertainty, events.read_without_hits().labels)
    labels, sigma, true = (array.astype(np.float64) for array in arrays)
    info = model_info(model)
    shapes = predicted_shapes(info.densities, output.shapes)
    found = CalibrationEvents(labels, sigma, shapes, true, num_hits, info)
    return found.select(num_hits > 0)


def _counted(chunks: Iterable[Hits], num_hits: list[NDArray[np.int64]]) -> Iterator[Hits]:
    """The chunks themselves, and the number of hits of each of their events."""
    for hits in chunks:
        num_hits.append(np.diff(hits.offsets))
        yield hits


def calibrated_table(
    model: TrainedModel, table: PredictionTable, num_hits: NDArray[np.int64]
) -> PredictionTable:
    """The predictions of a model [n] with its calibration, if it has one.

    Parameters
    ----------
    model
        The model.
    table
        What its network predicts.
    num_hits
        Number of hit DOMs of each event [n].
    """
    if model.calibration is None:
        return table
    labels, sigma, shapes = model.calibration.correct(
        table.labels, table.uncertainty, table.shapes, num_hits, model_info(model)
    )
    return replace(table, labels=labels, uncertainty=sigma, shapes=shapes)


def reconstruction_of(model: TrainedModel, table: PredictionTable) -> Reconstruction:
    """What a model that predicts a table reconstructs: trained labels, NaN without status OK."""
    trained = table.select(model.trained_labels)
    if table.status is not None:
        known = (table.status == Status.OK)[:, None]
        trained = replace(
            trained,
            labels=np.where(known, trained.labels, np.nan),
            uncertainty=np.where(known, trained.uncertainty, np.nan),
        )
    relative = relative_time_names(trained.label_names, record_settings(model.config))
    return Reconstruction(model.name, trained, model.spec.label_keys, relative)


def predicted_together(
    name: str, models: Sequence[TrainedModel], tables: Sequence[PredictionTable]
) -> Reconstruction:
    """What the ensemble of models that predict tables reconstructs of the same events."""
    ensemble = ensemble_of(name, models)
    return reconstruction_of(ensemble, mix(tables, ensemble.spec, ensemble.trained_labels))


def mix(
    tables: Sequence[PredictionTable], spec: NetworkSpec, trained_labels: Collection[str]
) -> PredictionTable:
    """Predictions of several models for the same events as the mixture of their densities.

    Parameters
    ----------
    tables
        Predictions of each.
    spec
        Names and transformation of the labels.
    trained_labels
        The labels that all models were trained for.
    """
    layouts = [() if table.shapes is None else table.shapes.layout for table in tables]
    mixture = Mixture(spec, layouts, trained_labels)
    mixed = mixture([_prediction(table, spec) for table in tables])
    statuses = [table.status for table in tables if table.status is not None]
    return replace(
        tables[0],
        labels=mixed.labels.numpy(),
        uncertainty=mixed.uncertainty.numpy(),
        status=np.max(statuses, axis=0) if statuses else None,
        shapes=predicted_shapes(mixture.layout, mixed.shapes.numpy()),
    )


def _prediction(table: PredictionTable, spec: NetworkSpec) -> Prediction:
    """The predictions of a table as those of a network."""
    transform = LabelTransform(spec.transformation)
    labels, sigma = torch.from_numpy(table.labels), torch.from_numpy(table.uncertainty)
    trafo = transform(labels), transform.scale_uncertainty(sigma)
    shapes = labels.new_zeros(len(labels), 0)
    if table.shapes is not None:
        shapes = torch.from_numpy(table.shapes.values)
    return Prediction(*trafo, labels, sigma, torch.zeros_like(labels), shapes)


def check_same_truth(
    names: Sequence[str], configs: Sequence[Config], held_out: Sequence[EventDataset]
) -> None:
    """Check that labels of the same name have the same true values for all models.

    Parameters
    ----------
    names, configs
        Name and config of each model.
    held_out
        The events with the labels of each.

    Raises
    ------
    ConfigError
        Naming two models, and the labels that differ.
    """
    models = zip(names, configs, held_out, strict=True)
    for (name, config, events), (other, its_config, its_events) in combinations(models, 2):
        differences = differing_labels(
            *(events.names.labels, record_settings(config)),
            *(its_events.names.labels, record_settings(its_config)),
        )
        if differences:
            raise ConfigError(
                f"'{name}' and '{other}' cannot be compared with the same truth: {differences}. "
                "Evaluate them one by one, or train both with the same "
                "data_handler_relative_time_* keys and label_pid_smooth_labels"
            )


def check_same_events(
    names: Sequence[str], held_out: Sequence[EventDataset], same_labels: bool
) -> None:
    """Check that filters and the like leave the same events of the same files.

    Parameters
    ----------
    names
        Names of the models.
    held_out
        The events with the labels and filters of each.
    same_labels
        Whether the labels must also be the same, as in an ensemble.

    Raises
    ------
    DataError
        Naming two models with other events.
    ConfigError
        Naming two models with other labels.
    """
    first, *others = [_ids(events) for events in held_out]
    for name, ids in zip(names[1:], others, strict=True):
        if not np.array_equal(first, ids):
            missing, more = (len(np.setdiff1d(a, b)) for a, b in ((first, ids), (ids, first)))
            raise DataError(
                f"'{names[0]}' and '{name}' keep different events of the same held-out files: "
                f"{missing} events only in the former, {more} only in the latter. "
                "Give both the same filter_* keys and data_handler_nan_fill_value, and labels "
                "that exist for the same events"
            )
    for name, events in zip(names, held_out, strict=True):
        if same_labels and events.names.labels != held_out[0].names.labels:
            raise ConfigError(
                f"--ensemble needs networks of the same labels in the same order; those of "
                f"'{name}' differ from those of '{names[0]}': give both the same label keys"
            )


def _ids(events: EventDataset) -> NDArray[np.void]:
    return events.read_without_hits().ids
