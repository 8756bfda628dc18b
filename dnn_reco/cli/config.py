"""The command lines of `dnn-reco config show` and `config check`."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from dnn_reco.cli.command import CommandGroup
from dnn_reco.cli.options import allow_overlap_option, config_files_argument, json_option


@click.group("config", cls=CommandGroup)
def config_group() -> None:
    """Show or check a configuration, or print an example."""


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
@allow_overlap_option
@click.option(
    "--network", is_flag=True, help="Also build the network, without allocating its weights."
)
@json_option
def config_check_command(
    config_files: tuple[str, ...], allow_overlap: bool, network: bool, as_json: bool
) -> NoReturn:
    """Check that a config is complete and consistent with its files.

    Checks keys, values, functions and optimizers, and opens one file of each list to check tables,
    columns and labels; up to 20 files of a list are compared in how they were made. Labels that
    losses need, and the transformation model if it exists, must fit. The exit code is 1 if there
    is a problem.

    \b
    Examples:
      dnn-reco config check getting_started.yaml
      dnn-reco config check getting_started.yaml --network
    """
    from dnn_reco.config import allow_plugins_beside, load_stages

    allow_plugins_beside(config_files)
    stages = load_stages(config_files)
    from dnn_reco.commands.check_config import run_check

    sys.exit(run_check(stages, allow_overlap, network, as_json))


def _complete_example(_: click.Context, __: click.Parameter, begin: str) -> list[str]:
    """Names of examples that begin like this, for the completion of shells."""
    from dnn_reco.config.examples import example_names

    return [name for name in example_names() if name.startswith(begin)]


@config_group.command("example")
@click.argument("name", required=False, shell_complete=_complete_example)
def config_example_command(name: str | None) -> None:
    """Print an example config; without NAME, list those that there are.

    \b
    Examples:
      dnn-reco config example
      dnn-reco config example tutorial/getting_started > getting_started.yaml
    """
    from dnn_reco.config.examples import example_names, example_text

    if name is None:
        click.echo("\n".join(example_names()))
    else:
        click.echo(example_text(name), nl=False)
