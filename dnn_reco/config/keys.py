"""How the keys of the config are declared: fields of groups, with description and default."""

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from dnn_reco.config.value_types import Keys, allowed
from dnn_reco.errors import ConfigError


def needed(description: str, example: str) -> Any:
    """A key without a sensible default; `example` is a value that a user could set."""
    return Field(default=None, description=description, json_schema_extra={"example": example})


def of_module(description: str) -> Any:
    """A key that one module reads if it is set; if not, users' functions must not see it."""
    return Field(default=None, description=description, json_schema_extra={"of_module": True})


def key(default: Any, description: str) -> Any:
    """A key with a default."""
    return Field(default=default, description=description)


def extra_of(field: FieldInfo, name: str) -> Any:
    """An annotation of a field by `needed` or `of_module`; None if there is none."""
    extra = field.json_schema_extra
    return extra.get(name) if isinstance(extra, dict) else None


class SettingsGroup(Keys):
    """A group of keys of the config."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
    title: ClassVar[str]

    @model_validator(mode="after")
    def _without_missing(self) -> "SettingsGroup":
        for name, field in type(self).model_fields.items():
            if extra_of(field, "example") and self.__dict__[name] is None:
                del self.__dict__[name]
        return self

    if not TYPE_CHECKING:  # so that a type checker still detects a misspelt attribute

        def __getattr__(self, name: str) -> Any:
            """Raise an error that describes the missing key, if it is a declared one."""
            field = type(self).model_fields.get(name)
            if field is None:
                return super().__getattr__(name)
            raise ConfigError(missing_key(name, field))


def missing_key(name: str, field: FieldInfo) -> str:
    """Message for a key that is required but not set."""
    example = extra_of(field, "example") or f"<{allowed(field)}>"
    return (
        f"the key '{name}' is not set: {field.description}\n"
        f"    add a line such as    {name}: {example}"
    )
