"""Keys of a mapping as an instance of a strict class of settings, with lines in messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationError

from dnn_reco.config.sources import KeyPath
from dnn_reco.config.typed_settings import describe, setting_fields
from dnn_reco.config.value_types import Allowed, Text, allowed
from dnn_reco.errors import ConfigError

T = TypeVar("T")


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _one_or_more(value: Any) -> Any:
    return (value,) if isinstance(value, str) else _as_tuple(value)


NameList = Annotated[
    tuple[Text, ...], BeforeValidator(_one_or_more), Allowed("a name, or a list of names")
]
PatternList = Annotated[
    tuple[Text, ...],
    Field(min_length=1),
    BeforeValidator(_one_or_more),
    Allowed("the glob pattern of a file, or a list of them"),
]
AnyText = Annotated[str, Field(pattern=r"^[^\x00]*$"), Allowed("text")]
_Integer = Annotated[int, Field(ge=0, lt=2**31)]
RunList = Annotated[
    tuple[_Integer, ...], BeforeValidator(_as_tuple), Allowed("a list of numbers of runs")
]
RunRange = Annotated[
    tuple[_Integer, ...],
    Field(min_length=1, max_length=3),
    BeforeValidator(_as_tuple),
    Allowed("[end], [first, end] or [first, end, step], whole numbers; the end is not included"),
]


def checked(kind: type[T], values: Mapping[str, Any], where: Callable[[KeyPath], str]) -> T:
    """The keys of a class among the values, as an instance of it.

    Parameters
    ----------
    kind
        A dataclass of pydantic with `config=STRICT`.
    values
        Values by key; other keys are left out.
    where
        Returns the file and line of a key.

    Raises
    ------
    ConfigError
        Naming each key that is missing or wrong, its line, and what is allowed.
    """
    fields = setting_fields(kind)
    given = {key: values[key] for key in fields if key in values}
    try:
        return kind(**given)
    except ValidationError as error:
        lines = []
        for details in error.errors():
            at, text = describe(
                details, given, lambda at: f"allowed: {allowed(fields[str(at[0])])}"
            )
            lines.append(f"{where(at)}: {text}")
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error
