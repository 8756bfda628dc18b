"""The command line: `dnn-reco <command>`. Options are read here; the work is in `commands/`.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import click

from dnn_reco.cli.apply import apply_command
from dnn_reco.cli.calibrate import calibrate_command
from dnn_reco.cli.command import CommandGroup
from dnn_reco.cli.config import config_group
from dnn_reco.cli.create_data import create_data_command
from dnn_reco.cli.data import count_command, simulate_command, trafo_command
from dnn_reco.cli.data_quality import compare_data_command, data_group
from dnn_reco.cli.export import export_command, inspect_command, models_command, verify_command
from dnn_reco.cli.i3 import i3_group
from dnn_reco.cli.inference import serve_command
from dnn_reco.cli.models import compare_command, evaluate_command, import_command
from dnn_reco.cli.sky import sky_command
from dnn_reco.cli.submit import submit_group
from dnn_reco.cli.tools import (
    completion_command,
    doctor_command,
    print_version,
    version_command,
)
from dnn_reco.cli.train import train_command
from dnn_reco.cli.view import view_command


@click.group(cls=CommandGroup)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the versions of dnn_reco and of what it uses, and exit.",
)
def cli() -> None:
    """Train deep networks on IceCube events.

    The steps of a training, each driven by one YAML file:

    \b
      dnn-reco count  getting_started.yaml
      dnn-reco trafo  getting_started.yaml
      dnn-reco train  getting_started.yaml
      tensorboard --logdir ../logs
      dnn-reco export getting_started.yaml -o ../models/my_model

    Without IceCube's files, simulate events first:

    \b
      dnn-reco simulate --events 20000 --out ../training_data --layout tutorial

    Exit codes: 0 success, 1 error or failed check, 2 wrong usage, 130 interrupted, 143 SIGTERM.
    """


_SECTIONS = {
    "Data": (
        simulate_command,
        create_data_command,
        data_group,
        compare_data_command,
        i3_group,
        view_command,
    ),
    "Training": (
        config_group,
        count_command,
        trafo_command,
        train_command,
        submit_group,
        compare_command,
    ),
    "Trained models": (
        evaluate_command,
        calibrate_command,
        export_command,
        import_command,
        verify_command,
        inspect_command,
        models_command,
    ),
    "Reconstruction": (apply_command, serve_command, sky_command),
    "Installation": (doctor_command, version_command, completion_command),
}

for _title, _commands in _SECTIONS.items():
    cli.add_section(_title, _commands)
