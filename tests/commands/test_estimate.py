"""`train --estimate`: what it says, and that it leaves nothing behind."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from event_files import random_events, write_events
from safetensors.torch import load_file
from small_run import ON_CPU, SmallRun, make_small_run
from workspace import Result, Workspace, invoke

from dnn_reco.commands import estimate
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_stages
from dnn_reco.config import load_stages

LOSSES = "dnn_reco.modules.loss.default_loss"

# Runs a command and prints the greatest memory that it had, as the system counts it [bytes]. A
# program of its own, as children begin with the figure of the one that starts them.
LAUNCHER = """
import resource, subprocess, sys
run = "from dnn_reco import cli; from dnn_reco.commands import estimate as e; e.SECONDS = 0.2;"
subprocess.run([sys.executable, "-c", f"{run} cli.main()", *sys.argv[1:]], check=True)
print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def optimizer(loss: str, parts: list[str]) -> dict[str, Any]:
    return {
        "optimizer": "Adam",
        "optimizer_settings": {"learning_rate": 0.001},
        "loss_class": f"{LOSSES}.{loss}",
        "vars": parts,
    }


STAGES: dict[str, Any] = {
    "num_training_iterations": None,
    "validation_frequency": 3,
    "save_frequency": 4,
    "training_stages": [
        {"num_training_iterations": 4},
        {
            "num_training_iterations": 10,
            "batch_size": 4,
            "ema_decay": 0.9,
            "model_optimizer_dict": {
                "pred": optimizer("mse", ["pred"]),
                "unc": optimizer("gaussian_likelihood", ["unc"]),
            },
            "nn_biased_selection": {
                "biased_fraction": 0.5,
                "cut_abs_diff_trafo": {"EnergyVisible": 0.1},
            },
        },
        {"num_training_iterations": 6, "validation_events": 0},
    ],
}


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SmallRun]:
    """Makes a run that is ready to be trained, in the working directory."""
    monkeypatch.setattr(estimate, "SECONDS", 0.2)

    def prepare(**changes: object) -> SmallRun:
        run = make_small_run(tmp_path, **changes)
        run_trafo(run.config(), ON_CPU, overwrite=False)
        monkeypatch.chdir(tmp_path)
        return run

    return prepare


def train(run: SmallRun, iterations: int) -> None:
    stages = load_stages([run.config_file], {"num_training_iterations": iterations})
    assert run_stages(stages, ON_CPU) == 0


def estimated(*options: str) -> str:
    """What the command prints; it has to succeed."""
    result = run_command(*options)
    assert result.exit_code == 0, result.err
    return result.out


def run_command(*options: str) -> Result:
    return invoke("train", "small.yaml", "--estimate", "--device=cpu", "--num_threads=1", *options)


def counts(text: str, name: str) -> list[int]:
    """How often something is said to be done, stage by stage."""
    found = re.findall(rf"^  {name} +([\d,]+) x ", text, re.MULTILINE)
    return [int(number.replace(",", "")) for number in found]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All that is in a folder, files with the time of their last change; but no event store."""
    return {
        str(path.relative_to(folder)): (
            (path.stat().st_mtime_ns, path.read_bytes()) if path.is_file() else (0, b"")
        )
        for path in folder.rglob("*")
        if "event_store" not in path.parts
    }


def test_files_of_a_stage_are_part_of_the_event_store(
    prepared: Callable[..., SmallRun], tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    for run in range(3):
        events = random_events(run, 20, num_bins=3, run=10 + run)
        write_events(tmp_path / "other" / f"{run}.hdf5", events)
    stages = [
        {"num_training_iterations": 4, "training_data_file": "other/*.hdf5"},
        {"num_training_iterations": 5},
    ]
    prepared(num_training_iterations=None, training_stages=stages)
    text = estimated()
    assert "60 in 3 files for training, 60 in 1 file for validation" in text
    assert "120 in 2 files for training in stage 2\n" in text
    assert counts(text, "iterations") == [4, 5]


def test_stages_optimizers_selection_and_average_are_estimated_and_nothing_is_written(
    prepared: Callable[..., SmallRun],
) -> None:
    run = prepared(**STAGES)
    before = contents(run.folder)
    text = estimated()
    assert contents(run.folder) == before
    for title in (
        "Stage 1 of 3, iterations 0 to 4 in batches of 8:",
        "Stage 2 of 3, iterations 4 to 14 in batches of 4:",
        "Stage 3 of 3, iterations 14 to 20 in batches of 8:",
    ):
        assert title in text
    assert counts(text, "iterations") == [4, 10, 6]
    assert counts(text, "choices of their events") == [10]
    assert counts(text, "printed metrics") == [2, 3, 2]  # 0, 3; 6, 9, 12; 15, 18
    assert counts(text, "evaluations of the validation set") == [1, 3]  # 4; 8, 12, 14
    assert counts(text, "checkpoints") == [1, 3, 2]  # 16, 20
    assert "120 in 2 files for training, 60 in 1 file for validation" in text
    assert "an epoch uses" not in text  # all of them


def test_what_is_left_of_a_training_and_nothing_is_written(
    prepared: Callable[..., SmallRun],
) -> None:
    run = prepared(**STAGES)
    train(run, 9)
    before = contents(run.folder)
    text = estimated()
    assert contents(run.folder) == before
    assert "Stage 1" not in text
    assert "Stage 2 of 3, iterations 9 to 14 in batches of 4:" in text
    assert counts(text, "iterations") == [5, 6]
    assert counts(estimated("--iterations", "12"), "iterations") == [3]
    assert estimated("--iterations", "9").startswith("Nothing to do: 9 iterations are done")
    assert contents(run.folder) == before


def test_a_training_that_early_stopping_has_ended(prepared: Callable[..., SmallRun]) -> None:
    still = {**optimizer("mse", ["pred"]), "optimizer_settings": {"learning_rate": 1e-30}}
    run = prepared(
        model_optimizer_dict={"adam": still},
        early_stopping_patience=2,
        validation_frequency=4,
        save_frequency=4,
    )
    train(run, 60)
    before = contents(run.folder)
    assert estimated().startswith("Nothing to do: the last 2 evaluations of the validation set did")
    assert contents(run.folder) == before


def test_a_stage_with_patience_after_one_without_progress(
    prepared: Callable[..., SmallRun],
) -> None:
    still = {**optimizer("mse", ["pred"]), "optimizer_settings": {"learning_rate": 1e-30}}
    stage = {
        "num_training_iterations": 8,
        "model_optimizer_dict": {"adam": still},
        "validation_set_frequency": 2,
    }
    stages = [stage, {**stage, "early_stopping_patience": 2}]
    run = prepared(training_stages=stages, num_training_iterations=None)
    train(run, 8)
    assert "Stage 2 of 2, iterations 8 to 16 in batches of 8:" in estimated()


def test_a_training_that_shall_begin_anew_does_so_and_the_old_one_stays(
    prepared: Callable[..., SmallRun],
) -> None:
    run = prepared()
    train(run, 5)
    text = run.config_file.read_text()
    run.config_file.write_text(f"{text}\nmodel_restore_model: false\n")
    before = contents(run.folder)
    assert "Training, iterations 0 to 60 in batches of 8:" in estimated()
    assert contents(run.folder) == before


def test_without_checkpoints(prepared: Callable[..., SmallRun]) -> None:
    run = prepared(model_save_model=False)
    before = contents(run.folder)
    text = estimated()
    assert contents(run.folder) == before
    assert "none (model_save_model is False)" in text
    assert counts(text, "checkpoints") == []


def test_size_and_number_of_the_checkpoints_are_those_of_the_training(
    prepared: Callable[..., SmallRun],
) -> None:
    run = prepared(num_training_iterations=6, save_frequency=2)
    text = estimated()
    train(run, 6)
    kept = sorted(run.checkpoints.glob("checkpoint-*"))
    assert f"; {len(kept)} and the best one are kept: " in text
    size = sum(file.stat().st_size for file in kept[-1].iterdir())
    assert f"Checkpoints   {size / 1e6:.1f} MB each" in text
    weights = load_file(kept[-1] / "state.safetensors")
    trained = sum(tensor.numel() for name, tensor in weights.items() if name.endswith("/exp_avg"))
    assert f"Network       {trained:,} trainable weights" in text


def test_the_line_can_be_run(prepared: Callable[..., SmallRun]) -> None:
    prepared()
    options = ("--allow-overlap", "--deterministic")
    text = estimated("--iterations", "50", "--cache-dir", "my store", *options)
    (line,) = [line for line in text.splitlines() if "dnn-reco submit train" in line]
    words = shlex.split(line)
    result = invoke(*words[1:3], "--dry-run", *words[3:])
    assert result.exit_code == 0, result.err
    assert "request_cpus = 1\n" in result.out
    assert "request_gpus" not in result.out
    for option in ("--iterations 50", "--device cpu", "--cache-dir 'my store'", *options):
        assert f" {option}" in result.out
    assert "timeout --foreground --preserve-status --signal=TERM 600 " in result.out


def test_events_per_second_are_those_of_the_iterations(
    prepared: Callable[..., SmallRun],
) -> None:
    prepared()
    text = estimated()
    rate = re.search(r"in batches of 8: ([\d,]+) events/s", text)
    each = re.search(r"^  iterations +60 x +([\d.]+) ms", text, re.MULTILINE)
    assert rate and each
    assert float(rate[1].replace(",", "")) == pytest.approx(8 / (float(each[1]) / 1000), rel=0.02)


def test_an_event_store_that_is_not_built_is_estimated(
    prepared: Callable[..., SmallRun],
) -> None:
    run = prepared(training_data_file=["many/*.hdf5"])
    (run.folder / "many").mkdir()
    for number in range(20):
        (run.folder / "many" / f"{number:02d}.hdf5").write_bytes(
            (run.folder / f"train_{number % 2}.hdf5").read_bytes()
        )
    text = estimated()
    assert re.search(r"about 1,[12]\d0 in 20 files for training", text)
    assert "to build for 11 files: about " in text
    assert "with building the event store" in text


def test_events_of_an_epoch_where_files_are_repeated_or_capped(
    prepared: Callable[..., SmallRun],
) -> None:
    prepared(
        training_data_file=["train_*.hdf5", "train_0.hdf5"],
        data_handler_max_events_per_file=20,
        trafo_num_batches=5,
    )
    text = estimated()
    assert "120 in 2 files for training, 60 in 1 file for validation" in text
    assert "an epoch uses 60 for training, 20 for validation (patterns listed" in text


def test_memory_is_what_the_system_counts(prepared: Callable[..., SmallRun]) -> None:
    prepared()
    command = ["train", "small.yaml", "--estimate", "--device=cpu", "--num_threads=1"]
    launch = [sys.executable, "-c", LAUNCHER, *command]
    text = subprocess.run(launch, check=True, capture_output=True, text=True).stdout
    told = re.search(r"^Memory +about (\d+) MB$", text, re.MULTILINE)
    assert told
    assert 1e6 * int(told[1]) == pytest.approx(int(text.splitlines()[-1]), rel=0.05)


@pytest.mark.parametrize("seconds", [0.0, 3.0])
def test_ctrl_c_leaves_nothing(prepared: Callable[..., SmallRun], seconds: float) -> None:
    run = prepared()
    before = contents(run.folder)
    # As the script dnn-reco does it. With `-m`, Python may end itself by the signal in place of
    # telling the exit code: it does where Ctrl-C comes while a module is imported that makes
    # functions of text, as dataclasses do. Shells call both 130.
    launch = [sys.executable, "-c", "from dnn_reco.cli import main; main()"]
    process = subprocess.Popen(
        [*launch, "train", "small.yaml", "--estimate", "--device=cpu", "--num_threads=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    deadline = time.monotonic() + 60
    while not list(run.folder.glob(".tmp-estimate-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "Interrupted.\n")
    assert contents(run.folder) == before


def test_without_a_transformation_model(workspace: Workspace) -> None:
    message = workspace.error("train", "--estimate")
    assert "there is no transformation model '../data/trafo_models/" in message
    assert not (workspace.folder / "data").exists()


def test_a_training_that_diverges(prepared: Callable[..., SmallRun]) -> None:
    adam = {**optimizer("mse", ["pred"]), "optimizer_settings": {"learning_rate": 1e35}}
    run = prepared(model_optimizer_dict={"adam": adam})
    before = contents(run.folder)
    result = run_command()
    assert result.exit_code == 1
    assert "the training diverges in the measured iterations" in result.err
    assert contents(run.folder) == before


def test_several_processes_are_refused(prepared: Callable[..., SmallRun]) -> None:
    prepared()
    result = run_command("--processes", "2")
    assert result.exit_code == 2
    assert "--estimate measures a training in one process" in result.err


def test_a_job_that_only_estimates_is_refused(prepared: Callable[..., SmallRun]) -> None:
    prepared()
    result = invoke("submit", "train", "small.yaml", "--cluster", "slurm", "--", "--estimate")
    assert result.exit_code == 2
    assert "--estimate belongs to dnn-reco train" in result.err
