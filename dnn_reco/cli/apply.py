"""The command line of `dnn-reco apply`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from dnn_reco.cli.cluster_options import farm_options
from dnn_reco.cli.command import Command
from dnn_reco.cli.options import (
    ModelFolder,
    OutputPath,
    allow_code_option,
    backend_option,
    batch_size_option,
    device_option,
    ignore_mismatch_option,
    input_tables_option,
    message_options,
    num_threads_option,
    raw_option,
)
from dnn_reco.cli.session import limit_threads, show_messages
from dnn_reco.workers import available_cpus


@click.command("apply", cls=Command)
@click.argument(
    "models",
    nargs=-1,
    required=True,
    metavar="MODEL...",
    type=ModelFolder(file_okay=False, path_type=Path),
)
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    required=True,
    metavar="GLOB",
    help="Event files, in quotation marks; may be repeated.",
)
@click.option(
    "-o",
    "--out",
    "output",
    type=OutputPath(path_type=Path),
    required=True,
    metavar="FILE|DIR",
    help="A file (.hdf5, .h5, .hdf, .parquet, or for frames .i3, .i3.zst, .i3.gz, .i3.bz2) for one "
    "event file, else a folder: one file for each event file, with the same name.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["hdf5", "parquet", "i3"]),
    help="Format of the predictions.",
    show_default="that of the suffix of FILE; in a folder i3 for files with frames, else hdf5",
)
@click.option(
    "--pulses", metavar="NAME", help="Pulses of .i3 files.", show_default="those of the training"
)
@click.option(
    "--gcd",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File with geometry, calibration and detector status, for .i3 files.",
    show_default="part of each",
)
@click.option(
    "--hdf5",
    type=OutputPath(path_type=Path),
    metavar="FILE|DIR",
    help="Also write the predictions of .i3 files to HDF5.",
)
@click.option(
    "--parquet",
    type=OutputPath(path_type=Path),
    metavar="FILE|DIR",
    help="Also write the predictions of .i3 files to Parquet.",
)
@batch_size_option
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help=(
        "Files to work on at the same time, each with a copy of the models; with a GPU: "
        "files to read ahead."
    ),
    show_default="all CPUs, at most 8; 1 for files of less than 50 MB in all",
)
@device_option
@backend_option
@click.option(
    "--measure-time",
    is_flag=True,
    help="Write the columns runtime_prediction and runtime_preprocess: seconds per event, averaged "
    "over the file.",
)
@click.option(
    "--data-settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Config that event files were created with, for files that do not record it.",
)
@ignore_mismatch_option
@input_tables_option("table_names")
@raw_option
@allow_code_option
@click.option(
    "--overwrite", is_flag=True, help="Replace outputs that were made with other models or options."
)
@message_options
@num_threads_option
@farm_options
def apply_command(log_level: str, num_threads: int, jobs: int | None, **settings: Any) -> NoReturn:
    """Reconstruct events of files with trained models.

    A MODEL is a model folder. Labels and filters are not needed: each event gives one row, in the
    order of the file. If an event cannot be reconstructed, its predictions are NaN, and the column
    status gives the reason: 0 reconstructed, 1 no input in the file, 2 no hit DOM, 3 an input that
    is not finite, 4 a prediction that is not finite.

    Existing outputs are kept if the same models made them from the same input with the same
    options, so that an interrupted call resumes. Event files that cannot be read are skipped, and
    the exit code is 1.

    Of .i3 files, all frames are written; P frames that are events get the predictions as
    DeepLearningReco_<model> and DeepLearningReco_<model>_I3Particle.

    \b
    Examples:
      dnn-reco apply models/my_model --input 'data/*.hdf5' --out reco
      dnn-reco apply models/energy models/direction -i events.hdf5 -o reco.parquet
      dnn-reco apply models/my_model -i level2.i3.zst -o level2_reco.i3.zst --gcd GCD.i3.gz
      dnn-reco apply models/my_model -i 'data/*.hdf5' -o reco --cluster htcondor --cluster-jobs 200
    """
    limit_threads(num_threads)
    show_messages(log_level)
    if jobs and settings["farm"]:
        raise click.UsageError(
            "--jobs is for work on this machine: with --cluster, use --cluster-jobs"
        )
    from dnn_reco.commands.apply import ApplySettings, run_apply

    threads = num_threads or available_cpus()
    jobs = min(jobs, num_threads) if jobs and num_threads else jobs
    sys.exit(run_apply(ApplySettings(num_threads=threads, jobs=jobs, **settings)))
