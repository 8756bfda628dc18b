"""A whole training on a small scale: data files, a config, and a network of a few weights."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from event_files import random_events, write_events
from ruamel.yaml import YAML
from torch import nn

from dnn_reco.config import Config, load_config
from dnn_reco.run_options import RunOptions

ON_CPU = RunOptions(device="cpu", num_threads=1, print_format="reference")

BRANCH = {
    "num_filters_list": [2, 2],
    "pooling_type_list": [False, "avg"],
    "pooling_strides_list": [1, 1, 4, 1],
    "pooling_ksize_list": [1, 1, 4, 1],
    "use_dropout_list": True,
    "padding_list": "SAME",
    "strides_list": [1, 1, 1, 1],
    "use_batch_normalisation_list": False,
    "activation_list": "elu",
    "use_residual_list": True,
}
MODEL_CLASS = "dnn_reco.modules.models.general_IC86_cnn.GeneralIC86CNN"
MODEL_KWARGS = {
    "keep_prob_dom": 0.9,
    "keep_prob_fc": 0.9,
    "conv_upper_deepcore_settings": {
        **BRANCH,
        "filter_size_list": [[1, 3], [1, 3]],
        "method_list": "convolution",
    },
    "conv_lower_deepcore_settings": {
        **BRANCH,
        "filter_size_list": [[1, 3], [1, 3]],
        "method_list": "convolution",
    },
    "conv_ic78_settings": {
        **BRANCH,
        "filter_size_list": [[2, 0, 3], [2, 0, 3]],
        "pooling_strides_list": [1, 2, 2, 8, 1],
        "pooling_ksize_list": [1, 2, 2, 8, 1],
        "strides_list": [1, 1, 1, 1, 1],
        "method_list": "hex_convolution",
    },
    "fc_settings": {
        "fc_sizes": [8, -1],
        "use_dropout_list": [True, False],
        "activation_list": ["elu", ""],
        "use_batch_normalisation_list": False,
        "use_residual_list": [False, True],
    },
    "fc_unc_settings": {
        "fc_sizes": [8, -1],
        "use_dropout_list": [True, False],
        "activation_list": ["elu", ""],
        "use_batch_normalisation_list": False,
        "use_residual_list": False,
    },
}


@dataclass(frozen=True)
class SmallRun:
    """A folder with data and a config that trains in seconds."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "small.yaml"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints" / "small" / "model"

    @property
    def records(self) -> Path:
        return self.checkpoints.parent

    @property
    def logs(self) -> Path:
        return self.folder / "logs" / "small"

    def config(self, **overrides: object) -> Config:
        return load_config([self.config_file], overrides)


def make_small_run(folder: Path, num_events: int = 60, **changes: object) -> SmallRun:
    """Write two training files, a validation file and a config; `changes` replace config keys."""
    run = SmallRun(folder)
    for name, seed in (("train_0", 0), ("train_1", 1), ("validation", 2)):
        write_events(folder / f"{name}.hdf5", random_events(seed, num_events, num_bins=3, run=seed))
    training, validation = [str(folder / "train_*.hdf5")], [str(folder / "validation.hdf5")]
    settings = {
        "unique_name": "small",
        "training_data_file": training,
        "trafo_data_file": training,
        "validation_data_file": validation,
        "test_data_file": validation,
        "batch_size": 8,
        "log_path": str(run.logs),
        "data_handler_num_bins": 3,
        "data_handler_label_key": "LabelsDeepLearning",
        "label_weight_dict": {"EnergyVisible": 1.0, "PrimaryAzimuth": 0.5},
        "label_azimuth_key": "PrimaryAzimuth",
        "label_zenith_key": "PrimaryZenith",
        "label_dir_x_key": "PrimaryDirectionX",
        "label_dir_y_key": "PrimaryDirectionY",
        "label_dir_z_key": "PrimaryDirectionZ",
        "label_pid_keys": ["p_starting"],
        "trafo_num_batches": 10,
        "trafo_model_path": str(folder / "trafo" / "models" / "small.npy"),
        "trafo_log_dom_bins": [True, False, False],
        "trafo_log_label_bins": {"EnergyVisible": True, "PrimaryEnergy": True},
        "num_training_iterations": 60,
        "validation_frequency": 20,
        "save_frequency": 30,
        "model_class": MODEL_CLASS,
        "model_kwargs": MODEL_KWARGS,
        "model_checkpoint_path": str(run.checkpoints),
        "model_optimizer_dict": {
            "adam": {
                "optimizer": "Adam",
                "optimizer_settings": {"learning_rate": 0.01},
                "loss_class": "dnn_reco.modules.loss.default_loss.gaussian_likelihood",
                "clip_gradients_value": 1.0,
            }
        },
        **changes,
    }
    with run.config_file.open("w") as file:
        YAML(typ="safe", pure=True).dump(settings, file)
    return run


def run_of(prepared: SmallRun, folder: Path) -> SmallRun:
    """A run on the prepared data that writes to a folder of its own."""
    folder.mkdir(exist_ok=True)
    run = SmallRun(folder)
    text = prepared.config_file.read_text()
    for name in ("checkpoints", "logs"):
        text = text.replace(str(prepared.folder / name), str(folder / name))
    run.config_file.write_text(text)
    return run


@contextmanager
def signal_while_training(
    network: type[nn.Module], calls: int, number: signal.Signals
) -> Iterator[None]:
    """Send this process a signal in the n-th forward pass of the networks of a class."""
    forward, count = network.forward, itertools.count(1)

    def interrupted(self: nn.Module, *inputs: object) -> object:
        if next(count) == calls:
            os.kill(os.getpid(), number)
        return forward(self, *inputs)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(network, "forward", interrupted)
        yield


def start(run: SmallRun, *options: str) -> subprocess.Popen[str]:
    """A training as a process of its own."""
    command = [sys.executable, "-m", "dnn_reco", "train", str(run.config_file), "--num_threads=1"]
    return subprocess.Popen(
        [*command, "--device=cpu", "--print-format=reference", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
