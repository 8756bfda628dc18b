"""Sections of docstrings that name what they list without a type: results and attributes."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from itertools import pairwise

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

_INDENT = " " * 4
_SECTION_BREAK = ("", "")  # where napoleon ends the section before


def _complete(
    _app: Sphinx, what: str, _name: str, value: object, _options: object, lines: list[str]
) -> None:
    """Rewrite the sections in place, before napoleon reads the others."""
    if what in ("attribute", "property"):
        lines[:0] = ["..", ""]  # so that no part of the first line is taken for a type
    lines[:] = _rewritten(lines, _annotations(value) if inspect.isclass(value) else {})


def _annotations(cls: type) -> dict[str, str]:
    found: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        found |= vars(base).get("__annotations__", {})
    return {name: text for name, text in found.items() if isinstance(text, str)}


def _rewritten(lines: list[str], types: dict[str, str]) -> Iterator[str]:
    starts = [*_section_starts(lines), len(lines)]
    yield from lines[: starts[0]]
    for start, end in pairwise(starts):
        body = lines[start + 2 : end]
        if lines[start] == "Returns" and _is_named(body):
            yield from _results(body)
        elif lines[start] == "Attributes":
            yield from _attributes(body, types)
        else:
            yield from lines[start:end]


def _section_starts(lines: list[str]) -> Iterator[int]:
    for number, (title, rule) in enumerate(pairwise(lines)):
        if title and len(rule) == len(title) and set(rule) == {"-"}:
            yield number


def _is_named(body: list[str]) -> bool:
    return any(line.startswith(" ") for line in body)


def _items(body: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    name: str | None = None
    text: list[str] = []
    for line in body:
        if line and not line.startswith(" "):
            if name is not None:
                yield name, text
            name, text = line, []
        else:
            text.append(line.strip())
    if name is not None:
        yield name, text


def _results(body: list[str]) -> Iterator[str]:
    yield from (*_SECTION_BREAK, ":returns:")
    for name, text in _items(body):
        yield f"{_INDENT}- **{name}**: {' '.join(text).strip()}"
    yield ""


def _attributes(body: list[str], types: dict[str, str]) -> Iterator[str]:
    yield from (*_SECTION_BREAK, ".. rubric:: Attributes", "")
    for names, text in _items(body):
        each = names.split(", ")
        kinds = {types[name] for name in each if name in types}
        kind = f" : *{kinds.pop()}*" if len(kinds) == 1 else ""
        yield ", ".join(f"``{name}``" for name in each) + kind
        yield from (_INDENT + line if line else "" for line in text)
    yield ""


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the rewriting, which comes before that of napoleon."""
    app.connect("autodoc-process-docstring", _complete, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
