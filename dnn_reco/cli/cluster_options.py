"""The options of commands that can share their work among jobs of a cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from dnn_reco.cli.options import OutputPath

if TYPE_CHECKING:
    from dnn_reco.cluster.farm_settings import FarmSettings

_Result = TypeVar("_Result")

_ONLY_OF_CLUSTERS = ("memory", "time", "option", "setup", "address")
_MANY = 20  # jobs on a cluster, if their number is not given

_OPTIONS = (
    click.option(
        "--cluster",
        type=click.Choice(["local", "htcondor", "slurm"]),
        help="Share the files among jobs of a batch system, or among processes of this machine "
        "(extra farm).",
    ),
    click.option(
        "--cluster-jobs",
        type=click.IntRange(min=1),
        metavar="N",
        help="Jobs at the same time.",
        show_default=f"{_MANY}; local: one for each CPU",
    ),
    click.option(
        "--cluster-cpus",
        type=click.IntRange(min=1),
        metavar="N",
        help="CPUs of a job.",
        show_default="1",
    ),
    click.option(
        "--cluster-memory",
        metavar="AMOUNT",
        help="Memory of a job, such as '8 GB'.",
        show_default="4 GB",
    ),
    click.option(
        "--cluster-time",
        metavar="TIME",
        help="Time limit of a job, such as 90m or 12h; then another takes its place.",
        show_default="4h",
    ),
    click.option(
        "--cluster-option",
        multiple=True,
        metavar="KEY=VALUE",
        help="Further setting, in the syntax of the batch system, such as partition=short, "
        "account=icecube, requirements='(OpSysMajorVer == 9)'; may be repeated.",
    ),
    click.option(
        "--cluster-setup",
        metavar="FILE|LINE",
        help=(
            "Bash file, or line, after which python3 can import dnn_reco in a job, such as "
            "'source env/bin/activate'."
        ),
        show_default="the Python that runs now",
    ),
    click.option(
        "--cluster-folder",
        type=OutputPath(file_okay=False, path_type=Path),
        help="Folder for the files of the jobs, shared by all machines.",
        show_default="beside the results",
    ),
    click.option(
        "--cluster-address",
        metavar="IP",
        help="Address at which jobs reach this machine.",
        show_default="that of its host name",
    ),
)


def farm_options(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Add the options; the command gets one argument `farm`, its `FarmSettings` or None.

    It stands below the other options of the command.
    """

    @functools.wraps(function)
    def callback(**given: Any) -> _Result:
        of_farm = {name: given.pop(name) for name in list(given) if name.startswith("cluster")}
        return function(farm=_farm_settings(**of_farm), **given)

    for option in reversed(_OPTIONS):
        callback = option(callback)
    return callback


def _farm_settings(cluster: str | None, **given: Any) -> FarmSettings | None:
    """The settings that the options describe."""
    given = {name.removeprefix("cluster_"): value for name, value in given.items() if value}
    wrong = list(given) if cluster is None else _ONLY_OF_CLUSTERS if cluster == "local" else ()
    for name in wrong:
        if name in given:
            needed = "--cluster" if cluster is None else "--cluster htcondor or slurm"
            raise click.UsageError(f"--cluster-{name} has no effect without {needed}")
    if cluster is None:
        return None
    from dnn_reco.cluster import parse_memory, parse_time, read_options, setup_lines
    from dnn_reco.cluster.farm_engine import require_parsl
    from dnn_reco.cluster.farm_settings import FarmSettings
    from dnn_reco.workers import available_cpus

    require_parsl()
    read: dict[str, Callable[[Any], Any]] = {
        "memory": lambda text: parse_memory(text, "--cluster-memory"),
        "seconds": lambda text: parse_time(text, "--cluster-time"),
        "options": lambda texts: read_options(texts, "--cluster-option"),
        "setup": lambda text: setup_lines(text, "--cluster-setup"),
    }
    names = {"time": "seconds", "option": "options"}
    values = {names.get(name, name): value for name, value in given.items()}
    values = {name: read.get(name, lambda same: same)(value) for name, value in values.items()}
    jobs = values.pop("jobs", available_cpus() if cluster == "local" else _MANY)
    return FarmSettings(cluster=cast(Any, cluster), jobs=jobs, **values)  # of click.Choice
