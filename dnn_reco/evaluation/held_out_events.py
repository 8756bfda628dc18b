"""Held-out events, and what trained models predict for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dnn_reco.config import Config
from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.from_config import event_store
from dnn_reco.data.hits import Hits
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.metrics import residuals_and_pulls
from dnn_reco.inference.backend import predict_chunks
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.inference.torch_backend import TorchBackend
from dnn_reco.inference.trained_model import TrainedModel, ensemble_of
from dnn_reco.nn.ensemble import Mixture
from dnn_reco.nn.interface import NetworkSpec
from dnn_reco.nn.own_network import needs_misc


@dataclass(frozen=True)
class ModelPredictions:
    """Predictions of a model beside the truth of n held-out events.

    Attributes
    ----------
    model
        The model.
    table
        Its predictions.
    true
        True labels [n, L], in physical units.
    """

    model: TrainedModel
    table: PredictionTable
    true: NDArray[np.float64]

    def true_labels(self) -> dict[str, NDArray[np.float64]]:
        """True labels [n] by name."""
        return {name: self.true[:, i] for i, name in enumerate(self.model.label_names)}

    def pulls(self) -> NDArray[np.float64]:
        """Residual over uncertainty [n, L], in the space in which the network was trained."""
        return residuals_and_pulls(self.table, self.true, self.model.spec)[1]


def open_held_out_events(
    config: Config, files: Sequence[Path], cache_dir: str, num_threads: int
) -> EventDataset:
    """The events of files, with the labels and filters of a config."""
    jobs = min(config.general.num_jobs, num_threads)
    return open_events(event_store(config, cache_dir), files, jobs)


def hits_of(events: EventDataset, events_at_once: int) -> Iterator[Hits]:
    """Hits of all events of a data set, in their order, so many events at once."""
    for start in range(0, len(events), events_at_once):
        yield events.read(np.arange(start, min(start + events_at_once, len(events)))).hits


def predict_held_out(
    model: TrainedModel, events: EventDataset, batch_size: int = 256
) -> ModelPredictions:
    """Apply a model to all events of a data set.

    Raises
    ------
    DataError
        If the events have other labels than those that the model predicts, or other misc data
        than those that it reads.
    """
    if events.names.labels != model.label_names:
        raise DataError(
            f"the held-out events have other labels than those that '{model.name}' predicts: "
            f"{', '.join(events.names.labels)} instead of {', '.join(model.label_names)}. Take the "
            "label keys of its training"
        )
    truth = events.read(np.arange(len(events)), hits_of=slice(0, 0))
    hits, misc = hits_of(events, batch_size), truth.misc
    if needs_misc(model.network) and events.names.misc != model.misc_names:
        raise DataError(
            f"the held-out events have other misc data than those that '{model.name}' reads: "
            f"{', '.join(events.names.misc) or 'none'} instead of {', '.join(model.misc_names)}. "
            "Take the misc_* keys of its training"
        )
    output = predict_chunks(TorchBackend(model), hits, batch_size, len(events), misc)
    has_log = model.spec.transformation.settings.log_label_bins
    values = (output.labels.astype(np.float64), output.uncertainty.astype(np.float64))
    table = PredictionTable(model.label_names, has_log, *values, ids=truth.ids)
    return ModelPredictions(model, table, truth.labels.astype(np.float64))


def predicted_together(name: str, predictions: Sequence[ModelPredictions]) -> ModelPredictions:
    """Predictions of the ensemble of several models for the same events."""
    first = predictions[0]
    ensemble = ensemble_of(name, [each.model for each in predictions])
    table = mix([each.table for each in predictions], first.model.spec)
    return ModelPredictions(ensemble, table, first.true)


def mix(tables: Sequence[PredictionTable], spec: NetworkSpec) -> PredictionTable:
    """Predictions of several models for the same events as the mixture of their densities.

    Parameters
    ----------
    tables
        Predictions of each.
    spec
        Names and transformation of the labels.
    """
    mixed = Mixture(spec).mix(
        torch.from_numpy(np.stack([table.labels for table in tables])),
        torch.from_numpy(np.stack([table.uncertainty for table in tables])),
    )
    return replace(tables[0], labels=mixed.labels.numpy(), uncertainty=mixed.uncertainty.numpy())


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
        Whether the labels must be the same, too, as in an ensemble.

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
                f"'{names[0]}' and '{name}' keep other events of the same held-out files: the "
                f"former has {missing} which the latter lacks, and lacks {more} which that has. "
                "Give both the same filter_* keys and data_handler_nan_fill_value, and labels that "
                "are known for the same events"
            )
    for name, events in zip(names, held_out, strict=True):
        if same_labels and events.names.labels != held_out[0].names.labels:
            raise ConfigError(
                f"--ensemble needs networks of the same labels in the same order; those of "
                f"'{name}' differ from those of '{names[0]}': give both the same label keys"
            )


def _ids(events: EventDataset) -> NDArray[np.void]:
    return events.read(np.arange(len(events)), hits_of=slice(0, 0)).ids
