"""The page of all commands, from the options and help texts of the command line."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator

import click
from markdown_text import escaped, table

from dnn_reco.cli import cli

_VERBATIM = "\b\n"  # marks paragraphs that click does not wrap
_OPTION = re.compile(r"(?<![\w`-])--[a-z][\w-]*\w")
_OLDER_SPELLING = re.compile(r"--[a-z0-9]+(?:_[a-z0-9]+)+")


def page() -> str:
    """A table of all commands, then a section for each."""
    root = click.Context(cli, info_name="dnn-reco")
    commands = [context for context in _contexts(root) if context is not root]
    rows = [
        (f"[`{context.command_path}`](#{_anchor(context)})", _summary(context))
        for context in commands
    ]
    return "\n".join([*table(("command", "what it does"), rows), "", *map(_section, commands)])


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """A command, and those inside of it, in the order of the help text."""
    yield context
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.commands[name]
            if not command.hidden:
                yield from _contexts(click.Context(command, info_name=name, parent=context))


def _anchor(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _summary(context: click.Context) -> str:
    return _prose(context.command.get_short_help_str(limit=500))


def _section(context: click.Context) -> str:
    depth = "###" if context.parent is not None and context.parent.parent is not None else "##"
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"{depth} {context.command_path}", "", "```text", usage, "```", ""]
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines += [*_paragraph(paragraph), ""]
    return "\n".join([*lines, *_options(context), ""])


def _paragraph(text: str) -> list[str]:
    if not text.startswith(_VERBATIM):
        return [_prose(" ".join(text.split()))]
    first, *others = text.removeprefix(_VERBATIM).splitlines()
    head = [_prose(first), ""] if first.endswith(":") else []
    block = others if head else [first, *others]
    return [*head, "```text", textwrap.dedent("\n".join(block)), "```"]


def _options(context: click.Context) -> list[str]:
    records = [parameter.get_help_record(context) for parameter in context.command.params]
    rows = [(f"`{_names(names)}`", _prose(text)) for names, text in filter(None, records) if text]
    return table(("option", "meaning"), rows) if rows else []


def _names(names: str) -> str:
    """Names of an option; of one with two spellings, that with hyphens."""
    older = [name for name in _OLDER_SPELLING.findall(names) if name.replace("_", "-") in names]
    for name in older:
        names = re.sub(rf"{name}\b,? ?", "", names)
    return re.sub(r",(?= |$)(?! -)", "", names).replace(" /", "/").replace("/", " /").strip()


def _prose(text: str) -> str:
    """Plain text with options marked as code."""
    return escaped(_OPTION.sub(r"`\g<0>`", text))
