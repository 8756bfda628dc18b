"""Settings as classes: what the messages tell of wrong values."""

from typing import Annotated, Literal

import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass

from dnn_reco.config.typed_settings import STRICT, kind_of, typed_settings, with_newer_names
from dnn_reco.config.value_types import Flag, Number, PositiveWholeNumber, Text
from dnn_reco.errors import ConfigError, ModelError


@dataclass(frozen=True, config=STRICT)
class Shape:
    width: PositiveWholeNumber
    kind: Annotated[Literal["round", "flat"], Field(alias="kind_list")] = "round"
    name: Text = "a"
    wide: Flag = False
    slope: Number = 0.5

    def __post_init__(self) -> None:
        if self.width == 13:
            raise ValueError("'width' must not be 13")


def test_values_are_taken_and_aliases_are_names() -> None:
    assert typed_settings(Shape, {"width": 3}, "key", ConfigError) == Shape(3)
    given = {"width": 3, "kind_list": "flat", "name": "b", "wide": True, "slope": 2}
    found = typed_settings(Shape, given, "key", ConfigError)
    assert found == Shape(3, "flat", "b", True, 2.0)
    assert type(found.slope) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (5, "key is 5 (number); allowed: a mapping with 'width', 'kind_list', 'name', 'wide', 'sl"),
        (None, "key is None (empty); allowed"),
        (
            {"width": 3, "nam": "b"},
            "key: unknown setting 'nam'. Did you mean 'name'? Known: width, kind_list, name, wide, "
            "slope.",
        ),
        ({"width": 3, "kind": "flat"}, "key: unknown setting 'kind'."),
        ({"width": "3"}, "key: 'width' is '3' (text); allowed: a whole number > 0"),
        ({"width": None}, "key: 'width' is None (empty); allowed: a whole number > 0"),
        ({"width": 0}, "key: 'width' is 0 (number)"),
        ({"width": 3, "wide": 1}, "key: 'wide' is 1 (number); allowed: true or false"),
        ({"width": 3, "kind_list": "oval"}, "key: 'kind_list' is 'oval' (text)"),
        ({"width": 13}, "key: 'width' must not be 13"),
        (
            {"width": 3, "name": 5},
            "key: 'name' is 5 (number); allowed: text; write text that looks like a number in quo",
        ),
        ({}, "key: 'width' is missing\nkey: settings are width, kind_list, name, wide, slope"),
        ({"width": 0, "wide": 1}, "key: 'width' is 0 (number); allowed: a whole number > 0\nkey: "),
    ],
)
def test_messages(values: object, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        typed_settings(Shape, values, "key", ModelError)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *[(True, "true/false"), (1, "number"), (1.5, "number"), ("a", "text"), (None, "empty")],
        *[([1], "list"), ((1,), "list"), ({}, "mapping"), (b"a", "bytes")],
    ],
)
def test_kinds_of_values(value: object, kind: str) -> None:
    assert kind_of(value) == kind


def test_older_names() -> None:
    names = {"old": "new"}
    assert with_newer_names({"old": 1, "a": 2}, names, "key", ConfigError) == {"new": 1, "a": 2}
    assert with_newer_names({"old": 1, "new": 1}, names, "key", ConfigError) == {"new": 1}
    assert with_newer_names({"new": 3}, names, "key", ConfigError) == {"new": 3}
    with pytest.raises(ConfigError, match="key: 'old' is 1, but 'new' is 2: these are two spell"):
        with_newer_names({"old": 1, "new": 2}, names, "key", ConfigError)
