"""What is minimised: optimizers, each with its own loss and its own parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dnn_reco.errors import ConfigError
from dnn_reco.modules.loss.interface import Loss, LossContext, Truth
from dnn_reco.nn.interface import Prediction
from dnn_reco.utils.learning_rate import ConstantRate, Schedule, make_schedule, rate_at

_OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "SGD": torch.optim.SGD,
}
# The reference's default, where PyTorch has 1e-8.
_DEFAULTS: dict[str, dict[str, Any]] = {"Adam": {"eps": 1e-7}, "AdamW": {"eps": 1e-7}}
_SPELLINGS = {"learning_rate": "lr", "epsilon": "eps"}
_DEFAULT_LEARNING_RATE = 0.001
_RATE_KEY = "optimizer_settings.learning_rate"
# Ways to compute the same step, of which PyTorch takes one; all parameters at once is the fastest.
_IMPLEMENTATIONS = {"foreach", "fused", "differentiable"}


@dataclass(frozen=True)
class Objective:
    """One optimizer of `model_optimizer_dict`.

    Attributes
    ----------
    name
        Its name in the config.
    optimizer
        The optimizer, over `parameters`.
    parameters
        What it changes, by name.
    losses
        Loss functions, summed.
    l1, l2
        Strengths of the penalties Σ|v| and Σv² over the parameters.
    clip
        Global norm to which the gradient is clipped; None leaves it as it is.
    remove_nan
        Whether gradient entries that are not finite become 0.
    schedule
        Learning rate by iteration, which counts from 0.
    """

    name: str
    optimizer: torch.optim.Optimizer
    parameters: Mapping[str, nn.Parameter]
    losses: tuple[Loss, ...]
    l1: float
    l2: float
    clip: float | None
    remove_nan: bool
    schedule: Schedule

    def learning_rate(self, iteration: int) -> float:
        """The learning rate of an iteration: the same whatever happened before it."""
        return rate_at(f"model_optimizer_dict.{self.name}.{_RATE_KEY}", self.schedule, iteration)

    def set_learning_rate(self, iteration: int) -> None:
        """Prepare the optimizer for the step of an iteration."""
        rate = self.learning_rate(iteration)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def label_losses(self, prediction: Prediction, truth: Truth, context: LossContext) -> Tensor:
        """Loss of each label [L], without its weight.

        `prediction` and `truth` must be finite in labels of weight 0 as well
        (:func:`dnn_reco.modules.loss.residual.mask_untrained`).
        """
        return sum((loss(prediction, truth, context) for loss in self.losses), torch.zeros(()))

    def loss(
        self, prediction: Prediction, truth: Truth, context: LossContext, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Weighted loss of the trained labels, without and with the penalties (two scalars)."""
        weighted = (weights * self.label_losses(prediction, truth, context)).sum()
        total = weighted
        values = list(self.parameters.values())
        if self.l1:
            total = total + self.l1 * sum((v.abs().sum() for v in values), torch.zeros(()))
        if self.l2:
            total = total + self.l2 * sum((v.square().sum() for v in values), torch.zeros(()))
        return weighted, total

    def gradient(self, total: Tensor, keep_graph: bool) -> tuple[Tensor | None, ...]:
        """Gradient of the loss with respect to the parameters; None where it does not depend."""
        return torch.autograd.grad(
            total, list(self.parameters.values()), retain_graph=keep_graph, allow_unused=True
        )

    def step(self, gradient: Sequence[Tensor | None]) -> Tensor:
        """Change the parameters; returns the global norm of the gradient before clipping."""
        parameters = list(self.parameters.values())
        for parameter, part in zip(parameters, gradient, strict=True):
            parameter.grad = (
                part if part is None or not self.remove_nan else part.nan_to_num(0, 0, 0)
            )
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm


def learning_rate_schedule(key: str, settings: Mapping[str, Any]) -> Schedule:
    """The learning rate by iteration that the settings of an optimizer ask for.

    Parameters
    ----------
    key
        Where the optimizer stands in the config, for messages.
    settings
        Its settings: the learning rate is a number, or a schedule.

    Raises
    ------
    ConfigError
        If there is no such schedule, or it does not take its settings.
    """
    rate = settings.get("learning_rate", settings.get("lr", _DEFAULT_LEARNING_RATE))
    if isinstance(rate, int | float):
        return ConstantRate(rate)
    return make_schedule(f"{key}.{_RATE_KEY}", rate)


def make_optimizer(
    key: str, optimizer: str, settings: Mapping[str, Any], parameters: Sequence[nn.Parameter]
) -> torch.optim.Optimizer:
    """An optimizer by the reference's or PyTorch's name.

    Parameters
    ----------
    key
        Where it stands in the config, for messages.
    optimizer
        "Adam", "AdamW" or "SGD".
    settings
        Its settings, in the spelling of Keras (`learning_rate`, `beta_1`, `epsilon`) or PyTorch.
    parameters
        What it changes.

    Raises
    ------
    ConfigError
        If there is no such optimizer or setting.
    """
    if optimizer not in _OPTIMIZERS:
        raise ConfigError(
            f"{key}: there is no optimizer '{optimizer}'; there are {', '.join(_OPTIMIZERS)}"
        )
    arguments = dict(_DEFAULTS.get(optimizer, {}))
    betas = [settings.get("beta_1", 0.9), settings.get("beta_2", 0.999)]
    for name, value in settings.items():
        if name in ("beta_1", "beta_2"):
            arguments["betas"] = tuple(betas)
        else:
            arguments[_SPELLINGS.get(name, name)] = value
    schedule = learning_rate_schedule(key, settings)
    arguments["lr"] = rate_at(f"{key}.{_RATE_KEY}", schedule, 0)
    if not _IMPLEMENTATIONS & arguments.keys():
        arguments["fused"] = True
    try:
        return _OPTIMIZERS[optimizer](parameters, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{key}: {optimizer} does not take these optimizer_settings {dict(settings)}: {error}"
        ) from error
