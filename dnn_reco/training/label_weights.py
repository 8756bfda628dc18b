"""Weights of the labels in the loss, and how they follow the progress of training."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

# Median absolute deviation of a standard normal distribution: where the Tukey scale starts.
NORMAL_MAD = 0.67449
_TUKEY_DECAY = 0.001


class LabelWeights:
    """Weight of each label, drawn towards labels that are learnt already (`label_update_weights`).

    A label that is predicted with root mean square residual r (transformed) gets the weight w / r,
    at least w, where w is its weight in the config; half of each change is taken at a time.
    Batches in which its residuals are not finite do not count.

    Attributes
    ----------
    initial
        Weights of the config [L].
    current
        Weights that multiply the loss [L].
    trained
        Which labels take part in training at all: those of weight > 0 in the config [L].
    tukey_scale
        Running median absolute residual of each label [L] (`label_scale_tukey`).
    """

    def __init__(self, initial: Tensor, update: bool, scale_tukey: bool) -> None:
        self.initial = initial
        self.current = initial.clone()
        self.trained = initial > 0
        self.tukey_scale = torch.full_like(initial, NORMAL_MAD)
        self._update = update
        self._scale_tukey = scale_tukey
        self._sum = torch.zeros_like(initial)
        self._count = torch.zeros_like(initial, dtype=torch.int64)

    def collect(self, residual_trafo: Tensor) -> None:
        """Take note of the transformed residuals [B, L] of one training batch."""
        residual = residual_trafo.detach()
        if self._update:
            mean_square = (residual**2).mean(dim=0)
            finite = mean_square.isfinite()
            self._sum += torch.where(finite, torch.where(self.trained, mean_square, 1.0), 0.0)
            self._count += finite
        if self._scale_tukey:
            # of `median` there is no deterministic form on GPUs; NaN are the last of a sort
            ordered = residual.abs().sort(dim=0).values
            median = torch.where(ordered[-1].isnan(), math.nan, ordered[(len(ordered) - 1) // 2])
            median = torch.where(self.trained, median, NORMAL_MAD)
            median = torch.where(median.isfinite(), median, self.tukey_scale)
            self.tukey_scale += _TUKEY_DECAY * (median - self.tukey_scale)

    def update(self) -> None:
        """Draw the weights half-way to where the residuals since the last update put them."""
        if not self._update:
            return
        rmse = torch.sqrt(self._sum / self._count.clamp(min=1) + 1e-6)
        target = (1.0 / (rmse + 1e-3)).clamp(min=1.0) * self.initial
        target = torch.where(self._count > 0, target, self.current)
        self.current = 0.5 * self.current + 0.5 * target
        self._sum.zero_()
        self._count.zero_()

    def state(self) -> dict[str, Tensor]:
        """All that changes during training, and the weights of the config, for a checkpoint."""
        return {
            "initial": self.initial,
            "current": self.current,
            "tukey_scale": self.tukey_scale,
            "sum": self._sum,
            "count": self._count,
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state from a checkpoint; changed weights of the config take effect.

        Weights that are not updated are those of the config. Updated ones change in proportion to
        it, and those of labels that were not trained before start there.
        """
        device = self.initial.device
        current = state["current"].to(device)
        if not self._update:
            current = self.initial.clone()
        elif "initial" in state:  # older checkpoints lack it
            current = current * (self.initial / state["initial"].to(device))
        known = self.trained & (current > 0)  # not NaN, of labels whose old weight is 0
        self.current = torch.where(known, current, self.initial)
        self.tukey_scale = state["tukey_scale"].to(device)
        self._sum = state["sum"].to(device)
        self._count = state["count"].to(device).expand_as(self.initial).clone()
