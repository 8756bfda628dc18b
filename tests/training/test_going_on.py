"""What a training goes on from: damaged checkpoints, changed code, lost checkpoints."""

import importlib
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import ON_CPU, SmallRun, make_small_run, run_of, signal_while_training
from tiny_network import TinyNetwork, tiny

from dnn_reco.checkpoint_file import BEST, Checkpoint, load_latest, save_checkpoint
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.errors import ConfigError, ModelError
from dnn_reco.transform import load_transformation, save_transformation

ITERATIONS = 6


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    run = make_small_run(
        tmp_path_factory.mktemp("prepared"),
        40,
        **tiny(),
        save_frequency=2,
        num_training_iterations=ITERATIONS,
        ema_decay=0.9,
        validation_events=20,
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


@pytest.fixture(scope="module")
def whole(prepared: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A training of three checkpoints, only read."""
    run = run_of(prepared, tmp_path_factory.mktemp("whole"))
    train(run)
    return run


@pytest.fixture
def run(prepared: SmallRun, whole: SmallRun, tmp_path: Path) -> SmallRun:
    """A copy of it to be damaged."""
    run = run_of(prepared, tmp_path / "run")
    shutil.copytree(whole.records, run.records)
    shutil.copytree(whole.logs, run.logs)
    return run


def train(run: SmallRun, **changes: Any) -> int:
    return run_train(run.config(**changes), ON_CPU)


def latest(run: SmallRun) -> Checkpoint:
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    return checkpoint


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_training_goes_on_from_before_a_damaged_checkpoint(
    run: SmallRun, whole: SmallRun, caplog: pytest.LogCaptureFixture
) -> None:
    file = run.checkpoints / "checkpoint-00000006" / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-2] ^= 0x40  # a number that is 2^64 times as large, or as small
    file.write_bytes(content)
    with caplog.at_level("INFO", "dnn_reco"):
        assert train(run, model_checkpoint_manager_kwargs={"max_to_keep": 1}) == 0
    assert "checkpoint-00000006' is damaged (the digest of 'state.safetensors'" in caplog.text
    assert "Resuming from '" in caplog.text
    assert "checkpoint-00000004' (training step 1)" in caplog.text
    assert names(run.checkpoints) == [BEST, "checkpoint-00000006", "damaged-checkpoint-00000006"]
    repeated, expected = latest(run), latest(whole)
    assert repeated.progress.training_steps == (4, 2)
    for name, tensor in expected.tensors.items():
        assert torch.equal(tensor, repeated.tensors[name]), name


@pytest.mark.parametrize(
    "name",
    [
        "network/prediction",
        "ema_iterations",
        "label_weights/count",
        "optimizer/adam/prediction/exp_avg",
        "optimizer/adam/uncertainty/step",
    ],
)
def test_a_checkpoint_without_some_state(run: SmallRun, name: str) -> None:
    checkpoint = latest(run)
    tensors = dict(checkpoint.tensors)
    tensor = tensors.pop(name)
    changed = {**tensors, name: torch.zeros(5, 7)} if tensor.dim() == 2 else tensors
    for state in (tensors, changed):
        shutil.rmtree(checkpoint.path)
        save_checkpoint(run.checkpoints, checkpoint.progress, state, 3)
        with pytest.raises(ModelError, match=f"checkpoint-00000006'.*{name.split('/')[-1]}"):
            train(run, num_training_iterations=ITERATIONS + 1)


def test_times_that_become_absolute_are_other_labels(run: SmallRun) -> None:
    absolute = {"data_handler_relative_time_key_pattern": None, "num_training_iterations": 8}
    with pytest.raises(ModelError, match="does not fit the config:\n  relative_time_labels"):
        train(run, **absolute)
    path = Path(run.config().trafo.trafo_model_path)
    transformation = load_transformation(path)
    settings = replace(transformation.settings, relative_time_labels=None, relative_time_misc=None)
    older = run.folder / "older.npy"
    save_transformation(replace(transformation, settings=settings), older)
    with pytest.raises(ModelError, match="other labels of the same names:\n  relative_time_labels"):
        train(run, **absolute, trafo_model_path=str(older))
    assert train(run, num_training_iterations=8, trafo_model_path=str(older)) == 0


def test_changed_label_weights_reach_the_network(run: SmallRun) -> None:
    states = []
    for number, energy in enumerate((1.0, 100.0)):
        resumed = run_of(run, run.folder / f"resumed_{number}")
        shutil.copytree(run.records, resumed.records)
        weights = {"EnergyVisible": energy, "PrimaryAzimuth": 0.5}
        train(
            resumed,
            num_training_iterations=ITERATIONS + 2,
            label_update_weights=False,
            label_weight_dict=weights,
        )
        states.append(latest(resumed).tensors)
    assert not torch.equal(states[0]["network/prediction"], states[1]["network/prediction"])


def test_changed_code_of_a_loss_is_reported_and_begins_the_search_for_the_best_anew(
    prepared: SmallRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    code = "def loss(prediction, truth, context):\n    return context.residual_trafo.square()"
    module = tmp_path / "loss_of_mine.py"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    run = run_of(prepared, tmp_path / "run")
    loss = {"adam": {"optimizer": "Adam", "loss_class": "loss_of_mine.loss"}}
    for iterations, scale in ((2, 1), (4, 1), (6, 100)):
        module.write_text(f"{code}.mean(dim=0) * {scale}\n")
        sys.modules.pop("loss_of_mine", None)
        importlib.invalidate_caches()
        caplog.clear()
        with caplog.at_level("INFO", "dnn_reco"):
            train(run, num_training_iterations=iterations, model_optimizer_dict=loss)
        changed = scale == 100
        assert ("The code of 'loss_of_mine.loss' has changed" in caplog.text) == changed
        assert ("the search for the best checkpoint restarts" in caplog.text) == changed
    assert names(run.checkpoints / BEST) == ["checkpoint-00000006"]
    monkeypatch.delitem(sys.modules, "loss_of_mine")


def test_another_moving_average_begins_the_search_for_the_best_anew(
    run: SmallRun, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "dnn_reco"):
        train(run, num_training_iterations=ITERATIONS + 1, ema_decay=0.5)
    assert "the search for the best checkpoint restarts" in caplog.text
    best = latest(run).progress.best
    assert best is not None
    assert best.iterations == ITERATIONS + 1


def test_what_is_left_of_lost_checkpoints_is_kept_aside(
    run: SmallRun, whole: SmallRun, caplog: pytest.LogCaptureFixture
) -> None:
    for path in run.checkpoints.glob("checkpoint-*"):
        shutil.rmtree(path)
    train(run, num_training_iterations=2)
    (message,) = [line for line in caplog.messages if "There is no checkpoint in" in line]
    aside = run.records.with_name("small_old_0000")
    assert f"moved to '{aside}'" in message
    assert names(aside / "model" / BEST) == names(whole.checkpoints / BEST)
    metrics = (run.logs.with_name("small_old_0000") / "metrics.jsonl").read_text()
    assert metrics == (whole.logs / "metrics.jsonl").read_text()
    assert latest(run).progress.training_steps == (2,)
    assert "old" not in "".join(names(run.records))


def test_logs_before_the_first_checkpoint_are_no_lost_model(
    prepared: SmallRun, whole: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(prepared, tmp_path)
    shutil.copytree(whole.logs, run.logs)
    train(run, num_training_iterations=2)
    assert "There is no checkpoint" not in caplog.text
    assert names(run.logs.parent) == ["small"]


@pytest.mark.parametrize(("saves", "code"), [(True, 129), (False, 130)])
def test_exit_codes(prepared: SmallRun, tmp_path: Path, saves: bool, code: int) -> None:
    """SIGHUP saves and ends with its code; Ctrl-C with that of shells where nothing is saved."""
    run = run_of(prepared, tmp_path)
    number = signal.SIGHUP if saves else signal.SIGINT
    with signal_while_training(TinyNetwork, 3, number):
        assert train(run, model_save_model=saves, validation_frequency=100) == code
    assert run.checkpoints.exists() == saves
    if saves:
        assert 0 < latest(run).progress.iterations < ITERATIONS


def test_a_network_that_is_not_in_training_mode_is_not_trained(
    prepared: SmallRun, tmp_path: Path
) -> None:
    run = run_of(prepared, tmp_path)
    kwargs = {"model_kwargs": {"is_training": False}}
    with pytest.raises(ConfigError, match=r"is_training .*is False.*remove it"):
        train(run, **kwargs)
    assert not run.records.exists()
