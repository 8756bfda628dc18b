"""Made-up predictions and truths for losses, in one unit: transformed labels are the labels."""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dnn_reco.modules.loss import (
    classification_loss,
    default_loss,
    density_loss,
    direction_loss,
    robust_loss,
    track_loss,
)
from dnn_reco.modules.loss.interface import Loss, LossContext, Truth
from dnn_reco.nn.interface import LabelKeys, Prediction
from dnn_reco.nn.label_transform import residual_trafo

MODULES = (
    default_loss,
    track_loss,
    robust_loss,
    direction_loss,
    classification_loss,
    density_loss,
)
LABELS = (
    *("energy", "zenith", "azimuth", "dir_x", "dir_y", "dir_z"),
    *("vertex_x", "vertex_y", "vertex_z", "vertex_time", "p_track", "p_starting"),
)
KEYS = LabelKeys(
    zenith="zenith",
    azimuth="azimuth",
    dir_x="dir_x",
    dir_y="dir_y",
    dir_z="dir_z",
    pid=("p_track", "p_starting"),
    particle={
        **{f"pos_{axis}": f"vertex_{axis}" for axis in "xyz"},
        "time": "vertex_time",
    },
)
ANGLES = [1, 2]
DIRECTION = [3, 4, 5]
VERTEX = [6, 7, 8, 9]
CLASSES = [10, 11]


def all_losses() -> dict[str, Loss]:
    """Every loss of the package by name: functions of a prediction, truth and context."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": function
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and list(inspect.signature(function).parameters) == ["prediction", "truth", "context"]
    }


@dataclass
class Events:
    """True and predicted labels; all [B, L]."""

    true: Tensor
    predicted: Tensor
    sigma: Tensor
    logits: Tensor

    def take(self, indices: Tensor | Sequence[int]) -> "Events":
        """Some events, perhaps several times."""
        return Events(*(tensor[indices] for tensor in vars(self).values()))

    def to(self, dtype: torch.dtype) -> "Events":
        return Events(*(tensor.to(dtype) for tensor in vars(self).values()))


def random_events(num_events: int, seed: int = 0) -> Events:
    """Events in float64 with residuals of order 1; all labels consistent with each other."""
    generator = torch.Generator().manual_seed(seed)
    shape = (num_events, len(LABELS))

    def normal() -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    true = with_direction(normal())
    true[:, CLASSES] = (true[:, CLASSES] > 0).double()
    sigma = 0.1 + torch.rand(shape, generator=generator, dtype=torch.float64)
    logits = 2 * normal()
    logits[:, : CLASSES[0]] = 0
    predicted = with_direction(true + 0.7 * normal())
    predicted[:, CLASSES] = torch.sigmoid(logits[:, CLASSES])
    return Events(true, predicted, sigma, logits)


def with_direction(labels: Tensor) -> Tensor:
    """Labels with the angles of their direction vectors, these of length 1."""
    labels = labels.clone()
    vector = torch.nn.functional.normalize(labels[:, DIRECTION], dim=1)
    labels[:, DIRECTION] = vector
    labels[:, 1] = torch.acos(-vector[:, 2])
    labels[:, 2] = torch.atan2(-vector[:, 1], -vector[:, 0]).remainder(2 * math.pi)
    return labels


@dataclass(frozen=True)
class Result:
    """Loss of each label [L], and the gradient of their sum [B, L]."""

    loss: Tensor
    predicted: Tensor
    sigma: Tensor
    logits: Tensor

    def is_finite(self) -> bool:
        return all(bool(torch.isfinite(tensor).all()) for tensor in vars(self).values())


def evaluate(
    loss: Loss,
    events: Events,
    event_weights: Tensor | None = None,
    tukey_scale: float = 0.67449,
    keys: LabelKeys = KEYS,
) -> Result:
    """A loss and its gradient with respect to predicted labels, uncertainties and logits."""
    leaves = [
        tensor.clone().requires_grad_()
        for tensor in (events.predicted, events.sigma, events.logits)
    ]
    predicted, sigma, logits = leaves
    period = torch.full((len(LABELS),), math.inf, dtype=predicted.dtype)
    period[LABELS.index("azimuth")] = 2 * math.pi
    context = LossContext(
        LABELS,
        keys,
        residual_trafo(predicted, events.true, period),
        event_weights,
        torch.full((len(LABELS),), tukey_scale, dtype=predicted.dtype),
    )
    prediction = Prediction(predicted, sigma, predicted, sigma, logits)
    values = loss(prediction, Truth(events.true, events.true), context)
    gradients = torch.autograd.grad(values.sum(), leaves, allow_unused=True)
    filled = [
        torch.zeros_like(leaf) if part is None else part
        for leaf, part in zip(leaves, gradients, strict=True)
    ]
    return Result(values.detach(), *filled)
