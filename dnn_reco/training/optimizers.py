"""Optimizers by the reference's or PyTorch's name, with settings in either spelling.

Any optimizer of `torch.optim` will do. The reference's are those of Keras
(https://keras.io/api/optimizers): a setting in Keras's spelling does what it does there, and an
optimizer that Keras also has takes its defaults from there.

Decay of the weights is decoupled for all of them, as in Keras (Loshchilov & Hutter,
arXiv:1711.05101): each step multiplies the weights by 1 - rate · `weight_decay`.
"""

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic.dataclasses import dataclass as settings_dataclass
from torch import nn

from dnn_reco.config.typed_settings import STRICT, setting_fields, typed_settings
from dnn_reco.config.value_types import LooseFlag, NotNegativeNumber, OpenFraction, PositiveNumber
from dnn_reco.errors import ConfigError
from dnn_reco.suggestions import nearest
from dnn_reco.training.gradients import Clipping
from dnn_reco.utils.learning_rate import ConstantRate, Schedule, make_schedule, rate_at

_log = logging.getLogger(__name__)

RATE_KEY = "optimizer_settings.learning_rate"

_ALIASES = {"momentum": "sgd", "gradientdescent": "sgd"}
_UNSUITABLE = {
    "LBFGS": "it evaluates the loss several times per step",
    "SparseAdam": "it is for sparse gradients, which these networks do not have",
}
# What Keras has where PyTorch has something else, in PyTorch's spelling. (`epsilon` of Adagrad and
# RMSprop, and `epsilon_1` of Adafactor, are added below a root there.)
_DEFAULTS: dict[str, dict[str, Any]] = {
    "Adadelta": {"lr": 0.001, "rho": 0.95, "eps": 1e-7},
    "Adafactor": {"lr": 0.001, "eps": (math.sqrt(1e-30), 1e-3)},
    "Adagrad": {"lr": 0.001, "initial_accumulator_value": 0.1, "eps": math.sqrt(1e-7)},
    "Adam": {"eps": 1e-7},
    "AdamW": {"eps": 1e-7, "weight_decay": 0.004},
    "Adamax": {"lr": 0.001, "eps": 1e-7},
    "NAdam": {"lr": 0.001, "eps": 1e-7, "momentum_decay": 1.0},
    "RMSprop": {"lr": 0.001, "alpha": 0.9, "eps": math.sqrt(1e-7)},
    "SGD": {"lr": 0.01},
}
_BELOW_ROOT = {("Adafactor", "epsilon_1"), ("Adagrad", "epsilon"), ("RMSprop", "epsilon")}
# Spellings of Keras, and of TensorFlow before it, for arguments of PyTorch, …
_SPELLINGS = {
    "learning_rate": "lr",
    "epsilon": "eps",
    "use_nesterov": "nesterov",
    "beta_2_decay": "beta2_decay",
    "clip_threshold": "d",
}
_OWN_SPELLINGS = {"RMSprop": {"rho": "alpha"}}
# … and for one of the two numbers of an argument.
_PARTS = {
    "beta_1": ("betas", 0),
    "beta_2": ("betas", 1),
    "beta1": ("betas", 0),
    "beta2": ("betas", 1),
    "epsilon_1": ("eps", 0),
    "epsilon_2": ("eps", 1),
}
_WITHOUT_EFFECT = ("jit_compile", "name", "use_locking")
_ONLY_EMPTY = ("ema_overwrite_frequency", "gradient_accumulation_steps", "loss_scale_factor")
_REMEDIES = {
    "decay": "use a schedule such as tensorflow.keras.optimizers.schedules.InverseTimeDecay as "
    "learning_rate, or rho where RMSprop is meant",
    "decoupled_weight_decay": "weight_decay is always decoupled; for a penalty in the loss set "
    "l2_regularization beside optimizer_settings to half of it",
    "ema_overwrite_frequency": "averages are for validation and prediction only; see ema_decay",
    "gradient_accumulation_steps": "set accumulate_steps beside optimizer_settings",
    "loss_scale_factor": "loss scaling is not used",
}
# Arguments of PyTorch that are not for a config: they concern the implementation.
_HIDDEN = {"self", "params", "capturable", "differentiable"}
_IMPLEMENTATIONS = {"foreach", "fused"}
_HAVE_FUSED = {"Adam", "AdamW", "SGD"}  # all parameters in one pass: the fastest


@settings_dataclass(frozen=True, config=STRICT)
class _OwnSettings:
    """Settings that have their effect here, the same for all optimizers."""

    clipnorm: PositiveNumber | None = None
    clipvalue: PositiveNumber | None = None
    ema_momentum: OpenFraction = 0.99
    global_clipnorm: PositiveNumber | None = None
    use_ema: LooseFlag = False
    weight_decay: NotNegativeNumber | None = None


@settings_dataclass(frozen=True, config=STRICT)
class _AddedBelowRoot:
    """Settings that Keras adds to a square, but PyTorch to the root of that."""

    epsilon: NotNegativeNumber = 0.0
    epsilon_1: NotNegativeNumber = 0.0


_OWN = tuple(setting_fields(_OwnSettings))


@dataclass(frozen=True)
class OptimizerChoice:
    """What the settings of an optimizer mean.

    Attributes
    ----------
    kind
        The class of PyTorch.
    arguments
        Its arguments, but for the learning rate.
    schedule
        Learning rate by iteration.
    weight_decay
        Strength of the decoupled decay of the weights.
    clipping
        Limits of the gradient.
    ignored
        Settings without effect.
    """

    kind: type[torch.optim.Optimizer]
    arguments: Mapping[str, Any]
    schedule: Schedule
    weight_decay: float
    clipping: Clipping
    ignored: tuple[str, ...]


def choose_optimizer(key: str, optimizer: str, settings: Mapping[str, Any]) -> OptimizerChoice:
    """What the name and the settings of an optimizer mean.

    Parameters
    ----------
    key
        Where it stands in the config, for messages.
    optimizer
        Its name, in the spelling of Keras or PyTorch.
    settings
        Its settings, in the spelling of Keras (`learning_rate`, `beta_1`, `epsilon`) or PyTorch.

    Raises
    ------
    ConfigError
        If there is no such optimizer or setting.
    """
    kind = _find(key, optimizer)
    key_of_settings = f"{key}.optimizer_settings"
    arguments = _arguments(key_of_settings, kind, settings)
    schedule = learning_rate_schedule(key, settings, arguments.pop("lr"))
    if kind is torch.optim.Rprop and not isinstance(schedule, ConstantRate):
        raise ConfigError(
            f"{key}.{RATE_KEY}: Rprop uses the learning rate only in its first step, so it cannot "
            "follow a schedule: give a number"
        )
    default_decay = arguments.pop("weight_decay", _defaults_of(kind).get("weight_decay", 0.0))
    own = _own_settings(key_of_settings, settings)
    return OptimizerChoice(
        kind,
        arguments,
        schedule,
        default_decay if own.weight_decay is None else own.weight_decay,
        Clipping(global_norm=own.global_clipnorm, norm=own.clipnorm, value=own.clipvalue),
        tuple(name for name in settings if _has_no_effect(kind, name, settings)),
    )


def check_optimizer(
    key: str, optimizer: str, settings: Mapping[str, Any]
) -> tuple[str, tuple[str, ...]]:
    """PyTorch's name of an optimizer that takes its settings, and the settings without effect.

    Raises
    ------
    ConfigError
        If there is no such optimizer or setting.
    """
    choice = choose_optimizer(key, optimizer, settings)
    make_optimizer(key, choice, [nn.Parameter(torch.zeros(1, 1))])
    return choice.kind.__name__, choice.ignored


def make_optimizer(
    key: str,
    choice: OptimizerChoice,
    parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]],
) -> torch.optim.Optimizer:
    """The optimizer over some parameters, or groups of them; its own decay of the weights is off.

    Raises
    ------
    ConfigError
        If it does not take its settings, or not these parameters.
    """
    arguments = dict(choice.arguments)
    if "weight_decay" in _defaults_of(choice.kind):
        arguments["weight_decay"] = 0.0
    if choice.kind.__name__ in _HAVE_FUSED and not _IMPLEMENTATIONS & arguments.keys():
        arguments["fused"] = True
    arguments["lr"] = rate_at(f"{key}.{RATE_KEY}", choice.schedule, 0)
    make: Callable[..., torch.optim.Optimizer] = choice.kind
    try:
        return make(parameters, **arguments)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ConfigError(
            f"{key}: {choice.kind.__name__} rejects these optimizer_settings or weights: {error}"
        ) from error


def learning_rate_schedule(
    key: str, settings: Mapping[str, Any], default: float = 0.001
) -> Schedule:
    """The learning rate by iteration that the settings of an optimizer ask for.

    Parameters
    ----------
    key
        Where the optimizer stands in the config, for messages.
    settings
        Its settings: the learning rate is a number, or a schedule.
    default
        The learning rate where they have none.

    Raises
    ------
    ConfigError
        If there is no such schedule, or it does not take its settings.
    """
    rate = settings.get("learning_rate", settings.get("lr", default))
    if isinstance(rate, int | float) and not isinstance(rate, bool):
        return ConstantRate(rate)
    return make_schedule(f"{key}.{RATE_KEY}", rate)


def ema_decay(given: float | None, settings: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Decay of the moving average of the weights, by `ema_decay` or by `use_ema` of Keras.

    Parameters
    ----------
    given
        `ema_decay` of the config.
    settings
        Settings of each optimizer, by its name.

    Raises
    ------
    ConfigError
        If they contradict each other: the network is averaged as a whole.
    """
    own = {
        name: _own_settings(f"model_optimizer_dict.{name}.optimizer_settings", each)
        for name, each in settings.items()
    }
    requested = {name: each.ema_momentum if each.use_ema else None for name, each in own.items()}
    decays = set(requested.values())
    if decays <= {None}:
        return given
    decay = decays.pop()
    if decays or given not in (None, decay):
        listed = ", ".join(f"{name}: {value or 'none'}" for name, value in requested.items())
        raise ConfigError(
            f"ema_decay is {given or 'empty'}, and by use_ema and ema_momentum of the "
            f"optimizer_settings it would be {listed}; but the whole network is averaged with one "
            "decay: set ema_decay, and leave out use_ema"
        )
    return decay


def _own_settings(key: str, settings: Mapping[str, Any]) -> _OwnSettings:
    given = {name: value for name, value in settings.items() if name in _OWN}
    if not given.get("use_ema"):
        given.pop("ema_momentum", None)  # without effect
    return typed_settings(_OwnSettings, given, key, ConfigError)


def _find(key: str, optimizer: str) -> type[torch.optim.Optimizer]:
    """The class of a name, in which upper and lower case do not matter."""
    kinds = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type)
        and issubclass(kind, torch.optim.Optimizer)
        and kind is not torch.optim.Optimizer
    }
    name = optimizer.lower()
    found = kinds.get(_ALIASES.get(name, name))
    if found is not None and found.__name__ not in _UNSUITABLE:
        return found
    there = sorted(kind.__name__ for kind in kinds.values() if kind.__name__ not in _UNSUITABLE)
    problem = (
        f"there is no optimizer '{optimizer}'"
        if found is None
        else f"the optimizer '{optimizer}' cannot be used: {_UNSUITABLE[found.__name__]}"
    )
    raise ConfigError(f"{key}: {problem}; there are {', '.join(there)}")


def _arguments(
    key: str, kind: type[torch.optim.Optimizer], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings as arguments of PyTorch; those that are not given where the defaults differ."""
    known = _defaults_of(kind)
    arguments = {"lr": known["lr"], **_DEFAULTS.get(kind.__name__, {})}
    given_by: dict[tuple[str, int | None], str] = {}
    for setting, value in settings.items():
        if setting in _OWN or _has_no_effect(kind, setting, settings):
            continue
        if setting in _REMEDIES:
            raise ConfigError(f"{key}.{setting} is {value!r}: {_REMEDIES[setting]}")
        argument, part = _argument(kind, setting, known)
        if argument not in known:
            raise ConfigError(_unknown_setting(key, kind, setting, known))
        for (other, other_part), other_setting in given_by.items():
            if other == argument and (other_part == part or None in (other_part, part)):
                raise ConfigError(
                    f"{key}: '{other_setting}' and '{setting}' are two spellings of the same "
                    "setting: keep one of them"
                )
        given_by[argument, part] = setting
        value = _above_root(key, kind, setting, value)
        if part is None:
            arguments[argument] = tuple(value) if isinstance(value, list) else value
        else:
            pair = list(arguments.get(argument, known[argument]))
            pair[part] = value
            arguments[argument] = tuple(pair)
    return arguments


def _has_no_effect(
    kind: type[torch.optim.Optimizer], setting: str, settings: Mapping[str, Any]
) -> bool:
    """Whether a setting of Keras asks for nothing, or for what is done in any case."""
    if setting in _ONLY_EMPTY:
        return settings[setting] is None
    if setting == "decoupled_weight_decay":
        return settings[setting] is True
    if setting == "ema_momentum":
        return not settings.get("use_ema")
    if setting == "relative_step":  # there the rate is at most 1 / √step with it and without
        return kind is torch.optim.Adafactor
    return setting in _WITHOUT_EFFECT


def _argument(
    kind: type[torch.optim.Optimizer], setting: str, known: Mapping[str, Any]
) -> tuple[str, int | None]:
    """The argument of PyTorch that a setting means, and which of its two numbers, if it has two."""
    own = _OWN_SPELLINGS.get(kind.__name__, {})
    if setting in own:
        return own[setting], None
    if setting in _PARTS and isinstance(known.get(_PARTS[setting][0]), tuple):
        return _PARTS[setting]
    return _SPELLINGS.get(setting, setting), None


def _above_root(key: str, kind: type[torch.optim.Optimizer], setting: str, value: Any) -> Any:
    """A setting that Keras adds to a square, as PyTorch adds it to the root of that."""
    if (kind.__name__, setting) not in _BELOW_ROOT:
        return value
    added = typed_settings(_AddedBelowRoot, {setting: value}, key, ConfigError)
    return math.sqrt(getattr(added, setting))


def _defaults_of(kind: type[torch.optim.Optimizer]) -> dict[str, Any]:
    """Arguments of an optimizer that a config may give, with PyTorch's defaults."""
    parameters = inspect.signature(kind.__init__).parameters
    return {name: p.default for name, p in parameters.items() if name not in _HIDDEN}


def _unknown_setting(
    key: str, kind: type[torch.optim.Optimizer], setting: str, known: Mapping[str, Any]
) -> str:
    """The message on a setting that an optimizer does not have."""
    spellings = {*_SPELLINGS, *_PARTS, *_OWN_SPELLINGS.get(kind.__name__, {})}
    there = {name for name in spellings if _argument(kind, name, known)[0] in known}
    names = sorted({*known, *there, *_OWN})
    return (
        f"{key}: {kind.__name__} has no setting '{setting}' (the nearest is "
        f"'{nearest(setting, names)}'); there are {', '.join(names)}"
    )
