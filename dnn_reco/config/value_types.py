"""Types of config values: what is accepted, and its description for users.

Each type has an `Allowed` text, used in error messages and in the reference page.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError


@dataclass(frozen=True)
class Allowed:
    """Description of what a value may be."""

    text: str


class Keys(BaseModel):
    """Keys and their values.

    An empty value counts as not set, unless the key may be empty, or its default means more than
    an empty value: then it is an error.
    """

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {
            key: value
            for key, value in values.items()
            if value is not None
            or key not in cls.model_fields
            or may_be_empty(cls.model_fields[key])
            or _has_default(cls.model_fields[key])
        }


class Settings(Keys):
    """A mapping inside the config. Unknown keys are kept, with a warning, or refused."""

    keeps_unknown: ClassVar[bool] = True
    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class ScheduleSettings(Settings):
    """A learning-rate schedule: the name of its class and the settings of that class."""

    full_class_string: Annotated[str, Allowed("a dotted name")]
    settings: Annotated[dict[str, Any], Allowed("a mapping of settings")] = {}


def _has_default(field: FieldInfo) -> bool:
    """Whether the default of a field is a number other than 0, a text, true, or a list of these."""
    return bool(field.default) and isinstance(field.default, int | float | str | tuple)


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("flag", "true and false are not numbers")
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _dotted(value: str) -> str:
    parts = value.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError(f"allowed: {_DOTTED_NAME}")
    return value


def _flat_numbers(value: Any) -> Any:
    """Flatten nested lists, as in `[[[[[0., 1.]]]]]`."""
    if not isinstance(value, list | tuple):
        return (value,)
    return tuple(number for entry in value for number in _flat_numbers(entry))


def _log_bins(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    entries: Any = value.values() if isinstance(value, dict) else value
    if isinstance(value, list | tuple | dict) and all(isinstance(flag, bool) for flag in entries):
        return tuple(value) if isinstance(value, list) else value
    raise ValueError(f"allowed: {_LOG_BINS}")


def _dom_log_bins(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError(f"allowed: {_DOM_LOG_BINS}")
    return _log_bins(value)


def _columns(value: Any) -> Any:
    """Columns to load from each table: one name or a list of names."""
    for columns in value.values() if isinstance(value, dict) else [None]:
        names = columns if isinstance(columns, list | tuple) else [columns]
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"allowed: {_COLUMNS}")
    return value


def _optimizer_settings(value: Any) -> Any:
    """Validate the learning rate, and convert it if it is a schedule."""
    if not isinstance(value, dict) or "learning_rate" not in value:
        return value
    rate = value["learning_rate"]
    if isinstance(rate, ScheduleSettings):
        return value
    if isinstance(rate, dict) and isinstance(rate.get("full_class_string"), str):
        return {**value, "learning_rate": ScheduleSettings.model_validate(rate)}
    if isinstance(rate, int | float) and not isinstance(rate, bool) and 0 < rate < math.inf:
        return value
    raise ValueError(
        f"its learning_rate is {rate!r}; allowed: a number > 0 or a schedule, that is a mapping "
        "with 'full_class_string' and 'settings'"
    )


def _part_optimizer_settings(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse settings that concern all of the gradient or of the network."""
    wrong = [name for name in _OF_THE_WHOLE if name in value]
    if wrong:
        raise ValueError(
            f"it has {', '.join(wrong)}; allowed: a mapping of settings without "
            f"{', '.join(_OF_THE_WHOLE)}, which hold for all optimizers of the loss: set them in "
            "the optimizer_settings of the entry"
        )
    return value


_OF_THE_WHOLE = ("clipnorm", "clipvalue", "global_clipnorm", "use_ema", "ema_momentum")
_DOTTED_NAME = "a dotted name (package.module.name)"
_LOG_BINS = "true, false, a list of true/false, or a mapping name: true/false"
_DOM_LOG_BINS = "true, false, or a list of true/false, one for each bin"
_COLUMNS = "a mapping table: column, or table: [columns]"
_NUMBER_BY_NAME = "a mapping name: number"

_NUMBER = BeforeValidator(_no_flag)
_LARGEST = 2**63 - 1

Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$"), Allowed("text")]
DottedName = Annotated[
    str,
    AfterValidator(_dotted),
    Allowed(_DOTTED_NAME),
]
Flag = Annotated[bool, Allowed("true or false")]
Number = Annotated[float, Field(allow_inf_nan=False), _NUMBER, Allowed("a number")]
PositiveNumber = Annotated[
    float, Field(gt=0, allow_inf_nan=False), _NUMBER, Allowed("a number > 0")
]
NotNegativeNumber = Annotated[
    float, Field(ge=0, allow_inf_nan=False), _NUMBER, Allowed("a number >= 0")
]
Fraction = Annotated[float, Field(gt=0, le=1), _NUMBER, Allowed("a number > 0 and <= 1")]
OpenFraction = Annotated[float, Field(gt=0, lt=1), _NUMBER, Allowed("a number > 0 and < 1")]
Smoothing = Annotated[float, Field(ge=0, le=1), _NUMBER, Allowed("a number from 0 to 1")]
WholeNumber = Annotated[int, Field(ge=0, le=_LARGEST), _NUMBER, Allowed("a whole number >= 0")]
PositiveWholeNumber = Annotated[
    int, Field(gt=0, le=_LARGEST), _NUMBER, Allowed("a whole number > 0")
]
Seed = Annotated[int, Field(ge=0, le=_LARGEST), _NUMBER, Allowed("a whole number >= 0 and < 2^63")]
BatchSize = Annotated[
    int, Field(gt=0, le=1_000_000), _NUMBER, Allowed("a whole number > 0 and <= 1,000,000")
]
NumBins = Annotated[
    int, Field(gt=0, le=10_000), _NUMBER, Allowed("a whole number > 0 and <= 10,000")
]
Precision = Annotated[Literal["float32", "float64"], Allowed("float32 or float64")]
Verification = Annotated[Literal["samples", "full"], Allowed("samples or full")]
NetworkPrecision = Annotated[Literal["float32", "tf32", "bf16"], Allowed("float32, tf32 or bf16")]
AutoFlag = Annotated[Literal["auto"] | bool, Allowed("auto, true or false")]
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list), Allowed("a name, or a list of names")]
NotEmptyNames = Annotated[Names, Field(min_length=1)]
DottedNames = Annotated[
    tuple[DottedName, ...],
    BeforeValidator(_as_list),
    Field(min_length=1),
    Allowed("a dotted name (package.module.name), or a list of them"),
]
Numbers = Annotated[
    tuple[float, ...],
    BeforeValidator(_flat_numbers),
    Field(min_length=1),
    Allowed("a number, or a (nested) list of numbers"),
]
WholeNumbers = Annotated[tuple[int, ...], Allowed("a list of whole numbers")]
DomLogBins = Annotated[
    bool | tuple[bool, ...], BeforeValidator(_dom_log_bins), Allowed(_DOM_LOG_BINS)
]
LogBins = Annotated[
    bool | tuple[bool, ...] | dict[str, bool], BeforeValidator(_log_bins), Allowed(_LOG_BINS)
]
NumberByName = Annotated[dict[str, float], Allowed(_NUMBER_BY_NAME)]
WeightByName = Annotated[dict[str, NotNegativeNumber], Allowed("a mapping name: number >= 0")]
NameByName = Annotated[dict[str, str], Allowed("a mapping name: name")]
ValueByName = Annotated[dict[str, bool | float | str], Allowed("a mapping name: value")]
CutsByName = Annotated[
    dict[str, dict[str, float]], Allowed("a mapping name: {label: lowest value}")
]
ScoresByTable = Annotated[
    dict[str, list[tuple[str, float]]], Allowed("a mapping table: [[column, cut], ...]")
]
ColumnsByTable = Annotated[
    dict[str, str | tuple[str, ...]], BeforeValidator(_columns), Allowed(_COLUMNS)
]
Stages = Annotated[
    tuple[dict[str, Any], ...],
    Allowed("a list of mappings, each with num_training_iterations and the keys to change"),
]
LooseFlag = Annotated[
    bool, BeforeValidator(lambda v: bool(v) if v in (0, 1, None) else v), Allowed("true or false")
]
"""For strict classes of settings: a flag that may be 0 or 1 as well, or empty for false."""
FreeSettings = Annotated[dict[str, Any], Allowed("a mapping of settings")]
OptimizerArguments = Annotated[
    dict[str, Any],
    BeforeValidator(_optimizer_settings),
    Allowed("a mapping of settings, with 'learning_rate' a number or a schedule"),
]
PartOptimizerArguments = Annotated[OptimizerArguments, AfterValidator(_part_optimizer_settings)]


def allowed(field: FieldInfo) -> str:
    """Description of what the value of a field may be."""
    texts = [entry.text for entry in field.metadata if isinstance(entry, Allowed)]
    members = get_args(field.annotation)
    if not texts:  # an optional type keeps the text inside the union
        texts = [
            entry.text
            for member in members
            for entry in getattr(member, "__metadata__", ())
            if isinstance(entry, Allowed)
        ]
    choices = [c for member in (field.annotation, *members) for c in _choices(member)]
    if choices and not texts:
        texts = [", ".join(map(str, choices))]
    if not texts:
        return "a mapping of settings"
    return texts[0] + ("; or empty" if may_be_empty(field) else "")


def _choices(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def may_be_empty(field: FieldInfo) -> bool:
    """Whether a field accepts None."""
    return type(None) in get_args(field.annotation)


def nested_settings(field: FieldInfo) -> type[Settings] | None:
    """The settings class of a field that holds a mapping, or a mapping of mappings, of one."""
    candidates = [field.annotation, *get_args(field.annotation)]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, Settings):
            return candidate
    return None
