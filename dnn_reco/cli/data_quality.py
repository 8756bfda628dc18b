"""The command lines of `dnn-reco data check` and `dnn-reco compare-data`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from dnn_reco.cli.command import Command, CommandGroup
from dnn_reco.cli.options import (
    OutputPath,
    data_settings_option,
    jobs_option,
    json_option,
    message_options,
    output_folder,
    parts_of,
)
from dnn_reco.cli.session import limit_threads, show_messages


def _table_and_column(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[str, str] | None:
    """The table and the column that a text such as MCPrimary.weight names."""
    if value is None:
        return None
    table, _, column = value.partition(".")
    if not (table and column):
        raise click.BadParameter(f"'{value}' is not TABLE.COLUMN, such as MCPrimary.weight")
    return table, column


@click.command("compare-data", cls=Command)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "-o",
    "--out",
    type=OutputPath(file_okay=False, path_type=Path),
    default=output_folder("data_comparison"),
    show_default="data_comparison",
    help="Folder for the report.",
)
@click.option(
    "--config",
    "config_file",
    metavar="CONFIG",
    help="Config whose tables, labels, misc data and filter apply to both data sets.",
)
@click.option(
    "--events",
    type=click.IntRange(min=2),
    metavar="N",
    default=20_000,
    help="Most events of each data set to compare.",
)
@click.option(
    "--tables",
    "inputs",
    multiple=True,
    metavar="NAME",
    help="Common beginning of the names of the input tables; given twice: of A, and of B.",
    show_default="the only ones with the same number of features",
)
@click.option(
    "--weights",
    callback=_table_and_column,
    metavar="TABLE.COLUMN",
    help="Event weights, for each data set that has the table.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    default=1,
    help="Seed of the draws.",
)
@json_option
@message_options
def compare_data_command(
    first: str,
    second: str,
    out: Path,
    config_file: str | None,
    events: int,
    inputs: tuple[str, ...],
    weights: tuple[str, str] | None,
    seed: int,
    as_json: bool,
    log_level: str,
) -> None:
    """Compare inputs and labels of two data sets.

    They may be simulation and measured data. A and B are glob patterns of event files; put them in
    quotation marks. Prints how much each quantity differs, the largest difference first, and
    whether a small network can separate the events of A and B. Writes data_comparison.html and
    data_comparison.json.

    \b
    Examples:
      dnn-reco compare-data 'simulation/*.hdf5' 'data/*.hdf5'
      dnn-reco compare-data 'a/*.hdf5' 'b/*.hdf5' --config getting_started.yaml --events 5000
    """
    if len(inputs) > 2:
        raise click.UsageError("--tables is for both data sets, or once for A and once for B")
    limit_threads(1)  # the matrices are small
    show_messages(log_level)
    from dnn_reco.config import allow_plugins_beside, load_config

    config = None
    if config_file is not None:
        files = parts_of(config_file)
        allow_plugins_beside(files)
        config = load_config(files)
    from dnn_reco.commands.compare_data import CompareDataSettings, run_compare_data

    settings = CompareDataSettings(out, events, inputs, weights, seed)
    run_compare_data((first, second), config, settings, as_json)


@click.group("data", cls=CommandGroup)
def data_group() -> None:
    """Check event files."""


@data_group.command("check")
@click.argument("names", nargs=-1, required=True, metavar="FILES_OR_CONFIG...")
@click.option(
    "--tables",
    "inputs",
    metavar="NAME",
    help="Common beginning of the names of the input tables.",
)
@click.option("--num-bins", type=click.IntRange(min=1), metavar="N", help="Features of a DOM.")
@click.option(
    "--labels", metavar="TABLE", help="Table of the labels.", show_default="LabelsDeepLearning"
)
@data_settings_option("the files must agree with each other")
@jobs_option("check")
@json_option
@message_options
def data_check_command(
    names: tuple[str, ...],
    inputs: str | None,
    num_bins: int | None,
    labels: str | None,
    data_settings: Path | None,
    jobs: int | None,
    as_json: bool,
    log_level: str,
) -> NoReturn:
    """Check that event files are complete and valid for a training.

    FILES are event files or glob patterns in quotation marks. A CONFIG (.yaml) defines tables,
    labels and filters, and the files if no others are given. All rows are read. The exit code is 1
    if there is an error.

    \b
    Examples:
      dnn-reco data check getting_started.yaml
      dnn-reco data check 'training_data/*/*.hdf5' -j 8 --json > findings.json
    """
    limit_threads(1)  # files are checked side by side
    show_messages(log_level)
    from dnn_reco.config import allow_plugins_beside, load_config

    config_files = [part for name in names for part in _config_parts(name)]
    patterns = [name for name in names if not _config_parts(name)]
    config = None
    if config_files:
        allow_plugins_beside(config_files)
        config = load_config(config_files)
    from dnn_reco.commands.check_data import WhatToRead, run_check_data
    from dnn_reco.workers import available_cpus

    what = WhatToRead(inputs, num_bins, labels, data_settings)
    sys.exit(run_check_data(patterns, config, what, jobs or available_cpus(), as_json))


def _config_parts(name: str) -> tuple[str, ...]:
    """Files of a config; none if the name is that of event files."""
    parts = parts_of(name)
    return parts if all(Path(part).suffix in (".yaml", ".yml") for part in parts) else ()
