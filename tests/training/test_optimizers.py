"""Optimizers by the reference's and PyTorch's names: what their settings mean, as slow formulas."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from dnn_reco.errors import ConfigError
from dnn_reco.training.gradients import Clipping
from dnn_reco.training.optimizers import (
    check_optimizer,
    choose_optimizer,
    ema_decay,
    make_optimizer,
)

KERAS_SCHEDULE = "tensorflow.keras.optimizers.schedules.PolynomialDecay"


def make(name: str, start: list[float], **settings: Any) -> tuple[torch.nn.Parameter, Any]:
    weight = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    return weight, make_optimizer("key", choose_optimizer("key", name, settings), [weight])


def walk(name: str, **settings: Any) -> np.ndarray:
    """Three weights after each of 6 steps [6, 3], with gradients of quite different size."""
    weight, optimizer = make(name, [1.0, -2.0, 0.5], **settings)
    path = []
    for gradient in GRADIENTS:
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        path.append(weight.detach().numpy().copy())
    return np.array(path)


GRADIENTS = np.random.default_rng(3).normal(size=(6, 3)) * [1.0, 10.0, 0.1]
START = np.array([1.0, -2.0, 0.5])


# --------------------------------------------------------------------------------------------------
# The formulas of Keras, with its defaults
# --------------------------------------------------------------------------------------------------
def sgd(momentum: float, nesterov: bool) -> np.ndarray:
    weights, velocity, path = START.copy(), 0.0, []
    for gradient in GRADIENTS:
        velocity = momentum * velocity - 0.01 * gradient
        weights = weights + (momentum * velocity - 0.01 * gradient if nesterov else velocity)
        path.append(weights)
    return np.array(path)


def test_sgd() -> None:
    np.testing.assert_allclose(walk("SGD"), sgd(0.0, False), rtol=1e-12)
    np.testing.assert_allclose(walk("SGD", momentum=0.9), sgd(0.9, False), rtol=1e-12)
    nesterov = {"momentum": 0.9, "nesterov": True}
    np.testing.assert_allclose(walk("SGD", **nesterov), sgd(0.9, True), rtol=1e-12)
    older = {"momentum": 0.9, "use_nesterov": True, "use_locking": False}
    np.testing.assert_allclose(walk("Momentum", **older), sgd(0.9, True), rtol=1e-12)


@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop(centered: bool) -> None:
    """Keras has ε below the root: no difference where squares are far above it."""
    weights, square, mean, velocity, path = START.copy(), 0.0, 0.0, 0.0, []
    for gradient in GRADIENTS:
        square = 0.9 * square + 0.1 * gradient**2
        mean = 0.9 * mean + 0.1 * gradient
        variance = square - centered * mean**2
        velocity = 0.5 * velocity + 0.001 * gradient / np.sqrt(variance + 1e-12)
        weights = weights - velocity
        path.append(weights)
    settings = {"momentum": 0.5, "epsilon": 1e-12, "centered": centered}
    np.testing.assert_allclose(walk("RMSprop", **settings), path, rtol=1e-6)


def test_epsilon_below_a_root_in_keras_gives_the_same_step_where_the_gradient_vanishes() -> None:
    for name, scale in (("RMSprop", math.sqrt(0.1)), ("Adagrad", 1.0)):
        gradient, epsilon = 1e-9, 1e-6
        weight, optimizer = make(
            name,
            [0.0],
            learning_rate=1.0,
            epsilon=epsilon,
            **({"initial_accumulator_value": 0.0} if name == "Adagrad" else {}),
        )
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        expected = -gradient / math.sqrt((scale * gradient) ** 2 + epsilon)
        assert weight.item() == pytest.approx(expected, rel=1e-5)


def test_adagrad() -> None:
    weights, square, path = START.copy(), 0.1, []
    for gradient in GRADIENTS:
        square = square + gradient**2
        weights = weights - 0.001 * gradient / np.sqrt(square + 1e-7)
        path.append(weights)
    # PyTorch adds √ε to the root, and here that is at most 0.1 % of it
    np.testing.assert_allclose(walk("Adagrad") - START, np.array(path) - START, rtol=2e-3)


def test_adadelta() -> None:
    weights, square, change, path = START.copy(), 0.0, 0.0, []
    for gradient in GRADIENTS:
        square = 0.95 * square + 0.05 * gradient**2
        step = -np.sqrt(change + 1e-7) / np.sqrt(square + 1e-7) * gradient
        change = 0.95 * change + 0.05 * step**2
        weights = weights + 0.001 * step
        path.append(weights)
    np.testing.assert_allclose(walk("Adadelta"), path, rtol=1e-12)


@pytest.mark.parametrize("name", ["Adam", "adam"])
def test_adam(name: str) -> None:
    weights, mean, square, path = START.copy(), 0.0, 0.0, []
    for t, gradient in enumerate(GRADIENTS, 1):
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        unbiased = mean / (1 - 0.8**t), square / (1 - 0.99**t)
        weights = weights - 0.003 * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-7)
        path.append(weights)
    spelled = {"beta1": 0.8, "beta2": 0.99} if name == "adam" else {"beta_1": 0.8, "beta_2": 0.99}
    np.testing.assert_allclose(walk(name, learning_rate=0.003, **spelled), path, rtol=1e-10)


def test_adamax() -> None:
    weights, mean, largest, path = START.copy(), 0.0, 0.0, []
    for t, gradient in enumerate(GRADIENTS, 1):
        mean = 0.9 * mean + 0.1 * gradient
        largest = np.maximum(0.999 * largest, np.abs(gradient))
        weights = weights - 0.001 / (1 - 0.9**t) * mean / (largest + 1e-7)
        path.append(weights)
    np.testing.assert_allclose(walk("Adamax"), path, rtol=1e-8)


def test_nadam() -> None:
    def momentum(t: int) -> float:
        return 0.9 * (1 - 0.5 * 0.96**t)

    weights, mean, square, product, path = START.copy(), 0.0, 0.0, 1.0, []
    for t, gradient in enumerate(GRADIENTS, 1):
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        product *= momentum(t)
        ahead = momentum(t + 1) * mean / (1 - product * momentum(t + 1))
        now = (1 - momentum(t)) * gradient / (1 - product)
        weights = weights - 0.001 * (ahead + now) / (np.sqrt(square / (1 - 0.999**t)) + 1e-7)
        path.append(weights)
    np.testing.assert_allclose(walk("Nadam"), path, rtol=1e-6)


def test_adafactor() -> None:
    """For a vector: no factors. Its own step is relative to the size of the weights."""
    weights, square, path = START.copy(), 0.0, []
    for t, gradient in enumerate(GRADIENTS, 1):
        share = t**-0.8
        square = (1 - share) * square + share * (gradient**2 + 1e-30)
        update = gradient / np.sqrt(square)
        update /= max(1.0, np.sqrt(np.mean(update**2)) / 1.0)
        rate = max(1e-3, np.sqrt(np.mean(weights**2))) * min(0.001, 1 / math.sqrt(t))
        weights = weights - rate * update
        path.append(weights)
    settings = {"epsilon_1": 1e-30, "clip_threshold": 1.0, "relative_step": True}
    np.testing.assert_allclose(walk("Adafactor", **settings), path, rtol=1e-10)
    np.testing.assert_allclose(walk("Adafactor"), path, rtol=1e-10)


# --------------------------------------------------------------------------------------------------
# What a config may say
# --------------------------------------------------------------------------------------------------
def test_pytorch_spelling_is_taken_as_it_is() -> None:
    _, optimizer = make("RMSprop", [0.0], lr=0.1, alpha=0.5, eps=1e-3)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["alpha"], group["eps"]) == (0.1, 0.5, 1e-3)
    _, optimizer = make("Adam", [0.0], betas=[0.5, 0.6], foreach=True)
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)
    assert optimizer.param_groups[0]["foreach"]


def test_one_of_two_numbers_leaves_the_other_at_its_default() -> None:
    _, adam = make("Adam", [0.0], beta_1=0.8)
    assert adam.param_groups[0]["betas"] == (0.8, 0.999)
    _, adafactor = make("Adafactor", [0.0], epsilon_2=0.01)
    assert adafactor.param_groups[0]["eps"] == (1e-15, 0.01)


def test_defaults_are_those_of_keras_or_else_of_pytorch() -> None:
    rates = {
        name: make(name, [0.0])[1].param_groups[0]["lr"]
        for name in ("SGD", "Adam", "RMSprop", "Adadelta", "Nadam", "ASGD", "RAdam")
    }
    assert rates == {
        "SGD": 0.01,
        "Adam": 0.001,
        "RMSprop": 0.001,
        "Adadelta": 0.001,
        "Nadam": 0.001,
        "ASGD": 0.01,
        "RAdam": 0.001,
    }
    decays = {n: choose_optimizer("key", n, {}).weight_decay for n in ("Adam", "AdamW", "Muon")}
    assert decays == {"Adam": 0.0, "AdamW": 0.004, "Muon": 0.1}


def test_the_first_rate_of_a_schedule() -> None:
    settings = {"initial_learning_rate": 0.3, "decay_steps": 7}
    rate = {"full_class_string": KERAS_SCHEDULE, "settings": settings}
    assert make("Adam", [0.0], learning_rate=rate)[1].param_groups[0]["lr"] == 0.3
    with pytest.raises(ConfigError, match="Rprop uses the learning rate only in its first step"):
        make("Rprop", [0.0], learning_rate=rate)


def test_settings_that_are_ours() -> None:
    settings = {"clipnorm": 1.0, "clipvalue": 0.5, "global_clipnorm": 3, "weight_decay": 0.02}
    choice = choose_optimizer("key", "SGD", settings)
    assert choice.clipping == Clipping(3.0, 1.0, 0.5)
    assert choice.clipping.at_most(2.0).global_norm == 2.0
    assert choice.clipping.at_most(None).global_norm == 3.0
    assert choice.weight_decay == 0.02
    assert make("SGD", [0.0], **settings)[1].param_groups[0]["weight_decay"] == 0.0


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Muon", "Adafactor", "RAdam", "SGD"])
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.3}])
def test_the_decay_of_pytorch_is_off_beside_ours(name: str, settings: dict[str, Any]) -> None:
    """A step without gradient leaves the weights: ours is not part of the optimizer."""
    weight = torch.nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))
    before = weight.detach().clone()
    optimizer = make_optimizer("key", choose_optimizer("key", name, settings), [weight])
    weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert torch.equal(weight, before)


def test_settings_without_effect() -> None:
    settings = {"name": "mine", "jit_compile": True, "clipnorm": None, "loss_scale_factor": None}
    choice = choose_optimizer("model_optimizer_dict.a", "Adam", settings)
    assert choice.ignored == ("name", "jit_compile", "loss_scale_factor")


@pytest.mark.parametrize(
    ("optimizer", "settings", "message"),
    [
        ("Adamm", {}, r"no optimizer 'Adamm'.*Adadelta, Adafactor.*SGD$"),
        ("LBFGS", {}, "'LBFGS' cannot be used: it evaluates the loss several times"),
        ("SparseAdam", {}, "sparse gradients"),
        ("Optimizer", {}, "no optimizer 'Optimizer'"),
        ("Adam", {"learning_rat": 1}, "no setting 'learning_rat'.*beta_1.*epsilon.*lr"),
        ("Adam", {"rho": 0.9}, "no setting 'rho'"),
        ("Adam", {"params": []}, "no setting 'params'"),
        ("SGD", {"epsilon": 1e-7}, "no setting 'epsilon'"),
        ("Adam", {"epsilon_1": 1e-7}, "no setting 'epsilon_1'"),
        ("Adam", {"relative_step": True}, "no setting 'relative_step'"),
        ("Adam", {"capturable": True}, "no setting 'capturable'"),
        ("Adam", {"learning_rate": -1.0}, "learning rate"),
        ("Adam", {"learning_rate": {"full_class_string": "x"}}, "optimizer_settings.learning_rate"),
        ("Adam", {"learning_rate": 1.0, "lr": 1.0}, "'learning_rate' and 'lr' are two spellings"),
        ("Adam", {"beta_1": 0.9, "betas": [0.9, 0.9]}, "'beta_1' and 'betas' are two spellings"),
        ("Adam", {"betas": [0.9, 0.9], "beta_2": 0.9}, "'betas' and 'beta_2' are two spellings"),
        ("Adam", {"clipnorm": 0}, r"my_key\.optimizer_settings: 'clipnorm' is 0 .*allowed"),
        ("Adam", {"weight_decay": -1}, "'weight_decay' is -1 .*allowed: a number >= 0"),
        ("Adam", {"decoupled_weight_decay": False}, "l2_regularization"),
        ("Adam", {"decay": 0.1}, "InverseTimeDecay"),
        ("Adam", {"gradient_accumulation_steps": 4}, "accumulate_steps"),
        ("Adam", {"loss_scale_factor": 8.0}, "loss scaling is not used"),
        ("Adam", {"ema_overwrite_frequency": 10}, "ema_decay"),
        ("RMSprop", {"epsilon": "small"}, "'epsilon' is 'small'"),
        ("Adafactor", {"epsilon": 1e-3}, "rejects these optimizer_settings"),
        ("Muon", {}, "optimizer_settings or weights: Muon only supports 2D"),
    ],
)
def test_mistakes_are_named(optimizer: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        choice = choose_optimizer("my_key", optimizer, settings)
        make_optimizer("my_key", choice, [torch.nn.Parameter(torch.ones(1))])
    assert "my_key" in str(caught.value)


def test_moving_average_of_the_weights_by_either_key() -> None:
    keras = {"use_ema": True, "ema_momentum": 0.9}
    assert ema_decay(None, {"a": {}, "b": {"ema_momentum": 0.9}}) is None
    assert ema_decay(0.99, {"a": {}}) == 0.99
    assert ema_decay(None, {"a": keras, "b": keras}) == 0.9
    assert ema_decay(0.9, {"a": keras}) == 0.9
    assert ema_decay(None, {"a": {"use_ema": True}}) == 0.99
    for given, settings in [
        (None, {"a": keras, "b": {}}),
        (None, {"a": keras, "b": {"use_ema": True}}),
        (0.5, {"a": keras}),
        (None, {"a": {"use_ema": True, "ema_momentum": 1}}),
    ]:
        with pytest.raises(ConfigError, match="ema_"):
            ema_decay(given, settings)


def test_names_of_pytorch() -> None:
    for name, expected in (("adam", "Adam"), ("SGD", "SGD"), ("Momentum", "SGD"), ("Ftrl", "")):
        if expected:
            assert check_optimizer("key", name, {}) == (expected, ())
        else:
            with pytest.raises(ConfigError, match=name):
                check_optimizer("key", name, {})
    with pytest.raises(ConfigError, match="beta"):
        check_optimizer("key", "Adam", {"beta_1": 1.0})


def test_a_momentum_of_an_average_that_is_off_has_no_effect() -> None:
    choice = choose_optimizer("key", "Adam", {"ema_momentum": 0.5, "use_ema": False})
    assert "ema_momentum" in choice.ignored
