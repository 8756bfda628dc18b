"""From `model_optimizer_dict` to losses with their optimizers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from dnn_reco.config import Config, OptimizerSettings, PartOptimizerSettings, resolve
from dnn_reco.errors import ConfigError
from dnn_reco.modules.loss.interface import Loss
from dnn_reco.modules.loss.own_loss import checked_loss
from dnn_reco.nn.interface import Network
from dnn_reco.nn.own_network import parameter_groups
from dnn_reco.training.gradients import GradientAccumulator, NonFiniteGradientFilter
from dnn_reco.training.network_parts import divide, some_of, variables
from dnn_reco.training.objectives import Objective
from dnn_reco.training.optimizers import OptimizerChoice, choose_optimizer, make_optimizer
from dnn_reco.training.rate_factors import by_factor, optimizer_groups, rate_factors
from dnn_reco.training.scheduled_optimizer import ScheduledOptimizer


def make_objectives(config: Config, network: Network) -> list[Objective]:
    """The entries of `model_optimizer_dict`, each over its part of the network.

    Raises
    ------
    ConfigError
        If one names parts that the network does not have, or cannot be made.
    """
    parameters = dict(network.named_parameters())
    names = {parameter: name for name, parameter in parameters.items()}
    groups = {
        group: [names[parameter] for parameter in members]
        for group, members in parameter_groups(network).items()
    }
    return [
        _make_objective(name, settings, parameters, groups)
        for name, settings in config.optimizers.items()
    ]


def _make_objective(
    name: str,
    settings: OptimizerSettings,
    network: Mapping[str, nn.Parameter],
    groups: Mapping[str, Sequence[str]],
) -> Objective:
    key = f"model_optimizer_dict.{name}"
    trained = variables(f"{key}.vars", settings.vars, list(network), groups)
    parameters = {each: network[each] for each in trained}
    factors = rate_factors(
        f"{key}.learning_rate_factors", settings.learning_rate_factors, trained, groups
    )
    optimizers = []
    for part, members in divide(key, settings, parameters, groups).items():
        parts = by_factor({each: parameters[each] for each in members}, factors)
        if not parts:
            raise ConfigError(
                f"{key}.learning_rate_factors freezes all parameters of "
                f"{'its optimizer' if part is None else f'other_optimizers.{part}'}: "
                f"{some_of(members)}. Leave one of them free, or divide the optimizers otherwise"
            )
        optimizers.append(_make_optimizer(name, part, settings, parts))
    whole = choose_optimizer(key, settings.optimizer, settings.optimizer_settings)
    filters = settings.remove_nan_gradients
    device = next(iter(parameters.values())).device
    changed = {each: p for o in optimizers for each, p in o.parameters.items()}
    return Objective(
        name=name,
        optimizers=tuple(optimizers),
        losses=tuple(_loss(loss, f"{key}.loss_class") for loss in settings.loss_class),
        l1=settings.l1_regularization,
        l2=settings.l2_regularization,
        accumulator=GradientAccumulator(changed, settings.accumulate_steps),
        gradient_filter=NonFiniteGradientFilter(device) if filters else None,
        clipping=whole.clipping.at_most(settings.clip_gradients_value),
    )


def _make_optimizer(
    entry: str,
    part: str | None,
    settings: OptimizerSettings,
    parts: Mapping[float, Mapping[str, nn.Parameter]],
) -> ScheduledOptimizer:
    """The optimizer of an entry, or one of its `other_optimizers`, over parameters by factor."""
    name, key = entry, f"model_optimizer_dict.{entry}"
    own: OptimizerSettings | PartOptimizerSettings = settings
    if part is not None:
        own = settings.other_optimizers[part]
        name, key = f"{entry}/{part}", f"{key}.other_optimizers.{part}"
    choice = choose_optimizer(key, own.optimizer, own.optimizer_settings)
    # In the order of the optimizer's groups, by which its state is restored.
    parameters = {each: p for members in parts.values() for each, p in members.items()}
    _check_shapes(key, choice, parameters)
    return ScheduledOptimizer(
        name=name,
        key=key,
        optimizer=make_optimizer(key, choice, optimizer_groups(parts)),
        parameters=parameters,
        schedule=choice.schedule,
        weight_decay=choice.weight_decay,
    )


def _check_shapes(
    key: str, choice: OptimizerChoice, parameters: Mapping[str, nn.Parameter]
) -> None:
    """Check that an optimizer of matrices gets nothing else."""
    wrong = [name for name, parameter in parameters.items() if parameter.dim() != 2]
    if choice.kind is getattr(torch.optim, "Muon", None) and wrong:
        raise ConfigError(
            f"{key}: Muon trains matrices only, but {some_of(wrong)} are none: write Muon into "
            "other_optimizers with matrices_only: True, beside an optimizer for all else"
        )


def _loss(name: str, key: str) -> Loss:
    return checked_loss(resolve(name, key), name, key)
