"""The validation set: what is measured on it, the best checkpoint, and early stopping."""

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from network_pulls import residuals_and_pulls
from safetensors.torch import load_file
from small_run import MODEL_KWARGS, ON_CPU, SmallRun, make_small_run, run_of, start

from dnn_reco.checkpoint_file import Checkpoint, load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.config import load_config
from dnn_reco.data.build import open_events
from dnn_reco.data.event_dataset import EventDataset
from dnn_reco.errors import ConfigError, DataError
from dnn_reco.evaluation.held_out_events import predict_held_out
from dnn_reco.event_sources import event_store
from dnn_reco.inference.trained_model import load_trained_model
from dnn_reco.training.validation_set import read_validation_set
from dnn_reco.transform import load_transformation

NUM_EVENTS = 150  # more than are predicted at once
LOSS = "dnn_reco.modules.loss.default_loss"
NOT_MOVING = {  # a learning rate of 0, after one step
    "full_class_string": "tensorflow.keras.optimizers.schedules.PiecewiseConstantDecay",
    "settings": {"boundaries": [0], "values": [0.001, 0.0]},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Data, transformation model and event store, to be shared by runs with paths of their own."""
    run = make_small_run(
        tmp_path_factory.mktemp("prepared"),
        NUM_EVENTS,
        num_training_iterations=24,
        validation_frequency=5,
        save_frequency=8,
        validation_set_frequency=4,
        model_checkpoint_manager_kwargs={"max_to_keep": 100},
        label_weight_dict={"EnergyVisible": 1.0, "PrimaryAzimuth": 0.5, "PrimaryZenith": 0.25},
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


def train(run: SmallRun, **overrides: object) -> None:
    assert run_train(run.config(**overrides), ON_CPU) == 0


@pytest.fixture(scope="module")
def trained(prepared: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    run = run_of(prepared, tmp_path_factory.mktemp("trained"))
    train(run)
    return run


def load(folder: Path) -> Checkpoint:
    checkpoint = load_latest(folder)
    assert checkpoint is not None
    return checkpoint


def lines(run: SmallRun) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without what the clock and the machine say."""
    text = (run.logs / "metrics.jsonl").read_text()
    return [
        {key: value for key, value in json.loads(line).items() if key != "machine"}
        for line in text.splitlines()
    ]


def losses(run: SmallRun) -> dict[int, float]:
    """Loss on the validation set by iterations done."""
    return {
        line["iterations_done"]: line["validation_set"]["loss"]
        for line in lines(run)
        if "validation_set" in line
    }


def assert_same_run(first: SmallRun, second: SmallRun) -> None:
    """The same state at the end, the same best checkpoint, the same metrics."""
    assert lines(first) == lines(second)
    for folder in ("", "best"):
        one, other = load(first.checkpoints / folder), load(second.checkpoints / folder)
        assert one.path.name == other.path.name
        assert one.progress.best == other.progress.best
        assert one.tensors.keys() == other.tensors.keys()
        for name, tensor in one.tensors.items():
            assert torch.equal(tensor, other.tensors[name]), name


def validation_events(run: SmallRun) -> EventDataset:
    return open_events(event_store(run.config(), None), [run.folder / "validation.hdf5"], 1)


# --------------------------------------------------------------------------------------------------
# What is measured
# --------------------------------------------------------------------------------------------------
def test_the_set_is_measured_as_a_plain_computation_over_its_events_does(
    prepared: SmallRun, trained: SmallRun
) -> None:
    config = trained.config()
    trafo = load_transformation(Path(config.trafo.trafo_model_path))
    events = validation_events(prepared)
    table = predict_held_out(load_trained_model(config, torch.device("cpu")), events)
    true = events.read_labels(np.arange(len(events)))
    told = lines(trained)[-1]["validation_set"]
    assert told["num_events"] == len(true) == NUM_EVENTS
    terms = []
    for name, weight in (("EnergyVisible", 1.0), ("PrimaryZenith", 0.25)):
        i = events.names.labels.index(name)
        log = np.log1p if name == "EnergyVisible" else np.asarray
        scale = trafo.label_std[i] + trafo.settings.norm_constant
        residual = (log(table.labels[:, i]) - log(true[:, i])) / scale
        sigma = table.uncertainty[:, i] / scale
        pull = residual / sigma
        low, high = np.quantile(pull, [0.15865, 0.84135])
        of_label = told["labels"][name]
        assert of_label["rmse"] == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-4)
        assert of_label["bias"] == pytest.approx(residual.mean(), abs=1e-5)
        assert of_label["bias_error"] == pytest.approx(residual.std() / NUM_EVENTS**0.5, rel=0.01)
        assert of_label["pull"] == pytest.approx(pull.std(), rel=1e-4)
        assert of_label["pull_68"] == pytest.approx((high - low) / 2, rel=1e-4)
        loss = 2 * np.log(sigma) + pull**2
        assert of_label["label_loss"] == pytest.approx(loss.mean(), rel=1e-4, abs=1e-5)
        terms.append(weight * loss)
    azimuth = told["labels"]["PrimaryAzimuth"]["label_loss"]
    assert told["loss"] == pytest.approx(sum(terms).mean() + 0.5 * azimuth, rel=1e-4, abs=1e-5)
    assert told["losses"] == {"adam": told["loss"]}
    assert 0.3 < told["loss_error"] / (sum(terms).std() / NUM_EVENTS**0.5) < 3

    zenith, azimuth = (events.names.labels.index(f"Primary{k}") for k in ("Zenith", "Azimuth"))
    (z, a), (z_2, a_2) = (x[:, [zenith, azimuth]].T for x in (true, table.labels))
    cosine = np.cos(z) * np.cos(z_2) + np.sin(z) * np.sin(z_2) * np.cos(a - a_2)
    angle = np.degrees(np.arccos(cosine))
    assert told["opening_angle_mean"] == pytest.approx(angle.mean(), rel=1e-5)
    assert told["opening_angle_median"] == pytest.approx(np.median(angle), rel=1e-5)
    assert "opening_angle_mean_vector" not in told  # that label is not trained


def test_event_weights_count_in_the_loss_over_all_batches(
    prepared: SmallRun, tmp_path: Path
) -> None:
    run = run_of(prepared, tmp_path)
    train(
        run,
        num_training_iterations=1,
        label_weight_dict={"EnergyVisible": 1.0},
        event_weight_class="functions_of_a_user.energy_as_weight",
        model_optimizer_dict={"a": {"loss_class": f"{LOSS}.weighted_mse"}},
    )
    events = validation_events(prepared)
    model = load_trained_model(run.config(), torch.device("cpu"))
    true = events.read_labels(np.arange(len(events)))
    pulls = residuals_and_pulls(predict_held_out(model, events), true, model.spec)[1]
    i = events.names.labels.index("EnergyVisible")
    expected = np.average(pulls[:, i] ** 2, weights=true[:, i])
    assert lines(run)[-1]["validation_set"]["loss"] == pytest.approx(expected, rel=1e-3)


def test_a_part_of_the_set_may_have_no_weight_at_all(prepared: SmallRun, tmp_path: Path) -> None:
    run = run_of(prepared, tmp_path)
    weigh = "functions_of_a_user.weight_of_the_first"
    train(run, num_training_iterations=1, event_weight_class=weigh)
    assert np.isfinite(lines(run)[-1]["validation_set"]["loss"])


def test_several_optimizers_and_classes(prepared: SmallRun, tmp_path: Path) -> None:
    """The total is the sum over the optimizers; penalties and adapted weights are left out."""
    run = run_of(prepared, tmp_path)
    train(
        run,
        num_training_iterations=6,
        validation_frequency=1,
        label_weight_dict={"EnergyVisible": 2.0, "p_starting": 0.5, "PrimaryDirectionX": 1.0},
        model_optimizer_dict={
            "a": {"vars": "pred", "loss_class": f"{LOSS}.mse", "l2_regularization": 0.1},
            "b": {"vars": ["pred", "unc"], "loss_class": f"{LOSS}.mse_and_cross_entropy"},
        },
    )
    told = lines(run)[-1]["validation_set"]
    assert told["loss"] == pytest.approx(told["losses"]["a"] + told["losses"]["b"])
    weights = {"EnergyVisible": 2.0, "p_starting": 0.5, "PrimaryDirectionX": 1.0}
    assert set(told["labels"]) == set(weights)
    by_label = sum(w * told["labels"][name]["label_loss"] for name, w in weights.items())
    assert told["loss"] == pytest.approx(by_label)
    assert not [key for key in told if "opening_angle" in key]  # only a part of a direction


def test_the_set_is_the_same_whatever_the_seed_and_holds_each_event_once(
    prepared: SmallRun,
) -> None:
    events = validation_events(prepared)
    whole = read_validation_set(events, 10**6, 8, None)
    assert whole.num_events == NUM_EVENTS
    energies = np.concatenate([batch.labels[:, 0].numpy() for batch in whole.batches])
    assert sorted(energies) == sorted(events.read(np.arange(NUM_EVENTS)).labels[:, 0])
    parts = [read_validation_set(events, 40, size, None) for size in (8, 200)]
    assert parts[0].num_events == 40
    assert parts[0].digest == parts[1].digest != whole.digest


# --------------------------------------------------------------------------------------------------
# Training is not touched
# --------------------------------------------------------------------------------------------------
def test_evaluating_leaves_no_trace(prepared: SmallRun, tmp_path: Path) -> None:
    """With dropout, batch normalisation, adapted label weights and Tukey's scale."""
    fc_settings = {**MODEL_KWARGS["fc_settings"], "use_batch_normalisation_list": [True, False]}
    settings = {
        "model_kwargs": {**MODEL_KWARGS, "fc_settings": fc_settings},
        "label_scale_tukey": True,
        "num_training_iterations": 12,
    }
    runs = [run_of(prepared, tmp_path / name) for name in ("without", "with")]
    train(runs[0], validation_events=0, **settings)
    train(runs[1], validation_set_frequency=1, **settings)
    without, evaluated = (dict(load(run.checkpoints).tensors) for run in runs)
    assert any("pop_mean" in name for name in without)
    assert without.keys() == evaluated.keys()
    for name, tensor in without.items():
        assert torch.equal(tensor, evaluated[name]), name
    assert not (runs[0].checkpoints / "best").exists()
    assert not any("validation_set" in line for line in lines(runs[0]))
    assert len(losses(runs[1])) == 12


# --------------------------------------------------------------------------------------------------
# The best checkpoint
# --------------------------------------------------------------------------------------------------
def test_the_best_checkpoint_is_the_best(prepared: SmallRun, tmp_path: Path) -> None:
    """A learning rate that is too large: the loss goes up and down."""
    optimizer = {"loss_class": f"{LOSS}.mse", "optimizer_settings": {"learning_rate": 0.3}}
    settings = {"model_optimizer_dict": {"adam": optimizer}, "validation_set_frequency": 3}
    run = run_of(prepared, tmp_path / "whole")
    train(run, **settings, model_checkpoint_manager_kwargs={"max_to_keep": 1})
    told = losses(run)
    assert list(told) == [3, 6, 9, 12, 15, 18, 21, 24]
    best = min(told, key=lambda iterations: told[iterations])
    assert best < 24, "the test needs a best checkpoint that is not the last"
    assert {path.name for path in run.checkpoints.iterdir()} == {"best", "checkpoint-00000024"}
    checkpoint = load(run.checkpoints / "best")
    assert [path.name for path in (run.checkpoints / "best").iterdir()] == [checkpoint.path.name]
    assert checkpoint.progress.iterations == best
    assert checkpoint.progress.best is not None
    assert checkpoint.progress.best.loss == told[best]

    shorter = run_of(prepared, tmp_path / "shorter")
    train(shorter, **settings, num_training_iterations=best)
    for name, tensor in load(shorter.checkpoints).tensors.items():
        assert torch.equal(tensor, checkpoint.tensors[name]), name


def test_another_loss_looks_for_the_best_anew(
    prepared: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(prepared, tmp_path)
    smaller = {"a": {"loss_class": f"{LOSS}.gaussian_likelihood"}}
    larger = {"a": {"loss_class": [f"{LOSS}.mse", f"{LOSS}.abs"]}}
    train(run, num_training_iterations=8, model_optimizer_dict=smaller)
    earlier = losses(run)
    with caplog.at_level("INFO", "dnn_reco"):
        train(run, num_training_iterations=12, model_optimizer_dict=larger)
    assert losses(run)[12] > min(earlier.values())
    assert "the search for the best checkpoint restarts" in caplog.text
    assert load(run.checkpoints / "best").progress.iterations == 12


def test_a_loss_that_is_no_number_is_never_the_best(
    prepared: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(prepared, tmp_path)
    with caplog.at_level("INFO", "dnn_reco"):
        # a training that removes such gradients does not stop
        settings = {"loss_class": "functions_of_a_user.no_number", "remove_nan_gradients": True}
        loss = {"a": settings}
        train(run, num_training_iterations=4, model_optimizer_dict=loss)
    assert "loss nan (no finite loss so far)" in caplog.text
    assert losses(run) == {4: None}
    assert not (run.checkpoints / "best").exists()
    best = load(run.checkpoints).progress.best
    assert best is not None
    assert (best.loss, best.evaluations_since) == (None, 1)


# --------------------------------------------------------------------------------------------------
# Going on
# --------------------------------------------------------------------------------------------------
def interrupted(run: SmallRun, prepared: SmallRun, folder: Path, iterations: int) -> SmallRun:
    """What a run leaves behind that was killed later, but saved last after some iterations."""
    copy = run_of(prepared, folder)
    shutil.copytree(run.checkpoints, copy.checkpoints)
    shutil.copytree(run.logs, copy.logs)
    for checkpoint in copy.checkpoints.glob("checkpoint-*"):
        if int(checkpoint.name.split("-")[1]) > iterations:
            shutil.rmtree(checkpoint)
    return copy


def test_a_killed_run_goes_on_with_the_same_metrics_and_best(
    prepared: SmallRun, trained: SmallRun, tmp_path: Path
) -> None:
    assert list(losses(trained)) == [4, 8, 12, 16, 20, 24]
    run = interrupted(trained, prepared, tmp_path, 8)
    with (run.logs / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 25, "iter')  # killed while writing
    train(run)
    assert_same_run(run, trained)
    assert load(run.checkpoints).progress.training_steps == (8, 16)


def test_the_best_that_a_checkpoint_speaks_of_stays_until_the_next_one(
    prepared: SmallRun, tmp_path: Path
) -> None:
    """Crashed after 13 iterations, and again after 9: the last checkpoint is that after 8."""

    def best_ones() -> set[str]:
        return {path.name for path in (run.checkpoints / "best").iterdir()}

    run = run_of(prepared, tmp_path)
    crash: dict[str, Any] = {"evaluation_class": "functions_of_a_user.breaks_later"}
    with pytest.raises(DataError, match="in iteration 13"):
        train(run, validation_frequency=13, **crash)
    assert min(losses(run).items(), key=lambda pair: pair[1])[0] == 12, "the test needs that"
    assert load(run.checkpoints).progress.iterations == 8
    assert best_ones() == {"checkpoint-00000008", "checkpoint-00000012"}
    assert load(run.checkpoints / "best").progress.iterations == 12
    # it may go on otherwise than before, so what came after those 8 iterations is forgotten
    with pytest.raises(DataError, match="in iteration 9"):
        train(run, validation_frequency=9, **crash)
    assert best_ones() == {"checkpoint-00000008"}
    assert max(line["iterations_done"] for line in lines(run)) == 8
    train(run, validation_frequency=13)
    assert best_ones() == {load(run.checkpoints / "best").path.name}


def test_killed_while_writing_the_best_checkpoint(
    prepared: SmallRun, trained: SmallRun, tmp_path: Path
) -> None:
    run = run_of(prepared, tmp_path)
    best = run.checkpoints / "best"
    process = start(run)
    while process.poll() is None:
        if next(best.glob(".tmp-*/*/state.safetensors"), None):
            process.kill()
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    for checkpoint in best.glob("checkpoint-*"):  # each one is whole
        assert load_file(checkpoint / "state.safetensors")
        assert json.loads((checkpoint / "state.json").read_text())["best"]
    for rest in best.glob(".tmp-*"):
        shutil.rmtree(rest)
    train(run)
    assert_same_run(run, trained)


def test_a_run_that_saves_nothing_leaves_metrics_and_curves_alone(
    prepared: SmallRun, trained: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = interrupted(trained, prepared, tmp_path, 24)
    before = {path: path.read_bytes() for path in run.logs.rglob("*") if path.is_file()}
    with caplog.at_level("INFO", "dnn_reco"):
        train(run, model_save_model=False, model_restore_model=False, num_training_iterations=2)
    after = {path: path.read_bytes() for path in run.logs.rglob("*") if path.is_file()}
    assert after.items() >= before.items()
    unsaved = run.logs / "unsaved"
    assert {path.parent.parent for path in after.keys() - before.keys()} == {unsaved}
    assert f"nothing is saved (model_save_model is False) but curves, in '{unsaved}'" in caplog.text
    assert load(run.checkpoints / "best").tensors


# --------------------------------------------------------------------------------------------------
# Early stopping
# --------------------------------------------------------------------------------------------------
def patient(run: SmallRun, patience: int, **overrides: object) -> None:
    """Train a network that does not move after its first step."""
    rate = {"optimizer_settings": {"learning_rate": NOT_MOVING}, "loss_class": f"{LOSS}.mse"}
    train(run, early_stopping_patience=patience, model_optimizer_dict={"a": rate}, **overrides)


def test_early_stopping(
    prepared: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(prepared, tmp_path / "run")
    with caplog.at_level("INFO", "dnn_reco"):
        patient(run, 3)
    assert list(losses(run)) == [4, 8, 12, 16]
    assert load(run.checkpoints).progress.iterations == 16
    assert load(run.checkpoints / "best").progress.iterations == 4
    assert caplog.messages[-2] == (
        "Stopping early: the last 3 evaluations of the validation set did not improve on the loss "
        "after 4 iterations (early_stopping_patience)."
    )
    assert caplog.messages[-1].startswith("Training is done: 16 iterations, saved in")

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with caplog.at_level("INFO", "dnn_reco"):
        patient(run, 3)
    assert caplog.messages[-1].startswith("Nothing to do: the last 3 evaluations")
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert before == after

    patient(run, 4)
    assert load(run.checkpoints).progress.iterations == 20


def test_going_on_keeps_the_count_of_early_stopping(prepared: SmallRun, tmp_path: Path) -> None:
    whole = run_of(prepared, tmp_path / "whole")
    patient(whole, 3)
    run = interrupted(whole, prepared, tmp_path / "run", 8)
    patient(run, 3)
    assert_same_run(run, whole)


def test_early_stopping_needs_a_validation_set(prepared: SmallRun, tmp_path: Path) -> None:
    run = run_of(prepared, tmp_path)
    with run.config_file.open("a") as file:
        file.write("validation_events: 0\nearly_stopping_patience: 3\n")
    with pytest.raises(ConfigError, match=r"early_stopping_patience' needs.*validation_events"):
        load_config([run.config_file])


def test_a_signal_still_ends_training_at_once(prepared: SmallRun, tmp_path: Path) -> None:
    run = run_of(prepared, tmp_path)
    text = run.config_file.read_text().replace("iterations: 24", "iterations: 100000")
    run.config_file.write_text(text)
    process = start(run)
    deadline = time.monotonic() + 120
    while not (run.checkpoints / "best").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert "Run the same command to resume." in output
