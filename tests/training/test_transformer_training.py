"""Training the transformer over hits: exact resumes, several processes, and learning at all."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_run import ON_CPU, SmallRun, make_small_run, run_of

from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.simulation.dataset import PlannedFile, write_file
from dnn_reco.simulation.settings import SimulationSettings

TRANSFORMER: dict[str, Any] = {
    "model_class": "dnn_reco.modules.models.dom_transformer.DomTransformer",
    "label_weight_dict": {
        "EnergyVisible": 1.0,
        "p_starting": 0.5,
        **{f"PrimaryDirection{axis}": 1.0 for axis in "XYZ"},
        **{f"Primary{angle}": 1.0 for angle in ("Zenith", "Azimuth")},
    },
    "model_optimizer_dict": {
        "likelihood": {
            "optimizer": "AdamW",
            "optimizer_settings": {"learning_rate": 0.003, "weight_decay": 0.01},
            "loss_class": "dnn_reco.modules.loss.density_loss.negative_log_likelihood",
            "clip_gradients_value": 1.0,
        }
    },
}
SMALL = {"width": 16, "num_layers": 2, "num_heads": 2, "hidden": 32}
EVERYTHING = {
    **SMALL,
    "dropout": 0.1,
    "max_tokens": 20,
    "relative_bias": True,
    "augmentation": {
        "drop_doms": 0.1,
        "noise_hits": 2.0,
        "jitter_times": 3.0,
        "scale_charges": 0.1,
        "vary_charges": 0.1,
        "rotate_events": "sixths",
    },
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    run = make_small_run(
        tmp_path_factory.mktemp("prepared"),
        **TRANSFORMER,
        model_kwargs=EVERYTHING,
        float_precision="float64",
        batch_size=9,
        num_training_iterations=12,
        save_frequency=6,
        ema_decay=0.9,
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


def tensors(run: SmallRun, iterations: int) -> dict[str, torch.Tensor]:
    return load_file(run.checkpoints / f"checkpoint-{iterations:08d}" / "state.safetensors")


@pytest.fixture(scope="module")
def alone(prepared: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    run = run_of(prepared, tmp_path_factory.mktemp("alone") / "run")
    assert run_train(run.config(), ON_CPU) == 0
    return run


def test_going_on_is_exact(prepared: SmallRun, alone: SmallRun, tmp_path: Path) -> None:
    run = run_of(prepared, tmp_path / "run")
    name = "checkpoint-00000006"
    shutil.copytree(alone.checkpoints / name, run.checkpoints / name)
    assert run_train(run.config(), ON_CPU) == 0
    expected, found = tensors(alone, 12), tensors(run, 12)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_two_processes_train_as_one_does(
    prepared: SmallRun, alone: SmallRun, tmp_path: Path
) -> None:
    run = run_of(prepared, tmp_path / "run")
    command = [sys.executable, "-m", "dnn_reco", "train", str(run.config_file), "--device=cpu"]
    result = subprocess.run(
        [*command, "--num_threads=1", "--processes=2"], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    expected, found = tensors(alone, 12), tensors(run, 12)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-7, atol=1e-9, msg=key)


def test_it_learns_the_direction_of_simulated_muons(tmp_path: Path) -> None:
    vector = [f"PrimaryDirection{axis}" for axis in "XYZ"]
    changes = {
        **TRANSFORMER,
        "model_kwargs": {"width": 32, "num_layers": 2},
        "label_keys_to_load": vector,
        "label_weight_dict": dict.fromkeys(vector, 1.0),
        "trafo_log_label_bins": False,
    }
    run = make_small_run(
        tmp_path,
        1,
        **changes,
        batch_size=32,
        trafo_num_batches=6,
        num_training_iterations=81,
    )
    settings = SimulationSettings(
        flavor="muon", energy=(3e3, 6e3), data_format="reduced_summary_statistics_data", seed=2
    )
    for number, name in enumerate(("train_0", "train_1", "validation")):
        write_file(settings, PlannedFile(tmp_path / f"{name}.hdf5", number, 100))
    run_trafo(run.config(), ON_CPU, overwrite=False)
    assert run_train(run.config(), ON_CPU) == 0
    lines = [json.loads(line) for line in (run.logs / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train"]["losses"]["likelihood"] for line in lines if "train" in line]
    knows_nothing = 2 * math.log(4 * math.pi)  # -2 ln p, were p the same everywhere
    assert losses[0] > knows_nothing - 0.5
    assert losses[-1] < knows_nothing - 2


def test_hits_left_out_are_told(
    prepared: SmallRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Among the figures of each validation, and at the end."""
    run = run_of(prepared, tmp_path / "run")
    config = run.config(model_kwargs={**SMALL, "max_tokens": 20}, num_training_iterations=1)
    with caplog.at_level("INFO", logger="dnn_reco"):
        assert run_train(config, ON_CPU) == 0
    (line,) = (run.logs / "metrics.jsonl").read_text().splitlines()
    share = json.loads(line)["machine"]["share_of_hits_truncated"]
    assert 0 < share < 1
    assert f"{100 * share:.2g} % of the hits were ignored" in caplog.text
