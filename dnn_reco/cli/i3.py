"""The command lines of `dnn-reco i3`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import click

from dnn_reco.cli.command import CommandGroup
from dnn_reco.cli.options import OutputPath, json_option, message_options
from dnn_reco.cli.session import limit_threads, show_messages

_Result = TypeVar("_Result")

_files_argument = click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)


def _with_reading(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Add the options for how files are read."""
    for option in (
        click.option(
            "--recover",
            is_flag=True,
            help="Skip damaged parts, with a warning, and continue with the next complete frame.",
        ),
        click.option("--verify", is_flag=True, help="Compare the checksums of the frames."),
    ):
        function = option(function)
    return function


def _stop_option(what: str) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    return click.option(
        "--stop",
        default="P",
        metavar="LETTER",
        callback=_one_letter,
        help=f"Kind of the frames {what}: I, G, C, D, S, Q or P.",
    )


def _one_letter(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if len(value) != 1:
        raise click.BadParameter(f"'{value}' is not one letter, such as P or Q")
    return value


def _names(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Names of texts with commas, each once."""
    names = [name.strip() for text in value for name in text.split(",")]
    if not all(names):
        raise click.BadParameter(f"'{','.join(value)}' has an empty name")
    return tuple(dict.fromkeys(names))


def _table_file(ctx: click.Context, param: click.Parameter, value: Path) -> Path:
    if value.suffix not in (".parquet", ".csv"):
        raise click.BadParameter(f"'{value}' must end in .parquet or .csv")
    return value


@click.group("i3", cls=CommandGroup)
def i3_group() -> None:
    """List, print and export what is in .i3 files."""


@i3_group.command("ls")
@_files_argument
@click.option(
    "--keys", "by_key", is_flag=True, help="List the keys of all frames, with classes and sizes."
)
@click.option(
    "--frame",
    type=click.IntRange(min=0),
    metavar="N",
    help="List the objects of one frame, by its number in the file, from 0.",
)
@click.option("--all", "whole", is_flag=True, help="Print long lists completely.")
@_with_reading
@json_option
@message_options
def ls_command(
    files: tuple[Path, ...],
    by_key: bool,
    frame: int | None,
    whole: bool,
    verify: bool,
    recover: bool,
    as_json: bool,
    log_level: str,
) -> NoReturn:
    """List the frames, keys or objects of .i3 files.

    Frames in a row without event share a line. The exit code is 1 if a file is damaged.

    \b
    Examples:
      dnn-reco i3 ls file.i3.zst
      dnn-reco i3 ls file.i3.zst --keys
      dnn-reco i3 ls file.i3.zst --frame 12
      dnn-reco i3 ls *.i3.zst --verify
    """
    if by_key and frame is not None:
        raise click.UsageError("--keys is for all frames, --frame for one: give one of them")
    limit_threads(1)
    show_messages(log_level)
    from dnn_reco.commands.i3 import ListSettings, Reading, run_ls

    sys.exit(run_ls(files, ListSettings(frame, by_key, whole, Reading(verify, recover), as_json)))


@i3_group.command("show")
@click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.argument("more_keys", metavar="[KEY]...", nargs=-1, callback=_names)
@click.option(
    "--event",
    default="first",
    metavar="N|first|RUN:EVENT[:SUB]",
    help="The event: its number among the frames of the stop, from 0, or its id.",
)
@click.option(
    "-k",
    "--key",
    "--keys",
    "keys",
    multiple=True,
    callback=_names,
    metavar="KEY",
    help="Object to show, also as an argument after the file; may be repeated.",
    show_default="a line for each object",
)
@_stop_option("to choose from")
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    metavar="N",
    default=40,
    help="Most rows of tables and trees.",
)
@click.option("--all", "whole", is_flag=True, help="Show all rows.")
@_with_reading
@message_options
def show_command(
    file: Path,
    more_keys: tuple[str, ...],
    event: str,
    keys: tuple[str, ...],
    stop: str,
    rows: int,
    whole: bool,
    verify: bool,
    recover: bool,
    log_level: str,
) -> None:
    """Print objects of an event as text.

    Pulses and other lists are tables, simulated particles a tree, in m, ns, GeV and PE; classes
    that are not known are printed as bytes. Objects of frames before the event's belong to it, too.

    \b
    Examples:
      dnn-reco i3 show file.i3.zst
      dnn-reco i3 show file.i3.zst I3MCTree --event 3
      dnn-reco i3 show file.i3.zst --event 21220:8 --key InIceDSTPulses --all
      dnn-reco i3 show gcd.i3.zst --stop G --key I3Geometry
    """
    limit_threads(1)
    show_messages(log_level)
    from dnn_reco.commands.i3 import Reading, ShowSettings, run_show

    most_rows = sys.maxsize if whole else rows
    names = tuple(dict.fromkeys(more_keys + keys))
    run_show(file, ShowSettings(event, names, stop, most_rows, Reading(verify, recover)))


@i3_group.command("export")
@_files_argument
@click.option(
    "-k",
    "--keys",
    "names",
    multiple=True,
    required=True,
    callback=_names,
    metavar="KEY[.FIELD],...",
    help="Objects, with all their fields, or single fields; may be repeated.",
)
@click.option(
    "-o",
    "--out",
    type=OutputPath(dir_okay=False, path_type=Path),
    required=True,
    callback=_table_file,
    metavar="TABLE",
    help="File to write, .parquet or .csv. Lists need Parquet.",
)
@_stop_option("that have a row")
@_with_reading
@message_options
def export_command(
    files: tuple[Path, ...],
    names: tuple[str, ...],
    out: Path,
    stop: str,
    verify: bool,
    recover: bool,
    log_level: str,
) -> None:
    """Write fields of objects as a table, a row for each event.

    The event id comes first; lists, such as the pulses of an event, are lists in the table, and
    what an event lacks is null. Needs the extra parquet: pip install 'dnn_reco[parquet]'.

    \b
    Examples:
      dnn-reco i3 export *.i3.zst --keys I3MCWeightDict.OneWeight,MCPrimary --out events.csv
      dnn-reco i3 export file.i3.zst --keys InIceDSTPulses,I3MCTree.energy --out x.parquet
      dnn-reco i3 export file.i3.zst --stop Q --keys I3MCTree,MMCTrackList --out tracks.parquet
    """
    limit_threads(1)
    show_messages(log_level)
    from dnn_reco.commands.i3 import ExportSettings, Reading, run_export

    run_export(files, ExportSettings(names, out, stop, Reading(verify, recover)))
