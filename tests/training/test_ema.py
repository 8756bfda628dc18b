"""The moving average of the weights: what it is, and where it is used."""

from pathlib import Path
from typing import Any

import pytest
import torch
from functions_of_a_user import seen
from safetensors.torch import load_file
from small_run import ON_CPU, SmallRun, make_small_run
from tiny_network import tiny

from dnn_reco.checkpoint_file import Checkpoint, load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.inference.trained_model import load_trained_model
from dnn_reco.training.ema import ExponentialMovingAverage

DECAY = 0.8
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    run = make_small_run(
        tmp_path_factory.mktemp("average"),
        40,
        **tiny(),
        num_training_iterations=6,
        save_frequency=1,
        validation_frequency=5,
        model_checkpoint_manager_kwargs={"max_to_keep": None},
        ema_decay=DECAY,
        evaluation_class="functions_of_a_user.keep_what_is_seen",
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    train(run)
    return run


def train(run: SmallRun, **changes: Any) -> Checkpoint:
    assert run_train(run.config(**changes), ON_CPU) == 0
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    return checkpoint


def weights_of_all_iterations(run: SmallRun) -> list[dict[str, torch.Tensor]]:
    folders = sorted(run.checkpoints.glob("checkpoint-*"))
    states = [load_file(folder / "state.safetensors") for folder in folders]
    return [
        {k.removeprefix("network/"): t for k, t in state.items() if k.startswith("network/")}
        for state in states
    ]


def test_it_is_the_weighted_mean_of_the_weights_of_all_iterations(run: SmallRun) -> None:
    """Running statistics of batch normalisation alike; their number of batches is only counted."""
    history = weights_of_all_iterations(run)
    shares = torch.tensor([DECAY ** (6 - i) for i in range(1, 7)], dtype=torch.float64)
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    average = checkpoint.section("ema")
    assert average.keys() == history[0].keys()
    for name in ("prediction", "uncertainty", "norm.running_mean", "norm.running_var"):
        values = torch.stack([weights[name].double() for weights in history], dim=-1)
        expected = (values * shares).sum(dim=-1) / shares.sum()
        torch.testing.assert_close(average[name].double(), expected, rtol=1e-6, atol=1e-7)
    assert average["norm.num_batches_tracked"] == 6


def test_it_predicts(run: SmallRun) -> None:
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    network = load_trained_model(run.config(), CPU).network
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, checkpoint.section("ema")[name]), name


def test_it_is_validated_and_the_training_does_not_notice(run: SmallRun) -> None:
    """The validation of iteration 5 came after six updates, as the last checkpoint."""
    predicted = seen["validated"]
    with torch.no_grad():
        prediction = load_trained_model(run.config(), CPU).network(predicted.batch.hits)
    assert torch.equal(prediction.labels_trafo, predicted.prediction.labels_trafo)


def test_the_weights_themselves_are_as_without_it(run: SmallRun, tmp_path: Path) -> None:
    folders = {"model_checkpoint_path": str(tmp_path / "model"), "log_path": str(tmp_path / "logs")}
    plain = run.config(ema_decay=None, **folders)
    assert run_train(plain, ON_CPU) == 0
    without, with_it = load_latest(tmp_path / "model"), load_latest(run.checkpoints)
    assert without is not None
    assert with_it is not None
    assert not without.section("ema")
    for name, tensor in without.section("network").items():
        assert torch.equal(tensor, with_it.section("network")[name]), name
    network = load_trained_model(plain, CPU).network
    assert torch.equal(network.state_dict()["prediction"], without.tensors["network/prediction"])


def test_switched_on_later_it_starts_with_the_weights_of_then(tmp_path: Path) -> None:
    run = make_small_run(tmp_path, 40, **tiny(), num_training_iterations=3)
    run_trafo(run.config(), ON_CPU, overwrite=False)
    train(run)
    one_more = train(run, num_training_iterations=4, ema_decay=0.999)
    average, network = one_more.section("ema"), one_more.section("network")
    assert torch.equal(average["prediction"], network["prediction"])


def test_weights_that_two_layers_share_come_back_as_they_were() -> None:
    shared = torch.nn.Linear(2, 2, bias=False)
    network: Any = torch.nn.Sequential(shared, shared)
    average = ExponentialMovingAverage(network, 0.5)
    with torch.no_grad():
        shared.weight.fill_(1.0)
        average.update()
        shared.weight.fill_(4.0)
    average.update()
    with average.in_network():
        assert shared.weight.tolist()[0][0] == pytest.approx((0.5 * 1 + 4) / 1.5)
    assert shared.weight.tolist()[0][0] == 4.0
