"""The look of every command: spellings of options, defaults and width of the help."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from dnn_reco.run_options import INTERRUPTED

_OTHER_NAMES = {"n-jobs": "jobs", "output": "out", "output-folder": "out"}


def spelling(name: str) -> str:
    """The shown spelling of a long option: `num_threads` is `num-threads`, `output` is `out`."""
    hyphenated = name.replace("_", "-")
    return _OTHER_NAMES.get(hyphenated, hyphenated)


# Sections of options in the help, with the names of their parameters; all others are in the first.
_SECTIONS: dict[str, tuple[str, ...]] = {
    "Options": (),
    "Computing": (
        "device",
        "backend",
        "batch_size",
        "jobs",
        "processes",
        "num_threads",
        "cache_dir",
    ),
    "Jobs on a cluster": tuple(
        f"cluster_{name}"
        for name in ("jobs", "cpus", "memory", "time", "option", "setup", "folder", "address")
    ),
    "Messages": ("as_json", "print_format", "log_level", "quiet", "help", "_click_default_help"),
}
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

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options to the help: its own first, then those that many commands share."""
        records: dict[str, list[tuple[str, str]]] = {title: [] for title in _SECTIONS}
        for parameter in self.get_params(ctx):
            is_option = isinstance(parameter, click.Option)
            record = parameter.get_help_record(ctx) if is_option else None
            if record is not None:
                records[_section(parameter.name or "")].append(record)
        for title, rows in records.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C ends it with the exit code of shells, where click has 1."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            click.echo("Interrupted.", err=True)
            ctx.exit(getattr(stop, "exit_code", INTERRUPTED))


def _section(name: str) -> str:
    return next((title for title, names in _SECTIONS.items() if name in names), "Options")


class CommandGroup(Command, click.Group):
    """A group of such commands, which its help may show in sections."""

    command_class = Command
    group_class = type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections: dict[str, list[str]] = {}

    def add_section(self, title: str, commands: Iterable[click.Command]) -> None:
        """Add commands that stand together in the help."""
        commands = list(commands)
        for command in commands:
            self.add_command(command)
        self._sections[title] = [str(command.name) for command in commands]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write options and commands to the help."""
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands to the help, in their sections if there are some."""
        width = max(map(len, self.commands))
        for title, names in (self._sections or {"Commands": list(self.commands)}).items():
            limit = formatter.width - width - 6
            rows = [(f"{n:<{width}}", self.commands[n].get_short_help_str(limit)) for n in names]
            with formatter.section(title):
                formatter.write_dl(rows)
