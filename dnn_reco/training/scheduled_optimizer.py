"""An optimizer of PyTorch with its learning-rate schedule and its decay of the weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dnn_reco.checkpoint_file import Checkpoint
from dnn_reco.training.checkpoint import optimizer_kind, optimizer_tensors, restore_optimizer
from dnn_reco.training.optimizers import RATE_KEY
from dnn_reco.training.rate_factors import FACTOR
from dnn_reco.utils.learning_rate import Schedule, rate_at

_log = logging.getLogger(__name__)

_SECTION = "optimizer"


@dataclass(frozen=True)
class ScheduledOptimizer:
    """What changes some parameters.

    Attributes
    ----------
    name
        Its name in checkpoints and logs.
    key
        Where it stands in the config, for messages.
    optimizer
        The optimizer, over `parameters` in their order.
    parameters
        What it changes, by name.
    schedule
        Learning rate by iteration, which counts from 0.
    weight_decay
        Each step multiplies the parameters by 1 - learning rate · this.
    """

    name: str
    key: str
    optimizer: torch.optim.Optimizer
    parameters: Mapping[str, nn.Parameter]
    schedule: Schedule
    weight_decay: float = 0.0

    @property
    def kind(self) -> str:
        """What decides whether it can go on from the state of another one."""
        return optimizer_kind(self.optimizer)

    def learning_rate(self, iteration: int) -> float:
        """The learning rate of an iteration: the same whatever happened before it."""
        return rate_at(f"{self.key}.{RATE_KEY}", self.schedule, iteration)

    def set_learning_rate(self, iteration: int) -> None:
        """Prepare for the step of an iteration."""
        rate = self.learning_rate(iteration)
        for group in self.optimizer.param_groups:
            own = rate * group.get(FACTOR, 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(own)
            else:
                group["lr"] = own

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients (`grad`), which are then forgotten."""
        if self.weight_decay:
            for group in self.optimizer.param_groups:
                decaying = [p for p in group["params"] if p.grad is not None]
                torch._foreach_mul_(decaying, 1 - group["lr"] * self.weight_decay)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """What it keeps in mind, by name in a checkpoint."""
        tensors = optimizer_tensors(self.optimizer, self.parameters)
        return {f"{_SECTION}/{self.name}/{name}": tensor for name, tensor in tensors.items()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over the state from a checkpoint; an optimizer of another kind starts again."""
        former = checkpoint.progress.optimizers.get(self.name, self.kind)
        if former == self.kind:
            section = checkpoint.section(f"{_SECTION}/{self.name}")
            restore_optimizer(self.optimizer, self.parameters, section)
            return
        _log.warning(
            "The optimizer '%s' is now '%s'; in the checkpoint it is '%s'. Its state (averages of "
            "gradients) is reset.",
            self.name,
            self.kind,
            former,
        )
