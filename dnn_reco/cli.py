"""The command line: `dnn-reco <command>`. Options are read here; the work is in `commands/`.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any, Literal, NoReturn

import click

from dnn_reco._version import __version__
from dnn_reco.cli_options import (
    cache_dir_option,
    checkpoint_exit_code_option,
    config_files_argument,
    device_option,
    log_level_option,
    num_threads_option,
)
from dnn_reco.errors import DnnRecoError
from dnn_reco.workers import processes_of_training

_HELP = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=_HELP)
@click.version_option(__version__, "-V", "--version", prog_name="dnn-reco")
def cli() -> None:
    """Train deep networks on IceCube events.

    The steps of a training, each driven by one YAML file:

    \b
      dnn-reco count  getting_started.yaml
      dnn-reco trafo  getting_started.yaml
      dnn-reco train  getting_started.yaml
      tensorboard --logdir ../logs

    Without IceCube's files, make events of your own first:

    \b
      dnn-reco simulate --events 20000 --out ../training_data --layout tutorial
    """


@cli.command("count")
@config_files_argument
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
@cache_dir_option
@log_level_option
@num_threads_option
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
    config = start(config_files, log_level, num_threads)
    from dnn_reco.commands.count import run_count
    from dnn_reco.workers import available_cpus

    jobs = n_jobs or num_threads or available_cpus()
    sys.exit(run_count(config, min(jobs, num_threads or jobs), apply_filters, cache_dir))


@cli.command("trafo")
@config_files_argument
@click.option("--overwrite", is_flag=True, help="Replace a model that was made otherwise.")
@cache_dir_option
@log_level_option
@num_threads_option
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
    config = start(config_files, log_level, num_threads)
    from dnn_reco.commands.trafo import run_trafo

    run_trafo(config, num_threads, cache_dir, overwrite)


@cli.command("train")
@config_files_argument
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    help="Iterations in all [key num_training_iterations].",
)
@device_option
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share each batch, on GPUs one for each. For several machines, start the "
    "command with torchrun instead.",
)
@checkpoint_exit_code_option
@click.option(
    "--deterministic",
    is_flag=True,
    help="Let GPUs add in a fixed order, so that two runs agree in each bit, as on CPUs; slower.",
)
@click.option(
    "--estimate",
    is_flag=True,
    help="Train nothing: try it for some seconds, and print the time, memory and disk space that "
    "the training will need, and the line that asks a cluster for them.",
)
@cache_dir_option
@log_level_option
@num_threads_option
def train_command(
    config_files: tuple[str, ...],
    iterations: int | None,
    device: str,
    processes: int,
    checkpoint_exit_code: int | None,
    deterministic: bool,
    estimate: bool,
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
      dnn-reco train getting_started.yaml --processes 4
      dnn-reco train getting_started.yaml --estimate
      torchrun --nnodes 2 --nproc_per_node 4 … train_model.py getting_started.yaml
    """
    overrides = {} if iterations is None else {"num_training_iterations": iterations}
    if estimate and (processes > 1 or processes_of_training() > 1):
        raise click.UsageError(
            "--estimate measures a training in one process: leave out --processes and torchrun"
        )
    if processes > 1 and "WORLD_SIZE" not in os.environ:
        from dnn_reco.commands.launch import run_processes

        options: dict[str, str | int | None] = {
            "--iterations": iterations,
            "--device": device,
            "--checkpoint-exit-code": checkpoint_exit_code,
            "--cache-dir": cache_dir,
            "--log-level": log_level,
            "--num-threads": num_threads,
        }
        given = [f"{name}={value}" for name, value in options.items() if value is not None]
        flags = ["--deterministic"] if deterministic else []
        sys.exit(run_processes(processes, ["train", *config_files, *given, *flags]))
    limit_threads(num_threads)
    stages = load_stages_and_tell(config_files, log_level, overrides)
    if deterministic:
        from dnn_reco.commands.computing import compute_deterministically

        compute_deterministically()
    if estimate:
        from dnn_reco.commands.estimate import run_estimate

        sys.exit(run_estimate(stages, device, num_threads, cache_dir, iterations))
    from dnn_reco.commands.train import run_stages

    _leave(run_stages(stages, device, num_threads, cache_dir, checkpoint_exit_code))


def _leave(code: int) -> NoReturn:
    """End this process; all that it wrote is written.

    One of several does so at once: threads of PyTorch that talk to the other processes may still
    run, and now and then Python's own way out ends with "terminate called" and signal 6.
    """
    if processes_of_training() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


@cli.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Model folder to write.",
)
@click.option(
    "--trafo",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Transformation model, a file of the TensorFlow version [trafo_model.npy in FOLDER].",
)
@click.option(
    "--config",
    "config_files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Config of the training; once for each of its files [the last config_training_NNNN.yaml "
    "in FOLDER or above].",
)
@click.option("--overwrite", is_flag=True, help="Replace a model folder that is there.")
@log_level_option
def import_command(
    folder: Path,
    output: Path,
    trafo: Path | None,
    config_files: tuple[Path, ...],
    overwrite: bool,
    log_level: str,
) -> None:
    """Import a model that the TensorFlow version of this package trained.

    FOLDER is a model that it exported, or a folder of its checkpoints (newer generation). The model
    folder that comes out gives the same predictions. TensorFlow is not needed, and nothing that the
    files name is run.

    \b
    Examples:
      dnn-reco import exported_models/my_model -o models/my_model
      dnn-reco import checkpoints/my_model/model -o models/my_model --trafo my_trafo_model.npy
    """
    show_messages(log_level)
    from dnn_reco.commands.import_model import run_import

    run_import(folder, output, trafo, config_files, overwrite)


@cli.command("simulate")
@click.argument("preset", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--events", type=click.IntRange(min=1), default=1000, show_default=True, help="Events in all."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder of the event files.",
)
@click.option(
    "--layout",
    type=click.Choice(["flat", "tutorial"]),
    default="flat",
    show_default=True,
    help="How files are laid out: all in one folder, or as the tutorial's config expects them.",
)
@click.option(
    "--flavor",
    type=click.Choice(["nue", "numu", "nutau", "mixed", "muon"]),
    help="Neutrino flavor; mixed: all three alike; muon: single muons from above [mixed].",
)
@click.option(
    "--energy",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Lowest and highest energy in GeV [100 1e6].",
)
@click.option("--spectrum", type=float, help="Spectral index gamma of E^-gamma [1.5].")
@click.option(
    "--zenith", type=float, nargs=2, metavar="LOW HIGH", help="Zenith angles in degrees [0 180]."
)
@click.option(
    "--format",
    "data_format",
    help="DOM features: pulse_summmary_clipped (9), reduced_summary_statistics_data (3), "
    "charge_bins, … [pulse_summmary_clipped].",
)
@click.option("--time_bins", "--time-bins", help="Edges in ns of charge_bins, such as 0,500,1000.")
@click.option(
    "--files", type=click.IntRange(min=1), help="Number of files [500 events in each file]."
)
@click.option("--seed", type=click.IntRange(min=0), help="Same seed, same events [1].")
@click.option("--keep_pulses", "--keep-pulses", is_flag=True, help="Write pulses, too (Parquet).")
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), help="Files to make at the same time [all CPUs]."
)
@log_level_option
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
    """Simulate events of one's own, with the labels and inputs of IceCube's files.

    What to simulate is told by options or by a YAML file, PRESET (see configs/simulation); options
    win. Events that do not trigger the detector are not written, and not counted. Ctrl-C keeps the
    finished files, and the same command goes on from there.

    \b
    Examples:
      dnn-reco simulate --events 20000 --out $DNN_HOME/training_data --layout tutorial
      dnn-reco simulate configs/simulation/cascades.yaml --events 5000 --out cascades
      dnn-reco simulate --flavor numu --energy 1000 100000 --spectrum 2 --out tracks --keep-pulses
    """
    show_messages(log_level)
    from dnn_reco.commands.simulate import run_simulate
    from dnn_reco.simulation.settings import load_settings
    from dnn_reco.workers import available_cpus

    overrides |= {
        "spectral_index": spectrum,
        "time_bins": time_bins.split(",") if time_bins else None,
        "events_per_file": -(-events // files) if files else None,
        "keep_pulses": keep_pulses or None,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    settings = load_settings(preset, given)
    sys.exit(run_simulate(settings, out, events, layout, jobs or available_cpus()))


@cli.group("config")
def config_group() -> None:
    """Show or check a configuration."""


@config_group.command("show")
@config_files_argument
def config_show_command(config_files: tuple[str, ...]) -> None:
    """Print the merged, complete config, and where each value comes from.

    \b
    Example:
      dnn-reco config show getting_started.yaml
    """
    from dnn_reco.config import load_config, show_config

    click.echo(show_config(load_config(config_files)))


@config_group.command("check")
@config_files_argument
def config_check_command(config_files: tuple[str, ...]) -> NoReturn:
    """Validate a config: keys, values, modules, and the files that its patterns match.

    The exit code is 1 if something is missing.

    \b
    Example:
      dnn-reco config check getting_started.yaml
    """
    from dnn_reco.config import check_config, load_stages

    stages = load_stages(config_files)
    reports = [check_config(config) for config in stages]
    for number, report in enumerate(reports, start=1):
        if len(reports) > 1:
            click.echo(f"{'' if number == 1 else chr(10)}Stage {number} of {len(reports)}")
        click.echo(report.text)
    sys.exit(0 if all(report.ok for report in reports) else 1)


def start(config_files: tuple[str, ...], log_level: str, num_threads: int) -> Any:
    """Limit threads, set up messages, and load the config."""
    limit_threads(num_threads)
    return load_and_tell(config_files, log_level)


def limit_threads(num_threads: int) -> None:
    """Let numerical libraries use so many threads; 0: as many as they like."""
    # Read by the numerical libraries when they are imported. Threads that wait for each other spin
    # for some microseconds only: spinning on makes a step many times slower where other programs
    # run besides, not spinning at all halves the speed where none do.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    if num_threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(num_threads)


def load_and_tell(
    config_files: tuple[str, ...], log_level: str, overrides: dict[str, Any] | None = None
) -> Any:
    """Set up messages, load the config, and tell what there is to tell of it."""
    show_messages(log_level)
    from dnn_reco.config import load_config

    config = load_config(config_files, overrides)
    log = logging.getLogger(__name__)
    for notice in config.notices:
        log.log(getattr(logging, notice.level.upper()), "%s", notice.text)
    return config


def load_stages_and_tell(
    config_files: tuple[str, ...], log_level: str, overrides: dict[str, Any] | None = None
) -> tuple[Any, ...]:
    """The same; the config of each stage of a training, of which most have one."""
    config = load_and_tell(config_files, log_level, overrides)
    from dnn_reco.config import load_stages

    return load_stages(config_files, overrides) if config.training.training_stages else (config,)


def show_messages(log_level: str) -> None:
    """Show what the package tells, from this level on."""
    logging.basicConfig(format="%(message)s", handlers=[_TerminalHandler()], force=True)
    logging.getLogger("dnn_reco").setLevel(log_level.upper())


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
        command(**_HELP)
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
    from dnn_reco.cli_compare import compare_command, evaluate_command
    from dnn_reco.cli_submit import submit_group

    cli.add_command(compare_command)
    cli.add_command(evaluate_command)
    cli.add_command(submit_group)
    run_safely(cli)
