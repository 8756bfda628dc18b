"""Each loss in a real training, on made-up events that have all the labels."""

from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from loss_inputs import all_losses
from safetensors.torch import load_file
from small_run import ON_CPU, SmallRun, make_small_run

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.errors import ConfigError
from dnn_reco.nn.from_config import make_network, network_spec
from dnn_reco.transform import load_transformation

State: TypeAlias = dict[str, torch.Tensor]
LOSSES = "dnn_reco.modules.loss"
DIRECTION = [f"PrimaryDirection{axis}" for axis in "XYZ"]
PARTICLE = {
    **{f"pos_{axis}": f"Vertex{axis.upper()}" for axis in "xyz"},
    "time": "VertexTime",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Data, transformation model and event store of a run that trains all labels."""
    run = make_small_run(
        tmp_path_factory.mktemp("losses"),
        num_training_iterations=3,
        validation_frequency=1,
        label_weight_initialization=1.0,
        label_weight_dict={},
        label_particle_keys=PARTICLE,
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


def train(run: SmallRun, folder: Path, loss: dict[str, object], **changes: object) -> State:
    """State of a network after training it with a loss."""
    optimizer = {"optimizer": "Adam", "optimizer_settings": {"learning_rate": 0.01}, **loss}
    settings = {
        "model_optimizer_dict": {"a": optimizer},
        "model_checkpoint_path": str(folder / "checkpoints" / "model"),
        "log_path": str(folder / "logs"),
        **changes,
    }
    run_train(run.config(**settings), ON_CPU)
    checkpoint = load_latest(folder / "checkpoints" / "model")
    assert checkpoint is not None
    return load_file(checkpoint.path / "state.safetensors")


@pytest.mark.parametrize("name", all_losses())
def test_three_steps(
    name: str, prepared: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = train(prepared, tmp_path, {"loss_class": f"{LOSSES}.{name}"})
    assert "nan" not in capsys.readouterr().out
    config = prepared.config()
    spec = network_spec(config, load_transformation(Path(config.trafo.trafo_model_path)))
    initial = make_network(config, spec, torch.device("cpu")).state_dict()
    assert all(torch.isfinite(tensor.double()).all() for tensor in state.values())
    assert any(not torch.equal(state[f"network/{key}"], initial[key]) for key in initial)


def test_losses_of_several_files_are_summed(prepared: SmallRun, tmp_path: Path) -> None:
    names = ("default_loss.mse_and_cross_entropy", "track_loss.track_pos_mse")
    state = train(prepared, tmp_path, {"loss_class": [f"{LOSSES}.{name}" for name in names]})
    assert all(torch.isfinite(tensor.double()).all() for tensor in state.values())


def test_track_losses_know_the_true_direction_whether_it_is_trained_or_not(
    prepared: SmallRun, tmp_path: Path
) -> None:
    loss = {"loss_class": "dnn_reco.modules.loss.track_loss.track_pos_gaussian"}
    fixed = {"label_update_weights": False}
    states = [
        train(prepared, tmp_path / weights, loss, label_weight_dict=of_label, **fixed)
        for weights, of_label in (("all", {}), ("some", dict.fromkeys(DIRECTION, 0.0)))
    ]
    for name, tensor in states[0].items():
        if name.startswith("network/"):
            assert torch.equal(tensor, states[1][name]), name


@pytest.mark.parametrize(
    ("loss", "overrides", "message"),
    [
        (
            "track_loss.track_pos_mse",
            {"label_particle_keys": {**PARTICLE, "time": "VertexTim"}},
            r"model_optimizer_dict.a.loss_class 'dnn_reco.modules.loss.track_loss.track_pos_mse' "
            r"cannot be used: 'label_particle_keys.time' names 'VertexTim'.*mean 'VertexTime'\?",
        ),
        (
            "default_loss.opening_angle",
            {"label_weight_dict": {"PrimaryAzimuth": 0.0}},
            r"'PrimaryAzimuth' \('label_azimuth_key'\) has weight 0",
        ),
        (
            "classification_loss.focal_cross_entropy",
            {"label_weight_dict": {"p_starting": 0.0}},
            "'label_pid_keys'",
        ),
    ],
)
def test_what_a_loss_does_not_find_is_told_before_any_event_is_read(
    prepared: SmallRun, tmp_path: Path, loss: str, overrides: dict, message: str
) -> None:
    nowhere = {"training_data_file": str(tmp_path / "*.hdf5")}  # reading would tell this first
    with pytest.raises(ConfigError, match=message):
        classes = {"loss_class": f"dnn_reco.modules.loss.{loss}"}
        train(prepared, tmp_path, classes, **nowhere, **overrides)
