"""Losses, penalties, clipping and optimizers."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dnn_reco.errors import ConfigError
from dnn_reco.modules.loss.interface import LossContext, Truth
from dnn_reco.nn.interface import LabelKeys, Prediction
from dnn_reco.training.gradients import Clipping, GradientAccumulator, NonFiniteGradientFilter
from dnn_reco.training.loss_inputs import LossInputs
from dnn_reco.training.objectives import Objective
from dnn_reco.training.optimizers import choose_optimizer, make_optimizer
from dnn_reco.training.scheduled_optimizer import ScheduledOptimizer
from dnn_reco.utils.learning_rate import ConstantRate, PiecewiseConstantDecay


def make_objective(parameter: torch.nn.Parameter, **changes: object) -> Objective:
    settings: dict[str, object] = {
        "name": "test",
        "optimizers": (by(torch.optim.SGD([parameter], lr=1.0), parameter),),
        "losses": (squared,),
        "l1": 0.0,
        "l2": 0.0,
        "accumulator": GradientAccumulator({"weight": parameter}),
    }
    return Objective(**(settings | changes))  # type: ignore[arg-type]


def by(
    optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, **changes: Any
) -> ScheduledOptimizer:
    """An optimizer of one weight."""
    settings = {"schedule": ConstantRate(1.0), **changes}
    return ScheduledOptimizer(
        "test", "model_optimizer_dict.test", optimizer, {"weight": parameter}, **settings
    )


def squared(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    return ((prediction.labels_trafo - truth.labels_trafo) ** 2).mean(dim=0)


def absolute(prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
    return (prediction.labels_trafo - truth.labels_trafo).abs().mean(dim=0)


def inputs(values: Tensor) -> LossInputs:
    zeros = torch.zeros_like(values)
    prediction = Prediction(values, zeros + 1, values, zeros + 1, zeros)
    context = LossContext(("a", "b"), LabelKeys(), values, None, torch.ones(2))
    return LossInputs(prediction, Truth(zeros, zeros), context)


def test_losses_of_a_list_are_summed_and_weighted_by_label() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, -3.0]))
    objective = make_objective(weight, losses=(squared, absolute))
    values = weight.expand(2, 2)
    loss, total = objective.loss(inputs(values), torch.tensor([0.5, 2.0]))
    assert loss.item() == pytest.approx(0.5 * (1 + 1) + 2.0 * (9 + 3))
    assert total.item() == loss.item()


def test_penalties_are_multiplied_by_their_strength() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, -3.0]))
    objective = make_objective(weight, l1=0.1, l2=0.01)
    loss, total = objective.loss(inputs(weight.expand(2, 2)), torch.ones(2))
    assert (total - loss).item() == pytest.approx(0.1 * 4 + 0.01 * 10, rel=1e-5)


def test_gradient_is_clipped_to_its_global_norm() -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
    objective = make_objective(weight, clipping=Clipping(global_norm=1.0))
    norm = objective.step([torch.tensor([6.0, 8.0])])
    assert norm.item() == pytest.approx(10.0)
    np.testing.assert_allclose(weight.detach(), [3.0 - 0.6, -4.0 - 0.8], rtol=1e-5)


def test_a_small_gradient_is_not_clipped() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    make_objective(weight, clipping=Clipping(global_norm=1.0)).step([torch.tensor([0.3, 0.4])])
    np.testing.assert_allclose(weight.detach(), [-0.3, -0.4], rtol=1e-6)


def test_gradients_that_are_no_numbers_are_removed_on_request() -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    bad = torch.tensor([1.0, float("nan"), float("inf")])
    gradient_filter = NonFiniteGradientFilter(torch.device("cpu"))
    make_objective(weight, gradient_filter=gradient_filter).step([bad])
    assert weight.detach().tolist() == [-1.0, 0.0, 0.0]


def test_an_objective_changes_its_own_parameters_only() -> None:
    mine, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    objective = make_objective(mine)
    values = (mine * other).expand(2, 2)
    _, total = objective.loss(inputs(values), torch.ones(2))
    objective.step(objective.gradient(total, keep_graph=False))
    assert mine.detach().tolist() != [1.0, 1.0]
    assert other.detach().tolist() == [1.0, 1.0]
    assert other.grad is None


def test_the_learning_rate_follows_the_schedule() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    schedule = PiecewiseConstantDecay([0, 1], [1.0, 0.1, 0.01])
    optimizer = by(torch.optim.SGD([weight], lr=1.0), weight, schedule=schedule)
    objective = make_objective(weight, optimizers=(optimizer,))
    for iteration in range(4):
        objective.set_learning_rate(iteration)
        objective.step([torch.ones(1)])
    assert weight.item() == pytest.approx(-(1.0 + 0.1 + 0.01 + 0.01))
    assert [optimizer.learning_rate(i) for i in (0, 1, 5)] == [1.0, 0.1, 0.01]


def test_a_learning_rate_that_is_a_tensor_is_changed_in_place() -> None:
    """Captured graphs of a GPU read it from where it lies."""
    weight = torch.nn.Parameter(torch.zeros(1))
    rate = torch.tensor(1.0)
    optimizer = torch.optim.Adam([weight], lr=rate, capturable=False, foreach=False)
    scheduled = by(optimizer, weight, schedule=ConstantRate(0.25))
    objective = make_objective(weight, optimizers=(scheduled,))
    objective.set_learning_rate(3)
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.25


def test_a_loss_that_depends_on_none_of_the_parameters_is_told() -> None:
    mine, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    for values in (other.expand(2, 2), torch.ones(2, 2)):
        objective = make_objective(mine)
        _, total = objective.loss(inputs(values), torch.ones(2))
        with pytest.raises(ConfigError, match=r"model_optimizer_dict\.test.*other vars"):
            objective.gradient(total, keep_graph=False)


@pytest.mark.parametrize("rate", [0.5, torch.tensor(0.5)])
def test_weights_decay_apart_from_the_gradient(rate: float | Tensor) -> None:
    """w (1 - rate · decay) - rate · g."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.SGD([weight], lr=rate)
    objective = make_objective(weight, optimizers=(by(optimizer, weight, weight_decay=0.1),))
    objective.step([torch.tensor([1.0, 1.0])])
    assert weight.tolist() == pytest.approx([0.95 - 0.5, -1.9 - 0.5])


def test_one_step_on_the_mean_gradient_of_several_batches() -> None:
    """Three batches: a clipped step on their mean; the norm told is that of the mean so far."""
    weight = torch.nn.Parameter(torch.zeros(2))
    objective = make_objective(
        weight,
        accumulator=GradientAccumulator({"weight": weight}, 3),
        clipping=Clipping(global_norm=1.0),
    )
    norms = []
    for gradient in ([3.0, 0.0], [0.0, 4.0], [6.0, 8.0]):
        assert weight.tolist() == [0.0, 0.0]
        norms.append(objective.step([torch.tensor(gradient)]).item())
    assert norms == pytest.approx([3.0, 2.5, 5.0])
    assert weight.tolist() == pytest.approx([-0.6, -0.8], rel=1e-5)
    objective.step([torch.tensor([1.0, 0.0])])  # the next mean starts from nothing
    assert weight.tolist() == pytest.approx([-0.6, -0.8], rel=1e-5)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_gradients_may_lie_in_memory_in_another_order(name: str) -> None:
    """Convolutions give gradients whose first axis runs fastest, say."""
    gradient = torch.arange(1.0, 7.0).view(3, 2).T / 10
    steps = []
    for layout in (gradient, gradient.contiguous()):
        weight = torch.nn.Parameter(torch.zeros(2, 3))
        choice = choose_optimizer("test", name, {"learning_rate": 1.0})
        optimizer = make_optimizer("test", choice, [weight])
        objective = make_objective(weight, optimizers=(by(optimizer, weight),))
        for factor in (1, -3):
            objective.step([layout * factor])
        steps.append(weight.detach())
    assert gradient.stride() != gradient.contiguous().stride()
    assert torch.equal(*steps)
