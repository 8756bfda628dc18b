"""The command line of `dnn-reco calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dnn_reco.cli.command import Command
from dnn_reco.cli.options import (
    OwnModelFolder,
    allow_code_option,
    allow_overlap_option,
    cache_dir_option,
    device_option,
    ignore_mismatch_option,
    message_options,
    num_threads_option,
    with_run_options,
)
from dnn_reco.cli.session import limit_threads, show_messages
from dnn_reco.run_options import RunOptions


@click.command("calibrate", cls=Command)
@click.argument(
    "folder", metavar="MODEL", type=OwnModelFolder(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--data",
    "data",
    multiple=True,
    metavar="GLOB",
    help=(
        "Event files with labels, in quotation marks; may be repeated. The network must not"
        " have been trained with them, and they must not be those that it is judged with."
    ),
    show_default="key validation_data_file of its training",
)
@click.option(
    "--coverage-by",
    type=click.Choice(["class", "reconstruction"]),
    default="class",
    help="Among which events coverage is right: those of each true class (cascades, tracks), as "
    "simulated events are shown; or those that are alike in all that is reconstructed, as data are "
    "selected. Both at once are possible only where classes are never confused.",
)
@click.option("--remove", is_flag=True, help="Remove the calibration instead.")
@click.option(
    "--sign",
    metavar="KEY",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Sign the folder again with an Ed25519 private key (PEM file).",
)
@ignore_mismatch_option
@allow_overlap_option
@allow_code_option
@device_option
@cache_dir_option
@message_options
@num_threads_option
@with_run_options
def calibrate_command(folder: Path, options: RunOptions, **settings: Any) -> None:
    """Correct the uncertainties of a model with held-out events.

    Fits how the predicted uncertainties must change so that 68 % of the true values lie inside
    their 68 % intervals and cones: a factor on the width of each label and on the concentration of
    the direction, and a temperature for each class. The factor depends on the predicted classes
    and, without classes or with --coverage-by reconstruction, on the predicted width and the number
    of hit DOMs, as cross-validation finds.

    The calibration is stored in the model folder, whose checksums and golden answers are renewed,
    and is applied wherever the model is, unless with --raw.

    \b
    Examples:
      dnn-reco calibrate models/my_model
      dnn-reco calibrate models/my_model --data 'validation/*.hdf5'
      dnn-reco calibrate models/my_model --remove
    """
    if settings["remove"] and settings["data"]:
        raise click.UsageError("--remove takes no --data")
    limit_threads(options.num_threads)
    show_messages(options.log_level)
    from dnn_reco.commands.calibrate import CalibrateSettings, run_calibrate

    run_calibrate(folder, CalibrateSettings(options=options, **settings))
