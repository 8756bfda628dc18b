"""The command line of `dnn-reco submit …`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from dnn_reco.cli.command import Command, CommandGroup
from dnn_reco.cli.options import (
    OutputPath,
    config_files_argument,
    message_options,
    split_run_options,
)
from dnn_reco.cli.session import start_stages
from dnn_reco.cli.train import train_command
from dnn_reco.run_options import RunOptions


@click.group("submit", cls=CommandGroup)
def submit_group() -> None:
    """Submit work to the batch system of a cluster."""


class _CommandWithTrainOptions(Command):
    """A command that hands what stands after `--` on to `train`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        ctx.meta["train_options"] = args[end + 1 :]
        return super().parse_args(ctx, args[:end])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- OPTIONS OF train]"]


@submit_group.command("train", cls=_CommandWithTrainOptions)
@config_files_argument
@click.option(
    "--cluster", type=click.Choice(["htcondor", "slurm"]), required=True, help="Its batch system."
)
@click.option(
    "-o",
    "--out",
    type=OutputPath(file_okay=False, path_type=Path),
    help="Folder of the files of the job.",
    show_default="jobs, beside the folder of model_checkpoint_path",
)
@click.option("--cpus", type=click.IntRange(min=1), metavar="N", default=4, help="CPUs to ask for.")
@click.option("--gpus", type=click.IntRange(min=0), metavar="N", default=1, help="GPUs to ask for.")
@click.option("--memory", default="8 GB", help="Memory to ask for.")
@click.option(
    "--time",
    "longest",
    help="Time limit of a job, such as 24h or 1d12h; then the job saves and queues again.",
    show_default="what the cluster allows",
)
@click.option(
    "--env-setup",
    metavar="FILE|LINE",
    help="Bash file, or line, after which dnn-reco can be run.",
    show_default="the Python that runs now",
)
@click.option(
    "--option",
    "options",
    metavar="KEY=VALUE",
    multiple=True,
    help="Further setting, in the syntax of the batch system; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Print the files; write and submit nothing.")
@message_options
@click.pass_context
def submit_train_command(
    context: click.Context,
    config_files: tuple[str, ...],
    cluster: str,
    out: Path | None,
    cpus: int,
    gpus: int,
    memory: str,
    longest: str | None,
    env_setup: str | None,
    options: tuple[str, ...],
    dry_run: bool,
    log_level: str,
) -> None:
    """Submit a training, which resumes by itself after an eviction.

    Checks the config, writes a submit file and a job script, and submits them. Relative paths in
    the config are relative to the working directory; the machines of the cluster must see the
    same file system. Words after -- are options of dnn-reco train.

    \b
    Examples:
      dnn-reco submit train getting_started.yaml --cluster htcondor --memory "8 GB"
      dnn-reco submit train getting_started.yaml --cluster slurm --time 24h \\
          --option partition=gpu --option account=icecube -- --iterations 100000
    """
    train_options = context.meta["train_options"]
    run_options = _train_run_options(context.find_root(), config_files, train_options)
    stages = start_stages(config_files, replace(run_options, num_threads=0, log_level=log_level))
    from dnn_reco.cluster import Resources, parse_memory, parse_time
    from dnn_reco.commands.submit import run_submit

    seconds = None if longest is None else parse_time(longest)
    resources = Resources(cpus, gpus, parse_memory(memory), seconds)
    run_submit(stages, cluster, out, resources, env_setup, options, train_options, dry_run)


def _train_run_options(
    root: click.Context, config_files: tuple[str, ...], train_options: list[str]
) -> RunOptions:
    """The options of `train`; wrong ones are refused here, not in the job."""
    words = [*config_files, *train_options]
    given = train_command.make_context("train", words, parent=root).params
    options, others = split_run_options(given)
    if others["config_files"] != config_files:
        raise click.UsageError("config files stand before --, options of dnn-reco train after it")
    if options.checkpoint_exit_code is not None:
        raise click.UsageError("--checkpoint-exit-code is set by dnn-reco submit")
    if others["cluster"]:
        raise click.UsageError("--cluster after -- would submit jobs from within the job")
    if others["estimate"]:
        raise click.UsageError("--estimate belongs to dnn-reco train, before a job is submitted")
    return options
