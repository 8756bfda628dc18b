"""Trainings that begin with the weights and the transformation of a model folder."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from applied_models import model_with_misc
from event_files import random_events, write_events
from small_run import ON_CPU, SmallRun, make_small_run
from tiny_network import tiny

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.check_config import check_config
from dnn_reco.commands.export import ExportSettings, run_export
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.config import load_config, load_stages
from dnn_reco.data.data_settings import DataSettings
from dnn_reco.data.hdf5.record import RECORD
from dnn_reco.data.hit_batch import HitBatch
from dnn_reco.errors import ConfigError, DataError, ModelError
from dnn_reco.files import file_digest
from dnn_reco.inference.manifest import read_manifest
from dnn_reco.inference.model_folder import load_model_folder
from dnn_reco.training.from_config import make_trainer
from dnn_reco.transform import load_transformation, save_transformation

CPU = torch.device("cpu")
KEY = "model_initial_weights"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A training of its own events, with a moving average of the weights."""
    run = make_small_run(tmp_path_factory.mktemp("first"), **tiny(), ema_decay=0.5)
    run_trafo(run.config(), ON_CPU, overwrite=False)
    run_train(run.config(num_training_iterations=3), ON_CPU)
    return run


@pytest.fixture(scope="module")
def model(first: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its exported model."""
    folder, settings = tmp_path_factory.mktemp("models") / "first", first.folder / "data.yaml"
    settings.write_text(
        "num_bins: 3\ndata_format: reduced_summary_statistics_data\n"
        "relative_time_method: time_range\npulse_key: null\n"
    )
    run_export([[first.config()]], ExportSettings(folder, data_settings=settings, golden_events=0))
    return folder


@pytest.fixture
def fine_tuning(model: Path, tmp_path: Path) -> Callable[..., SmallRun]:
    """Makes a run on other events that begins with the model; `trafo` is done."""

    def make(name: str = "fine", **changes: Any) -> SmallRun:
        folder = tmp_path / name
        folder.mkdir()
        run = make_small_run(folder, **{**tiny(), KEY: str(model), **changes})
        for number in (0, 1, 2):
            file = folder / ("validation.hdf5" if number == 2 else f"train_{number}.hdf5")
            write_events(file, random_events(number + 50, 60, num_bins=3, run=number + 50))
        run_trafo(run.config(), ON_CPU, overwrite=False)
        return run

    return make


def tensors(run: SmallRun) -> dict[str, torch.Tensor]:
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    return dict(checkpoint.tensors)


def assert_same(first: SmallRun, second: SmallRun) -> None:
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_network_begins_with_the_averaged_weights(
    first: SmallRun, fine_tuning: Callable[..., SmallRun]
) -> None:
    trainer = make_trainer(fine_tuning().config(), ON_CPU)
    checkpoint = load_latest(first.checkpoints)
    assert checkpoint is not None
    average, last = checkpoint.section("ema"), checkpoint.section("network")
    state = trainer.forward.network.state_dict()
    assert state.keys() == average.keys()
    assert all(torch.equal(value, average[name]) for name, value in state.items())
    assert not torch.equal(state["prediction"], last["prediction"])


def test_it_predicts_as_the_model_does_before_it_is_trained(
    model: Path, fine_tuning: Callable[..., SmallRun]
) -> None:
    network = make_trainer(fine_tuning().config(), ON_CPU).forward.network
    expected = load_model_folder(model, CPU, ["tiny_network"])
    features = torch.rand(40, expected.spec.num_bins, generator=torch.Generator().manual_seed(2))
    hits = HitBatch(5, torch.arange(40) // 8, torch.arange(40), features)
    network.eval()
    with torch.no_grad():
        found, known = network(hits), expected.network(hits)
    assert torch.equal(found.labels_trafo, known.labels_trafo)
    assert torch.equal(found.uncertainty_trafo, known.uncertainty_trafo)


def test_inputs_and_labels_are_transformed_as_by_the_model(
    first: SmallRun, fine_tuning: Callable[..., SmallRun]
) -> None:
    own = load_transformation(Path(first.config().trafo.trafo_model_path))
    taken = load_transformation(Path(fine_tuning().config().trafo.trafo_model_path))
    assert taken.digest == own.digest
    alone = fine_tuning("alone", model_initial_weights=None)
    fitted = load_transformation(Path(alone.config().trafo.trafo_model_path))
    assert fitted.digest != own.digest
    further = fine_tuning("misc", misc_load_dict={"MCPrimary": ["energy"]})
    with_misc = load_transformation(Path(further.config().trafo.trafo_model_path))
    for name in ("dom_mean", "dom_std", "label_mean", "label_std"):
        np.testing.assert_array_equal(getattr(with_misc, name), getattr(own, name))
    assert with_misc.settings.misc_names == ("MCPrimary_energy",)
    assert with_misc.misc_mean[0] > 0
    make_trainer(further.config(), ON_CPU)


def test_another_transformation_is_refused_and_replaced_when_asked(
    model: Path, fine_tuning: Callable[..., SmallRun]
) -> None:
    run = fine_tuning(model_initial_weights=None)
    config = run.config(model_initial_weights=str(model))
    with pytest.raises(ModelError, match="does not transform inputs and labels as") as error:
        make_trainer(config, ON_CPU)
    assert "dnn-reco trafo --overwrite" in str(error.value)
    assert any("does not transform" in each.text for each in check_config(config).findings)
    with pytest.raises(ModelError, match=f"not that of '{model}'.*--overwrite"):
        run_trafo(config, ON_CPU, overwrite=False)
    run_trafo(config, ON_CPU, overwrite=True)
    make_trainer(config, ON_CPU)
    report = check_config(config)
    assert f"{KEY}: labels and inputs are those of '{model}'" in report.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_keys_to_load": ["EnergyVisible", "PrimaryAzimuth"]}, r"lacks \['.*VertexX"),
        ({"label_position_at_rel_time": 0.0}, r"it has \['rel_pos_x', .* lacks none"),
        ({"trafo_log_dom_bins": False}, "log_dom_bins: .*Take data_handler_num_bins"),
        (
            {"data_handler_relative_time_key_pattern": None},
            r"relative_time_labels: \('VertexTime',\) in the model, \(\) in the config",
        ),
        ({"trafo_norm_constant": 1e-3}, "norm_constant: 1e-06 in the model, 0.001 in the config"),
    ],
)
def test_other_labels_or_inputs_are_named(
    fine_tuning: Callable[..., SmallRun], model: Path, changes: dict[str, Any], message: str
) -> None:
    run = fine_tuning()
    config = run.config(**changes)
    with pytest.raises(ModelError, match=f"(?s){KEY}: .*{message}") as error:
        run_trafo(config, ON_CPU, overwrite=True)
    assert str(model / "config.yaml") in str(error.value)
    assert str(error.value) in [each.text for each in check_config(config).findings]
    changed = run.config(**changes, trafo_model_path=str(run.folder / "other.npy"))
    run_trafo(
        run.config(**changes, trafo_model_path=str(run.folder / "other.npy"), **{KEY: None}),
        ON_CPU,
        overwrite=False,
    )
    with pytest.raises(ModelError, match=f"(?s){KEY}: .*{message}"):
        make_trainer(changed, ON_CPU)


def test_models_whose_transformation_does_not_record_relative_times(
    fine_tuning: Callable[..., SmallRun], model: Path, tmp_path: Path
) -> None:
    """Their config does."""
    older = shutil.copytree(model, tmp_path / "older")
    path = older / "trafo_model.safetensors"
    transformation = load_transformation(path)
    settings = replace(transformation.settings, relative_time_labels=None, relative_time_misc=None)
    save_transformation(replace(transformation, settings=settings), path)
    manifest = json.loads((older / "manifest.json").read_text())
    manifest["files"][path.name] = file_digest(path)
    (older / "manifest.json").write_text(json.dumps(manifest))
    run = fine_tuning(model_initial_weights=str(older))
    make_trainer(run.config(), ON_CPU)
    with pytest.raises(ModelError, match=r"relative_time_labels: \('VertexTime',\) in the model"):
        run_trafo(run.config(data_handler_relative_time_key_pattern=None), ON_CPU, overwrite=True)


def test_another_network_is_refused_and_other_arguments_are_named(
    fine_tuning: Callable[..., SmallRun], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = fine_tuning()
    with pytest.raises(ModelError, match=r"another network: 'norm.* Take model_class and"):
        make_trainer(run.config(model_kwargs={"batch_norm": False}), ON_CPU)
    make_trainer(run.config(model_kwargs={"random_seed": 5}), ON_CPU)
    assert "model_kwargs" not in caplog.text
    make_trainer(run.config(model_kwargs={"dropout": 0.5}), ON_CPU)
    assert f"model_kwargs.dropout: other than in '{model / 'config.yaml'}'" in caplog.text


def test_networks_that_read_misc_data_need_the_same(tmp_path: Path) -> None:
    model = model_with_misc(tmp_path, tmp_path / "reads_misc")
    run = SmallRun(tmp_path)
    own = {KEY: str(model), "trafo_model_path": str(tmp_path / "fine.npy")}
    run_trafo(run.config(**own), ON_CPU, overwrite=False)
    make_trainer(run.config(**own), ON_CPU)
    own |= {"trafo_normalize_misc_data": False, "trafo_model_path": str(tmp_path / "other.npy")}
    run_trafo(run.config(**own), ON_CPU, overwrite=False)
    with pytest.raises(ModelError, match=r"reads misc data, and .*other\.npy' .* is not"):
        make_trainer(run.config(**own), ON_CPU)


def test_resuming_is_exact_and_the_record_knows_the_weights(
    fine_tuning: Callable[..., SmallRun],
    model: Path,
    caplog: pytest.LogCaptureFixture,
    shown_messages: None,
) -> None:
    whole, stopped = fine_tuning("whole", ema_decay=0.9), fine_tuning("stopped", ema_decay=0.9)
    assert run_train(whole.config(num_training_iterations=6), ON_CPU) == 0
    for iterations in (2, 6):
        assert run_train(stopped.config(num_training_iterations=iterations), ON_CPU) == 0
    assert_same(whole, stopped)
    checkpoint = load_latest(stopped.checkpoints)
    assert checkpoint is not None
    digest = file_digest(model / "weights.safetensors")
    assert json.loads((checkpoint.path / "state.json").read_text())["initial_weights"] == digest
    started = "The network begins with weights of model_initial_weights"
    assert caplog.text.count(started) == 2  # of three calls one resumes
    record = load_config([stopped.records / "config_training_0000.yaml"])
    assert record.model.model_initial_weights == str(model)


def test_weights_that_change_after_the_start_have_no_effect(
    fine_tuning: Callable[..., SmallRun], first: SmallRun, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [fine_tuning(name) for name in ("whole", "changed", "without")]
    for run in runs:
        run_train(run.config(num_training_iterations=2), ON_CPU)
    run_train(first.config(num_training_iterations=4), ON_CPU)
    other = runs[0].folder / "other_model"
    settings = ExportSettings(other, first.folder / "data.yaml", golden_events=0)
    run_export([[first.config()]], settings)
    caplog.clear()
    run_train(runs[0].config(num_training_iterations=4), ON_CPU)
    run_train(runs[2].config(num_training_iterations=4, **{KEY: None}), ON_CPU)
    assert "other weights" not in caplog.text
    run_train(runs[1].config(num_training_iterations=4, **{KEY: str(other)}), ON_CPU)
    assert "names other weights than those that the training began with" in caplog.text
    for run in runs[1:]:
        assert_same(runs[0], run)


def test_models_that_cannot_be_begun_with(
    fine_tuning: Callable[..., SmallRun], first: SmallRun, model: Path, tmp_path: Path
) -> None:
    run = fine_tuning()
    with pytest.raises(ModelError, match=f"{KEY}: there is no model folder 'gone'. .*resumes"):
        make_trainer(run.config(**{KEY: "gone"}), ON_CPU)
    with pytest.raises(ModelError, match=f"{KEY}: there is no model 'pretrained:gone'"):
        make_trainer(run.config(**{KEY: "pretrained:gone"}), ON_CPU)
    ensemble = ExportSettings(
        tmp_path / "two", first.folder / "data.yaml", ("latest", "latest"), golden_events=0
    )
    run_export([[first.config()]], ensemble)
    with pytest.raises(ModelError, match="is an ensemble of 2 networks"):
        make_trainer(run.config(**{KEY: str(ensemble.output)}), ON_CPU)
    damaged = ExportSettings(tmp_path / "bad", first.folder / "data.yaml", golden_events=0)
    run_export([[first.config()]], damaged)
    with (damaged.output / "weights.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="was changed since the model was written"):
        make_trainer(run.config(**{KEY: str(damaged.output)}), ON_CPU)


def test_stages_begin_with_one_model(tmp_path: Path) -> None:
    stages = [{"num_training_iterations": 2, KEY: "pretrained:x"}, {"num_training_iterations": 2}]
    run = make_small_run(tmp_path, training_stages=stages, num_training_iterations=None)
    with pytest.raises(ConfigError, match=f"'{KEY}' cannot change between 'training_stages'"):
        load_stages([run.config_file])


def test_what_the_model_has_seen_is_not_held_out(
    fine_tuning: Callable[..., SmallRun], first: SmallRun
) -> None:
    seen = [str(first.folder / "train_0.hdf5")]
    run = fine_tuning()
    config = run.config(num_training_iterations=1, validation_data_file=seen)
    with pytest.raises(DataError, match="validation_data_file, with the initial weights of"):
        run_train(config, ON_CPU)
    assert run_train(config, replace(ON_CPU, allow_overlap=True)) == 0


def test_features_are_made_as_those_of_the_model(
    fine_tuning: Callable[..., SmallRun], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, settings = fine_tuning(), read_manifest(model).model
    assert settings is not None and settings.data_settings is not None
    own = replace(settings.data_settings, pulse_key="A")

    def train_on(data: DataSettings, iterations: int) -> None:
        for path in run.folder.glob("*.hdf5"):
            with h5py.File(path, "a") as file:
                file.attrs[RECORD] = data.to_json()
        run_train(run.config(num_training_iterations=iterations), ON_CPU)

    bins = {"data_format": "charge_bins", "time_bins": (0.0, 500.0, 1000.0, 1500.0)}
    with pytest.raises(DataError, match="data_format is 'reduced_summary_statistics_data' for the"):
        train_on(replace(own, **bins), 1)
    train_on(own, 1)
    assert "difference" not in caplog.text
    pulses = ExportSettings(run.folder / "model_of_a", golden_events=0)
    run_export([[run.config()]], pulses)
    other = run.config(**{KEY: str(pulses.output)}, num_training_iterations=2)
    train_on(replace(own, pulse_key="B"), 2)
    assert "difference" not in caplog.text  # the first model records no pulses
    run_train(other, ON_CPU)
    assert f"{KEY}: " in caplog.text and "pulse_key is 'A' for the model, 'B' in" in caplog.text


def test_the_exported_model_tells_what_it_began_with(
    fine_tuning: Callable[..., SmallRun], first: SmallRun, model: Path, tmp_path: Path
) -> None:
    run = fine_tuning()
    run_train(run.config(num_training_iterations=1), ON_CPU)
    settings = ExportSettings(tmp_path / "fine_model", first.folder / "data.yaml", golden_events=0)
    run_export([[run.config()]], settings)
    digest = file_digest(model / "weights.safetensors")
    training = read_manifest(settings.output).training
    assert training is not None and training.initial_weights == digest
    assert f"`{digest}`" in (settings.output / "README.md").read_text()
    before = read_manifest(model).training
    assert before is not None and before.initial_weights == ""
    assert "began with" not in (model / "README.md").read_text()
