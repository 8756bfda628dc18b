"""The command line of `dnn-reco sky`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dnn_reco.cli.command import Command
from dnn_reco.cli.options import (
    ModelFolder,
    OutputPath,
    allow_code_option,
    backend_option,
    device_option,
    ignore_mismatch_option,
    input_tables_option,
    message_options,
    num_threads_option,
    raw_option,
)
from dnn_reco.cli.session import limit_threads, show_messages


def _levels(ctx: click.Context, param: click.Parameter, value: str) -> tuple[float, ...]:
    """Probabilities of a text such as 50,90: in percent."""
    try:
        percents = sorted({float(part) for part in value.split(",")})
    except ValueError:
        percents = []
    if not percents or not all(0 < percent < 100 for percent in percents):
        raise click.BadParameter(f"'{value}' is not a list of percentages such as 50,90")
    return tuple(percent / 100 for percent in percents)


def _name(ctx: click.Context, param: click.Parameter, value: Path) -> Path:
    """A name without the suffixes that the outputs have."""
    name = value.with_suffix("") if value.suffix in (".fits", ".png") else value
    if not name.name or name.name.startswith("."):
        raise click.BadParameter(f"'{value}' is not a base name of files: write maps/event_3")
    return name


@click.command("sky", cls=Command)
@click.argument("model", type=ModelFolder(file_okay=False, path_type=Path))
@click.option(
    "-i",
    "--input",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="Event file (HDF5).",
)
@click.option(
    "--event",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    help="Number of the event, from 0.",
)
@click.option(
    "-o",
    "--out",
    type=OutputPath(path_type=Path),
    default="sky",
    callback=_name,
    metavar="NAME",
    help="Write NAME.fits and NAME.png; existing files of these names are replaced.",
)
@click.option(
    "--credible",
    "levels",
    default="50,90",
    callback=_levels,
    metavar="PERCENTS",
    help="Regions to draw and to print the area of, by the probability inside, in percent.",
)
@click.option(
    "--mjd",
    type=float,
    help=(
        "Time of the event, a modified Julian date in UTC: the map is in equatorial "
        "coordinates, ICRS."
    ),
    show_default="coordinates of the detector",
)
@click.option(
    "--density",
    "shape",
    type=click.Choice(["auto", "predicted", "fisher", "vector", "circular", "elliptical"]),
    default="auto",
    help="predicted is the mixture or flow of networks with such a head; fisher (von Mises-Fisher) "
    "and vector (Gaussian of its components) follow from the labels of the direction vector, "
    "circular and elliptical (Gaussian) from zenith and azimuth; auto: the first of predicted, "
    "fisher and elliptical that the model has.",
)
@click.option(
    "--members",
    is_flag=True,
    help="For an ensemble: the mixture of the densities of its networks.",
    show_default="one density with the mean of the mixture",
)
@ignore_mismatch_option
@input_tables_option("inputs")
@device_option
@backend_option
@allow_code_option
@raw_option
@message_options
@num_threads_option
def sky_command(log_level: str, **settings: Any) -> None:
    """Compute a sky map of the direction of an event.

    MODEL is a model folder. The density of the direction follows from the labels and uncertainties
    that it predicts. NAME.fits is a multi-order HEALPix map (columns UNIQ and PROBDENSITY) for
    ligo.skymap, mocpy and Aladin; NAME.png shows the density, its contours, and the true direction
    where the file has it. Needs the extra sky: pip install 'dnn_reco[sky]'.

    \b
    Examples:
      dnn-reco sky models/my_model --input events.hdf5 --event 3
      dnn-reco sky models/my_model -i events.hdf5 --event 3 --credible 68,90,99 -o maps/event_3
      dnn-reco sky models/my_model -i events.hdf5 --mjd 58018.87118
    """
    limit_threads(settings["num_threads"])
    show_messages(log_level)
    from dnn_reco.commands.sky import SkySettings, run_sky

    run_sky(SkySettings(**settings))
