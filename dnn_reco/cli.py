"""The command line: `dnn-reco <command>`. Options are read here; the work is in `commands/`.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, NoReturn

import click

from dnn_reco._version import __version__
from dnn_reco.errors import DnnRecoError

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_config_files = click.argument(
    "config_files", nargs=-1, required=True, metavar="CONFIG...", type=click.Path()
)
_log_level = click.option(
    "--log_level",
    "--log-level",
    default="INFO",
    show_default=True,
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    help="How much is told besides results.",
)
_num_threads = click.option(
    "--num_threads",
    "--num-threads",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="CPU threads and processes to use at most; 0: all that are there.",
)
_cache_dir = click.option(
    "--cache_dir",
    "--cache-dir",
    type=click.Path(file_okay=False),
    help="Folder of the event store [key data_cache_dir, else event_store beside the folder of "
    "trafo_model_path]. It may be deleted at any time.",
)


@click.group()
@click.version_option(__version__, "-V", "--version", prog_name="dnn-reco")
def cli() -> None:
    """Train deep networks on IceCube events.

    The steps of a training, each driven by one YAML file:

    \b
      dnn-reco count  getting_started.yaml
      dnn-reco trafo  getting_started.yaml
      dnn-reco train  getting_started.yaml
      tensorboard --logdir ../logs
    """


@cli.command("count")
@_config_files
@click.option(
    "-j",
    "--n_jobs",
    "--n-jobs",
    type=click.IntRange(min=1),
    default=None,
    help="Files to open at the same time [all CPUs].",
)
@click.option(
    "--apply-filters",
    is_flag=True,
    help="Tell too how many events pass filters and checks (builds the event store).",
)
@_cache_dir
@_log_level
@_num_threads
def count_command(
    config_files: tuple[str, ...],
    n_jobs: int | None,
    apply_filters: bool,
    cache_dir: str | None,
    log_level: str,
    num_threads: int,
) -> NoReturn:
    """Count the events in the data files.

    Counts all events of the files that test_data_file, validation_data_file, training_data_file and
    trafo_data_file match. The exit code is 1 if a list matches no file or a file cannot be read.

    \b
    Example:
      dnn-reco count getting_started.yaml -j 8
    """
    config = _start(config_files, log_level, num_threads)
    from dnn_reco.commands.count import run_count
    from dnn_reco.workers import available_cpus

    jobs = n_jobs or num_threads or available_cpus()
    sys.exit(run_count(config, min(jobs, num_threads or jobs), apply_filters, cache_dir))


@cli.command("trafo")
@_config_files
@click.option("--overwrite", is_flag=True, help="Replace a model that was made otherwise.")
@_cache_dir
@_log_level
@_num_threads
def trafo_command(
    config_files: tuple[str, ...],
    overwrite: bool,
    cache_dir: str | None,
    log_level: str,
    num_threads: int,
) -> None:
    """Create the data transformation model.

    Fits means and standard deviations to trafo_num_batches batches of trafo_data_file and writes
    them to trafo_model_path. The same config and files give the same model.

    \b
    Example:
      dnn-reco trafo getting_started.yaml
    """
    config = _start(config_files, log_level, num_threads)
    from dnn_reco.commands.trafo import run_trafo

    run_trafo(config, num_threads, cache_dir, overwrite)


@cli.command("train")
@_config_files
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    help="Iterations in all [key num_training_iterations].",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="Where to train: cpu, cuda, cuda:1, …; auto takes a GPU if there is one.",
)
@click.option(
    "--checkpoint_exit_code",
    "--checkpoint-exit-code",
    type=click.IntRange(0, 255),
    help="Exit code after SIGTERM, once all is saved (HTCondor: 85) [143].",
)
@_cache_dir
@_log_level
@_num_threads
def train_command(
    config_files: tuple[str, ...],
    iterations: int | None,
    device: str,
    checkpoint_exit_code: int | None,
    cache_dir: str | None,
    log_level: str,
    num_threads: int,
) -> NoReturn:
    """Train a network, or go on where its training stopped.

    Trains until num_training_iterations iterations are done. Ctrl-C saves and stops; the same
    command goes on from there, exactly as if it had never stopped.

    \b
    Examples:
      CUDA_VISIBLE_DEVICES=0 dnn-reco train getting_started.yaml
      dnn-reco train getting_started.yaml --iterations 1000 --device cpu --num_threads 2
    """
    overrides = {} if iterations is None else {"num_training_iterations": iterations}
    config = _start(config_files, log_level, num_threads, overrides)
    from dnn_reco.commands.train import run_train

    sys.exit(run_train(config, device, num_threads, cache_dir, checkpoint_exit_code))


@cli.group("config")
def config_group() -> None:
    """Show or check a configuration."""


@config_group.command("show")
@_config_files
def config_show_command(config_files: tuple[str, ...]) -> None:
    """Print the merged, complete config, and where each value comes from.

    \b
    Example:
      dnn-reco config show getting_started.yaml
    """
    from dnn_reco.config import load_config, show_config

    click.echo(show_config(load_config(config_files)))


@config_group.command("check")
@_config_files
def config_check_command(config_files: tuple[str, ...]) -> NoReturn:
    """Validate a config: keys, values, modules, and the files that its patterns match.

    The exit code is 1 if something is missing.

    \b
    Example:
      dnn-reco config check getting_started.yaml
    """
    from dnn_reco.config import check_config, load_config

    report = check_config(load_config(config_files))
    click.echo(report.text)
    sys.exit(0 if report.ok else 1)


def _start(
    config_files: tuple[str, ...],
    log_level: str,
    num_threads: int,
    overrides: dict[str, Any] | None = None,
) -> Any:
    """Set up messages and threads, load the config, and tell what there is to tell of it."""
    # Read by the numerical libraries when they are imported. Threads that wait for each other spin
    # for some microseconds only: spinning on makes a step many times slower where other programs
    # run besides, not spinning at all halves the speed where none do.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    if num_threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(num_threads)
    logging.basicConfig(format="%(message)s", handlers=[_TerminalHandler()], force=True)
    logging.getLogger("dnn_reco").setLevel(log_level.upper())
    from dnn_reco.config import load_config

    config = load_config(config_files, overrides)
    log = logging.getLogger(__name__)
    for notice in config.notices:
        log.log(getattr(logging, notice.level.upper()), "%s", notice.text)
    return config


class _TerminalHandler(logging.Handler):
    """Prints messages to standard error, above any progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        text = self.format(record)
        if record.levelno >= logging.WARNING:
            text = f"{record.levelname}: {text}"
        tqdm.write(text, file=sys.stderr)


def run_safely(command: click.Command) -> NoReturn:
    """Run a command; a mistake of the user ends in one message and exit code 1, no traceback."""
    try:
        command(help_option_names=["-h", "--help"])
    except DnnRecoError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError as error:  # such as: no such folder, not allowed, disk full
        logging.getLogger(__name__).debug("It happened here:", exc_info=True)
        click.echo(f"Error: the system says: {error}", err=True)
        sys.exit(1)
    sys.exit(0)


def main() -> NoReturn:
    """Entry point of `dnn-reco` and of `python -m dnn_reco`."""
    run_safely(cli)
