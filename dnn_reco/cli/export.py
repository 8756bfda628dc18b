"""The command lines of `dnn-reco export`, `verify`, `inspect` and `models`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from dnn_reco.cli.command import Command
from dnn_reco.cli.options import (
    ModelFolder,
    OutputPath,
    allow_code_option,
    config_files_argument,
    data_settings_option,
    device_option,
    json_option,
    message_options,
    num_threads_option,
    overwrite_model_option,
    parts_of,
    with_run_options,
)
from dnn_reco.cli.session import limit_threads, show_messages, start_stages
from dnn_reco.run_options import RunOptions

model_folder_argument = click.argument(
    "folder", metavar="MODEL", type=ModelFolder(exists=True, file_okay=False, path_type=Path)
)


@click.command("export", cls=Command)
@config_files_argument
@click.option(
    "-o",
    "--out",
    "output",
    type=OutputPath(file_okay=False, path_type=Path),
    required=True,
    help="Model folder to write; its name is that of the model.",
)
@data_settings_option("the record in the training files")
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    default=("latest",),
    metavar="N|best|latest",
    help="Checkpoint to export: a number of iterations, the best on the validation set, or the "
    "latest; may be repeated, for the ensemble of them.",
    show_default="latest",
)
@click.option(
    "--member",
    "members",
    multiple=True,
    metavar="CONFIG",
    help="Config of another training, whose network joins the ensemble; may be repeated. Several "
    "files are joined with plus signs: data.yaml+network.yaml.",
)
@click.option("--logs/--no-logs", default=True, help="Export the logs of the training.")
@click.option(
    "--golden-events",
    "golden_events",
    type=click.IntRange(min=0),
    metavar="N",
    default=32,
    help="Number of events to keep with their predictions, to verify the model elsewhere; 0 where "
    "events are private.",
)
@click.option(
    "--golden-from",
    "golden_from",
    metavar="FILES",
    help="Event files to take them from, where those of the training are private.",
    show_default="held-out files",
)
@click.option(
    "--about",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Text (Markdown) that the model card begins with: what the model is for, and what it was "
    "tested on. 'dnn-reco models' shows its first sentence.",
)
@click.option("--onnx", is_flag=True, help="Add the model as ONNX graphs (extra onnx).")
@click.option(
    "--quantize",
    is_flag=True,
    help="Also add an ONNX graph with 8-bit weights: smaller and less accurate; its deviation is "
    "printed.",
)
@click.option(
    "--triton",
    type=OutputPath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Add the ONNX graph to a model repository of NVIDIA's Triton server, as version 1 of the "
    "model, which --overwrite replaces.",
)
@click.option(
    "--sign",
    "sign",
    metavar="KEY",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Sign the folder with an Ed25519 private key (PEM file).",
)
@overwrite_model_option
@message_options
@num_threads_option
@with_run_options
def export_command(
    config_files: tuple[str, ...], members: tuple[str, ...], options: RunOptions, **settings: Any
) -> None:
    """Export a trained network as a model folder.

    It contains all that is needed to apply and to reproduce the model, each file with a checksum:
    weights, transformation model, configs and records of the training, data settings, logs, a model
    card and golden answers.

    \b
    Examples:
      dnn-reco export getting_started.yaml -o models/my_model
      dnn-reco export getting_started.yaml -s create_training_data.yaml -o models/my_model
      dnn-reco export config.yaml --checkpoint best -o models/best --no-logs
      dnn-reco export one.yaml --member two.yaml -o models/ensemble
      dnn-reco export config.yaml -o models/my_model --onnx --triton model_repository
    """
    trainings = [start_stages(config_files, options)]
    trainings += [start_stages(parts_of(name), options) for name in members]
    from dnn_reco.commands.export import ExportSettings, run_export

    run_export(trainings, ExportSettings(**settings))


@click.command("verify", cls=Command)
@model_folder_argument
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Public key (PEM file) that must have signed the folder.",
)
@allow_code_option
@device_option
@json_option
@message_options
@num_threads_option
@with_run_options
def verify_command(
    folder: Path,
    key: Path | None,
    allow_code: tuple[str, ...],
    as_json: bool,
    options: RunOptions,
) -> NoReturn:
    """Check that a model folder is intact and works here.

    Compares all files with their checksums, checks the signature, and recomputes the golden answers
    with PyTorch and, if there are graphs, with ONNX Runtime. The exit code is 1 if anything
    differs.

    \b
    Examples:
      dnn-reco verify models/my_model
      dnn-reco verify models/my_model --key colleague.pem
    """
    limit_threads(options.num_threads)
    show_messages(options.log_level)
    from dnn_reco.commands.verify import run_verify

    sys.exit(run_verify(folder, key, options.device, allow_code, as_json))


@click.command("inspect", cls=Command)
@model_folder_argument
@json_option
def inspect_command(folder: Path, as_json: bool) -> None:
    """Print the contents of a model folder.

    Its weights are not loaded.

    \b
    Example:
      dnn-reco inspect models/my_model
    """
    from dnn_reco.commands.inspect_model import run_inspect

    run_inspect(folder, as_json)


@click.command("models", cls=Command)
@json_option
def models_command(as_json: bool) -> None:
    """List the trained models that are part of the package.

    pretrained:NAME stands for such a model wherever a model folder can be named. The environment
    variable DNN_RECO_PRETRAINED names one more folder of model folders. What a model was trained
    and tested on is in its model card, README.md in its folder.

    \b
    Examples:
      dnn-reco models
      dnn-reco inspect pretrained:NAME
      dnn-reco apply pretrained:NAME --input 'data/*.hdf5' --out reco
    """
    from dnn_reco.commands.models import run_models

    run_models(as_json)
