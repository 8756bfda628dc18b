"""The command line of `dnn-reco create-data`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dnn_reco.cli.cluster_options import farm_options
from dnn_reco.cli.command import Command
from dnn_reco.cli.options import OutputPath, message_options, num_threads_option
from dnn_reco.cli.session import limit_threads, show_messages
from dnn_reco.workers import available_cpus

if TYPE_CHECKING:
    from dnn_reco.cluster.farm_settings import FarmSettings
    from dnn_reco.data_creation.plan import DirectOptions

_NOTHING = "none"  # what --exclude takes for no exclusions


def _numbers(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Numbers that are separated by commas."""
    if value is None:
        return None
    try:
        return tuple(float(number) for number in value.split(","))
    except ValueError as error:
        raise click.BadParameter(
            f"'{value}' is not a list of numbers such as 0,500,1000"
        ) from error


@click.command("create-data", cls=Command)
@click.argument(
    "config", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="GLOB",
    help="Files with frames, in quotation marks; may be repeated. Each gives one HDF5 file.",
)
@click.option(
    "-g",
    "--gcd",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File with geometry, calibration and detector status.",
    show_default="part of each input",
)
@click.option("--pulses", metavar="NAME", help="Pulses to make features of; needed with --input.")
@click.option(
    "--format",
    "data_format",
    metavar="NAME",
    help=(
        "DOM features: pulse_summmary_clipped (9), pulse_summary_and_first_pulses_N (9 + 2N), "
        "reduced_summary_statistics_data (3), charge_bins, … or the dotted name of a function."
    ),
    show_default="pulse_summmary_clipped",
)
@click.option(
    "--relative-time-method",
    metavar="NAME",
    help="What times are relative to.",
    show_default="time_range",
)
@click.option(
    "--time-bins",
    callback=_numbers,
    metavar="NUMBERS",
    help="Edges in ns of charge_bins, such as 0,500,1000.",
)
@click.option(
    "--time-quantiles",
    callback=_numbers,
    metavar="NUMBERS",
    help="Fractions of charge of charge_weighted_time_quantiles, such as 0.2,0.5.",
)
@click.option(
    "--num-bins",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of features of a DOM.",
    show_default="that of the format",
)
@click.option(
    "--cascade-key",
    metavar="NAME",
    help="Particle whose vertex methods such as cascade_vertex take.",
    show_default="MCCascade",
)
@click.option(
    "--exclude",
    "exclusions",
    multiple=True,
    metavar="NAME",
    help="DOMs or time windows to leave out; may be repeated; none: nothing.",
    show_default="SaturationWindows, BadDomsList, CalibrationErrata",
)
@click.option(
    "--partial-exclusion/--whole-exclusion",
    "partial_exclusion",
    default=None,
    help="Leave out only pulses in the time windows, or all pulses of their DOMs.",
    show_default="partial",
)
@click.option(
    "--stream",
    "streams",
    multiple=True,
    metavar="NAME",
    help="Sub-event stream whose P frames are events; may be repeated.",
    show_default="in_ice, InIceSplit, Final, topological_split",
)
@click.option(
    "-o",
    "--out",
    type=OutputPath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the outputs; needed with --input.",
    show_default="key data_folder of CONFIG",
)
@click.option(
    "--step",
    type=click.IntRange(min=0),
    metavar="N",
    help="Run only this one of the processing_steps of CONFIG, counted from 0.",
    show_default="all",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Files to make at once.",
    show_default="all CPUs",
)
@farm_options
@click.option(
    "--allow-code",
    multiple=True,
    metavar="PACKAGE",
    help="A further package whose functions may be named as data format; may be repeated. Its "
    "code is run.",
)
@click.option("--overwrite", is_flag=True, help="Make existing outputs again.")
@click.option("--dry-run", is_flag=True, help="Print what would be made, and exit.")
@message_options
@num_threads_option
def create_data_command(
    config: Path | None,
    out: Path | None,
    step: int | None,
    jobs: int | None,
    farm: FarmSettings | None,
    allow_code: tuple[str, ...],
    overwrite: bool,
    dry_run: bool,
    log_level: str,
    num_threads: int,
    **direct: Any,
) -> NoReturn:
    """Make training data from .i3 files.

    CONFIG has the layout of IceCube's create_training_data.yaml: data sets, runs, patterns of
    names, and the segments to run. Without it, features of the files of --input are made, and
    labels where the files hold simulated particles.

    Complete outputs are kept, so that an interrupted call resumes. Files, frames and events that
    cannot be used are skipped and counted, with the reason.

    \b
    Examples:
      dnn-reco create-data create_training_data.yaml --out $DNN_HOME/training_data -j 8
      dnn-reco create-data create_training_data.yaml --dry-run
      dnn-reco create-data --input 'level2/*.i3.zst' --gcd GCD.i3.gz --pulses InIceDSTPulses \\
          --format pulse_summmary_clipped --out training_data
    """
    given = {name: value for name, value in direct.items() if value not in (None, ())}
    limit_threads(num_threads)
    source = _config(config, given) if config else _direct_options(given, out, step)
    show_messages(log_level)
    from dnn_reco.commands.create_data import CreateDataSettings, run_create_data

    settings = CreateDataSettings(
        source,
        out=out,
        step=step,
        jobs=min(jobs, num_threads) if jobs and num_threads else jobs,
        num_threads=num_threads or available_cpus(),
        allow_code=allow_code,
        farm=farm,
        overwrite=overwrite,
        dry_run=dry_run,
    )
    sys.exit(run_create_data(settings))


def _config(config: Path, given: dict[str, Any]) -> Path:
    """The config, with which no option of --input goes."""
    if given:
        option = _option(next(iter(given)))
        raise click.UsageError(f"{option} cannot be combined with CONFIG: set it there")
    return config


def _direct_options(given: dict[str, Any], out: Path | None, step: int | None) -> DirectOptions:
    """The options of --input, which needs some of them."""
    if "inputs" not in given:
        raise click.UsageError("give either CONFIG, or --input with --pulses and --out")
    if "pulses" not in given or out is None:
        raise click.UsageError(f"--input needs {'--out' if 'pulses' in given else '--pulses'}")
    if step is not None:
        raise click.UsageError("--step needs CONFIG")
    if _NOTHING in given.get("exclusions", ()):
        if len(given["exclusions"]) > 1:
            raise click.UsageError(f"--exclude {_NOTHING} cannot be combined with other exclusions")
        given = {**given, "exclusions": ()}
    from dnn_reco.data_creation.plan import DirectOptions

    return DirectOptions(out=out, **given)


def _option(name: str) -> str:
    """The long spelling of a parameter."""
    options = [
        option for each in create_data_command.params if each.name == name for option in each.opts
    ]
    return next(option for option in options if option.startswith("--"))
