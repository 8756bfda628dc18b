"""Learning-rate schedules: the learning rate as a function of the step, which counts from 0.

A config names a schedule by `full_class_string` and its arguments by `settings`. The schedules of
Keras are available by their names there (`tensorflow.keras.optimizers.schedules.CosineDecay`), with
the same arguments and formulas (https://keras.io/api/optimizers/learning_rate_schedules), but
without TensorFlow. `WarmUp`, `Cosine` and `OneCycle` are specific to this package. Any other class
or function can be used, if `full_class_string(**settings)` returns a function from a step to a
learning rate.

A schedule has no state: the rate of a step does not depend on previous calls.
"""

import inspect
import math
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo
from pydantic.dataclasses import dataclass, is_pydantic_dataclass

from dnn_reco.config.plugins import call_plugin, resolve
from dnn_reco.config.typed_settings import STRICT, typed_settings
from dnn_reco.config.value_types import (
    Allowed,
    Flag,
    FreeSettings,
    NotNegativeNumber,
    Number,
    OpenFraction,
    PositiveNumber,
    ScheduleSettings,
)
from dnn_reco.errors import ConfigError

Schedule = Callable[[int], float]

_KERAS_NAME = re.compile(r"(?:tensorflow\.|tf\.)?(?:keras\.)?optimizers\.schedules\.(\w+)")


def _made(value: Any, info: ValidationInfo) -> Any:
    """The schedule that a mapping names; other values are returned unchanged."""
    return make_schedule(str(info.field_name), value) if isinstance(value, Mapping) else value


def _made_or_constant(value: Any, info: ValidationInfo) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return ConstantRate(value) if is_number and math.isfinite(value) else _made(value, info)


_MAPPING = "a mapping with 'full_class_string' and 'settings'"
_Boundaries = Annotated[
    Sequence[Annotated[int | float, Field(allow_inf_nan=False)]], Allowed("a list of steps")
]


@dataclass(frozen=True, config=STRICT)
class ConstantRate:
    """The same learning rate in every step."""

    rate: float

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        return self.rate


@dataclass(frozen=True, config=STRICT)
class _StepwiseDecay:
    initial_learning_rate: Number
    decay_steps: PositiveNumber
    decay_rate: NotNegativeNumber
    staircase: Flag = False
    name: Any = None

    def _completed(self, step: int) -> float:
        """Number of completed `decay_steps`; an integer with `staircase`."""
        completed = step / self.decay_steps
        return math.floor(completed) if self.staircase else completed


@dataclass(frozen=True, config=STRICT)
class ExponentialDecay(_StepwiseDecay):
    """r₀ · d^(step / n), with r₀ `initial_learning_rate`, d `decay_rate`, n `decay_steps`.

    With `staircase` the exponent is rounded down.
    """

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        return self.initial_learning_rate * math.pow(self.decay_rate, self._completed(step))


@dataclass(frozen=True, config=STRICT)
class InverseTimeDecay(_StepwiseDecay):
    """r₀ / (1 + d · step / n), with r₀ `initial_learning_rate`, d `decay_rate`, n `decay_steps`.

    With `staircase` step / n is rounded down.
    """

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        return self.initial_learning_rate / (1 + self.decay_rate * self._completed(step))


@dataclass(frozen=True, config=STRICT)
class PolynomialDecay:
    """(r₀ - r₁) · (1 - step / n)^power + r₁, from r₀ `initial_learning_rate` to r₁.

    After n = `decay_steps` the rate stays at r₁ = `end_learning_rate`. With `cycle` n is instead
    the first multiple of `decay_steps` that is not below the step (in step 0 `decay_steps` itself).
    """

    initial_learning_rate: Number
    decay_steps: PositiveNumber
    end_learning_rate: Number = 0.0001
    power: NotNegativeNumber = 1.0
    cycle: Flag = False
    name: Any = None

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        cycles = max(1, math.ceil(step / self.decay_steps)) if self.cycle else 1
        decay_steps = self.decay_steps * cycles
        left = 1 - min(step, decay_steps) / decay_steps
        change = self.initial_learning_rate - self.end_learning_rate
        return change * math.pow(left, self.power) + self.end_learning_rate


@dataclass(frozen=True, config=STRICT)
class CosineDecay:
    """r · ((1 - α) · (1 + cos(π step / n)) / 2 + α) until n = `decay_steps`, then r · α.

    Here r is `initial_learning_rate`. With a `warmup_target` the rate first rises linearly from
    `initial_learning_rate` to it within `warmup_steps`; after them r is `warmup_target`, and the
    step counts from there.
    """

    initial_learning_rate: Number
    decay_steps: PositiveNumber
    alpha: NotNegativeNumber = 0.0
    name: Any = None
    warmup_target: Number | None = None
    warmup_steps: NotNegativeNumber = 0

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


@dataclass(frozen=True, config=STRICT)
class CosineDecayRestarts:
    """r₀ · ((1 - α) · mⁱ · (1 + cos(π x)) / 2 + α) at the fraction x of period i.

    r₀ is `initial_learning_rate`, m `m_mul`; period 0 takes `first_decay_steps`, each later one
    `t_mul` times as long as the one before (Loshchilov & Hutter, arXiv:1608.03983).
    """

    initial_learning_rate: Number
    first_decay_steps: PositiveNumber
    t_mul: Annotated[float, Field(ge=1, allow_inf_nan=False), Allowed("a number >= 1")] = 2.0
    m_mul: NotNegativeNumber = 1.0
    alpha: NotNegativeNumber = 0.0
    name: Any = None

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        period, length, left = 0, self.first_decay_steps, float(step)
        if self.t_mul == 1:
            period, left = int(left // length), left % length
        while left >= length:
            period, length, left = period + 1, length * self.t_mul, left - length
        height = self.m_mul**period * _cosine(left / length)
        return self.initial_learning_rate * ((1 - self.alpha) * height + self.alpha)


@dataclass(frozen=True, config=STRICT)
class PiecewiseConstantDecay:
    """`values[i]` up to and including step `boundaries[i]`, then the last value."""

    boundaries: _Boundaries
    values: Annotated[Sequence[Number], Allowed("a list of numbers")]
    name: Any = None

    def __post_init__(self) -> None:
        _check_boundaries(self.boundaries, self.values, "values")

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        return self.values[bisect_left(self.boundaries, step)]


@dataclass(frozen=True, config=STRICT)
class MultiLearningRateScheduler:
    """A sequence of schedules.

    Attributes
    ----------
    boundaries
        Steps at which schedules end, increasing: the step of a boundary is the last one of its
        schedule. Each later schedule counts its steps from the boundary before it.
    scheduler_settings
        The schedules, one more than there are boundaries: each a mapping with `full_class_string`
        and `settings`, or a schedule.
    name
        Without effect.
    """

    boundaries: _Boundaries
    scheduler_settings: Annotated[
        Sequence[Annotated[Schedule, BeforeValidator(_made)]],
        Allowed(f"a list, each entry {_MAPPING}"),
    ]
    name: Any = None

    def __post_init__(self) -> None:
        _check_boundaries(self.boundaries, self.scheduler_settings, "scheduler_settings")

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        number = bisect_left(self.boundaries, step)
        start = self.boundaries[number - 1] if number else 0
        return self.scheduler_settings[number](step - start)  # type: ignore[arg-type]


@dataclass(frozen=True, config=STRICT)
class Cosine:
    """r₁ + (r₀ - r₁) · (1 + cos(π step / n)) / 2, from r₀ = `rate` to r₁ = `final_rate`.

    n = `steps`; after them the rate stays at `final_rate`.
    """

    rate: NotNegativeNumber
    steps: PositiveNumber
    final_rate: NotNegativeNumber = 0.0

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        completed = min(step / self.steps, 1.0)
        return self.final_rate + (self.rate - self.final_rate) * _cosine(completed)


@dataclass(frozen=True, config=STRICT)
class OneCycle:
    """The one-cycle schedule (Smith & Topin, arXiv:1708.07120).

    The rate rises from `start` · `rate` to `rate` during the fraction `rise` of the `steps` steps,
    and falls to `end` · `rate` during the others, both along half a cosine; then it is constant.
    """

    rate: NotNegativeNumber
    steps: PositiveNumber
    rise: OpenFraction = 0.3
    start: NotNegativeNumber = 0.04
    end: NotNegativeNumber = 4e-6

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        top = self.rise * self.steps
        if step < top:
            return self.rate * (1 - (1 - self.start) * _cosine(step / top))
        completed = min((step - top) / (self.steps - top), 1.0)
        return self.rate * (self.end + (1 - self.end) * _cosine(completed))


@dataclass(frozen=True, config=STRICT)
class WarmUp:
    """Linear warm-up to another schedule: step s < `steps` has (s + 1) / `steps` of its rate.

    Attributes
    ----------
    schedule
        A learning rate, a mapping with `full_class_string` and `settings`, or a schedule. Its steps
        count from the start, not from the end of the warm-up.
    steps
        Number of steps of the warm-up, the last of which has the full rate.
    """

    schedule: Annotated[
        Schedule, BeforeValidator(_made_or_constant), Allowed(f"a learning rate, or {_MAPPING}")
    ]
    steps: PositiveNumber

    def __call__(self, step: int) -> float:
        """Learning rate of a step."""
        return self.schedule(step) * min((step + 1) / self.steps, 1.0)


_KERAS_SCHEDULES: dict[str, type] = {
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


@dataclass(frozen=True, config=STRICT)
class _NamedSchedule:
    """The description of a schedule in a config."""

    full_class_string: Annotated[str, Allowed("a dotted name")]
    settings: FreeSettings | None = None


def make_schedule(key: str, settings: Any) -> Schedule:
    """Create the schedule that a config describes.

    Parameters
    ----------
    key
        Its key path in the config, for messages.
    settings
        A mapping with `full_class_string` and `settings`.

    Raises
    ------
    ConfigError
        Naming the key path, if there is no such schedule or it does not accept these settings.
    """
    if isinstance(settings, ScheduleSettings):
        settings = settings.model_dump()
    named = typed_settings(_NamedSchedule, settings, key, ConfigError)
    name, arguments = named.full_class_string, named.settings or {}
    kind: Any = _find(f"{key}.full_class_string", name)
    if _is_own(kind):
        made = _with_schedules(f"{key}.settings", arguments)
        known: Schedule = typed_settings(kind, made, f"{key}.settings", ConfigError)
        return known
    schedule: Schedule = _construct(f"{key}.settings", name, kind, arguments)
    if not callable(schedule):
        raise ConfigError(
            f"{key}.full_class_string is '{name}', but its result cannot be called with a step to "
            "return a learning rate"
        )
    return schedule


def rate_at(key: str, schedule: Schedule, step: int) -> float:
    """Learning rate of a schedule at a step.

    Parameters
    ----------
    key
        Key path of the schedule in the config, for messages.

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


def _is_own(kind: Any) -> bool:
    return is_pydantic_dataclass(kind) and kind.__module__ == __name__


def _find(key: str, name: str) -> Any:
    """The class of the schedule of a dotted name."""
    keras_name = _KERAS_NAME.fullmatch(name)
    if keras_name is None:
        return resolve(name, key)
    if keras_name[1] not in _KERAS_SCHEDULES:
        raise ConfigError(
            f"{key} is '{name}', but there is no schedule '{keras_name[1]}'; allowed: "
            f"{', '.join(_KERAS_SCHEDULES)}"
        )
    return _KERAS_SCHEDULES[keras_name[1]]


def _with_schedules(key: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Arguments with nested schedules created, so that errors in them have the full key path."""
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
    """Call a user's class with the arguments; errors name the key and the arguments."""
    try:
        signature = inspect.signature(schedule_class)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: '{name}' cannot be called with settings ({error})") from error
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"{key}: '{name}' rejects these settings ({error}). Its settings: "
            f"{', '.join(signature.parameters)}"
        ) from error
    try:
        return call_plugin(partial(schedule_class, **arguments), name, key, "with these settings")
    except ConfigError as error:
        raise ConfigError(f"{key}: {error}") from error


def _cosine(completed: float) -> float:
    """Half a wave from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * completed))


def _check_boundaries(boundaries: Sequence[float], parts: Sequence[object], name: str) -> None:
    """Check that there are increasing boundaries between the parts."""
    if any(first >= second for first, second in pairwise(boundaries)):
        raise ValueError(f"'boundaries' is {list(boundaries)}; allowed: increasing steps")
    if len(parts) != len(boundaries) + 1:
        raise ValueError(
            f"there are {len(boundaries)} 'boundaries' and {len(parts)} '{name}': there must be "
            f"one '{name}' more than boundaries"
        )
