"""The command lines of `dnn-reco compare`, `evaluate` and `import`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dnn_reco.cli.command import Command
from dnn_reco.cli.options import (
    ModelFolder,
    OutputPath,
    allow_code_option,
    allow_overlap_option,
    cache_dir_option,
    checkpoint_exit_code_option,
    config_files_argument,
    data_settings_option,
    device_option,
    ignore_mismatch_option,
    input_tables_option,
    json_option,
    message_options,
    num_threads_option,
    output_folder,
    overwrite_model_option,
    parts_of,
    with_run_options,
)
from dnn_reco.cli.session import limit_threads, show_messages, start, start_stages
from dnn_reco.errors import ConfigError
from dnn_reco.run_options import RunOptions

if TYPE_CHECKING:
    from dnn_reco.config import Config

ensemble_option = click.option(
    "--ensemble",
    is_flag=True,
    help="Also evaluate the ensemble of all networks: the mixture of their densities.",
)
test_data_option = click.option(
    "--test-data",
    "test_data",
    multiple=True,
    metavar="GLOB",
    help="Files of the held-out events, in quotation marks; may be repeated.",
    show_default="key test_data_file of the first one named",
)


@click.command("compare", cls=Command)
@config_files_argument
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Budget of each training in seconds, including data loading and validation, without "
    "set-up and evaluation. The number of iterations that fit is measured first.",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    metavar="N",
    help="Budget of each training in iterations.",
)
@test_data_option
@click.option(
    "-o",
    "--out",
    type=OutputPath(file_okay=False, path_type=Path),
    default=output_folder("comparison"),
    show_default="comparison",
    help="Folder for trainings, tables and figures.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Seed of all trainings.",
    show_default="that of the first config",
)
@ensemble_option
@allow_overlap_option
@device_option
@checkpoint_exit_code_option
@cache_dir_option
@json_option
@message_options
@num_threads_option
@with_run_options
def compare_command(
    config_files: tuple[str, ...], options: RunOptions, **settings: Any
) -> NoReturn:
    """Train several configs equally long and compare them.

    Each CONFIG is trained in its own folder below --out; checkpoints of other trainings are not
    touched. Then all networks reconstruct the held-out events, and a table compares them. It is
    also written as comparison.json and comparison.md, with figures. The files of one config are
    joined with plus signs: data.yaml+network.yaml.

    Ctrl-C saves and stops; the same command resumes, and keeps finished trainings, so that more
    configs can be added.

    \b
    Examples:
      dnn-reco compare small.yaml large.yaml --seconds 600
      dnn-reco compare one.yaml two.yaml three.yaml --seconds 600 --ensemble
      dnn-reco compare *.yaml --iterations 20000 --out widths --test-data 'test/*.hdf5'
    """
    if (settings["seconds"] is None) == (options.iterations is None):
        raise click.UsageError("give the budget of each training: --seconds or --iterations")
    configs = [start(parts_of(name), replace(options, iterations=None)) for name in config_files]
    from dnn_reco.commands.compare import CompareSettings, run_compare

    sys.exit(run_compare(configs, CompareSettings(options=options, **settings)))


@click.command("evaluate", cls=Command)
@click.argument("networks", nargs=-1, required=True, metavar="NETWORK...", type=ModelFolder())
@test_data_option
@click.option(
    "--checkpoints",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    help="Number of newest checkpoints of each training to combine, as the mixture of their "
    "densities.",
)
@ensemble_option
@click.option(
    "--stored",
    multiple=True,
    metavar="NAME|all",
    help="Also compare with a reconstruction in the files: NAME of tables DeepLearningReco_NAME, "
    "or of a table of particles; all: those of networks. May be repeated.",
)
@click.option(
    "--weights",
    metavar="MISC|TABLE.COLUMN",
    help="Weight the events with misc data, or with a column of a table of the files.",
)
@click.option(
    "--flux",
    metavar="FLUX",
    help="Weight simulated events to a flux: a power law of neutrinos such as E^-2.37, or one of "
    "cosmic rays such as GaisserH4a (extra weights).",
)
@click.option(
    "--jobs-per-file",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    help="For --flux: jobs of the simulation in each input of create-data, or in each file that "
    "it did not make.",
)
@click.option(
    "--perturb",
    is_flag=True,
    help="Also reconstruct the events with changed hits: noise, dead DOMs, shifted times, scaled "
    "charges.",
)
@input_tables_option("tables")
@ignore_mismatch_option
@allow_overlap_option
@allow_code_option
@click.option(
    "-o",
    "--out",
    type=OutputPath(file_okay=False, path_type=Path),
    default=output_folder("evaluation"),
    show_default="evaluation",
    help="Folder for the report, numbers, figures and predictions.",
)
@device_option
@cache_dir_option
@json_option
@message_options
@num_threads_option
@with_run_options
def evaluate_command(networks: tuple[str, ...], options: RunOptions, **settings: Any) -> None:
    """Evaluate trained networks on held-out events.

    A NETWORK is the config of a training (its newest checkpoint is used) or a model folder. All of
    them reconstruct the held-out events. A table is printed; report.html shows figures of
    resolution, bias and coverage by energy, direction and event type. Its numbers are in
    metrics.json, its figures in figures/, the predictions in predictions.hdf5. A calibrated model
    is also shown without its calibration, as NAME_raw. The files of one config are joined with plus
    signs: data.yaml+network.yaml.

    \b
    Examples:
      dnn-reco evaluate getting_started.yaml
      dnn-reco evaluate models/my_model --test-data 'test/*.hdf5' --perturb
      dnn-reco evaluate one.yaml two.yaml models/imported --ensemble
      dnn-reco evaluate one.yaml --checkpoints 5 --test-data 'test/*.hdf5'
      dnn-reco evaluate models/my_model --test-data 'nugen/*.hdf5' --stored all --flux E^-2.37
    """
    if settings["weights"] is not None and settings["flux"] is not None:
        raise click.UsageError("give --weights or --flux, not both")
    if settings["jobs_per_file"] != 1 and settings["flux"] is None:
        raise click.UsageError("--jobs-per-file is for --flux: give both")
    limit_threads(options.num_threads)
    show_messages(options.log_level)
    named = [_named_network(name, options) for name in networks]
    from dnn_reco.commands.evaluate import EvaluateSettings, run_evaluate

    run_evaluate(named, EvaluateSettings(options=options, **settings))


def _named_network(name: str, options: RunOptions) -> Path | tuple[Config, ...]:
    """The model folder of this name, or the config of each stage of a training."""
    path = Path(name)
    if path.is_dir():
        return path
    if (path.parent / "manifest.json").is_file() and path.suffix == ".json":
        raise ConfigError(f"'{name}' is a file of a model folder: name the folder '{path.parent}'")
    if not path.exists() and not any(Path(part).exists() for part in parts_of(name)):
        raise ConfigError(
            f"there is neither a config nor a model folder '{name}' (working directory: "
            f"'{Path.cwd()}')"
        )
    return start_stages(parts_of(name), options)


@click.command("import", cls=Command)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    "output",
    type=OutputPath(file_okay=False, path_type=Path),
    required=True,
    help="Model folder to write.",
)
@click.option(
    "--trafo",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Transformation model, a file of the TensorFlow version.",
    show_default="trafo_model.npy in FOLDER",
)
@click.option(
    "--config",
    "config_files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Config of the training; once for each of its files.",
    show_default="the last config_training_NNNN.yaml in FOLDER or above",
)
@data_settings_option("config_data_settings.yaml in FOLDER")
@overwrite_model_option
@message_options
def import_command(
    folder: Path,
    output: Path,
    trafo: Path | None,
    config_files: tuple[Path, ...],
    data_settings: Path | None,
    overwrite: bool,
    log_level: str,
) -> None:
    """Import a model that was trained with the TensorFlow version.

    FOLDER is an exported model or a folder of checkpoints. The resulting model folder gives the
    same predictions. TensorFlow is not needed, and no code of the files is run.

    Models of the older generation (model_name: general_model_IC86 or general_model_IC86_opt4) are
    imported as well, but this was not verified with a real checkpoint: compare with predictions
    that you trust.

    \b
    Examples:
      dnn-reco import exported_models/my_model -o models/my_model
      dnn-reco import checkpoints/my_model/model -o models/my_model --trafo my_trafo_model.npy
    """
    show_messages(log_level)
    from dnn_reco.commands.import_model import run_import

    run_import(folder, output, trafo, config_files, data_settings, overwrite)
