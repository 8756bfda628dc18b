"""Filling `{name}` in the texts of a config of data creation.

Patterns are those of Python's format strings, restricted to names and zero-padded whole numbers:
attributes, items and conversions, which reach into Python objects, do not exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dnn_reco.config.placeholders import TUTORIAL, insert_folder
from dnn_reco.errors import ConfigError
from dnn_reco.suggestions import nearest

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_FIELD = re.compile(r"([^\W\d]\w*)(?::(?:0(\d{1,2}))?d)?", re.ASCII)
_MOST_LETTERS = 10_000

FORMS = "{name}, and {name:06d} for a whole number padded with zeros"
"""What a pattern may hold, for messages."""


@dataclass
class PatternFiller:
    """Fills patterns with the values of keys, in whose texts patterns are filled as well.

    Attributes
    ----------
    values
        Value of each key.
    where
        Returns the file and line of a key.
    """

    values: Mapping[str, Any]
    where: Callable[[str], str]
    _filled: dict[str, str] = field(default_factory=dict, init=False)
    _open_keys: list[str] = field(default_factory=list, init=False)

    def fill(self, text: str, place: str) -> str:
        """A text with its patterns filled; `{{` and `}}` are braces.

        Parameters
        ----------
        text
            The text.
        place
            Where it stands, for messages.

        Raises
        ------
        ConfigError
            If a pattern has another form, names no key or one without a plain value, refers to
            itself, or the result is very long.
        """
        filled = _PART.sub(lambda part: self._replacement(part, text, place), text)
        if len(filled) > _MOST_LETTERS:
            raise ConfigError(f"{place}: '{text}' is too long with its patterns filled")
        return filled

    def _replacement(self, part: re.Match[str], text: str, place: str) -> str:
        """What one pattern, or a pair of braces, becomes."""
        if part[0] in ("{{", "}}"):
            return part[0][0]
        written = None if part[1] is None else _FIELD.fullmatch(part[1])
        if written is None:
            raise ConfigError(
                f"{place}: '{part[0]}' in '{text}' is not a pattern. Patterns are {FORMS}; write "
                "{{ and }} for braces"
            )
        name, width = written[1], written[2]
        value = self._value(name, text, place)
        if written[0] == name:
            return self._text(name, value, place)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(
                f"{place}: '{part[0]}' needs a whole number, but '{name}' "
                f"({self.where(name)}) is {value!r}"
            )
        return format(value, f"0{width or 0}d")

    def _value(self, name: str, text: str, place: str) -> Any:
        if name == TUTORIAL:
            raise ConfigError(f"{place}: {insert_folder([repr(text)])}")
        if name not in self.values:
            hint = f"; the nearest is '{nearest(name, self.values)}'" if self.values else ""
            raise ConfigError(f"{place}: no key '{name}' is set for '{text}'{hint}")
        return self.values[name]

    def _text(self, name: str, value: Any, place: str) -> str:
        """A plain value as text, with its own patterns filled."""
        if isinstance(value, int | float):
            return str(value)
        if not isinstance(value, str):
            raise ConfigError(
                f"{place}: '{name}' ({self.where(name)}) is {value!r}, which cannot be inserted "
                "into text"
            )
        if name in self._open_keys:
            way = " -> ".join([*self._open_keys, name])
            raise ConfigError(f"{self.where(name)}: '{name}' refers to itself: {way}")
        if name not in self._filled:
            self._open_keys.append(name)
            self._filled[name] = self.fill(value, self.where(name))
            self._open_keys.pop()
        return self._filled[name]


def pattern_names(value: Any) -> Iterator[str]:
    """Names in the patterns of all texts of a nested value."""
    if isinstance(value, str):
        for inside in _PART.findall(value):
            if found := _FIELD.fullmatch(inside):
                yield found[1]
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from pattern_names(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pattern_names(inner)
