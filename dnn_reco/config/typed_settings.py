"""Settings that pydantic validates, with one form of error message.

A class of settings is a `pydantic.dataclasses.dataclass` with `config=STRICT`; the types of its
fields are those of :mod:`dnn_reco.config.value_types`, which describe what is allowed.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dnn_reco.config.sources import KeyPath
from dnn_reco.config.value_types import allowed
from dnn_reco.errors import DnnRecoError
from dnn_reco.suggestions import did_you_mean

STRICT = ConfigDict(strict=True, extra="forbid", validate_by_name=True, defer_build=True)
"""No type conversion, except of whole numbers to floating point."""

T = TypeVar("T")


def typed_settings(kind: type[T], values: Any, key: str, error: type[DnnRecoError]) -> T:
    """Settings of a config as an instance of their class.

    Parameters
    ----------
    kind
        A dataclass of pydantic. If a field has an alias, this is its name in the config.
    values
        The values in the config.
    key
        Their key path in the config, for messages.
    error
        Class of the error to raise.

    Raises
    ------
    DnnRecoError
        Naming each setting that is unknown, missing or wrong, its value, and what is allowed.
    """
    fields = setting_fields(kind)
    if not isinstance(values, Mapping):
        raise error(
            f"{key} is {values!r} ({kind_of(values)}); allowed: a mapping with "
            f"{', '.join(map(repr, fields))}"
        )
    check_names(values, fields, key, error)
    try:
        return kind(**values)
    except ValidationError as problem:
        problems = [
            describe(details, values, lambda at: f"allowed: {allowed(fields[str(at[0])])}", 1)[1]
            for details in problem.errors()
        ]
        if any(details["type"] == "missing" for details in problem.errors()):
            problems.append(f"settings are {', '.join(fields)}")
        raise error("\n".join(f"{key}: {text}" for text in dict.fromkeys(problems))) from problem


def setting_fields(kind: type) -> dict[str, FieldInfo]:
    """Fields of a class of settings by their names in a config."""
    fields: dict[str, FieldInfo] = vars(kind)["__pydantic_fields__"]
    return {field.alias or name: field for name, field in fields.items()}


def check_names(
    given: Iterable[object], known: Collection[str], key: str, error: type[DnnRecoError]
) -> None:
    """Raise an error for names of settings that do not exist, with a suggestion."""
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known)
            raise error(f"{key}: unknown setting '{name}'.{hint} Known: {', '.join(known)}.")


def with_newer_names(
    values: Mapping[str, Any], newer_names: Mapping[str, str], key: str, error: type[DnnRecoError]
) -> dict[str, Any]:
    """Settings with older names, the keys of `newer_names`, replaced by newer ones."""
    renamed = dict(values)
    for older, newer in newer_names.items():
        if older in renamed:
            value = renamed.pop(older)
            if renamed.setdefault(newer, value) != value:
                raise error(
                    f"{key}: '{older}' is {value!r}, but '{newer}' is {renamed[newer]!r}: these "
                    "are two spellings of the same setting; remove one of them"
                )
    return renamed


def describe(
    details: ErrorDetails,
    given: Any,
    allowed_at: Callable[[KeyPath], str],
    max_depth: int | None = None,
) -> tuple[KeyPath, str]:
    """Key path of a wrong value, and a message with the key, its value, and what is allowed.

    Parameters
    ----------
    details
        The error of pydantic.
    given
        The values that were validated.
    allowed_at
        Description of what is allowed at a key path; empty: pydantic's message.
    max_depth
        Length of the longest key path to name: of deeper ones the value at this depth is shown.
    """
    at, value = _deepest_value(details["loc"][:max_depth], given)
    name = ".".join(map(str, at))
    if details["type"] == "missing":
        lacking = details["loc"][-1]
        return at, f"'{name}' lacks the key '{lacking}'" if at else f"'{lacking}' is missing"
    reason = details["msg"].removeprefix("Value error, ")
    if not at:
        return at, reason
    if details["type"] != "value_error":
        reason = allowed_at(at) or reason
    needs_quotes = details["type"] == "string_type" and isinstance(value, int | float)
    remedy = "; write text that looks like a number in quotes" if needs_quotes else ""
    return at, f"'{name}' is {value!r} ({kind_of(value)}); {reason}{remedy}"


def _deepest_value(at: KeyPath, given: Any) -> tuple[KeyPath, Any]:
    """Follow an error's location as far as it is in the values (unions add further steps)."""
    depth, value = 0, given
    for step in at:
        in_list = isinstance(value, list | tuple) and isinstance(step, int) and step < len(value)
        if not in_list and not (isinstance(value, Mapping) and step in value):
            break
        value = value[step]
        depth += 1
    return at[:depth], value


def kind_of(value: Any) -> str:
    """The type of a value for messages, such as `number` or `list`."""
    kinds = {
        bool: "true/false",
        int: "number",
        float: "number",
        str: "text",
        list: "list",
        tuple: "list",
        dict: "mapping",
        type(None): "empty",
    }
    return kinds.get(type(value), type(value).__name__)
