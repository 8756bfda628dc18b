"""A training that diverges stops, keeps the last good checkpoint and the batch, and says so."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from event_files import event_ids, random_events, write_events
from safetensors import safe_open
from safetensors.torch import load_file
from small_run import ON_CPU, SmallRun, make_small_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_network import SPOILT_ENERGY, tiny
from torch import Tensor

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train
from dnn_reco.errors import TrainingError
from dnn_reco.modules.loss.default_loss import mse
from dnn_reco.plugins import LossContext, Prediction, Truth
from dnn_reco.training import trainer
from dnn_reco.training.divergence import NonFiniteDetector, NonFiniteValue, divergence_error
from dnn_reco.training.gradients import Clipping

SPOILT = "tiny_network.loss_of_spoilt_events"
BATCHES_OF_AN_EPOCH = 10


def optimizer(loss: str = SPOILT, **settings: Any) -> dict[str, Any]:
    return {"only": {"loss_class": loss, **settings}}


@pytest.fixture
def run(tmp_path: Path) -> SmallRun:
    """80 training events, one of which spoils its batch; every iteration is saved."""
    run = make_small_run(
        tmp_path,
        40,
        **tiny(),
        num_training_iterations=BATCHES_OF_AN_EPOCH,
        validation_frequency=BATCHES_OF_AN_EPOCH,
        save_frequency=1,
        model_optimizer_dict=optimizer(),
        label_weight_dict={"EnergyVisible": 1.0, "PrimaryAzimuth": 0.5},
        trafo_log_label_bins=False,
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    events = random_events(0, 40, num_bins=3, run=0)
    events.labels["EnergyVisible"][17] = SPOILT_ENERGY
    write_events(tmp_path / "train_0.hdf5", events)
    return run


def error_of(run: SmallRun, **changes: Any) -> str:
    with pytest.raises(TrainingError) as caught:
        run_train(run.config(**changes), ON_CPU)
    return str(caught.value)


def batch_of(run: SmallRun) -> Path:
    (path,) = run.records.glob("diverged_batch_*.safetensors")
    return path


def assert_last_checkpoint_is_good(run: SmallRun) -> int:
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    for name, tensor in checkpoint.tensors.items():
        assert tensor.double().isfinite().all(), name
    return checkpoint.progress.iterations


@pytest.mark.parametrize("interval", [1, 5, 50])
def test_a_loss_that_is_not_finite(
    run: SmallRun, monkeypatch: pytest.MonkeyPatch, interval: int
) -> None:
    """Also where losses are looked at only now and then, as on a GPU."""
    monkeypatch.setattr(trainer, "check_interval", lambda device: interval)
    message = error_of(run, save_frequency=1 if interval < 50 else 10)
    path = batch_of(run)
    iteration = int(path.stem.rsplit("_", 1)[1])
    assert f"in iteration {iteration} the loss of 'only' is nan and the gradient norm" in message
    assert f"'{path}': 8 events" in message
    if interval < 50:
        assert assert_last_checkpoint_is_good(run) == iteration
        assert f"checkpoint-{iteration:08d}'" in message
    else:
        assert load_latest(run.checkpoints) is None
        assert "There is no checkpoint yet." in message


def test_the_batch_is_kept_for_study(run: SmallRun) -> None:
    error_of(run)
    path = batch_of(run)
    batch = load_file(path)
    number = batch["Event"][batch["labels"].amax(dim=1) == SPOILT_ENERGY]
    truth = random_events(0, 40, num_bins=3, run=0)
    assert number.tolist() == [truth.ids["Event"][17]]
    assert batch["hits/features"].shape == (len(batch["hits/dom"]), 3)
    assert batch["hits/event"].max() < 8
    assert {"Run", "SubEvent", "SubEventStream", "misc", "time_offset"} <= batch.keys()
    with safe_open(path, "pt") as file:
        assert '"EnergyVisible"' in file.metadata()["label_names"]


def test_the_same_command_comes_to_the_same_point_until_something_is_changed(run: SmallRun) -> None:
    first = error_of(run)
    reached = assert_last_checkpoint_is_good(run)
    assert error_of(run) == first
    assert assert_last_checkpoint_is_good(run) == reached
    mended = run.config(model_optimizer_dict=optimizer(remove_nan_gradients=True))
    assert run_train(mended, ON_CPU) == 0
    assert assert_last_checkpoint_is_good(run) == BATCHES_OF_AN_EPOCH


def test_a_gradient_that_overflows(run: SmallRun) -> None:
    """Squares of 1e25 are beyond single precision; the loss says nothing of it."""
    loss = "functions_of_a_user.steep_loss"
    message = error_of(run, model_optimizer_dict=optimizer(loss))
    assert "in iteration 0 the gradient norm of 'only' is inf." in message
    assert "clip_gradients_value: 1.0 in model_optimizer_dict (only)" in message


def test_a_step_that_is_too_large_is_not_saved(run: SmallRun) -> None:
    """Weights beyond single precision after a step on a loss that was finite."""
    flat = "functions_of_a_user.flat_loss"
    settings = {"optimizer": "SGD", "optimizer_settings": {"learning_rate": 1e39}}
    message = error_of(run, model_optimizer_dict=optimizer(flat, **settings))
    assert "in iteration 0 the weights prediction" in message
    assert "not finite" in message
    assert load_latest(run.checkpoints) is None


def test_advice_leaves_out_what_is_done_already(run: SmallRun) -> None:
    assert "clip_gradients_value" in error_of(run)
    clipped = optimizer(clip_gradients_value=1.0)
    message = error_of(run, model_optimizer_dict=clipped)
    assert "clip_gradients_value" not in message
    assert "remove_nan_gradients: True" in message
    assert "max_uncertainty_values" in message


def test_without_checkpoints_the_batch_lies_beside_the_logs(run: SmallRun) -> None:
    error_of(run, model_save_model=False)
    assert list(run.logs.glob("diverged_batch_*.safetensors"))
    assert not run.records.exists()


def test_removed_gradient_entries_are_counted(
    run: SmallRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """One batch of each epoch has a loss, and so a gradient, that is not a number."""
    settings = {
        "model_optimizer_dict": optimizer(remove_nan_gradients=True),
        "num_training_iterations": 3 * BATCHES_OF_AN_EPOCH + 1,
        "validation_frequency": 3 * BATCHES_OF_AN_EPOCH,
    }
    assert run_train(run.config(**settings), ON_CPU) == 0
    counts = [line for line in capsys.readouterr().out.splitlines() if "removed" in line]
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    # the gradient by the labels that are trained: 2 of the columns of each matrix, 3 features
    assert counts == ["\tgradient of only: 36 entries removed in 3 batches"]
    log = EventAccumulator(str(run.logs / "train"))
    log.Reload()
    values = [scalar.value for scalar in log.Scalars("removed_gradient_entries/only")]
    assert values == [0, 36]
    assert assert_last_checkpoint_is_good(run) == 3 * BATCHES_OF_AN_EPOCH + 1
    assert (checkpoint.tensors["label_weights/current"] > 0).sum() == 2


def test_weights_that_were_never_finite_are_no_divergence() -> None:
    weights = {"mask": torch.tensor([0.0, -torch.inf]), "weight": torch.ones(2)}
    watch = NonFiniteDetector(weights, 1)
    assert watch.check_weights(3) is None
    weights["weight"][1] = torch.nan
    found = watch.check_weights(3)
    assert found is not None
    assert found.what == "the weights weight are not finite"


@pytest.mark.parametrize(
    ("count", "named"), [(1, "w0"), (3, "w0, w1, w2"), (5, "w0, w1, w2 and 2 more")]
)
def test_at_most_three_weights_are_named(count: int, named: str) -> None:
    weights = {f"w{number}": torch.ones(2) for number in range(5)}
    watch = NonFiniteDetector(weights, 1)
    for number in range(count):
        weights[f"w{number}"][0] = torch.inf
    found = watch.check_weights(3)
    assert found is not None
    assert found.what == f"the weights {named} are not finite"


def own_loss(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    return (prediction.labels / truth.labels).mean(dim=0)


def test_the_whole_message() -> None:
    """Ten events, and two optimizers of which each does one thing already."""
    events = SimpleNamespace(ids=event_ids(10, run=7))
    clipped, unclipped = Clipping(global_norm=1.0), Clipping()
    objectives = [
        SimpleNamespace(name="a", clipping=clipped, gradient_filter=None, losses=(mse,)),
        SimpleNamespace(name="b", clipping=unclipped, gradient_filter=object(), losses=(own_loss,)),
    ]
    found = NonFiniteValue(41, "the loss of 'a' is nan")
    message = str(
        divergence_error(found, events, Path("b.safetensors"), objectives, Path("model/last"))  # type: ignore[arg-type]
    )
    assert message.splitlines() == [
        "the training diverged: in iteration 41 the loss of 'a' is nan. No state after the "
        "divergence was saved. The last checkpoint is kept: 'model/last'. With the same settings, "
        "the same command would resume from it and diverge again.",
        "The batch is in 'b.safetensors': 10 events (run/event 7/0, 7/1, 7/2, 7/3, 7/4, 7/5, 7/6, "
        "7/7 and 2 more).",
        "What helps:",
        "- a lower learning_rate, or a slow warm-up: dnn_reco.utils.learning_rate.WarmUp",
        "- clip_gradients_value: 1.0 in model_optimizer_dict (b)",
        "- remove_nan_gradients: True in model_optimizer_dict (a), if only a few events cause it",
        "- keep the arguments of logarithms and roots, and divisors, above 0, for example with "
        "clamp(min=1e-6) (own_loss)",
        "- model_kwargs.min_uncertainty_values and max_uncertainty_values, if the uncertainty "
        "diverges",
        "- check the events of the batch for labels or inputs far from all others",
    ]
    events.ids = events.ids[:8]
    for objective in objectives:
        objective.clipping, objective.gradient_filter = Clipping(global_norm=1.0), object()
    lines = str(
        divergence_error(found, events, Path("b.safetensors"), objectives, None)  # type: ignore[arg-type]
    ).splitlines()
    assert lines[0].endswith("No state after the divergence was saved. There is no checkpoint yet.")
    assert lines[1].endswith("8 events (run/event 7/0, 7/1, 7/2, 7/3, 7/4, 7/5, 7/6, 7/7).")
    assert len(lines) == 7
