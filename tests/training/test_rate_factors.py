"""Factors of the learning rate by part of the network."""

import numpy as np
import pytest
import torch
from torch import nn

from dnn_reco.errors import ConfigError
from dnn_reco.training.gradients import GradientAccumulator
from dnn_reco.training.objectives import Objective
from dnn_reco.training.optimizers import choose_optimizer, make_optimizer
from dnn_reco.training.rate_factors import by_factor, optimizer_groups, rate_factors
from dnn_reco.training.scheduled_optimizer import ScheduledOptimizer

NAMES = ("embedding.weight", "blocks.0.weight", "blocks.1.weight", "head.weight")
GROUPS = {"pred": NAMES[:3], "unc": NAMES[3:]}


def test_groups_and_patterns_the_last_one_counts() -> None:
    factors = {"pred": 0.5, "blocks.?.*": 0.1, "*.1.weight": 0.0}
    expected = dict(zip(NAMES, (0.5, 0.1, 0.0, 1.0), strict=True))
    assert rate_factors("key", factors, NAMES, GROUPS) == expected
    assert set(rate_factors("key", {}, NAMES, GROUPS).values()) == {1.0}


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"blocks.2.*": 0.1}, r"key names 'blocks.2.\*', .* groups pred, unc, .*head.weight"),
        ({"Blocks.*": 0.1}, "names 'Blocks"),
        ({"unc": 0.5, "*": 0.0}, "key freezes all parameters"),
    ],
)
def test_mistakes(factors: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rate_factors("key", factors, NAMES, GROUPS)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_steps_are_scaled(weight_decay: float) -> None:
    """Plain gradient descent with decay d at the rate r times a factor f: v (1 - f r d) - f r g."""
    start = {name: torch.full((2,), 1.0 + i) for i, name in enumerate(NAMES)}
    parameters = {name: nn.Parameter(value.clone()) for name, value in start.items()}
    factors = dict(zip(NAMES, (0.5, 0.0, 0.5, 2.0), strict=True))
    parts = by_factor(parameters, factors)
    trained = {name: p for part in parts.values() for name, p in part.items()}
    assert list(trained) == [NAMES[0], NAMES[2], NAMES[3]]
    choice = choose_optimizer("key", "SGD", {"learning_rate": 0.1, "weight_decay": weight_decay})
    optimizer = ScheduledOptimizer(
        "sgd",
        "key",
        make_optimizer("key", choice, optimizer_groups(parts)),
        trained,
        choice.schedule,
        choice.weight_decay,
    )
    objective = Objective("sgd", (optimizer,), (), 0.0, 0.0, GradientAccumulator(trained, 1))
    objective.set_learning_rate(3)
    objective.step(tuple(torch.full((2,), 4.0) for _ in trained))
    for name, factor in factors.items():
        rate = 0.1 * factor
        expected = start[name] * (1 - rate * weight_decay) - rate * 4.0
        np.testing.assert_allclose(parameters[name].detach(), expected, rtol=1e-6)
