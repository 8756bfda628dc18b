"""`evaluate`: trained networks, checkpoints and model folders on the same held-out events."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from event_files import random_events, write_events
from matplotlib.figure import Figure
from numpy.typing import NDArray
from ruamel.yaml import YAML
from small_run import MODEL_KWARGS, ON_CPU, SmallRun, make_small_run, run_of
from workspace import Result, invoke

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.data.build import open_events
from dnn_reco.data.loader import to_tensors
from dnn_reco.event_sources import event_store
from dnn_reco.inference.model_folder import Member, contents_of, write_model_folder
from dnn_reco.inference.trained_model import load_checkpoint_models
from dnn_reco.transform import load_transformation

CPU = torch.device("cpu")
OPTIONS = ("--device", "cpu", "--num_threads", "1")
DIRECTION = ("PrimaryDirectionX", "PrimaryDirectionY", "PrimaryDirectionZ")
ITERATIONS, NUM_CHECKPOINTS, BATCH_SIZE = 40, 3, 8


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run of which three checkpoints were kept."""
    run = make_small_run(
        tmp_path_factory.mktemp("trained"),
        label_weight_dict={"EnergyVisible": 1.0, **dict.fromkeys(DIRECTION, 1.0)},
        save_frequency=10,
        model_checkpoint_manager_kwargs={"max_to_keep": NUM_CHECKPOINTS},
        validation_events=20,
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    run_train(run.config(num_training_iterations=ITERATIONS), ON_CPU)
    return run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model_folder(run: SmallRun, path: Path, **changes: object) -> Path:
    """The newest checkpoint of a run as a model folder."""
    config = run.config(**changes)
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    transformation = load_transformation(Path(config.trafo.trafo_model_path))
    member = Member(checkpoint.weights, transformation, config)
    write_model_folder(path, contents_of([member], "a test"))
    return path


def found(out: Path = Path("evaluation")) -> dict[str, dict[str, dict[str, float]]]:
    """What was measured of all events, by network."""
    groups = json.loads((out / "comparison.json").read_text())["groups"]
    whole: dict[str, dict[str, dict[str, float]]] = groups[0]["found"]
    return whole


def log_energies(run: SmallRun, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln(1 + E) that each of the newest checkpoints predicts, and the truth."""
    config = run.config()
    events = open_events(event_store(config, None), [run.folder / "validation.hdf5"], 1)
    batch = to_tensors(events.read(np.arange(len(events))))
    label = events.names.labels.index("EnergyVisible")
    with torch.no_grad():
        predictions = [
            model.network(batch.hits) for model in load_checkpoint_models(config, CPU, count)
        ]
    energies = np.stack([each.labels[:, label].double().numpy() for each in predictions])
    return np.log1p(energies), np.log1p(batch.labels[:, label].double().numpy())


def rms_of(log_energy: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Of the difference of log10 E, energies below 1 GeV as 1 GeV."""
    reconstructed, true = (np.log10(np.maximum(np.expm1(x), 1.0)) for x in (log_energy, truth))
    return float(np.sqrt(np.mean((reconstructed - true) ** 2)))


def evaluated(*arguments: str | Path) -> Result:
    result = invoke("evaluate", *arguments, *OPTIONS)
    assert result.exit_code == 0, result.err
    return result


def refused(*arguments: str | Path) -> str:
    """The message of an evaluation that must fail, having written nothing."""
    result = invoke("evaluate", *arguments, *OPTIONS)
    assert result.exit_code == 1, result
    assert result.err.count("Error: ") == 1, result.err
    assert "Traceback" not in result.err
    assert not Path("evaluation/comparison.json").exists()
    return result.err[result.err.index("Error: ") :]


def test_the_newest_checkpoint(
    trained: SmallRun,
    home: Path,
    blank_figures: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Figure, "draw", blank_figures)
    result = evaluated(trained.config_file)
    energies, truth = log_energies(trained, 1)
    rms = found()["small"]["energy_rms"]["value"]
    assert rms == pytest.approx(rms_of(energies[0], truth), rel=1e-4)
    assert "60 held-out events" in result.out
    report = json.loads(Path("evaluation/comparison.json").read_text())
    cost = report["networks"]["small"]
    assert cost["iterations"] == ITERATIONS
    assert cost["num_events"] == ITERATIONS * BATCH_SIZE
    assert cost["seconds"] is None
    assert max(map(len, result.out.splitlines())) <= 100
    figures = home / "evaluation" / "figures"
    for figure in ("events", "residual_EnergyVisible", "true_vs_reco_small", "training"):
        assert (figures / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert (figures / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
    page = (home / "evaluation" / "report.html").read_text()
    assert result.out.rstrip().endswith("Report: evaluation/report.html")
    assert page.count("<figure ") == len(list(figures.glob("*.png")))
    assert len(page) < 8e6
    numbers = json.loads((home / "evaluation" / "metrics.json").read_text())
    assert numbers["comparison"] == report
    summary = numbers["sections"]["Summary"]["labels"]["EnergyVisible"]["small"]
    assert summary["rmse"]["value"] == pytest.approx(rms, rel=1e-9)
    assert numbers["sections"]["Data"]["events"] == 60


def test_predictions_are_written_as_those_of_apply(trained: SmallRun, home: Path) -> None:
    """Also times, which networks predict relative to the offset of the event, are absolute."""
    folder = model_folder(trained, home / "exported", label_weight_dict={"VertexTime": 1.0})
    evaluated(folder)
    table, particle = (f"DeepLearningReco_exported{suffix}" for suffix in ("", "_I3Particle"))
    source = trained.folder / "validation.hdf5"
    applied = invoke("apply", folder, "--input", source, "--output", "out", *OPTIONS)
    assert applied.exit_code == 0, applied.err
    (output,) = Path("out").glob("*.hdf5")
    with h5py.File("evaluation/predictions.hdf5") as found, h5py.File(output) as expected:
        for name in (table, particle):
            assert found[name].dtype == expected[name].dtype
            for column in found[name].dtype.names:
                np.testing.assert_allclose(
                    found[name][column], expected[name][column], rtol=1e-5, err_msg=column
                )
        assert found[table]["VertexTime"].min() > 5000


def test_several_checkpoints_are_averaged(trained: SmallRun, home: Path) -> None:
    """The mixture's ln(1 + E) is the mean of those of the checkpoints."""
    evaluated(trained.config_file, "--checkpoints", "3", "--out", "three")
    energies, truth = log_energies(trained, 3)
    assert not np.allclose(energies[0], energies[2])
    rms = found(home / "three")["small"]["energy_rms"]["value"]
    assert rms == pytest.approx(rms_of(energies.mean(axis=0), truth), rel=1e-4)


def test_a_model_folder_predicts_the_same(trained: SmallRun, home: Path) -> None:
    folder = model_folder(trained, home / "models" / "exported")
    result = evaluated(trained.config_file, folder, "--ensemble")
    measured = found()
    for key in ("energy_rms", "angle_50"):
        value = measured["small"][key]["value"]
        assert measured["exported"][key]["value"] == value
        assert measured["ensemble"][key]["value"] == pytest.approx(value, rel=1e-3)
    report = json.loads(Path("evaluation/comparison.json").read_text())
    assert report["networks"]["exported"]["iterations"] is None
    assert report["networks"]["ensemble"]["iterations"] is None
    assert "ensemble" in result.out


def test_a_model_folder_from_another_machine(trained: SmallRun, home: Path) -> None:
    """Its training data and event store are not there."""
    changes = {
        "training_data_file": "/nowhere/*.hdf5",
        "data_cache_dir": "/nowhere/store",
        "test_data_file": "/nowhere/*.hdf5",
    }
    folder = model_folder(trained, home / "exported", **changes)
    assert "no file matches test_data_file" in refused(folder)
    evaluated(folder, "--test-data", str(trained.folder / "validation.hdf5"))
    assert (home / "evaluation" / "event_store").is_dir()
    assert "exported" in found()


def test_absolute_and_relative_times_have_no_common_truth(trained: SmallRun, home: Path) -> None:
    absolute = model_folder(trained, home / "absolute", data_handler_relative_time_key_pattern=None)
    difference = "VertexTime is relative to the time offset in the former, as in the files in the"
    for networks in (
        (trained.config_file, absolute),
        (trained.config_file, absolute, "--ensemble"),
    ):
        assert difference in refused(*networks)
    evaluated(absolute)


def test_figures_are_those_of_the_last_call(trained: SmallRun, home: Path) -> None:
    evaluated(trained.config_file)
    assert Path("evaluation/figures/residual_EnergyVisible.png").exists()
    weights = {"EnergyVisible": 0.0, **dict.fromkeys(DIRECTION, 1.0)}
    evaluated(model_folder(trained, home / "directions", label_weight_dict=weights))
    assert Path("evaluation/figures/residual_PrimaryDirectionX.pdf").exists()
    assert not list(Path("evaluation/figures").glob("residual_EnergyVisible.*"))


def test_configs_that_compare_wrote_are_called_by_their_folder(
    trained: SmallRun, home: Path
) -> None:
    for name in ("one", "two"):
        (home / name).mkdir()
        shutil.copyfile(trained.config_file, home / name / "config.yaml")
    evaluated("one/config.yaml", "two/config.yaml")
    assert list(found()) == ["one", "two"]


def in_stages(run: SmallRun, path: Path, *stages: tuple[int, dict[str, object]]) -> Path:
    """The config of a run, but with what stands in `model_kwargs` given by its stages."""
    yaml = YAML(typ="safe", pure=True)
    settings = yaml.load(run.config_file)
    del settings["num_training_iterations"], settings["model_kwargs"]
    settings["training_stages"] = [
        {"num_training_iterations": iterations, "model_kwargs": kwargs}
        for iterations, kwargs in stages
    ]
    with path.open("w") as file:
        yaml.dump(settings, file)
    return path


def test_the_stage_that_a_training_has_come_to(trained: SmallRun, home: Path) -> None:
    wider = {**MODEL_KWARGS, "fc_settings": {**MODEL_KWARGS["fc_settings"], "fc_sizes": [9, -1]}}
    first = in_stages(trained, home / "first.yaml", (40, MODEL_KWARGS), (10, wider))
    second = in_stages(trained, home / "second.yaml", (39, wider), (10, MODEL_KWARGS))
    over = in_stages(trained, home / "over.yaml", (10, wider), (20, MODEL_KWARGS))
    evaluated(trained.config_file, first, second, over)
    networks = found()
    assert list(networks) == ["small", "first", "second", "over"]
    assert all(network == networks["small"] for network in networks.values())
    wrong = in_stages(trained, home / "wrong.yaml", (40, wider), (10, wider))
    shutil.rmtree("evaluation")
    message = refused(wrong)
    assert (
        "does not belong to the network that the config describes: 'fc.0.weight' has the shape"
        in message
    )
    assert message.count("\n") == 1


def test_mistakes(trained: SmallRun, home: Path) -> None:
    assert "there are 3 checkpoints in" in refused(trained.config_file, "--checkpoints", "4")
    other = run_of(trained, home / "other")
    assert "train the network first" in refused(other.config_file)
    assert "would be called 'small'" in refused(trained.config_file, trained.config_file)
    assert "at least two networks" in refused(trained.config_file, "--ensemble")
    assert "is not a model folder" in refused(home / "other")
    assert "neither a config nor a model folder 'nothing.yaml'" in refused("nothing.yaml")
    assert "no file matches --test-data:" in refused(trained.config_file, "--test-data", "no*")
    pattern = str(trained.folder / "train_1.hdf5")
    message = refused(trained.config_file, "--test-data", pattern)
    assert f"'{pattern}' is both in training_data_file and in the held-out files" in message
    assert "--allow-overlap" in message
    evaluated(trained.config_file, "--test-data", pattern, "--allow-overlap")


def test_names_of_all_that_is_compared(trained: SmallRun, home: Path) -> None:
    """Calibrated models are shown without the calibration, too."""
    folder = model_folder(trained, home / "one")
    write_events(home / "many.hdf5", random_events(6, 250, num_bins=3, run=6))
    result = invoke("calibrate", folder, "--data", home / "many.hdf5", *OPTIONS)
    assert result.exit_code == 0, result.err
    shutil.copytree(folder, home / "one_raw")
    assert "would be called 'one_raw'" in refused(folder, home / "one_raw")
    shutil.copytree(folder, home / "one_I3Particle")
    message = refused(folder, home / "one_I3Particle")
    assert "would both write the table 'DeepLearningReco_one_I3Particle'" in message


def test_events_without_hits(trained: SmallRun, home: Path) -> None:
    events = random_events(8, 5, num_bins=3, empty_fraction=1.0)
    write_events(home / "empty.hdf5", events)
    result = evaluated(trained.config_file, "--test-data", "empty.hdf5")
    assert "'small' does not reconstruct some of the 5 events: 5 NO_HITS." in result.err
    assert found()["small"]["energy_rms"]["value"] is None


def test_another_transformation_model(trained: SmallRun, home: Path) -> None:
    other = run_of(trained, home / "other")
    shutil.copytree(trained.checkpoints, other.checkpoints)
    changed = home / "changed.npy"
    config = trained.config(trafo_model_path=str(changed), trafo_num_batches=5)
    run_trafo(config, replace(ON_CPU, cache_dir=str(trained.config().event_store)), overwrite=False)
    text = other.config_file.read_text()
    path = trained.config().trafo.trafo_model_path
    other.config_file.write_text(text.replace(str(path), str(changed)))
    assert "was trained with another transformation model" in refused(other.config_file)
