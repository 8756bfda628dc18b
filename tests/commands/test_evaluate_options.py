"""`evaluate` with stored reconstructions, weighted events, changed hits and other input tables."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from applied_models import model_of_run
from event_files import random_events, write_events
from small_run import ON_CPU, SmallRun, make_small_run
from workspace import Result, invoke

from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.hdf5 import input_tables

ENERGY = "EnergyVisible"
VECTOR = ("PrimaryDirectionX", "PrimaryDirectionY", "PrimaryDirectionZ")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    folder = tmp_path_factory.mktemp("evaluated_run")
    weights = {ENERGY: 1.0, **dict.fromkeys(VECTOR, 1.0)}
    run = make_small_run(folder, validation_events=20, label_weight_dict=weights)
    run_trafo(run.config(), ON_CPU, overwrite=False)
    run_train(run.config(num_training_iterations=4), ON_CPU)
    return run


@pytest.fixture(scope="module")
def model(trained: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of_run(trained, tmp_path_factory.mktemp("evaluated_model") / "small")


def events_file(path: Path, seed: int, num_events: int = 60, prefix: str = "dnn_data") -> Path:
    events = random_events(seed, num_events, num_bins=3, run=seed)
    return write_events(path, events, names=input_tables(prefix))


def evaluate(model: Path, out: Path, *options: str | Path) -> Result:
    store = out.with_name("store")
    return invoke(
        "evaluate", model, "--out", out, "--device", "cpu", "--cache_dir", store, *options
    )


def numbers(model: Path, out: Path, *options: str | Path) -> dict[str, Any]:
    result = evaluate(model, out, *options)
    assert result.exit_code == 0, result.err
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return found


def add_table(path: Path, name: str, like: str, **columns: np.ndarray) -> None:
    """Add a table with the ids of another one."""
    with h5py.File(path, "a") as file:
        ids = file[like][()]
        header = ("Run", "Event", "SubEvent", "SubEventStream", "exists")
        kinds = [(n, ids.dtype[n]) for n in header] + [(n, "f8") for n in columns]
        rows = np.zeros(len(ids), kinds)
        for n in header:
            rows[n] = ids[n]
        for n, values in columns.items():
            rows[n] = values
        file[name] = rows


def test_stored_predictions_of_the_same_model_are_as_good(model: Path, tmp_path: Path) -> None:
    file = events_file(tmp_path / "events.hdf5", 51)
    reco = tmp_path / "reco.hdf5"
    assert invoke("apply", model, "-i", file, "-o", reco, "--device", "cpu").exit_code == 0
    with h5py.File(reco) as source, h5py.File(file, "a") as target:
        for name in ("small", "small_stored", "theirs"):
            target[f"DeepLearningReco_{name}"] = source["DeepLearningReco_small"][()]
    found = numbers(model, tmp_path / "out", "--test-data", file, "--stored", "all")
    labels = found["sections"]["Summary"]["labels"]
    assert labels.keys() == {ENERGY, *VECTOR}
    for label, of_models in labels.items():
        stored_names = {"theirs", "small_stored", "small_stored_stored"}
        assert of_models.keys() == {"small", *stored_names}, label
        expected = of_models["small"]["rmse"]["value"]
        for stored in ("theirs", "small_stored"):
            assert of_models[stored]["rmse"]["value"] == pytest.approx(expected, rel=1e-5)
    # predictions are those of the models alone
    with h5py.File(tmp_path / "out" / "predictions.hdf5") as written:
        assert [name for name in written if "theirs" in name or "stored" in name] == []
    one = numbers(model, tmp_path / "one", "--test-data", file, "--stored", "theirs")
    assert one["sections"]["Summary"]["labels"][ENERGY].keys() == {"small", "theirs"}


def test_weights_choose_events(model: Path, tmp_path: Path) -> None:
    kept, dropped = (events_file(tmp_path / f"{seed}.hdf5", seed) for seed in (61, 62))
    for path, weight in ((kept, 2.5), (dropped, 0.0)):
        add_table(path, "Weights", "dnn_data_global_time_offset", w=np.full(60, weight))
    both = ["--test-data", kept, "--test-data", dropped]
    weighted = numbers(model, tmp_path / "both", *both, "--weights", "Weights.w")
    alone = numbers(model, tmp_path / "alone", "--test-data", kept)
    plain = numbers(model, tmp_path / "plain", *both)
    values = [
        each["sections"]["Summary"]["labels"][ENERGY]["small"]["bias"]["value"]
        for each in (weighted, alone, plain)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    assert values[0] != pytest.approx(values[2], rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "Weights.v"], "has no column 'v'. Its columns: w"),
        (["--weights", "nothing"], "there is no such misc data"),
        (["--flux", "E^-2.0"], "has no tables that weights for a flux are computed from"),
        (["--stored", "theirs"], "no file holds a reconstruction 'theirs'"),
        (["--stored", "all"], "no file holds a table DeepLearningReco_"),
        (["--tables", "mine"], "mine_"),
    ],
)
def test_mistakes(model: Path, tmp_path: Path, options: list[str], message: str) -> None:
    file = events_file(tmp_path / "events.hdf5", 63)
    add_table(file, "Weights", "dnn_data_global_time_offset", w=np.ones(60))
    result = evaluate(model, tmp_path / "out", "--test-data", file, *options)
    assert result.exit_code == 1
    assert message in result.err
    assert not (tmp_path / "out" / "report.html").exists()


def test_weights_and_flux_exclude_each_other(model: Path, tmp_path: Path) -> None:
    result = evaluate(model, tmp_path / "out", "--weights", "a.b", "--flux", "E^-2")
    assert result.exit_code == 2 and "not both" in result.err


def test_other_input_tables(model: Path, tmp_path: Path) -> None:
    usual = events_file(tmp_path / "usual.hdf5", 64)
    other = events_file(tmp_path / "other.hdf5", 64, prefix="mine")
    expected = numbers(model, tmp_path / "usual", "--test-data", usual)
    found = numbers(model, tmp_path / "other", "--test-data", other, "--tables", "mine")
    assert found["comparison"]["groups"] == expected["comparison"]["groups"]


def test_changed_hits(model: Path, tmp_path: Path) -> None:
    file = events_file(tmp_path / "events.hdf5", 65, num_events=40)
    found = numbers(model, tmp_path / "out", "--test-data", file, "--perturb")
    matrix = found["sections"]["Robustness"]["robustness"]["small"]
    assert {name.partition(":")[0] for name in matrix} == {
        *("unchanged", "noise", "dead DOMs", "DOM times", "time shift of events"),
        *("charge scale", "DOM charges"),
    }
    widths = {name: of["energy width"]["value"] for name, of in matrix.items()}
    all_events = found["comparison"]["groups"][0]["found"]["small"]
    expected = all_events["energy_width_68"]["value"]
    assert widths["unchanged"] == pytest.approx(expected, rel=1e-6)
    assert widths["charge scale: × 0.8"] != pytest.approx(expected, rel=1e-6)


def test_model_that_is_called_as_another_one_without_calibration(
    model: Path, trained: SmallRun, tmp_path: Path
) -> None:
    calibrated = Path(shutil.copytree(model, tmp_path / "a"))
    file = events_file(tmp_path / "calibration.hdf5", 66, num_events=250)
    result = invoke("calibrate", calibrated, "--data", file, "--cache_dir", tmp_path / "store")
    assert result.exit_code == 0, result.err
    other = Path(shutil.copytree(model, tmp_path / "a_raw"))
    judged = events_file(tmp_path / "judged.hdf5", 67)
    result = evaluate(calibrated, tmp_path / "out", other, "--test-data", judged)
    assert result.exit_code == 1
    assert "two of the networks would be called 'a_raw'" in result.err
