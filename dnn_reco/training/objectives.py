"""What is minimised: losses, each with its own optimizers and its own parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from dnn_reco.checkpoint_file import Checkpoint
from dnn_reco.errors import ConfigError
from dnn_reco.modules.loss.interface import Loss
from dnn_reco.training.gradients import (
    Clipping,
    Gradient,
    GradientAccumulator,
    NonFiniteGradientFilter,
)
from dnn_reco.training.loss_inputs import LossInputs
from dnn_reco.training.scheduled_optimizer import ScheduledOptimizer


@dataclass(frozen=True)
class Objective:
    """One entry of `model_optimizer_dict`.

    Attributes
    ----------
    name
        Its name in the config.
    optimizers
        What changes the parameters. No two of them share any.
    losses
        Loss functions, summed.
    l1, l2
        Strengths of the penalties Σ|v| and Σv² over the parameters.
    accumulator
        Gathers the gradients of the batches of a step.
    gradient_filter
        Removes gradient entries that are not finite; None leaves them.
    clipping
        Limits of the gradient of a step, by all parameters together.
    """

    name: str
    optimizers: tuple[ScheduledOptimizer, ...]
    losses: tuple[Loss, ...]
    l1: float
    l2: float
    accumulator: GradientAccumulator
    gradient_filter: NonFiniteGradientFilter | None = None
    clipping: Clipping = field(default_factory=Clipping)

    @cached_property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What is changed, by name, in the order of the optimizers."""
        return {name: p for each in self.optimizers for name, p in each.parameters.items()}

    def set_learning_rate(self, iteration: int) -> None:
        """Prepare the optimizers for the step of an iteration."""
        for each in self.optimizers:
            each.set_learning_rate(iteration)

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
        for each in self.optimizers:
            each.step()

    def state(self) -> dict[str, Tensor]:
        """All that changes in training except the parameters, by name in a checkpoint."""
        sections = {
            "accumulated": self.accumulator.state(),
            "removed": {}
            if self.gradient_filter is None
            else {"counts": self.gradient_filter.counts},
        }
        state = {
            f"{section}/{self.name}/{name}": tensor
            for section, tensors in sections.items()
            for name, tensor in tensors.items()
        }
        for each in self.optimizers:
            state |= each.state()
        return state

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over the state from a checkpoint; an optimizer of another kind starts again."""
        for each in self.optimizers:
            each.restore(checkpoint)
        accumulated, removed = (
            checkpoint.section(f"{section}/{self.name}") for section in ("accumulated", "removed")
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
