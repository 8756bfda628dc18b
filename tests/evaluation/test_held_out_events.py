"""Predictions of held-out events beside their truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_run import SmallRun

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.loader import to_tensors
from dnn_reco.errors import DataError
from dnn_reco.evaluation.held_out_events import (
    ModelPredictions,
    hits_of,
    open_held_out_events,
    predict_held_out,
)
from dnn_reco.inference.prediction_table import PredictionTable
from dnn_reco.inference.trained_model import TrainedModel, load_trained_model


@pytest.fixture(scope="module")
def model(trained_run: SmallRun) -> TrainedModel:
    return load_trained_model(trained_run.config(), torch.device("cpu"))


@pytest.fixture(scope="module")
def events(trained_run: SmallRun) -> EventDataset:
    config = trained_run.config()
    return open_held_out_events(
        config, [trained_run.folder / "validation.hdf5"], str(config.event_store), 1
    )


def test_all_events_in_their_order(model: TrainedModel, events: EventDataset) -> None:
    found = predict_held_out(model, events, batch_size=7)
    stored = events.read(np.arange(len(events)))
    whole = to_tensors(stored)
    with torch.no_grad():
        at_once = model.network(whole.hits)
    table = found.table
    np.testing.assert_allclose(table.labels, at_once.labels, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(table.uncertainty, at_once.uncertainty, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.true, whole.labels)
    assert table.ids is not None
    assert np.array_equal(table.ids, stored.ids)
    assert [hits.num_events for hits in hits_of(events, 25)] == [25, 25, 10]


def test_pulls(model: TrainedModel, events: EventDataset) -> None:
    found = predict_held_out(model, events)
    table, true, pulls = found.table, found.true, found.pulls()
    trafo = model.spec.transformation
    energy = model.label_names.index("EnergyVisible")
    scale = trafo.label_std[energy] + trafo.settings.norm_constant
    residual = np.log1p(table["EnergyVisible"]) - np.log1p(true[:, energy])
    sigma = table["EnergyVisible_log_uncertainty"]
    np.testing.assert_allclose(pulls[:, energy], residual / scale / (sigma / scale), rtol=1e-9)
    azimuth = model.label_names.index("PrimaryAzimuth")
    labels = np.zeros((3, len(model.label_names)))
    sigmas, truth = np.ones_like(labels), np.zeros_like(labels)
    labels[:, azimuth], truth[:, azimuth] = (0.1, 6.2, 3.0), (6.2, 0.1, 2.0)
    names = (model.label_names, table.has_log)
    across = ModelPredictions(model, PredictionTable(*names, labels, sigmas), truth)
    expected = [0.1 + 2 * np.pi - 6.2, 6.2 - 2 * np.pi - 0.1, 1.0]
    np.testing.assert_allclose(across.pulls()[:, azimuth], expected, rtol=1e-9)


def test_events_with_other_labels_are_refused(
    trained_run: SmallRun, model: TrainedModel, events: EventDataset, tmp_path: Path
) -> None:
    config = trained_run.config(label_keys_to_load=["EnergyVisible", "PrimaryZenith"])
    files = [trained_run.folder / "validation.hdf5"]
    others = open_held_out_events(config, files, str(config.event_store), 1)
    with pytest.raises(DataError, match="other labels than those that 'mine' predicts"):
        predict_held_out(replace(model, name="mine"), others)
