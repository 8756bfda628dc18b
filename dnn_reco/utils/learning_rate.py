"""Learning-rate schedules: the learning rate as a function of the step, which counts from 0.

A config names a schedule by `full_class_string` and gives its `settings`. The schedules of Keras
are understood by their names there (`tensorflow.keras.optimizers.schedules.CosineDecay`), with the
same arguments and formulas (https://keras.io/api/optimizers/learning_rate_schedules), but without
TensorFlow. `WarmUp`, `Cosine` and `OneCycle` here are our own. Any other class or function works
too, if `full_class_string(**settings)` gives something that turns a step into a learning rate.

A schedule has no state: the rate of a step is the same whatever happened before.
"""

from __future__ import annotations

import inspect
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from typing import Any

from dnn_reco.config import ScheduleSettings, call_plugin, resolve
from dnn_reco.errors import ConfigError

Schedule = Callable[[int], float]

_KERAS_NAME = re.compile(r"(?:tensorflow\.|tf\.)?(?:keras\.)?optimizers\.schedules\.(\w+)")


@dataclass(frozen=True)
class ConstantRate:
    """The same learning rate in every step."""

    rate: float

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        return self.rate


@dataclass(frozen=True)
class ExponentialDecay:
    """r₀ · d^(step / n), with r₀ `initial_learning_rate`, d `decay_rate`, n `decay_steps`.

    With `staircase` the exponent is rounded down.
    """

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        _check_arguments(self, positive=("decay_steps",), not_negative=("decay_rate",))

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        exponent = _completed(step, self.decay_steps, self.staircase)
        return self.initial_learning_rate * math.pow(self.decay_rate, exponent)


@dataclass(frozen=True)
class InverseTimeDecay:
    """r₀ / (1 + d · step / n), with r₀ `initial_learning_rate`, d `decay_rate`, n `decay_steps`.

    With `staircase` step / n is rounded down.
    """

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        _check_arguments(self, positive=("decay_steps",), not_negative=("decay_rate",))

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        completed = _completed(step, self.decay_steps, self.staircase)
        return self.initial_learning_rate / (1 + self.decay_rate * completed)


@dataclass(frozen=True)
class PolynomialDecay:
    """(r₀ - r₁) · (1 - step / n)^power + r₁, from r₀ `initial_learning_rate` to r₁.

    After n = `decay_steps` the rate stays at r₁ = `end_learning_rate`. With `cycle` n is instead
    the first multiple of `decay_steps` that is not below the step (in step 0 `decay_steps` itself).
    """

    initial_learning_rate: float
    decay_steps: float
    end_learning_rate: float = 0.0001
    power: float = 1.0
    cycle: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        _check_arguments(self, positive=("decay_steps",), not_negative=("power",))

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        cycles = max(1, math.ceil(step / self.decay_steps)) if self.cycle else 1
        decay_steps = self.decay_steps * cycles
        left = 1 - min(step, decay_steps) / decay_steps
        change = self.initial_learning_rate - self.end_learning_rate
        return change * math.pow(left, self.power) + self.end_learning_rate


@dataclass(frozen=True)
class CosineDecay:
    """r · ((1 - α) · (1 + cos(π step / n)) / 2 + α) until n = `decay_steps`, then r · α.

    Here r is `initial_learning_rate`. With a `warmup_target` the rate first rises linearly from
    `initial_learning_rate` to it within `warmup_steps`; after them r is `warmup_target`, and the
    step counts from there.
    """

    initial_learning_rate: float
    decay_steps: float
    alpha: float = 0.0
    name: str | None = None
    warmup_target: float | None = None
    warmup_steps: float = 0

    def __post_init__(self) -> None:
        _check_arguments(self, positive=("decay_steps",), not_negative=("alpha", "warmup_steps"))

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        if self.warmup_target is None:
            top, decay_step = self.initial_learning_rate, float(step)
        elif step < self.warmup_steps:
            rise = self.warmup_target - self.initial_learning_rate
            return self.initial_learning_rate + rise * step / self.warmup_steps
        else:
            top, decay_step = self.warmup_target, step - self.warmup_steps
        completed = min(decay_step, self.decay_steps) / self.decay_steps
        return top * ((1 - self.alpha) * _cosine(completed) + self.alpha)


@dataclass(frozen=True)
class CosineDecayRestarts:
    """r₀ · ((1 - α) · mⁱ · (1 + cos(π x)) / 2 + α) in period i, of which the fraction x is over.

    r₀ is `initial_learning_rate`, m `m_mul`; period 0 takes `first_decay_steps`, each later one
    `t_mul` times as long as the one before (Loshchilov & Hutter, arXiv:1608.03983).
    """

    initial_learning_rate: float
    first_decay_steps: float
    t_mul: float = 2.0
    m_mul: float = 1.0
    alpha: float = 0.0
    name: str | None = None

    def __post_init__(self) -> None:
        _check_arguments(self, positive=("first_decay_steps",), not_negative=("m_mul", "alpha"))
        if self.t_mul < 1:
            raise ConfigError(f"t_mul is {self.t_mul!r}; allowed: a number >= 1")

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        period, length, left = 0, self.first_decay_steps, float(step)
        if self.t_mul == 1:
            period, left = int(left // length), left % length
        while left >= length:
            period, length, left = period + 1, length * self.t_mul, left - length
        height = self.m_mul**period * _cosine(left / length)
        return self.initial_learning_rate * ((1 - self.alpha) * height + self.alpha)


@dataclass(frozen=True)
class PiecewiseConstantDecay:
    """`values[i]` up to and with step `boundaries[i]`, the last value after the last boundary."""

    boundaries: Sequence[float]
    values: Sequence[float]
    name: str | None = None

    def __post_init__(self) -> None:
        _check_boundaries(self.boundaries, self.values, "values")
        for value in self.values:
            _check_number("values", value)

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        return self.values[bisect_left(self.boundaries, step)]


class MultiLearningRateScheduler:
    """One schedule after the other.

    Parameters
    ----------
    boundaries
        Steps at which schedules end, increasing: the step of a boundary is the last one of its
        schedule. Each later schedule counts its steps from the boundary before it.
    scheduler_settings
        The schedules, one more than there are boundaries: each a mapping with `full_class_string`
        and `settings`, or a schedule.
    name
        Without effect.

    Raises
    ------
    ConfigError
        If the arguments are wrong.
    """

    def __init__(
        self,
        boundaries: Sequence[float],
        scheduler_settings: Sequence[Mapping[str, Any] | Schedule],
        name: str | None = None,
    ) -> None:
        _check_boundaries(boundaries, scheduler_settings, "scheduler_settings")
        self.boundaries = tuple(boundaries)
        self.schedules = tuple(
            entry if callable(entry) else make_schedule(f"scheduler_settings[{i}]", entry)
            for i, entry in enumerate(scheduler_settings)
        )

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        number = bisect_left(self.boundaries, step)
        start = self.boundaries[number - 1] if number else 0
        return self.schedules[number](step - start)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Cosine:
    """r₁ + (r₀ - r₁) · (1 + cos(π step / n)) / 2, from r₀ = `rate` to r₁ = `final_rate`.

    n = `steps`; after them the rate stays at `final_rate`.
    """

    rate: float
    steps: float
    final_rate: float = 0.0

    def __post_init__(self) -> None:
        _check_arguments(self, positive=("steps",), not_negative=("rate", "final_rate"))

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        completed = min(step / self.steps, 1.0)
        return self.final_rate + (self.rate - self.final_rate) * _cosine(completed)


@dataclass(frozen=True)
class OneCycle:
    """Up to `rate` and down to almost nothing (Smith & Topin, arXiv:1708.07120).

    The first part `rise` of `steps` steps lead from `start` · `rate` up to `rate`, the others down
    to `end` · `rate`, both along half a cosine; then it stays there.
    """

    rate: float
    steps: float
    rise: float = 0.3
    start: float = 0.04
    end: float = 4e-6

    def __post_init__(self) -> None:
        _check_arguments(self, positive=("steps",), not_negative=("rate", "start", "end"))
        if not 0 < self.rise < 1:
            raise ConfigError(f"rise is {self.rise!r}; allowed: a number > 0 and < 1")

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        top = self.rise * self.steps
        if step < top:
            return self.rate * (1 - (1 - self.start) * _cosine(step / top))
        completed = min((step - top) / (self.steps - top), 1.0)
        return self.rate * (self.end + (1 - self.end) * _cosine(completed))


class WarmUp:
    """Another schedule, reached slowly: step s < `steps` has (s + 1) / `steps` of its rate.

    Parameters
    ----------
    schedule
        A learning rate, a mapping with `full_class_string` and `settings`, or a schedule. Its steps
        count from the start, not from the end of the warm-up.
    steps
        Number of steps of the warm-up, the last of which has the whole rate.

    Raises
    ------
    ConfigError
        If the arguments are wrong.
    """

    def __init__(self, schedule: float | Mapping[str, Any] | Schedule, steps: float) -> None:
        _check_number("steps", steps)
        if steps <= 0:
            raise ConfigError(f"steps is {steps!r}; allowed: a number > 0")
        if isinstance(schedule, int | float):
            _check_number("schedule", schedule)
            schedule = ConstantRate(schedule)
        self.schedule = schedule if callable(schedule) else make_schedule("schedule", schedule)
        self.steps = steps

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        return self.schedule(step) * min((step + 1) / self.steps, 1.0)


_KERAS_SCHEDULES = {
    schedule.__name__: schedule
    for schedule in (
        CosineDecay,
        CosineDecayRestarts,
        ExponentialDecay,
        InverseTimeDecay,
        PiecewiseConstantDecay,
        PolynomialDecay,
    )
}


def make_schedule(key: str, settings: Any) -> Schedule:
    """A schedule as a config describes it.

    Parameters
    ----------
    key
        Where it stands in the config, for messages.
    settings
        A mapping with `full_class_string` and `settings`.

    Raises
    ------
    ConfigError
        Naming the key path, if there is no such schedule or it does not take these settings.
    """
    if isinstance(settings, ScheduleSettings):
        settings = settings.model_dump()
    if not (isinstance(settings, Mapping) and isinstance(settings.get("full_class_string"), str)):
        raise ConfigError(
            f"{key} is {settings!r}; allowed: a mapping with 'full_class_string' and 'settings'"
        )
    unknown = settings.keys() - {"full_class_string", "settings"}
    if unknown:
        raise ConfigError(
            f"{key} has the keys {', '.join(sorted(unknown))} besides 'full_class_string' and "
            "'settings': arguments of the schedule belong into 'settings'"
        )
    name = settings["full_class_string"]
    schedule_class = _find(f"{key}.full_class_string", name)
    arguments = settings.get("settings") or {}
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"{key}.settings is {arguments!r}; allowed: a mapping of settings")
    if schedule_class in (MultiLearningRateScheduler, WarmUp):
        arguments = _with_schedules(f"{key}.settings", arguments)
    schedule: Schedule = _construct(f"{key}.settings", name, schedule_class, arguments)
    if not callable(schedule):
        raise ConfigError(
            f"{key}.full_class_string is '{name}', but what it makes cannot be called with a step "
            "to give a learning rate"
        )
    return schedule


def rate_at(key: str, schedule: Schedule, step: int) -> float:
    """Learning rate that a schedule gives for a step.

    Parameters
    ----------
    key
        Where the schedule stands in the config, for messages.

    Raises
    ------
    ConfigError
        If it is not a number >= 0.
    """
    rate = call_plugin(schedule, "the schedule", key, f"for step {step}", step)
    try:
        rate = float(rate)
    except (TypeError, ValueError):
        rate = math.nan
    if not 0 <= rate < math.inf:
        raise ConfigError(
            f"{key}: the learning rate of step {step} is {rate}; it must be a number >= 0"
        )
    return rate


def _find(key: str, name: str) -> Any:
    """The class of a schedule."""
    keras_name = _KERAS_NAME.fullmatch(name)
    if keras_name is None:
        return resolve(name, key)
    if keras_name[1] not in _KERAS_SCHEDULES:
        raise ConfigError(
            f"{key} is '{name}', but there is no schedule '{keras_name[1]}'; there are "
            f"{', '.join(_KERAS_SCHEDULES)}"
        )
    return _KERAS_SCHEDULES[keras_name[1]]


def _with_schedules(key: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments in which schedules are made; the class tells what else is wrong with them."""
    made = dict(arguments)
    entries, schedule = arguments.get("scheduler_settings"), arguments.get("schedule")
    if isinstance(entries, list | tuple):
        made["scheduler_settings"] = [
            make_schedule(f"{key}.scheduler_settings[{i}]", entry)
            for i, entry in enumerate(entries)
        ]
    if isinstance(schedule, Mapping):
        made["schedule"] = make_schedule(f"{key}.schedule", schedule)
    return made


def _construct(key: str, name: str, schedule_class: Any, arguments: Mapping[str, Any]) -> Any:
    """What the class makes of the arguments; errors name the key and the arguments there are."""
    try:
        signature = inspect.signature(schedule_class)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: '{name}' cannot be called with settings ({error})") from error
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"{key}: '{name}' does not take these settings ({error}). It takes: "
            f"{', '.join(signature.parameters)}"
        ) from error
    try:
        return call_plugin(partial(schedule_class, **arguments), name, key, "with these settings")
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def _completed(step: int, decay_steps: float, staircase: bool) -> float:
    """How often `decay_steps` are over, with `staircase` in whole numbers."""
    return math.floor(step / decay_steps) if staircase else step / decay_steps


def _cosine(completed: float) -> float:
    """Half a wave from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * completed))


def _check_arguments(
    schedule: Any, positive: Sequence[str], not_negative: Sequence[str] = ()
) -> None:
    """Check that the fields of a schedule are what they are declared to be."""
    for field in fields(schedule):
        value = getattr(schedule, field.name)
        if field.type == "bool" and not isinstance(value, bool):
            raise ConfigError(f"{field.name} is {value!r}; allowed: true or false")
        if field.type == "float" or (field.type == "float | None" and value is not None):
            _check_number(field.name, value)
    for name in positive:
        if getattr(schedule, name) <= 0:
            raise ConfigError(f"{name} is {getattr(schedule, name)!r}; allowed: a number > 0")
    for name in not_negative:
        if getattr(schedule, name) < 0:
            raise ConfigError(f"{name} is {getattr(schedule, name)!r}; allowed: a number >= 0")


def _check_number(name: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value)):
        raise ConfigError(f"{name} is {value!r}; allowed: a number")


def _check_boundaries(boundaries: Any, parts: Any, name: str) -> None:
    """Check that there are increasing boundaries between the parts."""
    for key, values in (("boundaries", boundaries), (name, parts)):
        if not isinstance(values, list | tuple):
            raise ConfigError(f"{key} is {values!r}; allowed: a list")
    for boundary in boundaries:
        _check_number("boundaries", boundary)
    if any(first >= second for first, second in pairwise(boundaries)):
        raise ConfigError(f"boundaries is {list(boundaries)}; allowed: increasing steps")
    if len(parts) != len(boundaries) + 1:
        raise ConfigError(
            f"there are {len(boundaries)} boundaries and {len(parts)} {name}: the latter must be "
            "one more"
        )
