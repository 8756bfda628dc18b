"""The command line of `dnn-reco view`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dnn_reco.cli.command import Command
from dnn_reco.cli.options import (
    OutputPath,
    allow_code_option,
    device_option,
    ignore_mismatch_option,
    message_options,
    num_threads_option,
)
from dnn_reco.cli.session import limit_threads, show_messages


def _with_suffix(*suffixes: str, hint: str = "") -> Any:
    """A callback that refuses other files: an event file named by mistake is not replaced."""

    def check(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
        if value is not None and value.suffix not in suffixes:
            raise click.BadParameter(f"'{value}' must end in {' or '.join(suffixes)}{hint}")
        return value

    return check


@click.command("view", cls=Command)
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--event",
    "--id",
    "event",
    default="first",
    metavar="N|first|RUN:EVENT",
    help="The event: its number in the file, from 0, or its id.",
)
@click.option(
    "--model",
    metavar="FOLDER|TABLE",
    help="Also draw the reconstruction of a model folder, or that of a table of the file, such as "
    "DeepLearningReco_my_model.",
)
@click.option(
    "-o",
    "--out",
    type=OutputPath(dir_okay=False, path_type=Path),
    callback=_with_suffix(".png", ".pdf", ".svg", hint="; an interactive page: --html PAGE"),
    metavar="PICTURE",
    help="Picture to write, .png, .pdf or .svg.",
    show_default="event.png; with --html: none",
)
@click.option(
    "--html",
    is_flag=False,
    flag_value="event.html",
    type=OutputPath(dir_okay=False, path_type=Path),
    callback=_with_suffix(".html"),
    metavar="[PAGE]",
    help="Write an interactive page in three dimensions, one file of 5 MB (extra display).",
    show_default="event.html",
)
@click.option(
    "--network",
    is_flag=True,
    help="Also draw the activations of hexagonal layers, or the influence of each DOM.",
)
@click.option(
    "--tables",
    metavar="NAME",
    help=("Common beginning of the names of the input tables, where the file has several sets."),
    show_default="those of the model",
)
@click.option(
    "--num-bins",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of input features of a DOM, where DOMs do not list all of them.",
)
@click.option(
    "--labels", metavar="TABLE", help="Table of true labels.", show_default="LabelsDeepLearning"
)
@click.option(
    "--pulses",
    metavar="KEY",
    help="Pulses of an .i3 file.",
    show_default="the first of SplitInIceDSTPulses, InIceDSTPulses, SplitInIcePulses, … in the "
    "frame",
)
@click.option(
    "--charge-feature",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    help="Input feature that holds the charge.",
)
@click.option(
    "--time-feature",
    type=click.IntRange(min=0),
    metavar="N",
    help="Input feature that holds the time of the first pulse.",
    show_default="that of the known formats",
)
@ignore_mismatch_option
@allow_code_option
@device_option
@message_options
@num_threads_option
def view_command(num_threads: int, log_level: str, **settings: Any) -> None:
    """Draw an event: hits, truth and reconstruction.

    The picture shows hit strings from the top and hit DOMs from the side, the size of a marker by
    charge and its colour by time; the true vertex, direction and labels where the file has them;
    with --model the reconstructed ones, with the cones that hold the true direction with 68 % and
    90 % probability. --network adds a picture named PICTURE_network, or a part of the page.

    Of an .i3 file, the event is a P frame, --event counts these, and the true particle is the
    simulated primary.

    \b
    Examples:
      dnn-reco view events.hdf5
      dnn-reco view events.hdf5 --event 12 --model models/my_model --out event_12.png
      dnn-reco view events.hdf5 --event 11883:42 --model DeepLearningReco_my_model
      dnn-reco view events.hdf5 --event 12 --model models/my_model --html --network
      dnn-reco view file.i3.zst --event 3 --pulses InIceDSTPulses --html
    """
    limit_threads(num_threads)
    show_messages(log_level)
    from dnn_reco.commands.view import ViewSettings, run_view

    run_view(ViewSettings(**settings))
