"""The look of every command: spellings of options, defaults and width of the help."""

from __future__ import annotations

from typing import Any

import click

from dnn_reco.run_options import INTERRUPTED

_OTHER_NAMES = {"n-jobs": "jobs", "output": "out", "output-folder": "out"}


def spelling(name: str) -> str:
    """The shown spelling of a long option: `num_threads` is `num-threads`, `output` is `out`."""
    hyphenated = name.replace("_", "-")
    return _OTHER_NAMES.get(hyphenated, hyphenated)


_SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "show_default": True,
    "token_normalize_func": spelling,
}


class Command(click.Command):
    """A command whose options may also be written with underscores and by their older names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = {**_SETTINGS, **self.context_settings}

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it with the exit code of shells, where click has 1."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            click.echo("Interrupted.", err=True)
            ctx.exit(getattr(stop, "exit_code", INTERRUPTED))


class Group(Command, click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type
