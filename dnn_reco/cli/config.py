"""The command lines of `dnn-reco config show` and `config check`."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from dnn_reco.cli.options import config_files_argument


@click.group("config")
def config_group() -> None:
    """Show or check a configuration."""


@config_group.command("show")
@config_files_argument
def config_show_command(config_files: tuple[str, ...]) -> None:
    """Print the merged, complete config, and where each value comes from.

    \b
    Example:
      dnn-reco config show getting_started.yaml
    """
    from dnn_reco.config import load_config, show_config

    click.echo(show_config(load_config(config_files)))


@config_group.command("check")
@config_files_argument
def config_check_command(config_files: tuple[str, ...]) -> NoReturn:
    """Validate a config: keys, values, modules, and the files that its patterns match.

    The exit code is 1 if something is missing.

    \b
    Example:
      dnn-reco config check getting_started.yaml
    """
    from dnn_reco.config import allow_plugins_beside, load_stages

    allow_plugins_beside(config_files)
    stages = load_stages(config_files)
    from dnn_reco.commands.check_config import run_check  # slow: it imports torch

    sys.exit(run_check(stages))
