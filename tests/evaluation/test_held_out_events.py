"""Predictions of held-out events beside their truth."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from network_pulls import residuals_and_pulls
from small_run import SmallRun

from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.data.loader import to_tensors
from dnn_reco.errors import DataError
from dnn_reco.evaluation.held_out_events import (
    HeldOutFiles,
    hits_of,
    open_held_out_events,
    predict_held_out,
    predicted_together,
    reconstruction_of,
    true_events,
)
from dnn_reco.evaluation.residuals import label_pull
from dnn_reco.inference.prediction_table import Status
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
    table = predict_held_out(model, events, batch_size=7)
    stored = events.read(np.arange(len(events)))
    whole = to_tensors(stored)
    with torch.no_grad():
        at_once = model.network(whole.hits)
    np.testing.assert_allclose(table.labels, at_once.labels, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(table.uncertainty, at_once.uncertainty, rtol=1e-5, atol=1e-5)
    assert table.status is not None
    assert (table.status == Status.OK).all()
    assert table.ids is not None
    assert np.array_equal(table.ids, stored.ids)
    assert [hits.num_events for hits in hits_of(events, 25)] == [25, 25, 10]


def test_the_truth_of_all_networks(trained_run: SmallRun, events: EventDataset) -> None:
    changes = {"label_keys_to_load": ["PrimaryZenith", "VertexX"]}
    config = trained_run.config(**changes)
    files = [trained_run.folder / "validation.hdf5"]
    others = open_held_out_events(config, files, str(config.event_store), 1)
    truth = true_events([others, events])
    stored = events.read(np.arange(len(events)))
    assert list(truth.labels)[:2] == ["PrimaryZenith", "VertexX"]
    assert set(truth.labels) == set(events.names.labels)
    for column, name in enumerate(events.names.labels):
        np.testing.assert_array_equal(truth.labels[name], stored.labels[:, column])
    np.testing.assert_array_equal(truth.num_hit_doms, np.diff(stored.hits.offsets))
    np.testing.assert_array_equal(truth.time_offset, stored.time_offset)
    assert np.array_equal(truth.ids, stored.ids)


def test_files_of_the_events(events: EventDataset) -> None:
    files = HeldOutFiles.of(events)
    (path,) = files.paths
    assert path.name == "validation.hdf5"
    assert files.num_events == (len(events),)
    assert files.num_events_in_files == len(events) + sum(files.dropped.values())
    both = HeldOutFiles((Path("a"), Path("b")), (2, 3), 5, 0, {})
    assert [both.path_of(event).name for event in range(5)] == ["a", "a", "b", "b", "b"]


def test_only_trained_labels_are_reconstructed(model: TrainedModel, events: EventDataset) -> None:
    table = predict_held_out(model, events)
    one = reconstruction_of(model, table)
    assert one.table.label_names == ("EnergyVisible", "PrimaryAzimuth") == model.trained_labels
    assert one.keys == model.spec.label_keys
    twice = predicted_together("both", [model, model], [table, table])
    assert twice.name == "both"
    status = np.where(np.arange(len(events)) < 5, Status.NO_HITS, Status.OK)
    with_gaps = reconstruction_of(model, replace(table, status=status)).table
    for values in (with_gaps.labels, with_gaps.uncertainty):
        assert np.isnan(values).any(axis=1).tolist() == [True] * 5 + [False] * 55
    np.testing.assert_allclose(twice.table.labels, one.table.labels, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(twice.table.status, one.table.status)


def test_pulls(model: TrainedModel, events: EventDataset) -> None:
    table, truth = predict_held_out(model, events), true_events([events])
    reconstruction = reconstruction_of(model, table)
    residual = np.log1p(table["EnergyVisible"]) - np.log1p(truth.labels["EnergyVisible"])
    sigma = table["EnergyVisible_log_uncertainty"]
    pulls = label_pull(reconstruction, truth, "EnergyVisible")
    np.testing.assert_allclose(pulls, residual / sigma, rtol=1e-9)
    # the same in the space in which the network was trained
    true = np.stack([truth.labels[name] for name in model.label_names], axis=1)
    trained = residuals_and_pulls(table, true, model.spec)[1]
    np.testing.assert_allclose(
        pulls, trained[:, model.label_names.index("EnergyVisible")], rtol=1e-9
    )
    azimuth = label_pull(reconstruction, truth, "PrimaryAzimuth")
    np.testing.assert_allclose(
        azimuth, trained[:, model.label_names.index("PrimaryAzimuth")], rtol=1e-6, atol=1e-9
    )


def test_events_with_other_labels_are_refused(
    trained_run: SmallRun, model: TrainedModel, events: EventDataset, tmp_path: Path
) -> None:
    config = trained_run.config(label_keys_to_load=["EnergyVisible", "PrimaryZenith"])
    files = [trained_run.folder / "validation.hdf5"]
    others = open_held_out_events(config, files, str(config.event_store), 1)
    with pytest.raises(DataError, match="labels that differ from those that 'mine' predicts"):
        predict_held_out(replace(model, name="mine"), others)
