"""The command lines of `dnn-reco count`, `trafo` and `simulate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

from dnn_reco.cli.cluster_options import farm_options
from dnn_reco.cli.command import Command
from dnn_reco.cli.options import (
    OutputPath,
    cache_dir_option,
    config_files_argument,
    jobs_option,
    json_option,
    message_options,
    num_threads_option,
    with_run_options,
)
from dnn_reco.cli.session import show_messages, start
from dnn_reco.run_options import RunOptions

if TYPE_CHECKING:
    from dnn_reco.cluster.farm_settings import FarmSettings


@click.command("count", cls=Command)
@config_files_argument
@jobs_option("open")
@click.option(
    "--apply-filters",
    is_flag=True,
    help="Also count the events that pass filters and checks (builds the event store).",
)
@cache_dir_option
@json_option
@message_options
@num_threads_option
@farm_options
@with_run_options
def count_command(
    config_files: tuple[str, ...],
    jobs: int | None,
    apply_filters: bool,
    as_json: bool,
    farm: FarmSettings | None,
    options: RunOptions,
) -> NoReturn:
    """Count the events in the data files.

    Counts all events of the files that test_data_file, validation_data_file, training_data_file and
    trafo_data_file match. The exit code is 1 if a list matches no file or a file cannot be read.

    \b
    Examples:
      dnn-reco count getting_started.yaml -j 8
      dnn-reco count getting_started.yaml --apply-filters --cluster slurm --cluster-jobs 50
    """
    if farm and not apply_filters:
        raise click.UsageError(
            "--cluster shares the building of the event store, which only --apply-filters needs"
        )
    config = start(config_files, options)
    from dnn_reco.commands.count import FILE_LISTS, run_count

    if farm:
        from dnn_reco.commands.fill_store import fill_store

        fill_store(config, FILE_LISTS, options.cache_dir, farm)
    jobs = jobs or options.threads
    num_jobs = min(jobs, options.num_threads or jobs)
    sys.exit(run_count(config, num_jobs, apply_filters, options.cache_dir, as_json))


@click.command("trafo", cls=Command)
@config_files_argument
@click.option(
    "--overwrite", is_flag=True, help="Replace an existing model with other settings or events."
)
@cache_dir_option
@message_options
@num_threads_option
@farm_options
@with_run_options
def trafo_command(
    config_files: tuple[str, ...],
    overwrite: bool,
    farm: FarmSettings | None,
    options: RunOptions,
) -> None:
    """Create the data transformation model.

    Fits means and standard deviations to trafo_num_batches batches of trafo_data_file and writes
    them to trafo_model_path. The same config and files give the same model. With --cluster, jobs
    first build the event store of all files of trafo_data_file.

    \b
    Examples:
      dnn-reco trafo getting_started.yaml
      dnn-reco trafo getting_started.yaml --cluster htcondor --cluster-jobs 100
    """
    config = start(config_files, options)
    from dnn_reco.commands.trafo import run_trafo

    if farm:
        from dnn_reco.commands.fill_store import fill_store

        fill_store(config, ["trafo_data_file"], options.cache_dir, farm)
    run_trafo(config, options, overwrite)


@click.command("simulate", cls=Command)
@click.argument("preset", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--events", type=click.IntRange(min=1), metavar="N", default=5000, help="Events in all."
)
@click.option(
    "-o",
    "--out",
    type=OutputPath(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the event files.",
)
@click.option(
    "--layout",
    type=click.Choice(["flat", "tutorial"]),
    default="flat",
    help="Where files are written: all in one folder, or as the tutorial's config expects them.",
)
@click.option(
    "--flavor",
    type=click.Choice(["nue", "numu", "nutau", "mixed", "muon"]),
    help="Neutrino flavor; mixed: equal parts of all three; muon: single muons from above.",
    show_default="mixed",
)
@click.option(
    "--energy",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Lowest and highest energy in GeV.",
    show_default="100 1e6",
)
@click.option(
    "--spectrum", type=float, help="Spectral index gamma of E^-gamma.", show_default="1.5"
)
@click.option(
    "--zenith",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Zenith angles in degrees.",
    show_default="0 180",
)
@click.option(
    "--format",
    "data_format",
    help=(
        "DOM features: pulse_summmary_clipped (9), pulse_summary_and_first_pulses_N (9 + 2N), "
        "reduced_summary_statistics_data (3), charge_bins, …; or i3: frames with pulses and "
        "particles, in .i3.zst files."
    ),
    show_default="pulse_summmary_clipped",
)
@click.option("--time-bins", help="Edges in ns of charge_bins, such as 0,500,1000.")
@click.option(
    "--files",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of files.",
    show_default="500 events in each file",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Seed of the random numbers.",
    show_default="1",
)
@click.option("--keep-pulses", is_flag=True, help="Also write pulses (Parquet).")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Files to make at the same time.",
    show_default="all CPUs",
)
@message_options
def simulate_command(
    preset: Path | None,
    events: int,
    out: Path,
    layout: Literal["flat", "tutorial"],
    files: int | None,
    jobs: int | None,
    spectrum: float | None,
    time_bins: str | None,
    keep_pulses: bool,
    log_level: str,
    **overrides: Any,
) -> NoReturn:
    """Simulate events, in the format of IceCube's files.

    Options or a YAML file, PRESET (see configs/simulation), describe what to simulate; options take
    precedence. Events that do not trigger the detector are neither written nor counted. Ctrl-C
    keeps finished files, and the same command resumes; with more --events it adds to them. The same
    settings and seed give the same events: choose another --seed for held-out ones.

    \b
    Examples:
      dnn-reco simulate --events 20000 --out $DNN_HOME/training_data --layout tutorial
      dnn-reco simulate configs/simulation/cascades.yaml --events 5000 --out cascades
      dnn-reco simulate --flavor numu --energy 1000 100000 --spectrum 2 --out tracks --keep-pulses
      dnn-reco simulate --events 100 --format i3 --out frames
    """
    show_messages(log_level)
    from dnn_reco.commands.simulate import run_simulate
    from dnn_reco.data.simulated_files import HDF5_SUFFIX
    from dnn_reco.simulation.dataset import I3_SUFFIX
    from dnn_reco.simulation.settings import load_settings
    from dnn_reco.workers import available_cpus

    suffix = I3_SUFFIX if overrides["data_format"] == "i3" else HDF5_SUFFIX
    if suffix == I3_SUFFIX:
        overrides["data_format"] = None
    overrides |= {
        "spectral_index": spectrum,
        "time_bins": time_bins.split(",") if time_bins else None,
        "events_per_file": -(-events // files) if files else None,
        "keep_pulses": keep_pulses or None,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    settings = load_settings(preset, given)
    jobs = jobs or available_cpus()
    sys.exit(run_simulate(settings, out, events, layout, jobs, suffix, files))
