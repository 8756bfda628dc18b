"""Training in several processes is training in one, and survives what ends one of them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_run import MODEL_KWARGS, ON_CPU, SmallRun, make_small_run

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.training.launch import run_processes

# where one that is stopped half-way has time left
ITERATIONS = 100
NORMALISED = {"use_batch_normalisation_list": True}
LOSSES = "dnn_reco.modules.loss"
SETTINGS: dict[str, dict[str, object]] = {
    "batch norm, dropout of DOMs, penalties": {
        "model_kwargs": {
            **MODEL_KWARGS,
            "keep_prob_dom": 0.9,
            "conv_ic78_settings": {**MODEL_KWARGS["conv_ic78_settings"], **NORMALISED},
            "conv_upper_deepcore_settings": {
                **MODEL_KWARGS["conv_upper_deepcore_settings"],
                **NORMALISED,
            },
            "fc_settings": {**MODEL_KWARGS["fc_settings"], **NORMALISED},
        },
        "model_optimizer_dict": {
            "pred": {
                "optimizer": "AdamW",
                "optimizer_settings": {"learning_rate": 0.003},
                "vars": ["pred"],
                "loss_class": f"{LOSSES}.default_loss.mse",
                "l2_regularization": 0.01,
                "l1_regularization": 0.001,
                "remove_nan_gradients": True,
            },
            "unc": {
                "optimizer": "SGD",
                "optimizer_settings": {"learning_rate": 0.01, "momentum": 0.9},
                "vars": ["unc"],
                "loss_class": f"{LOSSES}.default_loss.gaussian_likelihood",
                "clip_gradients_value": 1.0,
            },
        },
        "ema_decay": 0.9,
    },
    "event weights, tukey, biased selection": {
        "label_scale_tukey": True,
        "event_weight_class": "functions_of_a_user.weigh_in_batch",
        "model_optimizer_dict": {
            "adam": {
                "optimizer_settings": {"learning_rate": 0.003},
                "loss_class": [
                    f"{LOSSES}.default_loss.tukey",
                    f"{LOSSES}.default_loss.gaussian_likelihood",
                ],
                "accumulate_steps": 2,
            }
        },
        "nn_biased_selection": {
            "biased_fraction": 0.3,
            "reload_frequency": 1,
            "max_size": 8,
            "true_minus_pred_greater": {"EnergyVisible": 0.0},
        },
        "num_add_files": 1,
        "num_repetitions": 2,
    },
    "two optimizers of one loss": {
        "model_optimizer_dict": {
            "likelihood": {
                "optimizer": "AdamW",
                "optimizer_settings": {"learning_rate": 0.003},
                "other_optimizers": {
                    "muon": {
                        "vars": "*",
                        "matrices_only": True,
                        "optimizer": "Muon",
                        "optimizer_settings": {"learning_rate": 0.01, "weight_decay": 0.1},
                    }
                },
                "loss_class": f"{LOSSES}.default_loss.gaussian_likelihood",
                "clip_gradients_value": 1.0,
                "accumulate_steps": 2,
            }
        },
    },
    "misc data in network and loss": {
        "data_handler_misc_class": "misc_plugins.load_energy_and_sign",
        "trafo_normalize_misc_data": True,
        "trafo_log_misc_bins": {"energy": True},
        "model_class": "misc_plugins.ReadsMisc",
        "model_kwargs": {"dropout": 0.0, "batch_norm": False},
        "model_optimizer_dict": {
            "sgd": {
                "optimizer": "SGD",
                # uncertainties, which the loss does not use, are not decayed
                "optimizer_settings": {"learning_rate": 0.01, "weight_decay": 0.1},
                "loss_class": "misc_plugins.loss_with_misc",
            }
        },
    },
}


def prepared(folder: Path, **changes: object) -> SmallRun:
    folder.mkdir()
    run = make_small_run(
        folder,
        float_precision="float64",
        **{"batch_size": 9, "num_training_iterations": 20, "save_frequency": 20, **changes},
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


def command(run: SmallRun, *options: str) -> list[str]:
    words = ["--device=cpu", "--num_threads=1", "--print-format=reference"]
    return ["train", str(run.config_file), *words, *options]


def tensors(run: SmallRun, iterations: int) -> dict[str, torch.Tensor]:
    folder = run.checkpoints / f"checkpoint-{iterations:08d}"
    return load_file(folder / "state.safetensors")


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_train_as_one_does(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (Path(__file__).parent, Path(__file__).parents[1]):
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    alone, together = (prepared(tmp_path / place, **SETTINGS[name]) for place in ("a", "b"))
    assert run_train(alone.config(), ON_CPU) == 0
    launch = [sys.executable, "-m", "dnn_reco", *command(together, "--processes", "2")]
    result = subprocess.run(launch, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    expected, found = tensors(alone, 20), tensors(together, 20)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-7, atol=1e-9, msg=key)
    # the first one alone tells: as much as one process
    assert result.stdout.count("Step: 00000000") == 1
    assert result.stderr.count("Training is done: 20 iterations") == 1


def wait_for(text: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def begin(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(
            words,
            stdout=file,
            stderr=file,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
        )


def workers_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Ids of the processes that a process has started (Linux)."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in children.read_text().split()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    run = prepared(
        tmp_path_factory.mktemp("uninterrupted") / "run", num_training_iterations=ITERATIONS
    )
    launch = [sys.executable, "-m", "dnn_reco", *command(run, "--processes", "2")]
    subprocess.run(launch, check=True, capture_output=True)
    return run


def test_processes_that_are_asked_to_stop_save(tmp_path: Path) -> None:
    run, log = prepared(tmp_path / "run", num_training_iterations=100000), tmp_path / "log"
    options = command(run, "--processes", "2", "--checkpoint-exit-code", "85")
    process = begin([sys.executable, "-m", "dnn_reco", *options], log)
    wait_for("Step: 00000020", log, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 85, log.read_text()
    assert log.read_text().count("SIGTERM: saving.") == 1
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    done = checkpoint.progress.iterations
    assert done > 20
    assert run_train(run.config(num_training_iterations=done + 2), ON_CPU) == 0
    assert tensors(run, done + 2)


@pytest.mark.long
def test_processes_that_were_asked_to_stop_go_on_as_if_never_stopped(
    tmp_path: Path, uninterrupted: SmallRun
) -> None:
    run, log = prepared(tmp_path / "run", num_training_iterations=ITERATIONS), tmp_path / "log"
    options = command(run, "--processes", "2", "--checkpoint-exit-code", "85")
    launch = [sys.executable, "-m", "dnn_reco", *options]
    process = begin(launch, log)
    wait_for("Step: 00000020", log, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 85, log.read_text()
    assert log.read_text().count("SIGTERM: saving.") == 1
    process = begin(launch, log)
    assert process.wait(timeout=120) == 0, log.read_text()
    first, second = (
        int(line.split(": ")[1])
        for line in (run.records / "training_steps.yaml").read_text().splitlines()
    )
    assert 20 < first < ITERATIONS
    assert first + second == ITERATIONS
    expected, found = tensors(uninterrupted, ITERATIONS), tensors(run, ITERATIONS)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find processes")
def test_torchrun_starts_again_after_a_process_was_killed(
    tmp_path: Path, uninterrupted: SmallRun
) -> None:
    run, log = prepared(tmp_path / "run", num_training_iterations=ITERATIONS), tmp_path / "log"
    module = ["-m", "dnn_reco", *command(run)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    process = begin([*torchrun, "--nproc_per_node=2", "--max_restarts=1", *module], log)
    wait_for("Step: 00000040", log, process)  # saved after the one before
    os.kill(workers_of(process)[1], signal.SIGKILL)
    assert process.wait(timeout=180) == 0, log.read_text()
    assert "Resuming from" in log.read_text()
    expected, found = tensors(uninterrupted, ITERATIONS), tensors(run, ITERATIONS)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find processes")
def test_no_process_goes_on_alone(tmp_path: Path) -> None:
    run, log = prepared(tmp_path / "run", num_training_iterations=100000), tmp_path / "log"
    process = begin([sys.executable, "-m", "dnn_reco", *command(run, "--processes", "2")], log)
    wait_for("Step: 00000020", log, process)
    workers = workers_of(process)
    os.kill(workers[1], signal.SIGKILL)
    assert process.wait(timeout=60) == 128 + signal.SIGKILL, log.read_text()
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert "another process of this training has ended" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_mistakes_are_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = prepared(tmp_path / "run", batch_size=1)
    assert run_processes(2, command(run)) == 1
    message = capfd.readouterr().err
    assert "a batch_size of 1 cannot be divided among 2 processes" in message
    assert "Traceback" not in message
