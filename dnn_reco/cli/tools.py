"""The command lines of `dnn-reco version`, `doctor` and `completion`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click
from click.shell_completion import get_completion_class

from dnn_reco.cli.command import Command
from dnn_reco.cli.options import json_option

_PROGRAM, _VARIABLE = "dnn-reco", "_DNN_RECO_COMPLETE"
# How to load the script in each shell, from its file.
_INSTALL = {
    "bash": "dnn-reco completion bash > ~/.dnn-reco-complete.bash\n"
    "echo '. ~/.dnn-reco-complete.bash' >> ~/.bashrc",
    "zsh": "dnn-reco completion zsh > ~/.dnn-reco-complete.zsh\n"
    "echo '. ~/.dnn-reco-complete.zsh' >> ~/.zshrc",
    "fish": "dnn-reco completion fish > ~/.config/fish/completions/dnn-reco.fish",
}


@click.command("version", cls=Command)
@json_option
def version_command(as_json: bool) -> None:
    """Print versions of dnn_reco and its dependencies.

    \b
    Examples:
      dnn-reco version
      dnn-reco version --json
    """
    from dnn_reco.commands.version import run_version

    run_version(as_json)


def print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Callback of `--version`."""
    if value and not ctx.resilient_parsing:
        from dnn_reco.commands.version import run_version

        run_version(as_json=False)
        ctx.exit()


@click.command("doctor", cls=Command)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Folder of the event files, to check file locking.",
)
@click.option(
    "--cache-dir",
    "cache",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Folder of the event store, to check the free disk space.",
)
@json_option
def doctor_command(data: Path, cache: Path, as_json: bool) -> NoReturn:
    """Check the installation and this machine.

    Prints what to do about each problem. Checks packages and their versions, PyTorch and GPUs, CPU
    threads and what limits them, file locking in the folder of the data, free disk space, and
    optional packages. The exit code is 1 if there is a problem.

    \b
    Examples:
      dnn-reco doctor
      dnn-reco doctor --data /data/icecube --cache-dir /scratch/event_store
    """
    from dnn_reco.commands.doctor import run_doctor

    sys.exit(run_doctor(data, cache, as_json))


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(list(_INSTALL)))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    \b
    Examples:
      dnn-reco completion bash > ~/.dnn-reco-complete.bash
      echo '. ~/.dnn-reco-complete.bash' >> ~/.bashrc
    """
    completer = get_completion_class(shell)
    assert completer is not None  # of click.Choice
    script = completer(context.find_root().command, {}, _PROGRAM, _VARIABLE)
    lines = ["Completion of dnn-reco. To install it:", *_INSTALL[shell].splitlines()]
    click.echo("\n".join(f"# {line}" for line in lines))
    click.echo(script.source_template % script.source_vars())
