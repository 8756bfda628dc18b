"""The public Python interface: its names, its examples, and what they return."""

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import Events, random_events, write_events
from i3_frames import frames_of_events
from small_run import ON_CPU, make_small_run
from tiny_network import tiny

import dnn_reco
from dnn_reco import (
    ConfigError,
    DataError,
    EventTable,
    densify,
    load_config,
    load_model,
    open_events,
)
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_stages, run_train
from dnn_reco.config import load_stages
from dnn_reco.data.build import open_events as open_dataset
from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.detector.grid import STRING_CELL
from dnn_reco.event_sources import event_store

SIGNATURES = {
    "open_events": "(files, config, *, max_events, inputs, num_bins, labels, misc)",
    "simulate_events": "(num_events, preset, **settings)",
    "load_config": "(files)",
    "load_model": "(source, device, num_checkpoints)",
    "predict": "(model, hits, batch_size, misc)",
    "densify": "(hits, init_values)",
    "plot_event": "(hits, event, charge_feature, time_feature, *, truth, reconstruction, title)",
    "event_html": "(hits, event, charge_feature, time_feature, *, truth, reconstruction, title, "
    "pictures)",
    "read_i3": "(*paths, verify, recover, mix, gcd)",
    "write_i3": "(path, frames)",
}
TYPES = {
    *("NamedColumns", "EventTable", "Hits", "Frame"),
    *("PredictionTable", "Reconstructor", "TrainedModel"),
}
ERRORS = {"ConfigError", "DataError", "DnnRecoError", "ModelError", "TrainingError"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with event files in data/, and a training of 9 features that made one step."""
    folder = tmp_path_factory.mktemp("api")
    for seed in (0, 1):
        write_events(folder / "data" / f"events_{seed}.hdf5", random_events(seed, 30, run=seed))
    data = [str(folder / "data" / f"events_{number}.hdf5") for number in (0, 1)]
    run = make_small_run(
        folder,
        training_data_file=data[:1],
        trafo_data_file=data,
        validation_data_file=data[1:],
        data_handler_num_bins=9,
        trafo_log_dom_bins=[True] * 3 + [False] * 6,
        num_training_iterations=1,
        trafo_num_batches=2,
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    assert run_train(run.config(), ON_CPU) == 0
    run.config_file.rename(folder / "config.yaml")
    dnn_reco.write_i3(folder / "events.i3.gz", frames_of_events(2))
    return folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def test_public_names_and_signatures() -> None:
    assert set(dnn_reco.__all__) == SIGNATURES.keys() | TYPES | ERRORS | {"__version__"}
    assert dir(dnn_reco) == dnn_reco.__all__
    for name, expected in SIGNATURES.items():
        parameters = inspect.signature(getattr(dnn_reco, name)).parameters.values()
        plain = inspect.Signature(
            [p.replace(annotation=p.empty, default=p.empty) for p in parameters]
        )
        assert str(plain) == expected, name
    with pytest.raises(AttributeError, match="no attribute 'open_event'"):
        dnn_reco.open_event  # type: ignore[attr-defined]  # noqa: B018


def test_overview_lists_the_functions() -> None:
    overview = re.findall(r"^(\w+) {2,}\S", str(dnn_reco.__doc__), re.MULTILINE)
    assert set(overview) == SIGNATURES.keys() | {"Reconstructor"}


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys, dnn_reco; dir(dnn_reco)\n"
        "print([m for m in ('torch', 'numpy', 'h5py', 'matplotlib') if m in sys.modules])\n"
        "from dnn_reco import open_events, densify\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\nFalse\n"


@pytest.mark.parametrize("name", SIGNATURES)
def test_examples(name: str, here: Path) -> None:
    [example] = doctest.DocTestFinder(recurse=False).find(getattr(dnn_reco, name), name, globs={})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


def assert_holds(events: EventTable, sources: list[Events]) -> None:
    assert len(events) == sum(len(source) for source in sources)
    for name in ("dom", "features"):
        expected = np.concatenate([getattr(source, name) for source in sources])
        np.testing.assert_array_equal(getattr(events.hits, name), expected)
    np.testing.assert_array_equal(events.ids, np.concatenate([source.ids for source in sources]))
    for name in sources[0].labels:
        expected = np.concatenate([source.labels[name] for source in sources])
        np.testing.assert_array_equal(events.labels[name], expected)


def test_model_of_a_training_in_stages(tmp_path: Path) -> None:
    """It is that of the last stage: another network, and other labels, than the base describes."""
    kwargs = tiny()["model_kwargs"]
    last = {
        "num_training_iterations": 1,
        "label_weight_dict": {"PrimaryZenith": 1.0},
        "model_kwargs": {**kwargs, "dropout": 0.5},
    }
    run = make_small_run(
        tmp_path,
        **tiny(),
        training_stages=[{"num_training_iterations": 1}, last],
        num_training_iterations=None,
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    assert run_stages(load_stages([run.config_file]), ON_CPU) == 0
    for source in (run.config_file, load_config(run.config_file)):
        model = load_model(source, device="cpu")
        assert model.trained_labels == ("PrimaryZenith",)
        assert model.config.model.model_kwargs["dropout"] == 0.5


def test_events_as_they_are_in_the_files(tmp_path: Path) -> None:
    sources = [random_events(seed, 10, run=seed) for seed in (1, 2)]
    for i, source in enumerate(sources):
        write_events(tmp_path / f"{i}.hdf5", source)
    events = open_events(tmp_path / "*.hdf5", misc={"MCPrimary": ["energy"]})
    assert_holds(events, sources)
    assert events.misc.names == ("MCPrimary_energy",)
    expected = np.concatenate([source.primary["energy"] for source in sources])
    np.testing.assert_array_equal(events.misc["MCPrimary_energy"], expected)
    assert_holds(
        open_events([tmp_path / "1.hdf5", tmp_path / "0.hdf5"], max_events=10), sources[:1]
    )


def test_events_without_object_are_skipped_and_missing_labels_are_nan(tmp_path: Path) -> None:
    source = random_events(1, 3)
    exists = {
        "dnn_data_global_time_offset": np.array([False, True, True]),
        "LabelsDeepLearning": np.array([True, False, True]),
    }
    events = open_events(write_events(tmp_path / "e.hdf5", source, exists=exists))
    assert events.ids.tolist() == source.ids[1:].tolist()
    assert np.isnan(events.labels["VertexX"]).tolist() == [True, False]
    np.testing.assert_array_equal(events.hits.dom, source.dom[source.offsets[1] :])


def test_events_of_a_config_are_those_of_a_training(here: Path) -> None:
    config = dnn_reco.load_config("config.yaml")
    files = sorted((here / "data").glob("*.hdf5"))
    dataset = open_dataset(event_store(config, None), files, 1)
    expected = dataset.read(np.arange(len(dataset)))
    events = open_events("data/*.hdf5", config)
    assert events.labels.names == dataset.names.labels
    assert abs(events.labels["VertexTime"]).max() < 5000  # relative to the time offset
    for name in ("labels", "misc"):
        np.testing.assert_array_equal(getattr(events, name).array, getattr(expected, name))
    for name in ("offsets", "dom", "features"):
        np.testing.assert_array_equal(getattr(events.hits, name), getattr(expected.hits, name))


def test_choice_of_events(tmp_path: Path) -> None:
    source = random_events(1, 6, empty_fraction=0.3)
    events = open_events(write_events(tmp_path / "e.hdf5", source))
    for chosen in ([4, 1], np.arange(6) == 2, slice(1, 4), 5):
        numbers = np.atleast_1d(np.arange(6)[chosen])
        some = events[chosen if not isinstance(chosen, list) else np.array(chosen)]
        assert some.ids.tolist() == source.ids[numbers].tolist()
        parts = [slice(*source.offsets[i : i + 2]) for i in numbers]
        expected = np.concatenate([source.features[part] for part in parts])
        np.testing.assert_array_equal(some.hits.features, expected)
        assert np.diff(some.hits.offsets).tolist() == [part.stop - part.start for part in parts]


def test_dense_arrays(tmp_path: Path) -> None:
    """Each hit is in the cell of its string and DOM, all other cells hold the initial values."""
    source = random_events(1, 3, num_bins=2, mean_hits=200)
    main_array, deepcore = densify(source.hits, [-1.0, -2.0])
    assert main_array.shape == (3, 10, 10, 60, 2)
    assert deepcore.shape == (3, 8, 60, 2)
    for event in range(3):
        for k in range(*source.offsets[event : event + 2]):
            string, om = divmod(int(source.dom[k]), 60)
            if string < 78:
                a, b = STRING_CELL[string]
                cell = main_array[event, a, b, om]
            else:
                cell = deepcore[event, string - 78, om]
            np.testing.assert_array_equal(cell, source.features[k])
    num_empty = 3 * (6000 + 480) - len(source.dom)
    assert (main_array[..., 1] == -2).sum() + (deepcore[..., 1] == -2).sum() == num_empty


def test_prediction_is_that_of_the_network(here: Path) -> None:
    model = load_model("config.yaml", device="cpu")
    events = open_events("data/*.hdf5", "config.yaml")
    whole = dnn_reco.predict(model, events.hits)
    parts = dnn_reco.predict(model, events.hits, batch_size=7)
    assert whole.label_names == model.trained_labels
    column = model.label_names.index("EnergyVisible")
    with torch.no_grad():
        direct = model.network(HitBatch.from_hits(events.hits)).labels[:, column]
    np.testing.assert_allclose(whole["EnergyVisible"], direct.numpy(), rtol=1e-5)
    np.testing.assert_allclose(parts.labels, whole.labels, rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match="9 features a DOM, but these hits have 3"):
        dnn_reco.predict(model, open_events("validation.hdf5").hits)


def test_mistakes(here: Path) -> None:
    (here / "notes.txt").write_text("no events")
    with pytest.raises(DataError, match=r"(?s)no file matches .*nothing\.hdf5"):
        open_events("nothing.hdf5")
    with pytest.raises(DataError, match=r"notes\.txt' is not an event file of a supported format"):
        open_events("notes.txt")
    with pytest.raises(ConfigError, match="name them there"):
        open_events("data/*.hdf5", "config.yaml", num_bins=9)
    with pytest.raises(DataError, match=r"no column 'Energy'\. Available: EnergyVisible"):
        open_events("data/*.hdf5").labels["Energy"]
    with pytest.raises(ConfigError, match="max_events is 0"):
        open_events("data/*.hdf5", max_events=0)
    with pytest.raises(ConfigError, match="holds one set of weights"):
        load_model("data", device="cpu", num_checkpoints=3)
    with pytest.raises(ConfigError, match="num_events is 0"):
        dnn_reco.simulate_events(0)


def test_input_tables_are_chosen_where_there_are_several(numu_file: Path) -> None:
    with pytest.raises(DataError, match="choose one, inputs='dnn_data__charge_bins' or"):
        open_events(numu_file)
    with pytest.raises(DataError, match="highest is 9: give the number of features"):
        open_events(numu_file, inputs="dnn_data__charge_bins")
    charges = open_events(numu_file, inputs="dnn_data__charge_bins", num_bins=10).hits
    summary = open_events(numu_file, inputs="dnn_data_inputs9_InIceDSTPulses").hits
    assert charges.num_features == 10
    assert summary.num_features == 9
    assert summary.num_events == charges.num_events == 32


@pytest.mark.parametrize(
    ("offsets", "dom", "features", "message"),
    [
        ([0, 2], [1, 5160], [[1.0, 2, 3]] * 2, "DOM index outside 0 … 5159"),
        ([0, 2], [7, 7], [[1.0, 2, 3]] * 2, "each DOM once"),
        ([0, 2], [8, 7], [[1.0, 2, 3]] * 2, "ascending order"),
        ([0, 3], [7, 8], [[1.0, 2, 3]] * 2, "number of hits 2"),
        ([0, 2, 1, 2], [7, 8], [[1.0, 2, 3]] * 2, "must not decrease"),
        ([0, 2], [7, 8], [[1.0, 2, 3]], "features of shape"),
        ([0, 2], [7, 8], [[1.0, 2, 3], [1, np.nan, 3]], "not finite"),
    ],
)
def test_invalid_hits(
    offsets: list[int], dom: list[int], features: list[list[float]], message: str, here: Path
) -> None:
    hits = dnn_reco.Hits(np.array(offsets), np.array(dom, np.uint16), np.array(features))
    model = load_model("config.yaml", device="cpu")
    for use in (densify, dnn_reco.plot_event, lambda hits: dnn_reco.predict(model, hits, 1)):
        with pytest.raises(DataError, match=message):
            use(hits)
