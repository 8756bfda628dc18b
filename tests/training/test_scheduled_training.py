"""Learning-rate schedules in training: the rate of an iteration, whatever happened before it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import ON_CPU, SmallRun, make_small_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_network import tiny

from dnn_reco.checkpoint_file import load_latest
from dnn_reco.commands.trafo import run_trafo
from dnn_reco.commands.train import run_train

KERAS = "tensorflow.keras.optimizers.schedules"
LOSS = "dnn_reco.modules.loss.default_loss.gaussian_likelihood"


def schedule(name: str, **settings: Any) -> dict[str, Any]:
    return {"full_class_string": f"{KERAS}.{name}", "settings": settings}


def optimizer(rate: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"optimizer_settings": {"learning_rate": rate}, "loss_class": LOSS, **settings}


STAGES = {
    "full_class_string": "dnn_reco.utils.learning_rate.MultiLearningRateScheduler",
    "settings": {
        "boundaries": [3, 8],
        "scheduler_settings": [
            schedule(
                "PolynomialDecay",
                initial_learning_rate=0.0,
                decay_steps=3,
                end_learning_rate=0.03,
            ),
            schedule("CosineDecay", initial_learning_rate=0.03, decay_steps=5, alpha=0.5),
            schedule("ExponentialDecay", initial_learning_rate=0.01, decay_steps=2, decay_rate=0.5),
        ],
    },
}


@pytest.fixture
def run(tmp_path: Path) -> SmallRun:
    run = make_small_run(
        tmp_path, **tiny(batch_norm=False), num_training_iterations=14, validation_frequency=1
    )
    run_trafo(run.config(), ON_CPU, overwrite=False)
    return run


def train(run: SmallRun, iterations: int, restore: bool, **optimizers: Any) -> dict[str, Any]:
    config = run.config(
        num_training_iterations=iterations,
        model_restore_model=restore,
        model_optimizer_dict=optimizers,
        label_update_weights=False,
    )
    assert run_train(config, ON_CPU) == 0
    checkpoint = load_latest(run.checkpoints)
    assert checkpoint is not None
    assert checkpoint.progress.iterations == iterations
    return dict(checkpoint.tensors)


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def rates(run: SmallRun, name: str) -> list[float]:
    log = EventAccumulator(str(run.logs / "train"))
    log.Reload()
    return [scalar.value for scalar in log.Scalars(f"learning_rate/{name}")]


@pytest.mark.parametrize("stop", [2, 4, 6, 9])
def test_going_on_in_the_middle_of_a_schedule_is_exact(run: SmallRun, stop: int) -> None:
    whole = train(run, 12, False, main=optimizer(STAGES))
    train(run, stop, False, main=optimizer(STAGES))
    assert_same(train(run, 12, True, main=optimizer(STAGES)), whole)


def test_rates_of_all_iterations_and_optimizers(run: SmallRun) -> None:
    """Worked out by hand; the second optimizer keeps its own."""
    steps = schedule("PiecewiseConstantDecay", boundaries=[1, 4], values=[0.1, 0.2, 0.3])
    train(
        run, 11, False, main=optimizer(STAGES, vars="pred"), spread=optimizer(steps, vars=["unc"])
    )
    cosine = [0.75 + 0.25 * c for c in (0.809017, 0.309017, -0.309017, -0.809017, -1.0)]
    expected = [0.0, 0.01, 0.02, 0.03, *(0.03 * c for c in cosine), 0.01 * 0.5**0.5, 0.005]
    assert rates(run, "main") == pytest.approx(expected, rel=1e-5)
    assert rates(run, "spread") == pytest.approx([0.1] * 2 + [0.2] * 3 + [0.3] * 6)


def test_the_rate_of_an_iteration_is_that_of_its_step(run: SmallRun) -> None:
    """Iterations 0 … 3 move the weights, those from 4 on, of rate 0, do not."""
    steps = optimizer(schedule("PiecewiseConstantDecay", boundaries=[3], values=[0.01, 0.0]))

    def weights(iterations: int) -> dict[str, torch.Tensor]:
        state = train(run, iterations, False, main=steps)
        return {name: t for name, t in state.items() if name.startswith("network/")}

    three, four, ten = weights(3), weights(4), weights(10)
    assert_same(four, ten)
    assert not torch.equal(three["network/prediction"], four["network/prediction"])
