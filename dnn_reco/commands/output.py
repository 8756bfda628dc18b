"""What commands print: results, notes about what was done, and documents for machines."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

import click


def is_quiet() -> bool:
    """Whether the command that runs was given `--quiet`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.params.get("quiet"))


def print_note(text: str) -> None:
    """Print what was done, such as where a file lies; with `--quiet`, nothing is printed."""
    if not is_quiet():
        click.echo(text)


def coloured(text: str, colour: str | None, stream: TextIO | None = None) -> str:
    """Text in a colour on terminals, unless the environment variable NO_COLOR is set.

    Parameters
    ----------
    text
        The text.
    colour
        Name of the colour; None: none.
    stream
        Where it is printed; None: standard output.
    """
    is_terminal = (stream or sys.stdout).isatty()
    if colour is None or os.environ.get("NO_COLOR") or not is_terminal:
        return text
    return click.style(text, fg=colour)


def print_json(document: dict[str, Any]) -> None:
    """Print the result of a command with `--json`: one document, and nothing else."""
    click.echo(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))
