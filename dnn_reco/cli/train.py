"""The command line of `dnn-reco train`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn, get_args

import click

from dnn_reco.cli.cluster_options import farm_options
from dnn_reco.cli.command import Command
from dnn_reco.cli.options import (
    allow_overlap_option,
    cache_dir_option,
    checkpoint_exit_code_option,
    config_files_argument,
    device_option,
    message_options,
    num_threads_option,
    with_run_options,
)
from dnn_reco.cli.session import leave, start_stages
from dnn_reco.commands.output import is_quiet
from dnn_reco.run_options import PrintFormat, RunOptions
from dnn_reco.workers import world_size

if TYPE_CHECKING:
    from dnn_reco.cluster.farm_settings import FarmSettings
    from dnn_reco.config import Config


@click.command("train", cls=Command)
@config_files_argument
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    metavar="N",
    help="Total number of iterations.",
    show_default="key num_training_iterations",
)
@device_option
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    help="Processes that share each batch, one for each GPU. For several machines, start the "
    "command with torchrun instead.",
)
@checkpoint_exit_code_option
@click.option(
    "--deterministic",
    is_flag=True,
    help="Make two runs on GPUs agree in every bit, as on CPUs; slower.",
)
@click.option(
    "--estimate",
    is_flag=True,
    help="Train nothing: measure for some seconds, and print the time, memory and disk space that "
    "the training will need, and the command that submits it to a cluster.",
)
@click.option(
    "--print-format",
    type=click.Choice(get_args(PrintFormat)),
    default="table",
    help="What is printed at validations: a row of a table; metrics of all labels, in the format "
    "of the TensorFlow version (default of train_model.py); or none.",
)
@allow_overlap_option
@cache_dir_option
@message_options
@num_threads_option
@farm_options
@with_run_options
def train_command(
    config_files: tuple[str, ...],
    processes: int,
    estimate: bool,
    farm: FarmSettings | None,
    options: RunOptions,
) -> NoReturn:
    """Train a network, or resume its training.

    Trains until num_training_iterations iterations are done. Ctrl-C saves and stops; the same
    command resumes, with the same result as a training that was never interrupted. With --cluster,
    jobs first build the missing parts of the event store; the training itself runs here.

    \b
    Examples:
      CUDA_VISIBLE_DEVICES=0 dnn-reco train getting_started.yaml
      dnn-reco train getting_started.yaml --iterations 1000 --num-threads 2
      dnn-reco train getting_started.yaml --processes 4
      dnn-reco train getting_started.yaml --estimate
      torchrun --nnodes 2 --nproc-per-node 4 … train_model.py getting_started.yaml
    """
    if is_quiet():
        options = replace(options, print_format="none")
    if estimate and (processes > 1 or world_size() > 1):
        raise click.UsageError(
            "--estimate measures a training in one process: leave out --processes and torchrun"
        )
    if farm and (estimate or world_size() > 1):
        raise click.UsageError(
            "--cluster builds the event store before a training: leave out --estimate and torchrun "
            "(for torchrun, build it with dnn-reco count --apply-filters --cluster)"
        )
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        if farm:
            _fill_store(start_stages(config_files, options), options, farm)
        from dnn_reco.training.launch import run_processes

        sys.exit(run_processes(processes, ["train", *config_files, *options.to_argv()]))
    stages = start_stages(config_files, options)
    if farm:
        _fill_store(stages, options, farm)
    if options.deterministic:
        from dnn_reco.nn.device import compute_deterministically

        compute_deterministically()
    if estimate:
        from dnn_reco.commands.estimate import run_estimate

        sys.exit(run_estimate(stages, options))
    from dnn_reco.commands.train import run_stages

    leave(run_stages(stages, options))


def _fill_store(stages: Sequence[Config], options: RunOptions, farm: FarmSettings) -> None:
    """Build what the event store lacks in jobs of a cluster, before the training starts."""
    from dnn_reco.commands.fill_store import fill_store

    for config in stages:
        fill_store(config, ["training_data_file", "validation_data_file"], options.cache_dir, farm)
