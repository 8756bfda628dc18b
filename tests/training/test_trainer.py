"""Training as a whole: the same run whatever interrupts it, and never a NaN."""

import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from event_files import random_events, write_events
from safetensors.torch import load_file
from small_run import (
    MODEL_KWARGS,
    ON_CPU,
    SmallRun,
    make_small_run,
    run_of,
    signal_while_training,
    start,
)

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.errors import DataError
from dnn_reco.modules.loss.interface import Truth
from dnn_reco.modules.models.general_IC86_cnn import GeneralIC86CNN
from dnn_reco.nn import fused_stack, threads
from dnn_reco.training.distributed import DistributedContext
from dnn_reco.training.from_config import make_trainer
from dnn_reco.training.logging import format_validation
from dnn_reco.training.metrics import BatchMetrics


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Data, transformation model and event store, to be shared by runs with paths of their own."""
    run = make_small_run(tmp_path_factory.mktemp("prepared"))
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


def train(run: SmallRun, **overrides: object) -> int:
    return run_train(run.config(**overrides), ON_CPU)


def final_state(run: SmallRun) -> dict[str, torch.Tensor]:
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    return load_file(checkpoint.path / "state.safetensors")


def assert_same_state(first: SmallRun, second: SmallRun) -> None:
    states = final_state(first), final_state(second)
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def printed(output: str) -> list[str]:
    """The printed metrics without what the clock says."""
    lines = re.sub(r"Runtime: \S+ Per-Step: \S+ ", "", output).splitlines()
    return [line for line in lines if line.startswith(("Step:", "\t"))]


@pytest.fixture(scope="module")
def uninterrupted(
    prepared: SmallRun, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SmallRun, list[str]]:
    run = run_of(prepared, tmp_path_factory.mktemp("uninterrupted"))
    process = start(run)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "Training is done: 60 iterations" in output
    return run, printed(output)


def test_two_runs_with_one_seed_are_identical(
    prepared: SmallRun, uninterrupted: tuple[SmallRun, list[str]], tmp_path: Path
) -> None:
    run = run_of(prepared, tmp_path)
    train(run)
    assert_same_state(run, uninterrupted[0])


def test_the_number_of_threads_does_not_change_the_run(
    prepared: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a convolutional network whose layers are all fused; pieces of batches are made small."""
    pytest.importorskip("numba")
    monkeypatch.setattr(fused_stack, "_MIN_PRODUCTS", 0)
    monkeypatch.setattr(threads, "_number", None)
    before = torch.get_num_threads()
    model_kwargs = dict(MODEL_KWARGS)
    for name, window in (("upper_deepcore", [1, 1, 2, 1]), ("lower_deepcore", [1, 1, 2, 1])):
        model_kwargs[f"conv_{name}_settings"] = with_windows(name, window)
    model_kwargs["conv_ic78_settings"] = with_windows("ic78", [1, 2, 2, 2, 1])
    runs = []
    for number in (1, 2, 3, 4):
        (tmp_path / str(number)).mkdir()
        run = run_of(prepared, tmp_path / str(number))
        config = run.config(model_kwargs=model_kwargs, num_training_iterations=12)
        run_train(config, replace(ON_CPU, num_threads=number))
        assert (torch.get_num_threads(), threads.num_threads()) == (1, number)
        runs.append(run)
    torch.set_num_threads(before)
    for run in runs[1:]:
        assert_same_state(run, runs[0])


def with_windows(name: str, window: list[int]) -> dict[str, object]:
    """The settings of a branch with pooling windows that divide its axes."""
    block = MODEL_KWARGS[f"conv_{name}_settings"]
    assert isinstance(block, dict)
    return {**block, "pooling_ksize_list": window, "pooling_strides_list": window}


def test_another_seed_gives_another_run(
    prepared: SmallRun, uninterrupted: tuple[SmallRun, list[str]], tmp_path: Path
) -> None:
    run = run_of(prepared, tmp_path)
    train(run, seed=7)
    name = "network/fc.0.weight"
    assert not torch.equal(final_state(run)[name], final_state(uninterrupted[0])[name])


def test_neither_validating_nor_saving_changes_the_run(
    prepared: SmallRun, uninterrupted: tuple[SmallRun, list[str]], tmp_path: Path
) -> None:
    """Label weights do follow validation_frequency, so they are held fixed here."""
    runs = []
    for name, frequencies in (("rare", (50, 60)), ("often", (1, 7))):
        (tmp_path / name).mkdir()
        run = run_of(prepared, tmp_path / name)
        settings = {"validation_frequency": frequencies[0], "save_frequency": frequencies[1]}
        train(run, label_update_weights=False, num_training_iterations=20, **settings)
        runs.append(run)
    assert_same_state(*runs)


@pytest.mark.parametrize(
    ("number", "checkpoint_exit_code", "exit_code"),
    [(signal.SIGTERM, None, 143), (signal.SIGTERM, 85, 85), (signal.SIGINT, None, 0)],
)
def test_a_run_stopped_by_a_signal_goes_on_as_if_never_stopped(
    prepared: SmallRun,
    uninterrupted: tuple[SmallRun, list[str]],
    tmp_path: Path,
    number: signal.Signals,
    checkpoint_exit_code: int | None,
    exit_code: int,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = run_of(prepared, tmp_path)
    options = replace(ON_CPU, checkpoint_exit_code=checkpoint_exit_code)
    with signal_while_training(GeneralIC86CNN, 40, number), caplog.at_level("INFO", "dnn_reco"):
        assert run_train(run.config(), options) == exit_code
    assert "Run the same command to resume." in caplog.text
    output = capsys.readouterr().out
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    stopped_at = checkpoint.progress.iterations
    assert 20 < stopped_at < 60
    assert train(run) == 0
    assert_same_state(run, uninterrupted[0])
    assert printed(output) + printed(capsys.readouterr().out) == uninterrupted[1]
    steps = (run.records / "training_steps.yaml").read_text()
    assert steps == f"0: {stopped_at}\n1: {60 - stopped_at}\n"
    assert (run.records / "config_training_0001.yaml").is_file()


@pytest.mark.parametrize(("num_processes", "ends"), [(1, KeyboardInterrupt), (2, BrokenPipeError)])
def test_a_second_ctrl_c_is_the_launchers_where_there_are_several_processes(
    prepared: SmallRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_processes: int,
    ends: type[BaseException],
) -> None:
    """`torchrun` passes it on to processes that have had it from the terminal."""
    trainer = make_trainer(run_of(prepared, tmp_path).config(), ON_CPU)
    trainer.distributed = DistributedContext(world_size=num_processes)

    def ctrl_c_twice(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise BrokenPipeError  # the training need not go on

    monkeypatch.setattr(trainer, "_open_log", ctrl_c_twice)
    with pytest.raises((KeyboardInterrupt, BrokenPipeError)) as ended:
        trainer.run(lambda progress: None)
    assert ended.type is ends


def test_a_call_that_trains_nothing_writes_nothing(
    prepared: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = run_of(prepared, tmp_path)
    train(run, num_training_iterations=3)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    with caplog.at_level("INFO", "dnn_reco"):
        assert train(run, num_training_iterations=3) == 0
    assert "Nothing to do: 3 iterations are done" in caplog.text
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert before == after


def test_starting_anew_moves_the_old_model_away(prepared: SmallRun, tmp_path: Path) -> None:
    run = run_of(prepared, tmp_path)
    train(run, num_training_iterations=2)
    train(run, num_training_iterations=3, model_restore_model=False)
    assert (run.records / "training_steps.yaml").read_text() == "0: 3\n"
    old = run.records.with_name("small_old_0000")
    assert (old / "model" / "checkpoint-00000002").is_dir()
    assert (old / "training_steps.yaml").read_text() == "0: 2\n"
    assert (run.logs.with_name("small_old_0000") / "train").is_dir()


def test_no_nan_ever_from_labels_that_are_not_trained(tmp_path: Path) -> None:
    """Untrained labels with logarithm, huge or not a number in log space, over 200 iterations."""
    run = make_small_run(
        tmp_path,
        label_weight_dict={"EnergyVisible": 1.0},
        trafo_log_label_bins={"EnergyVisible": True, "PrimaryEnergy": True},
        num_training_iterations=200,
        validation_frequency=20,
        save_frequency=200,
    )
    for path, seed in ((tmp_path / "train_0.hdf5", 0), (tmp_path / "validation.hdf5", 2)):
        events = random_events(seed, 60, num_bins=3, run=seed)
        energy = events.labels["PrimaryEnergy"] * 10.0 ** np.arange(60.0).clip(max=30)
        labels = {**events.labels, "PrimaryEnergy": energy, "VertexX": np.full(60, 1e30)}
        write_events(path, replace(events, labels=labels))
    run_trafo(run.config(), ON_CPU, overwrite=False)
    train(run)
    for name, tensor in final_state(run).items():
        assert torch.isfinite(tensor.double()).all(), name


def test_untrained_labels_do_not_reach_the_gradient() -> None:
    from dnn_reco.modules.loss.untrained import mask_untrained
    from dnn_reco.nn.interface import Prediction

    values = torch.tensor([[1.0, 2.0]], requires_grad=True)
    blown_up = values * torch.tensor([1.0, float("inf")]) - torch.tensor([0.0, float("inf")])
    prediction = Prediction(blown_up, blown_up, blown_up, blown_up, blown_up)
    truth = Truth(torch.full((1, 2), float("nan")), torch.full((1, 2), float("nan")))
    masked, masked_truth = mask_untrained(prediction, truth, torch.tensor([True, False]))
    (masked.labels_trafo**2 + torch.log(masked.uncertainty_trafo)).sum().backward()
    assert values.grad is not None
    assert torch.isfinite(values.grad[0, 0])
    assert masked_truth.labels[0, 1] == 0


def test_printed_metrics_have_the_form_of_the_reference() -> None:
    def scores(rmse: float, mean: float, loss: float) -> BatchMetrics:
        column = np.array([9.0, rmse, 9.0])
        rows = np.zeros((1, 3))
        pull, means = np.array([9.0, 0.9, 9.0]), np.array([9.0, mean, 9.0])
        losses = {"simple_mse": (loss, loss)}
        return BatchMetrics(losses, column, pull, column, means, rows, rows, rows, column)

    text = format_validation(
        100,
        270.66,
        1.1468,
        ["Zenith", "EnergyVisible", "Azimuth"],
        np.array([False, True, False]),
        np.array([0.05, 1.0, 0.05]),
        scores(0.931, 239736.969, 0.956),
        scores(0.887, 92256.906, 0.84),
    )
    assert text == (
        "Step: 00000100, Runtime: 270.7s, Per-Step: 1.147s, Benchmark: 1.100\n"
        "\t[Train]      loss_sum_simple_mse: 0.956 loss_sum_total_simple_mse: 0.956\n"
        "\t[Validation] loss_sum_simple_mse: 0.840 loss_sum_total_simple_mse: 0.840\n"
        "\tweight: 1.000, train: 0.931 [0.90],val: 0.887 [0.90] "
        "[EnergyVisible, mean: 239736.969 92256.906]"
    )


def test_validation_files_with_other_labels(trained_run: SmallRun, tmp_path: Path) -> None:
    run = run_of(trained_run, tmp_path)
    events = random_events(2, 9, num_bins=3, run=2)
    del events.labels["VertexX"]
    other = write_events(tmp_path / "other.hdf5", events)
    config = run.config(validation_data_file=[str(other)], num_training_iterations=1)
    message = "training_data_file and validation_data_file have different labels"
    with pytest.raises(DataError, match=message):
        run_train(config, ON_CPU)
