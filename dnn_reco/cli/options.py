"""Options that commands share, and how they travel: as one `RunOptions`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from dnn_reco.files import is_in_package
from dnn_reco.pretrained_models import is_pretrained, model_folder
from dnn_reco.run_options import RunOptions

_IN_PACKAGE = (
    "lies in the folder of the package dnn_reco itself: give another one, such as one that begins "
    "with '../'"
)


class OutputPath(click.Path):
    """A path to write to, which must not lie in the package's own folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a usage error if it lies in the package."""
        if is_in_package(value):
            self.fail(f"'{value}' {_IN_PACKAGE}", param, ctx)
        return super().convert(value, param, ctx)


class ModelFolder(click.Path):
    """A model folder: its path, or `pretrained:NAME` for a model of the package."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path of the folder."""
        return super().convert(str(model_folder(value)), param, ctx)


class OwnModelFolder(click.Path):
    """The path of a model folder that may be changed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a usage error for models of the package."""
        if is_pretrained(value) or is_in_package(value):
            self.fail(
                f"'{value}' belongs to the package, whose models are not changed: copy its folder, "
                "which 'dnn-reco models --json' names, and give the path of the copy",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


def output_folder(name: str) -> Callable[[], str]:
    """The default of an option: a folder here, or above where this is the package's own folder."""
    return lambda: f"../{name}" if is_in_package(".") else name


LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_Result = TypeVar("_Result")

config_files_argument = click.argument(
    "config_files", nargs=-1, required=True, metavar="CONFIG...", type=click.Path()
)
num_threads_option = click.option(
    "--num-threads",
    type=click.IntRange(min=0),
    metavar="N",
    default=0,
    help="Most CPU threads and processes to use; 0: all that the machine, the container or the "
    "slot of the batch system grants.",
)
cache_dir_option = click.option(
    "--cache-dir",
    type=OutputPath(file_okay=False),
    help="Folder of the event store. It may be deleted at any time.",
    show_default="key data_cache_dir, else event_store beside the folder of trafo_model_path",
)
device_option = click.option(
    "--device",
    default="auto",
    help="Where to compute: cpu, cuda, cuda:1, …; auto: a GPU if there is one.",
)
allow_overlap_option = click.option(
    "--allow-overlap",
    is_flag=True,
    help="Allow files that are both trained on and held out.",
)
allow_code_option = click.option(
    "--allow-code",
    multiple=True,
    metavar="PACKAGE",
    help="A further package whose networks and functions model folders may name; may be "
    "repeated. Its code is run.",
)
ignore_mismatch_option = click.option(
    "--ignore-mismatch",
    multiple=True,
    metavar="KEY",
    help="A data setting that may differ from that of the training; may be repeated.",
)


_log_level_option = click.option(
    "--log-level",
    default="INFO",
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    help="Lowest level of the messages that are printed.",
)
_quiet_option = click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="Print only warnings, errors and results.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON document."
)


def message_options(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Add `--log-level` and `--quiet`; the command gets the level that follows from both."""

    @functools.wraps(function)
    def callback(*args: Any, quiet: bool, log_level: str, **given: Any) -> _Result:
        if quiet and log_level.upper() in ("DEBUG", "INFO"):
            log_level = "WARNING"
        return function(*args, log_level=log_level, **given)

    return _log_level_option(_quiet_option(callback))


def input_tables_option(
    parameter: str,
) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """The option for the names of the input tables; `parameter` is its name in the command."""
    return click.option(
        "--tables",
        parameter,
        metavar="NAME",
        help=(
            "Common beginning of the names of the input tables, such as dnn_data for "
            "dnn_data_bin_values."
        ),
        show_default="those of the training",
    )


batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    default=256,
    help="Events to predict at once.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", "torch", "onnxruntime"]),
    default="auto",
    help="Library that computes; auto: torch where it is installed.",
)
raw_option = click.option(
    "--raw",
    is_flag=True,
    help="Leave out the calibration of the model (dnn-reco calibrate).",
)
overwrite_model_option = click.option(
    "--overwrite",
    is_flag=True,
    help="Replace an existing model folder, unless it holds other files, too.",
)
checkpoint_exit_code_option = click.option(
    "--checkpoint-exit-code",
    type=click.IntRange(0, 255),
    metavar="N",
    help="Exit code after SIGTERM, once all is saved (HTCondor: 85).",
    show_default="143",
)


def jobs_option(what: str) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """The option for the number of files to open, check … at the same time."""
    return click.option(
        "-j",
        "--jobs",
        type=click.IntRange(min=1),
        metavar="N",
        default=None,
        help=f"Files to {what} at the same time.",
        show_default="all CPUs",
    )


def data_settings_option(
    default: str,
) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """The option for the settings of the training data; `default` is what is used without it."""
    return click.option(
        "-s",
        "--data-settings",
        "data_settings",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Config that the training data were created with, or the settings of the data "
        "themselves.",
        show_default=default,
    )


def with_run_options(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Call a command with one `options`, a `RunOptions` of all its options that are fields of it.

    It stands below the options of the command.
    """

    @functools.wraps(function)
    def callback(**given: Any) -> _Result:
        options, rest = split_run_options(given)
        return function(options=options, **rest)

    return callback


def split_run_options(given: dict[str, Any]) -> tuple[RunOptions, dict[str, Any]]:
    """Values of options by name: those of `RunOptions`, and the others."""
    names = {field.name for field in fields(RunOptions)}
    of_run = {name: value for name, value in given.items() if name in names}
    return RunOptions(**of_run), {k: v for k, v in given.items() if k not in names}


def parts_of(name: str) -> tuple[str, ...]:
    """The files of a config that is written with plus signs."""
    return (name,) if Path(name).exists() else tuple(name.split("+"))
