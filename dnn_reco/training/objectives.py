"""What is minimised: optimizers, each with its own loss and its own parameters."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dnn_reco.checkpoint_file import Checkpoint
from dnn_reco.errors import ConfigError
from dnn_reco.modules.loss.interface import Loss
from dnn_reco.training.checkpoint import optimizer_kind, optimizer_tensors, restore_optimizer
from dnn_reco.training.gradients import (
    Clipping,
    Gradient,
    GradientAccumulator,
    NonFiniteGradientFilter,
)
from dnn_reco.training.loss_inputs import LossInputs
from dnn_reco.training.optimizers import RATE_KEY
from dnn_reco.training.rate_factors import FACTOR
from dnn_reco.utils.learning_rate import Schedule, rate_at

_log = logging.getLogger(__name__)


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
    schedule
        Learning rate by iteration, which counts from 0.
    gradient_mean
        Gathers the gradients of the batches of a step.
    cleaner
        Removes gradient entries that are not finite; None leaves them.
    clipping
        Limits of the gradient of a step.
    weight_decay
        Each step multiplies the parameters by 1 - learning rate · this.
    """

    name: str
    optimizer: torch.optim.Optimizer
    parameters: Mapping[str, nn.Parameter]
    losses: tuple[Loss, ...]
    l1: float
    l2: float
    schedule: Schedule
    accumulator: GradientAccumulator
    gradient_filter: NonFiniteGradientFilter | None = None
    clipping: Clipping = field(default_factory=Clipping)
    weight_decay: float = 0.0

    def learning_rate(self, iteration: int) -> float:
        """The learning rate of an iteration: the same whatever happened before it."""
        return rate_at(f"model_optimizer_dict.{self.name}.{RATE_KEY}", self.schedule, iteration)

    def set_learning_rate(self, iteration: int) -> None:
        """Prepare the optimizer for the step of an iteration."""
        rate = self.learning_rate(iteration)
        for group in self.optimizer.param_groups:
            own = rate * group.get(FACTOR, 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(own)
            else:
                group["lr"] = own

    def label_losses(self, inputs: LossInputs) -> Tensor:
        """Loss of each label [L], without its weight.

        Prediction and truth must be finite in labels of weight 0 as well
        (:func:`dnn_reco.modules.loss.untrained.mask_untrained`).
        """
        arguments = (inputs.prediction, inputs.truth, inputs.context)
        return sum((loss(*arguments) for loss in self.losses), torch.zeros(()))

    def loss(self, inputs: LossInputs, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted loss of the trained labels, without and with the penalties (two scalars)."""
        weighted = (weights * self.label_losses(inputs)).sum()
        total = weighted
        values = list(self.parameters.values())
        if self.l1:
            total = total + self.l1 * sum((v.abs().sum() for v in values), torch.zeros(()))
        if self.l2:
            total = total + self.l2 * sum((v.square().sum() for v in values), torch.zeros(()))
        return weighted, total

    def gradient(self, total: Tensor, keep_graph: bool) -> Gradient:
        """Gradient of the loss with respect to the parameters; None where it does not depend.

        Raises
        ------
        ConfigError
            If it depends on none of them.
        """
        gradient: Gradient = ()
        if total.requires_grad:
            gradient = torch.autograd.grad(
                total, list(self.parameters.values()), retain_graph=keep_graph, allow_unused=True
            )
        if all(part is None for part in gradient):
            raise ConfigError(
                f"model_optimizer_dict.{self.name}: its loss does not depend on any of its "
                "weights: choose another loss_class, or other vars"
            )
        return gradient

    def step(self, gradient: Gradient) -> Tensor:
        """Change the parameters, once the gradients of enough batches are gathered.

        Returns
        -------
        Tensor
            Global norm of the mean gradient before clipping.
        """
        if self.gradient_filter is not None:
            gradient = self.gradient_filter.clean(gradient)
        norm = self.accumulator.add(gradient)
        mean = self.accumulator.take()
        if mean is not None:
            self._change_parameters(self.clipping.clip(mean, norm))
        return norm

    @torch.no_grad()
    def _change_parameters(self, gradient: Gradient) -> None:
        for parameter, part in zip(self.parameters.values(), gradient, strict=True):
            parameter.grad = None if part is None else _in_layout_of(parameter, part)
        if self.weight_decay:
            for group in self.optimizer.param_groups:
                decaying = [p for p in group["params"] if p.grad is not None]
                torch._foreach_mul_(decaying, 1 - group["lr"] * self.weight_decay)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """All that changes in training except the parameters, by name in a checkpoint."""
        sections = {
            "optimizer": optimizer_tensors(self.optimizer, self.parameters),
            "accumulated": self.accumulator.state(),
            "removed": {}
            if self.gradient_filter is None
            else {"counts": self.gradient_filter.counts},
        }
        return {
            f"{section}/{self.name}/{name}": tensor
            for section, tensors in sections.items()
            for name, tensor in tensors.items()
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over the state from a checkpoint; an optimizer of another kind starts again."""
        optimizer, accumulated, removed = (
            checkpoint.section(f"{section}/{self.name}")
            for section in ("optimizer", "accumulated", "removed")
        )
        kind = optimizer_kind(self.optimizer)
        former = checkpoint.progress.optimizers.get(self.name, kind)
        if former == kind:
            restore_optimizer(self.optimizer, self.parameters, optimizer)
        else:
            _log.warning(
                "The optimizer '%s' is now '%s'; in the checkpoint it is '%s'. Its state "
                "(averages of gradients) is reset.",
                self.name,
                kind,
                former,
            )
        device = next(iter(self.parameters.values())).device
        self.accumulator.restore(accumulated, device)
        if self.gradient_filter is not None and removed:
            self.gradient_filter.counts.copy_(removed["counts"])


def _in_layout_of(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient, its numbers in memory in the order of those of the parameter.

    Fused optimizers of PyTorch go through both as they lie in memory, ignoring strides.
    """
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
