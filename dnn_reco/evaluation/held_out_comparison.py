"""Trained models, and what the held-out files give besides, side by side on held-out events."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.from_config import record_settings
from dnn_reco.data.label_definitions import relative_time_names
from dnn_reco.errors import ConfigError
from dnn_reco.evaluation.comparison import Comparison, compare_models
from dnn_reco.evaluation.comparison_report import TrainingCost, sum_of_costs
from dnn_reco.evaluation.event_weights import event_weights, flux_weights
from dnn_reco.evaluation.events_of_files import events_of_files, files_without_events
from dnn_reco.evaluation.held_out_events import (
    calibrated_table,
    predict_held_out,
    predicted_together,
    reconstruction_of,
    true_events,
)
from dnn_reco.evaluation.reconstruction import Evaluation, Reconstruction
from dnn_reco.evaluation.stored_reconstructions import TrueLabels, read_asked
from dnn_reco.inference.output_file import Predictions
from dnn_reco.inference.prediction_table import PredictionTable, Status
from dnn_reco.inference.trained_model import TrainedModel
from dnn_reco.nn.memory import keep_freed_memory
from dnn_reco.nn.predictor import allow_tf32
from dnn_reco.nn.threads import computes_in_pieces, use_threads

_log = logging.getLogger(__name__)

ENSEMBLE = "ensemble"
"""Name of the ensemble of all models."""
RAW = "_raw"
"""End of the name of a calibrated model without its calibration."""
STORED = "_stored"
"""End of the name of a stored reconstruction that is called as one of the models."""


@dataclass(frozen=True)
class Extras:
    """What the held-out files give besides the events of the models.

    Attributes
    ----------
    weights
        Weights of the events [n]; None: all are equal.
    stored
        Reconstructions that the files hold.
    """

    weights: NDArray[np.float64] | None = None
    stored: tuple[Reconstruction, ...] = ()


@dataclass(frozen=True)
class Compared:
    """Models side by side on held-out events.

    Attributes
    ----------
    evaluation
        The events and what the models reconstruct.
    comparison
        The numbers that are printed.
    costs
        What it took to train each, by name, the ensemble among them.
    events_per_second
        How fast each model was, by name.
    """

    evaluation: Evaluation
    comparison: Comparison
    costs: Mapping[str, TrainingCost]
    events_per_second: Mapping[str, float]


def check_ensemble(names: Sequence[str]) -> None:
    """Check that the models of these names can be compared with the ensemble of all.

    Raises
    ------
    ConfigError
        If there is only one, or one is called as the ensemble will be.
    """
    if len(names) == 1 or ENSEMBLE in names:
        raise ConfigError(
            f"--ensemble needs at least two networks, none of them called '{ENSEMBLE}'; there are: "
            f"{', '.join(names)}"
        )


def extras_of(
    models: Sequence[TrainedModel],
    held_out: EventDataset,
    weights: str | None,
    flux: str | None,
    stored: Sequence[str],
    jobs_per_file: int = 1,
) -> Extras:
    """Weights and stored reconstructions of the held-out events, as far as they are asked for.

    Parameters
    ----------
    models
        The models, whose trained labels are compared with those of stored reconstructions.
    held_out
        The events.
    weights
        Misc data, or TABLE.COLUMN, with the weights; None: all are equal.
    flux
        Flux that the events are weighted to; None: none.
    stored
        Names of stored reconstructions, see
        :func:`dnn_reco.evaluation.stored_reconstructions.read_asked`.
    jobs_per_file
        For weights to a flux: jobs of the simulation in each input of a file, see
        :func:`dnn_reco.evaluation.event_weights.flux_weights`.

    Raises
    ------
    ConfigError, DataError
        If the files have no such weights or reconstructions.
    """
    if weights is None and flux is None and not stored:
        return Extras()
    files = events_of_files(held_out)
    values = None
    if flux is not None:
        values = flux_weights(flux, [*files, *files_without_events(held_out)], jobs_per_file)
    elif weights is not None:
        values = event_weights(weights, true_events([held_out]).misc, files)
    if not stored:
        return Extras(values)
    # a label that no model gives has nothing to be compared with
    trained = {name for model in models for name in model.trained_labels}
    names = [name for name in held_out.names.labels if name in trained]
    relative = relative_time_names(names, record_settings(models[0].config))
    truth = TrueLabels(names, models[0].spec.label_keys, relative)
    return Extras(values, tuple(read_asked(stored, files, truth)))


def compare_on_held_out(
    models: Sequence[TrainedModel],
    costs: Mapping[str, TrainingCost],
    held_out: Sequence[EventDataset],
    ensemble: bool,
    num_threads: int,
    extras: Extras | None = None,
) -> Compared:
    """Predict the held-out events with all models, and compare them.

    Parameters
    ----------
    models
        The models.
    costs
        What it took to train each, by name.
    held_out
        The events with the labels of each.
    ensemble
        Whether the ensemble of all models is also compared.
    num_threads
        CPU threads to use.
    extras
        Weights of the events, and further reconstructions; None: there are none.
    """
    keep_freed_memory(same_shapes=False)  # otherwise memory grows with the number of events
    allow_tf32(False)  # the same digits for all, whatever a training before used
    extras = extras or Extras()
    events = replace(true_events(held_out), weights=extras.weights)
    tables, speeds = [], {}
    reconstructions: list[Reconstruction] = []
    costs = dict(costs)
    for model, data in zip(models, held_out, strict=True):
        _log.info("%s: reconstruction of the %s held-out events.", model.name, f"{len(data):,}")
        use_threads(num_threads, computes_in_pieces(model.network))
        start = time.perf_counter()
        raw = predict_held_out(model, data, raw=True)
        speeds[model.name] = len(data) / (time.perf_counter() - start)
        _warn_of_failures(model.name, raw)
        tables.append(calibrated_table(model, raw, events.num_hit_doms))
        reconstructions.append(reconstruction_of(model, tables[-1]))
        if model.calibration is not None:
            without = reconstruction_of(replace(model, name=f"{model.name}{RAW}"), raw)
            reconstructions.append(replace(without, is_raw=True))
    if ensemble:
        reconstructions.append(predicted_together(ENSEMBLE, models, tables))
        costs[ENSEMBLE] = sum_of_costs([costs[model.name] for model in models])
    for each in extras.stored:  # a file may hold what one of the models predicted before
        name = each.name
        while any(name == other.name for other in reconstructions):
            name += STORED
        reconstructions.append(replace(each, name=name))
        costs[name] = TrainingCost(None, None, None, None)
    evaluation = Evaluation(events, tuple(reconstructions))
    comparison = compare_models(evaluation.without_raw())
    return Compared(evaluation, comparison, costs, speeds)


def _warn_of_failures(name: str, table: PredictionTable) -> None:
    """Print how many events a model does not reconstruct, and why."""
    counts = Predictions(name, table).status_counts()
    failed = [f"{count:,} {status}" for status, count in counts.items() if status != Status.OK.name]
    if failed:
        _log.warning(
            "'%s' does not reconstruct some of the %s events: %s.",
            *(name, f"{len(table):,}", ", ".join(failed)),
        )
