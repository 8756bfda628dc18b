"""A trained network applied to hits."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from applied_models import model_of_run
from event_files import random_events, write_events
from small_run import SmallRun

from dnn_reco import densify, open_events
from dnn_reco.checkpoint_file import load_latest
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.file_events import EVENT_ID, FileEvents
from dnn_reco.data.hdf5 import write_input_tables
from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.data.hits import Hits
from dnn_reco.data.pulses import Pulses
from dnn_reco.errors import ConfigError, DataError, ModelError
from dnn_reco.evaluation.held_out_events import mix, predicted_together
from dnn_reco.inference.backend import NetworkOutput, predict_chunks
from dnn_reco.inference.particle import particle_columns
from dnn_reco.inference.prediction_table import PredictionTable, Status
from dnn_reco.inference.reconstructor import Reconstructor
from dnn_reco.inference.torch_backend import TorchBackend
from dnn_reco.inference.trained_model import TrainedModel, ensemble_of, load_trained_model

CPU = torch.device("cpu")
NUM_EVENTS = 45
ANGLES = ("PrimaryZenith", "PrimaryAzimuth")
VECTOR = tuple(f"PrimaryDirection{axis}" for axis in "XYZ")


@pytest.fixture(scope="module")
def model(trained_run: SmallRun) -> TrainedModel:
    return load_trained_model(trained_run.config(), CPU)


@pytest.fixture(scope="module")
def hits() -> Hits:
    """Made-up hits of no file, some events without any."""
    rng = np.random.default_rng(5)
    num_hits = rng.integers(0, 30, NUM_EVENTS)
    num_hits[[0, 7, 8, NUM_EVENTS - 1]] = 0
    dom = [np.sort(rng.choice(5160, size, replace=False)) for size in num_hits]
    offsets = np.concatenate([[0], np.cumsum(num_hits)])
    features = rng.exponential(20.0, (offsets[-1], 3)).astype(np.float32)
    return Hits(offsets, np.concatenate(dom).astype(np.uint16), features)


def in_chunks(hits: Hits, sizes: Sequence[int]) -> Iterator[Hits]:
    start = 0
    for size in sizes:
        yield hits.part(start, start + size)
        start += size
    assert start == hits.num_events


def predicted(model: TrainedModel, chunks: Iterable[Hits], batch_size: int = 256) -> NetworkOutput:
    return predict_chunks(TorchBackend(model), chunks, batch_size)


def test_hits_alone_are_predicted_as_the_network_does(model: TrainedModel, hits: Hits) -> None:
    table = Reconstructor(model).predict(hits)
    with torch.no_grad():
        expected = model.network(HitBatch.from_hits(hits.select(np.diff(hits.offsets) > 0)))
    has_hits = np.diff(hits.offsets) > 0
    for label in model.trained_labels:
        column = model.label_names.index(label)
        assert np.array_equal(table[label][has_hits], expected.labels[:, column].numpy())
        assert np.isnan(table[label][~has_hits]).all()
    assert table.label_names == model.trained_labels
    assert table.status is not None
    assert np.array_equal(table.status, np.where(has_hits, Status.OK, Status.NO_HITS))
    in_double = replace(hits, features=hits.features.astype(np.float64))
    same = Reconstructor(model).predict(in_double)
    assert np.array_equal(same.labels, table.labels, equal_nan=True)
    assert np.array_equal(same.uncertainty, table.uncertainty, equal_nan=True)


@pytest.mark.parametrize(
    "sizes", [[NUM_EVENTS], [1] * NUM_EVENTS, [20, 0, 25], [3, 40, 2], [15, 15, 15]]
)
@pytest.mark.parametrize("batch_size", [1, 15, 100])
def test_any_chunks_and_batches_give_the_same(
    model: TrainedModel, hits: Hits, sizes: list[int], batch_size: int
) -> None:
    output = predicted(model, in_chunks(hits, sizes), batch_size)
    expected = TorchBackend(model).predict(hits)
    assert len(output.labels) == NUM_EVENTS
    assert output.labels.dtype == np.float64
    np.testing.assert_allclose(output.labels, expected.labels, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(output.uncertainty, expected.uncertainty, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(output.labels_trafo, expected.labels_trafo, rtol=1e-5, atol=1e-5)
    whole = predicted(model, [hits], batch_size)
    assert np.array_equal(output.labels, whole.labels)


def test_no_hits_and_no_events(model: TrainedModel, hits: Hits) -> None:
    num_labels = len(model.label_names)
    assert predicted(model, []).labels.shape == (0, num_labels)
    assert predicted(model, [hits.part(3, 3)]).labels.shape == (0, num_labels)
    assert len(Reconstructor(model).predict(hits.part(3, 3))) == 0
    output = predicted(model, [hits.part(7, 9)])
    assert np.isfinite(output.labels).all()
    assert np.array_equal(output.labels[0], output.labels[1])


def test_hits_of_another_data_format(model: TrainedModel, hits: Hits) -> None:
    wide = replace(hits, features=np.repeat(hits.features, 3, axis=1))
    for predict in (Reconstructor(model).predict, lambda hits: predicted(model, [hits])):
        with pytest.raises(DataError, match="trained with 3 features a DOM, but these hits have 9"):
            predict(wide)


@pytest.mark.parametrize("num_rows", [NUM_EVENTS - 1, NUM_EVENTS + 1])
def test_misc_data_of_other_events(model: TrainedModel, hits: Hits, num_rows: int) -> None:
    n = NUM_EVENTS
    events = FileEvents(np.zeros(n, EVENT_ID), np.zeros(n), np.ones(n, bool), hits, {})
    with pytest.raises(DataError, match=f"misc data of {num_rows} events for {n} events"):
        Reconstructor(model).predict_events(events, np.zeros((num_rows, 2)))


def test_columns_are_named_by_label_and_logarithm() -> None:
    rng = np.random.default_rng(0)
    labels, sigma = rng.random((4, 2)), rng.random((4, 2))
    table = PredictionTable(("Energy", "Zenith"), (True, False), labels, sigma)
    columns = table.columns()
    names = ["Energy", "Energy_log_uncertainty", "Zenith", "Zenith_uncertainty"]
    assert list(columns) == names
    expected = (labels[:, 0], sigma[:, 0], labels[:, 1], sigma[:, 1])
    for name, values in zip(names, expected, strict=True):
        assert np.array_equal(columns[name], values)
        assert np.array_equal(table[name], values)
    assert list(table.columns(["Zenith"])) == names[2:]
    with pytest.raises(DataError, match="no column 'Energy_uncertainty'"):
        table["Energy_uncertainty"]


def test_columns_follow_the_transformation_model(model: TrainedModel, hits: Hits) -> None:
    table = Reconstructor(model).predict(hits)
    assert "EnergyVisible_log_uncertainty" in table.columns()
    assert "PrimaryAzimuth_uncertainty" in table.columns()
    assert model.trained_labels == ("EnergyVisible", "PrimaryAzimuth")


@pytest.mark.parametrize("trained", [ANGLES, (*ANGLES, *VECTOR)])
def test_predictions_are_mixed_as_an_ensemble_of_the_networks_does(
    trained_run: SmallRun, model: TrainedModel, hits: Hits, trained: tuple[str, ...]
) -> None:
    model = replace(model, trained_labels=trained)
    other = load_trained_model(trained_run.config(), CPU)
    with torch.no_grad():
        for _, parameter in other.network.named_parameters():
            parameter.mul_(0.9)
    other = replace(other, trained_labels=trained)
    outputs = [predicted(each, [hits]) for each in (model, other)]
    names = model.label_names
    tables = [
        PredictionTable(names, (False,) * len(names), output.labels, output.uncertainty)
        for output in outputs
    ]
    mixed = mix(tables, model.spec, trained)
    together = predicted(ensemble_of("both", [model, other]), [hits])
    np.testing.assert_allclose(mixed.labels, together.labels, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(mixed.uncertainty, together.uncertainty, rtol=1e-4, atol=1e-4)
    assert not np.allclose(tables[0].labels, tables[1].labels, rtol=1e-2)
    reconstructed = predicted_together("both", [model, other], tables).table
    column = names.index("PrimaryZenith")
    np.testing.assert_array_equal(reconstructed["PrimaryZenith"], mixed.labels[:, column])
    mean = np.mean([table["PrimaryZenith"] for table in tables], axis=0)
    is_mean = np.allclose(mixed.labels[:, column], mean, rtol=1e-6)
    assert is_mean == (trained == ANGLES), "zenith follows from the vector where that is trained"


def test_weights_are_those_of_the_newest_checkpoint(
    trained_run: SmallRun, model: TrainedModel
) -> None:
    checkpoint = load_latest(trained_run.checkpoints)
    assert checkpoint is not None
    assert isinstance(model.network, torch.nn.Module) and not model.network.training
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, checkpoint.section("network")[name])


def test_without_a_checkpoint(trained_run: SmallRun, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="train the network first"):
        load_trained_model(trained_run.config(model_checkpoint_path=str(tmp_path / "none")), CPU)


def test_events_in_memory_are_checked_as_their_files(trained_run: SmallRun, tmp_path: Path) -> None:
    settings = DataSettings(3, "time_range", "total_dom_charge", dom_exclusions=())
    model = model_of_run(trained_run, tmp_path / "model", data_settings=settings)
    reconstructor = Reconstructor(model, device="cpu")
    made = {"a": settings, "b": replace(settings, dom_exclusions=("BadDomsList",))}
    for seed, (name, each) in enumerate(made.items()):
        events = random_events(seed, 5, num_bins=3, run=seed)
        path = tmp_path / f"{name}.hdf5"
        write_input_tables(path, events.ids, events.time_offset, events.hits, data_settings=each)
    right = open_events(tmp_path / "a.hdf5")
    assert right.data_settings == (settings,)
    expected = reconstructor.predict(tmp_path / "a.hdf5")
    np.testing.assert_array_equal(reconstructor.predict(right).labels, expected.labels)
    both = open_events(tmp_path / "*.hdf5")
    message = "'the events' was made with different settings.*\n.*dom_exclusions is"
    for wrong in (both, both[7:]):
        with pytest.raises(DataError, match=message):
            reconstructor.predict(wrong)
    found = reconstructor.predict(both, ignore_mismatch=["dom_exclusions"])
    np.testing.assert_array_equal(found.labels[:5], expected.labels)


def test_files_are_predicted_in_the_given_order(model: TrainedModel, tmp_path: Path) -> None:
    reconstructor, found = Reconstructor(model), {}
    for seed, name in enumerate("abc"):
        write_events(tmp_path / f"{name}.hdf5", random_events(seed, 3, num_bins=3, run=seed))
        found[name] = reconstructor.predict(tmp_path / f"{name}.hdf5").labels
    names = [tmp_path / "c.hdf5", str(tmp_path / "[ab].hdf5"), tmp_path / "c.hdf5"]
    table = reconstructor.predict(names)
    assert table.ids["Run"].tolist() == [2, 2, 2, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    np.testing.assert_array_equal(table.labels, np.concatenate([found[name] for name in "cabc"]))
    with pytest.raises(DataError, match=r"no file matches the events to reconstruct:\n.*d\.hdf5"):
        reconstructor.predict([*names, tmp_path / "d.hdf5"])
    with pytest.raises(DataError, match="no files are given"):
        reconstructor.predict([])


def test_several_threads_may_predict_at_once(model: TrainedModel, hits: Hits) -> None:
    reco = Reconstructor(model, num_threads=1)
    parts = [hits.part(i % 20, i % 20 + 1 + i % 25) for i in range(200)]
    expected = [reco.predict(part) for part in parts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(reco.predict, parts))
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.labels, other.labels, equal_nan=True)
        assert np.array_equal(one.uncertainty, other.uncertainty, equal_nan=True)


def test_dense_arrays_are_predicted_as_hits(model: TrainedModel, hits: Hits) -> None:
    """As the reference's `predict` takes them: untransformed, or transformed already."""
    reco = Reconstructor(model)
    main_array, deepcore = densify(hits, model.spec.dom_init_values)
    has_hits = np.diff(hits.offsets) > 0
    expected = reco.predict(hits).labels[has_hits]
    found = reco.predict_dense(main_array, deepcore)
    assert np.array_equal(found.labels[has_hits], expected)
    assert np.isfinite(found.labels).all()
    with torch.no_grad():
        grids = model.network.place_on_grid(HitBatch.from_hits(hits))
    arrays = [grid.numpy() for grid in grids]
    transformed = reco.predict_dense(*arrays, transformed=True)
    np.testing.assert_allclose(transformed.labels[has_hits], expected, rtol=1e-5)


@pytest.mark.parametrize("transformed", [False, True])
def test_dense_arrays_that_do_not_fit(model: TrainedModel, transformed: bool) -> None:
    reco = Reconstructor(model)
    main_array, deepcore = np.zeros((2, 10, 10, 60, 3)), np.zeros((2, 8, 60, 3))
    for arrays, found in (
        ((main_array, deepcore[..., :2]), r"\(2, 8, 60, 2\)"),
        ((main_array, deepcore[:1]), r"\(1, 8, 60, 3\)"),
        ((main_array[..., :2], deepcore[..., :2]), r"\(2, 10, 10, 60, 2\)"),
    ):
        with pytest.raises(DataError, match=f"a dense array has shape {found}, not"):
            reco.predict_dense(*arrays, transformed=transformed)
    with pytest.raises(DataError, match="not finite"):
        reco.predict_dense(main_array, deepcore + np.nan, transformed=transformed)
    assert len(reco.predict_dense(main_array[:0], deepcore[:0], transformed=transformed)) == 0


PULSES = Pulses(
    2,
    np.array([0, 0, 0, 1]),
    np.array([-1, 7, 7, 5159]),
    np.array([9900.0, 9000.0, 9100.0, 9000.0]),
    np.array([1.0, 0.0, 2.5, 1.0]),
    np.zeros(4, np.uint8),
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": PULSES.time[:3]}, r"equal lengths \[p\].*\(4,\), \(4,\), \(3,\)"),
        ({"num_events": 1}, "event outside 0 … 0"),
        ({"event": PULSES.event - 1}, "event outside 0 … 1"),
        ({"dom": PULSES.dom + 1}, "DOM index outside -1 … 5159"),
        ({"dom": PULSES.dom - 1}, "DOM index outside -1 … 5159"),
        ({"time": PULSES.time * np.array([1, 1, np.nan, 1])}, "times that are not finite"),
        ({"charge": -PULSES.charge}, "negative or not finite"),
        ({"charge": PULSES.charge + np.inf}, "negative or not finite"),
        ({"time": PULSES.time[[0, 2, 1, 3]]}, r"sorted.*numpy\.lexsort\(\(time, dom, event\)\)"),
        ({"dom": PULSES.dom[[1, 0, 2, 3]]}, "sorted by event, DOM and time"),
        ({"event": PULSES.event[::-1]}, "sorted by event, DOM and time"),
    ],
)
def test_pulses_that_do_not_fit(model: TrainedModel, changes: dict[str, Any], message: str) -> None:
    settings = DataSettings(3, "time_range", "charge_bins", time_bins=(0.0, 500.0, 1000.0, 1500.0))
    reco = Reconstructor(replace(model, data_settings=settings))
    assert len(reco.predict(PULSES)) == 2
    with pytest.raises(DataError, match=message):
        reco.predict(replace(PULSES, **changes))


def test_arguments_that_do_not_fit(model: TrainedModel, hits: Hits, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size is 0: it must be at least 1"):
        Reconstructor(model, batch_size=0)
    with pytest.raises(ConfigError, match="num_threads is -1"):
        Reconstructor(model, num_threads=-1)
    reco = Reconstructor(model)
    path = write_events(tmp_path / "a.hdf5", random_events(1, 4, num_bins=3))
    with pytest.raises(ConfigError, match="misc is not for files"):
        reco.predict(path, misc=np.zeros((3, 2)))
    for source in (path, open_events(path)):
        with pytest.raises(ConfigError, match="time_offset is for hits alone"):
            reco.predict(source, time_offset=np.zeros(4))


def test_times_become_absolute(trained_run: SmallRun, hits: Hits) -> None:
    config = trained_run.config(
        label_weight_dict={"VertexTime": 1.0}, data_handler_relative_time_key_pattern="time"
    )
    reco = Reconstructor(load_trained_model(config, CPU))
    offset = 9000.0 + 100 * np.arange(NUM_EVENTS)
    relative = reco.predict(hits)["VertexTime"]
    absolute = reco.predict(hits, time_offset=offset)["VertexTime"]
    np.testing.assert_allclose(absolute, relative + offset)
    offset[3] = np.inf
    table = reco.predict(hits, time_offset=offset)
    assert table.status is not None and table.status[3] == Status.INVALID_INPUT
    assert np.isnan(table["VertexTime"][3])


def test_particles_of_vectors_and_angles() -> None:
    """Zenith and azimuth point to where a particle comes from; vectors have any length."""
    zenith, azimuth = np.array([0.5, 2.0, 3.0]), np.array([0.1, 4.0, 6.0])
    vector = {
        "x": -np.sin(zenith) * np.cos(azimuth),
        "y": -np.sin(zenith) * np.sin(azimuth),
        "z": -np.cos(zenith),
    }
    labels = {"E": np.array([1.0, 2, 3]), **{k: 0.3 * v for k, v in vector.items()}}
    keys = {"energy": "E", "dir_x": "x", "dir_y": "y", "dir_z": "z", "time": "not_trained"}
    found = particle_columns(labels, keys, 3)
    np.testing.assert_allclose(found["zenith"], zenith)
    np.testing.assert_allclose(found["azimuth"], azimuth)
    np.testing.assert_array_equal(found["energy"], labels["E"])
    assert np.isnan(found["time"]).all() and np.isnan(found["x"]).all()
    angles = {"z": zenith, "a": azimuth - 2 * np.pi}
    found = particle_columns(angles, {"zenith": "z", "azimuth": "a"}, 3)
    np.testing.assert_allclose(found["zenith"], zenith)
    np.testing.assert_allclose(found["azimuth"], azimuth)
    nowhere = {name: np.zeros(3) for name in "xyz"}
    found = particle_columns(nowhere, {f"dir_{name}": name for name in "xyz"}, 3)
    assert np.isnan(found["zenith"]).all() and np.isnan(found["azimuth"]).all()
