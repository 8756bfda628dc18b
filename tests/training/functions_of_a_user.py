"""Event weights, losses and evaluations as users write them."""

import math
from typing import Any

import torch
from torch import Tensor

seen: dict[str, Any] = {}


def energy_as_weight(truth, misc, config) -> Tensor:
    """The label EnergyVisible, which travels with its event."""
    seen.update(config=config, labels=truth.names, misc=misc.names)
    return truth["EnergyVisible"][:, None]


def loss_that_checks_weights(prediction, truth, context) -> Tensor:
    """Mean square; fails unless each event has its own energy as its weight."""
    column = context.label_names.index("EnergyVisible")
    weights = context.event_weights
    assert torch.equal(weights, truth.labels[:, column, None])
    return (context.residual_trafo.square() * weights).sum(dim=0) / weights.sum()


def weigh_in_batch(truth, misc, config) -> Tensor:
    """Weights that depend on the other events of the batch."""
    energy = truth["EnergyVisible"][:, None]
    return energy / energy.median()


def same_weights(truth, misc, config) -> Tensor:
    return torch.full((len(misc), 1), 2.5)


def no_weights(truth, misc, config) -> Tensor:
    return torch.zeros(len(misc), 1)


def flat_weights(truth, misc, config) -> Tensor:
    return torch.ones(len(misc))


def numbers(truth, misc, config) -> list[float]:
    return [1.0] * len(misc)


def negative_weight(truth, misc, config) -> Tensor:
    return torch.where(torch.arange(len(misc)) == 2, -3.0, 1.0)[:, None]


def infinite_weight(truth, misc, config) -> Tensor:
    return torch.where(torch.arange(len(misc)) == 1, math.inf, 1.0)[:, None]


def broken_weight(truth, misc, config) -> Tensor:
    raise ZeroDivisionError("no files")


def note_evaluation(train, val, context) -> None:
    """Keep what an evaluation is given."""
    seen.setdefault("evaluations", []).append((train, val, context))
    torch.rand(7)  # whatever a user does with random numbers
    context.print_line(f"evaluated iteration {context.iteration}")


def broken_evaluation(train, val, context) -> None:
    raise ValueError("no direction")


def keep_what_is_seen(train, val, context) -> None:
    seen["validated"] = val


def steep_loss(prediction, truth, context) -> Tensor:
    """Finite itself, but with a derivative of 1e25."""
    return ((prediction.labels_trafo - prediction.labels_trafo.detach()) * 1e25).mean(dim=0)


def flat_loss(prediction, truth, context) -> Tensor:
    return prediction.labels_trafo.mean(dim=0)


def breaks_later(train, val, context) -> None:
    """Fails at every validation but the first."""
    assert context.iteration == 0


def no_number(prediction, truth, context) -> Tensor:
    """A loss with gradient 0 that is not a number."""
    return (0 * prediction.labels_trafo).sum(dim=0) + math.nan


def weight_of_the_first(truth, misc, config) -> Tensor:
    """1 for the event of smallest energy, 0 for all others; in batches of training 1 for all."""
    energy = truth["EnergyVisible"][:, None]
    return (energy == energy.min()).float() if len(energy) > 100 else torch.ones_like(energy)
